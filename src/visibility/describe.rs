//! What clients are shown: rows and counts as Temporal's messages.

use super::attributes::{Attributes, STATUSES, system_kind};
use super::{Count, Row};
use crate::proto::temporal::{
    common::v1::{Memo, Payload, SearchAttributes, WorkflowExecution, WorkflowType},
    workflow::v1::WorkflowExecutionInfo,
    workflowservice::v1::{CountWorkflowExecutionsResponse, count_workflow_executions_response::AggregationGroup},
};
use bytes::Bytes;
use prost::Message;

/// The short name of a status, as Temporal's filters and counts write it: `Running`, `ContinuedAsNew`.
pub fn status_name(status: i32) -> &'static str {
    STATUSES.iter().find(|(known, _)| *known as i32 == status).map_or("Unspecified", |(_, name)| name)
}

/// Leaves out search attributes that the namespace had when they were given, and has no more.
pub fn leave_out_removed(row: &mut Row, custom: &Attributes) {
    let Ok(mut given) = SearchAttributes::decode(row.search_attributes.clone()) else { return };
    let count = given.indexed_fields.len();
    given.indexed_fields.retain(|name, _| custom.contains_key(name) || system_kind(name).is_some());
    if given.indexed_fields.len() < count {
        row.search_attributes = given.encode_to_vec().into();
    }
}

pub fn to_execution_info(row: &Row) -> WorkflowExecutionInfo {
    // Closed before its first task was due: it has lasted no time.
    let duration_ms = row.close_time_ms.map(|close| close.saturating_sub(row.execution_time_ms).max(0));
    WorkflowExecutionInfo {
        execution: execution(&row.workflow_id, &row.run_id),
        r#type: Some(WorkflowType { name: row.workflow_type.clone() }),
        start_time: Some(timestamp(row.start_time_ms)),
        close_time: row.close_time_ms.map(timestamp),
        status: row.status,
        history_length: row.history_length,
        parent_execution: execution(&row.parent_workflow_id, &row.parent_run_id),
        execution_time: Some(timestamp(row.execution_time_ms)),
        memo: Memo::decode(row.memo.clone()).ok().filter(|memo| !memo.fields.is_empty()),
        search_attributes: SearchAttributes::decode(row.search_attributes.clone())
            .ok()
            .filter(|attributes| !attributes.indexed_fields.is_empty()),
        task_queue: row.task_queue.clone(),
        state_transition_count: row.state_transition_count,
        history_size_bytes: row.history_size_bytes,
        execution_duration: duration_ms
            .map(|ms| prost_types::Duration { seconds: ms / 1_000, nanos: (ms % 1_000) as i32 * 1_000_000 }),
        root_execution: execution(&row.root_workflow_id, &row.root_run_id),
        ..Default::default()
    }
}

/// The groups are keyed by the status's name, in a json/plain payload of type Keyword.
pub fn to_count_response(count: &Count) -> CountWorkflowExecutionsResponse {
    let group =
        |&(status, count): &(i32, i64)| AggregationGroup { group_values: vec![keyword(status_name(status))], count };
    CountWorkflowExecutionsResponse { count: count.total, groups: count.groups.iter().map(group).collect() }
}

fn keyword(name: &str) -> Payload {
    let metadata = [("encoding", "json/plain"), ("type", "Keyword")];
    Payload {
        metadata: metadata.map(|(key, value)| (key.to_owned(), Bytes::from_static(value.as_bytes()))).into(),
        data: format!("\"{name}\"").into(),
        ..Default::default()
    }
}

fn execution(workflow_id: &str, run_id: &str) -> Option<WorkflowExecution> {
    let known = !workflow_id.is_empty() || !run_id.is_empty();
    known.then(|| WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() })
}

fn timestamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos: ms.rem_euclid(1_000) as i32 * 1_000_000 }
}
