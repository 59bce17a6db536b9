use super::*;

#[test]
fn a_timer_fires_once() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([timer("t", 86_400_000)]);
    scenario.due(timer_record("t")).unwrap();
    assert_eq!((scenario.now, scenario.joined()), (86_400_000, vec!["TIMER_FIRED", "WORKFLOW_TASK_SCHEDULED"]));
    assert!(matches!(scenario.fires(timer_record("t")), Err(Rejection::NotFound(_))));
}

#[test]
fn a_canceled_timer_does_not_fire() {
    let mut scenario = Scenario::started(|_| {});
    let cancel =
        Do::CancelTimerCommandAttributes(workflow_command::CancelTimerCommandAttributes { timer_id: "t".into() });
    scenario.workflow_does([timer("t", 1000), cancel]);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED", "TIMER_STARTED", "TIMER_CANCELED"]);
    scenario.now = 1000;
    assert!(matches!(scenario.fires(timer_record("t")), Err(Rejection::NotFound(_))));
}

#[test]
fn a_timer_that_fired_unseen_can_still_be_canceled() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([timer("t", 1000)]).signal("wake up");
    let token = scenario.take_task();
    scenario.due(timer_record("t")).unwrap();
    let cancel =
        Do::CancelTimerCommandAttributes(workflow_command::CancelTimerCommandAttributes { timer_id: "t".into() });
    scenario.completes(token, [cancel]);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED", "TIMER_CANCELED"]);
}

#[test]
fn two_running_timers_can_t_share_an_id() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([timer("t", 1000), timer("t", 1000)]);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED"]);
}

#[test]
fn a_run_that_takes_too_long_times_out() {
    let mut scenario = Scenario::started(|request| request.workflow_run_timeout = Some(duration(5000)));
    scenario.workflow_does([timer("t", 60_000)]);
    scenario.due(SubKey::Head).unwrap();
    assert_eq!(
        (scenario.now, scenario.joined(), scenario.status()),
        (5000, vec!["WORKFLOW_EXECUTION_TIMED_OUT"], Status::TimedOut)
    );
}

#[test]
fn a_timer_of_no_time_fires_at_once_and_one_of_less_is_refused() {
    let with = |timeout| {
        Do::StartTimerCommandAttributes(workflow_command::StartTimerCommandAttributes {
            timer_id: "t".into(),
            start_to_fire_timeout: timeout,
        })
    };
    for timeout in [None, Some(duration(0))] {
        let mut scenario = Scenario::started(|_| {});
        scenario.workflow_does([with(timeout)]);
        scenario.due(timer_record("t")).unwrap();
        assert_eq!((scenario.now, scenario.joined()), (0, vec!["TIMER_FIRED", "WORKFLOW_TASK_SCHEDULED"]));
    }
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([with(Some(duration(-1)))]);
    assert!(
        matches!(&scenario.reply, Reply::WorkflowTaskFailed { message } if message ==
            "BadStartTimerAttributes: An invalid StartToFireTimeout is set on StartTimerCommand: negative duration. TimerId=t"),
        "{:?}",
        scenario.reply
    );
}
