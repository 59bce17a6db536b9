//! What lists show of a run.

use bytes::Bytes;

/// The search attribute by whose values Temporal's server tells workflows of its own, such as those that schedules and batches are there,
/// from those of users.
pub const DIVISION: &str = "TemporalNamespaceDivision";

/// What lists show of one run. Times are milliseconds since the Unix epoch; an empty id means that there is none. A
/// message, as nodes hand rows to each other.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Row {
    #[prost(string, tag = "1")]
    pub namespace_id: String,
    #[prost(string, tag = "2")]
    pub workflow_id: String,
    #[prost(string, tag = "3")]
    pub run_id: String,
    #[prost(string, tag = "4")]
    pub workflow_type: String,
    #[prost(string, tag = "5")]
    pub task_queue: String,
    /// `temporal.api.enums.v1.WorkflowExecutionStatus`
    #[prost(int32, tag = "6")]
    pub status: i32,
    #[prost(int64, tag = "7")]
    pub start_time_ms: i64,
    #[prost(int64, tag = "8")]
    pub execution_time_ms: i64,
    #[prost(int64, optional, tag = "9")]
    pub close_time_ms: Option<i64>,
    #[prost(int64, tag = "10")]
    pub history_length: i64,
    #[prost(int64, tag = "11")]
    pub history_size_bytes: i64,
    #[prost(int64, tag = "12")]
    pub state_transition_count: i64,
    #[prost(string, tag = "13")]
    pub parent_workflow_id: String,
    #[prost(string, tag = "14")]
    pub parent_run_id: String,
    #[prost(string, tag = "15")]
    pub root_workflow_id: String,
    #[prost(string, tag = "16")]
    pub root_run_id: String,
    /// An encoded `temporal.api.common.v1.Memo`.
    #[prost(bytes = "bytes", tag = "17")]
    pub memo: Bytes,
    /// An encoded `temporal.api.common.v1.SearchAttributes`; each payload names its type in its metadata.
    #[prost(bytes = "bytes", tag = "18")]
    pub search_attributes: Bytes,
    /// What its entity is, as [`Kind`](super::Kind) numbers it: each kind has lists of its own.
    #[prost(uint32, tag = "19")]
    pub kind: u32,
    /// What lists of its kind show beside, encoded as its kind has it.
    #[prost(bytes = "bytes", tag = "20")]
    pub info: Bytes,
}
