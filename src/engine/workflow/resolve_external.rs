//! `ResolveExternalSignal` and `ResolveExternalCancel`: what became of a request to another workflow.

use super::history::event;
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::{ResolveExternalCancel, ResolveExternalSignal};
use crate::proto::state;
use crate::proto::temporal::enums::v1::{
    CancelExternalWorkflowExecutionFailedCause as CancelCause, EventType,
    SignalExternalWorkflowExecutionFailedCause as SignalCause,
};
use crate::proto::temporal::history::v1::{
    ExternalWorkflowExecutionCancelRequestedEventAttributes, ExternalWorkflowExecutionSignaledEventAttributes,
    RequestCancelExternalWorkflowExecutionFailedEventAttributes, SignalExternalWorkflowExecutionFailedEventAttributes,
    history_event::Attributes as A,
};

pub fn decide_signal(work: &mut Work, command: &ResolveExternalSignal) -> Result<Reply, Rejection> {
    let pending = pending(work, &command.run_id, command.initiated_event_id, false)?;
    let resolved = if command.cause() == SignalCause::Unspecified {
        let attributes = ExternalWorkflowExecutionSignaledEventAttributes {
            initiated_event_id: pending.initiated_event_id,
            namespace: pending.namespace,
            namespace_id: pending.namespace_id,
            workflow_execution: pending.execution,
            ..ExternalWorkflowExecutionSignaledEventAttributes::default()
        };
        event(
            EventType::ExternalWorkflowExecutionSignaled,
            A::ExternalWorkflowExecutionSignaledEventAttributes(attributes),
        )
    } else {
        let attributes = SignalExternalWorkflowExecutionFailedEventAttributes {
            cause: command.cause,
            namespace: pending.namespace,
            namespace_id: pending.namespace_id,
            workflow_execution: pending.execution,
            initiated_event_id: pending.initiated_event_id,
            ..SignalExternalWorkflowExecutionFailedEventAttributes::default()
        };
        event(
            EventType::SignalExternalWorkflowExecutionFailed,
            A::SignalExternalWorkflowExecutionFailedEventAttributes(attributes),
        )
    };
    work.record_external(resolved);
    work.schedule_workflow_task();
    Ok(Reply::Done)
}

pub fn decide_cancel(work: &mut Work, command: &ResolveExternalCancel) -> Result<Reply, Rejection> {
    let pending = pending(work, &command.run_id, command.initiated_event_id, true)?;
    let resolved = if command.cause() == CancelCause::Unspecified {
        let attributes = ExternalWorkflowExecutionCancelRequestedEventAttributes {
            initiated_event_id: pending.initiated_event_id,
            namespace: pending.namespace,
            namespace_id: pending.namespace_id,
            workflow_execution: pending.execution,
        };
        event(
            EventType::ExternalWorkflowExecutionCancelRequested,
            A::ExternalWorkflowExecutionCancelRequestedEventAttributes(attributes),
        )
    } else {
        let attributes = RequestCancelExternalWorkflowExecutionFailedEventAttributes {
            cause: command.cause,
            namespace: pending.namespace,
            namespace_id: pending.namespace_id,
            workflow_execution: pending.execution,
            initiated_event_id: pending.initiated_event_id,
            ..RequestCancelExternalWorkflowExecutionFailedEventAttributes::default()
        };
        event(
            EventType::RequestCancelExternalWorkflowExecutionFailed,
            A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(attributes),
        )
    };
    work.record_external(resolved);
    work.schedule_workflow_task();
    Ok(Reply::Done)
}

fn pending(
    work: &Work,
    run_id: &str,
    initiated_event_id: i64,
    cancel: bool,
) -> Result<state::ExternalRequest, Rejection> {
    let run = work.open_run(run_id)?;
    let pending = run.externals.get(&initiated_event_id).filter(|external| external.cancel == cancel);
    pending
        .map(|external| (**external).clone())
        .ok_or_else(|| Rejection::NotFound("the workflow waits for no such answer".into()))
}
