//! Signals to, and cancellations of, other workflows.

use super::check::Check;
use super::{BadCommand, Completing};
use crate::engine::EntityId;
use crate::engine::version::UPDATES;
use crate::engine::workflow::Work;
use crate::engine::workflow::start_workflow::initiated_here;
use crate::proto::commands::{External, RequestCancelWorkflow, SignalWorkflow, command::Body};
use crate::proto::temporal::command::v1::{
    RequestCancelExternalWorkflowExecutionCommandAttributes as RequestCancel,
    SignalExternalWorkflowExecutionCommandAttributes as Signal,
};
use crate::proto::temporal::common::v1::WorkflowExecution;
use crate::proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    RequestCancelExternalWorkflowExecutionInitiatedEventAttributes as CancelInitiated,
    SignalExternalWorkflowExecutionInitiatedEventAttributes as SignalInitiated, history_event::Attributes,
};
use crate::proto::temporal::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
};
use crate::types::{IdSource, limits};

pub fn request_cancel(work: &mut Work, completing: &Completing, command: &RequestCancel) -> Result<(), BadCommand> {
    let (id, run_id, namespace) = (&command.workflow_id, &command.run_id, &command.namespace);
    let check = Check {
        cause: Cause::BadRequestCancelExternalWorkflowExecutionAttributes,
        command: "RequestCancelExternalWorkflowExecutionCommand",
        named: format!(" WorkflowId={id} RunId={run_id} Namespace={namespace}"),
    };
    check_namespace(work, check.cause, namespace)?;
    check.required("WorkflowId", id)?;
    check.length("WorkflowId", id)?;
    check.run_id(run_id)?;
    if completing.children.contains(id) {
        return Err(check.bad(format!(
            "Start and RequestCancel for child workflow is not allowed in same workflow task.{}",
            check.named
        )));
    }
    check_pending(work, Cause::PendingRequestCancelLimitExceeded, true)?;
    let target = WorkflowExecution { workflow_id: command.workflow_id.clone(), run_id: command.run_id.clone() };
    let attributes = CancelInitiated {
        workflow_task_completed_event_id: completing.completed_id,
        namespace: work.namespace.clone(),
        namespace_id: work.entity.namespace_id.to_string(),
        workflow_execution: Some(target),
        control: command.control.clone(),
        child_workflow_only: command.child_workflow_only,
        reason: command.reason.clone(),
    };
    let kind = EventType::RequestCancelExternalWorkflowExecutionInitiated;
    let initiated_event_id =
        work.record(completing.event(
            kind,
            Attributes::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(attributes.clone()),
        ));
    send_cancel(work, initiated_event_id, &attributes);
    Ok(())
}

pub fn signal(work: &mut Work, completing: &Completing, command: &Signal) -> Result<(), BadCommand> {
    let target = command.execution.clone().unwrap_or_default();
    let check = Check {
        cause: Cause::BadSignalWorkflowExecutionAttributes,
        command: "SignalExternalWorkflowExecutionCommand",
        named: format!(
            " WorkflowId={} Namespace={} RunId={} SignalName={}",
            target.workflow_id, command.namespace, target.run_id, command.signal_name
        ),
    };
    if command.execution.is_none() {
        return Err(check.bad(format!("Execution is not set on {}.", check.command)));
    }
    check_namespace(work, check.cause, &command.namespace)?;
    check.required("WorkflowId", &target.workflow_id)?;
    check.length("WorkflowId", &target.workflow_id)?;
    check.run_id(&target.run_id)?;
    check.required("SignalName", &command.signal_name)?;
    check_pending(work, Cause::PendingSignalsLimitExceeded, false)?;
    let attributes = SignalInitiated {
        workflow_task_completed_event_id: completing.completed_id,
        namespace: work.namespace.clone(),
        namespace_id: work.entity.namespace_id.to_string(),
        workflow_execution: Some(target),
        signal_name: command.signal_name.clone(),
        input: command.input.clone(),
        control: command.control.clone(),
        child_workflow_only: command.child_workflow_only,
        header: command.header.clone(),
    };
    let kind = EventType::SignalExternalWorkflowExecutionInitiated;
    let initiated_event_id = work.record(
        completing.event(kind, Attributes::SignalExternalWorkflowExecutionInitiatedEventAttributes(attributes.clone())),
    );
    send_signal(work, initiated_event_id, &attributes);
    Ok(())
}

/// Sends the request to cancel another workflow that an event has initiated, of this run or of one whose history it began with.
pub fn send_cancel(work: &mut Work, initiated_event_id: i64, initiated: &CancelInitiated) {
    let target = initiated.workflow_execution.clone().unwrap_or_default();
    let request = RequestCancelWorkflowExecutionRequest {
        namespace: work.namespace.clone(),
        workflow_execution: Some(target.clone()),
        identity: "history-service".into(),
        request_id: request_id(work, initiated_event_id),
        reason: initiated.reason.clone(),
        ..RequestCancelWorkflowExecutionRequest::default()
    };
    let external = Some(this(work, initiated_event_id, initiated.child_workflow_only));
    let cancel = RequestCancelWorkflow { request: Some(request), external, ..RequestCancelWorkflow::default() };
    deliver(work, initiated_event_id, &target.workflow_id, Body::RequestCancelWorkflow(cancel));
}

/// The same of a signal.
pub fn send_signal(work: &mut Work, initiated_event_id: i64, initiated: &SignalInitiated) {
    let target = initiated.workflow_execution.clone().unwrap_or_default();
    let request = SignalWorkflowExecutionRequest {
        namespace: work.namespace.clone(),
        workflow_execution: Some(target.clone()),
        signal_name: initiated.signal_name.clone(),
        input: initiated.input.clone(),
        identity: "history-service".into(),
        request_id: request_id(work, initiated_event_id),
        header: initiated.header.clone(),
        ..SignalWorkflowExecutionRequest::default()
    };
    let external = Some(this(work, initiated_event_id, initiated.child_workflow_only));
    let signal = SignalWorkflow { request: Some(request), external };
    deliver(work, initiated_event_id, &target.workflow_id, Body::SignalWorkflow(signal));
}

/// The id of the request that an event has initiated: the same for each run that begins again behind the event, so that the other
/// workflow takes it once.
fn request_id(work: &mut Work, initiated_event_id: i64) -> String {
    if work.version < UPDATES {
        return work.ids.uuid();
    }
    let head = work.head();
    let first = head.reset_from.iter().find(|from| initiated_event_id <= from.last_event_id);
    IdSource::of_event(first.map_or(&head.run_id, |from| &from.run_id), initiated_event_id).uuid()
}

fn this(work: &Work, initiated_event_id: i64, child_workflow_only: bool) -> External {
    let execution = WorkflowExecution { workflow_id: work.entity.id.to_string(), run_id: work.head().run_id.clone() };
    External { execution: Some(execution), initiated_event_id, child_workflow_only }
}

fn deliver(work: &mut Work, initiated_event_id: i64, workflow_id: &str, body: Body) {
    let (to, namespace) = (EntityId::workflow(&work.entity.namespace_id, workflow_id), work.namespace.clone());
    let callback = initiated_here(work, initiated_event_id);
    work.send_for(callback, to, &namespace, body);
}

fn check_namespace(work: &Work, cause: Cause, namespace: &str) -> Result<(), BadCommand> {
    if namespace.is_empty() || namespace == work.namespace {
        Ok(())
    } else {
        Err(BadCommand::new(cause, "a workflow of another namespace is not supported by this server"))
    }
}

fn check_pending(work: &Work, cause: Cause, cancel: bool) -> Result<(), BadCommand> {
    let pending = work.run().externals.len();
    // Only a run near the limit is counted by kind.
    if pending >= limits::PENDING_MAX
        && work.run().externals.values().filter(|external| external.cancel == cancel).count() >= limits::PENDING_MAX
    {
        let what = if cancel { "requests to cancel external workflows" } else { "signals to external workflows" };
        let limit = limits::PENDING_MAX;
        let message = format!("the number of pending {what}, {limit}, has reached the per-workflow limit of {limit}");
        return Err(BadCommand::new(cause, message));
    }
    Ok(())
}
