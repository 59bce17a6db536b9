//! `SignalWorkflow` and `SignalWithStartWorkflow`: a message to a running workflow, which is started first if need be.

use super::event::Event;
use super::history::event;
use super::start_workflow::{self, Found};
use super::state::Run;
use super::target::{self, Target};
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::{External, SignalWithStartWorkflow, SignalWorkflow};
use crate::proto::temporal::common::v1::{Header, Link, Payloads, WorkflowExecution};
use crate::proto::temporal::enums::v1::{
    EventType, WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse,
};
use crate::proto::temporal::history::v1::{
    HistoryEvent, WorkflowExecutionSignaledEventAttributes, history_event::Attributes,
};
use crate::types::limits;

/// A signal to the present run.
struct Signal<'a> {
    name: &'a str,
    input: Option<&'a Payloads>,
    identity: &'a str,
    request_id: &'a str,
    header: Option<&'a Header>,
    links: &'a [Link],
    from: Option<&'a WorkflowExecution>,
}

pub fn decide(work: &mut Work, command: &SignalWorkflow) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let target = request.workflow_execution.clone().unwrap_or_default();
    let from = command.external.as_ref().and_then(|external| external.execution.as_ref());
    let signal = Signal {
        name: &request.signal_name,
        input: request.input.as_ref(),
        identity: &request.identity,
        request_id: &request.request_id,
        header: request.header.as_ref(),
        links: &request.links,
        from,
    };
    target::refuse_itself(work)?;
    signal_target(work, &target.run_id, command.external.as_ref(), &signal)?;
    Ok(Reply::Done)
}

/// A signal that the run has received is not added again, and its repetition succeeds even once the run is closed: that signal
/// may have ended it.
fn signal_target(work: &mut Work, run_id: &str, external: Option<&External>, signal: &Signal) -> Result<(), Rejection> {
    let run = Target::of_external(run_id, external).find(work)?;
    if has_had(run, signal.request_id) {
        return Ok(());
    }
    if !run.is_open() {
        return Err(Rejection::workflow_closed());
    }
    receive(work, signal)?;
    work.schedule_workflow_task();
    Ok(())
}

fn has_had(run: &Run, request_id: &str) -> bool {
    !request_id.is_empty() && run.requests.get(request_id).is_some_and(|request| request.event_type == 0)
}

pub fn decide_with_start(work: &mut Work, command: &SignalWithStartWorkflow) -> Result<Reply, Rejection> {
    let start = command.start.clone().unwrap_or_default();
    let signal = Signal {
        name: &command.signal_name,
        input: command.signal_input.as_ref(),
        identity: &start.identity,
        request_id: &start.request_id,
        header: start.header.as_ref(),
        links: &start.links,
        from: None,
    };
    if start.workflow_id_conflict_policy() == Conflict::Fail {
        let message =
            "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported for this operation.";
        return Err(Rejection::InvalidArgument(message.into()));
    }
    if has_had(work.run(), signal.request_id) {
        let head = work.head();
        let started = head.create_request_id == start.request_id;
        return Ok(Reply::Started { run_id: head.run_id.clone(), started, eager_task: false });
    }
    let makes_way = start.workflow_id_conflict_policy() == Conflict::TerminateExisting
        || start.workflow_id_reuse_policy() == Reuse::TerminateIfRunning;
    if work.run().is_open() && !makes_way {
        let run_id = work.head().run_id.clone();
        let started = work.head().create_request_id == start.request_id;
        receive(work, &signal)?;
        work.schedule_workflow_task_at_once();
        return Ok(Reply::Started { run_id, started, eager_task: false });
    }
    match start_workflow::clear_the_way(work, &start)? {
        // The request was seen before, and its run has ended since.
        Found::Existing { run_id, started } => Ok(Reply::Started { run_id, started, eager_task: false }),
        Found::Free { run_id } => {
            // The signal stands before the first workflow task, so that the first task sees it.
            let run_id = start_workflow::begin_with(work, run_id, &start, |work| receive(work, &signal))?;
            Ok(Reply::Started { run_id, started: true, eager_task: false })
        }
    }
}

fn receive(work: &mut Work, signal: &Signal) -> Result<(), Rejection> {
    let is_signal = |event: &HistoryEvent| event.event_type == EventType::WorkflowExecutionSignaled as i32;
    let buffered = work.run().buffered.values().filter(|event| is_signal(event)).count() as i64;
    if work.head().signal_count + buffered >= limits::SIGNALS_MAX {
        return Err(Rejection::InvalidArgument("exceeded workflow execution limit for signal events".into()));
    }
    let attributes = WorkflowExecutionSignaledEventAttributes {
        signal_name: signal.name.to_owned(),
        input: signal.input.cloned(),
        identity: signal.identity.to_owned(),
        header: signal.header.cloned(),
        external_workflow_execution: signal.from.cloned(),
        request_id: signal.request_id.to_owned(),
        ..WorkflowExecutionSignaledEventAttributes::default()
    };
    let mut signaled =
        event(EventType::WorkflowExecutionSignaled, Attributes::WorkflowExecutionSignaledEventAttributes(attributes));
    signaled.links = signal.links.to_vec();
    work.record_external(signaled);
    if !signal.request_id.is_empty() {
        let now_ms = work.now;
        work.emit(Event::RequestSeen { request_id: signal.request_id.to_owned(), now_ms });
    }
    Ok(())
}
