//! Builds one atomic batch: records with their offsets, and the deletion of those that they supersede.

use std::collections::HashMap;

use rocksdb::{DB, WriteBatch};

use super::layout::{self, LATEST, RECORDS};
use super::partition::{Partition, Tail};
use crate::log::{Error, Record};

pub(super) struct Batch<'a> {
    db: &'a DB,
    pub writes: WriteBatch,
    /// The last offset of the keys of compacted topics that this batch wrote.
    latest: HashMap<Vec<u8>, i64>,
    encoded: Vec<u8>,
}

impl<'a> Batch<'a> {
    pub fn new(db: &'a DB) -> Batch<'a> {
        Batch { db, writes: WriteBatch::default(), latest: HashMap::new(), encoded: Vec::new() }
    }

    pub fn put(
        &mut self,
        partition: &Partition,
        offset: i64,
        timestamp_ms: i64,
        record: &Record,
    ) -> Result<(), rocksdb::Error> {
        layout::encode_record(timestamp_ms, record, &mut self.encoded);
        let records = super::family(self.db, RECORDS);
        self.writes.put_cf(records, layout::record_key(partition.key, offset), &self.encoded);
        if partition.topic.is_compacted() {
            self.supersede(partition, offset, &record.key)?;
        }
        Ok(())
    }

    /// The index of the last records makes compaction a lookup and a deletion in the same batch, with nothing to do later.
    fn supersede(&mut self, partition: &Partition, offset: i64, key: &[u8]) -> Result<(), rocksdb::Error> {
        let (records, latest) = (super::family(self.db, RECORDS), super::family(self.db, LATEST));
        let key = layout::latest_key(partition.key, key);
        let before = match self.latest.get(&key) {
            Some(offset) => Some(*offset),
            None => self.db.get_pinned_cf(latest, &key)?.and_then(|bytes| layout::decode_number(&bytes)),
        };
        if let Some(before) = before {
            self.writes.delete_cf(records, layout::record_key(partition.key, before));
        }
        self.writes.put_cf(latest, &key, offset.to_be_bytes());
        self.latest.insert(key, offset);
        Ok(())
    }

    pub fn put_head(&mut self, partition: &Partition, tail: &Tail) {
        self.writes.put(layout::head_key(partition.key), tail.head.encode());
    }
}

pub(super) fn unavailable(error: rocksdb::Error) -> Error {
    Error::Unavailable(format!("RocksDB: {error}"))
}
