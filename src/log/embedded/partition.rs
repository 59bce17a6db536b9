//! One partition of one topic, in memory: where it ends, and the readers that wait for more.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rocksdb::{DB, IteratorMode, ReadOptions};

use super::layout::{self, Head, PARTITION_BYTES, RECORDS};
use crate::log::in_order::InOrder;
use crate::log::{Error, Topic};

const PANICKED: &str = "a write panicked: the log's memory of its end can't be trusted";

pub(super) struct Partition {
    pub topic: Topic,
    pub number: u32,
    pub key: [u8; PARTITION_BYTES],
    /// Held while a batch is written, so that records stand in the order of their offsets before they are read.
    tail: Mutex<Tail>,
    grown: Condvar,
    pub callbacks: InOrder,
}

pub(super) struct Tail {
    pub head: Head,
    /// Readers see what is before. With `fsync`, what comes after is written but not on the disk yet.
    visible: i64,
    waiting: u32,
}

impl Partition {
    pub fn open(db: &DB, topic: Topic, code: u8, number: u32) -> Result<Partition, Error> {
        let key = layout::partition_key(code, number);
        let damaged =
            |what: &str| Error::Unusable(format!("the embedded log's {what} of {topic:?}-{number} is damaged"));
        let failed = |error: rocksdb::Error| Error::Unavailable(error.to_string());
        let mut head = match db.get_pinned(layout::head_key(key)).map_err(failed)? {
            Some(bytes) => Head::decode(&bytes).ok_or_else(|| damaged("head"))?,
            None => Head::default(),
        };
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_lower_bound(key.to_vec());
        let last = layout::record_key(key, i64::MAX);
        let from_last = IteratorMode::From(&last, rocksdb::Direction::Reverse);
        if let Some(found) = db.iterator_cf_opt(super::family(db, RECORDS), bounds, from_last).next() {
            let (key, value) = found.map_err(failed)?;
            let offset = layout::offset_of(&key).ok_or_else(|| damaged("last record"))?;
            let timestamp_ms = layout::timestamp_of(&value).ok_or_else(|| damaged("last record"))?;
            head.next = head.next.max(offset + 1);
            head.timestamp_ms = head.timestamp_ms.max(timestamp_ms);
        }
        let tail = Mutex::new(Tail { head, visible: head.next, waiting: 0 });
        Ok(Partition { topic, number, key, tail, grown: Condvar::new(), callbacks: InOrder::default() })
    }

    pub fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect(PANICKED)
    }

    /// Lets readers see what is before `end`.
    pub fn show(&self, tail: &mut Tail, end: i64) {
        tail.visible = tail.visible.max(end);
        if tail.waiting > 0 {
            self.grown.notify_all();
        }
    }

    /// Where readers start and end, once there is anything at or after `offset`, or `wait` is over.
    pub fn bounds_past(&self, offset: i64, wait: Duration) -> (i64, i64) {
        let mut tail = self.lock();
        let deadline = Instant::now() + wait;
        while tail.visible <= offset {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            tail.waiting += 1;
            tail = self.grown.wait_timeout(tail, left).expect(PANICKED).0;
            tail.waiting -= 1;
        }
        tail.bounds()
    }
}

impl Tail {
    /// Where readers start and end.
    pub fn bounds(&self) -> (i64, i64) {
        (self.head.start, self.visible)
    }

    /// The clock, but never earlier than the last record.
    pub fn now_ms(&self, clock_ms: i64) -> i64 {
        self.head.timestamp_ms.max(clock_ms)
    }
}
