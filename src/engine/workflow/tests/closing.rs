use super::*;
use crate::proto::temporal::enums::v1::RetryState;

#[test]
fn completing_ends_the_run_and_settles_when_it_is_deleted() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("left alone"), complete()]);
    assert_eq!(scenario.status(), Status::Completed);
    assert_eq!(scenario.run().head.delete_ms - START_MS, 72 * 3_600_000);
}

#[test]
fn terminating_ends_a_run_whatever_it_is_doing() {
    let mut scenario = Scenario::started(|_| {});
    scenario.take_task();
    scenario.signal("unseen").then(terminate());
    assert_eq!(
        scenario.joined(),
        ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_EXECUTION_TERMINATED"]
    );
    assert!(matches!(scenario.when(terminate()), Err(Rejection::NotFound(_))));
}

#[test]
fn a_cancellation_is_a_request() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([]).then(request_cancel());
    assert_eq!(
        (scenario.joined(), scenario.status()),
        (vec!["WORKFLOW_EXECUTION_CANCEL_REQUESTED", "WORKFLOW_TASK_SCHEDULED"], Status::Running)
    );
    scenario.workflow_does([Do::CancelWorkflowExecutionCommandAttributes(Default::default())]);
    assert_eq!(scenario.status(), Status::Canceled);
}

#[test]
fn a_retry_policy_runs_a_failed_workflow_again_after_its_back_off() {
    let policy = RetryPolicy {
        initial_interval: Some(duration(2000)),
        backoff_coefficient: 1.0,
        maximum_attempts: 2,
        ..RetryPolicy::default()
    };
    let mut scenario = Scenario::started(|request| request.retry_policy = Some(policy));
    scenario.workflow_does([fail()]);
    assert_eq!(scenario.joined()[1..], ["WORKFLOW_EXECUTION_FAILED", "WORKFLOW_EXECUTION_STARTED"]);
    scenario.due(SubKey::Head).unwrap();
    assert_eq!((scenario.now, scenario.run().head.attempt), (2000, 2));
    scenario.workflow_does([fail()]);
    let Attributes::WorkflowExecutionFailedEventAttributes(failed) =
        scenario.attributes(EventType::WorkflowExecutionFailed)
    else {
        panic!()
    };
    assert_eq!((failed.retry_state(), scenario.status()), (RetryState::MaximumAttemptsReached, Status::Failed));
}

#[test]
fn a_run_can_go_on_in_a_new_one() {
    let mut scenario = Scenario::started(|_| {});
    let first = scenario.run().head.run_id.clone();
    scenario.now = 5000;
    scenario.workflow_does([continue_as_new()]);
    assert_eq!(
        scenario.joined()[1..],
        ["WORKFLOW_EXECUTION_CONTINUED_AS_NEW", "WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED"]
    );
    let head = &scenario.run().head;
    assert!(head.run_id != first && head.first_run_id == first);
    let Attributes::WorkflowExecutionStartedEventAttributes(started) =
        scenario.attributes(EventType::WorkflowExecutionStarted)
    else {
        panic!()
    };
    assert_eq!((&started.continued_execution_run_id, started.input.clone()), (&first, Some(payloads("next"))));
}

#[test]
fn runs_that_only_go_on_do_not_spin() {
    let mut scenario = Scenario::started(|_| {});
    // It counts from when a run's first task was due, not from when the run before it went on.
    for run in 1..4 {
        scenario.workflow_does([continue_as_new()]);
        scenario.due(SubKey::Head).unwrap();
        assert_eq!(scenario.now, run * crate::types::limits::RUN_INTERVAL_MS_MIN);
    }
    let asks = |ms| {
        Do::ContinueAsNewWorkflowExecutionCommandAttributes(
            workflow_command::ContinueAsNewWorkflowExecutionCommandAttributes {
                backoff_start_interval: Some(duration(ms)),
                ..Default::default()
            },
        )
    };
    for (asked, delay) in [(10, 1000), (5000, 5000)] {
        let before = scenario.now;
        scenario.workflow_does([asks(asked)]);
        scenario.due(SubKey::Head).unwrap();
        assert_eq!(scenario.now - before, delay);
    }
}

#[test]
fn runs_that_fail_at_once_do_not_spin() {
    let short = Some(duration(1));
    let policy = RetryPolicy { initial_interval: short, maximum_interval: short, ..RetryPolicy::default() };
    let mut scenario = Scenario::started(|request| request.retry_policy = Some(policy));
    for run in 1..4 {
        scenario.workflow_does([fail()]);
        scenario.due(SubKey::Head).unwrap();
        assert_eq!(scenario.now, run * crate::types::limits::RUN_INTERVAL_MS_MIN);
    }
}

#[test]
fn an_hourly_cron_stays_hourly_however_long_its_runs_take() {
    let mut scenario = Scenario::started(|request| request.cron_schedule = "@every 1h".into());
    let minutes = |n: i64| n * 60_000;
    for run in 1..4 {
        scenario.due(SubKey::Head).unwrap();
        assert_eq!(scenario.now, minutes(60 * run));
        scenario.now += minutes(10);
        scenario.workflow_does([complete()]);
        let Attributes::WorkflowExecutionStartedEventAttributes(started) =
            scenario.attributes(EventType::WorkflowExecutionStarted)
        else {
            panic!()
        };
        assert_eq!(started.first_workflow_task_backoff, Some(duration(minutes(50))));
    }
}

#[test]
fn a_cron_whose_dates_never_come_is_not_started() {
    let mut scenario = Scenario::default();
    let refused = scenario.start(|request| request.cron_schedule = "0 0 31 2 *".into());
    assert!(
        matches!(&refused, Err(Rejection::InvalidArgument(why)) if why.contains("no time can be found")),
        "{refused:?}"
    );
}

#[test]
fn the_delay_that_was_asked_for_stands_in_the_event_that_continues_the_run() {
    let mut scenario = Scenario::started(|_| {});
    let Do::ContinueAsNewWorkflowExecutionCommandAttributes(mut go_on) = continue_as_new() else { unreachable!() };
    go_on.backoff_start_interval = Some(duration(30_000));
    scenario.workflow_does([Do::ContinueAsNewWorkflowExecutionCommandAttributes(go_on)]);
    let Attributes::WorkflowExecutionContinuedAsNewEventAttributes(continued) =
        scenario.attributes(EventType::WorkflowExecutionContinuedAsNew)
    else {
        panic!()
    };
    assert_eq!(continued.backoff_start_interval, Some(duration(30_000)));
}

#[test]
fn a_chain_whose_time_is_up_says_so_with_and_without_a_retry_policy() {
    for policy in [None, Some(RetryPolicy::default())] {
        let mut scenario = Scenario::started(|request| {
            request.workflow_execution_timeout = Some(duration(5000));
            request.retry_policy = policy;
        });
        scenario.due(SubKey::Head).unwrap();
        let Attributes::WorkflowExecutionTimedOutEventAttributes(timed_out) =
            scenario.attributes(EventType::WorkflowExecutionTimedOut)
        else {
            panic!()
        };
        assert_eq!((timed_out.retry_state(), scenario.status()), (RetryState::Timeout, Status::TimedOut));
    }
}
