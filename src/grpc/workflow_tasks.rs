//! What workers answer to workflow tasks.

use tonic::Status;

use super::service::Service;
use super::{errors, search_attributes, sizes, validate};
use crate::engine::Reply;
use crate::partition::{activity_task, workflow_task};
use crate::proto::commands::{CompleteWorkflowTask, FailWorkflowTask, ResetStickyTaskQueue, command::Body};
use crate::proto::temporal::workflowservice::v1::*;

pub async fn complete(
    service: &Service,
    mut request: RespondWorkflowTaskCompletedRequest,
) -> Result<RespondWorkflowTaskCompletedResponse, Status> {
    let token = validate::workflow_token(&request.task_token)?;
    let namespace = service.namespace_of(&request.namespace, &token.namespace_id)?;
    let sticky = request.sticky_attributes.as_ref().and_then(|sticky| sticky.worker_task_queue.as_ref());
    validate::identity(&request.identity)?;
    validate::build_id(request.worker_version_stamp.as_ref().map_or("", |stamp| stamp.build_id.as_str()))?;
    validate::length("TaskQueue", sticky.map_or("", |queue| queue.name.as_str()))?;
    let too_large = sizes::command_over_limit(&request.commands);
    let (bad_cause, bad_message) = too_large.map_or((0, ""), |(cause, message)| (cause as i32, message));
    if too_large.is_some() {
        // None is carried out.
        request.commands.clear();
    }
    let checked = search_attributes::check_commands(service, &namespace, &mut request.commands).await;
    let results = std::mem::take(&mut request.query_results);
    request.task_token.clear();
    let (workflow_id, asked_run_id) = (token.id.clone(), token.run_id.clone());
    let body = Body::CompleteWorkflowTask(CompleteWorkflowTask {
        token: Some(token),
        request: Some(request),
        bad_cause,
        bad_message: bad_message.to_owned(),
        bad_terminates: too_large.is_some(),
        bad_search_attributes: checked.err().unwrap_or_default(),
    });
    let (workflow_task, activity_tasks, reset_history_event_id) = service
        .command(&namespace, &workflow_id, body, move |core, key, reply| {
            // The worker has looked, even if its task fails for its commands.
            core.answer_attached(key, &asked_run_id, &results);
            match reply {
                Reply::WorkflowTaskCompleted { run_id, new_task, activities, reset_history_event_id } => {
                    let mut tasks = (None, Vec::new(), reset_history_event_id);
                    if !new_task && activities.is_empty() {
                        return Ok(tasks);
                    }
                    let Some(run) = core.run(key, &run_id)? else { return Ok(tasks) };
                    if new_task {
                        // The worker that completes has the history so far, whether or not it has a sticky queue.
                        tasks.0 = workflow_task(core, key, &run, true)?;
                    }
                    for scheduled_event_id in activities {
                        tasks.1.extend(activity_task(core, key, &run, scheduled_event_id)?);
                    }
                    Ok(tasks)
                }
                Reply::WorkflowTaskTimedOut => Err(errors::not_found("workflow task heartbeat timeout")),
                Reply::WorkflowTaskFailed { message } => Err(Status::invalid_argument(message)),
                _ => Err(Status::internal("a workflow task's completion was answered with something else")),
            }
        })
        .await?;
    Ok(RespondWorkflowTaskCompletedResponse {
        workflow_task: workflow_task.map(Into::into),
        activity_tasks: activity_tasks.into_iter().map(Into::into).collect(),
        reset_history_event_id,
    })
}

pub async fn fail(
    service: &Service,
    mut request: RespondWorkflowTaskFailedRequest,
) -> Result<RespondWorkflowTaskFailedResponse, Status> {
    validate::identity(&request.identity)?;
    let token = validate::workflow_token(&request.task_token)?;
    let namespace = service.namespace_of(&request.namespace, &token.namespace_id)?;
    request.task_token.clear();
    (request.failure, _) = sizes::failure(request.failure.take());
    let workflow_id = token.id.clone();
    let body = Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: Some(request) });
    service.command(&namespace, &workflow_id, body, |_, _, _| Ok(RespondWorkflowTaskFailedResponse::default())).await
}

pub async fn reset_sticky(
    service: &Service,
    request: ResetStickyTaskQueueRequest,
) -> Result<ResetStickyTaskQueueResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::execution(request.execution.as_ref())?;
    let body = Body::ResetStickyTaskQueue(ResetStickyTaskQueue { run_id: execution.run_id });
    service
        .command(&namespace, &execution.workflow_id, body, |_, _, _| Ok(ResetStickyTaskQueueResponse::default()))
        .await
}
