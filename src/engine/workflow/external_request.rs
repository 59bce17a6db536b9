//! The notifications to a workflow that has sent another a signal, or requested its cancellation.

use super::history::event;
use crate::proto::commands::{Refused, notify::Outcome};
use crate::proto::state::ExternalRequest;
use crate::proto::temporal::enums::v1::{
    CancelExternalWorkflowExecutionFailedCause as CancelCause, EventType,
    SignalExternalWorkflowExecutionFailedCause as SignalCause,
};
use crate::proto::temporal::history::v1::{
    ExternalWorkflowExecutionCancelRequestedEventAttributes, ExternalWorkflowExecutionSignaledEventAttributes,
    HistoryEvent, RequestCancelExternalWorkflowExecutionFailedEventAttributes,
    SignalExternalWorkflowExecutionFailedEventAttributes, history_event::Attributes as A,
};

/// The event that joins the history.
pub fn resolved(request: &ExternalRequest, outcome: &Outcome) -> HistoryEvent {
    let refused = if let Outcome::Refused(refused) = outcome { Some(refused) } else { None };
    if request.cancel { cancel_resolved(request.clone(), refused) } else { signal_resolved(request.clone(), refused) }
}

fn signal_resolved(request: ExternalRequest, refused: Option<&Refused>) -> HistoryEvent {
    let ExternalRequest { initiated_event_id, namespace_id, namespace, execution, .. } = request;
    let Some(refused) = refused else {
        let attributes = ExternalWorkflowExecutionSignaledEventAttributes {
            initiated_event_id,
            namespace,
            namespace_id,
            workflow_execution: execution,
            ..ExternalWorkflowExecutionSignaledEventAttributes::default()
        };
        let kind = EventType::ExternalWorkflowExecutionSignaled;
        return event(kind, A::ExternalWorkflowExecutionSignaledEventAttributes(attributes));
    };
    let cause = match refused.code.as_str() {
        // One more than the run takes, or too large for it.
        "INVALID_ARGUMENT" | "INTERNAL" => SignalCause::SignalCountLimitExceeded,
        _ => SignalCause::ExternalWorkflowExecutionNotFound,
    };
    let attributes = SignalExternalWorkflowExecutionFailedEventAttributes {
        cause: cause as i32,
        namespace,
        namespace_id,
        workflow_execution: execution,
        initiated_event_id,
        ..SignalExternalWorkflowExecutionFailedEventAttributes::default()
    };
    let kind = EventType::SignalExternalWorkflowExecutionFailed;
    event(kind, A::SignalExternalWorkflowExecutionFailedEventAttributes(attributes))
}

fn cancel_resolved(request: ExternalRequest, refused: Option<&Refused>) -> HistoryEvent {
    let ExternalRequest { initiated_event_id, namespace_id, namespace, execution, .. } = request;
    // One that was terminated, as the cancellation made its state too large, has nothing left to cancel.
    if refused.is_none_or(|refused| refused.code == "INVALID_ARGUMENT") {
        let attributes = ExternalWorkflowExecutionCancelRequestedEventAttributes {
            initiated_event_id,
            namespace,
            namespace_id,
            workflow_execution: execution,
        };
        let kind = EventType::ExternalWorkflowExecutionCancelRequested;
        return event(kind, A::ExternalWorkflowExecutionCancelRequestedEventAttributes(attributes));
    }
    let attributes = RequestCancelExternalWorkflowExecutionFailedEventAttributes {
        cause: CancelCause::ExternalWorkflowExecutionNotFound as i32,
        namespace,
        namespace_id,
        workflow_execution: execution,
        initiated_event_id,
        ..RequestCancelExternalWorkflowExecutionFailedEventAttributes::default()
    };
    let kind = EventType::RequestCancelExternalWorkflowExecutionFailed;
    event(kind, A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(attributes))
}
