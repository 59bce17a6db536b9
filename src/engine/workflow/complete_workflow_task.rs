//! `CompleteWorkflowTask`: a worker has carried out its workflow task, and the workflow commands determine what comes next.

use std::collections::BTreeSet;

use super::close::Close;
use super::deadlines::TimeoutType;
use super::event::Event;
use super::updates::{self, messages::Incoming};
use super::workflow_commands::{self, BadCommand, Completing};
use super::workflow_task::{self, Starter, TaskFailure, fail, fail_for_good};
use super::{Reply, Work};
use crate::engine::failure;
use crate::engine::rejection::Rejection;
use crate::engine::version::UPDATES;
use crate::proto::commands::{CompleteWorkflowTask, TaskToken};
use crate::proto::state;
use crate::proto::temporal::command::v1::command::Attributes as A;
use crate::proto::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use crate::proto::temporal::protocol::v1::Message;
use crate::proto::temporal::workflowservice::v1::RespondWorkflowTaskCompletedRequest as Request;
use crate::types::{limits, time::duration_ms};

pub fn decide(work: &mut Work, command: &CompleteWorkflowTask) -> Result<Reply, Rejection> {
    let request = command
        .request
        .as_ref()
        .ok_or_else(|| Rejection::InvalidArgument("the completion carries no request".into()))?;
    let task = started_task(work, command.token.as_ref())?.clone();
    if request.intermediate_page || request.page_number > 0 {
        let namespace = &work.namespace;
        return Err(Rejection::FailedPrecondition(format!(
            "workflow task completion pagination is disabled for this namespace {namespace}"
        )));
    }
    if work.head().pause.is_some() && request.force_create_new_workflow_task {
        let message = "Workflow is paused and force create new workflow task is not allowed.";
        return Err(Rejection::FailedPrecondition(message.into()));
    }
    if prolongs(request) && work.now > task.original_scheduled_ms + limits::WORKFLOW_TASK_HEARTBEAT_MS_MAX {
        workflow_task::time_out(work, TimeoutType::StartToClose);
        return Ok(Reply::WorkflowTaskTimedOut);
    }
    workflow_commands::check_sequence(&request.commands)?;
    let messages: &[Message] = if work.version < UPDATES { &[] } else { &request.messages };
    let incoming = Incoming::new(messages)?;
    let verdict = Cause::try_from(command.bad_cause).unwrap_or(Cause::Unspecified);
    let outcome = if verdict != Cause::Unspecified {
        Err(BadCommand::new(verdict, &command.bad_message))
    } else if !command.bad_search_attributes.is_empty() {
        Err(BadCommand::new(Cause::BadSearchAttributes, &command.bad_search_attributes))
    } else {
        let before = work.checkpoint();
        let outcome = carry_out(work, request, incoming, &task);
        if outcome.is_err() {
            work.roll_back(before);
        }
        outcome
    };
    match outcome {
        Ok(reply) => Ok(reply),
        // The worker keeps sending what can't be accepted: nothing new is learnt from another failure in the history.
        Err(bad) if workflow_task::is_retry(&task) && bad.cause != Cause::UnhandledCommand => {
            Err(Rejection::InvalidArgument(bad.text()))
        }
        Err(bad) if bad.terminates || command.bad_terminates => {
            work.abort_sent_updates();
            Ok(terminate(work, request, &bad))
        }
        Err(bad) => {
            let message = bad.text();
            work.abort_sent_updates();
            fail(work, failure_of(request, &bad));
            // A worker that receives this drops its copy of the run, which is ahead of the history by all that was refused.
            Ok(Reply::WorkflowTaskFailed { message })
        }
    }
}

fn failure_of<'a>(request: &'a Request, bad: &BadCommand) -> TaskFailure<'a> {
    TaskFailure {
        cause: bad.cause,
        failure: Some(failure::of_server(&bad.text(), false)),
        identity: &request.identity,
        binary_checksum: &request.binary_checksum,
    }
}

/// What a command carries is too large: another attempt would carry it again, so Temporal's server ends the run.
fn terminate(work: &mut Work, request: &Request, bad: &BadCommand) -> Reply {
    fail_for_good(work, failure_of(request, bad));
    let message = bad.text();
    work.close(Close::terminated(&message, None, "history-service"));
    Reply::WorkflowTaskFailed { message }
}

/// The started workflow task that a token names.
pub fn started_task<'a>(work: &'a Work, token: Option<&TaskToken>) -> Result<&'a state::WorkflowTask, Rejection> {
    let token = token.ok_or_else(workflow_task::not_there)?;
    let task = work.open_run(&token.run_id)?.started_task();
    task.filter(|task| workflow_task::is_named_by(task, token)).ok_or_else(workflow_task::not_there)
}

fn carry_out(
    work: &mut Work,
    request: &Request,
    mut incoming: Incoming,
    task: &state::WorkflowTask,
) -> Result<Reply, BadCommand> {
    let leaves_trace = !updates::is_without_trace(work, task, request);
    let completed_id = if leaves_trace {
        workflow_task::complete(work, task, request)
    } else {
        workflow_task::discard(work);
        0
    };
    remember_worker(work, request);
    let mut completing = Completing {
        completed_id,
        identity: &request.identity,
        task_queue: work.head().task_queue.clone(),
        eager: Vec::new(),
        children: BTreeSet::new(),
        canceled_unstarted: 0,
        user_metadata: None,
        event_group_markers: Vec::new(),
    };
    for command in &request.commands {
        if let Some(A::ProtocolMessageCommandAttributes(attributes)) = &command.attributes
            && work.version >= UPDATES
        {
            workflow_commands::receive_named(work, &mut incoming, attributes, completed_id)?;
            continue;
        }
        let closes = workflow_commands::closes(command);
        if closes {
            incoming.receive_at_close(work, completed_id)?;
        }
        workflow_commands::carry_out(work, &mut completing, command)?;
        if closes {
            return Ok(Reply::WorkflowTaskCompleted {
                run_id: String::new(),
                new_task: false,
                activities: Vec::new(),
                reset_history_event_id: 0,
            });
        }
    }
    for message in incoming.take_rest() {
        incoming.receive(work, message, completed_id)?;
    }
    if !request.force_create_new_workflow_task {
        work.reject_unanswered_updates();
    }
    workflow_commands::start_eagerly(work, &mut completing);
    let eager = completing.eager;
    if request.force_create_new_workflow_task || !work.run().buffered.is_empty() {
        // A worker can't prolong its task for ever: how long it has done so goes with the next one.
        let since_ms = if prolongs(request) { task.original_scheduled_ms } else { work.now };
        work.schedule_workflow_task_since(since_ms);
    } else if work.has_unsent_updates() {
        // They came while the worker worked on this task. Only one that it takes over at once can do without a trace.
        if request.return_new_workflow_task {
            work.schedule_speculative_workflow_task();
        } else {
            work.schedule_workflow_task_at_once();
        }
    }
    let reset_history_event_id = if leaves_trace { 0 } else { work.head().previous_started_event_id };
    let sent = if request.force_create_new_workflow_task { task.last_update } else { 0 };
    Ok(next_task(work, request, eager, sent, reset_history_event_id))
}

/// Hands the next task to the worker that requested it. `updates_after`: it has those up to this number.
fn next_task(
    work: &mut Work,
    request: &Request,
    activities: Vec<i64>,
    updates_after: i64,
    reset_history_event_id: i64,
) -> Reply {
    let pending = work.head().workflow_task.as_ref().is_some_and(|task| !workflow_task::is_started(task));
    let new_task = request.return_new_workflow_task && pending;
    if new_task {
        let by = Starter {
            identity: request.identity.clone(),
            request_id: work.ids.uuid(),
            worker_version: request.worker_version_stamp.clone(),
        };
        work.start_workflow_task(by, updates_after);
    }
    Reply::WorkflowTaskCompleted { run_id: work.head().run_id.clone(), new_task, activities, reset_history_event_id }
}

fn remember_worker(work: &mut Work, request: &Request) {
    let sticky = request.sticky_attributes.as_ref();
    let queue =
        sticky.and_then(|sticky| sticky.worker_task_queue.as_ref()).map(|queue| queue.name.clone()).unwrap_or_default();
    let schedule_to_start_ms = sticky.map_or(0, |sticky| duration_ms(sticky.schedule_to_start_timeout.as_ref()));
    if work.head().sticky_queue != queue || work.head().sticky_schedule_to_start_ms != schedule_to_start_ms {
        work.emit(Event::StickyQueueChanged { queue, schedule_to_start_ms });
    }
}

/// Whether a completion is a heartbeat of its task: the worker runs local activities, and returns nothing else yet.
fn prolongs(request: &Request) -> bool {
    request.force_create_new_workflow_task && request.commands.is_empty() && request.messages.is_empty()
}
