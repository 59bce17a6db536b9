//! How a workflow task ends without a completion: it fails, or its time is up.

use prost::Message;

use super::decision::Working;
use super::due::TimeoutType;
use super::event::Event;
use super::history::event;
use crate::proto::state;
use crate::proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::failure::v1::Failure;
use crate::proto::temporal::history::v1::{
    WorkflowTaskFailedEventAttributes, WorkflowTaskTimedOutEventAttributes, history_event::Attributes,
};
use crate::types::limits;

/// What a worker, or the server on its behalf, says of a failed task.
pub struct TaskFailure<'a> {
    pub cause: Cause,
    pub failure: Option<Failure>,
    pub identity: &'a str,
    pub binary_checksum: &'a str,
}

/// What the next task has as its attempt after this one failed or took too long. While the run has a sticky queue, giving that
/// up comes first, and the next attempt is a first one again: the fault may lie in the worker's cache.
fn next_attempt(work: &Working, task: &state::WorkflowTask) -> i32 {
    if work.head().sticky_queue.is_empty() { task.attempt.saturating_add(1) } else { 1 }
}

/// The started task failed. The next attempt is scheduled; only a first attempt's failure is in the history.
pub fn fail(work: &mut Working, failure: TaskFailure) {
    if work.run().started_task().is_some() {
        fail_for_good(work, failure);
        work.schedule_workflow_task();
    }
}

/// The started task failed, and the run ends with it.
pub fn fail_for_good(work: &mut Working, failure: TaskFailure) {
    let Some(task) = work.run().started_task().cloned() else { return };
    let attempt = next_attempt(work, &task);
    work.emit(Event::WorkflowTaskChanged { task: None, attempt });
    if task.attempt == 1 {
        let attributes = WorkflowTaskFailedEventAttributes {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            cause: failure.cause as i32,
            failure: failure.failure,
            identity: failure.identity.to_owned(),
            binary_checksum: failure.binary_checksum.to_owned(),
            ..WorkflowTaskFailedEventAttributes::default()
        };
        work.record(event(EventType::WorkflowTaskFailed, Attributes::WorkflowTaskFailedEventAttributes(attributes)));
    }
    forget_worker(work);
}

/// Fails the started task if more events wait for its end than may.
pub fn make_room_for_buffered(work: &mut Working) {
    let buffered = &work.run().buffered;
    let size = || buffered.values().map(|event| event.encoded_len()).sum::<usize>();
    if buffered.len() <= limits::BUFFERED_COUNT_MAX && size() <= limits::BUFFERED_SIZE_MAX {
        return;
    }
    let (failure, binary_checksum) = (None, "");
    fail(work, TaskFailure { cause: Cause::ForceCloseCommand, failure, identity: "history-service", binary_checksum });
}

/// The run ends while a worker works on its task.
pub fn force_close(work: &mut Working) {
    let Some(task) = work.run().started_task().cloned() else { return };
    work.emit(Event::WorkflowTaskChanged { task: None, attempt: 1 });
    if task.attempt == 1 {
        let attributes = WorkflowTaskFailedEventAttributes {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            cause: Cause::ForceCloseCommand as i32,
            identity: "history-service".into(),
            ..WorkflowTaskFailedEventAttributes::default()
        };
        work.record(event(EventType::WorkflowTaskFailed, Attributes::WorkflowTaskFailedEventAttributes(attributes)));
    }
}

/// The started task's time is up, or the sticky worker did not take it. The latter does not count as an attempt.
pub fn time_out(work: &mut Working, timeout: TimeoutType) {
    let Some(task) = work.head().workflow_task.clone() else { return };
    let attempt = if timeout == TimeoutType::StartToClose { next_attempt(work, &task) } else { 1 };
    work.emit(Event::WorkflowTaskChanged { task: None, attempt });
    if task.attempt == 1 {
        let attributes = WorkflowTaskTimedOutEventAttributes {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            timeout_type: timeout as i32,
        };
        work.record(event(
            EventType::WorkflowTaskTimedOut,
            Attributes::WorkflowTaskTimedOutEventAttributes(attributes),
        ));
    }
    forget_worker(work);
    work.schedule_workflow_task();
}

/// The worker that cached the run is not to be relied on.
pub fn forget_worker(work: &mut Working) {
    if !work.head().sticky_queue.is_empty() {
        work.emit(Event::StickyQueueChanged { queue: String::new(), schedule_to_start_ms: 0 });
    }
}
