//! The agenda of each record of a run: when it is due next, and the task that it offers.

use super::state::{Record, is_open};
use super::workflow_task;
use crate::engine::attempts;
use crate::engine::machine::Task;
use crate::proto::state;
pub use crate::proto::temporal::enums::v1::TimeoutType;

/// The next moment, in milliseconds since the Unix epoch, at which the record must be looked at; none if it never must.
pub fn next_due(record: &Record) -> Option<i64> {
    match record {
        Record::Head(run) => run_due(run),
        Record::Activity(activity) => attempts::next_due(activity),
        Record::Timer(timer) => Some(timer.due_ms),
        Record::Properties(_)
        | Record::Start(_)
        | Record::Buffered(_)
        | Record::Child(_)
        | Record::External(_)
        | Record::Request(_)
        | Record::Update(_) => None,
    }
}

/// The task that the record offers now, if any.
pub fn task(record: &Record) -> Option<Task> {
    match record {
        Record::Head(run) => workflow_task::task(run),
        Record::Activity(activity) => attempts::task(activity),
        _ => None,
    }
}

/// Why a run's head is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunDue {
    Delete,
    ExecutionTimeout,
    FirstTask,
    TaskNotTaken,
    TaskTimeout,
}

/// Everything that a run's head waits for, with its time.
pub fn run_deadlines(run: &state::Run) -> Vec<(i64, RunDue)> {
    if !is_open(run) {
        return if run.delete_ms > 0 { vec![(run.delete_ms, RunDue::Delete)] } else { Vec::new() };
    }
    let mut due = Vec::new();
    for expiration in [run.execution_expiration_ms, run.run_expiration_ms] {
        if expiration > 0 {
            due.push((expiration, RunDue::ExecutionTimeout));
        }
    }
    if run.first_task_delayed {
        due.push((run.execution_ms, RunDue::FirstTask));
    }
    if let Some(task) = &run.workflow_task {
        if workflow_task::is_started(task) {
            due.push((task.started_ms.saturating_add(task.timeout_ms), RunDue::TaskTimeout));
        } else if let Some(timeout_ms) = workflow_task::schedule_to_start_ms(run, task) {
            due.push((task.scheduled_ms.saturating_add(timeout_ms), RunDue::TaskNotTaken));
        }
    }
    due
}

fn run_due(run: &state::Run) -> Option<i64> {
    run_deadlines(run).into_iter().map(|(due, _)| due).min()
}
