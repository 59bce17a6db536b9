//! Starting, signaling, canceling, terminating and deleting workflows.

use tonic::Status;

use super::service::Service;
use super::{search_attributes, validate};
use crate::engine::Reply;
use crate::partition::workflow_task;
use crate::proto::commands::{
    DeleteWorkflow, RequestCancelWorkflow, SignalWithStartWorkflow, SignalWorkflow, StartWorkflow, TerminateWorkflow,
    command::Body,
};
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus;
use crate::proto::temporal::workflowservice::v1::*;

/// A request without an id gets one, so that it can be told from another.
fn fill_request_id(service: &Service, request_id: &mut String) {
    if request_id.is_empty() {
        *request_id = service.node.new_id();
    }
}

pub async fn start(
    service: &Service,
    mut request: StartWorkflowExecutionRequest,
) -> Result<StartWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::start(&request)?;
    search_attributes::check(service, &namespace, request.search_attributes.as_mut()).await?;
    fill_request_id(service, &mut request.request_id);
    let workflow_id = request.workflow_id.clone();
    let body = Body::StartWorkflow(StartWorkflow { request: Some(request), ..StartWorkflow::default() });
    service
        .command(&namespace, &workflow_id, body, |core, key, reply| {
            let Reply::Started { run_id, started, eager_task } = reply else {
                return Err(Status::internal("a start was answered with something else"));
            };
            let run = core.run(key, &run_id)?;
            let eager_workflow_task = match &run {
                Some(run) if eager_task => workflow_task(core, key, run, false)?,
                _ => None,
            };
            let status = run.as_ref().map_or(WorkflowExecutionStatus::Running as i32, |run| run.head.status);
            let first_execution_run_id = run.map(|run| run.head.first_run_id.clone()).unwrap_or_default();
            Ok(StartWorkflowExecutionResponse {
                run_id,
                started,
                status,
                eager_workflow_task,
                first_execution_run_id,
                ..StartWorkflowExecutionResponse::default()
            })
        })
        .await
}

pub async fn signal(
    service: &Service,
    request: SignalWorkflowExecutionRequest,
) -> Result<SignalWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::execution(request.workflow_execution.as_ref())?;
    validate::required("SignalName", &request.signal_name)?;
    validate::length("RequestId", &request.request_id)?;
    validate::payloads("Input", request.input.as_ref())?;
    let body = Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: None });
    service
        .command(&namespace, &execution.workflow_id, body, |_, _, _| Ok(SignalWorkflowExecutionResponse::default()))
        .await
}

pub async fn signal_with_start(
    service: &Service,
    mut request: SignalWithStartWorkflowExecutionRequest,
) -> Result<SignalWithStartWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::required("SignalName", &request.signal_name)?;
    validate::payloads("SignalInput", request.signal_input.as_ref())?;
    let (signal_name, signal_input) = (std::mem::take(&mut request.signal_name), request.signal_input.take());
    let mut start = start_of(request);
    validate::start(&start)?;
    search_attributes::check(service, &namespace, start.search_attributes.as_mut()).await?;
    fill_request_id(service, &mut start.request_id);
    let workflow_id = start.workflow_id.clone();
    let command = SignalWithStartWorkflow { start: Some(start), signal_name, signal_input };
    let body = Body::SignalWithStartWorkflow(command);
    service
        .command(&namespace, &workflow_id, body, |_, _, reply| match reply {
            Reply::Started { run_id, started, .. } => Ok(SignalWithStartWorkflowExecutionResponse {
                run_id,
                started,
                ..SignalWithStartWorkflowExecutionResponse::default()
            }),
            _ => Err(Status::internal("a start was answered with something else")),
        })
        .await
}

/// What a signal-with-start starts, if nothing runs.
fn start_of(request: SignalWithStartWorkflowExecutionRequest) -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: request.namespace,
        workflow_id: request.workflow_id,
        workflow_type: request.workflow_type,
        task_queue: request.task_queue,
        input: request.input,
        workflow_execution_timeout: request.workflow_execution_timeout,
        workflow_run_timeout: request.workflow_run_timeout,
        workflow_task_timeout: request.workflow_task_timeout,
        identity: request.identity,
        request_id: request.request_id,
        workflow_id_reuse_policy: request.workflow_id_reuse_policy,
        workflow_id_conflict_policy: request.workflow_id_conflict_policy,
        retry_policy: request.retry_policy,
        cron_schedule: request.cron_schedule,
        memo: request.memo,
        search_attributes: request.search_attributes,
        header: request.header,
        workflow_start_delay: request.workflow_start_delay,
        user_metadata: request.user_metadata,
        priority: request.priority,
        links: request.links,
        ..StartWorkflowExecutionRequest::default()
    }
}

pub async fn request_cancel(
    service: &Service,
    request: RequestCancelWorkflowExecutionRequest,
) -> Result<RequestCancelWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::execution(request.workflow_execution.as_ref())?;
    let body = Body::RequestCancelWorkflow(RequestCancelWorkflow {
        request: Some(request),
        ..RequestCancelWorkflow::default()
    });
    service
        .command(&namespace, &execution.workflow_id, body, |_, _, _| {
            Ok(RequestCancelWorkflowExecutionResponse::default())
        })
        .await
}

/// What a termination says that gives no reason, or does not say whose it is: a user's, not the server's.
const TERMINATE_REASON: &str = "terminated by user via frontend";
const TERMINATE_IDENTITY: &str = "frontend-service";

pub async fn terminate(
    service: &Service,
    mut request: TerminateWorkflowExecutionRequest,
) -> Result<TerminateWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::execution(request.workflow_execution.as_ref())?;
    validate::payloads("Details", request.details.as_ref())?;
    for (text, default) in [(&mut request.reason, TERMINATE_REASON), (&mut request.identity, TERMINATE_IDENTITY)] {
        if text.is_empty() {
            default.clone_into(text);
        }
    }
    let body = Body::TerminateWorkflow(TerminateWorkflow { request: Some(request), ..TerminateWorkflow::default() });
    service
        .command(&namespace, &execution.workflow_id, body, |_, _, _| Ok(TerminateWorkflowExecutionResponse::default()))
        .await
}

pub async fn delete(
    service: &Service,
    request: DeleteWorkflowExecutionRequest,
) -> Result<DeleteWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::execution(request.workflow_execution.as_ref())?;
    let (id, run_id) = (execution.workflow_id.clone(), execution.run_id);
    let run = service.read(&namespace.id, &id, move |core, key| Ok(core.run(key, &run_id)?)).await?;
    let run = run.ok_or_else(|| super::errors::not_found(format!("workflow not found for ID: {id}")))?;
    let run_id = run.head.run_id.clone();
    if run.is_open() {
        let request = TerminateWorkflowExecutionRequest {
            workflow_execution: Some(crate::proto::temporal::common::v1::WorkflowExecution {
                workflow_id: id.clone(),
                run_id: run_id.clone(),
            }),
            reason: "Delete workflow execution".into(),
            ..TerminateWorkflowExecutionRequest::default()
        };
        let body =
            Body::TerminateWorkflow(TerminateWorkflow { request: Some(request), ..TerminateWorkflow::default() });
        service.command(&namespace, &id, body, |_, _, _| Ok(())).await?;
    }
    service
        .command(&namespace, &id, Body::DeleteWorkflow(DeleteWorkflow { run_id }), |_, _, _| {
            Ok(DeleteWorkflowExecutionResponse::default())
        })
        .await
}
