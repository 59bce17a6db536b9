//! Metrics: every figure that Millrace exports, in Prometheus' text format.
//!
//! Callers use the functions here and see no metric. They cost some tens of nanoseconds, never block, and never fail. A leaf:
//! nothing of Millrace is imported, and the engine imports nothing of this. Decisions that are repeated after a restart
//! are not counted again: a replay does not call.
//!
//! Names begin with `millrace_` and end with the unit. Labels are namespaces, task queues, partitions and words from short
//! lists; never ids of workflows, runs or workers, of which there is no end.

mod batches;
mod child;
mod family;
mod grpc;
mod http;
mod librdkafka;
mod partitions;
mod process;
mod registry;
mod schedules;
mod store;
mod task_queues;
mod workflows;

#[cfg(test)]
mod deployed;

use prometheus::TextEncoder;

use self::family::Collect;

pub use self::batches::batch_operations;
pub use self::grpc::{InFlight, code_name, code_of, grpc_forwarded, grpc_in_flight, grpc_request};
pub use self::http::serve;
pub use self::librdkafka::librdkafka_stats;
pub use self::partitions::{
    append, command_rejected, commands_decided, commit, ingress_position, partition_cached, partition_closed,
    partition_failed, partition_fold_version, partition_opened, partition_position, request_ingested, restored,
    timer_fired,
};
pub use self::process::build_info;
pub use self::registry::{schema_registry_request, schema_registry_wait};
pub use self::schedules::schedule_actions;
pub use self::store::{store_size, store_write};
pub use self::task_queues::{QueueKind, TaskQueue, task_queues};
pub use self::workflows::{
    activity_completed, activity_failed, activity_started, update, workflow_closed, workflow_started,
    workflow_task_completed, workflow_task_failed, workflow_task_started,
};

/// The port of the metrics' endpoint by default: the next to that of gRPC.
pub const PORT_DEFAULT: u16 = 7234;

/// Upper bounds of buckets for what should take milliseconds. Seconds.
const LATENCY_S: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds of buckets for what waits for workers or for the world, up to a month. Seconds.
const DURATION_S: &[f64] = &[
    0.005,
    0.025,
    0.1,
    0.5,
    1.0,
    5.0,
    15.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    6.0 * 3600.0,
    86_400.0,
    7.0 * 86_400.0,
    30.0 * 86_400.0,
];

fn families() -> impl Iterator<Item = &'static dyn Collect> {
    [
        workflows::FAMILIES,
        schedules::FAMILIES,
        batches::FAMILIES,
        task_queues::FAMILIES,
        partitions::FAMILIES,
        store::FAMILIES,
        grpc::FAMILIES,
        librdkafka::FAMILIES,
        registry::FAMILIES,
        process::FAMILIES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// All metrics in Prometheus' text format, of which the content type is [`prometheus::TEXT_FORMAT`]. What the process uses is
/// read now; other gauges are as they were set last.
pub fn render() -> String {
    process::read();
    librdkafka::refresh();
    let families: Vec<_> = families().filter_map(Collect::collect).collect();
    let mut text = String::with_capacity(64 << 10);
    if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
        unreachable!("families have names and children, which is all that the encoder asks for: {error}");
    }
    text
}
