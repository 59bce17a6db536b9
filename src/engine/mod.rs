//! The engine: decides commands against one workflow's state. Pure: no I/O, clock, async, locks, logging or hash-order
//! iteration. All that a decision needs from outside rides in the command.
//!
//! [`decide`] works on a copy and emits [`Event`]s; [`Run::apply`] folds them, and is the only thing that changes a run. A
//! refused command ([`Rejection`]) leaves nothing behind. What must happen outside is derived from the outcome: replies,
//! sends, and, by [`due`], timers and tasks.
//!
//! One file per command; [`workflow_commands`] has those that workflow code issues.

// Temporal has deprecated fields that its server goes on writing, and clients reading: so do we.
#![allow(deprecated)]

mod activity;
pub mod build_ids;
mod cancel_activity;
mod close;
mod complete_activity;
mod complete_workflow_task;
mod cron;
mod decision;
pub mod due;
mod event;
mod external;
mod external_payloads;
mod fail_activity;
mod fail_workflow_task;
pub mod failure;
mod fire_timer;
mod heartbeat_activity;
mod history;
mod namespace;
mod new_run;
mod nothing;
mod payload;
pub mod priority;
mod rejection;
mod request_cancel_workflow;
mod reset_sticky_task_queue;
mod resolve_child;
mod resolve_external;
mod retry;
mod return_task;
mod search_attributes;
mod signal_workflow;
mod start_activity_task;
mod start_workflow;
mod start_workflow_task;
mod state;
mod state_size;
mod terminate_workflow;
mod version;
mod workflow_commands;
mod workflow_task;

#[cfg(test)]
mod tests;

pub use cron::Schedule as CronSchedule;
pub use decision::{Loaded, Outcome, Reply, RunOutcome, Send, transient_events};
pub use event::Event;
pub use history::close_status;
pub use namespace::{decide as decide_namespace, decide_update as decide_namespace_update};
pub use rejection::Rejection;
pub use retry::problem as retry_policy_problem;
pub use search_attributes::{
    TYPES as SEARCH_ATTRIBUTE_TYPES, decide as decide_search_attributes, type_name as search_attribute_type_name,
    type_of_field,
};
pub use state::{Record, Run, SubKey};
pub use version::{FOLD_VERSION_MAX, FOLD_VERSION_MIN, LIBRARIES};
pub use workflow_commands::search_attributes_problem;

use crate::proto::commands::{Command, command::Body};
use crate::types::limits;
use close::Close;
use decision::Working;

/// The run that a command names, which may be older than the newest: it is to be loaded too.
pub fn named_run(command: &Command) -> Option<&str> {
    let target = match command.body.as_ref()? {
        Body::SignalWorkflow(c) => c.request.as_ref()?.workflow_execution.as_ref(),
        Body::RequestCancelWorkflow(c) => c.request.as_ref()?.workflow_execution.as_ref(),
        Body::TerminateWorkflow(c) => c.request.as_ref()?.workflow_execution.as_ref(),
        _ => None,
    };
    target.map(|target| target.run_id.as_str()).filter(|run_id| !run_id.is_empty())
}

/// Decides one command against what is loaded of its workflow, which is the newest run alone for most of them, at `now`, in
/// milliseconds since the Unix epoch, by a version of the fold from [`FOLD_VERSION_MIN`] to [`FOLD_VERSION_MAX`].
pub fn decide<'a>(
    loaded: impl Into<Loaded<'a>>,
    command: &Command,
    now: i64,
    version: u32,
) -> Result<Outcome, Rejection> {
    if command.deadline_ms > 0 && now > command.deadline_ms {
        return Err(Rejection::DeadlineExceeded);
    }
    let loaded = loaded.into();
    let mut work = Working::new(loaded, command, now, version);
    let Some(body) = &command.body else { return Err(without_body(&work)) };
    let reply = dispatch(&mut work, body)?;
    workflow_task::make_room_for_buffered(&mut work);
    end_if_too_long(&mut work);
    state_size::limit(work.finish(reply, loaded.newest), loaded.newest, command, now, version)
}

/// What another workflow is told whose request is refused as a whole, in place of what it would have led to: it waits for an
/// answer. `None`: no workflow waits for one.
pub fn refuse<'a>(
    loaded: impl Into<Loaded<'a>>,
    command: &Command,
    now: i64,
    version: u32,
    refusal: &Rejection,
) -> Option<Outcome> {
    let loaded = loaded.into();
    let mut work = Working::new(loaded, command, now, version);
    answer_sender(&mut work, command, refusal).then(|| work.finish(Reply::Done, loaded.newest))
}

/// Answers the workflow that sent a command, if one did that waits for an answer.
fn answer_sender(work: &mut Working, command: &Command, refusal: &Rejection) -> bool {
    match &command.body {
        Some(Body::SignalWorkflow(c)) => signal_workflow::answer_sender(work, c, Some(refusal)),
        // One that has terminated the run, as its state became too large, has left nothing to cancel. One that is set aside has
        // not been carried out.
        Some(Body::RequestCancelWorkflow(c)) => {
            request_cancel_workflow::answer_sender(work, c, matches!(refusal, Rejection::Poison(_)))
        }
        Some(Body::StartWorkflow(c)) if c.parent.is_some() => {
            start_workflow::answer_parent(work, c, Err(refusal.clone()));
            true
        }
        _ => false,
    }
}

/// Of a kind that no node knew when it was appended: such commands are not sent, so something is wrong.
fn without_body(work: &Working) -> Rejection {
    if work.version >= version::BODIES_SET_ASIDE {
        Rejection::Poison("the command is of no kind that is known".into())
    } else {
        Rejection::InvalidArgument("the command has no body that this version knows".into())
    }
}

fn dispatch(work: &mut Working, body: &Body) -> Result<Reply, Rejection> {
    match body {
        Body::StartWorkflow(c) => start_workflow::decide(work, c),
        Body::SignalWorkflow(c) => signal_workflow::decide(work, c),
        Body::SignalWithStartWorkflow(c) => signal_workflow::decide_with_start(work, c),
        Body::RequestCancelWorkflow(c) => request_cancel_workflow::decide(work, c),
        Body::TerminateWorkflow(c) => terminate_workflow::decide(work, c),
        Body::StartWorkflowTask(c) => start_workflow_task::decide(work, c),
        Body::CompleteWorkflowTask(c) => complete_workflow_task::decide(work, c),
        Body::FailWorkflowTask(c) => fail_workflow_task::decide(work, c),
        Body::ReturnTask(c) => return_task::decide(work, c),
        Body::ResetStickyTaskQueue(c) => reset_sticky_task_queue::decide(work, c),
        Body::StartActivityTask(c) => start_activity_task::decide(work, c),
        Body::CompleteActivity(c) => complete_activity::decide(work, c),
        Body::FailActivity(c) => fail_activity::decide(work, c),
        Body::CancelActivity(c) => cancel_activity::decide(work, c),
        Body::HeartbeatActivity(c) => heartbeat_activity::decide(work, c),
        Body::FireTimer(c) => fire_timer::decide(work, c),
        Body::ResolveChildStart(c) => resolve_child::decide_start(work, c),
        Body::ResolveChildClose(c) => resolve_child::decide_close(work, c),
        Body::ResolveExternalSignal(c) => resolve_external::decide_signal(work, c),
        Body::ResolveExternalCancel(c) => resolve_external::decide_cancel(work, c),
        Body::DeleteWorkflow(_)
        | Body::PutNamespace(_)
        | Body::ChangeSearchAttributes(_)
        | Body::UpdateNamespace(_)
        | Body::RejectRequest(_)
        | Body::SetFoldVersion(_)
        | Body::Barrier(_) => Err(Rejection::InvalidArgument("the command is not one to a workflow's runs".into())),
    }
}

/// A run whose history has outgrown the limits is ended, rather than slow everything down.
fn end_if_too_long(work: &mut Working) {
    let head = work.head();
    if !work.run().is_open() {
        return;
    }
    if head.next_event_id - 1 > limits::HISTORY_COUNT_MAX {
        work.close(Close::terminated("Workflow history count exceeds limit.", None, "history-service"));
    } else if head.history_size_bytes > limits::HISTORY_SIZE_MAX {
        work.close(Close::terminated("Workflow history size exceeds limit.", None, "history-service"));
    }
}
