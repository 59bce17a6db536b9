//! What grows by merging, or by gathering, stays within the limits of Temporal's server, and a workflow that goes beyond them is
//! terminated.

use super::*;
use crate::proto::temporal::common::v1::{Memo, SearchAttributes};
use crate::types::limits;

const MIB: usize = 1024 * 1024;

fn large(bytes: usize) -> Payload {
    Payload { data: vec![b'x'; bytes].into(), ..Payload::default() }
}

fn upsert_memo(name: &str, bytes: usize) -> Do {
    let upserted_memo = Some(Memo { fields: [(name.to_owned(), large(bytes))].into() });
    Do::ModifyWorkflowPropertiesCommandAttributes(workflow_command::ModifyWorkflowPropertiesCommandAttributes {
        upserted_memo,
    })
}

fn upsert_attributes(fields: impl IntoIterator<Item = (String, Payload)>) -> Do {
    let search_attributes = Some(SearchAttributes { indexed_fields: fields.into_iter().collect() });
    Do::UpsertWorkflowSearchAttributesCommandAttributes(
        workflow_command::UpsertWorkflowSearchAttributesCommandAttributes { search_attributes },
    )
}

fn expect_terminated(scenario: &Scenario, reason: &str) {
    assert_eq!(scenario.status(), Status::Terminated);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_TERMINATED"]);
    let Attributes::WorkflowTaskFailedEventAttributes(failed) = scenario.attributes(EventType::WorkflowTaskFailed)
    else {
        panic!("a task failed")
    };
    assert_eq!(failed.failure.as_ref().map(|failure| failure.message.as_str()), Some(reason));
    let Attributes::WorkflowExecutionTerminatedEventAttributes(terminated) =
        scenario.attributes(EventType::WorkflowExecutionTerminated)
    else {
        panic!("the run was terminated")
    };
    assert_eq!((terminated.reason.as_str(), terminated.identity.as_str()), (reason, "history-service"));
    assert_eq!(scenario.reply, Reply::WorkflowTaskFailed { message: reason.into() });
}

#[test]
fn a_memo_does_not_grow_beyond_its_limit_by_merging() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([upsert_memo("a", 18 * MIB / 10)]).signal("go on");
    // A field that is replaced, or taken away, makes room.
    scenario.workflow_does([upsert_memo("a", 10), upsert_memo("b", 18 * MIB / 10)]).signal("go on");
    scenario.workflow_does([upsert_memo("c", 18 * MIB / 10)]);
    expect_terminated(
        &scenario,
        "BadModifyWorkflowPropertiesAttributes: ModifyWorkflowPropertiesCommandAttributes. Memo exceeds size limit.",
    );
    assert!(scenario.run().tally.size_bytes < limits::MEMO_SIZE_MAX + MIB, "what was refused is not in the state");
}

#[test]
fn an_update_of_a_memo_is_one_payload() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([upsert_memo("a", 2 * MIB)]);
    expect_terminated(
        &scenario,
        "BadModifyWorkflowPropertiesAttributes: ModifyWorkflowPropertiesCommandAttributes exceeds size limit.",
    );
}

#[test]
fn search_attributes_do_not_grow_beyond_their_limits() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([upsert_attributes([("Long".into(), large(2049))])]);
    expect_terminated(&scenario, "BadSearchAttributes: search attribute Long value size 2049 exceeds size limit 2048");

    let mut scenario = Scenario::started(|_| {});
    let some = |from: usize| (from..from + 11).map(|number| (format!("Field{number:02}"), large(2000)));
    scenario.workflow_does([upsert_attributes(some(0))]).signal("go on");
    scenario.workflow_does([upsert_attributes(some(0))]).signal("go on");
    scenario.workflow_does([upsert_attributes(some(11))]);
    assert_eq!(scenario.status(), Status::Terminated);
    let Reply::WorkflowTaskFailed { message } = &scenario.reply else { panic!("{:?}", scenario.reply) };
    assert!(message.starts_with("BadSearchAttributes: total size of search attributes"), "{message}");
}

#[test]
fn a_child_and_a_next_run_have_the_same_limits() {
    let memo = || Some(Memo { fields: [("a".to_owned(), large(2 * MIB))].into() });
    let Do::StartChildWorkflowExecutionCommandAttributes(mut start) = child("c") else { panic!() };
    start.memo = memo();
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([Do::StartChildWorkflowExecutionCommandAttributes(start)]);
    expect_terminated(
        &scenario,
        "BadStartChildExecutionAttributes: StartChildWorkflowExecutionCommandAttributes.Memo exceeds size limit.",
    );
    let Do::ContinueAsNewWorkflowExecutionCommandAttributes(mut next) = continue_as_new() else { panic!() };
    next.memo = memo();
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([Do::ContinueAsNewWorkflowExecutionCommandAttributes(next)]);
    expect_terminated(
        &scenario,
        "BadContinueAsNewAttributes: ContinueAsNewWorkflowExecutionCommandAttributes. Memo exceeds size limit.",
    );
}

#[test]
fn what_gathers_in_the_state_terminates_the_run_before_it_is_too_much() {
    let mut scenario = Scenario::started(|_| {});
    let ids = ["a", "b", "c", "d", "e"];
    scenario.workflow_does(ids.map(activity));
    let beat = |activity| {
        let details = Some(Payloads { payloads: vec![large(18 * MIB / 10)] });
        Body::HeartbeatActivity(HeartbeatActivity { activity: Some(activity), details, ..Default::default() })
    };
    for id in &ids[..4] {
        let activity = scenario.take_activity(id);
        scenario.then(beat(activity.clone())).then(beat(activity));
    }
    assert_eq!((scenario.status(), &scenario.refusal), (Status::Running, &None));
    let activity = scenario.take_activity("e");
    scenario.then(beat(activity));
    let reason = "Workflow mutable state size exceeds limit.";
    assert_eq!(scenario.refusal, Some(Rejection::InvalidArgument(reason.into())));
    assert_eq!((scenario.status(), scenario.joined()), (Status::Terminated, vec!["WORKFLOW_EXECUTION_TERMINATED"]));
    assert!(scenario.run().tally.size_bytes <= limits::STATE_SIZE_MAX);
}

#[test]
fn a_workflow_whose_signal_is_too_much_for_another_is_told() {
    let mut scenario = Scenario::started(|_| {});
    let ids = ["a", "b", "c", "d"];
    scenario.workflow_does(ids.map(activity));
    for id in ids {
        let activity = scenario.take_activity(id);
        let details = Some(Payloads { payloads: vec![large(18 * MIB / 10)] });
        scenario.then(Body::HeartbeatActivity(HeartbeatActivity {
            activity: Some(activity),
            details,
            ..Default::default()
        }));
    }
    scenario.signal("begin a task");
    scenario.take_task();
    let request = SignalWorkflowExecutionRequest {
        signal_name: "s".into(),
        workflow_execution: Some(WorkflowExecution { workflow_id: "w".into(), run_id: String::new() }),
        input: Some(Payloads { payloads: vec![large(15 * MIB / 10)] }),
        ..SignalWorkflowExecutionRequest::default()
    };
    let sender = WorkflowExecution { workflow_id: "sender".into(), run_id: "run".into() };
    let external = External { execution: Some(sender), initiated_event_id: 5, child_workflow_only: false };
    let signal = Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: Some(external) });
    scenario.then_for(callback_of("sender", 5), signal);
    assert_eq!((scenario.status(), scenario.refusal.is_some()), (Status::Terminated, true));
    let (notice, refused) = refused(&scenario);
    assert_eq!((&*scenario.sent().to.id, token(&notice.token).initiated_event_id), ("sender", 5));
    assert_eq!(refused.code, "INVALID_ARGUMENT");
}

#[test]
fn request_ids_are_part_of_the_state() {
    let mut scenario = Scenario::started(|_| {});
    let before = scenario.run().tally.size_bytes;
    let Body::SignalWorkflow(mut signal) = signal("s", "") else { unreachable!() };
    signal.request.as_mut().unwrap().request_id = "i".repeat(1000);
    scenario.then(Body::SignalWorkflow(signal));
    assert!(scenario.run().tally.size_bytes > before + 1000);
}

#[test]
fn a_start_that_is_too_large_is_refused() {
    let two = || Some(Payloads { payloads: vec![large(2 * MIB - 100)] });
    let refused = Scenario::default().start(|request| {
        request.input = two();
        request.memo = Some(Memo { fields: [("a".to_owned(), large(2 * MIB - 100))].into() });
        request.last_completion_result = two();
        request.continued_failure = Some(Failure { message: "x".repeat(2 * MIB), ..Failure::default() });
        request.retry_policy = Some(RetryPolicy::default());
    });
    assert_eq!(refused, Err(Rejection::InvalidArgument("Workflow mutable state size exceeds limit.".into())));
}

#[test]
fn events_that_wait_for_a_task_are_not_too_many() {
    for (bytes, most) in [(10, limits::BUFFERED_COUNT_MAX), (MIB / 2, 3)] {
        let mut scenario = Scenario::started(|_| {});
        scenario.take_task();
        let with_input = |number: usize| {
            let request = SignalWorkflowExecutionRequest {
                signal_name: "s".into(),
                request_id: format!("{number}"),
                input: Some(Payloads { payloads: vec![large(bytes)] }),
                ..Default::default()
            };
            Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: None })
        };
        for number in 0..most {
            scenario.then(with_input(number));
            assert_eq!(scenario.run().buffered.len(), number + 1);
        }
        scenario.then(with_input(most));
        assert!(scenario.run().buffered.is_empty(), "they have joined the history");
        assert_eq!(scenario.run().head.signal_count, most as i64 + 1);
    }
}
