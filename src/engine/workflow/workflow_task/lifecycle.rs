//! What decisions do with a run's workflow task: its facts are emitted here and nowhere else, and with them the history events of
//! tasks that are in the history are recorded.

use prost::Message;

use super::history_events::{self, TaskFailure};
use super::{
    Event, Scheduled, Started, Starter, is_in_history_from_the_start, is_started, kind, next_attempt, normal,
    retry_backoff_ms,
};
use crate::engine::workflow::deadlines::TimeoutType;
use crate::engine::workflow::{Work, event};
use crate::proto::state::{WorkflowTask, WorkflowTaskKind as Kind};
use crate::proto::temporal::enums::v1::{SuggestContinueAsNewReason, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::HistoryEvent;
use crate::proto::temporal::workflowservice::v1::RespondWorkflowTaskCompletedRequest;
use crate::types::limits;

impl Work {
    /// Schedules a workflow task even if the first one is delayed, whose delay is over with that.
    pub fn schedule_workflow_task_at_once(&mut self) {
        self.end_delay_of_first_task();
        self.schedule_workflow_task();
    }

    fn end_delay_of_first_task(&mut self) {
        if self.run().is_open() && self.head().first_task_delayed {
            self.emit(event::Event::FirstTaskDelayEnded);
        }
    }

    /// Schedules a workflow task, unless one is pending, the run is closed, or its first task is delayed.
    pub fn schedule_workflow_task(&mut self) {
        self.schedule_workflow_task_since(self.now);
    }

    /// The same for a task that prolongs another: `original_scheduled_ms` is when the first of them was scheduled, in
    /// milliseconds since the Unix epoch.
    pub fn schedule_workflow_task_since(&mut self, original_scheduled_ms: i64) {
        if !self.head().first_task_delayed {
            self.schedule_task(kind::of_attempt, original_scheduled_ms);
        }
    }

    /// Schedules a workflow task for an update, unless one is pending, which will do. It leaves no trace in the history if the
    /// update is rejected. It is no matter whether the first task is delayed, as with Temporal's server.
    pub fn schedule_speculative_workflow_task(&mut self) {
        self.schedule_task(kind::for_update_of_attempt, self.now);
    }

    fn schedule_task(&mut self, kind_of_attempt: impl Fn(i32) -> Kind, original_scheduled_ms: i64) {
        let head = self.head();
        if !self.run().is_open() || head.workflow_task.is_some() {
            return;
        }
        if head.pause.is_some() {
            return self.flush_buffer();
        }
        let mut attempt = head.workflow_task_attempt.max(1);
        if !self.run().buffered.is_empty() {
            // There is news, so the worker gets a fresh first attempt.
            attempt = 1;
            self.flush_buffer();
        }
        let slower_ms = retry_backoff_ms(attempt, &mut self.ids);
        let head = self.head();
        let mut scheduled = Scheduled {
            kind: kind_of_attempt(attempt),
            scheduled_event_id: head.next_event_id,
            attempt,
            scheduled_ms: self.now,
            original_scheduled_ms,
            timeout_ms: head.workflow_task_timeout_ms.saturating_add(slower_ms),
            sticky: !head.sticky_queue.is_empty(),
        };
        if is_in_history_from_the_start(scheduled.kind) {
            let event = history_events::scheduled(head, &scheduled.task());
            scheduled.scheduled_event_id = self.record(event);
        }
        self.emit_of_task(Event::Scheduled(scheduled));
    }

    /// Starts the pending workflow task for a worker. `updates_after`: it has those up to this number.
    pub fn start_workflow_task(&mut self, by: Starter, updates_after: i64) {
        let Some(mut pending) = self.head().workflow_task.clone() else { return };
        if kind::becomes_normal(&pending, self.head().next_event_id) {
            let now_normal = WorkflowTask { scheduled_ms: self.now, ..normal(&pending, 0) };
            let scheduled_event_id = self.record(history_events::scheduled(self.head(), &now_normal));
            pending = normal(&pending, scheduled_event_id);
            self.emit_of_task(Event::BecameNormal { scheduled_event_id });
        }
        let mut started = Started {
            started_event_id: pending.scheduled_event_id + 1,
            started_ms: self.now,
            by,
            history_size_bytes: self.head().history_size_bytes,
            suggest_reasons: self.reasons_to_continue_as_new(),
            updates_after,
            last_update: self.head().last_update,
        };
        if is_in_history_from_the_start(pending.kind()) {
            started.started_event_id = self.record(history_events::started(&started.task(&pending)));
        }
        self.emit_of_task(Event::Started(started));
    }

    fn reasons_to_continue_as_new(&self) -> Vec<i32> {
        let head = self.head();
        let mut reasons = Vec::new();
        if head.history_size_bytes >= limits::HISTORY_SIZE_SUGGEST {
            reasons.push(SuggestContinueAsNewReason::HistorySizeTooLarge as i32);
        }
        if head.next_event_id >= self.history_count_suggest {
            reasons.push(SuggestContinueAsNewReason::TooManyHistoryEvents as i32);
        }
        if self.run().updates.count() >= limits::UPDATES_SUGGEST {
            reasons.push(SuggestContinueAsNewReason::TooManyUpdates as i32);
        }
        reasons
    }

    fn emit_of_task(&mut self, event: Event) {
        self.emit(event::Event::WorkflowTask(event));
    }

    /// Records how a task ended without a completion, if its beginning is in the history.
    fn record_end(&mut self, task: &WorkflowTask, event: impl FnOnce() -> HistoryEvent) {
        if is_in_history_from_the_start(task.kind()) {
            self.record(event());
        }
    }
}

/// The started task is completed. Returns the id of its completed event. The events of a task that is not in the history yet
/// join it before that; as with Temporal's server, they have the worker that completes it.
pub fn complete(work: &mut Work, task: &WorkflowTask, request: &RespondWorkflowTaskCompletedRequest) -> i64 {
    let mut task = task.clone();
    work.end_delay_of_first_task();
    if !is_in_history_from_the_start(task.kind()) {
        task.identity.clone_from(&request.identity);
        task.worker_version = request.worker_version_stamp.clone().filter(|version| !version.use_versioning);
        task.scheduled_event_id = work.record(history_events::scheduled(work.head(), &task));
        task.started_event_id = work.record(history_events::started(&task));
    }
    let completed_event_id = work.record(history_events::completed(&task, request));
    work.emit_of_task(Event::Completed { started_event_id: task.started_event_id, completed_event_id });
    completed_event_id
}

/// A speculative task becomes a normal one: something is about to follow its events in the history. As with Temporal's server, of
/// the worker that has started it only an identity that is given is in the history.
pub fn make_normal(work: &mut Work, identity: &str) {
    let Some(task) = work.head().workflow_task.clone().filter(|task| kind::gives_way(task.kind())) else { return };
    work.end_delay_of_first_task();
    let scheduled_event_id = work.record(history_events::scheduled(work.head(), &task));
    if is_started(&task) {
        let task = WorkflowTask { scheduled_event_id, identity: identity.to_owned(), worker_version: None, ..task };
        work.record(history_events::started(&task));
    }
    work.emit_of_task(Event::BecameNormal { scheduled_event_id });
}

/// A speculative task is completed, and nothing came of it: it leaves no trace.
pub fn discard(work: &mut Work) {
    work.emit_of_task(Event::Discarded);
}

/// What a workflow task's event of a history that a run begins again with means for the task.
pub fn replay(work: &mut Work, event: &HistoryEvent) {
    let fact = history_events::fact(work.head(), event);
    fact.into_iter().for_each(|fact| work.emit_of_task(fact));
}

/// The started task fails, as its run begins again from there.
pub fn fail_by_reset(work: &mut Work, reason: &str, base_run_id: &str) {
    let Some(task) = work.run().started_task().cloned() else { return };
    let new_run_id = work.head().run_id.clone();
    work.record(history_events::failed_by_reset(&task, reason, base_run_id, &new_run_id));
    work.emit_of_task(Event::Failed { next_attempt: 1 });
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
    if work.run().started_task().is_none() {
        return;
    }
    make_normal(work, failure.identity);
    let Some(task) = work.run().started_task().cloned() else { return };
    let next_attempt = next_attempt(work.head(), &task);
    work.record_end(&task, || history_events::failed(&task, failure));
    work.emit_of_task(Event::Failed { next_attempt });
    forget_worker(work);
}

/// The run is paused before a worker has taken its task: the task fails, and is not tried again until the run goes on.
pub fn fail_by_pause(work: &mut Work) {
    let Some(mut task) = work.head().workflow_task.clone().filter(|task| !is_started(task)) else { return };
    if kind::gives_way(task.kind()) {
        task.scheduled_event_id = work.record(history_events::scheduled(work.head(), &task));
        task.started_event_id = task.scheduled_event_id + 1;
        work.record(history_events::started(&task));
    }
    let paused = TaskFailure {
        cause: Cause::WorkflowPauseRequestedBeforeTaskStarted,
        failure: None,
        identity: "history-service",
        binary_checksum: "",
    };
    if task.kind() != Kind::Transient {
        work.record(history_events::failed(&task, paused));
    }
    work.emit_of_task(Event::Failed { next_attempt: 1 });
    forget_worker(work);
}

/// Fails the started task if more events wait for its end than may.
pub fn make_room_for_buffered(work: &mut Work) {
    let buffered = &work.run().buffered;
    let size = || buffered.values().map(|event| event.encoded_len()).sum::<usize>();
    if buffered.len() <= limits::BUFFERED_COUNT_MAX && size() <= limits::BUFFERED_SIZE_MAX {
        return;
    }
    fail(work, forced());
}

/// The run ends while a worker works on its task.
pub fn force_close(work: &mut Work) {
    if work.run().started_task().is_none() {
        return;
    }
    make_normal(work, forced().identity);
    let Some(task) = work.run().started_task().cloned() else { return };
    work.record_end(&task, || history_events::failed(&task, forced()));
    work.emit_of_task(Event::Failed { next_attempt: 1 });
}

/// What the history has of a task that the server ends for its own reasons.
fn forced() -> TaskFailure<'static> {
    TaskFailure { cause: Cause::ForceCloseCommand, failure: None, identity: "history-service", binary_checksum: "" }
}

/// The started task's time is up, or the sticky worker did not take it. The latter does not count as an attempt.
pub fn time_out(work: &mut Work, timeout: TimeoutType) {
    make_normal(work, "");
    let Some(task) = work.head().workflow_task.clone() else { return };
    let next_attempt = if timeout == TimeoutType::StartToClose { next_attempt(work.head(), &task) } else { 1 };
    work.record_end(&task, || history_events::timed_out(&task, timeout));
    work.emit_of_task(Event::TimedOut { timeout, next_attempt });
    forget_worker(work);
    work.schedule_workflow_task();
}

/// The worker that cached the run is not to be relied on.
pub fn forget_worker(work: &mut Work) {
    if !work.head().sticky_queue.is_empty() {
        work.emit(event::Event::StickyQueueChanged { queue: String::new(), schedule_to_start_ms: 0 });
    }
}
