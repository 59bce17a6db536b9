//! Batches.

use super::family::{Counters, Family, families};

families! {
    OPERATIONS: Counters<2> = Family::new(
        "millrace_batch_operations_total", "Operations of batches on single workflows, by their outcome: succeeded or failed.",
        ["namespace", "outcome"]);
}

/// So many operations came to an outcome: `succeeded` or `failed`.
pub fn batch_operations(namespace: &str, outcome: &str, count: u64) {
    OPERATIONS.of([&namespace, &outcome]).inc_by(count);
}
