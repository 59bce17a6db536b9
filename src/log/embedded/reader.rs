//! Reads a partition of the embedded log, in order, past what compaction and transactions left empty.

use std::sync::Arc;
use std::time::Duration;

use rocksdb::{Direction, IteratorMode, ReadOptions};

use super::batch::unavailable;
use super::layout::{self, RECORDS};
use super::{Shared, family};
use crate::log::{self, Error, Read, Topic};

/// One read stops after so many bytes, so that large records don't add up.
const READ_BYTES_MAX: usize = 16 << 20;

pub(super) struct Reader {
    pub shared: Arc<Shared>,
    pub topic: Topic,
    pub partition: u32,
    pub next_offset: i64,
}

impl log::Reader for Reader {
    fn next(&mut self, max_records: usize, wait: Duration) -> Result<Read, Error> {
        let partition = self.shared.partition(self.topic, self.partition)?;
        let (start, end) = partition.bounds_past(self.next_offset, wait);
        let from = self.next_offset.max(start);
        let mut read = Read { records: Vec::new(), next_offset: from.max(end) };
        if from < end {
            let mut bounds = ReadOptions::default();
            bounds.set_iterate_upper_bound(layout::record_key(partition.key, end));
            let first = layout::record_key(partition.key, from);
            let db = &self.shared.db;
            let mut bytes_read = 0;
            for found in db.iterator_cf_opt(family(db, RECORDS), bounds, IteratorMode::From(&first, Direction::Forward))
            {
                let (key, value) = found.map_err(unavailable)?;
                let stored = layout::offset_of(&key).and_then(|offset| layout::decode_record(offset, &value));
                let stored = stored.ok_or_else(|| {
                    Error::Unusable(format!("a record of {:?}-{} is damaged (key {key:?})", self.topic, self.partition))
                })?;
                if read.records.len() >= max_records.max(1) || bytes_read >= READ_BYTES_MAX {
                    read.next_offset = stored.offset;
                    break;
                }
                bytes_read += value.len();
                read.records.push(stored);
            }
        }
        self.next_offset = read.next_offset;
        Ok(read)
    }
}
