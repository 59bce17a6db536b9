//! Queries to workflows, and their workers' answers.

use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Status;

use super::service::Service;
use super::{errors, validate};
use crate::engine::Rejection;
use crate::partition::QUERY_WAIT_MS_MAX;
use crate::proto::temporal::enums::v1::{QueryRejectCondition, QueryResultType, WorkflowExecutionStatus};
use crate::proto::temporal::query::v1::{QueryRejected, WorkflowQueryResult};
use crate::proto::temporal::workflowservice::v1::*;

/// How long a query waits for a worker if its caller sets no earlier deadline.
const PATIENCE: Duration = Duration::from_millis(QUERY_WAIT_MS_MAX as u64);

pub async fn query(service: &Service, request: QueryWorkflowRequest) -> Result<QueryWorkflowResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::query(&request)?;
    let query = request.query.clone().unwrap_or_default();
    let condition = request.query_reject_condition();
    let (sender, receiver) = oneshot::channel();
    let rejected = service
        .read(&namespace.id, &execution.workflow_id, move |core, key| {
            let run = core
                .run(key, &execution.run_id)?
                .ok_or_else(|| Rejection::workflow_not_found(&key.id, &execution.run_id))?;
            let status = run.status();
            let rejected = match condition {
                // Its worker gets no task.
                _ if status == WorkflowExecutionStatus::Paused => true,
                QueryRejectCondition::NotOpen => status != WorkflowExecutionStatus::Running,
                QueryRejectCondition::NotCompletedCleanly => {
                    !matches!(status, WorkflowExecutionStatus::Running | WorkflowExecutionStatus::Completed)
                }
                _ => false,
            };
            if rejected {
                return Ok(Some(status));
            }
            core.query(key, &run, query, sender);
            Ok(None)
        })
        .await?;
    if let Some(status) = rejected {
        return Ok(QueryWorkflowResponse {
            query_rejected: Some(QueryRejected { status: status as i32 }),
            ..QueryWorkflowResponse::default()
        });
    }
    match tokio::time::timeout(PATIENCE, receiver).await {
        Ok(Ok(answer)) => Ok(QueryWorkflowResponse { query_result: answer?, ..QueryWorkflowResponse::default() }),
        Ok(Err(_)) => Err(Status::unavailable("the partition of the workflow is being taken over: try again")),
        Err(_) => {
            Err(Status::deadline_exceeded("no worker answered the query: is one polling the workflow's task queue?"))
        }
    }
}

pub async fn respond(
    service: &Service,
    request: RespondQueryTaskCompletedRequest,
) -> Result<RespondQueryTaskCompletedResponse, Status> {
    let token = validate::workflow_token(&request.task_token)?;
    if token.activity_id != "query" {
        return Err(Status::invalid_argument("Invalid task token: it is not one of a query."));
    }
    let namespace = service.namespace_of(&request.namespace, &token.namespace_id)?;
    let mut result = WorkflowQueryResult {
        result_type: request.completed_type,
        answer: request.query_result,
        error_message: request.error_message,
        failure: request.failure,
    };
    if let Err(status) = validate::payloads(result.answer.as_ref()) {
        result = WorkflowQueryResult {
            result_type: QueryResultType::Failed as i32,
            error_message: status.message().to_owned(),
            ..WorkflowQueryResult::default()
        };
    }
    let (id, workflow_id) = (token.scheduled_event_id as u64, token.id.clone());
    let awaited = service
        .visit(&namespace.id, &workflow_id, move |core, key| Ok(core.answer_direct(key, &token.run_id, id, &result)))
        .await?;
    if awaited {
        Ok(RespondQueryTaskCompletedResponse::default())
    } else {
        Err(errors::not_found("query task not found, or already expired"))
    }
}
