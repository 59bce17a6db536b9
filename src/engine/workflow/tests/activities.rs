use super::activity_record as of;
use super::*;
use crate::engine::attempts;
use crate::proto::temporal::enums::v1::{RetryState, TimeoutType};
use crate::types::time::timestamp;

fn with(command: Do) -> Scenario {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([command]);
    scenario
}

fn due_of(scenario: &mut Scenario, id: &str) {
    let scheduled = scenario.activity(id).scheduled_event_id;
    scenario.due(of(scheduled)).expect("it is due");
}

fn timed_out(scenario: &Scenario) -> (TimeoutType, RetryState) {
    let Attributes::ActivityTaskTimedOutEventAttributes(a) = scenario.attributes(EventType::ActivityTaskTimedOut)
    else {
        panic!()
    };
    let Some(FailureInfo::TimeoutFailureInfo(info)) =
        a.failure.as_ref().and_then(|failure| failure.failure_info.as_ref())
    else {
        panic!()
    };
    (info.timeout_type(), a.retry_state())
}

fn completed_by(activity: ActivityRef, identity: &str) -> Body {
    Body::CompleteActivity(CompleteActivity {
        activity: Some(activity),
        identity: identity.into(),
        ..Default::default()
    })
}

/// The next attempt follows a millisecond later.
fn no_backoff() -> Option<RetryPolicy> {
    let short = Some(duration(1));
    Some(RetryPolicy { initial_interval: short, maximum_interval: short, ..RetryPolicy::default() })
}

#[test]
fn a_start_joins_the_history_with_its_completion() {
    let mut scenario = with(activity("a"));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED", "ACTIVITY_TASK_SCHEDULED"]);
    let taken = scenario.take_activity("a");
    assert!(scenario.joined().is_empty());
    scenario.then(result(taken.clone()));
    assert_eq!(scenario.joined(), ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED", "WORKFLOW_TASK_SCHEDULED"]);
    assert!(matches!(scenario.when(result(taken)), Err(Rejection::NotFound(_))), "it completes once");
}

#[test]
fn can_be_completed_by_id() {
    let mut scenario = with(activity("a"));
    scenario.take_activity("a");
    scenario.then(result(ActivityRef { activity_id: "a".into(), ..ActivityRef::default() }));
    assert_eq!(scenario.joined()[1], "ACTIVITY_TASK_COMPLETED");
}

#[test]
fn can_be_completed_by_id_before_any_worker_takes_it() {
    let by_id = || ActivityRef { activity_id: "a".into(), ..ActivityRef::default() };
    let mut scenario = with(activity("a"));
    for other in [
        attempt_failed(by_id(), "Oops"),
        Body::HeartbeatActivity(HeartbeatActivity { activity: Some(by_id()), ..Default::default() }),
        Body::CancelActivity(CancelActivity { activity: Some(by_id()), ..Default::default() }),
    ] {
        assert!(matches!(scenario.when(other), Err(Rejection::NotFound(_))), "only a completion makes up a start");
    }
    scenario.now = 500;
    scenario.then(completed_by(by_id(), "operator"));
    assert_eq!(scenario.joined(), ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED", "WORKFLOW_TASK_SCHEDULED"]);
    let Attributes::ActivityTaskStartedEventAttributes(started) = scenario.attributes(EventType::ActivityTaskStarted)
    else {
        panic!()
    };
    assert_eq!((started.attempt, started.identity.as_str(), started.request_id.as_str()), (1, "operator", ""));
    let Attributes::ActivityTaskCompletedEventAttributes(completed) =
        scenario.attributes(EventType::ActivityTaskCompleted)
    else {
        panic!()
    };
    assert_eq!(completed.started_event_id, scenario.joined[0].event_id);
    let unknown = scenario.when(completed_by(by_id(), "operator"));
    assert!(
        matches!(&unknown, Err(Rejection::NotFound(why)) if why.starts_with("cannot find pending activity")),
        "{unknown:?}"
    );
}

#[test]
fn can_be_completed_by_id_while_it_waits_for_its_next_attempt() {
    let mut scenario = with(activity("a"));
    let taken = scenario.take_activity("a");
    scenario.then(attempt_failed(taken, "Oops"));
    scenario.then(completed_by(ActivityRef { activity_id: "a".into(), ..ActivityRef::default() }, "operator"));
    let Attributes::ActivityTaskStartedEventAttributes(started) = scenario.attributes(EventType::ActivityTaskStarted)
    else {
        panic!()
    };
    assert_eq!((started.attempt, started.identity.as_str()), (2, "operator"));
    assert_eq!(started.last_failure.as_ref().map(|failure| failure.message.as_str()), Some("it failed"));
    assert_eq!(scenario.joined()[1], "ACTIVITY_TASK_COMPLETED");
}

#[test]
fn failures_back_off_and_the_last_attempt_says_what_went_wrong() {
    let policy = RetryPolicy {
        initial_interval: Some(duration(1000)),
        backoff_coefficient: 2.0,
        maximum_attempts: 3,
        ..RetryPolicy::default()
    };
    let mut scenario = with(activity_with("a", |a| a.retry_policy = Some(policy)));
    for (attempt, backoff_ms) in [(1, 1000), (2, 2000)] {
        let taken = scenario.take_activity("a");
        scenario.then(attempt_failed(taken.clone(), "Oops"));
        assert!(scenario.joined().is_empty());
        let activity = scenario.activity("a");
        assert_eq!((activity.attempt, activity.not_before_ms - START_MS - scenario.now), (attempt + 1, backoff_ms));
        assert!(
            matches!(scenario.when(result(taken)), Err(Rejection::NotFound(_))),
            "an attempt that failed can't complete"
        );
        scenario.now += backoff_ms;
    }
    let taken = scenario.take_activity("a");
    scenario.then(attempt_failed(taken, "Oops"));
    assert_eq!(scenario.joined(), ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]);
    let Attributes::ActivityTaskStartedEventAttributes(started) = scenario.attributes(EventType::ActivityTaskStarted)
    else {
        panic!()
    };
    assert_eq!((started.attempt, started.last_failure.as_ref().unwrap().message.as_str()), (3, "it failed"));
    let Attributes::ActivityTaskFailedEventAttributes(failed) = scenario.attributes(EventType::ActivityTaskFailed)
    else {
        panic!()
    };
    assert_eq!(failed.retry_state(), RetryState::MaximumAttemptsReached);
}

#[test]
fn some_failures_are_final() {
    let policy = RetryPolicy { non_retryable_error_types: vec!["Fatal".into()], ..RetryPolicy::default() };
    let mut scenario = with(activity_with("a", |a| a.retry_policy = Some(policy)));
    let taken = scenario.take_activity("a");
    scenario.then(attempt_failed(taken, "Fatal"));
    let Attributes::ActivityTaskFailedEventAttributes(failed) = scenario.attributes(EventType::ActivityTaskFailed)
    else {
        panic!()
    };
    assert_eq!(failed.retry_state(), RetryState::NonRetryableFailure);
}

#[test]
fn a_failure_can_say_when_to_try_again() {
    let mut scenario = with(activity("a"));
    let taken = scenario.take_activity("a");
    let info = ApplicationFailureInfo { next_retry_delay: Some(duration(7000)), ..ApplicationFailureInfo::default() };
    let failure = Failure { failure_info: Some(FailureInfo::ApplicationFailureInfo(info)), ..Failure::default() };
    scenario.then(Body::FailActivity(FailActivity {
        activity: Some(taken),
        failure: Some(failure),
        ..Default::default()
    }));
    assert_eq!(scenario.activity("a").not_before_ms - START_MS, 7000);
}

#[test]
fn nobody_took_it_in_time() {
    let mut scenario = with(activity_with("a", |a| a.schedule_to_start_timeout = Some(duration(3000))));
    due_of(&mut scenario, "a");
    assert_eq!((scenario.now, timed_out(&scenario)), (3000, (TimeoutType::ScheduleToStart, RetryState::Timeout)));
}

#[test]
fn of_time_outs_that_come_together_schedule_to_start_is_told() {
    let mut scenario = with(activity_with("a", |a| {
        a.schedule_to_close_timeout = Some(duration(3000));
        a.schedule_to_start_timeout = Some(duration(3000));
    }));
    due_of(&mut scenario, "a");
    assert_eq!(timed_out(&scenario), (TimeoutType::ScheduleToStart, RetryState::Timeout));
}

#[test]
fn an_attempt_that_outlasts_schedule_to_close_is_the_last_and_tells_what_failed_before() {
    let mut scenario = with(activity_with("a", |a| {
        a.schedule_to_close_timeout = Some(duration(3000));
        a.retry_policy = no_backoff();
    }));
    let taken = scenario.take_activity("a");
    scenario.then(attempt_failed(taken, "Oops"));
    scenario.now += 1;
    scenario.take_activity("a");
    due_of(&mut scenario, "a");
    assert_eq!((scenario.now, timed_out(&scenario)), (3000, (TimeoutType::ScheduleToClose, RetryState::Timeout)));
    let Attributes::ActivityTaskTimedOutEventAttributes(a) = scenario.attributes(EventType::ActivityTaskTimedOut)
    else {
        panic!()
    };
    let failure = a.failure.as_ref().unwrap();
    assert!(failure.message.starts_with("Not enough time to schedule next retry"), "{}", failure.message);
    assert_eq!(failure.cause.as_ref().map(|cause| cause.message.as_str()), Some("it failed"));
}

#[test]
fn a_failure_with_no_time_left_for_another_attempt_fails_the_activity() {
    let mut scenario = with(activity_with("a", |a| a.schedule_to_close_timeout = Some(duration(900))));
    let taken = scenario.take_activity("a");
    scenario.then(attempt_failed(taken, "Oops"));
    let Attributes::ActivityTaskFailedEventAttributes(failed) = scenario.attributes(EventType::ActivityTaskFailed)
    else {
        panic!()
    };
    assert_eq!(failed.retry_state(), RetryState::Timeout);
}

#[test]
fn an_attempt_that_takes_too_long_is_tried_again_and_the_last_one_times_out() {
    let mut scenario = with(activity_with("a", |a| {
        a.retry_policy = Some(RetryPolicy { maximum_attempts: 2, ..RetryPolicy::default() })
    }));
    scenario.take_activity("a");
    due_of(&mut scenario, "a");
    assert_eq!((scenario.now, scenario.activity("a").attempt), (10_000, 2));
    scenario.now += 1000;
    scenario.take_activity("a");
    due_of(&mut scenario, "a");
    assert_eq!(timed_out(&scenario), (TimeoutType::StartToClose, RetryState::MaximumAttemptsReached));
}

#[test]
fn heartbeats_keep_it_alive_and_their_details_go_to_the_next_attempt() {
    let mut scenario = with(activity_with("a", |a| {
        a.start_to_close_timeout = Some(duration(100_000));
        a.heartbeat_timeout = Some(duration(2000));
    }));
    let taken = scenario.take_activity("a");
    for _ in 0..5 {
        scenario.now += 1500;
        scenario.then(Body::HeartbeatActivity(HeartbeatActivity {
            activity: Some(taken.clone()),
            details: Some(payloads("half")),
            ..Default::default()
        }));
        assert_eq!(scenario.reply, Reply::HeartbeatRecorded { cancel_requested: false, paused: false, reset: false });
    }
    due_of(&mut scenario, "a");
    let activity = scenario.activity("a");
    assert_eq!((scenario.now, activity.attempt, activity.heartbeat_details), (9500, 2, Some(payloads("half"))));
}

#[test]
fn no_retry_outlasts_schedule_to_close() {
    let mut scenario = with(activity_with("a", |a| a.schedule_to_close_timeout = Some(duration(12_000))));
    scenario.take_activity("a");
    scenario.now = 11_500;
    let early = scenario.activity("a").scheduled_event_id;
    scenario.fires(of(early)).unwrap();
    assert_eq!(timed_out(&scenario), (TimeoutType::ScheduleToClose, RetryState::Timeout));
}

#[test]
fn a_timer_that_comes_early_does_nothing() {
    let mut scenario = with(activity("a"));
    scenario.take_activity("a");
    let id = scenario.activity("a").scheduled_event_id;
    assert!(matches!(scenario.fires(of(id)), Err(Rejection::NotFound(_))));
}

#[test]
fn cancellation_reaches_a_running_attempt_by_its_heartbeat() {
    let mut scenario = with(activity_with("a", |a| a.heartbeat_timeout = Some(duration(5000))));
    let taken = scenario.take_activity("a");
    let scheduled_event_id = scenario.activity("a").scheduled_event_id;
    let cancel =
        Do::RequestCancelActivityTaskCommandAttributes(workflow_command::RequestCancelActivityTaskCommandAttributes {
            scheduled_event_id,
        });
    scenario.signal("go on").workflow_does([cancel]);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED", "ACTIVITY_TASK_CANCEL_REQUESTED"]);
    scenario.then(Body::HeartbeatActivity(HeartbeatActivity { activity: Some(taken.clone()), ..Default::default() }));
    assert_eq!(scenario.reply, Reply::HeartbeatRecorded { cancel_requested: true, paused: false, reset: false });
    scenario.then(Body::CancelActivity(CancelActivity { activity: Some(taken), ..Default::default() }));
    assert_eq!(scenario.joined(), ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_CANCELED", "WORKFLOW_TASK_SCHEDULED"]);
}

#[test]
fn an_activity_that_nobody_took_is_canceled_behind_the_completion_s_own_events() {
    let mut scenario = Scenario::started(|_| {});
    // The ids are known ahead: the task's own three events, then A, and the request for its end.
    scenario.workflow_does([activity("a"), cancel(5), activity("b")]);
    assert_eq!(
        scenario.joined(),
        [
            "WORKFLOW_TASK_COMPLETED",
            "ACTIVITY_TASK_SCHEDULED",
            "ACTIVITY_TASK_CANCEL_REQUESTED",
            "ACTIVITY_TASK_SCHEDULED",
            "ACTIVITY_TASK_CANCELED",
            "WORKFLOW_TASK_SCHEDULED"
        ]
    );
    let Attributes::ActivityTaskCanceledEventAttributes(canceled) =
        scenario.attributes(EventType::ActivityTaskCanceled)
    else {
        panic!()
    };
    assert_eq!((canceled.scheduled_event_id, canceled.latest_cancel_requested_event_id), (5, 6));
    let details = canceled.details.as_ref().unwrap().payloads[0].clone();
    assert_eq!(
        (&details.data[..], &details.metadata["encoding"][..]),
        (&b"\"ACTIVITY_ID_NOT_STARTED\""[..], &b"json/plain"[..])
    );
    assert!(!scenario.run().activity_ids.contains_key("a"));
}

#[test]
fn the_id_of_an_activity_that_nobody_took_is_free_once_it_is_canceled() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a"), cancel(5), activity("a")]);
    assert_eq!(scenario.activity("a").scheduled_event_id, 7);
}

#[test]
fn a_workflow_can_end_with_the_activities_that_it_has_just_canceled() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a"), cancel(5), complete()]);
    assert_eq!(
        scenario.joined(),
        [
            "WORKFLOW_TASK_COMPLETED",
            "ACTIVITY_TASK_SCHEDULED",
            "ACTIVITY_TASK_CANCEL_REQUESTED",
            "WORKFLOW_EXECUTION_COMPLETED"
        ]
    );
    let mut signaled = Scenario::started(|_| {});
    let token = signaled.take_task();
    signaled.signal("unseen").completes(token, [activity("a"), cancel(5), complete()]);
    assert_eq!(signaled.reply, Reply::WorkflowTaskFailed { message: "UnhandledCommand".into() });
}

fn cancel(scheduled_event_id: i64) -> Do {
    let attributes = workflow_command::RequestCancelActivityTaskCommandAttributes { scheduled_event_id };
    Do::RequestCancelActivityTaskCommandAttributes(attributes)
}

#[test]
fn an_unasked_cancellation_is_refused() {
    let mut scenario = with(activity("a"));
    let taken = scenario.take_activity("a");
    assert!(matches!(
        scenario.when(Body::CancelActivity(CancelActivity { activity: Some(taken), ..Default::default() })),
        Err(Rejection::InvalidArgument(_))
    ));
}

#[test]
fn eager_activities_start_with_the_completion_that_schedules_them() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity_with("a", |a| a.request_eager_execution = true)]);
    let Reply::WorkflowTaskCompleted { activities, .. } = &scenario.reply else { panic!("{:?}", scenario.reply) };
    assert_eq!(activities.len(), 1);
    let taken = scenario.activity_ref("a");
    scenario.then(result(taken));
    assert_eq!(scenario.joined()[1], "ACTIVITY_TASK_COMPLETED");
}

#[test]
fn a_returned_task_is_offered_again() {
    let mut scenario = with(activity("a"));
    let taken = scenario.take_activity("a").token.expect("it is named by its token");
    scenario.then(returned(taken.clone(), TaskQueueType::Activity as i32));
    assert_eq!((scenario.activity("a").started_ms, scenario.activity("a").attempt), (0, 1));
    let again = scenario.when(returned(taken, TaskQueueType::Activity as i32));
    assert!(matches!(again, Err(Rejection::NotFound(_))), "it goes back once");
}

#[test]
fn two_pending_activities_can_t_share_an_id() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a"), activity("a")]);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED"]);
}

#[test]
fn a_completion_that_waits_for_a_started_task_names_its_started_event() {
    let mut scenario = with(activity("a"));
    let taken = scenario.take_activity("a");
    scenario.signal("wake up");
    let token = scenario.take_task();
    let taken_at = scenario.now;
    scenario.now += 5000;
    scenario.then(result(taken));
    scenario.completes(token, []);
    assert_eq!(scenario.joined[1].event_time, Some(timestamp(START_MS + taken_at)));
    assert_eq!(
        scenario.joined(),
        ["WORKFLOW_TASK_COMPLETED", "ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED", "WORKFLOW_TASK_SCHEDULED"]
    );
    let Attributes::ActivityTaskCompletedEventAttributes(completed) =
        scenario.attributes(EventType::ActivityTaskCompleted)
    else {
        panic!()
    };
    assert_eq!(completed.started_event_id, scenario.joined[1].event_id);
}

#[test]
fn what_is_pending_as_the_run_closes_is_still_described_and_not_due() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a")]);
    scenario.signal("the end");
    scenario.workflow_does([complete()]);
    let activities: Vec<_> = scenario.run().activities.values().collect();
    let [activity] = activities[..] else { panic!("{activities:?}") };
    assert_eq!((attempts::next_due(activity), attempts::task(activity)), (None, None));
}
