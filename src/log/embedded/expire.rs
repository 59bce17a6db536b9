//! Deletes what is not needed any more, as Kafka's retention does: old records of topics that aren't compacted, old
//! tombstones of those that are. `commands` is never expired: its records go by `trim` alone.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rocksdb::{Direction, IteratorMode, ReadOptions};

use super::batch::{Batch, unavailable};
use super::layout::{self, LATEST, RECORDS};
use super::partition::Partition;
use super::{Shared, family};
use crate::log::{Error, Topic};

const EVERY: Duration = Duration::from_secs(600);

/// Records looked at under one lock of the partition: a few milliseconds at most.
const RECORDS_PER_STEP: usize = 2000;

/// Runs until `stop` hangs up.
pub(super) fn run(shared: Weak<Shared>, stop: Receiver<()>) {
    loop {
        if let Some(shared) = shared.upgrade()
            && let Err(error) = expire(&shared)
        {
            tracing::warn!(%error, "the embedded log could not delete old records");
        }
        if let Ok(()) | Err(RecvTimeoutError::Disconnected) = stop.recv_timeout(EVERY) {
            return;
        }
    }
}

pub(super) fn expire(shared: &Arc<Shared>) -> Result<(), Error> {
    for partition in shared.partitions.values().flatten() {
        if partition.topic == Topic::Commands {
            continue;
        }
        let kept =
            if partition.topic.is_compacted() { shared.options.tombstones_kept } else { shared.options.records_kept };
        let clock_ms = shared.options.environment.clock_ms();
        let before_ms = partition.lock().now_ms(clock_ms).saturating_sub_unsigned(kept.as_millis() as u64);
        while step(shared, partition, before_ms)? {}
    }
    Ok(())
}

/// One step; whether there may be more to do.
fn step(shared: &Shared, partition: &Partition, before_ms: i64) -> Result<bool, Error> {
    let db = &shared.db;
    let compacted = partition.topic.is_compacted();
    let mut tail = partition.lock();
    let from = if compacted { tail.head.swept.max(tail.head.start) } else { tail.head.start };
    let mut reached = from;
    let mut seen = 0;
    let mut batch = Batch::new(db);
    let mut bounds = ReadOptions::default();
    bounds.set_iterate_upper_bound(layout::record_key(partition.key, tail.head.next));
    let first = layout::record_key(partition.key, from);
    for found in db.iterator_cf_opt(family(db, RECORDS), bounds, IteratorMode::From(&first, Direction::Forward)) {
        let (key, value) = found.map_err(unavailable)?;
        let (Some(offset), Some(timestamp_ms)) = (layout::offset_of(&key), layout::timestamp_of(&value)) else { break };
        if timestamp_ms >= before_ms || seen == RECORDS_PER_STEP {
            break;
        }
        seen += 1;
        reached = offset + 1;
        if compacted && layout::is_tombstone(&value) {
            // The record is the last of its key, or it would be gone: so is its entry in the index.
            batch.writes.delete_cf(family(db, RECORDS), &key);
            batch.writes.delete_cf(
                family(db, LATEST),
                layout::latest_key(partition.key, layout::key_of(&value).unwrap_or_default()),
            );
        }
    }
    if reached == from {
        return Ok(false);
    }
    let before = tail.head;
    if compacted {
        tail.head.swept = reached;
    } else {
        let (first, end) = (layout::record_key(partition.key, from), layout::record_key(partition.key, reached));
        batch.writes.delete_range_cf(family(db, RECORDS), first, end);
        tail.head.start = reached;
    }
    batch.put_head(partition, &tail);
    if let Err(error) = shared.write(std::mem::take(&mut batch.writes)) {
        tail.head = before;
        return Err(unavailable(error));
    }
    Ok(seen == RECORDS_PER_STEP)
}
