//! What a schedule is created, updated and patched with.

use prost::Message as _;
use prost_types::Timestamp;
use tonic::Status;

use super::{allowed_length, durations, payloads, priority, required, size, users_queue};
use crate::engine::{self, workflow};
use crate::proto::temporal::enums::v1::WorkflowIdReusePolicy as Reuse;
use crate::proto::temporal::schedule::v1::SchedulePatch;
use crate::proto::temporal::workflow::v1::NewWorkflowExecutionInfo;
use crate::types::limits;

/// On Temporal's server a schedule's id is a part of a workflow's, after this.
const WORKFLOW_ID_PREFIX: &str = "temporal-sys-scheduler:";
/// What the ids of its workflows end with.
const APPENDED_TIME: &str = "-2009-11-10T23:00:00Z";

pub fn schedule_id(id: &str) -> Result<(), Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("ScheduleId is not set on request."));
    }
    allowed_length("WorkflowId", &format!("{WORKFLOW_ID_PREFIX}{id}"))
}

/// The workflow that a schedule starts.
pub fn scheduled_workflow(action: &mut NewWorkflowExecutionInfo) -> Result<(), Status> {
    allowed_length("WorkflowId", &format!("{}{APPENDED_TIME}", action.workflow_id))?;
    required("WorkflowType", action.workflow_type.as_ref().map_or("", |of| of.name.as_str()))?;
    users_queue(action.task_queue.as_ref())?;
    durations([
        ("WorkflowExecutionTimeout", &mut action.workflow_execution_timeout),
        ("WorkflowRunTimeout", &mut action.workflow_run_timeout),
        ("WorkflowTaskTimeout", &mut action.workflow_task_timeout),
    ])?;
    if !action.cron_schedule.is_empty() {
        return Err(Status::invalid_argument("Scheduled workflow must not contain CronSchedule"));
    }
    if !matches!(action.workflow_id_reuse_policy(), Reuse::Unspecified | Reuse::AllowDuplicate) {
        return Err(Status::invalid_argument("Scheduled workflow must not contain WorkflowIDReusePolicy"));
    }
    // Temporal's server finds these wrong with each start.
    if let Some(problem) = action.retry_policy.as_ref().and_then(engine::retry_policy_problem) {
        return Err(Status::invalid_argument(problem));
    }
    priority(action.priority.as_ref())?;
    payloads(action.input.as_ref())?;
    if action.memo.as_ref().map_or(0, prost::Message::encoded_len) > limits::MEMO_SIZE_MAX {
        return Err(Status::invalid_argument("Memo size exceeds limit."));
    }
    let problem = action.search_attributes.as_ref().and_then(workflow::search_attributes_problem);
    problem.map_or(Ok(()), |problem| Err(Status::invalid_argument(problem)))
}

pub fn patch_of_schedule(patch: Option<&SchedulePatch>) -> Result<(), Status> {
    let patch = patch.ok_or_else(|| Status::invalid_argument("Patch is not set on request."))?;
    if limits::is_too_long(&patch.pause) || limits::is_too_long(&patch.unpause) {
        return Err(Status::invalid_argument("Schedule notes exceeds limit."));
    }
    let trigger = patch.trigger_immediately.iter().map(|trigger| trigger.scheduled_time);
    let backfills = patch.backfill_request.iter().flat_map(|backfill| [backfill.start_time, backfill.end_time]);
    trigger.chain(backfills).try_for_each(time)?;
    size(patch.encoded_len())
}

/// A time within what protobuf has: from the year 1 to the year 9999.
pub fn time(time: Option<Timestamp>) -> Result<(), Status> {
    let is_valid = |time: Timestamp| {
        (-62_135_596_800..=253_402_300_799).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos)
    };
    match time {
        Some(time) if !is_valid(time) => Err(Status::invalid_argument(format!(
            "a time of {} seconds since the Unix epoch is out of range",
            time.seconds
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::temporal::common::v1::{RetryPolicy, WorkflowType};
    use crate::proto::temporal::schedule::v1::TriggerImmediatelyRequest;
    use crate::proto::temporal::taskqueue::v1::TaskQueue;

    fn action() -> NewWorkflowExecutionInfo {
        NewWorkflowExecutionInfo {
            workflow_id: "report".into(),
            workflow_type: Some(WorkflowType { name: "Report".into() }),
            task_queue: Some(TaskQueue { name: "reports".into(), ..TaskQueue::default() }),
            ..NewWorkflowExecutionInfo::default()
        }
    }

    /// A change of an action, and the words in which it is refused.
    type Refused = (fn(&mut NewWorkflowExecutionInfo), &'static str);

    #[test]
    fn what_a_schedule_can_t_start_is_refused_as_the_server_does() {
        scheduled_workflow(&mut action()).expect("it can be started");
        let cases: [Refused; 7] = [
            (|a| a.workflow_id = "x".repeat(980), "WorkflowId exceeds maximum allowed length (1001/1000)"),
            (|a| a.workflow_type = None, "WorkflowType is not set on request."),
            (|a| a.task_queue = None, "taskQueue is not set"),
            (|a| a.cron_schedule = "* * * * *".into(), "Scheduled workflow must not contain CronSchedule"),
            (
                |a| a.set_workflow_id_reuse_policy(Reuse::RejectDuplicate),
                "Scheduled workflow must not contain WorkflowIDReusePolicy",
            ),
            (
                |a| a.workflow_run_timeout = Some(prost_types::Duration { seconds: -1, nanos: 0 }),
                "An invalid WorkflowRunTimeoutSeconds is set on request. cause: negative duration",
            ),
            (
                |a| a.retry_policy = Some(RetryPolicy { maximum_attempts: -1, ..RetryPolicy::default() }),
                "MaximumAttempts cannot be negative on retry policy.",
            ),
        ];
        for (change, words) in cases {
            let mut changed = action();
            change(&mut changed);
            let refused = scheduled_workflow(&mut changed).expect_err(words);
            assert_eq!((refused.code(), refused.message()), (tonic::Code::InvalidArgument, words));
        }
    }

    #[test]
    fn ids_and_patches_have_limits() {
        schedule_id(&"x".repeat(977)).expect("it is as long as it may be");
        let refused = schedule_id(&"x".repeat(978)).expect_err("it is too long");
        assert_eq!(refused.message(), "WorkflowId exceeds maximum allowed length (1001/1000)");
        assert_eq!(schedule_id("").expect_err("there is none").message(), "ScheduleId is not set on request.");
        assert_eq!(patch_of_schedule(None).expect_err("there is none").message(), "Patch is not set on request.");
        let scheduled_time = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
        let trigger_immediately =
            Some(TriggerImmediatelyRequest { scheduled_time, ..TriggerImmediatelyRequest::default() });
        let patch = SchedulePatch { trigger_immediately, ..SchedulePatch::default() };
        let refused = patch_of_schedule(Some(&patch)).expect_err("there is no such time");
        assert!(refused.message().ends_with("is out of range"), "{refused}");
        let patch = SchedulePatch { pause: "x".repeat(1001), ..SchedulePatch::default() };
        let refused = patch_of_schedule(Some(&patch)).expect_err("the notes are too long");
        assert_eq!(refused.message(), "Schedule notes exceeds limit.");
    }
}
