//! The limits that Temporal's server has by default, and that clients know.

/// Identifiers: workflow, activity, timer and request ids, type, queue and signal names. Bytes, as Temporal counts them:
/// `limit.maxIDLength`.
pub const ID_LENGTH_MAX: usize = 1000;

/// Whether an identifier is longer than [`ID_LENGTH_MAX`].
pub fn is_too_long(id: &str) -> bool {
    id.len() > ID_LENGTH_MAX
}

/// A worker's build id. Bytes. Temporal: `limit.workerBuildIdSize`.
pub const BUILD_ID_LENGTH_MAX: usize = 255;

/// One payload field, such as an input or a result. Bytes.
pub const BLOB_SIZE_MAX: usize = 2 * 1024 * 1024;
/// A failure over [`BLOB_SIZE_MAX`] is cut to this many bytes. Temporal: `limit.blobSize.warn`.
pub const FAILURE_CUT_TO: usize = 512 * 1024;
/// The failure of an attempt that is tried again, as it is kept for the next one. Bytes. Temporal:
/// `limit.mutableStateActivityFailureSize.error`.
pub const RETRIED_FAILURE_SIZE_MAX: usize = 4 * 1024;
/// A memo. Bytes. Temporal: `limit.memoSize.error`.
pub const MEMO_SIZE_MAX: usize = 2 * 1024 * 1024;
/// One search attribute's value, and all of a run's search attributes. Bytes. Temporal:
/// `frontend.searchAttributesSizeOfValueLimit`, `frontend.searchAttributesTotalSizeLimit`.
pub const SEARCH_ATTRIBUTE_SIZE_MAX: usize = 2 * 1024;
pub const SEARCH_ATTRIBUTES_SIZE_MAX: usize = 40 * 1024;
/// The state of one open run: a run whose state would be larger is terminated. Bytes. Temporal: `limit.mutableStateSize.error`,
/// 8 MiB; here less, so that all of it fits into one record of the log with its key.
pub const STATE_SIZE_MAX: usize = 8 * 1024 * 1024 - 64 * 1024;
/// A namespace with its data, which is one record. Bytes.
pub const NAMESPACE_SIZE_MAX: usize = 2 * 1024 * 1024;
/// One gRPC message. Bytes.
pub const MESSAGE_SIZE_MAX: usize = 4 * 1024 * 1024;

/// Records and batches of history that one command deletes of a run, unless it says otherwise.
pub const DELETED_AT_ONCE: u32 = 1000;

/// Bytes of events that one command copies of a history, unless it says otherwise.
pub const COPIED_AT_ONCE: u32 = 256 * 1024;

/// A workflow task's started event suggests continue-as-new from this many events or bytes on.
pub const HISTORY_COUNT_SUGGEST: i64 = 4096;
pub const HISTORY_SIZE_SUGGEST: i64 = 4 * 1024 * 1024;
/// A run is terminated beyond this many events or bytes.
pub const HISTORY_COUNT_MAX: i64 = 51_200;
pub const HISTORY_SIZE_MAX: i64 = 50 * 1024 * 1024;

/// What of histories is read for one command, and what of that is kept to decide it. Bytes.
pub const HISTORIES_READ_MAX: usize = 256 * 1024 * 1024;
pub const HISTORIES_KEPT_MAX: usize = 64 * 1024 * 1024;

/// Pending activities, children, signals to and cancellations of other workflows: each, per run.
pub const PENDING_MAX: usize = 2000;
/// Events that may wait for a started workflow task to end, and their bytes: beyond, the task is failed so that they join the
/// history. Temporal: `history.maximumBufferedEventsBatch`, `history.maximumBufferedEventsSizeInBytes`.
pub const BUFFERED_COUNT_MAX: usize = 100;
pub const BUFFERED_SIZE_MAX: usize = 2 * 1024 * 1024;
/// Signals that a run can receive.
pub const SIGNALS_MAX: i64 = 10_000;

/// Updates of a run that are not completed yet. Temporal: `history.maxInFlightUpdates`.
pub const UPDATES_IN_FLIGHT_MAX: usize = 10;
/// Updates of a run, without those that were rejected. Temporal: `history.maxTotalUpdates`.
pub const UPDATES_MAX: usize = 2000;
/// The requests of a run's updates that no worker has accepted yet, together: one of the largest that there may be. Bytes. Temporal:
/// `history.maxInFlightUpdatePayloads`, 20 MiB; here less, so that they join the history in one record with what else a worker brings.
pub const UPDATES_SIZE_MAX: usize = BLOB_SIZE_MAX + 64 * 1024;
/// From this many updates on a workflow task suggests to continue as new. Temporal:
/// `history.maxTotalUpdates.suggestContinueAsNewThreshold`.
pub const UPDATES_SUGGEST: usize = 1800;
/// Events that a worker has not seen: with more of them, a speculative task's stay in the history though nothing else came of it.
/// Temporal: `history.discardSpeculativeWorkflowTaskMaximumEventsCount`.
pub const SPECULATIVE_TASK_EVENTS_MAX: i64 = 10;
/// How long a speculative workflow task waits for a worker before it becomes a normal one. Milliseconds.
pub const SPECULATIVE_TASK_SCHEDULE_TO_START_MS: i64 = 5000;

/// Batches of a namespace that may run at a time. Temporal: `frontend.MaxConcurrentBatchOperationPerNamespace`.
pub const BATCHES_MAX: i64 = 1;
/// Operations on single workflows that a batch begins in a second, unless its request says less. Temporal: `worker.batcherRPS`, 50.
pub const BATCH_OPERATIONS_PER_S: i64 = 1000;

pub const WORKFLOW_TASK_TIMEOUT_MS_DEFAULT: i64 = 10_000;
pub const WORKFLOW_TASK_TIMEOUT_MS_MAX: i64 = 120_000;
/// How long a worker may prolong one workflow task by completing it with a request for a new one.
pub const WORKFLOW_TASK_HEARTBEAT_MS_MAX: i64 = 30 * 60 * 1000;
/// How long closed runs are kept if the namespace sets no retention.
pub const RETENTION_S_DEFAULT: i64 = 72 * 3600;
/// Between the first task of a run and that of the one that goes on from it, at least. Temporal:
/// `history.workflowIdReuseMinimalInterval`.
pub const RUN_INTERVAL_MS_MIN: i64 = 1000;

/// Reset points that a run keeps: the latest. Temporal's server keeps as many.
pub const RESET_POINTS_MAX: usize = 20;

/// Begins the names of a task queue's partitions, which may not be polled.
const RESERVED_QUEUE_PREFIX: &str = "/_sys/";
/// Begins the names of the queues of the workers that Temporal's server runs within each namespace. None of ours exist, and the
/// names are kept free.
pub const INTERNAL_QUEUE_PREFIX: &str = "temporal-sys-per-ns-";

/// What is wrong with the name of any task queue, but for its length.
pub fn queue_problem(name: &str) -> Option<String> {
    let is_reserved = name.starts_with(RESERVED_QUEUE_PREFIX);
    is_reserved.then(|| format!("task queue name cannot start with reserved prefix {RESERVED_QUEUE_PREFIX}"))
}

/// The same for one that a user gives a workflow.
pub fn users_queue_problem(name: &str) -> Option<String> {
    let is_internal = name.starts_with(INTERNAL_QUEUE_PREFIX);
    queue_problem(name).or_else(|| is_internal.then(|| format!("cannot use internal per-namespace task queue:{name}")))
}
