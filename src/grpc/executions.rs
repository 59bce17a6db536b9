//! Starting, signaling, canceling, terminating and deleting workflows.

use tonic::Status;

use super::link::LinkTo;
use super::service::Service;
use super::{search_attributes, validate};
use crate::engine::workflow::{DELETE_REASON, Run};
use crate::engine::{EntityId, Rejection, Reply};
use crate::partition::{Core, workflow_task};
use crate::proto::commands::{
    DeleteRun, RequestCancelWorkflow, SignalWithStartWorkflow, SignalWorkflow, StartWorkflow, TerminateWorkflow,
    command::Body,
};
use crate::proto::temporal::enums::v1::{EventType, WorkflowExecutionStatus};
use crate::proto::temporal::workflowservice::v1::*;

pub fn first_run_id(run: Option<Run>) -> String {
    run.map(|run| run.head.first_run_id.clone()).unwrap_or_default()
}

/// A request without an id gets one, so that it differs from any other.
pub fn fill_request_id(service: &Service, request_id: &mut String) {
    if request_id.is_empty() {
        *request_id = service.node.new_id();
    }
}

pub async fn start(
    service: &Service,
    mut request: StartWorkflowExecutionRequest,
) -> Result<StartWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::start(&mut request)?;
    search_attributes::check(service, &namespace, request.search_attributes.as_mut()).await?;
    fill_request_id(service, &mut request.request_id);
    let workflow_id = request.workflow_id.clone();
    let to = LinkTo { namespace: namespace.name.clone(), request_id: request.request_id.clone() };
    let attached = request.on_conflict_options.as_ref().is_some_and(|options| options.attach_request_id);
    let body = Body::StartWorkflow(StartWorkflow { request: Some(request), ..StartWorkflow::default() });
    let (mut response, task) = service
        .command(&namespace, &workflow_id, body, move |core, key, reply| {
            let Reply::Started { run_id, started, eager_task } = reply else {
                return Err(Status::internal("a start was answered with something else"));
            };
            let run = core.run(key, &run_id)?;
            let task = match &run {
                Some(run) if eager_task => workflow_task(core, key, run, false)?,
                _ => None,
            };
            let status = run.as_ref().map_or(WorkflowExecutionStatus::Running as i32, |run| run.head.status);
            let link = if attached && !started {
                to.request(key, &run_id, EventType::WorkflowExecutionOptionsUpdated)
            } else {
                to.start(key, &run_id)
            };
            let response = StartWorkflowExecutionResponse {
                link: Some(link),
                first_execution_run_id: first_run_id(run),
                run_id,
                started,
                status,
                eager_workflow_task: None,
            };
            Ok((response, task))
        })
        .await?;
    response.eager_workflow_task = task.map(Into::into);
    Ok(response)
}

pub async fn signal(
    service: &Service,
    request: SignalWorkflowExecutionRequest,
) -> Result<SignalWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::signal(&request)?;
    let to = LinkTo { namespace: namespace.name.clone(), request_id: request.request_id.clone() };
    let body = Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: None });
    let (workflow_id, run_id) = (execution.workflow_id, execution.run_id);
    service
        .command(&namespace, &workflow_id, body, move |core, key, _| {
            let run_id = core.run(key, &run_id)?.map(|run| run.head.run_id.clone()).unwrap_or_default();
            let link = to.request(key, &run_id, EventType::WorkflowExecutionSignaled);
            Ok(SignalWorkflowExecutionResponse { link: Some(link) })
        })
        .await
}

pub async fn signal_with_start(
    service: &Service,
    mut request: SignalWithStartWorkflowExecutionRequest,
) -> Result<SignalWithStartWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let (signal_name, signal_input) = (std::mem::take(&mut request.signal_name), request.signal_input.take());
    let mut start = start_of(request);
    validate::signal_with_start(&signal_name, signal_input.as_ref(), &mut start)?;
    search_attributes::check(service, &namespace, start.search_attributes.as_mut()).await?;
    fill_request_id(service, &mut start.request_id);
    let workflow_id = start.workflow_id.clone();
    let to = LinkTo { namespace: namespace.name.clone(), request_id: start.request_id.clone() };
    let command = SignalWithStartWorkflow { start: Some(start), signal_name, signal_input };
    let body = Body::SignalWithStartWorkflow(command);
    service
        .command(&namespace, &workflow_id, body, move |core, key, reply| match reply {
            Reply::Started { run_id, started, .. } => Ok(SignalWithStartWorkflowExecutionResponse {
                signal_link: Some(to.request(key, &run_id, EventType::WorkflowExecutionSignaled)),
                first_execution_run_id: first_run_id(core.run(key, &run_id)?),
                run_id,
                started,
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
        time_skipping_config: request.time_skipping_config,
        ..StartWorkflowExecutionRequest::default()
    }
}

pub async fn request_cancel(
    service: &Service,
    request: RequestCancelWorkflowExecutionRequest,
) -> Result<RequestCancelWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::request_cancel(&request)?;
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

/// The reason and identity of a termination without them: a user's, not the server's.
const TERMINATE_REASON: &str = "terminated by user via frontend";
const TERMINATE_IDENTITY: &str = "frontend-service";

pub async fn terminate(
    service: &Service,
    mut request: TerminateWorkflowExecutionRequest,
) -> Result<TerminateWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::terminate(&request)?;
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
    let run = service
        .read(&namespace.id, &id, move |core, key| {
            let run = core.run(key, &run_id)?;
            run.ok_or_else(|| Rejection::workflow_not_found(&key.id, &run_id).into())
        })
        .await?;
    let run_id = run.head.run_id.clone();
    if run.is_open() {
        let request = TerminateWorkflowExecutionRequest {
            workflow_execution: Some(crate::proto::temporal::common::v1::WorkflowExecution {
                workflow_id: id.clone(),
                run_id: run_id.clone(),
            }),
            reason: DELETE_REASON.into(),
            ..TerminateWorkflowExecutionRequest::default()
        };
        let body =
            Body::TerminateWorkflow(TerminateWorkflow { request: Some(request), ..TerminateWorkflow::default() });
        service.command(&namespace, &id, body, |_, _, _| Ok(())).await?;
    }
    let delete = DeleteRun { run_id, due: false, at_once: service.node.settings.deleted_at_once };
    let answer = |_: &mut Core, _: &EntityId, _| Ok(DeleteWorkflowExecutionResponse::default());
    service.command(&namespace, &id, Body::DeleteRun(delete), answer).await
}
