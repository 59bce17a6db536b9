//! What lists show of a run.

use bytes::Bytes;
use prost::Message;

use super::{build_ids, pause_info};
use crate::engine::kinds::Kind;
use crate::engine::row::Row;
use crate::proto::state;
use crate::proto::temporal::common::v1::SearchAttributes;

/// What a run's search attributes are: those that it was given, and the server's own.
pub fn search_attributes(head: &state::Run, properties: &state::Properties) -> Option<SearchAttributes> {
    let mut attributes = properties.search_attributes.clone();
    if let Some(builds) = build_ids::of(head) {
        attributes.get_or_insert_default().indexed_fields.insert(build_ids::NAME.to_owned(), builds);
    }
    if let Some(paused) = pause_info::of(head) {
        attributes.get_or_insert_default().indexed_fields.insert(pause_info::NAME.to_owned(), paused);
    }
    attributes
}

/// What lists show of a run.
pub fn row(head: &state::Run, properties: &state::Properties) -> Row {
    let (parent, root) = (head.parent.clone().unwrap_or_default(), head.root.clone().unwrap_or_default());
    let encoded = |message: Option<Vec<u8>>| Bytes::from(message.unwrap_or_default());
    let attributes = search_attributes(head, properties);
    Row {
        kind: Kind::Workflow as u32,
        namespace_id: head.namespace_id.clone(),
        workflow_id: head.workflow_id.clone(),
        run_id: head.run_id.clone(),
        workflow_type: head.workflow_type.clone(),
        task_queue: head.task_queue.clone(),
        status: head.status,
        start_time_ms: head.start_ms,
        execution_time_ms: head.execution_ms,
        close_time_ms: (head.close_ms > 0).then_some(head.close_ms),
        history_length: head.next_event_id - 1,
        history_size_bytes: head.history_size_bytes,
        state_transition_count: head.next_event_id - 1,
        parent_workflow_id: parent.workflow_id,
        parent_run_id: parent.run_id,
        root_workflow_id: root.workflow_id,
        root_run_id: root.run_id,
        memo: encoded(properties.memo.as_ref().map(|memo| memo.encode_to_vec())),
        search_attributes: encoded(attributes.map(|attributes| attributes.encode_to_vec())),
        info: Bytes::new(),
    }
}
