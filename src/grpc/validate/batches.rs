//! What a batch is started and stopped with (`service/worker/batcher/workflow.go` of Temporal's server).

use tonic::Status;

use super::{allowed_length, execution, jitter, reset, update_options};
use crate::proto::temporal::batch::v1::{
    batch_operation_reset_activities, batch_operation_unpause_activities, batch_operation_update_activity_options,
};
use crate::proto::temporal::common::v1::{Execution, WorkflowExecution};
use crate::proto::temporal::enums::v1::{ExecutionType, ResetType};
use crate::proto::temporal::workflowservice::v1::{start_batch_operation_request::Operation, *};

const NO_SELECTOR: &str = "Either activity type must be set, or match all should be set to true";

fn invalid<T>(message: impl Into<String>) -> Result<T, Status> {
    Err(Status::invalid_argument(message))
}

pub fn job_id(job_id: &str) -> Result<(), Status> {
    if job_id.is_empty() { invalid("JobId is not set on request.") } else { Ok(()) }
}

pub fn reason_of_batch(reason: &str) -> Result<(), Status> {
    if reason.is_empty() { invalid("Reason is not set on request.") } else { allowed_length("Reason", reason) }
}

pub fn batch(request: &StartBatchOperationRequest) -> Result<(), Status> {
    let operation = request.operation.as_ref();
    if let Some(name) = operation.and_then(of_activities) {
        return invalid(format!("The operation type {name} is not supported for this namespace"));
    }
    let given =
        [!request.visibility_query.is_empty(), !request.executions.is_empty(), !request.target_executions.is_empty()];
    let selectors = given.into_iter().filter(|given| *given).count();
    let Some(operation) =
        operation.filter(|_| !request.reason.is_empty() && !request.namespace.is_empty() && selectors > 0)
    else {
        return invalid(
            "must provide required parameters: BatchType,Reason,Namespace, AND one of (Query OR Executions OR TargetExecutions)",
        );
    };
    job_id(&request.job_id)?;
    allowed_length("WorkflowId", &request.job_id)?;
    if selectors > 1 {
        return invalid("visibility query, executions, and target executions are mutually exclusive");
    }
    for (place, target) in request.target_executions.iter().enumerate() {
        if target.r#type != ExecutionType::Workflow as i32 {
            let (of_type, name) = (type_name(target), name(operation));
            return invalid(format!(
                "target_executions[{place}] has type {of_type}, but operation {name} requires Workflow"
            ));
        }
    }
    operation_of_batch(operation)?;
    let named = request
        .target_executions
        .iter()
        .map(|target| WorkflowExecution { workflow_id: target.business_id.clone(), run_id: target.run_id.clone() });
    // Temporal's server finds these wrong one by one, and counts them as failed.
    named.chain(request.executions.iter().cloned()).try_for_each(|of| execution(Some(&of)).map(drop))?;
    // It is in each batch's row of lists.
    allowed_length("Reason", &request.reason)
}

/// As each of the requests to single workflows is checked.
fn operation_of_batch(operation: &Operation) -> Result<(), Status> {
    // Any that is well formed.
    let workflow_execution = Some(WorkflowExecution { workflow_id: "any".into(), run_id: String::new() });
    match operation {
        Operation::SignalOperation(of) if of.signal.is_empty() => invalid("must provide signal name"),
        Operation::SignalOperation(of) => super::signal(&SignalWorkflowExecutionRequest {
            workflow_execution,
            signal_name: of.signal.clone(),
            input: of.input.clone(),
            identity: of.identity.clone(),
            header: of.header.clone(),
            ..SignalWorkflowExecutionRequest::default()
        })
        .map(drop),
        Operation::UpdateWorkflowOptionsOperation(of) => {
            if of.workflow_execution_options.is_none() {
                return invalid("must provide UpdateOptions");
            }
            if of.update_mask.is_none() {
                return invalid("must provide UpdateMask");
            }
            update_options(&UpdateWorkflowExecutionOptionsRequest {
                workflow_execution,
                workflow_execution_options: of.workflow_execution_options.clone(),
                update_mask: of.update_mask.clone(),
                ..UpdateWorkflowExecutionOptionsRequest::default()
            })
            .map(drop)
        }
        Operation::TerminationOperation(of) => super::payloads(of.details.as_ref()),
        Operation::ResetOperation(of) => {
            if let Some(options) = &of.options {
                if options.target.is_none() {
                    return invalid("batch reset missing target");
                }
            } else if !matches!(
                ResetType::try_from(of.reset_type),
                Ok(ResetType::FirstWorkflowTask | ResetType::LastWorkflowTask)
            ) {
                let name = if of.reset_type == 0 { "Unspecified".to_owned() } else { of.reset_type.to_string() };
                return invalid(format!("unknown batch reset type {name}"));
            }
            reset(&ResetWorkflowExecutionRequest {
                workflow_execution,
                request_id: "any".into(),
                post_reset_operations: of.post_reset_operations.clone(),
                reset_reapply_type: of
                    .options
                    .as_ref()
                    .map_or(of.reset_reapply_type, |options| options.reset_reapply_type),
                ..ResetWorkflowExecutionRequest::default()
            })
            .map(drop)
        }
        Operation::UnpauseActivitiesOperation(of) => {
            use batch_operation_unpause_activities::Activity;
            match &of.activity {
                None => invalid("activity filter must be set"),
                Some(Activity::Type(name)) if name.is_empty() => invalid(NO_SELECTOR),
                Some(Activity::MatchAll(false)) => invalid(NO_SELECTOR),
                _ => jitter(of.jitter.as_ref()),
            }
        }
        Operation::ResetActivitiesOperation(of) => {
            use batch_operation_reset_activities::Activity;
            match &of.activity {
                None => invalid("must provide ActivityType or MatchAll"),
                Some(Activity::Type(name)) if name.is_empty() => invalid(NO_SELECTOR),
                Some(Activity::MatchAll(false)) => invalid(NO_SELECTOR),
                _ => jitter(of.jitter.as_ref()),
            }
        }
        Operation::UpdateActivityOptionsOperation(of) => {
            use batch_operation_update_activity_options::Activity;
            match (&of.activity_options, of.restore_original) {
                (Some(_), true) => return invalid("cannot set both activity options and restore original"),
                (None, false) => {
                    return invalid("Either activity type must be set, or restore original should be set to true");
                }
                _ => {}
            }
            match &of.activity {
                Some(Activity::Type(name)) if !name.is_empty() => Ok(()),
                Some(Activity::MatchAll(true)) => Ok(()),
                _ => invalid(NO_SELECTOR),
            }
        }
        _ => Ok(()),
    }
}

/// The name, in Go, of an operation on activities that belong to no workflow: there are none.
fn of_activities(operation: &Operation) -> Option<String> {
    let is_one = matches!(
        operation,
        Operation::CancelActivitiesOperation(_)
            | Operation::TerminateActivitiesOperation(_)
            | Operation::DeleteActivitiesOperation(_)
    );
    is_one.then(|| name(operation))
}

fn name(operation: &Operation) -> String {
    let name = match operation {
        Operation::TerminationOperation(_) => "TerminationOperation",
        Operation::SignalOperation(_) => "SignalOperation",
        Operation::CancellationOperation(_) => "CancellationOperation",
        Operation::DeletionOperation(_) => "DeletionOperation",
        Operation::ResetOperation(_) => "ResetOperation",
        Operation::UpdateWorkflowOptionsOperation(_) => "UpdateWorkflowOptionsOperation",
        Operation::UnpauseActivitiesOperation(_) => "UnpauseActivitiesOperation",
        Operation::ResetActivitiesOperation(_) => "ResetActivitiesOperation",
        Operation::UpdateActivityOptionsOperation(_) => "UpdateActivityOptionsOperation",
        Operation::CancelActivitiesOperation(_) => "CancelActivitiesOperation",
        Operation::TerminateActivitiesOperation(_) => "TerminateActivitiesOperation",
        Operation::DeleteActivitiesOperation(_) => "DeleteActivitiesOperation",
    };
    format!("*workflowservice.StartBatchOperationRequest_{name}")
}

fn type_name(target: &Execution) -> String {
    match ExecutionType::try_from(target.r#type) {
        Ok(ExecutionType::Unspecified) => "Unspecified".into(),
        Ok(ExecutionType::Workflow) => "Workflow".into(),
        Ok(ExecutionType::Activity) => "Activity".into(),
        Ok(ExecutionType::NexusOperation) => "NexusOperation".into(),
        Err(_) => target.r#type.to_string(),
    }
}
