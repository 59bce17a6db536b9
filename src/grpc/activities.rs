//! What workers answer to activity tasks, by the token of the task or by the activity's id.

use std::sync::Arc;

use tonic::Status;

use super::service::Service;
use super::validate;
use crate::engine::Reply;
use crate::proto::commands::{
    ActivityRef, CancelActivity, CompleteActivity, FailActivity, HeartbeatActivity, command::Body,
};
use crate::proto::state::Namespace;
use crate::proto::temporal::workflowservice::v1::*;

/// The activity that a request is about.
struct Target {
    namespace: Arc<Namespace>,
    workflow_id: String,
    activity: Option<ActivityRef>,
}

fn by_token(service: &Service, namespace: &str, task_token: &[u8]) -> Result<Target, Status> {
    let token = validate::token(task_token)?;
    let namespace = service.namespace_of(namespace, &token.namespace_id)?;
    Ok(Target {
        namespace,
        workflow_id: token.workflow_id.clone(),
        activity: Some(ActivityRef { token: Some(token), ..ActivityRef::default() }),
    })
}

fn by_id(
    service: &Service,
    namespace: &str,
    workflow_id: &str,
    run_id: &str,
    activity_id: &str,
) -> Result<Target, Status> {
    let namespace = service.namespace(namespace)?;
    validate::required("WorkflowId", workflow_id)?;
    validate::required("ActivityId", activity_id)?;
    let activity = ActivityRef { run_id: run_id.to_owned(), activity_id: activity_id.to_owned(), token: None };
    Ok(Target { namespace, workflow_id: workflow_id.to_owned(), activity: Some(activity) })
}

async fn respond<T: Default + Send + 'static>(service: &Service, target: &Target, body: Body) -> Result<T, Status> {
    service.command(&target.namespace, &target.workflow_id, body, |_, _, _| Ok(T::default())).await
}

/// Whether the activity shall cancel.
async fn beat(service: &Service, target: Target, command: HeartbeatActivity) -> Result<bool, Status> {
    validate::payloads("Details", command.details.as_ref())?;
    let body = Body::HeartbeatActivity(HeartbeatActivity { activity: target.activity.clone(), ..command });
    service
        .command(&target.namespace, &target.workflow_id, body, |_, _, reply| {
            Ok(reply == Reply::ActivityCancelRequested(true))
        })
        .await
}

pub async fn heartbeat(
    service: &Service,
    request: RecordActivityTaskHeartbeatRequest,
) -> Result<RecordActivityTaskHeartbeatResponse, Status> {
    let target = by_token(service, &request.namespace, &request.task_token)?;
    let command = HeartbeatActivity { activity: None, details: request.details, identity: request.identity };
    let cancel_requested = beat(service, target, command).await?;
    Ok(RecordActivityTaskHeartbeatResponse { cancel_requested, ..RecordActivityTaskHeartbeatResponse::default() })
}

pub async fn heartbeat_by_id(
    service: &Service,
    request: RecordActivityTaskHeartbeatByIdRequest,
) -> Result<RecordActivityTaskHeartbeatByIdResponse, Status> {
    let target = by_id(service, &request.namespace, &request.workflow_id, &request.run_id, &request.activity_id)?;
    let command = HeartbeatActivity { activity: None, details: request.details, identity: request.identity };
    let cancel_requested = beat(service, target, command).await?;
    Ok(RecordActivityTaskHeartbeatByIdResponse {
        cancel_requested,
        ..RecordActivityTaskHeartbeatByIdResponse::default()
    })
}

pub async fn complete(
    service: &Service,
    request: RespondActivityTaskCompletedRequest,
) -> Result<RespondActivityTaskCompletedResponse, Status> {
    let target = by_token(service, &request.namespace, &request.task_token)?;
    validate::payloads("Result", request.result.as_ref())?;
    let body = CompleteActivity {
        activity: target.activity.clone(),
        result: request.result,
        identity: request.identity,
        worker_version: request.worker_version,
    };
    respond(service, &target, Body::CompleteActivity(body)).await
}

pub async fn complete_by_id(
    service: &Service,
    request: RespondActivityTaskCompletedByIdRequest,
) -> Result<RespondActivityTaskCompletedByIdResponse, Status> {
    let target = by_id(service, &request.namespace, &request.workflow_id, &request.run_id, &request.activity_id)?;
    validate::payloads("Result", request.result.as_ref())?;
    let body = CompleteActivity {
        activity: target.activity.clone(),
        result: request.result,
        identity: request.identity,
        worker_version: None,
    };
    respond(service, &target, Body::CompleteActivity(body)).await
}

pub async fn fail(
    service: &Service,
    request: RespondActivityTaskFailedRequest,
) -> Result<RespondActivityTaskFailedResponse, Status> {
    let target = by_token(service, &request.namespace, &request.task_token)?;
    let (failure, details) = (request.failure, request.last_heartbeat_details);
    let body = FailActivity {
        activity: target.activity.clone(),
        failure,
        last_heartbeat_details: details,
        identity: request.identity,
        worker_version: request.worker_version,
    };
    respond(service, &target, fail_body(body)?).await
}

pub async fn fail_by_id(
    service: &Service,
    request: RespondActivityTaskFailedByIdRequest,
) -> Result<RespondActivityTaskFailedByIdResponse, Status> {
    let target = by_id(service, &request.namespace, &request.workflow_id, &request.run_id, &request.activity_id)?;
    let (failure, details) = (request.failure, request.last_heartbeat_details);
    let body = FailActivity {
        activity: target.activity.clone(),
        failure,
        last_heartbeat_details: details,
        identity: request.identity,
        worker_version: None,
    };
    respond(service, &target, fail_body(body)?).await
}

fn fail_body(command: FailActivity) -> Result<Body, Status> {
    use prost::Message as _;
    validate::size("Failure", command.failure.as_ref().map_or(0, |failure| failure.encoded_len()))?;
    validate::payloads("LastHeartbeatDetails", command.last_heartbeat_details.as_ref())?;
    Ok(Body::FailActivity(command))
}

pub async fn cancel(
    service: &Service,
    request: RespondActivityTaskCanceledRequest,
) -> Result<RespondActivityTaskCanceledResponse, Status> {
    let target = by_token(service, &request.namespace, &request.task_token)?;
    validate::payloads("Details", request.details.as_ref())?;
    let body =
        CancelActivity { activity: target.activity.clone(), details: request.details, identity: request.identity };
    respond(service, &target, Body::CancelActivity(body)).await
}

pub async fn cancel_by_id(
    service: &Service,
    request: RespondActivityTaskCanceledByIdRequest,
) -> Result<RespondActivityTaskCanceledByIdResponse, Status> {
    let target = by_id(service, &request.namespace, &request.workflow_id, &request.run_id, &request.activity_id)?;
    validate::payloads("Details", request.details.as_ref())?;
    let body =
        CancelActivity { activity: target.activity.clone(), details: request.details, identity: request.identity };
    respond(service, &target, Body::CancelActivity(body)).await
}
