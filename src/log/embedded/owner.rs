//! The embedded log's side of ownership: an epoch per partition, and commits that check it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::batch::Batch;
use super::partition::Partition;
use crate::log::{self, Barrier, Error, Record, Topic};

pub(super) struct Owner {
    shared: Arc<Shared>,
    partition: u32,
    epoch: i64,
}

impl Owner {
    pub fn new(shared: Arc<Shared>, partition: u32) -> Result<(Owner, Barrier), Error> {
        let (epoch, barrier) = shared.raise_epoch(partition)?;
        Ok((Owner { shared, partition, epoch }, barrier))
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
        // In one order, so that two commits can't wait for each other.
        let mut touched: BTreeMap<(Topic, u32), &Partition> = BTreeMap::new();
        let mut targets = Vec::with_capacity(outputs.len());
        for (topic, record) in &outputs {
            record.check_size(*topic)?;
            let number = match topic {
                Topic::User(_) => crate::types::partition_of_key(&record.key, self.shared.partition_count),
                _ => self.partition,
            };
            touched.insert((*topic, number), self.shared.partition(*topic, number)?);
            targets.push((*topic, number));
        }
        let epoch = self.shared.lock_epoch(self.partition);
        if *epoch != self.epoch {
            return Err(Error::Fenced { partition: self.partition });
        }
        let mut tails: BTreeMap<_, _> = touched.iter().map(|(target, partition)| (*target, partition.lock())).collect();
        let heads_before: BTreeMap<_, _> = tails.iter().map(|(target, tail)| (*target, tail.head)).collect();

        let mut batch = Batch::new(&self.shared.db);
        let mut offsets = Vec::with_capacity(outputs.len());
        let clock_ms = self.shared.options.environment.clock_ms();
        let mut write = || {
            for tail in tails.values_mut() {
                tail.head.timestamp_ms = tail.now_ms(clock_ms);
            }
            for (target, (_, record)) in targets.iter().zip(&outputs) {
                let head = &mut tails.get_mut(target).expect("every partition was locked").head;
                batch.put(touched[target], head.next, head.timestamp_ms, record)?;
                offsets.push(head.next);
                head.next += 1;
            }
            for (target, tail) in &mut tails {
                // Where Kafka puts the marker of the transaction.
                tail.head.next += 1;
                batch.put_head(touched[target], tail);
            }
            self.shared.write(std::mem::take(&mut batch.writes))
        };
        if let Err(error) = write() {
            for (target, tail) in &mut tails {
                tail.head = heads_before[target];
            }
            return Err(self.unknown(error));
        }
        for (target, tail) in &mut tails {
            let end = tail.head.next;
            touched[target].show(tail, end);
        }
        Ok(offsets)
    }
}
