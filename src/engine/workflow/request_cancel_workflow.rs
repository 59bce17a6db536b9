//! `RequestCancelWorkflow`: requests a workflow to cancel itself. It may do so later, or not at all.

use super::history::event;
use super::target::{self, Target};
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::RequestCancelWorkflow;
use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{WorkflowExecutionCancelRequestedEventAttributes, history_event::Attributes};
use crate::proto::temporal::workflowservice::v1::RequestCancelWorkflowExecutionRequest as Request;

pub fn decide(work: &mut Work, command: &RequestCancelWorkflow) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let execution = request.workflow_execution.clone().unwrap_or_default();
    target::refuse_itself(work)?;
    let mut target = Target::of_external(&execution.run_id, command.external.as_ref());
    target.first_execution_run_id = &request.first_execution_run_id;
    target.parent = target.parent.or(command.parent.as_ref());
    target.parent_initiated_event_id = command.parent_initiated_event_id;
    let run = target.find(work)?;
    // Temporal: to cancel what has ended, or is being canceled, is a success without an effect.
    if run.is_open() && !run.head.cancel_requested {
        record(work, command, &request);
    }
    Ok(Reply::Done)
}

/// A cancellation does not wait until the first workflow task of a delayed start is due.
fn record(work: &mut Work, command: &RequestCancelWorkflow, request: &Request) {
    let external = command.external.as_ref();
    let attributes = WorkflowExecutionCancelRequestedEventAttributes {
        cause: request.reason.clone(),
        external_initiated_event_id: external.map_or(0, |external| external.initiated_event_id),
        external_workflow_execution: external
            .and_then(|external| external.execution.clone())
            .or_else(|| command.parent.clone()),
        identity: request.identity.clone(),
    };
    let mut requested = event(
        EventType::WorkflowExecutionCancelRequested,
        Attributes::WorkflowExecutionCancelRequestedEventAttributes(attributes),
    );
    requested.links = request.links.clone();
    work.record_external(requested);
    work.schedule_workflow_task_at_once();
}
