//! Workflow tasks: how one is scheduled, started, and ends. A run has one at most.
//!
//! This file is the machine: pure, over the part of a run's head that its workflow tasks are. [`kind`] defines what the kinds
//! mean, [`history_events`] what the history has of a task, and [`lifecycle`] has the decisions, each of which emits facts and
//! records the history events that go with them.

mod history_events;
mod kind;
mod lifecycle;

#[cfg(test)]
mod tests;

pub use history_events::{TaskFailure, transient_events};
pub use kind::is_in_history_from_the_start;
pub use lifecycle::{
    complete, discard, fail, fail_by_pause, fail_by_reset, fail_for_good, force_close, forget_worker, make_normal,
    make_room_for_buffered, replay, time_out,
};

use super::deadlines::TimeoutType;
use crate::engine::machine::{Task, TaskKind};
use crate::engine::rejection::Rejection;
use crate::proto::commands::{StartWorkflowTask, TaskToken};
use crate::proto::state::{self, WorkflowTask, WorkflowTaskKind as Kind};
use crate::proto::temporal::common::v1::WorkerVersionStamp;
use crate::types::{IdSource, limits};

/// A fact about a run's workflow tasks.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A task waits for a worker.
    Scheduled(Scheduled),
    /// Other events came, or the task failed: it is a first attempt, and in the history from here on.
    BecameNormal {
        scheduled_event_id: i64,
    },
    Started(Started),
    /// The started task failed, or its run ended.
    Failed {
        next_attempt: i32,
    },
    TimedOut {
        timeout: TimeoutType,
        next_attempt: i32,
    },
    /// A worker has seen the history up to `started_event_id`.
    Completed {
        started_event_id: i64,
        completed_event_id: i64,
    },
    /// The speculative task is completed, and nothing came of it.
    Discarded,
}

/// How a task was scheduled. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    pub kind: Kind,
    /// Of a task that is not in the history: the id that the event would have.
    pub scheduled_event_id: i64,
    pub attempt: i32,
    pub scheduled_ms: i64,
    /// When the first of the tasks was scheduled that a worker prolongs by heartbeats.
    pub original_scheduled_ms: i64,
    /// How long a worker may take. Milliseconds.
    pub timeout_ms: i64,
    /// It is offered on the sticky queue.
    pub sticky: bool,
}

/// How a task was started.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// Of a task that is not in the history: the id that the event would have.
    pub started_event_id: i64,
    pub started_ms: i64,
    pub by: Starter,
    pub history_size_bytes: i64,
    /// Why the worker should continue as new; empty: it need not.
    pub suggest_reasons: Vec<i32>,
    /// The worker has the updates up to this number; 0: it is sent all that it has not answered.
    pub updates_after: i64,
    /// The number of the last update that it is sent.
    pub last_update: i64,
}

/// The worker that took a workflow task, and by which request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Starter {
    pub identity: String,
    pub request_id: String,
    pub worker_version: Option<WorkerVersionStamp>,
}

impl Scheduled {
    /// The task that waits.
    fn task(&self) -> WorkflowTask {
        WorkflowTask {
            kind: self.kind as i32,
            scheduled_event_id: self.scheduled_event_id,
            attempt: self.attempt,
            scheduled_ms: self.scheduled_ms,
            original_scheduled_ms: self.original_scheduled_ms,
            timeout_ms: self.timeout_ms,
            sticky: self.sticky,
            for_update: kind::gives_way(self.kind),
            ..WorkflowTask::default()
        }
    }
}

impl Started {
    /// The pending task, as it is now.
    fn task(&self, pending: &WorkflowTask) -> WorkflowTask {
        WorkflowTask {
            started_event_id: self.started_event_id,
            started_ms: self.started_ms,
            identity: self.by.identity.clone(),
            request_id: self.by.request_id.clone(),
            worker_version: self.by.worker_version.clone(),
            history_size_bytes: self.history_size_bytes,
            suggest_continue_as_new: !self.suggest_reasons.is_empty(),
            suggest_reasons: self.suggest_reasons.clone(),
            updates_after: self.updates_after,
            last_update: self.last_update,
            ..pending.clone()
        }
    }
}

/// A task that has become a normal one, and is in the history by its new scheduled event.
fn normal(pending: &WorkflowTask, scheduled_event_id: i64) -> WorkflowTask {
    WorkflowTask { kind: Kind::Normal as i32, attempt: 1, scheduled_event_id, ..pending.clone() }
}

/// Folds one event in.
pub fn apply(head: &mut state::Run, event: &Event) {
    match event {
        Event::Scheduled(scheduled) => {
            head.workflow_task = Some(scheduled.task());
            head.workflow_task_attempt = scheduled.attempt;
        }
        Event::BecameNormal { scheduled_event_id } => {
            head.workflow_task = head.workflow_task.as_ref().map(|pending| normal(pending, *scheduled_event_id));
            head.workflow_task_attempt = 1;
        }
        Event::Started(started) => {
            head.workflow_task = head.workflow_task.as_ref().map(|pending| started.task(pending));
            head.last_update_sent = started.last_update;
        }
        Event::Failed { next_attempt } | Event::TimedOut { next_attempt, .. } => end(head, *next_attempt),
        Event::Completed { started_event_id, completed_event_id } => {
            end(head, 1);
            head.previous_started_event_id = *started_event_id;
            head.most_recent_completed_event_id = *completed_event_id;
        }
        // The next task may have the same event ids: it differs by the number of its last update.
        Event::Discarded => {
            end(head, 1);
            head.last_update += 1;
        }
    }
}

fn end(head: &mut state::Run, next_attempt: i32) {
    head.workflow_task = None;
    head.workflow_task_attempt = next_attempt;
}

/// What the next task has as its attempt after this one failed or took too long. While the run has a sticky queue, giving that
/// up comes first, and the next attempt is a first one again: the fault may lie in the worker's cache.
fn next_attempt(head: &state::Run, task: &WorkflowTask) -> i32 {
    if head.sticky_queue.is_empty() { task.attempt.saturating_add(1) } else { 1 }
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

/// A worker takes the pending task: exactly one start of an attempt wins. Returns whether it has to be started still; else it is
/// that worker's already.
pub fn is_to_start(task: Option<&WorkflowTask>, command: &StartWorkflowTask) -> Result<bool, Rejection> {
    let task = task.ok_or_else(not_there)?;
    let same = task.scheduled_event_id == command.scheduled_event_id && task.attempt == command.attempt;
    let is_started = is_started(task);
    if !same || is_started && task.request_id != command.request_id {
        return Err(not_there());
    }
    Ok(!is_started)
}

pub fn not_there() -> Rejection {
    Rejection::NotFound("Workflow task not found.".into())
}

/// Whether a worker works on the task.
pub fn is_started(task: &WorkflowTask) -> bool {
    task.started_event_id != 0
}

/// Whether a token names the task, as it was started.
pub fn is_named_by(task: &WorkflowTask, token: &TaskToken) -> bool {
    task.scheduled_event_id == token.scheduled_event_id
        && task.started_event_id == token.started_event_id
        && task.attempt == token.attempt
        && (token.started_ms == 0 || token.started_ms == task.started_ms)
        && token.last_update == task.last_update
}

/// How long a task that waits for a worker may do so; none: for ever. Milliseconds.
pub fn schedule_to_start_ms(head: &state::Run, task: &WorkflowTask) -> Option<i64> {
    if task.sticky && head.sticky_schedule_to_start_ms > 0 {
        Some(head.sticky_schedule_to_start_ms)
    } else {
        task.for_update.then_some(limits::SPECULATIVE_TASK_SCHEDULE_TO_START_MS)
    }
}

/// Whether an attempt before this one failed or timed out.
pub fn is_retry(task: &WorkflowTask) -> bool {
    task.attempt > 1
}

/// The task that waits for a worker, if one does.
pub fn task(head: &state::Run) -> Option<Task> {
    let task = head.workflow_task.as_ref().filter(|task| !is_started(task))?;
    let (kind, queue) = if task.sticky {
        (TaskKind::StickyWorkflow, &head.sticky_queue)
    } else {
        (TaskKind::Workflow, &head.task_queue)
    };
    Some(Task {
        kind,
        queue: queue.clone(),
        scheduled_event_id: task.scheduled_event_id,
        attempt: task.attempt,
        scheduled_ms: task.scheduled_ms,
        not_before_ms: 0,
    })
}
