//! What a parent is notified of: a child has started, or can't, or has closed.

use super::history::event;
use crate::engine::rejection::Rejection;
use crate::proto::commands::{Closed, Started, notify::Outcome};
use crate::proto::state;
use crate::proto::temporal::common::v1::{WorkflowExecution, WorkflowType};
use crate::proto::temporal::enums::v1::{EventType, StartChildWorkflowExecutionFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    ChildWorkflowExecutionCanceledEventAttributes, ChildWorkflowExecutionCompletedEventAttributes,
    ChildWorkflowExecutionFailedEventAttributes, ChildWorkflowExecutionStartedEventAttributes,
    ChildWorkflowExecutionTerminatedEventAttributes, ChildWorkflowExecutionTimedOutEventAttributes, HistoryEvent,
    StartChildWorkflowExecutionFailedEventAttributes, history_event::Attributes as A,
};

/// The event that joins the history. A repetition is refused.
pub fn resolved(
    child: &state::Child,
    execution: Option<WorkflowExecution>,
    outcome: &Outcome,
) -> Result<HistoryEvent, Rejection> {
    Ok(match outcome {
        Outcome::Started(_) | Outcome::Refused(_) if child.started_event_id != 0 => return Err(Rejection::Duplicate),
        Outcome::Started(started) => started_event(child, execution, started),
        Outcome::Refused(_) => refused_event(child),
        Outcome::Closed(closed) => close_event(child, execution, closed)
            .ok_or_else(|| Rejection::InvalidArgument("the child's close carries no close event".into()))?,
        Outcome::Done(_) => return Err(Rejection::InvalidArgument("a child starts, or is refused, or closes".into())),
    })
}

/// The event by which a child has started, if the history is to have it before the one that it has closed by: a run that began again does
/// not know, if another was notified.
pub fn started_before(
    child: &state::Child,
    execution: Option<&WorkflowExecution>,
    outcome: &Outcome,
) -> Option<HistoryEvent> {
    let Outcome::Closed(closed) = outcome else { return None };
    let mut execution = execution.cloned().unwrap_or_default();
    if !closed.first_run_id.is_empty() {
        execution.run_id.clone_from(&closed.first_run_id);
    }
    (child.started_event_id == 0).then(|| started_event(child, Some(execution), &Started::default()))
}

fn started_event(child: &state::Child, execution: Option<WorkflowExecution>, started: &Started) -> HistoryEvent {
    let attributes = ChildWorkflowExecutionStartedEventAttributes {
        namespace: child.namespace.clone(),
        namespace_id: child.namespace_id.clone(),
        initiated_event_id: child.initiated_event_id,
        workflow_execution: execution,
        workflow_type: Some(WorkflowType { name: child.workflow_type.clone() }),
        header: started.header.clone(),
    };
    event(EventType::ChildWorkflowExecutionStarted, A::ChildWorkflowExecutionStartedEventAttributes(attributes))
}

fn refused_event(child: &state::Child) -> HistoryEvent {
    let attributes = StartChildWorkflowExecutionFailedEventAttributes {
        namespace: child.namespace.clone(),
        namespace_id: child.namespace_id.clone(),
        workflow_id: child.workflow_id.clone(),
        workflow_type: Some(WorkflowType { name: child.workflow_type.clone() }),
        cause: Cause::WorkflowAlreadyExists as i32,
        initiated_event_id: child.initiated_event_id,
        ..StartChildWorkflowExecutionFailedEventAttributes::default()
    };
    event(EventType::StartChildWorkflowExecutionFailed, A::StartChildWorkflowExecutionFailedEventAttributes(attributes))
}

/// The parent's event for the child's own close event.
fn close_event(child: &state::Child, execution: Option<WorkflowExecution>, closed: &Closed) -> Option<HistoryEvent> {
    macro_rules! closed {
        ($kind:ident, $attributes:ident, $variant:ident { $($field:ident : $value:expr),* }) => {
            event(EventType::$kind, A::$variant($attributes {
                namespace: child.namespace.clone(),
                namespace_id: child.namespace_id.clone(),
                workflow_execution: execution.clone(),
                workflow_type: closed.workflow_type.clone(),
                initiated_event_id: child.initiated_event_id,
                started_event_id: child.started_event_id,
                $($field: $value),*
            }))
        };
    }
    Some(match closed.close.as_ref()?.attributes.clone()? {
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
