//! `SignalWorkflow` and `SignalWithStartWorkflow`: a message to a running workflow, which is started first if need be.

use super::decision::{Reply, Working};
use super::event::Event;
use super::external;
use super::history::event;
use super::rejection::Rejection;
use super::start_workflow::{self, Found};
use crate::proto::commands::{External, SignalWithStartWorkflow, SignalWorkflow, command::Body};
use crate::proto::temporal::common::v1::{Header, Link, Payloads, WorkflowExecution};
use crate::proto::temporal::enums::v1::{EventType, SignalExternalWorkflowExecutionFailedCause as Cause};
use crate::proto::temporal::history::v1::{WorkflowExecutionSignaledEventAttributes, history_event::Attributes};
use crate::proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;
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

pub fn decide(work: &mut Working, command: &SignalWorkflow) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let target = request.workflow_execution.clone().unwrap_or_default();
    let from = command.external.as_ref().and_then(|external| external.execution.as_ref());
    let outcome = external::target_run(work, &target.run_id, command.external.as_ref()).and_then(|()| {
        let signal = Signal {
            name: &request.signal_name,
            input: request.input.as_ref(),
            identity: &request.identity,
            request_id: &request.request_id,
            header: request.header.as_ref(),
            links: &request.links,
            from,
        };
        receive(work, &signal)
    });
    match &command.external {
        None => outcome.map(|()| Reply::Done),
        Some(external) => {
            let cause = match &outcome {
                Ok(()) => Cause::Unspecified,
                Err(Rejection::ResourceExhausted(_)) => Cause::SignalCountLimitExceeded,
                Err(_) => Cause::ExternalWorkflowExecutionNotFound,
            };
            answer(work, external, &target, cause);
            Ok(Reply::Done)
        }
    }
}

pub fn decide_with_start(work: &mut Working, command: &SignalWithStartWorkflow) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let signal = Signal {
        name: &request.signal_name,
        input: request.signal_input.as_ref(),
        identity: &request.identity,
        request_id: &request.request_id,
        header: request.header.as_ref(),
        links: &request.links,
        from: None,
    };
    if work.run().is_open() && request.workflow_id_conflict_policy != 3 && request.workflow_id_reuse_policy != 4 {
        let run_id = work.head().run_id.clone();
        let started = work.head().create_request_id == request.request_id;
        receive(work, &signal)?;
        return Ok(Reply::Started { run_id, started, eager_task: false });
    }
    let start = StartWorkflowExecutionRequest {
        namespace: request.namespace.clone(),
        workflow_id: request.workflow_id.clone(),
        workflow_type: request.workflow_type.clone(),
        task_queue: request.task_queue.clone(),
        input: request.input.clone(),
        workflow_execution_timeout: request.workflow_execution_timeout,
        workflow_run_timeout: request.workflow_run_timeout,
        workflow_task_timeout: request.workflow_task_timeout,
        identity: request.identity.clone(),
        request_id: request.request_id.clone(),
        workflow_id_reuse_policy: request.workflow_id_reuse_policy,
        workflow_id_conflict_policy: request.workflow_id_conflict_policy,
        retry_policy: request.retry_policy.clone(),
        cron_schedule: request.cron_schedule.clone(),
        memo: request.memo.clone(),
        search_attributes: request.search_attributes.clone(),
        header: request.header.clone(),
        workflow_start_delay: request.workflow_start_delay,
        user_metadata: request.user_metadata.clone(),
        priority: request.priority.clone(),
        links: request.links.clone(),
        ..StartWorkflowExecutionRequest::default()
    };
    match start_workflow::clear_the_way(work, &start)? {
        // The request was seen before, and its run has ended since.
        Found::Existing { run_id, started } => Ok(Reply::Started { run_id, started, eager_task: false }),
        Found::Free => {
            // The signal stands before the first workflow task, so that the first task sees it.
            let run_id = start_workflow::begin_signaled(work, &start, |work| receive(work, &signal))?;
            Ok(Reply::Started { run_id, started: true, eager_task: false })
        }
    }
}

fn receive(work: &mut Working, signal: &Signal) -> Result<(), Rejection> {
    if !signal.request_id.is_empty() && work.run().requests.contains_key(signal.request_id) {
        return Ok(());
    }
    if work.head().signal_count + work.head().buffered.len() as i64 >= limits::SIGNALS_MAX {
        return Err(Rejection::ResourceExhausted(format!("exceeded workflow execution limit for signal events: {}", limits::SIGNALS_MAX)));
    }
    let attributes = WorkflowExecutionSignaledEventAttributes {
        signal_name: signal.name.to_owned(),
        input: signal.input.cloned(),
        identity: signal.identity.to_owned(),
        header: Some(signal.header.cloned().unwrap_or_default()),
        external_workflow_execution: signal.from.cloned(),
        request_id: String::new(),
        ..WorkflowExecutionSignaledEventAttributes::default()
    };
    let mut signaled = event(EventType::WorkflowExecutionSignaled, Attributes::WorkflowExecutionSignaledEventAttributes(attributes));
    signaled.links = signal.links.to_vec();
    work.record_external(signaled);
    if !signal.request_id.is_empty() {
        let now_ms = work.now;
        work.emit(Event::RequestSeen { request_id: signal.request_id.to_owned(), now_ms });
    }
    work.schedule_workflow_task();
    Ok(())
}

fn answer(work: &mut Working, external: &External, target: &WorkflowExecution, cause: Cause) {
    let body = Body::ResolveExternalSignal(crate::proto::commands::ResolveExternalSignal {
        run_id: external.execution.clone().unwrap_or_default().run_id,
        initiated_event_id: external.initiated_event_id,
        execution: Some(target.clone()),
        cause: cause as i32,
    });
    external::reply(work, external, body);
}
