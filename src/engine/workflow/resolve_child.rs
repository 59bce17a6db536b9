//! `ResolveChildStart` and `ResolveChildClose`: a child tells its parent that it runs (or can't), and how it ended.

use super::history::event;
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::{ResolveChildClose, ResolveChildStart};
use crate::proto::state;
use crate::proto::temporal::common::v1::WorkflowType;
use crate::proto::temporal::enums::v1::{EventType, StartChildWorkflowExecutionFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    ChildWorkflowExecutionCanceledEventAttributes, ChildWorkflowExecutionCompletedEventAttributes,
    ChildWorkflowExecutionFailedEventAttributes, ChildWorkflowExecutionStartedEventAttributes,
    ChildWorkflowExecutionTerminatedEventAttributes, ChildWorkflowExecutionTimedOutEventAttributes, HistoryEvent,
    StartChildWorkflowExecutionFailedEventAttributes, history_event::Attributes as A,
};

pub fn decide_start(work: &mut Work, command: &ResolveChildStart) -> Result<Reply, Rejection> {
    let child = pending(work, &command.run_id, command.initiated_event_id)?;
    if child.started_event_id != 0 {
        return Err(Rejection::Duplicate);
    }
    let resolved = if command.cause() == Cause::Unspecified {
        let attributes = ChildWorkflowExecutionStartedEventAttributes {
            namespace: child.namespace.clone(),
            namespace_id: child.namespace_id.clone(),
            initiated_event_id: child.initiated_event_id,
            workflow_execution: command.execution.clone(),
            workflow_type: Some(WorkflowType { name: child.workflow_type.clone() }),
            header: command.header.clone(),
        };
        event(EventType::ChildWorkflowExecutionStarted, A::ChildWorkflowExecutionStartedEventAttributes(attributes))
    } else {
        let attributes = StartChildWorkflowExecutionFailedEventAttributes {
            namespace: child.namespace.clone(),
            namespace_id: child.namespace_id.clone(),
            workflow_id: child.workflow_id.clone(),
            workflow_type: Some(WorkflowType { name: child.workflow_type.clone() }),
            cause: command.cause,
            initiated_event_id: child.initiated_event_id,
            ..StartChildWorkflowExecutionFailedEventAttributes::default()
        };
        event(
            EventType::StartChildWorkflowExecutionFailed,
            A::StartChildWorkflowExecutionFailedEventAttributes(attributes),
        )
    };
    work.record_external(resolved);
    work.schedule_workflow_task();
    Ok(Reply::Done)
}

pub fn decide_close(work: &mut Work, command: &ResolveChildClose) -> Result<Reply, Rejection> {
    let child = pending(work, &command.run_id, command.initiated_event_id)?;
    let Some(resolved) = close_event(&child, command) else {
        return Err(Rejection::InvalidArgument("the child's close carries no close event".into()));
    };
    work.record_external(resolved);
    work.schedule_workflow_task();
    Ok(Reply::Done)
}

fn pending(work: &Work, run_id: &str, initiated_event_id: i64) -> Result<state::Child, Rejection> {
    let run = work.open_run(run_id)?;
    let child = run
        .children
        .get(&initiated_event_id)
        .ok_or_else(|| Rejection::NotFound("the workflow waits for no such child".into()))?;
    Ok((**child).clone())
}

/// The parent's event for the child's own close event.
fn close_event(child: &state::Child, command: &ResolveChildClose) -> Option<HistoryEvent> {
    macro_rules! closed {
        ($kind:ident, $attributes:ident, $variant:ident { $($field:ident : $value:expr),* }) => {
            event(EventType::$kind, A::$variant($attributes {
                namespace: child.namespace.clone(),
                namespace_id: child.namespace_id.clone(),
                workflow_execution: command.execution.clone(),
                workflow_type: command.workflow_type.clone(),
                initiated_event_id: child.initiated_event_id,
                started_event_id: child.started_event_id,
                $($field: $value),*
            }))
        };
    }
    Some(match command.close.as_ref()?.attributes.clone()? {
        A::WorkflowExecutionCompletedEventAttributes(a) => {
            closed!(
                ChildWorkflowExecutionCompleted,
                ChildWorkflowExecutionCompletedEventAttributes,
                ChildWorkflowExecutionCompletedEventAttributes { result: a.result }
            )
        }
        A::WorkflowExecutionFailedEventAttributes(a) => {
            closed!(
                ChildWorkflowExecutionFailed,
                ChildWorkflowExecutionFailedEventAttributes,
                ChildWorkflowExecutionFailedEventAttributes { failure: a.failure, retry_state: a.retry_state }
            )
        }
        A::WorkflowExecutionCanceledEventAttributes(a) => {
            closed!(
                ChildWorkflowExecutionCanceled,
                ChildWorkflowExecutionCanceledEventAttributes,
                ChildWorkflowExecutionCanceledEventAttributes { details: a.details }
            )
        }
        A::WorkflowExecutionTimedOutEventAttributes(a) => {
            closed!(
                ChildWorkflowExecutionTimedOut,
                ChildWorkflowExecutionTimedOutEventAttributes,
                ChildWorkflowExecutionTimedOutEventAttributes { retry_state: a.retry_state }
            )
        }
        A::WorkflowExecutionTerminatedEventAttributes(_) => {
            closed!(
                ChildWorkflowExecutionTerminated,
                ChildWorkflowExecutionTerminatedEventAttributes,
                ChildWorkflowExecutionTerminatedEventAttributes {}
            )
        }
        _ => return None,
    })
}
