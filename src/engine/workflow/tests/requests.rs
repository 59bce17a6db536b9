//! What requests leave in a history beside their effect: links, ids, and what is dropped of them or too large.

use super::*;
use crate::proto::temporal::common::v1::{Callback, Link, Memo, SearchAttributes, link};
use crate::proto::temporal::enums::v1::{WorkflowIdConflictPolicy as Conflict, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::workflow::v1::OnConflictOptions;

fn linked(workflow_id: &str) -> Vec<Link> {
    let to = link::WorkflowEvent { workflow_id: workflow_id.into(), ..link::WorkflowEvent::default() };
    vec![Link { variant: Some(link::Variant::WorkflowEvent(to)) }]
}

fn attach(request: &mut StartWorkflowExecutionRequest) {
    request.request_id = "second".into();
    request.workflow_id_conflict_policy = Conflict::UseExisting as i32;
    request.links = linked("caller");
    request.completion_callbacks = vec![Callback::default()];
    request.on_conflict_options =
        Some(OnConflictOptions { attach_request_id: true, attach_completion_callbacks: true, attach_links: true });
}

#[test]
fn a_start_that_finds_a_run_attaches_what_it_asks_for_once() {
    let mut scenario = Scenario::started(|_| {});
    let run_id = scenario.run().head.run_id.clone();
    scenario.start(attach).unwrap();
    assert_eq!(scenario.reply, Reply::Started { run_id: run_id.clone(), started: false, eager_task: false });
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_OPTIONS_UPDATED"]);
    assert_eq!(scenario.joined[0].links, linked("caller"));
    let Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(recorded) =
        scenario.attributes(EventType::WorkflowExecutionOptionsUpdated)
    else {
        panic!("the event has it")
    };
    assert_eq!((recorded.attached_request_id.as_str(), recorded.attached_completion_callbacks.len()), ("second", 1));
    let attached: Vec<_> =
        scenario.run().attached_requests().map(|(id, request)| (id.clone(), request.event_id)).collect();
    assert_eq!(attached, [("second".to_owned(), 3)]);

    scenario.start(attach).unwrap();
    assert_eq!(scenario.reply, Reply::Started { run_id, started: false, eager_task: false });
    assert!(scenario.joined().is_empty(), "{:?}", scenario.joined());
}

#[test]
fn what_is_attached_while_a_task_is_started_waits_for_its_end() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.start(attach).unwrap();
    assert!(scenario.joined().is_empty());
    assert!(scenario.run().attached_requests().all(|(_, request)| request.event_id < 0));
    scenario.completes(token, []);
    assert_eq!(scenario.joined()[1], "WORKFLOW_EXECUTION_OPTIONS_UPDATED");
    assert!(scenario.run().attached_requests().all(|(_, request)| request.event_id == 5));
}

#[test]
fn a_start_that_attaches_nothing_leaves_nothing() {
    let mut scenario = Scenario::started(|_| {});
    scenario.start(|request| request.workflow_id_conflict_policy = Conflict::UseExisting as i32).unwrap();
    assert!(scenario.joined().is_empty());
}

#[test]
fn who_finds_the_id_taken_hears_of_the_chain() {
    let mut scenario = Scenario::started(|_| {});
    let first = scenario.run().head.run_id.clone();
    scenario.workflow_does([continue_as_new()]);
    let Err(Rejection::AlreadyStarted { run_id, first_run_id, .. }) = scenario.start(|_| {}) else {
        panic!("the id is taken")
    };
    assert_eq!((run_id, first_run_id), (scenario.run().head.run_id.clone(), first.clone()));
    assert_ne!(scenario.run().head.run_id, first);
}

#[test]
fn termination_keeps_its_links() {
    let mut scenario = Scenario::started(|_| {});
    let request = TerminateWorkflowExecutionRequest { links: linked("caller"), ..Default::default() };
    scenario
        .then(Body::TerminateWorkflow(TerminateWorkflow { request: Some(request), ..TerminateWorkflow::default() }));
    assert_eq!(scenario.joined.last().unwrap().links, linked("caller"));
}

#[test]
fn task_ids_grow_along_a_history() {
    let mut scenario = Scenario::started(|_| {});
    let mut ids: Vec<_> = scenario.joined.iter().map(|event| event.task_id).collect();
    scenario.take_task();
    ids.extend(scenario.joined.iter().map(|event| event.task_id));
    assert!(ids[0] > 0 && ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}

#[test]
fn payloads_that_are_kept_elsewhere_are_counted() {
    use crate::proto::temporal::common::v1::payload::ExternalPayloadDetails;
    let elsewhere = |sizes: &[i64]| Payload {
        external_payloads: sizes.iter().map(|size| ExternalPayloadDetails { size_bytes: *size }).collect(),
        ..Payload::default()
    };
    let payloads = |sizes: &[i64]| Some(Payloads { payloads: vec![Payload::default(), elsewhere(sizes)] });
    let mut scenario = Scenario::started(|request| request.input = payloads(&[10, 20]));
    let counted =
        |scenario: &Scenario| (scenario.run().head.external_payload_count, scenario.run().head.external_payload_bytes);
    assert_eq!(counted(&scenario), (2, 30));
    let token = scenario.take_task();
    let signal = SignalWorkflowExecutionRequest { input: payloads(&[5]), ..Default::default() };
    scenario.then(Body::SignalWorkflow(SignalWorkflow { request: Some(signal), external: None }));
    assert_eq!(counted(&scenario), (2, 30), "it waits for the task's end");
    let info = ApplicationFailureInfo { details: payloads(&[3]), ..ApplicationFailureInfo::default() };
    let cause = Failure { failure_info: Some(FailureInfo::ApplicationFailureInfo(info)), ..Failure::default() };
    let failure = Some(Failure { cause: Some(Box::new(cause)), ..Failure::default() });
    let request = RespondWorkflowTaskFailedRequest { failure, ..Default::default() };
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: Some(request) }));
    assert_eq!(counted(&scenario), (4, 38));
}

fn value(data: &'static str) -> Payload {
    Payload { data: data.into(), ..Payload::default() }
}

#[test]
fn what_stands_for_nothing_is_dropped_from_memo_and_search_attributes() {
    let fields = || [("a", "1"), ("b", ""), ("c", "null"), ("d", "[]")].map(|(k, v)| (k.to_owned(), value(v)));
    let scenario = Scenario::started(|request| {
        request.memo = Some(Memo { fields: fields().into() });
        request.search_attributes =
            Some(SearchAttributes { indexed_fields: fields()[1..].to_vec().into_iter().collect() });
    });
    let Attributes::WorkflowExecutionStartedEventAttributes(started) =
        scenario.attributes(EventType::WorkflowExecutionStarted)
    else {
        panic!("it began")
    };
    assert_eq!(started.memo.clone().unwrap().fields.into_keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(started.search_attributes, None);
}

#[test]
fn a_payload_over_the_limit_in_a_command_ends_the_run_at_the_first_attempt() {
    for attempts in [1, 2] {
        let mut scenario = Scenario::started(|_| {});
        for _ in 1..attempts {
            let token = scenario.take_task();
            scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), ..Default::default() }));
        }
        let token = scenario.take_task();
        let completion = Body::CompleteWorkflowTask(CompleteWorkflowTask {
            token: Some(token),
            request: Some(RespondWorkflowTaskCompletedRequest::default()),
            bad_cause: Cause::BadScheduleActivityAttributes as i32,
            bad_message: "ScheduleActivityTaskCommandAttributes.Input exceeds size limit.".into(),
            bad_terminates: true,
            ..CompleteWorkflowTask::default()
        });
        let reason = "BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes.Input exceeds size limit.";
        if attempts > 1 {
            assert_eq!(scenario.when(completion), Err(Rejection::InvalidArgument(reason.into())));
            assert_eq!(scenario.status(), Status::Running);
            continue;
        }
        scenario.then(completion);
        assert_eq!(scenario.reply, Reply::WorkflowTaskFailed { message: reason.into() });
        assert_eq!(scenario.status(), Status::Terminated);
        let Attributes::WorkflowExecutionTerminatedEventAttributes(recorded) =
            scenario.attributes(EventType::WorkflowExecutionTerminated)
        else {
            panic!("it was terminated")
        };
        assert_eq!((recorded.reason.as_str(), recorded.identity.as_str()), (reason, "history-service"));
        assert!(scenario.joined().contains(&"WORKFLOW_TASK_FAILED"), "{:?}", scenario.joined());
    }
}

#[test]
fn a_large_failure_that_is_tried_again_is_kept_cut() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a")]);
    let reference = scenario.take_activity("a");
    let failure = Failure { message: "x".repeat(10_000), ..Failure::default() };
    let failed = FailActivity { activity: Some(reference), failure: Some(failure), ..FailActivity::default() };
    scenario.then(Body::FailActivity(failed));
    let kept = scenario.activity("a").last_failure.expect("it is tried again");
    assert_eq!(kept.message, "Failure exceeds size limit.");
    assert_eq!(kept.cause.expect("what is left").message.len(), 4096);
}

#[test]
fn the_last_worker_is_whoever_sent_a_heartbeat_if_the_task_was_taken_by_nobody_named() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a")]);
    let reference = scenario.take_activity("a");
    let heartbeat = HeartbeatActivity { activity: Some(reference), identity: "by id".into(), ..Default::default() };
    scenario.then(Body::HeartbeatActivity(heartbeat));
    let activity = scenario.activity("a");
    assert_eq!((activity.identity.as_str(), activity.last_identity.as_str()), ("worker", "by id"));
}
