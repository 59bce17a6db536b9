//! What the edge checks before a request becomes a command: presence, lengths, sizes, and what does not go together.
//!
//! What is refused, and how it is worded, is what Temporal's server has (`service/frontend/workflow_handler.go` and
//! `chasm/lib/workflow/validator.go` of 1.32); [`tests`] holds it to a table.

mod batches;
mod links;
mod schedules;
#[cfg(test)]
mod tests;

use prost::Message;
use prost_types::Duration;
use tonic::Status;

pub use batches::{batch, job_id, reason_of_batch};
pub use schedules::{patch_of_schedule, schedule_id, scheduled_workflow, time as schedule_time};

use super::errors;
use crate::engine::{self, CronSchedule, EntityId, Kind, workflow};
use crate::proto::commands::TaskToken;
use crate::proto::temporal::common::v1::{Payloads, Priority, TimeSkippingConfig, WorkflowExecution};
use crate::proto::temporal::enums::v1::{
    ResetReapplyType, WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse,
};
use crate::proto::temporal::failure::v1::{Failure, failure::FailureInfo};
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflow::v1::{OnConflictOptions, PostResetOperation, post_reset_operation};
use crate::proto::temporal::workflowservice::v1::{
    QueryWorkflowRequest, RequestCancelWorkflowExecutionRequest, ResetWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
    UpdateWorkflowExecutionOptionsRequest, UpdateWorkflowExecutionRequest,
};
use crate::types::{is_uuid, limits, time};
/// Bytes.
const FAIRNESS_KEY_LENGTH_MAX: usize = 64;

/// A name that must be there and not be too long. `what` as Temporal's API spells it.
pub fn required(what: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() {
        return Err(Status::invalid_argument(format!("{what} is not set on request.")));
    }
    length(what, value)
}

pub fn length(what: &str, value: &str) -> Result<(), Status> {
    if value.len() > limits::ID_LENGTH_MAX {
        return Err(Status::invalid_argument(format!("{what} length exceeds limit.")));
    }
    Ok(())
}

fn workflow_id(id: &str) -> Result<(), Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("WorkflowId is not set on request."));
    }
    allowed_length("WorkflowId", id)
}

fn allowed_length(what: &str, value: &str) -> Result<(), Status> {
    let (length, max) = (value.len(), limits::ID_LENGTH_MAX);
    if length > max {
        return Err(Status::invalid_argument(format!("{what} exceeds maximum allowed length ({length}/{max})")));
    }
    Ok(())
}

pub fn identity(identity: &str) -> Result<(), Status> {
    length("Identity", identity)
}

/// A worker's report of an attempt that failed. The server's own time-outs, and cancellations, can't be reported by a worker.
pub fn failure(failure: Option<&Failure>) -> Result<(), Status> {
    let Some(failure) = failure else { return Ok(()) };
    let Some(FailureInfo::ApplicationFailureInfo(info)) = &failure.failure_info else {
        return Err(Status::invalid_argument("Failure must have ApplicationFailureInfo."));
    };
    let invalid = |problem| Status::invalid_argument(format!("NextRetryDelay is not a valid duration: {problem}"));
    time::problem(info.next_retry_delay.as_ref()).map_or(Ok(()), |problem| Err(invalid(problem)))
}

/// The build ids that a worker names.
pub fn build_id(build_id: &str) -> Result<(), Status> {
    if build_id.len() > limits::BUILD_ID_LENGTH_MAX {
        let message = "Build ID exceeds configured limit.workerBuildIdSize, use a shorter build ID.";
        return Err(Status::invalid_argument(message));
    }
    Ok(())
}

pub fn execution(execution: Option<&WorkflowExecution>) -> Result<WorkflowExecution, Status> {
    let execution = execution.cloned().ok_or_else(|| Status::invalid_argument("Execution is not set on request."))?;
    if execution.workflow_id.is_empty() {
        return Err(Status::invalid_argument("WorkflowId is not set on request."));
    }
    if !execution.run_id.is_empty() && !is_uuid(&execution.run_id) {
        return Err(Status::invalid_argument("Invalid RunId."));
    }
    Ok(execution)
}

/// A random delay, of activities that an operator lets go on or resets.
pub fn jitter(jitter: Option<&Duration>) -> Result<(), Status> {
    let problem = time::problem(jitter);
    problem.map_or(Ok(()), |problem| Err(Status::invalid_argument(format!("invalid jitter: {problem}"))))
}

pub fn reset(request: &ResetWorkflowExecutionRequest) -> Result<WorkflowExecution, Status> {
    required("RequestId", &request.request_id)?;
    let execution = execution(request.workflow_execution.as_ref())?;
    let number = request.reset_reapply_type;
    if ResetReapplyType::try_from(number).is_err() {
        return Err(Status::internal(format!("unknown reset reapply type: {number}")));
    }
    let options_of = |operation: &PostResetOperation| match &operation.variant {
        Some(post_reset_operation::Variant::UpdateWorkflowOptions(update)) => update.workflow_execution_options.clone(),
        _ => None,
    };
    let mut options = request.post_reset_operations.iter().filter_map(options_of);
    if options.any(|options| options.time_skipping_config.is_some()) {
        return Err(no_time_skipping());
    }
    let is_other = |operation: &&PostResetOperation| {
        !matches!(operation.variant, Some(post_reset_operation::Variant::UpdateWorkflowOptions(_)))
    };
    match request.post_reset_operations.iter().find(is_other).map(|operation| &operation.variant) {
        None | Some(Some(post_reset_operation::Variant::UpdateWorkflowOptions(_))) => Ok(execution),
        Some(Some(post_reset_operation::Variant::SignalWorkflow(_))) => Err(Status::invalid_argument(
            "unsupported post reset operation: *workflow.PostResetOperation_SignalWorkflow_",
        )),
        Some(None) => Err(Status::invalid_argument("unsupported post reset operation: <nil>")),
    }
}

/// What pauses a workflow, or lets it go on: a reason, the request's id and an identity.
pub fn pause(workflow_id: &str, run_id: &str, texts: [&str; 3]) -> Result<(), Status> {
    for (what, text) in ["reason", "request id", "identity"].into_iter().zip(texts) {
        if limits::is_too_long(text) {
            return Err(Status::invalid_argument(format!("{what} is too long.")));
        }
    }
    if workflow_id.is_empty() {
        return Err(Status::invalid_argument("Can't load workflow execution.  WorkflowId not set."));
    }
    if !run_id.is_empty() && !is_uuid(run_id) {
        return Err(Status::invalid_argument("RunId is not valid UUID."));
    }
    Ok(())
}

pub fn update_options(request: &UpdateWorkflowExecutionOptionsRequest) -> Result<WorkflowExecution, Status> {
    let execution = request.workflow_execution.clone().unwrap_or_default();
    if execution.workflow_id.is_empty() {
        return Err(Status::invalid_argument("WorkflowId is not set on request."));
    }
    let mask = request.update_mask.as_ref().ok_or_else(|| Status::invalid_argument("UpdateMask is required"))?;
    let options = request.workflow_execution_options.as_ref();
    let options = options.ok_or_else(|| Status::invalid_argument("WorkflowExecutionOptions is required"))?;
    if let Some(problem) = workflow::options_mask_problem(&mask.paths) {
        return Err(Status::invalid_argument(format!("error parsing UpdateMask: {problem}")));
    }
    time_skipping(options.time_skipping_config.as_ref())?;
    if !execution.run_id.is_empty() && !is_uuid(&execution.run_id) {
        return Err(Status::invalid_argument("RunId is not valid UUID."));
    }
    Ok(execution)
}

/// A workflow whose own time is skipped: Temporal's server refuses it unless its settings have the feature enabled. The time of a whole
/// server can be skipped (`TestService`).
fn time_skipping(config: Option<&TimeSkippingConfig>) -> Result<(), Status> {
    config.map_or(Ok(()), |_| Err(no_time_skipping()))
}

pub fn no_time_skipping() -> Status {
    Status::unimplemented("The Time-Skipping feature is not enabled for namespace.")
}

/// A task queue that workers poll, or that a caller describes.
pub fn task_queue(queue: Option<&TaskQueue>) -> Result<(), Status> {
    let queue = queue.ok_or_else(|| Status::invalid_argument("taskQueue is not set"))?;
    let problem = if queue.name.is_empty() {
        "missing task queue name".to_owned()
    } else if queue.name.len() > limits::ID_LENGTH_MAX {
        "taskQueue length exceeds limit".to_owned()
    } else if let Some(problem) = limits::queue_problem(&queue.name) {
        problem
    } else {
        return Ok(());
    };
    Err(Status::invalid_argument(problem))
}

/// A task queue that a user names for a workflow.
fn users_queue(queue: Option<&TaskQueue>) -> Result<(), Status> {
    task_queue(queue)?;
    let problem = queue.and_then(|queue| limits::users_queue_problem(&queue.name));
    problem.map_or(Ok(()), |problem| Err(Status::invalid_argument(problem)))
}

/// A payload field within the limit on sizes.
pub fn payloads(payloads: Option<&Payloads>) -> Result<(), Status> {
    size(payloads.map_or(0, Message::encoded_len))
}

pub fn size(bytes: usize) -> Result<(), Status> {
    if bytes > limits::BLOB_SIZE_MAX {
        return Err(Status::invalid_argument(errors::BLOB_TOO_LARGE));
    }
    Ok(())
}

/// A duration that is well formed and not negative; cut to what can be counted with.
fn cut(duration: &mut Option<Duration>) -> Result<(), &'static str> {
    let Some(duration) = duration else { return Ok(()) };
    if (duration.seconds > 0 && duration.nanos < 0) || (duration.seconds < 0 && duration.nanos > 0) {
        return Err("duration has seconds and nanos with different signs");
    }
    if duration.seconds < 0 || duration.nanos < 0 {
        return Err("negative duration");
    }
    *duration = time::cut(*duration);
    Ok(())
}

fn durations<const N: usize>(of: [(&str, &mut Option<Duration>); N]) -> Result<(), Status> {
    for (what, duration) in of {
        let refused =
            |cause| Status::invalid_argument(format!("An invalid {what}Seconds is set on request. cause: {cause}"));
        cut(duration).map_err(refused)?;
    }
    Ok(())
}

fn start_delay(cron: &str, delay: &mut Option<Duration>) -> Result<(), Status> {
    if !cron.is_empty() && delay.is_some() {
        return Err(Status::invalid_argument("CronSchedule and WorkflowStartDelay may not be used together."));
    }
    durations([("WorkflowStartDelay", delay)])
}

fn cron(schedule: &str) -> Result<(), Status> {
    if !schedule.is_empty() {
        CronSchedule::parse(schedule).map_err(Status::invalid_argument)?;
    }
    Ok(())
}

fn id_policies(reuse: Reuse, conflict: Conflict) -> Result<(), Status> {
    let with = match (reuse, conflict) {
        (Reuse::TerminateIfRunning, Conflict::Unspecified) => return Ok(()),
        (Reuse::TerminateIfRunning, _) => {
            "TERMINATE_IF_RUNNING cannot be used together with a WorkflowIDConflictPolicy"
        }
        (Reuse::RejectDuplicate, Conflict::TerminateExisting) => {
            "REJECT_DUPLICATE cannot be used together with WorkflowIdConflictPolicy WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING"
        }
        _ => return Ok(()),
    };
    Err(Status::invalid_argument(format!("Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_{with}")))
}

fn on_conflict(options: Option<&OnConflictOptions>) -> Result<(), Status> {
    if options.is_some_and(|options| options.attach_completion_callbacks && !options.attach_request_id) {
        let message = "attaching request ID is required for attaching completion callbacks";
        return Err(Status::invalid_argument(message));
    }
    Ok(())
}

fn priority(priority: Option<&Priority>) -> Result<(), Status> {
    let Some(priority) = priority else { return Ok(()) };
    let problem = if priority.priority_key < 0 {
        "priority key can't be negative"
    } else if priority.fairness_key.len() > FAIRNESS_KEY_LENGTH_MAX {
        "fairness key length exceeds limit"
    } else if priority.fairness_weight < 0.0 {
        "must be greater than zero"
    } else {
        return Ok(());
    };
    Err(Status::invalid_argument(problem))
}

/// What a workflow is started with.
pub fn start(request: &mut StartWorkflowExecutionRequest) -> Result<(), Status> {
    workflow_id(&request.workflow_id)?;
    if let Some(problem) = request.retry_policy.as_ref().and_then(engine::retry_policy_problem) {
        return Err(Status::invalid_argument(problem));
    }
    start_delay(&request.cron_schedule, &mut request.workflow_start_delay)?;
    cron(&request.cron_schedule)?;
    required("WorkflowType", request.workflow_type.as_ref().map_or("", |t| t.name.as_str()))?;
    users_queue(request.task_queue.as_ref())?;
    start_timeouts(request)?;
    length("RequestId", &request.request_id)?;
    id_policies(request.workflow_id_reuse_policy(), request.workflow_id_conflict_policy())?;
    on_conflict(request.on_conflict_options.as_ref())?;
    priority(request.priority.as_ref())?;
    links::check(&request.links, &request.completion_callbacks)?;
    time_skipping(request.time_skipping_config.as_ref())?;
    start_sizes(request)
}

fn start_timeouts(request: &mut StartWorkflowExecutionRequest) -> Result<(), Status> {
    durations([
        ("WorkflowExecutionTimeout", &mut request.workflow_execution_timeout),
        ("WorkflowRunTimeout", &mut request.workflow_run_timeout),
        ("WorkflowTaskTimeout", &mut request.workflow_task_timeout),
    ])
}

fn start_sizes(request: &StartWorkflowExecutionRequest) -> Result<(), Status> {
    payloads(request.input.as_ref())?;
    if request.memo.as_ref().map_or(0, Message::encoded_len) > limits::MEMO_SIZE_MAX {
        return Err(Status::invalid_argument("Memo size exceeds limit."));
    }
    let problem = request.search_attributes.as_ref().and_then(engine::workflow::search_attributes_problem);
    problem.map_or(Ok(()), |problem| Err(Status::invalid_argument(problem)))
}

/// The signal of a signal-with-start, and what is started if nothing runs.
pub fn signal_with_start(
    signal_name: &str,
    signal_input: Option<&Payloads>,
    start: &mut StartWorkflowExecutionRequest,
) -> Result<(), Status> {
    cron(&start.cron_schedule)?;
    workflow_id(&start.workflow_id)?;
    if signal_name.is_empty() {
        return Err(Status::invalid_argument("signal not set"));
    }
    allowed_length("signal name", signal_name)?;
    let workflow_type = start.workflow_type.as_ref().map_or("", |t| t.name.as_str());
    if workflow_type.is_empty() {
        return Err(Status::invalid_argument("workflow type not set"));
    }
    allowed_length("workflow type name", workflow_type)?;
    users_queue(start.task_queue.as_ref())?;
    allowed_length("Request ID", &start.request_id)?;
    start_timeouts(start)?;
    if let Some(problem) = start.retry_policy.as_ref().and_then(engine::retry_policy_problem) {
        return Err(Status::invalid_argument(problem));
    }
    start_delay(&start.cron_schedule, &mut start.workflow_start_delay)?;
    id_policies(start.workflow_id_reuse_policy(), start.workflow_id_conflict_policy())?;
    if start.workflow_id_conflict_policy() == Conflict::Fail {
        return Err(Status::invalid_argument(
            "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported for this operation.",
        ));
    }
    priority(start.priority.as_ref())?;
    links::check(&start.links, &[])?;
    time_skipping(start.time_skipping_config.as_ref())?;
    payloads(signal_input)?;
    start_sizes(start)
}

pub fn signal(request: &SignalWorkflowExecutionRequest) -> Result<WorkflowExecution, Status> {
    let execution = execution(request.workflow_execution.as_ref())?;
    required("SignalName", &request.signal_name)?;
    length("RequestId", &request.request_id)?;
    links::check(&request.links, &[])?;
    payloads(request.input.as_ref())?;
    Ok(execution)
}

pub fn update(request: &UpdateWorkflowExecutionRequest) -> Result<WorkflowExecution, Status> {
    let execution = execution(request.workflow_execution.as_ref())?;
    let update = request.request.clone().unwrap_or_default();
    if let Some(problem) = engine::workflow::update_request_problem(&update) {
        return Err(Status::invalid_argument(problem));
    }
    links::check(&update.links, &update.completion_callbacks)?;
    payloads(update.input.as_ref().and_then(|input| input.args.as_ref()))?;
    Ok(execution)
}

pub fn request_cancel(request: &RequestCancelWorkflowExecutionRequest) -> Result<WorkflowExecution, Status> {
    let execution = execution(request.workflow_execution.as_ref())?;
    links::check(&request.links, &[])?;
    Ok(execution)
}

pub fn terminate(request: &TerminateWorkflowExecutionRequest) -> Result<WorkflowExecution, Status> {
    let execution = execution(request.workflow_execution.as_ref())?;
    links::check(&request.links, &[])?;
    Ok(execution)
}

pub fn query(request: &QueryWorkflowRequest) -> Result<WorkflowExecution, Status> {
    let execution = execution(request.execution.as_ref())?;
    let query =
        request.query.as_ref().ok_or_else(|| Status::invalid_argument("WorkflowQuery is not set on request."))?;
    if query.query_type.is_empty() {
        return Err(Status::invalid_argument("QueryType is not set on request."));
    }
    payloads(query.query_args.as_ref())?;
    Ok(execution)
}

/// The token of a workflow's task.
pub fn workflow_token(bytes: &[u8]) -> Result<TaskToken, Status> {
    let token = token(bytes)?;
    if token.kind != Kind::Workflow as u32 {
        return Err(Status::invalid_argument("Invalid task token: it is not one of a workflow's task."));
    }
    Ok(token)
}

/// Reads a task token; the error names the field.
pub fn token(bytes: &[u8]) -> Result<TaskToken, Status> {
    if bytes.is_empty() {
        return Err(Status::invalid_argument("Task token not set on request."));
    }
    let token = TaskToken::decode(bytes).map_err(|_| {
        Status::invalid_argument("Invalid task token: it can't be read; hand back the token as it was received.")
    })?;
    if token.id.is_empty() || token.run_id.is_empty() {
        return Err(Status::invalid_argument("Invalid task token: it names no workflow run."));
    }
    if EntityId::of_token(&token).is_none() {
        return Err(Status::invalid_argument("Invalid task token: a newer server has given it out."));
    }
    Ok(token)
}
