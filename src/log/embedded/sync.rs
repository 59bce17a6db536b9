//! With `fsync`: brings appends to the disk, all that have come meanwhile at a time, and only then acknowledges and shows them.

use std::sync::mpsc::Receiver;

use super::Shared;
use crate::log::in_order::Ticket;
use crate::log::{Appended, Error, Topic};

/// An append that is written but may not be on the disk.
pub(super) struct Unsynced {
    pub topic: Topic,
    pub number: u32,
    /// The offset after it.
    pub end: i64,
    pub ticket: Ticket,
    pub appended: Vec<Appended>,
}

/// Runs until the log is closed, and then brings the rest to the disk.
pub(super) fn run(shared: &Shared, appends: Receiver<Unsynced>) {
    while let Ok(first) = appends.recv() {
        let group: Vec<Unsynced> = std::iter::once(first).chain(appends.try_iter()).collect();
        let synced = shared.db.flush_wal(true);
        for append in group {
            let partition = shared.partition(append.topic, append.number).expect("it was appended to");
            let outcome = match &synced {
                Ok(()) => {
                    partition.show(&mut partition.lock(), append.end);
                    Ok(append.appended)
                }
                Err(error) => Err(Error::Unknown { partition: append.number, reason: format!("RocksDB: {error}") }),
            };
            partition.callbacks.complete(append.ticket, outcome);
        }
    }
}
