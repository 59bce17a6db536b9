use super::*;
use crate::proto::temporal::enums::v1::{
    SignalExternalWorkflowExecutionFailedCause as SignalFailed, WorkflowIdConflictPolicy as Conflict,
};

#[test]
fn a_signal_wakes_the_workflow_up() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([]).signal("wake up");
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]);
}

#[test]
fn a_signal_with_a_request_id_counts_once() {
    let mut scenario = Scenario::started(|_| {});
    scenario.then(signal("s", "once")).then(signal("s", "once"));
    assert!(scenario.joined().is_empty());
    assert_eq!(scenario.run().head.signal_count, 1);
}

#[test]
fn a_closed_workflow_takes_no_signal() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([complete()]);
    assert!(matches!(scenario.when(signal("s", "")), Err(Rejection::NotFound(_))));
    assert!(matches!(Scenario::default().when(signal("s", "")), Err(Rejection::NotFound(_))));
}

#[test]
fn signal_with_start_puts_the_signal_before_the_first_task() {
    let mut scenario = Scenario::default();
    scenario.then(with_start());
    assert_eq!(
        scenario.joined(),
        ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]
    );
    scenario.then(with_start());
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_SIGNALED"]);
}

#[test]
fn a_signal_to_another_workflow_is_sent_and_answered() {
    let mut scenario = Scenario::started(|_| {});
    let attributes = workflow_command::SignalExternalWorkflowExecutionCommandAttributes {
        execution: execution("other", ""),
        signal_name: "s".into(),
        ..Default::default()
    };
    scenario.workflow_does([Do::SignalExternalWorkflowExecutionCommandAttributes(attributes)]);
    assert!(matches!(scenario.sent().body, Body::SignalWorkflow(_)), "{:?}", scenario.sends);
    let initiated_event_id = token(&scenario.sent().callback.as_ref().unwrap().token).initiated_event_id;
    let done = || notice(initiated_event_id, execution("other", ""), Outcome::Done(Done {}));
    scenario.then(done());
    assert_eq!(scenario.joined(), ["EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]);
    assert!(scenario.when(done()).is_err(), "it is answered once");
}

#[test]
fn a_signal_that_is_refused_says_why() {
    for (code, expected) in [
        ("NOT_FOUND", SignalFailed::ExternalWorkflowExecutionNotFound),
        ("INVALID_ARGUMENT", SignalFailed::SignalCountLimitExceeded),
        ("INTERNAL", SignalFailed::SignalCountLimitExceeded),
    ] {
        let mut scenario = Scenario::started(|_| {});
        let attributes = workflow_command::SignalExternalWorkflowExecutionCommandAttributes {
            execution: execution("other", ""),
            signal_name: "s".into(),
            ..Default::default()
        };
        scenario.workflow_does([Do::SignalExternalWorkflowExecutionCommandAttributes(attributes)]);
        let initiated_event_id = token(&scenario.sent().callback.as_ref().unwrap().token).initiated_event_id;
        let refused = Refused { code: code.into(), ..Refused::default() };
        scenario.then(notice(initiated_event_id, execution("other", ""), Outcome::Refused(refused)));
        let Attributes::SignalExternalWorkflowExecutionFailedEventAttributes(recorded) =
            scenario.attributes(EventType::SignalExternalWorkflowExecutionFailed)
        else {
            panic!("{:?}", scenario.joined())
        };
        assert_eq!(recorded.cause(), expected, "{code}");
    }
}

#[test]
fn a_signal_from_another_workflow_is_answered_even_if_nobody_is_there() {
    let external =
        External { execution: execution("sender", "run"), initiated_event_id: 5, child_workflow_only: false };
    let request = SignalWorkflowExecutionRequest {
        workflow_execution: execution("w", ""),
        signal_name: "s".into(),
        ..Default::default()
    };
    let mut absent = Scenario::default();
    let signal = Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: Some(external) });
    absent.then_for(callback_of("sender", 5), signal);
    let (notice, refused) = refused(&absent);
    assert_eq!((&*absent.sent().to.id, token(&notice.token).initiated_event_id), ("sender", 5));
    assert_eq!(refused.code, "NOT_FOUND");
}

#[test]
fn a_workflow_can_t_signal_itself() {
    let mut scenario = Scenario::started(|_| {});
    let external =
        External { execution: execution("w", "an earlier run"), initiated_event_id: 5, child_workflow_only: false };
    let request = SignalWorkflowExecutionRequest { signal_name: "s".into(), ..Default::default() };
    let signal = Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: Some(external) });
    scenario.then_for(callback_of("w", 5), signal);
    assert_eq!(refused(&scenario).1.code, "NOT_FOUND");
    assert!(scenario.joined().is_empty());
}

#[test]
fn a_signal_that_ended_its_workflow_is_found_when_it_is_sent_again() {
    let ends: [fn(&mut Scenario); 2] =
        [|scenario| _ = scenario.workflow_does([complete()]), |scenario| _ = scenario.then(terminate())];
    for end in ends {
        let mut scenario = Scenario::started(|_| {});
        scenario.then(signal("end", "once"));
        end(&mut scenario);
        scenario.then(signal("end", "once"));
        assert!(scenario.joined().is_empty());
        assert!(matches!(scenario.when(signal("end", "another")), Err(Rejection::NotFound(_))));
    }
}

#[test]
fn a_signal_to_a_run_that_has_gone_on_since_is_found_when_it_is_sent_again() {
    let mut scenario = Scenario::started(|_| {});
    let first = scenario.run().head.run_id.clone();
    let pinned = |request_id: &str| {
        let Body::SignalWorkflow(mut signal) = signal("s", request_id) else { unreachable!() };
        signal.request.as_mut().unwrap().workflow_execution = execution("w", &first);
        Body::SignalWorkflow(signal)
    };
    scenario.then(pinned("once")).workflow_does([continue_as_new()]);
    scenario.then(pinned("once"));
    assert!(scenario.joined().is_empty());
    assert_eq!(scenario.when(pinned("another")), Err(Rejection::workflow_closed()));
    assert_eq!(scenario.run().head.signal_count, 0);
}

fn signal_with_start(request_id: &str, conflict: Conflict) -> Body {
    let start = StartWorkflowExecutionRequest {
        workflow_type: Some(WorkflowType { name: "Type".into() }),
        task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
        request_id: request_id.into(),
        workflow_id_conflict_policy: conflict as i32,
        ..Default::default()
    };
    let command = SignalWithStartWorkflow { start: Some(start), signal_name: "s".into(), signal_input: None };
    Body::SignalWithStartWorkflow(command)
}

#[test]
fn a_signal_with_start_that_ended_its_workflow_starts_no_other() {
    let mut scenario = Scenario::started(|_| {});
    let run_id = scenario.run().head.run_id.clone();
    scenario.then(signal_with_start("once", Conflict::Unspecified)).workflow_does([complete()]);
    scenario.then(signal_with_start("once", Conflict::Unspecified));
    assert_eq!(scenario.reply, Reply::Started { run_id: run_id.clone(), started: false, eager_task: false });
    assert!(scenario.joined().is_empty());
    scenario.then(signal_with_start("another", Conflict::Unspecified));
    assert_ne!(scenario.run().head.run_id, run_id);
}

#[test]
fn signal_with_start_refuses_to_fail_on_a_running_workflow() {
    for mut scenario in [Scenario::default(), Scenario::started(|_| {})] {
        let refused = scenario.when(signal_with_start("once", Conflict::Fail));
        assert!(matches!(refused, Err(Rejection::InvalidArgument(message)) if message.contains("POLICY_FAIL")));
    }
}

#[test]
fn a_signal_waits_for_a_delayed_start_and_signal_with_start_ends_the_delay() {
    let mut scenario = Scenario::started(|request| request.workflow_start_delay = Some(duration(60_000)));
    scenario.signal("s");
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_SIGNALED"]);
    scenario.then(signal_with_start("once", Conflict::Unspecified));
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]);
    scenario.workflow_does([]);
    assert!(deadlines::next_due(&Record::Head(scenario.run().head.clone())).is_none(), "the delay is over");
}
