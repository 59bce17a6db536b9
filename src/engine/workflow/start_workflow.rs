//! `StartWorkflow`: begins a workflow, or finds the one that runs, by the conflict and reuse policies.

use prost::Message;

use super::close::Close;
use super::history::event;
use super::new_run::{self, NewRun};
use super::state::Run;
use super::workflow_task::{self, Starter};
use super::{Reply, Work};
use crate::engine::cron;
use crate::engine::histories::Needed;
use crate::engine::kinds::Kind;
use crate::engine::payload::json_text;
use crate::engine::rejection::Rejection;
use crate::engine::retry;
use crate::proto::commands::{Callback, InitiatedToken, Parent, StartWorkflow, Started as HasStarted, notify::Outcome};
use crate::proto::state;
use crate::proto::temporal::common::v1::WorkflowExecution;
use crate::proto::temporal::enums::v1::{
    ContinueAsNewInitiator, EventType, WorkflowExecutionStatus as Status, WorkflowIdConflictPolicy as Conflict,
    WorkflowIdReusePolicy as Reuse,
};
use crate::proto::temporal::history::v1::{
    WorkflowExecutionOptionsUpdatedEventAttributes, WorkflowExecutionStartedEventAttributes as Started,
    history_event::Attributes,
};
use crate::proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest as Request;
use crate::types::time::{duration, duration_ms};

/// What stands at the workflow id when a start arrives.
pub enum Found {
    /// Nothing in the way of a run of this id.
    Free { run_id: String },
    /// The run that the caller gets: its own earlier request's, or the one that the policy lets it use.
    Existing { run_id: String, started: bool },
}

pub fn decide(work: &mut Work, command: &StartWorkflow) -> Result<Reply, Rejection> {
    let request =
        command.request.as_ref().ok_or_else(|| Rejection::InvalidArgument("the start carries no request".into()))?;
    if command.parent.as_ref().is_some_and(|parent| is_child(work.head(), parent)) && notify_again(work, request) {
        return Ok(Reply::Done);
    }
    let is_awaited = work.callback.is_some();
    match clear_the_way(work, request)? {
        // What an earlier copy of this command has started: its sender is notified again, and takes it once.
        Found::Existing { started: true, .. } if is_awaited => {
            work.notify_started(request);
            Ok(Reply::Done)
        }
        Found::Existing { run_id, .. } if is_awaited => {
            Err(Rejection::FailedPrecondition(format!("another start has begun run {run_id} of the workflow")))
        }
        Found::Existing { run_id, started } => {
            // The answer to the first copy may have been lost, and with it the task that no other worker gets.
            let first = work.run().started_task().is_some_and(|task| {
                task.started_event_id == 3 && workflow_task::is_in_history_from_the_start(task.kind())
            });
            let eager_task = started && request.request_eager_execution && first;
            Ok(Reply::Started { run_id, started, eager_task })
        }
        Found::Free { run_id } => {
            let run_id = begin(work, run_id, request, command)?;
            if is_awaited {
                work.notify_started(request);
                return Ok(Reply::Done);
            }
            let eager_task = request.request_eager_execution && work.head().workflow_task.is_some();
            if eager_task {
                let by = Starter {
                    identity: request.identity.clone(),
                    request_id: request.request_id.clone(),
                    worker_version: None,
                };
                work.start_workflow_task(by, 0);
            }
            Ok(Reply::Started { run_id, started: true, eager_task })
        }
    }
}

/// Whether a run is the child that a parent, which was reset, asks for again.
fn is_child(head: &state::Run, parent: &Parent) -> bool {
    let of_parent = |known: &WorkflowExecution| {
        let workflow_id = parent.execution.as_ref().map(|parent| &parent.workflow_id);
        Some(&known.workflow_id) == workflow_id && parent.reset_from.contains(&known.run_id)
    };
    head.parent_namespace_id == parent.namespace_id
        && head.parent_initiated_event_id == parent.initiated_event_id
        && head.parent.as_ref().is_some_and(of_parent)
}

/// What is read of the history of a child that a parent asks for again, if it is closed: how it ended.
pub fn needed_history(newest: &Run, command: &StartWorkflow) -> Option<Needed> {
    let head = &newest.head;
    let is_needed = !newest.is_open() && is_child(head, command.parent.as_ref()?);
    is_needed.then(|| Needed {
        run_id: head.run_id.clone(),
        from: head.close_event_id,
        to: head.close_event_id,
        ..Needed::default()
    })
}

/// Notifies a parent again of its child: that it has started, and how it ended. False: its history is gone.
fn notify_again(work: &mut Work, request: &Request) -> bool {
    let close = work.take_histories().into_runs().into_iter().flatten().next();
    if !work.run().is_open() && close.is_none() {
        return false;
    }
    let Some(callback) = work.callback.take() else { return false };
    let first_run_id = work.head().first_run_id.clone();
    work.notify(&callback, &first_run_id, Outcome::Started(HasStarted { header: request.header.clone() }));
    if let Some(close) = close {
        work.notify_closed(&callback, &close);
    }
    true
}

/// The callback of what the present run requests in an event.
pub fn initiated_here(work: &Work, initiated_event_id: i64) -> Callback {
    let token = InitiatedToken { run_id: work.head().run_id.clone(), initiated_event_id };
    work.callback_to_this(token.encode_to_vec())
}

pub fn callback_to_parent(
    namespace_id: &str,
    namespace: &str,
    parent: &WorkflowExecution,
    initiated_event_id: i64,
) -> Callback {
    Callback {
        kind: Kind::Workflow as u32,
        namespace_id: namespace_id.to_owned(),
        namespace: namespace.to_owned(),
        id: parent.workflow_id.clone(),
        token: InitiatedToken { run_id: parent.run_id.clone(), initiated_event_id }.encode_to_vec().into(),
    }
}

/// Applies the policies to what stands at the id: refuses, finds a run to use, or terminates the one that runs.
pub fn clear_the_way(work: &mut Work, request: &Request) -> Result<Found, Rejection> {
    let run_id = work.new_run_id();
    let head = work.head();
    if head.run_id.is_empty() {
        return Ok(Found::Free { run_id });
    }
    let existing = |started| Found::Existing { run_id: head.run_id.clone(), started };
    if !request.request_id.is_empty() && head.create_request_id == request.request_id {
        return Ok(existing(true));
    }
    if work.run().requests.get(&request.request_id).is_some_and(|seen| seen.event_type != 0) {
        return Ok(existing(false));
    }
    let taken = |message: &str, policy: &str| Rejection::AlreadyStarted {
        message: format!("{message} WorkflowId: {}, RunId: {}.{policy}", head.workflow_id, head.run_id),
        start_request_id: head.create_request_id.clone(),
        run_id: head.run_id.clone(),
        first_run_id: head.first_run_id.clone(),
    };
    let reuse = request.workflow_id_reuse_policy();
    if work.run().is_open() {
        let terminate_if_running = Reuse::TerminateIfRunning;
        let conflict = if reuse == terminate_if_running {
            Conflict::TerminateExisting
        } else {
            request.workflow_id_conflict_policy()
        };
        return match conflict {
            Conflict::UseExisting => {
                let found = existing(false);
                attach(work, request);
                Ok(found)
            }
            Conflict::TerminateExisting => {
                let details = json_text(&format!("terminated by new runID: {run_id}"));
                let reason = "TerminateIfRunning WorkflowIdReusePolicy";
                work.close(Close::terminated(reason, Some(details), "history-service"));
                work.next_run();
                Ok(Found::Free { run_id })
            }
            Conflict::Unspecified | Conflict::Fail => Err(taken("Workflow execution is already running.", "")),
        };
    }
    match reuse {
        Reuse::RejectDuplicate => {
            let policy = " Workflow Id reuse policy: reject duplicate workflow Id.";
            Err(taken("Workflow execution already finished.", policy))
        }
        Reuse::AllowDuplicateFailedOnly if work.run().status() == Status::Completed => {
            let policy = " Workflow Id reuse policy: allow duplicate workflow Id if last run failed.";
            Err(taken("Workflow execution already finished successfully.", policy))
        }
        _ => {
            work.next_run();
            Ok(Found::Free { run_id })
        }
    }
}

/// Attaches to the present run what the request requires.
fn attach(work: &mut Work, request: &Request) {
    let Some(options) = &request.on_conflict_options else { return };
    let mut attributes = WorkflowExecutionOptionsUpdatedEventAttributes::default();
    if options.attach_request_id {
        attributes.attached_request_id.clone_from(&request.request_id);
    }
    if options.attach_completion_callbacks {
        attributes.attached_completion_callbacks.clone_from(&request.completion_callbacks);
    }
    let mut updated = event(
        EventType::WorkflowExecutionOptionsUpdated,
        Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(attributes),
    );
    if options.attach_links {
        updated.links.clone_from(&request.links);
    }
    work.record_external(updated);
}

/// Begins a run by a request, and returns its id.
fn begin(work: &mut Work, run_id: String, request: &Request, command: &StartWorkflow) -> Result<String, Rejection> {
    let mut new = new_run(work, run_id, request, command.parent.as_ref(), command.root.clone())?;
    // A parent's follows from what the run knows of the parent.
    new.callback = work.callback.clone().filter(|_| command.parent.is_none());
    let run_id = new.run_id.clone();
    work.begin_run(new);
    work.schedule_workflow_task();
    Ok(run_id)
}

/// Begins a run that receives something before its first workflow task is scheduled.
pub fn begin_with(
    work: &mut Work,
    run_id: String,
    request: &Request,
    receive: impl FnOnce(&mut Work) -> Result<(), Rejection>,
) -> Result<String, Rejection> {
    let mut new = new_run(work, run_id, request, None, None)?;
    new.callback.clone_from(&work.callback);
    let run_id = new.run_id.clone();
    work.begin_run(new);
    receive(work)?;
    work.schedule_workflow_task();
    work.notify_started(request);
    Ok(run_id)
}

impl Work {
    /// Notifies whoever waits for what becomes of a start.
    fn notify_started(&mut self, request: &Request) {
        self.notify_sender(Outcome::Started(HasStarted { header: request.header.clone() }));
    }
}

fn new_run(
    work: &Work,
    run_id: String,
    request: &Request,
    parent: Option<&Parent>,
    root: Option<WorkflowExecution>,
) -> Result<NewRun, Rejection> {
    let mut started = Started {
        workflow_type: request.workflow_type.clone(),
        task_queue: request.task_queue.clone(),
        input: request.input.clone(),
        workflow_execution_timeout: request.workflow_execution_timeout,
        workflow_run_timeout: request.workflow_run_timeout,
        workflow_task_timeout: request.workflow_task_timeout,
        identity: request.identity.clone(),
        retry_policy: request.retry_policy.clone().map(|policy| retry::with_defaults(Some(policy))),
        cron_schedule: request.cron_schedule.clone(),
        memo: request.memo.clone(),
        search_attributes: request.search_attributes.clone(),
        header: request.header.clone(),
        priority: request.priority.clone(),
        continued_failure: request.continued_failure.clone(),
        last_completion_result: request.last_completion_result.clone(),
        eager_execution_accepted: request.request_eager_execution
            && request.cron_schedule.is_empty()
            && duration_ms(request.workflow_start_delay.as_ref()) == 0,
        root_workflow_execution: root,
        ..Started::default()
    };
    if let Some(parent) = parent {
        started.parent_workflow_namespace.clone_from(&parent.namespace);
        started.parent_workflow_namespace_id.clone_from(&parent.namespace_id);
        started.parent_workflow_execution.clone_from(&parent.execution);
        started.parent_initiated_event_id = parent.initiated_event_id;
    }
    let mut backoff_ms = duration_ms(request.workflow_start_delay.as_ref());
    if !request.cron_schedule.is_empty() {
        if let Some(problem) = cron::problem(&request.cron_schedule, work.now) {
            return Err(Rejection::InvalidArgument(problem));
        }
        backoff_ms = cron::delay_ms(&request.cron_schedule, work.now, work.now).unwrap_or_default();
        started.initiator = ContinueAsNewInitiator::CronSchedule as i32;
    }
    started.first_workflow_task_backoff = Some(duration(backoff_ms));
    let asked_ms = duration_ms(started.workflow_run_timeout.as_ref());
    let run_ms = new_run::run_timeout_ms(asked_ms, duration_ms(started.workflow_execution_timeout.as_ref()));
    if run_ms != asked_ms {
        started.workflow_run_timeout = Some(duration(run_ms));
    }
    new_run::defaults(&mut started, &work.entity.id.clone(), &run_id);
    Ok(NewRun {
        run_id,
        started,
        create_request_id: request.request_id.clone(),
        user_metadata: request.user_metadata.clone(),
        links: request.links.clone(),
        callback: None,
    })
}
