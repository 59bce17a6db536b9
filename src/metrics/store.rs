//! The partitions' stores.

use std::time::Duration;

use super::LATENCY_S;
use super::family::{Family, Gauges, Histograms, families};

families! {
    SIZE: Gauges<2> = Family::new(
        "millrace_store_size_bytes", "Size of a partition's store: files on disk, tables in memory, cached blocks.", ["partition", "what"]);
    WRITE: Histograms<1> = Family::with_buckets(
        "millrace_store_write_seconds", "How long it took to write a committed batch to the store.", ["partition"], LATENCY_S);
}

/// The size of a part of the store, as `sst`, `memtable`.
pub fn store_size(partition: u32, what: &'static str, bytes: u64) {
    SIZE.of([&partition, &what]).set(bytes as f64);
}

/// A committed batch was written to the store.
pub fn store_write(partition: u32, duration: Duration) {
    WRITE.observe([&partition], duration);
}

pub(super) fn forget(partition: u32) {
    SIZE.forget(&partition);
}
