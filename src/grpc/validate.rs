//! What the edge checks before a request becomes a command: presence, lengths, sizes.

use prost::Message;
use tonic::Status;

use crate::engine::{self, CronSchedule};
use crate::proto::commands::TaskToken;
use crate::proto::temporal::command::v1::{Command, command::Attributes as A};
use crate::proto::temporal::common::v1::{Payloads, WorkflowExecution, WorkflowType};
use crate::proto::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;
use crate::types::{limits, time};

/// A name that must be there and not be too long. `what` as Temporal's API spells it.
pub fn required(what: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() {
        return Err(Status::invalid_argument(format!("{what} is not set on request.")));
    }
    length(what, value)
}

pub fn length(what: &str, value: &str) -> Result<(), Status> {
    if limits::is_too_long(value) {
        return Err(Status::invalid_argument(format!(
            "{what} exceeds length limit of {} characters.",
            limits::ID_LENGTH_MAX
        )));
    }
    Ok(())
}

pub fn execution(execution: Option<&WorkflowExecution>) -> Result<WorkflowExecution, Status> {
    let execution = execution.cloned().ok_or_else(|| Status::invalid_argument("Execution is not set on request."))?;
    required("WorkflowId", &execution.workflow_id)?;
    if !execution.run_id.is_empty() && !is_uuid(&execution.run_id) {
        return Err(Status::invalid_argument("Invalid RunId."));
    }
    Ok(execution)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() })
}

pub fn workflow_type(workflow_type: Option<&WorkflowType>) -> Result<(), Status> {
    required("WorkflowType", workflow_type.map(|t| t.name.as_str()).unwrap_or_default())
}

pub fn task_queue(queue: Option<&TaskQueue>) -> Result<(), Status> {
    required("TaskQueue", queue.map(|queue| queue.name.as_str()).unwrap_or_default())
}

pub fn payloads(what: &str, payloads: Option<&Payloads>) -> Result<(), Status> {
    size(what, payloads.map_or(0, Message::encoded_len))
}

pub fn size(what: &str, bytes: usize) -> Result<(), Status> {
    if bytes > limits::BLOB_SIZE_MAX {
        return Err(Status::invalid_argument(format!(
            "Blob data size exceeds limit: {what} has {bytes} bytes, and the limit is {}.",
            limits::BLOB_SIZE_MAX
        )));
    }
    Ok(())
}

/// What a workflow is started with.
pub fn start(request: &StartWorkflowExecutionRequest) -> Result<(), Status> {
    required("WorkflowId", &request.workflow_id)?;
    workflow_type(request.workflow_type.as_ref())?;
    task_queue(request.task_queue.as_ref())?;
    payloads("Input", request.input.as_ref())?;
    length("RequestId", &request.request_id)?;
    if request.memo.as_ref().map_or(0, Message::encoded_len) > limits::MEMO_SIZE_MAX {
        return Err(Status::invalid_argument(format!("Memo size exceeds limit of {} bytes.", limits::MEMO_SIZE_MAX)));
    }
    size("SearchAttributes", request.search_attributes.as_ref().map_or(0, Message::encoded_len))?;
    for (what, timeout) in [
        ("WorkflowExecutionTimeout", &request.workflow_execution_timeout),
        ("WorkflowRunTimeout", &request.workflow_run_timeout),
        ("WorkflowTaskTimeout", &request.workflow_task_timeout),
        ("WorkflowStartDelay", &request.workflow_start_delay),
    ] {
        if time::is_negative(timeout.as_ref()) {
            return Err(Status::invalid_argument(format!("Invalid {what}: it is negative.")));
        }
    }
    if let Some(problem) = request.retry_policy.as_ref().and_then(engine::retry_policy_problem) {
        return Err(Status::invalid_argument(problem));
    }
    if !request.cron_schedule.is_empty() {
        CronSchedule::parse(&request.cron_schedule).map_err(Status::invalid_argument)?;
    }
    Ok(())
}

/// Reads a task token; the error names the field.
pub fn token(bytes: &[u8]) -> Result<TaskToken, Status> {
    if bytes.is_empty() {
        return Err(Status::invalid_argument("Task token not set on request."));
    }
    let token = TaskToken::decode(bytes).map_err(|_| {
        Status::invalid_argument("Invalid task token: it can't be read; hand back the token as it was received.")
    })?;
    if token.workflow_id.is_empty() || token.run_id.is_empty() {
        return Err(Status::invalid_argument("Invalid task token: it names no workflow run."));
    }
    Ok(token)
}

/// Whether a workflow task's commands are within the limits on sizes: why not, for the failure of the task.
pub fn commands(commands: &[Command]) -> Option<(Cause, String)> {
    commands.iter().find_map(|command| {
        let (cause, what, bytes) = match command.attributes.as_ref()? {
            A::ScheduleActivityTaskCommandAttributes(a) => (
                Cause::BadScheduleActivityAttributes,
                "ScheduleActivityTaskCommandAttributes.Input",
                a.input.as_ref().map_or(0, Message::encoded_len),
            ),
            A::CompleteWorkflowExecutionCommandAttributes(a) => (
                Cause::BadCompleteWorkflowExecutionAttributes,
                "CompleteWorkflowExecutionCommandAttributes.Result",
                a.result.as_ref().map_or(0, Message::encoded_len),
            ),
            A::FailWorkflowExecutionCommandAttributes(a) => (
                Cause::BadFailWorkflowExecutionAttributes,
                "FailWorkflowExecutionCommandAttributes.Failure",
                a.failure.as_ref().map_or(0, Message::encoded_len),
            ),
            A::StartChildWorkflowExecutionCommandAttributes(a) => (
                Cause::BadStartChildExecutionAttributes,
                "StartChildWorkflowExecutionCommandAttributes.Input",
                a.input.as_ref().map_or(0, Message::encoded_len),
            ),
            A::ContinueAsNewWorkflowExecutionCommandAttributes(a) => (
                Cause::BadContinueAsNewAttributes,
                "ContinueAsNewWorkflowExecutionCommandAttributes.Input",
                a.input.as_ref().map_or(0, Message::encoded_len),
            ),
            A::SignalExternalWorkflowExecutionCommandAttributes(a) => (
                Cause::BadSignalWorkflowExecutionAttributes,
                "SignalExternalWorkflowExecutionCommandAttributes.Input",
                a.input.as_ref().map_or(0, Message::encoded_len),
            ),
            A::RecordMarkerCommandAttributes(a) => {
                (Cause::BadRecordMarkerAttributes, "RecordMarkerCommandAttributes.Details", a.encoded_len())
            }
            _ => return None,
        };
        (bytes > limits::BLOB_SIZE_MAX)
            .then(|| (cause, format!("{what} exceeds size limit of {} bytes: it has {bytes}.", limits::BLOB_SIZE_MAX)))
    })
}
