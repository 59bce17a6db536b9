//! The public records of what workflows do.

use bytes::Bytes;

use crate::engine::workflow::close_status;
use crate::engine::{EntityId, RunOutcome, State};
use crate::log::{Record, Topic};
use crate::partition::entities::Batch;
use crate::proto::events::HistoryBatch;
use crate::store::keys;
use crate::wire::avro::{Framing, Published};
use crate::wire::outputs;

/// What a decision, of the command at an offset of a partition, means for completions and timers.
pub fn records(
    framing: &Framing,
    key: &EntityId,
    changed: &RunOutcome,
    partition: u32,
    offset: i64,
) -> Vec<(Topic, Record)> {
    let Some(run) = changed.run.workflow() else { return Vec::new() };
    let record = |event| {
        if close_status(event).is_some() {
            let completion = outputs::completion(&run.head, event, partition, offset);
            return Some((Topic::Completions, of_workflow(framing, key, &completion)));
        }
        let change = outputs::timer_change(&run.head, event)?;
        Some((Topic::Timers, of_workflow(framing, key, &change)))
    };
    changed.news().into_iter().filter_map(record).collect()
}

/// The public record of a batch of history.
pub fn history(framing: &Framing, key: &EntityId, run_id: &str, run: Option<&State>, batch: &Batch) -> Record {
    let head = run.and_then(State::workflow).map(|run| run.head.clone()).unwrap_or_default();
    let public = HistoryBatch {
        namespace: head.namespace.clone(),
        namespace_id: key.namespace_id.to_string(),
        workflow_id: key.id.to_string(),
        run_id: run_id.to_owned(),
        workflow_type: head.workflow_type.clone(),
        events: batch.to_events(),
    };
    let key = keys::history_batch(key, run_id, batch.first_event_id);
    Record { key, value: Some(outputs::encode(framing, &public)), headers: outputs::history_headers(framing) }
}

/// A public record whose key is the workflow id.
pub fn of_workflow<M: Published>(framing: &Framing, key: &EntityId, message: &M) -> Record {
    let key = Bytes::copy_from_slice(key.id.as_bytes());
    Record { key, value: Some(outputs::encode(framing, message)), headers: Vec::new() }
}
