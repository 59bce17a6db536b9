//! What operators do to workflows: they reset them, pause them, let them go on and change their options.

use tonic::Status;

use super::service::Service;
use super::validate;
use crate::engine::Reply;
use crate::proto::commands::{PauseWorkflow, ResetWorkflow, UnpauseWorkflow, UpdateWorkflowOptions, command::Body};
use crate::proto::temporal::workflowservice::v1::*;

pub async fn reset(
    service: &Service,
    request: ResetWorkflowExecutionRequest,
) -> Result<ResetWorkflowExecutionResponse, Status> {
    let execution = validate::reset(&request)?;
    let namespace = service.namespace(&request.namespace)?;
    let body = Body::ResetWorkflow(ResetWorkflow { request: Some(request), ..ResetWorkflow::default() });
    service
        .command(&namespace, &execution.workflow_id, body, |_, _, reply| match reply {
            Reply::Reset { run_id } => Ok(ResetWorkflowExecutionResponse { run_id }),
            _ => Err(Status::internal("a reset was answered with something else")),
        })
        .await
}

pub async fn pause(
    service: &Service,
    request: PauseWorkflowExecutionRequest,
) -> Result<PauseWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::pause(&request.workflow_id, &request.run_id, [&request.reason, &request.request_id, &request.identity])?;
    let workflow_id = request.workflow_id.clone();
    let body = Body::PauseWorkflow(PauseWorkflow { request: Some(request) });
    service.command(&namespace, &workflow_id, body, |_, _, _| Ok(PauseWorkflowExecutionResponse::default())).await
}

pub async fn unpause(
    service: &Service,
    request: UnpauseWorkflowExecutionRequest,
) -> Result<UnpauseWorkflowExecutionResponse, Status> {
    validate::pause(&request.workflow_id, &request.run_id, [&request.reason, &request.request_id, &request.identity])?;
    let namespace = service.namespace(&request.namespace)?;
    let workflow_id = request.workflow_id.clone();
    let body = Body::UnpauseWorkflow(UnpauseWorkflow { request: Some(request) });
    service.command(&namespace, &workflow_id, body, |_, _, _| Ok(UnpauseWorkflowExecutionResponse::default())).await
}

pub async fn update_options(
    service: &Service,
    request: UpdateWorkflowExecutionOptionsRequest,
) -> Result<UpdateWorkflowExecutionOptionsResponse, Status> {
    let execution = validate::update_options(&request)?;
    let namespace = service.namespace(&request.namespace)?;
    let body = Body::UpdateWorkflowOptions(UpdateWorkflowOptions { request: Some(request) });
    service
        .command(&namespace, &execution.workflow_id, body, |_, _, reply| match reply {
            Reply::WorkflowOptions(options) => Ok(UpdateWorkflowExecutionOptionsResponse {
                workflow_execution_options: Some(*options),
                ..UpdateWorkflowExecutionOptionsResponse::default()
            }),
            _ => Err(Status::internal("an update of options was answered with something else")),
        })
        .await
}

/// There is nothing to wait for: no workflow has a time of its own, which could be skipped.
pub async fn poll_time_skipping(
    service: &Service,
    request: PollWorkflowExecutionTimeSkippingRequest,
) -> Result<PollWorkflowExecutionTimeSkippingResponse, Status> {
    if request.namespace.is_empty() {
        return Err(Status::invalid_argument("Namespace is empty."));
    }
    validate::execution(request.workflow_execution.as_ref())?;
    service.namespace(&request.namespace)?;
    Err(validate::no_time_skipping())
}
