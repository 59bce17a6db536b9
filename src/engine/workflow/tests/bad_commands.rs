//! Commands that Temporal's server refuses, and its messages. Source: its `CommandAttrValidator`.

use super::*;
use crate::proto::temporal::common::v1::Priority;
use crate::proto::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use workflow_command as c;

const NEGATIVE: Option<prost_types::Duration> = Some(prost_types::Duration { seconds: -1, nanos: 0 });
const MIXED: Option<prost_types::Duration> = Some(prost_types::Duration { seconds: 1, nanos: -1 });

fn queue(name: &str) -> Option<TaskQueue> {
    Some(TaskQueue { name: name.into(), ..TaskQueue::default() })
}

fn bad_activity(change: impl FnOnce(&mut c::ScheduleActivityTaskCommandAttributes)) -> Do {
    activity_with("a", change)
}

fn bad_child(change: impl FnOnce(&mut c::StartChildWorkflowExecutionCommandAttributes)) -> Do {
    let Do::StartChildWorkflowExecutionCommandAttributes(mut start) = child("c") else { unreachable!() };
    change(&mut start);
    Do::StartChildWorkflowExecutionCommandAttributes(start)
}

fn bad_continue(change: impl FnOnce(&mut c::ContinueAsNewWorkflowExecutionCommandAttributes)) -> Do {
    let Do::ContinueAsNewWorkflowExecutionCommandAttributes(mut go_on) = continue_as_new() else { unreachable!() };
    change(&mut go_on);
    Do::ContinueAsNewWorkflowExecutionCommandAttributes(go_on)
}

fn bad_signal(change: impl FnOnce(&mut c::SignalExternalWorkflowExecutionCommandAttributes)) -> Do {
    let mut signal = c::SignalExternalWorkflowExecutionCommandAttributes {
        execution: execution("other", ""),
        signal_name: "s".into(),
        ..Default::default()
    };
    change(&mut signal);
    Do::SignalExternalWorkflowExecutionCommandAttributes(signal)
}

fn bad_cancel(workflow_id: &str, run_id: &str) -> Do {
    Do::RequestCancelExternalWorkflowExecutionCommandAttributes(
        c::RequestCancelExternalWorkflowExecutionCommandAttributes {
            workflow_id: workflow_id.into(),
            run_id: run_id.into(),
            ..Default::default()
        },
    )
}

fn cancel_activity(scheduled_event_id: i64) -> Do {
    let attributes = c::RequestCancelActivityTaskCommandAttributes { scheduled_event_id };
    Do::RequestCancelActivityTaskCommandAttributes(attributes)
}

/// Checks the cause and the message of the failure of the task that issues these commands.
fn check(cases: impl IntoIterator<Item = (Vec<Do>, Cause, &'static str)>) {
    for (commands, cause, part) in cases {
        let mut scenario = Scenario::started(|_| {});
        let issued = format!("{commands:?}");
        scenario.workflow_does(commands);
        assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED"], "{issued}");
        let Attributes::WorkflowTaskFailedEventAttributes(failed) = scenario.attributes(EventType::WorkflowTaskFailed)
        else {
            panic!()
        };
        assert_eq!(failed.cause(), cause, "{issued}");
        let message = &failed.failure.as_ref().unwrap().message;
        assert!(message.contains(part), "{issued}: {message}");
        assert_eq!(scenario.reply, Reply::WorkflowTaskFailed { message: message.clone() });
    }
}

#[test]
fn activities() {
    let cause = Cause::BadScheduleActivityAttributes;
    let one = |command, part| (vec![command], cause, part);
    check(
        [
            one(bad_activity(|a| a.task_queue = None), "BadScheduleActivityAttributes: taskQueue is not set"),
            one(bad_activity(|a| a.task_queue = queue("")), "missing task queue name"),
            one(bad_activity(|a| a.task_queue = queue("/_sys/q/1")), "cannot start with reserved prefix /_sys/"),
            one(bad_activity(|a| a.task_queue = queue("temporal-sys-per-ns-tq")), "cannot use internal per-namespace"),
            one(bad_activity(|a| a.activity_id.clear()), "activityId is not set"),
            one(bad_activity(|a| a.activity_type = None), "activityType is not set"),
            one(
                bad_activity(|a| a.activity_id = "a".repeat(1001)),
                "activityId exceeds length limit. Length=1001 Limit=1000",
            ),
            one(
                bad_activity(|a| a.schedule_to_close_timeout = NEGATIVE),
                "invalid ScheduleToCloseTimeout: negative duration",
            ),
            one(
                bad_activity(|a| a.schedule_to_start_timeout = NEGATIVE),
                "invalid ScheduleToStartTimeout: negative duration",
            ),
            one(bad_activity(|a| a.start_to_close_timeout = MIXED), "seconds and nanos with different signs"),
            one(bad_activity(|a| a.heartbeat_timeout = NEGATIVE), "invalid HeartbeatTimeout: negative duration"),
            one(
                bad_activity(|a| a.start_to_close_timeout = None),
                "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set",
            ),
            one(
                bad_activity(|a| a.priority = Some(Priority { priority_key: -1, ..Priority::default() })),
                "invalid priorities: priority key can't be negative",
            ),
            one(
                bad_activity(|a| {
                    a.retry_policy = Some(RetryPolicy { backoff_coefficient: 0.5, ..RetryPolicy::default() });
                }),
                "BackoffCoefficient cannot be less than 1 on retry policy.",
            ),
            one(cancel_activity(0), "ScheduledEventId is not set"),
            one(cancel_activity(2), "add-activitytask-cancel-requested-event, ScheduledEventID: 2"),
        ]
        .map(|(commands, cause, part)| match commands[0] {
            Do::RequestCancelActivityTaskCommandAttributes(_) => {
                (commands, Cause::BadRequestCancelActivityAttributes, part)
            }
            _ => (commands, cause, part),
        }),
    );
    check([(vec![activity("a"), activity("a")], Cause::ScheduleActivityDuplicateId, "ActivityID: a")]);
}

#[test]
fn children() {
    let cause = Cause::BadStartChildExecutionAttributes;
    let one = |command, part| (vec![command], cause, part);
    check([
        one(
            bad_child(|c| c.workflow_id.clear()),
            "Required field WorkflowId is not set on StartChildWorkflowExecutionCommand.",
        ),
        one(bad_child(|c| c.workflow_type = None), "Required field WorkflowType is not set"),
        one(
            bad_child(|c| c.workflow_id = "c".repeat(1001)),
            "WorkflowId on StartChildWorkflowExecutionCommand exceeds length limit.",
        ),
        one(bad_child(|c| c.workflow_execution_timeout = NEGATIVE), "Invalid WorkflowExecutionTimeout on"),
        one(bad_child(|c| c.workflow_run_timeout = NEGATIVE), "Invalid WorkflowRunTimeout on"),
        one(bad_child(|c| c.workflow_task_timeout = NEGATIVE), "Invalid WorkflowTaskTimeout on"),
        one(bad_child(|c| c.task_queue = queue("temporal-sys-per-ns-tq")), "invalid TaskQueue on"),
        one(
            bad_child(|c| c.priority = Some(Priority { fairness_key: "k".repeat(65), ..Priority::default() })),
            "fairness key length exceeds limit",
        ),
        one(
            bad_child(|c| c.retry_policy = Some(RetryPolicy { maximum_attempts: -1, ..RetryPolicy::default() })),
            "invalid WorkflowRetryPolicy on StartChildWorkflowExecutionCommand: MaximumAttempts cannot be negative",
        ),
        one(bad_child(|c| c.cron_schedule = "never".into()), "CronSchedule"),
        (
            vec![child("c"), bad_cancel("c", "")],
            Cause::BadRequestCancelExternalWorkflowExecutionAttributes,
            "Start and RequestCancel for child workflow is not allowed in same workflow task. WorkflowId=c",
        ),
    ]);
}

#[test]
fn other_workflows() {
    let signal = Cause::BadSignalWorkflowExecutionAttributes;
    let cancel = Cause::BadRequestCancelExternalWorkflowExecutionAttributes;
    check([
        (
            vec![bad_signal(|s| s.execution = None)],
            signal,
            "Execution is not set on SignalExternalWorkflowExecutionCommand.",
        ),
        (vec![bad_signal(|s| s.execution = execution("", ""))], signal, "WorkflowId is not set on"),
        (vec![bad_signal(|s| s.execution = execution("other", "run"))], signal, "Invalid RunId set on"),
        (vec![bad_signal(|s| s.signal_name.clear())], signal, "SignalName is not set on"),
        (vec![bad_cancel("", "")], cancel, "WorkflowId is not set on"),
        (vec![bad_cancel("other", "run")], cancel, "Invalid RunId set on"),
    ]);
}

#[test]
fn what_a_workflow_notes_about_itself() {
    let attributes = Some(Default::default());
    check([
        (
            vec![Do::RecordMarkerCommandAttributes(Default::default())],
            Cause::BadRecordMarkerAttributes,
            "MarkerName is not set on RecordMarkerCommand.",
        ),
        (
            vec![Do::UpsertWorkflowSearchAttributesCommandAttributes(Default::default())],
            Cause::BadSearchAttributes,
            "SearchAttributes is not set on UpsertWorkflowSearchAttributesCommand.",
        ),
        (
            vec![Do::UpsertWorkflowSearchAttributesCommandAttributes(
                c::UpsertWorkflowSearchAttributesCommandAttributes { search_attributes: attributes },
            )],
            Cause::BadSearchAttributes,
            "IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.",
        ),
        (
            vec![Do::ModifyWorkflowPropertiesCommandAttributes(Default::default())],
            Cause::BadModifyWorkflowPropertiesAttributes,
            "UpsertedMemo is not set on ModifyWorkflowPropertiesCommand.",
        ),
    ]);
}

#[test]
fn ends() {
    let cause = Cause::BadContinueAsNewAttributes;
    let one = |command, part| (vec![command], cause, part);
    check([
        one(bad_continue(|c| c.workflow_run_timeout = NEGATIVE), "Invalid WorkflowRunTimeout on"),
        one(bad_continue(|c| c.workflow_task_timeout = NEGATIVE), "Invalid WorkflowTaskTimeout on"),
        one(
            bad_continue(|c| c.backoff_start_interval = NEGATIVE),
            "Invalid BackoffStartInterval on ContinueAsNewWorkflowExecutionCommand: negative duration. WorkflowType=Type TaskQueue=queue",
        ),
        one(
            bad_continue(|c| c.task_queue = queue("/_sys/q/1")),
            "error validating ContinueAsNewWorkflowExecutionCommand TaskQueue",
        ),
        (
            vec![Do::FailWorkflowExecutionCommandAttributes(Default::default())],
            Cause::BadFailWorkflowExecutionAttributes,
            "Failure is not set on FailWorkflowExecutionCommand.",
        ),
    ]);
}

#[test]
fn timers() {
    let cancel = |timer_id: &str| {
        Do::CancelTimerCommandAttributes(c::CancelTimerCommandAttributes { timer_id: timer_id.into() })
    };
    check([
        (vec![timer("", 1000)], Cause::BadStartTimerAttributes, "TimerId is not set on StartTimerCommand."),
        (
            vec![timer(&"t".repeat(1001), 1000)],
            Cause::BadStartTimerAttributes,
            "TimerId on StartTimerCommand exceeds length limit.",
        ),
        (vec![timer("t", 1000), timer("t", 1)], Cause::StartTimerDuplicateId, "add-timer-started-event, TimerID: t"),
        (vec![cancel("")], Cause::BadCancelTimerAttributes, "TimerId is not set on CancelTimerCommand."),
        (vec![cancel("t")], Cause::BadCancelTimerAttributes, "add-timer-canceled-event, TimerID: t"),
    ]);
}

/// The task is not failed: it stays with the worker until its time is up.
#[test]
fn nothing_follows_a_command_that_ends_the_run() {
    let refused = |commands: Vec<Do>| {
        let mut scenario = Scenario::started(|_| {});
        let token = scenario.take_task();
        let refused = scenario.when(completion(token, commands, |_| {}));
        assert!(refused.is_ok() || scenario.run().started_task().is_some());
        refused
    };
    assert_eq!(
        refused(vec![activity("a"), complete(), timer("t", 1000)]),
        Err(Rejection::InvalidArgument(
            "invalid command sequence: [ScheduleActivityTask, CompleteWorkflowExecution, StartTimer], command CompleteWorkflowExecution must be the last command.".into()
        ))
    );
    assert!(refused(vec![complete(), fail()]).is_err());
    assert_eq!(refused(vec![activity("a"), complete()]), Ok(()));
}

#[test]
fn a_command_says_of_which_type_it_is() {
    let answer = |command: c::Command| {
        let mut scenario = Scenario::started(|_| {});
        let token = scenario.take_task();
        scenario.when(completion(token, [], |request| request.commands = vec![command])).map(|()| scenario.reply)
    };
    assert_eq!(
        answer(c::Command::default()),
        Err(Rejection::InvalidArgument("unknown command type: Unspecified".into()))
    );
    let other =
        c::Command { command_type: CommandType::StartTimer as i32, attributes: Some(complete()), ..Default::default() };
    let message = "BadStartTimerAttributes: StartTimerCommandAttributes is not set on StartTimerCommand.".into();
    assert_eq!(answer(other), Ok(Reply::WorkflowTaskFailed { message }));
}
