//! What the operation of a batch is to one run: the same request as a caller's.

use super::Batch;
use crate::engine::work::Work;
use crate::engine::workflow::DELETE_REASON;
use crate::proto::batch::Target;
use crate::proto::commands::{
    DeleteRun, RejectRequest, RequestCancelWorkflow, ResetActivity, ResetPoint, ResetWorkflow, SignalWorkflow,
    TerminateWorkflow, UnpauseActivity, UpdateActivityOptions, UpdateWorkflowOptions, command::Body,
};
use crate::proto::temporal::batch::v1::{
    BatchOperationReset, batch_operation_reset_activities, batch_operation_unpause_activities,
    batch_operation_update_activity_options,
};
use crate::proto::temporal::common::v1::{WorkflowExecution, reset_options};
use crate::proto::temporal::enums::v1::ResetType;
use crate::proto::temporal::workflowservice::v1::{start_batch_operation_request::Operation, *};

/// The commands to one run.
pub struct Requests {
    /// Those that come before, of whose outcome the batch need not be notified.
    pub before: Vec<Body>,
    pub last: Body,
}

impl From<Body> for Requests {
    fn from(last: Body) -> Self {
        Self { before: Vec::new(), last }
    }
}

pub fn requests(work: &Work<Batch>, target: &Target) -> Requests {
    // A run that is named twice is sent the same request twice.
    let request_id = format!("{}:{}", work.run().head.run_id, target.run_id);
    let namespace = work.namespace.clone();
    // Not the whole request, which may name thousands of executions.
    let request = work.run().plan.request.as_ref();
    let (operation, reason) =
        request.map_or_else(Default::default, |request| (request.operation.clone(), request.reason.clone()));
    let execution = Some(WorkflowExecution { workflow_id: target.workflow_id.clone(), run_id: target.run_id.clone() });
    let body = match operation {
        Some(Operation::TerminationOperation(of)) => {
            Body::TerminateWorkflow(terminate(namespace, execution, reason, of.details, of.identity))
        }
        Some(Operation::SignalOperation(of)) => Body::SignalWorkflow(SignalWorkflow {
            request: Some(SignalWorkflowExecutionRequest {
                namespace,
                workflow_execution: execution,
                signal_name: of.signal,
                input: of.input,
                identity: of.identity,
                request_id,
                header: of.header,
                ..SignalWorkflowExecutionRequest::default()
            }),
            external: None,
        }),
        Some(Operation::CancellationOperation(of)) => Body::RequestCancelWorkflow(RequestCancelWorkflow {
            request: Some(RequestCancelWorkflowExecutionRequest {
                namespace,
                workflow_execution: execution,
                identity: of.identity,
                request_id,
                ..RequestCancelWorkflowExecutionRequest::default()
            }),
            ..RequestCancelWorkflow::default()
        }),
        Some(Operation::DeletionOperation(of)) => {
            // Only what is closed can be deleted.
            let end = terminate(namespace, execution, DELETE_REASON.into(), None, of.identity);
            let delete = DeleteRun { run_id: target.run_id.clone(), ..DeleteRun::default() };
            return Requests { before: vec![Body::TerminateWorkflow(end)], last: Body::DeleteRun(delete) };
        }
        Some(Operation::ResetOperation(of)) => {
            Body::ResetWorkflow(reset(namespace, execution, reason, request_id, target, of))
        }
        Some(Operation::UpdateWorkflowOptionsOperation(of)) => Body::UpdateWorkflowOptions(UpdateWorkflowOptions {
            request: Some(UpdateWorkflowExecutionOptionsRequest {
                namespace,
                workflow_execution: execution,
                workflow_execution_options: of.workflow_execution_options,
                update_mask: of.update_mask,
                identity: of.identity,
            }),
        }),
        Some(Operation::UnpauseActivitiesOperation(of)) => {
            use batch_operation_unpause_activities::Activity as Of;
            use unpause_activity_request::Activity;
            Body::UnpauseActivity(UnpauseActivity {
                request: Some(UnpauseActivityRequest {
                    namespace,
                    execution,
                    identity: of.identity,
                    activity: of.activity.map(|activity| match activity {
                        Of::Type(name) => Activity::Type(name),
                        Of::MatchAll(all) => Activity::UnpauseAll(all),
                    }),
                    reset_attempts: of.reset_attempts,
                    reset_heartbeat: of.reset_heartbeat,
                    jitter: of.jitter,
                }),
            })
        }
        Some(Operation::ResetActivitiesOperation(of)) => {
            use batch_operation_reset_activities::Activity as Of;
            use reset_activity_request::Activity;
            Body::ResetActivity(ResetActivity {
                request: Some(ResetActivityRequest {
                    namespace,
                    execution,
                    identity: of.identity,
                    activity: of.activity.map(|activity| match activity {
                        Of::Type(name) => Activity::Type(name),
                        Of::MatchAll(all) => Activity::MatchAll(all),
                    }),
                    reset_heartbeat: of.reset_heartbeat,
                    keep_paused: of.keep_paused,
                    jitter: of.jitter,
                    restore_original_options: of.restore_original_options,
                }),
            })
        }
        Some(Operation::UpdateActivityOptionsOperation(of)) => {
            use batch_operation_update_activity_options::Activity as Of;
            use update_activity_options_request::Activity;
            Body::UpdateActivityOptions(UpdateActivityOptions {
                request: Some(UpdateActivityOptionsRequest {
                    namespace,
                    execution,
                    identity: of.identity,
                    activity_options: of.activity_options,
                    update_mask: of.update_mask,
                    activity: of.activity.map(|activity| match activity {
                        Of::Type(name) => Activity::Type(name),
                        Of::MatchAll(all) => Activity::MatchAll(all),
                    }),
                    restore_original: of.restore_original,
                }),
            })
        }
        // The edge refuses them.
        Some(
            Operation::CancelActivitiesOperation(_)
            | Operation::TerminateActivitiesOperation(_)
            | Operation::DeleteActivitiesOperation(_),
        )
        | None => Body::RejectRequest(RejectRequest {
            code: "INVALID_ARGUMENT".into(),
            reason: "there is no such operation".into(),
        }),
    };
    body.into()
}

fn terminate(
    namespace: String,
    execution: Option<WorkflowExecution>,
    reason: String,
    details: Option<crate::proto::temporal::common::v1::Payloads>,
    identity: String,
) -> TerminateWorkflow {
    TerminateWorkflow {
        request: Some(TerminateWorkflowExecutionRequest {
            namespace,
            workflow_execution: execution,
            reason,
            details,
            identity,
            ..TerminateWorkflowExecutionRequest::default()
        }),
        ..TerminateWorkflow::default()
    }
}

fn reset(
    namespace: String,
    execution: Option<WorkflowExecution>,
    reason: String,
    request_id: String,
    target: &Target,
    of: BatchOperationReset,
) -> ResetWorkflow {
    use reset_options::Target as To;
    let options = of.options.unwrap_or_default();
    let (point, event_id) = match options.target {
        Some(To::FirstWorkflowTask(_)) => (ResetPoint::FirstWorkflowTask, 0),
        Some(To::LastWorkflowTask(_)) => (ResetPoint::LastWorkflowTask, 0),
        Some(To::WorkflowTaskId(event_id)) => (ResetPoint::Event, event_id),
        Some(To::BuildId(_)) => (ResetPoint::Event, target.reset_event_id),
        // The older form.
        None if of.reset_type == ResetType::FirstWorkflowTask as i32 => (ResetPoint::FirstWorkflowTask, 0),
        None => (ResetPoint::LastWorkflowTask, 0),
    };
    let reapply = if options.target.is_some() { options.reset_reapply_type } else { of.reset_reapply_type };
    ResetWorkflow {
        request: Some(ResetWorkflowExecutionRequest {
            namespace,
            workflow_execution: execution,
            reason,
            request_id,
            workflow_task_finish_event_id: event_id,
            reset_reapply_type: reapply,
            reset_reapply_exclude_types: options.reset_reapply_exclude_types,
            post_reset_operations: of.post_reset_operations,
            identity: of.identity,
        }),
        point: point as i32,
    }
}
