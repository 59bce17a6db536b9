//! Partitions: appends, decisions, commits, and how far each has come.

use std::time::Duration;

use super::LATENCY_S;
use super::family::{Counters, Family, Gauges, Histograms, families};

families! {
    APPEND: Histograms<1> = Family::with_buckets(
        "millrace_append_seconds", "How long appends to the command log took until they were durable.", ["partition"], LATENCY_S);
    COMMANDS_APPENDED: Counters<1> = Family::new(
        "millrace_commands_appended_total", "Commands appended to the log.", ["partition"]);
    COMMANDS_DECIDED: Counters<2> = Family::new(
        "millrace_commands_decided_total", "Commands decided, refused ones too.", ["partition", "kind"]);
    COMMANDS_REJECTED: Counters<1> = Family::new(
        "millrace_commands_rejected_total", "Commands refused, by the gRPC status that callers get. INTERNAL: a defect.", ["code"]);
    COMMIT: Histograms<1> = Family::with_buckets(
        "millrace_commit_seconds", "How long transactions with a partition's outputs took.", ["partition"], LATENCY_S);
    COMMIT_RECORDS: Counters<1> = Family::new(
        "millrace_commit_records_total", "Records committed to the output topics.", ["partition"]);
    COMMIT_BYTES: Counters<1> = Family::new(
        "millrace_commit_bytes_total", "Bytes committed to the output topics, keys and values.", ["partition"]);
    POSITION: Gauges<1> = Family::new(
        "millrace_partition_position_offset", "The offset of the next command to decide.", ["partition"]);
    END: Gauges<1> = Family::new(
        "millrace_partition_end_offset", "The offset after the last command in the log.", ["partition"]);
    CACHED_WORKFLOWS: Gauges<1> = Family::new(
        "millrace_partition_cached_workflows", "Workflows held in memory.", ["partition"]);
    CACHED_WORKFLOW_BYTES: Gauges<1> = Family::new(
        "millrace_partition_cached_workflow_bytes", "About how much memory the workflows take that are held there.", ["partition"]);
    ARMED_TIMERS: Gauges<1> = Family::new(
        "millrace_partition_armed_timers", "Timers and time-outs that wait for their time.", ["partition"]);
    FOLD_VERSION: Gauges<1> = Family::new(
        "millrace_partition_fold_version", "The version of the fold that decides the partition's commands.", ["partition"]);
    OPENED: Gauges<1> = Family::new(
        "millrace_partition_restore_seconds", "How long the partition took to restore. There for partitions that this node owns.",
        ["partition"]);
    RESTORED: Counters<2> = Family::new(
        "millrace_restored_records_total", "Records that stores read to catch up, at take-overs and as standbys.", ["partition", "topic"]);
    FAILURES: Counters<2> = Family::new(
        "millrace_partition_failures_total", "Times that a partition was given up, by reason.", ["partition", "reason"]);
    TIMER_LATENESS: Histograms<1> = Family::with_buckets(
        "millrace_timer_lateness_seconds", "How long after their time timers were decided.", ["partition"], LATENCY_S);
    REQUESTS_INGESTED: Counters<2> = Family::new(
        "millrace_requests_ingested_total", "Records that ingress took from a topic, by what became of them.", ["topic", "outcome"]);
    INGRESS_POSITION: Gauges<2> = Family::new(
        "millrace_ingress_position_offset", "The offset of the next record that ingress takes from a topic.", ["topic", "partition"]);
    INGRESS_END: Gauges<2> = Family::new(
        "millrace_ingress_end_offset", "The offset after the last record of a topic that ingress reads.", ["topic", "partition"]);
}

/// Commands became durable in the log, `duration` after they were handed to it.
pub fn append(partition: u32, commands: usize, duration: Duration) {
    APPEND.observe([&partition], duration);
    COMMANDS_APPENDED.of([&partition]).inc_by(commands as u64);
}

/// Commands of one kind were decided, refused ones too. `kind` is the command's name in snake case.
pub fn commands_decided(partition: u32, kind: &'static str, n: u64) {
    COMMANDS_DECIDED.of([&partition, &kind]).inc_by(n);
}

/// A command was refused with this gRPC status code, as `NOT_FOUND`.
pub fn command_rejected(code: &'static str) {
    COMMANDS_REJECTED.of([&code]).inc();
}

/// A transaction with a partition's outputs was committed. `bytes` counts keys and values.
pub fn commit(partition: u32, records: usize, bytes: usize, duration: Duration) {
    COMMIT.observe([&partition], duration);
    COMMIT_RECORDS.of([&partition]).inc_by(records as u64);
    COMMIT_BYTES.of([&partition]).inc_by(bytes as u64);
}

/// How far a partition has come in the command log. Set `end` by asking the log, not from what was decided, else a partition that
/// hangs shows no lag.
pub fn partition_position(partition: u32, position: i64, end: i64) {
    POSITION.of([&partition]).set(position as f64);
    END.of([&partition]).set(end as f64);
}

/// What a partition holds in memory.
pub fn partition_cached(partition: u32, workflows: usize, workflow_bytes: usize, timers: usize) {
    CACHED_WORKFLOWS.of([&partition]).set(workflows as f64);
    CACHED_WORKFLOW_BYTES.of([&partition]).set(workflow_bytes as f64);
    ARMED_TIMERS.of([&partition]).set(timers as f64);
}

/// This node owns the partition now; it took `restore` to take it over and catch up.
pub fn partition_opened(partition: u32, restore: Duration) {
    OPENED.of([&partition]).set(restore.as_secs_f64());
}

/// The partition's commands are decided by this version of the fold.
pub fn partition_fold_version(partition: u32, version: u32) {
    FOLD_VERSION.of([&partition]).set(f64::from(version));
}

/// This node does not own the partition any more: its gauges are removed, and its counters kept.
pub fn partition_closed(partition: u32) {
    for gauges in [&POSITION, &END, &CACHED_WORKFLOWS, &CACHED_WORKFLOW_BYTES, &ARMED_TIMERS, &FOLD_VERSION, &OPENED] {
        gauges.forget(&partition);
    }
    super::store::forget(partition);
}

/// A store read records of a topic to catch up.
pub fn restored(partition: u32, topic: &'static str, records: usize) {
    RESTORED.of([&partition, &topic]).inc_by(records as u64);
}

/// A partition was given up. `reason` is one of few words, as `fenced`, `log`, `store`.
pub fn partition_failed(partition: u32, reason: &'static str) {
    FAILURES.of([&partition, &reason]).inc();
}

/// A timer was decided, `lateness` after its time.
pub fn timer_fired(partition: u32, lateness: Duration) {
    TIMER_LATENESS.observe([&partition], lateness);
}

/// How far ingress has come in a topic.
pub fn ingress_position(topic: &str, partition: u32, position: i64, end: i64) {
    INGRESS_POSITION.of([&topic, &partition]).set(position as f64);
    INGRESS_END.of([&topic, &partition]).set(end as f64);
}

/// Ingress took a record from a topic. `outcome` is `accepted`, `rejected` or `duplicate`.
pub fn request_ingested(topic: &str, outcome: &'static str) {
    REQUESTS_INGESTED.of([&topic, &outcome]).inc();
}
