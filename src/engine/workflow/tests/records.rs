//! What commands write: a record that is written often holds nothing large.

use super::*;
use crate::proto::temporal::common::v1::Memo;

fn payload(bytes: usize) -> Payload {
    Payload { data: vec![b'x'; bytes].into(), ..Payload::default() }
}

#[test]
fn what_a_run_was_started_with_is_written_once() {
    let mut scenario = Scenario::started(|request| {
        request.retry_policy = Some(RetryPolicy { initial_interval: Some(duration(1000)), ..RetryPolicy::default() });
        request.input = Some(Payloads { payloads: vec![payload(1 << 20)] });
        request.memo = Some(Memo { fields: [("note".to_owned(), payload(32 << 10))].into() });
    });
    let started_bytes = scenario.written_bytes;
    assert!(started_bytes > 1 << 20, "a retry needs the input: {started_bytes}");
    for _ in 0..100 {
        scenario.workflow_does([]).signal("again");
    }
    let per_task = (scenario.written_bytes - started_bytes) / 100;
    assert!(per_task < 2500, "{per_task} bytes for a task and a signal");
    // The run after it has them again, and the closed run drops them.
    scenario.workflow_does([fail()]);
    assert_eq!(scenario.run().head.attempt, 2);
    let restart = scenario.run().start.restart.as_ref().expect("it may be retried once more");
    assert_eq!(restart.input.as_ref().map(|input| input.payloads.len()), Some(1));
    assert!(scenario.run().properties.memo.is_some());
}

#[test]
fn an_event_that_waits_is_written_once() {
    let mut scenario = Scenario::started(|_| {});
    scenario.take_task();
    let before = scenario.written_bytes;
    for index in 0..50 {
        let input = Payloads { payloads: vec![payload(16 << 10)] };
        let request = SignalWorkflowExecutionRequest {
            workflow_execution: Some(WorkflowExecution { workflow_id: "w".into(), ..WorkflowExecution::default() }),
            signal_name: format!("s{index}"),
            input: Some(input),
            ..SignalWorkflowExecutionRequest::default()
        };
        scenario.then(Body::SignalWorkflow(SignalWorkflow { request: Some(request), ..SignalWorkflow::default() }));
    }
    let per_signal = (scenario.written_bytes - before) / 50;
    assert!(per_signal < (16 << 10) + 2500, "{per_signal} bytes for a signal of 16 KiB");
    let token = scenario.task_token();
    scenario.completes(token, []);
    assert!(scenario.run().buffered.is_empty());
    assert_eq!(scenario.joined().iter().filter(|name| **name == "WORKFLOW_EXECUTION_SIGNALED").count(), 50);
}

#[test]
fn properties_are_written_when_they_change() {
    let mut scenario = Scenario::started(|_| {});
    assert!(scenario.run().record(&SubKey::One(part::PROPERTIES)).is_none());
    let memo = Memo { fields: [("note".to_owned(), payload(10))].into() };
    let upsert = workflow_command::ModifyWorkflowPropertiesCommandAttributes { upserted_memo: Some(memo.clone()) };
    scenario.workflow_does([Do::ModifyWorkflowPropertiesCommandAttributes(upsert)]);
    assert_eq!(scenario.run().properties.memo, Some(memo));
    let gone = Memo { fields: [("note".to_owned(), Payload::default())].into() };
    let upsert = workflow_command::ModifyWorkflowPropertiesCommandAttributes { upserted_memo: Some(gone) };
    scenario.signal("go on").workflow_does([Do::ModifyWorkflowPropertiesCommandAttributes(upsert)]);
    assert_eq!(scenario.run().properties.memo, Some(Memo::default()));
}
