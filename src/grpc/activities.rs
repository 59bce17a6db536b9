//! What workers answer to activity tasks, by the token of the task or by the activity's id.

use std::sync::Arc;

use tonic::Status;

use super::service::{Service, command};
use super::{sizes, validate};
use crate::engine::{EntityId, Reply};
use crate::proto::commands::{
    ActivityRef, CancelActivity, CompleteActivity, FailActivity, HeartbeatActivity, command::Body,
};
use crate::proto::state::Namespace;
use crate::proto::temporal::failure::v1::Failure;
use crate::proto::temporal::workflowservice::v1::*;

/// The activity that a request is about.
struct Target {
    namespace: Arc<Namespace>,
    entity: EntityId,
    activity: Option<ActivityRef>,
}

fn by_token(service: &Service, namespace: &str, task_token: &[u8]) -> Result<Target, Status> {
    let token = validate::token(task_token)?;
    let namespace = service.namespace_of(namespace, &token.namespace_id)?;
    let entity = EntityId::of_token(&token).ok_or_else(|| Status::invalid_argument("Invalid task token."))?;
    Ok(Target { namespace, entity, activity: Some(ActivityRef { token: Some(token), ..ActivityRef::default() }) })
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
    let entity = EntityId::workflow(&namespace.id, workflow_id);
    Ok(Target { namespace, entity, activity: Some(activity) })
}

impl Target {
    async fn command<T: Send + 'static>(
        self,
        service: &Service,
        body: impl FnOnce(Option<ActivityRef>) -> Body,
        reply: impl FnOnce(Reply) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let command = command(&service.node, &self.namespace, &self.entity, body(self.activity));
        service.decide(command, &self.entity, |_, _, outcome| Ok(reply(outcome))).await
    }

    async fn heartbeat(
        self,
        service: &Service,
        command: HeartbeatActivity,
    ) -> Result<RecordActivityTaskHeartbeatResponse, Status> {
        let too_large = sizes::activity_failure(command.details.as_ref(), "Heartbeat details exceed size limit.");
        if let Some(failure) = too_large {
            self.fail_for_good(service, failure, command.identity).await?;
            return Ok(RecordActivityTaskHeartbeatResponse { cancel_requested: true, ..Default::default() });
        }
        let body = |activity| Body::HeartbeatActivity(HeartbeatActivity { activity, ..command });
        let response = |reply| match reply {
            Reply::HeartbeatRecorded { cancel_requested, paused: activity_paused, reset: activity_reset } => {
                RecordActivityTaskHeartbeatResponse { cancel_requested, activity_paused, activity_reset }
            }
            _ => RecordActivityTaskHeartbeatResponse::default(),
        };
        self.command(service, body, response).await
    }

    async fn complete(self, service: &Service, command: CompleteActivity) -> Result<(), Status> {
        let too_large = sizes::activity_failure(command.result.as_ref(), "Complete result exceeds size limit.");
        if let Some(failure) = too_large {
            return self.fail_for_good(service, failure, command.identity).await;
        }
        let body = |activity| Body::CompleteActivity(CompleteActivity { activity, ..command });
        self.command(service, body, drop).await
    }

    /// Returns what of the request was too large.
    async fn fail(self, service: &Service, mut command: FailActivity) -> Result<Vec<Failure>, Status> {
        let details = command.last_heartbeat_details.as_ref();
        let mut too_large: Vec<_> =
            sizes::activity_failure(details, "Heartbeat details exceed size limit.").into_iter().collect();
        if !too_large.is_empty() {
            command.last_heartbeat_details = None;
        }
        let (failure, cut) = sizes::failure(command.failure.take());
        too_large.extend(cut);
        let body = |activity| Body::FailActivity(FailActivity { activity, failure, ..command });
        self.command(service, body, drop).await?;
        Ok(too_large)
    }

    async fn fail_for_good(self, service: &Service, failure: Failure, identity: String) -> Result<(), Status> {
        let command = FailActivity { failure: Some(failure), identity, ..FailActivity::default() };
        let body = |activity| Body::FailActivity(FailActivity { activity, ..command });
        self.command(service, body, drop).await
    }

    async fn cancel(self, service: &Service, command: CancelActivity) -> Result<(), Status> {
        let too_large = sizes::activity_failure(command.details.as_ref(), "Cancel details exceed size limit.");
        if let Some(failure) = too_large {
            return self.fail_for_good(service, failure, command.identity).await;
        }
        let body = |activity| Body::CancelActivity(CancelActivity { activity, ..command });
        self.command(service, body, drop).await
    }
}

pub async fn heartbeat(
    service: &Service,
    request: RecordActivityTaskHeartbeatRequest,
) -> Result<RecordActivityTaskHeartbeatResponse, Status> {
    validate::identity(&request.identity)?;
    let target = by_token(service, &request.namespace, &request.task_token)?;
    let command = HeartbeatActivity { activity: None, details: request.details, identity: request.identity };
    target.heartbeat(service, command).await
}

pub async fn complete(
    service: &Service,
    request: RespondActivityTaskCompletedRequest,
) -> Result<RespondActivityTaskCompletedResponse, Status> {
    validate::identity(&request.identity)?;
    let target = by_token(service, &request.namespace, &request.task_token)?;
    let command = CompleteActivity {
        activity: None,
        result: request.result,
        identity: request.identity,
        worker_version: request.worker_version,
    };
    target.complete(service, command).await?;
    Ok(RespondActivityTaskCompletedResponse::default())
}

pub async fn fail(
    service: &Service,
    request: RespondActivityTaskFailedRequest,
) -> Result<RespondActivityTaskFailedResponse, Status> {
    validate::identity(&request.identity)?;
    let target = by_token(service, &request.namespace, &request.task_token)?;
    validate::failure(request.failure.as_ref())?;
    let command = FailActivity {
        activity: None,
        failure: request.failure,
        last_heartbeat_details: request.last_heartbeat_details,
        identity: request.identity,
        worker_version: request.worker_version,
    };
    Ok(RespondActivityTaskFailedResponse { failures: target.fail(service, command).await? })
}

pub async fn cancel(
    service: &Service,
    request: RespondActivityTaskCanceledRequest,
) -> Result<RespondActivityTaskCanceledResponse, Status> {
    validate::identity(&request.identity)?;
    let target = by_token(service, &request.namespace, &request.task_token)?;
    let command = CancelActivity { activity: None, details: request.details, identity: request.identity };
    target.cancel(service, command).await?;
    Ok(RespondActivityTaskCanceledResponse::default())
}

pub async fn heartbeat_by_id(
    service: &Service,
    request: RecordActivityTaskHeartbeatByIdRequest,
) -> Result<RecordActivityTaskHeartbeatByIdResponse, Status> {
    validate::identity(&request.identity)?;
    let target = by_id(service, &request.namespace, &request.workflow_id, &request.run_id, &request.activity_id)?;
    let command = HeartbeatActivity { activity: None, details: request.details, identity: request.identity };
    let RecordActivityTaskHeartbeatResponse { cancel_requested, activity_paused, activity_reset } =
        target.heartbeat(service, command).await?;
    Ok(RecordActivityTaskHeartbeatByIdResponse { cancel_requested, activity_paused, activity_reset })
}

pub async fn complete_by_id(
    service: &Service,
    request: RespondActivityTaskCompletedByIdRequest,
) -> Result<RespondActivityTaskCompletedByIdResponse, Status> {
    validate::identity(&request.identity)?;
    let target = by_id(service, &request.namespace, &request.workflow_id, &request.run_id, &request.activity_id)?;
    let command =
        CompleteActivity { activity: None, result: request.result, identity: request.identity, worker_version: None };
    target.complete(service, command).await?;
    Ok(RespondActivityTaskCompletedByIdResponse::default())
}

pub async fn fail_by_id(
    service: &Service,
    request: RespondActivityTaskFailedByIdRequest,
) -> Result<RespondActivityTaskFailedByIdResponse, Status> {
    validate::identity(&request.identity)?;
    let target = by_id(service, &request.namespace, &request.workflow_id, &request.run_id, &request.activity_id)?;
    validate::failure(request.failure.as_ref())?;
    let command = FailActivity {
        activity: None,
        failure: request.failure,
        last_heartbeat_details: request.last_heartbeat_details,
        identity: request.identity,
        worker_version: None,
    };
    Ok(RespondActivityTaskFailedByIdResponse { failures: target.fail(service, command).await? })
}

pub async fn cancel_by_id(
    service: &Service,
    request: RespondActivityTaskCanceledByIdRequest,
) -> Result<RespondActivityTaskCanceledByIdResponse, Status> {
    validate::identity(&request.identity)?;
    let target = by_id(service, &request.namespace, &request.workflow_id, &request.run_id, &request.activity_id)?;
    let command = CancelActivity { activity: None, details: request.details, identity: request.identity };
    target.cancel(service, command).await?;
    Ok(RespondActivityTaskCanceledByIdResponse::default())
}
