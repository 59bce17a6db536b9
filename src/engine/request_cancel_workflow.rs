//! `RequestCancelWorkflow`: asks a workflow to cancel itself. It may take its time, or decline.

use super::decision::{Reply, Working};
use super::external;
use super::history::event;
use super::rejection::Rejection;
use crate::proto::commands::{RequestCancelWorkflow, ResolveExternalCancel, command::Body};
use crate::proto::temporal::enums::v1::{CancelExternalWorkflowExecutionFailedCause as Cause, EventType};
use crate::proto::temporal::history::v1::{WorkflowExecutionCancelRequestedEventAttributes, history_event::Attributes};

pub fn decide(work: &mut Working, command: &RequestCancelWorkflow) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let target = request.workflow_execution.clone().unwrap_or_default();
    let run_id =
        if request.first_execution_run_id.is_empty() { &target.run_id } else { &request.first_execution_run_id };
    let checked = external::target_run(work, run_id, command.external.as_ref());
    let outcome = checked.map(|()| {
        if work.head().cancel_requested {
            return;
        }
        let attributes = WorkflowExecutionCancelRequestedEventAttributes {
            cause: request.reason.clone(),
            external_initiated_event_id: command.external.as_ref().map_or(0, |external| external.initiated_event_id),
            external_workflow_execution: command.external.as_ref().and_then(|external| external.execution.clone()),
            identity: request.identity.clone(),
        };
        let mut requested = event(
            EventType::WorkflowExecutionCancelRequested,
            Attributes::WorkflowExecutionCancelRequestedEventAttributes(attributes),
        );
        requested.links = request.links.clone();
        work.record_external(requested);
        work.schedule_workflow_task();
    });
    let Some(external) = &command.external else { return outcome.map(|()| Reply::Done) };
    let cause = if outcome.is_ok() { Cause::Unspecified } else { Cause::ExternalWorkflowExecutionNotFound };
    let body = Body::ResolveExternalCancel(ResolveExternalCancel {
        run_id: external.execution.clone().unwrap_or_default().run_id,
        initiated_event_id: external.initiated_event_id,
        execution: Some(target),
        cause: cause as i32,
    });
    external::reply(work, external, body);
    Ok(Reply::Done)
}
