//! What operators do to pending activities: they pause them, let them go on, reset them and change their options. The newer of the
//! API's methods name an activity by its workflow's id and its own.

use tonic::Status;

use super::service::Service;
use super::validate;
use crate::engine::Reply;
use crate::proto::commands::{PauseActivity, ResetActivity, UnpauseActivity, UpdateActivityOptions, command::Body};
use crate::proto::temporal::activity::v1::ActivityOptions;
use crate::proto::temporal::common::v1::WorkflowExecution;
use crate::proto::temporal::workflowservice::v1::*;

async fn decide(
    service: &Service,
    namespace: &str,
    execution: Option<&WorkflowExecution>,
    has_selector: bool,
    body: Body,
) -> Result<Reply, Status> {
    let namespace = service.namespace(namespace)?;
    let execution = validate::execution(Some(&execution.cloned().unwrap_or_default()))?;
    if !has_selector {
        return Err(Status::invalid_argument("Either Activity.Id or Activity.Type should be set on request."));
    }
    service.command(&namespace, &execution.workflow_id, body, |_, _, reply| Ok(reply)).await
}

pub async fn pause(service: &Service, request: PauseActivityRequest) -> Result<PauseActivityResponse, Status> {
    validate::identity(&request.identity)?;
    let (namespace, execution, named) =
        (request.namespace.clone(), request.execution.clone(), request.activity.is_some());
    let body = Body::PauseActivity(PauseActivity { request: Some(request) });
    decide(service, &namespace, execution.as_ref(), named, body).await?;
    Ok(PauseActivityResponse::default())
}

pub async fn unpause(service: &Service, request: UnpauseActivityRequest) -> Result<UnpauseActivityResponse, Status> {
    validate::jitter(request.jitter.as_ref())?;
    let (namespace, execution, named) =
        (request.namespace.clone(), request.execution.clone(), request.activity.is_some());
    let body = Body::UnpauseActivity(UnpauseActivity { request: Some(request) });
    decide(service, &namespace, execution.as_ref(), named, body).await?;
    Ok(UnpauseActivityResponse::default())
}

pub async fn reset(service: &Service, request: ResetActivityRequest) -> Result<ResetActivityResponse, Status> {
    validate::jitter(request.jitter.as_ref())?;
    let (namespace, execution, named) =
        (request.namespace.clone(), request.execution.clone(), request.activity.is_some());
    let body = Body::ResetActivity(ResetActivity { request: Some(request) });
    decide(service, &namespace, execution.as_ref(), named, body).await?;
    Ok(ResetActivityResponse::default())
}

pub async fn update_options(
    service: &Service,
    request: UpdateActivityOptionsRequest,
) -> Result<UpdateActivityOptionsResponse, Status> {
    Ok(UpdateActivityOptionsResponse { activity_options: Some(options(service, request).await?) })
}

async fn options(service: &Service, request: UpdateActivityOptionsRequest) -> Result<ActivityOptions, Status> {
    let (namespace, execution, named) =
        (request.namespace.clone(), request.execution.clone(), request.activity.is_some());
    let body = Body::UpdateActivityOptions(UpdateActivityOptions { request: Some(request) });
    match decide(service, &namespace, execution.as_ref(), named, body).await? {
        Reply::ActivityOptions(options) => Ok(*options),
        _ => Err(Status::internal("a change of options was answered with something else")),
    }
}

/// The workflow that has an activity. Those that belong to none are not there yet.
fn of_workflow(workflow_id: String, run_id: String, activity_id: &str) -> Result<WorkflowExecution, Status> {
    if workflow_id.is_empty() {
        return Err(Status::unimplemented("Standalone activity is disabled"));
    }
    if activity_id.is_empty() {
        return Err(Status::invalid_argument("activity ID is required"));
    }
    Ok(WorkflowExecution { workflow_id, run_id })
}

pub async fn pause_execution(
    service: &Service,
    r: PauseActivityExecutionRequest,
) -> Result<PauseActivityExecutionResponse, Status> {
    let request = PauseActivityRequest {
        namespace: r.namespace,
        execution: Some(of_workflow(r.workflow_id, r.run_id, &r.activity_id)?),
        identity: r.identity,
        activity: Some(pause_activity_request::Activity::Id(r.activity_id)),
        reason: r.reason,
        request_id: r.request_id,
    };
    pause(service, request).await?;
    Ok(PauseActivityExecutionResponse::default())
}

pub async fn unpause_execution(
    service: &Service,
    r: UnpauseActivityExecutionRequest,
) -> Result<UnpauseActivityExecutionResponse, Status> {
    let request = UnpauseActivityRequest {
        namespace: r.namespace,
        execution: Some(of_workflow(r.workflow_id, r.run_id, &r.activity_id)?),
        identity: r.identity,
        activity: Some(unpause_activity_request::Activity::Id(r.activity_id)),
        jitter: r.jitter,
        ..UnpauseActivityRequest::default()
    };
    unpause(service, request).await?;
    Ok(UnpauseActivityExecutionResponse::default())
}

pub async fn reset_execution(
    service: &Service,
    r: ResetActivityExecutionRequest,
) -> Result<ResetActivityExecutionResponse, Status> {
    let request = ResetActivityRequest {
        namespace: r.namespace,
        execution: Some(of_workflow(r.workflow_id, r.run_id, &r.activity_id)?),
        identity: r.identity,
        activity: Some(reset_activity_request::Activity::Id(r.activity_id)),
        reset_heartbeat: r.reset_heartbeat,
        keep_paused: r.keep_paused,
        jitter: r.jitter,
        restore_original_options: r.restore_original_options,
    };
    reset(service, request).await?;
    Ok(ResetActivityExecutionResponse::default())
}

pub async fn update_execution_options(
    service: &Service,
    r: UpdateActivityExecutionOptionsRequest,
) -> Result<UpdateActivityExecutionOptionsResponse, Status> {
    let request = UpdateActivityOptionsRequest {
        namespace: r.namespace,
        execution: Some(of_workflow(r.workflow_id, r.run_id, &r.activity_id)?),
        identity: r.identity,
        activity_options: r.activity_options,
        update_mask: r.update_mask,
        activity: Some(update_activity_options_request::Activity::Id(r.activity_id)),
        restore_original: r.restore_original,
    };
    Ok(UpdateActivityExecutionOptionsResponse { activity_options: Some(options(service, request).await?) })
}
