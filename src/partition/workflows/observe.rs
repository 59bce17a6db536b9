//! What decided events mean for the metrics.

use std::time::Duration;

use crate::engine::workflow::{Event, Run, UpdateEvent, WorkflowTaskEvent, close_status};
use crate::engine::{RunOutcome, State, attempts};
use crate::metrics;
use crate::proto::state;
use crate::proto::temporal::enums::v1::{EventType, TimeoutType};
use crate::proto::temporal::failure::v1::{Failure, failure::FailureInfo};
use crate::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes as A};
use crate::types::time::millis_of;

/// Counts what one decision did to a run that was `before`.
pub fn decided(before: Option<&State>, changed: &RunOutcome) {
    if let Some((run, events)) = changed.workflow() {
        workflow(before.and_then(State::workflow), run, events, changed.repeated);
    }
}

/// `repeated`: so many events, the first ones, were counted when they became of another run.
fn workflow(before: Option<&Run>, changed: &Run, events: &[Event], repeated: usize) {
    let head = &changed.head;
    let began = events.iter().take(repeated).filter(|event| matches!(event, Event::RunCreated(_)));
    for event in began.chain(events.iter().skip(repeated)) {
        match event {
            Event::RunCreated(_) => metrics::workflow_started(&head.namespace),
            Event::History(event) => {
                run(before, head, event);
                activity_ended(before, head, event);
            }
            Event::Update { event, .. } => match event {
                UpdateEvent::Admitted(_) => metrics::update(&head.namespace, "admitted"),
                UpdateEvent::Rejected(_) | UpdateEvent::Unanswered(Ok(_)) => {
                    metrics::update(&head.namespace, "rejected")
                }
                UpdateEvent::Aborted(_) | UpdateEvent::Unanswered(Err(_)) => {
                    metrics::update(&head.namespace, "aborted")
                }
                UpdateEvent::Moved => {}
            },
            // Not by the history, which has no events of attempts that repeat what a first one has left there.
            Event::WorkflowTask(event) => workflow_task(head, event),
            // It joins the history later, but happens now.
            Event::Buffered(event) => activity_ended(before, head, event),
            Event::Attempt { scheduled_event_id, event: attempts::Event::Started { started_ms, .. } } => {
                if let Some(activity) = changed.activities.get(scheduled_event_id) {
                    metrics::activity_started(
                        &head.namespace,
                        &activity.task_queue,
                        millis(started_ms - activity.attempt_scheduled_ms),
                    );
                }
            }
            Event::Attempt { event: attempts::Event::RetryScheduled { failure, .. }, .. } => {
                metrics::activity_failed(&head.namespace, reason(failure.as_deref()), true)
            }
            _ => {}
        }
    }
}

fn run(before: Option<&Run>, head: &state::Run, event: &HistoryEvent) {
    let namespace = &head.namespace;
    let at = time_of(event);
    if let Some(status) = close_status(event) {
        let status = status.as_str_name().trim_start_matches("WORKFLOW_EXECUTION_STATUS_").to_lowercase();
        return metrics::workflow_closed(namespace, &status, millis(at - head.start_ms));
    }
    match event.event_type() {
        EventType::WorkflowExecutionUpdateAccepted => metrics::update(namespace, "accepted"),
        EventType::WorkflowExecutionUpdateCompleted => metrics::update(namespace, "completed"),
        _ => {}
    }
    if event.event_type() == EventType::WorkflowTaskCompleted
        && let Some(task) = before.and_then(Run::started_task)
    {
        metrics::workflow_task_completed(namespace, millis(at - task.started_ms));
    }
}

fn workflow_task(head: &state::Run, event: &WorkflowTaskEvent) {
    let namespace = &head.namespace;
    match event {
        WorkflowTaskEvent::Started(started) => {
            let scheduled_ms = head.workflow_task.as_ref().map_or(started.started_ms, |task| task.scheduled_ms);
            metrics::workflow_task_started(namespace, &head.task_queue, millis(started.started_ms - scheduled_ms));
        }
        WorkflowTaskEvent::Failed { .. } => metrics::workflow_task_failed(namespace, "failed"),
        WorkflowTaskEvent::TimedOut { timeout: of, .. } => metrics::workflow_task_failed(namespace, timeout(*of)),
        WorkflowTaskEvent::Scheduled(_)
        | WorkflowTaskEvent::BecameNormal { .. }
        | WorkflowTaskEvent::Completed { .. }
        | WorkflowTaskEvent::Discarded => {}
    }
}

/// An event that waited in the buffer comes by twice: what counts is the time when the activity was still pending.
fn activity_ended(before: Option<&Run>, head: &state::Run, event: &HistoryEvent) {
    let namespace = &head.namespace;
    let pending = |id| before.and_then(|before| before.activities.get(&id));
    match &event.attributes {
        Some(A::ActivityTaskCompletedEventAttributes(a)) => {
            if let Some(activity) = pending(a.scheduled_event_id) {
                metrics::activity_completed(namespace, millis(time_of(event) - activity.started_ms));
            }
        }
        Some(A::ActivityTaskFailedEventAttributes(a)) if pending(a.scheduled_event_id).is_some() => {
            metrics::activity_failed(namespace, reason(a.failure.as_ref()), false)
        }
        Some(A::ActivityTaskTimedOutEventAttributes(a)) if pending(a.scheduled_event_id).is_some() => {
            metrics::activity_failed(namespace, reason(a.failure.as_ref()), false)
        }
        Some(A::ActivityTaskCanceledEventAttributes(a)) if pending(a.scheduled_event_id).is_some() => {
            metrics::activity_failed(namespace, "canceled", false)
        }
        _ => {}
    }
}

fn reason(failure: Option<&Failure>) -> &'static str {
    match failure.and_then(|failure| failure.failure_info.as_ref()) {
        Some(FailureInfo::TimeoutFailureInfo(info)) => timeout(info.timeout_type()),
        _ => "failed",
    }
}

fn timeout(timeout: TimeoutType) -> &'static str {
    match timeout {
        TimeoutType::StartToClose => "start_to_close",
        TimeoutType::ScheduleToStart => "schedule_to_start",
        TimeoutType::ScheduleToClose => "schedule_to_close",
        TimeoutType::Heartbeat => "heartbeat",
        TimeoutType::Unspecified => "timed_out",
    }
}

fn time_of(event: &HistoryEvent) -> i64 {
    event.event_time.as_ref().map_or(0, millis_of)
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms.max(0) as u64)
}
