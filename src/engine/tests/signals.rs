use super::*;

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
    let with_start = || {
        let start = StartWorkflowExecutionRequest {
            workflow_type: Some(WorkflowType { name: "Type".into() }),
            task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
            ..Default::default()
        };
        let command = SignalWithStartWorkflow { start: Some(start), signal_name: "s".into(), signal_input: None };
        Body::SignalWithStartWorkflow(command)
    };
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
    let Body::SignalWorkflow(sent) = &scenario.sent().body else { panic!("{:?}", scenario.sends) };
    let initiated_event_id = sent.external.as_ref().unwrap().initiated_event_id;
    let answer = |cause| {
        Body::ResolveExternalSignal(ResolveExternalSignal {
            initiated_event_id,
            execution: execution("other", ""),
            cause,
            ..Default::default()
        })
    };
    scenario.then(answer(0));
    assert_eq!(scenario.joined(), ["EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]);
    assert!(scenario.when(answer(0)).is_err(), "it is answered once");
}

#[test]
fn a_signal_from_another_workflow_is_answered_even_if_nobody_is_there() {
    let external = External {
        namespace_id: "n".into(),
        execution: execution("sender", "run"),
        initiated_event_id: 5,
        ..External::default()
    };
    let request = SignalWorkflowExecutionRequest {
        workflow_execution: execution("w", ""),
        signal_name: "s".into(),
        ..Default::default()
    };
    let mut nobody = Scenario::default();
    nobody.then(Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: Some(external) }));
    let Body::ResolveExternalSignal(answer) = &nobody.sent().body else { panic!("{:?}", nobody.sends) };
    assert!(answer.cause != 0 && answer.initiated_event_id == 5);
}
