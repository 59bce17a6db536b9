//! The embedded log's side of ownership: an epoch per partition, and commits that check it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::batch::Batch;
use super::partition::Partition;
use crate::log::{self, Error, Record, Topic};

pub(super) struct Owner {
    shared: Arc<Shared>,
    partition: u32,
    epoch: i64,
}

impl Owner {
    pub fn new(shared: Arc<Shared>, partition: u32) -> Result<Owner, Error> {
        let epoch = shared.raise_epoch(partition)?;
        Ok(Owner { shared, partition, epoch })
    }

    fn unknown(&self, error: rocksdb::Error) -> Error {
        Error::Unknown { partition: self.partition, reason: format!("RocksDB: {error}") }
    }
}

impl log::Owner for Owner {
    fn commit(&mut self, outputs: Vec<(Topic, Record)>) -> Result<Vec<i64>, Error> {
        if outputs.is_empty() {
            return Ok(Vec::new());
        }
        // In the order of the topics, so that two commits can't wait for each other.
        let mut touched: BTreeMap<Topic, &Partition> = BTreeMap::new();
        for (topic, record) in &outputs {
            record.check_size(*topic)?;
            touched.insert(*topic, self.shared.partition(*topic, self.partition)?);
        }
        let epoch = self.shared.lock_epoch(self.partition);
        if *epoch != self.epoch {
            return Err(Error::Fenced { partition: self.partition });
        }
        let mut tails: BTreeMap<Topic, _> =
            touched.iter().map(|(topic, partition)| (*topic, partition.lock())).collect();
        let heads_before: BTreeMap<Topic, _> = tails.iter().map(|(topic, tail)| (*topic, tail.head)).collect();

        let mut batch = Batch::new(&self.shared.db);
        let mut offsets = Vec::with_capacity(outputs.len());
        let mut write = || {
            for tail in tails.values_mut() {
                tail.head.timestamp_ms = tail.now_ms();
            }
            for (topic, record) in &outputs {
                let head = &mut tails.get_mut(topic).expect("every topic was locked").head;
                batch.put(touched[topic], head.next, head.timestamp_ms, record)?;
                offsets.push(head.next);
                head.next += 1;
            }
            for (topic, tail) in &mut tails {
                // Where Kafka puts the marker of the transaction.
                tail.head.next += 1;
                batch.put_head(touched[topic], tail);
            }
            self.shared.write(std::mem::take(&mut batch.writes))
        };
        if let Err(error) = write() {
            for (topic, tail) in &mut tails {
                tail.head = heads_before[topic];
            }
            return Err(self.unknown(error));
        }
        for (topic, tail) in &mut tails {
            let end = tail.head.next;
            touched[topic].show(tail, end);
        }
        Ok(offsets)
    }
}
