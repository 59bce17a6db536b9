//! A run's history events of its workflow tasks.

use super::{Event, Scheduled, Started, Starter, is_started, kind};
use crate::engine::workflow::deadlines::TimeoutType;
use crate::engine::workflow::history::event;
use crate::engine::workflow::queues::{normal_queue, sticky_queue};
use crate::engine::workflow::recording::task_id;
use crate::proto::state::{self, WorkflowTask, WorkflowTaskKind as Kind};
use crate::proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::failure::v1::{Failure, ResetWorkflowFailureInfo, failure::FailureInfo};
use crate::proto::temporal::history::v1::{
    HistoryEvent, WorkflowTaskCompletedEventAttributes, WorkflowTaskFailedEventAttributes,
    WorkflowTaskScheduledEventAttributes, WorkflowTaskStartedEventAttributes, WorkflowTaskTimedOutEventAttributes,
    history_event::Attributes,
};
use crate::proto::temporal::workflowservice::v1::RespondWorkflowTaskCompletedRequest;
use crate::types::time::{duration, duration_ms, millis_of, timestamp};

/// What a worker, or the server on its behalf, reports of a failed task.
pub struct TaskFailure<'a> {
    pub cause: Cause,
    pub failure: Option<Failure>,
    pub identity: &'a str,
    pub binary_checksum: &'a str,
}

pub fn scheduled(head: &state::Run, task: &WorkflowTask) -> HistoryEvent {
    let queue = &head.task_queue;
    let attributes = WorkflowTaskScheduledEventAttributes {
        task_queue: Some(if task.sticky { sticky_queue(&head.sticky_queue, queue) } else { normal_queue(queue) }),
        start_to_close_timeout: Some(duration(task.timeout_ms)),
        attempt: task.attempt,
    };
    let mut event =
        event(EventType::WorkflowTaskScheduled, Attributes::WorkflowTaskScheduledEventAttributes(attributes));
    event.event_time = Some(timestamp(task.scheduled_ms));
    event
}

pub fn started(task: &WorkflowTask) -> HistoryEvent {
    let attributes = WorkflowTaskStartedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        identity: task.identity.clone(),
        request_id: task.request_id.clone(),
        suggest_continue_as_new: task.suggest_continue_as_new,
        suggest_continue_as_new_reasons: task.suggest_reasons.clone(),
        history_size_bytes: task.history_size_bytes,
        worker_version: task.worker_version.clone(),
        ..WorkflowTaskStartedEventAttributes::default()
    };
    let mut event = event(EventType::WorkflowTaskStarted, Attributes::WorkflowTaskStartedEventAttributes(attributes));
    event.event_time = Some(timestamp(task.started_ms));
    event
}

pub fn completed(task: &WorkflowTask, request: &RespondWorkflowTaskCompletedRequest) -> HistoryEvent {
    let attributes = WorkflowTaskCompletedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        identity: request.identity.clone(),
        binary_checksum: request.binary_checksum.clone(),
        worker_version: request.worker_version_stamp.clone(),
        sdk_metadata: request.sdk_metadata.clone(),
        metering_metadata: request.metering_metadata,
        versioning_behavior: request.versioning_behavior,
        ..WorkflowTaskCompletedEventAttributes::default()
    };
    event(EventType::WorkflowTaskCompleted, Attributes::WorkflowTaskCompletedEventAttributes(attributes))
}

pub fn failed(task: &WorkflowTask, failure: TaskFailure) -> HistoryEvent {
    let attributes = WorkflowTaskFailedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        cause: failure.cause as i32,
        failure: failure.failure,
        identity: failure.identity.to_owned(),
        binary_checksum: failure.binary_checksum.to_owned(),
        ..WorkflowTaskFailedEventAttributes::default()
    };
    event(EventType::WorkflowTaskFailed, Attributes::WorkflowTaskFailedEventAttributes(attributes))
}

pub fn failed_by_reset(task: &WorkflowTask, reason: &str, base_run_id: &str, new_run_id: &str) -> HistoryEvent {
    let info = FailureInfo::ResetWorkflowFailureInfo(ResetWorkflowFailureInfo::default());
    let attributes = WorkflowTaskFailedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        cause: Cause::ResetWorkflow as i32,
        failure: Some(Failure { message: reason.to_owned(), failure_info: Some(info), ..Failure::default() }),
        identity: "history-service".into(),
        base_run_id: base_run_id.to_owned(),
        new_run_id: new_run_id.to_owned(),
        ..WorkflowTaskFailedEventAttributes::default()
    };
    event(EventType::WorkflowTaskFailed, Attributes::WorkflowTaskFailedEventAttributes(attributes))
}

/// What an event means for a run's workflow task, if it is about one. The task that is pending in the end counts as a first attempt.
pub fn fact(head: &state::Run, event: &HistoryEvent) -> Option<Event> {
    let at_ms = event.event_time.as_ref().map_or(0, millis_of);
    Some(match event.attributes.as_ref()? {
        Attributes::WorkflowTaskScheduledEventAttributes(a) => Event::Scheduled(Scheduled {
            kind: Kind::Normal,
            scheduled_event_id: event.event_id,
            attempt: 1,
            scheduled_ms: at_ms,
            original_scheduled_ms: at_ms,
            timeout_ms: duration_ms(a.start_to_close_timeout.as_ref()),
            sticky: false,
        }),
        Attributes::WorkflowTaskStartedEventAttributes(a) => Event::Started(Started {
            started_event_id: event.event_id,
            started_ms: at_ms,
            by: Starter {
                identity: a.identity.clone(),
                request_id: a.request_id.clone(),
                worker_version: a.worker_version.clone(),
            },
            history_size_bytes: a.history_size_bytes,
            suggest_reasons: a.suggest_continue_as_new_reasons.clone(),
            updates_after: 0,
            last_update: head.last_update,
        }),
        Attributes::WorkflowTaskCompletedEventAttributes(a) => {
            Event::Completed { started_event_id: a.started_event_id, completed_event_id: event.event_id }
        }
        Attributes::WorkflowTaskFailedEventAttributes(_) => Event::Failed { next_attempt: 1 },
        Attributes::WorkflowTaskTimedOutEventAttributes(a) => {
            Event::TimedOut { timeout: a.timeout_type(), next_attempt: 1 }
        }
        _ => return None,
    })
}

pub fn timed_out(task: &WorkflowTask, timeout: TimeoutType) -> HistoryEvent {
    let attributes = WorkflowTaskTimedOutEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        timeout_type: timeout as i32,
    };
    event(EventType::WorkflowTaskTimedOut, Attributes::WorkflowTaskTimedOutEventAttributes(attributes))
}

/// The events of a pending workflow task that join the history only if it completes: those of any attempt but the first,
/// unless other events have come since it was scheduled.
pub fn transient_events(head: &state::Run) -> Vec<HistoryEvent> {
    let task = head.workflow_task.as_ref();
    let Some(task) = task.filter(|task| kind::stands_at_the_end(task, head.next_event_id)) else {
        return Vec::new();
    };
    let mut events = vec![scheduled(head, task)];
    if is_started(task) {
        events.push(started(task));
    }
    for (event, id) in events.iter_mut().zip(task.scheduled_event_id..) {
        event.event_id = id;
        event.task_id = task_id(id);
    }
    events
}
