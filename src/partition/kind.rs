//! The kinds of commands, by name.

use crate::proto::commands::{Command, command::Body};

/// A command's name, for metrics and for people.
pub fn kind(command: &Command) -> &'static str {
    match &command.body {
        Some(Body::StartWorkflow(_)) => "start_workflow",
        Some(Body::SignalWorkflow(_)) => "signal_workflow",
        Some(Body::SignalWithStartWorkflow(_)) => "signal_with_start_workflow",
        Some(Body::RequestCancelWorkflow(_)) => "request_cancel_workflow",
        Some(Body::TerminateWorkflow(_)) => "terminate_workflow",
        Some(Body::StartWorkflowTask(_)) => "start_workflow_task",
        Some(Body::CompleteWorkflowTask(_)) => "complete_workflow_task",
        Some(Body::FailWorkflowTask(_)) => "fail_workflow_task",
        Some(Body::StartActivityTask(_)) => "start_activity_task",
        Some(Body::CompleteActivity(_)) => "complete_activity",
        Some(Body::FailActivity(_)) => "fail_activity",
        Some(Body::CancelActivity(_)) => "cancel_activity",
        Some(Body::HeartbeatActivity(_)) => "heartbeat_activity",
        Some(Body::FireTimer(_)) => "fire_timer",
        Some(Body::ResolveChildStart(_)) => "resolve_child_start",
        Some(Body::ResolveChildClose(_)) => "resolve_child_close",
        Some(Body::ResolveExternalSignal(_)) => "resolve_external_signal",
        Some(Body::ResolveExternalCancel(_)) => "resolve_external_cancel",
        Some(Body::ReturnTask(_)) => "return_task",
        Some(Body::ResetStickyTaskQueue(_)) => "reset_sticky_task_queue",
        Some(Body::DeleteWorkflow(_)) => "delete_workflow",
        Some(Body::PutNamespace(_)) => "put_namespace",
        Some(Body::ChangeSearchAttributes(_)) => "change_search_attributes",
        Some(Body::UpdateNamespace(_)) => "update_namespace",
        Some(Body::RejectRequest(_)) => "reject_request",
        Some(Body::SetFoldVersion(_)) => "set_fold_version",
        Some(Body::Barrier(_)) => "barrier",
        None => "unknown",
    }
}
