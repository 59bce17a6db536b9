//! Workflow tasks: how one is scheduled and started, and how it ends without a completion, as it fails or its time is up.

use prost::Message;

use super::Work;
use super::deadlines::TimeoutType;
use super::event::{Event, Starter};
use super::history::event;
use super::queues::{normal_queue, sticky_queue};
use super::recording::task_id;
use crate::proto::state;
use crate::proto::temporal::enums::v1::{EventType, SuggestContinueAsNewReason, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::failure::v1::Failure;
use crate::proto::temporal::history::v1::{
    HistoryEvent, WorkflowTaskFailedEventAttributes, WorkflowTaskScheduledEventAttributes,
    WorkflowTaskStartedEventAttributes, WorkflowTaskTimedOutEventAttributes, history_event::Attributes,
};
use crate::types::{
    IdSource, limits,
    time::{duration, timestamp},
};

/// What a worker, or the server on its behalf, says of a failed task.
pub struct TaskFailure<'a> {
    pub cause: Cause,
    pub failure: Option<Failure>,
    pub identity: &'a str,
    pub binary_checksum: &'a str,
}

/// What the next task has as its attempt after this one failed or took too long. While the run has a sticky queue, giving that
/// up comes first, and the next attempt is a first one again: the fault may lie in the worker's cache.
fn next_attempt(work: &Work, task: &state::WorkflowTask) -> i32 {
    if work.head().sticky_queue.is_empty() { task.attempt.saturating_add(1) } else { 1 }
}

/// The started task failed. The next attempt is scheduled; only a first attempt's failure is in the history.
pub fn fail(work: &mut Work, failure: TaskFailure) {
    if work.run().started_task().is_some() {
        fail_for_good(work, failure);
        work.schedule_workflow_task();
    }
}

/// The started task failed, and the run ends with it.
pub fn fail_for_good(work: &mut Work, failure: TaskFailure) {
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
pub fn make_room_for_buffered(work: &mut Work) {
    let buffered = &work.run().buffered;
    let size = || buffered.values().map(|event| event.encoded_len()).sum::<usize>();
    if buffered.len() <= limits::BUFFERED_COUNT_MAX && size() <= limits::BUFFERED_SIZE_MAX {
        return;
    }
    let (failure, binary_checksum) = (None, "");
    fail(work, TaskFailure { cause: Cause::ForceCloseCommand, failure, identity: "history-service", binary_checksum });
}

/// The run ends while a worker works on its task.
pub fn force_close(work: &mut Work) {
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
pub fn time_out(work: &mut Work, timeout: TimeoutType) {
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
pub fn forget_worker(work: &mut Work) {
    if !work.head().sticky_queue.is_empty() {
        work.emit(Event::StickyQueueChanged { queue: String::new(), schedule_to_start_ms: 0 });
    }
}

impl Work {
    /// Schedules a workflow task even if the first one is delayed, whose delay is over with that.
    pub fn schedule_workflow_task_at_once(&mut self) {
        if self.run().is_open() && self.head().first_task_delayed {
            self.emit(Event::FirstTaskDelayEnded);
        }
        self.schedule_workflow_task();
    }

    /// Schedules a workflow task, unless one is pending, the run is closed, or its first task is delayed.
    pub fn schedule_workflow_task(&mut self) {
        let head = self.head();
        if !self.run().is_open() || head.workflow_task.is_some() || head.first_task_delayed {
            return;
        }
        let mut attempt = head.workflow_task_attempt.max(1);
        if !self.run().buffered.is_empty() {
            // There is news, so the worker gets a fresh first attempt.
            attempt = 1;
            self.flush_buffer();
        }
        let slower_ms = retry_backoff_ms(attempt, &mut self.ids);
        let head = self.head();
        let mut task = state::WorkflowTask {
            scheduled_event_id: head.next_event_id,
            attempt,
            scheduled_ms: self.now,
            original_scheduled_ms: self.now,
            timeout_ms: head.workflow_task_timeout_ms.saturating_add(slower_ms),
            sticky: !head.sticky_queue.is_empty(),
            ..state::WorkflowTask::default()
        };
        if attempt == 1 {
            task.scheduled_event_id = self.record_task_scheduled(&task);
        }
        self.emit(Event::WorkflowTaskChanged { task: Some(Box::new(task)), attempt });
    }

    pub(super) fn record_task_scheduled(&mut self, task: &state::WorkflowTask) -> i64 {
        let scheduled = task_scheduled(self.head(), task);
        self.record(scheduled)
    }

    /// Starts the pending workflow task for a worker.
    pub fn start_workflow_task(&mut self, by: Starter) {
        let Some(mut task) = self.head().workflow_task.clone() else { return };
        if task.attempt > 1 && task.scheduled_event_id != self.head().next_event_id {
            // Events came since the transient task was scheduled: it becomes an ordinary one.
            task.attempt = 1;
            let scheduled = state::WorkflowTask { scheduled_ms: self.now, ..task.clone() };
            task.scheduled_event_id = self.record_task_scheduled(&scheduled);
        }
        let head = self.head();
        let mut reasons = Vec::new();
        if head.history_size_bytes >= limits::HISTORY_SIZE_SUGGEST {
            reasons.push(SuggestContinueAsNewReason::HistorySizeTooLarge as i32);
        }
        if head.next_event_id >= self.history_count_suggest {
            reasons.push(SuggestContinueAsNewReason::TooManyHistoryEvents as i32);
        }
        task.suggest_continue_as_new = !reasons.is_empty();
        task.suggest_reasons = reasons;
        task.history_size_bytes = head.history_size_bytes;
        task.started_ms = self.now;
        (task.identity, task.request_id, task.worker_version) = (by.identity, by.request_id, by.worker_version);
        task.started_event_id =
            if task.attempt == 1 { self.record(task_started(&task)) } else { task.scheduled_event_id + 1 };
        let attempt = task.attempt;
        self.emit(Event::WorkflowTaskChanged { task: Some(Box::new(task)), attempt });
    }
}

/// The history event of a workflow task's scheduling.
fn task_scheduled(head: &state::Run, task: &state::WorkflowTask) -> HistoryEvent {
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

/// The events of a pending workflow task that join the history only if it completes: those of any attempt but the first,
/// unless other events have come since it was scheduled.
pub fn transient_events(head: &state::Run) -> Vec<HistoryEvent> {
    let task = head.workflow_task.as_ref();
    let Some(task) = task.filter(|task| task.attempt > 1 && task.scheduled_event_id == head.next_event_id) else {
        return Vec::new();
    };
    let mut events = vec![task_scheduled(head, task)];
    if task.started_event_id != 0 {
        events.push(task_started(task));
    }
    for (event, id) in events.iter_mut().zip(task.scheduled_event_id..) {
        event.event_id = id;
        event.task_id = task_id(id);
    }
    events
}

/// The history event of a workflow task's start.
pub fn task_started(task: &state::WorkflowTask) -> HistoryEvent {
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

/// How much longer than the first an attempt of a failing task may take: from the fourth on 5 s, doubled up to 10 min, less up to
/// a fifth. Milliseconds. Workers leave such a task alone once they have failed it, so it is handed out again when its time is up:
/// the longer that is, the slower it fails. Temporal: `history.workflowTaskRetryMaxInterval`.
fn retry_backoff_ms(attempt: i32, ids: &mut IdSource) -> i64 {
    if attempt <= 3 {
        return 0;
    }
    let backoff = (5_000_i64 << (attempt - 4).min(10)).min(600_000);
    backoff * 4 / 5 + (ids.number() % (backoff as u64 / 5)) as i64
}
