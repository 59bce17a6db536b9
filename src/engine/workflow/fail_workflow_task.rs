//! `FailWorkflowTask`: a worker could not carry out its workflow task.

use super::close::Close;
use super::complete_workflow_task::started_task;
use super::workflow_task::{TaskFailure, fail};
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::FailWorkflowTask;
use crate::proto::temporal::enums::v1::WorkflowTaskFailedCause as Cause;

pub fn decide(work: &mut Work, command: &FailWorkflowTask) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    started_task(work, command.token.as_ref())?;
    if request.cause() == Cause::GrpcMessageTooLarge {
        // No other attempt can do better.
        work.close(Close::terminated("GrpcMessageTooLarge", None, "history-service"));
        return Ok(Reply::Done);
    }
    let binary_checksum = request.binary_checksum.as_str();
    fail(
        work,
        TaskFailure {
            cause: request.cause(),
            failure: request.failure.clone(),
            identity: &request.identity,
            binary_checksum,
        },
    );
    Ok(Reply::Done)
}
