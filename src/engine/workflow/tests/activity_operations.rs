//! What operators do to pending activities. No event shows it; the words and the rules are those of Temporal's server.

use super::*;
use crate::engine::TaskKind;
use crate::proto::temporal::activity::v1::ActivityOptions;
use crate::proto::temporal::workflowservice::v1::{
    pause_activity_request as pause_request, reset_activity_request as reset_request,
    unpause_activity_request as unpause_request, update_activity_options_request as options_request,
};

fn pause(id: &str, request_id: &str) -> Body {
    Body::PauseActivity(PauseActivity {
        request: Some(PauseActivityRequest {
            activity: Some(pause_request::Activity::Id(id.into())),
            identity: "operator".into(),
            reason: "a look at it".into(),
            request_id: request_id.into(),
            ..PauseActivityRequest::default()
        }),
    })
}

fn unpause(change: impl FnOnce(&mut UnpauseActivityRequest)) -> Body {
    let mut request = UnpauseActivityRequest {
        activity: Some(unpause_request::Activity::UnpauseAll(true)),
        ..UnpauseActivityRequest::default()
    };
    change(&mut request);
    Body::UnpauseActivity(UnpauseActivity { request: Some(request) })
}

fn reset(change: impl FnOnce(&mut ResetActivityRequest)) -> Body {
    let mut request = ResetActivityRequest {
        activity: Some(reset_request::Activity::Id("a".into())),
        ..ResetActivityRequest::default()
    };
    change(&mut request);
    Body::ResetActivity(ResetActivity { request: Some(request) })
}

fn change(paths: &[&str], options: ActivityOptions) -> Body {
    Body::UpdateActivityOptions(UpdateActivityOptions {
        request: Some(UpdateActivityOptionsRequest {
            activity: Some(options_request::Activity::Type("Act".into())),
            activity_options: Some(options),
            update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
            ..UpdateActivityOptionsRequest::default()
        }),
    })
}

fn scheduled() -> Scenario {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a")]);
    scenario
}

/// The task that the activity offers, if any: its queue, attempt and time.
fn offered(scenario: &Scenario) -> Option<(String, i32, i64)> {
    let record = scenario.run().record(&activity_record(scenario.activity("a").scheduled_event_id));
    let task = record.and_then(|record| record.agenda().task)?;
    assert_eq!(task.kind, TaskKind::Activity);
    Some((task.queue, task.attempt, task.not_before_ms - START_MS))
}

fn heartbeat(scenario: &mut Scenario, activity: ActivityRef) -> (bool, bool, bool) {
    let details = Some(payloads("so far"));
    scenario.then(Body::HeartbeatActivity(HeartbeatActivity {
        activity: Some(activity),
        details,
        identity: String::new(),
    }));
    let Reply::HeartbeatRecorded { cancel_requested, paused, reset } = scenario.reply else {
        panic!("a heartbeat's reply")
    };
    (cancel_requested, paused, reset)
}

#[test]
fn a_paused_activity_is_not_offered_and_no_timeout_counts() {
    let mut scenario = scheduled();
    assert!(offered(&scenario).is_some());
    let due = || activity_record(5);
    scenario.then(pause("a", "1"));
    assert_eq!((scenario.joined().len(), offered(&scenario)), (0, None));
    assert_eq!(scenario.run().record(&due()).and_then(|record| record.agenda().due_ms), None);
    assert_eq!(scenario.run().head.paused, ["property:activityType=Act"]);
    scenario.then(pause("a", "1"));
    let again = scenario.when(pause("a", "2")).expect_err("it is paused");
    assert_eq!(again, Rejection::FailedPrecondition("activity is already paused".into()));
    scenario.now = 600_000;
    scenario.then(unpause(|_| {}));
    assert_eq!(offered(&scenario), Some(("queue".into(), 1, 600_000)));
    assert!(scenario.run().head.paused.is_empty());
    scenario.then(unpause(|_| {}));
    let unknown = scenario.when(pause("b", "1")).expect_err("there is none");
    let message = "Can't find pending activity with such ID. Invalid activityID or activity already completed";
    assert_eq!(unknown, Rejection::NotFound(message.into()));
}

#[test]
fn an_attempt_that_is_under_way_learns_of_its_pause_and_may_end() {
    let mut scenario = scheduled();
    let attempt = scenario.take_activity("a");
    scenario.then(pause("a", "1"));
    assert_eq!(heartbeat(&mut scenario, attempt.clone()), (false, true, false));
    scenario.then(attempt_failed(attempt, "Wrong"));
    assert_eq!((scenario.activity("a").attempt, offered(&scenario)), (2, None));
    scenario.then(unpause(|request| request.reset_heartbeat = true));
    assert!(scenario.activity("a").heartbeat_details.is_none());
    let attempt = scenario.take_activity("a");
    scenario.then(pause("a", "2")).then(result(attempt));
    assert!(scenario.joined().contains(&"ACTIVITY_TASK_COMPLETED"));
}

#[test]
fn a_paused_activity_that_fails_goes_on_beyond_its_attempts() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity_with("a", |command| {
        command.retry_policy = Some(RetryPolicy { maximum_attempts: 1, ..RetryPolicy::default() });
    })]);
    let attempt = scenario.take_activity("a");
    scenario.then(pause("a", "1")).then(attempt_failed(attempt, "Wrong"));
    assert_eq!(scenario.activity("a").attempt, 2);
    scenario.then(unpause(|request| request.reset_attempts = true));
    assert_eq!(offered(&scenario).map(|(_, attempt, _)| attempt), Some(1));
}

#[test]
fn a_reset_activity_begins_anew() {
    // Between two attempts: at once.
    let mut scenario = scheduled();
    let attempt = scenario.take_activity("a");
    heartbeat(&mut scenario, attempt.clone());
    scenario.then(attempt_failed(attempt, "Wrong"));
    assert_eq!(offered(&scenario).map(|(_, attempt, _)| attempt), Some(2));
    scenario.then(reset(|request| request.reset_heartbeat = true));
    let pending = scenario.activity("a");
    assert_eq!(
        (offered(&scenario), pending.heartbeat_details, pending.last_failure),
        (Some(("queue".into(), 1, 0)), None, None)
    );
    // While an attempt is under way: its heartbeats are answered with it, and it may end well.
    let attempt = scenario.take_activity("a");
    scenario.then(reset(|request| request.reset_heartbeat = true));
    assert_eq!(heartbeat(&mut scenario, attempt.clone()), (false, false, true));
    scenario.then(attempt_failed(attempt, "Wrong"));
    let pending = scenario.activity("a");
    assert_eq!((pending.attempt, pending.reset, pending.heartbeat_details), (2, false, None));
    // A paused one goes on, unless it is to stay paused.
    scenario.then(pause("a", "1")).then(reset(|request| request.keep_paused = true));
    assert_eq!((scenario.activity("a").attempt, offered(&scenario)), (1, None));
    scenario.then(reset(|_| {}));
    assert!(offered(&scenario).is_some());
}

#[test]
fn options_are_changed_and_given_back() {
    let mut scenario = scheduled();
    let before = scenario.activity("a");
    let options = ActivityOptions {
        task_queue: Some(TaskQueue { name: "other".into(), ..TaskQueue::default() }),
        start_to_close_timeout: Some(duration(7000)),
        heartbeat_timeout: Some(duration(60_000)),
        retry_policy: Some(RetryPolicy { maximum_attempts: 9, ..RetryPolicy::default() }),
        ..ActivityOptions::default()
    };
    let paths =
        ["taskQueue.name", "start_to_close_timeout", "heartbeat_timeout", "retry_policy.maximum_attempts", "unknown"];
    scenario.then(change(&paths, options));
    let Reply::ActivityOptions(changed) = scenario.reply.clone() else { panic!("it returns the options") };
    assert_eq!(changed.heartbeat_timeout, Some(duration(7000)), "no longer than an attempt");
    let pending = scenario.activity("a");
    assert_eq!((pending.task_queue.as_str(), pending.start_to_close_ms, pending.heartbeat_ms), ("other", 7000, 7000));
    let policy = pending.retry_policy.expect("it has one");
    assert_eq!((policy.maximum_attempts, policy.backoff_coefficient), (9, 2.0));
    assert_eq!(offered(&scenario).map(|(queue, _, _)| queue).as_deref(), Some("other"));
    scenario.then(Body::UpdateActivityOptions(UpdateActivityOptions {
        request: Some(UpdateActivityOptionsRequest {
            activity: Some(options_request::Activity::MatchAll(true)),
            restore_original: true,
            ..UpdateActivityOptionsRequest::default()
        }),
    }));
    let restored = scenario.activity("a");
    let of = crate::engine::attempts::options_of;
    assert_eq!(of(&restored), of(&before));
    let refused = [
        (vec!["task_queue.name"], "TaskQueue is not provided"),
        (vec!["retry_policy.initial_interval"], "RetryPolicy is not provided"),
        (vec!["priority.fairness_key"], "Priority is not provided"),
    ];
    for (paths, problem) in refused {
        let refusal = scenario.when(change(&paths, ActivityOptions::default())).expect_err("it is refused");
        assert_eq!(refusal, Rejection::InvalidArgument(problem.into()));
    }
}
