//! Updates, and the speculative workflow tasks that are made for them. The histories are those of Temporal's server.

use prost_types::Any;

use super::*;
use crate::engine::workflow::updates::{Stage, messages};
use crate::proto::state::WorkflowTaskKind as TaskKindOf;
use crate::proto::temporal::protocol::v1::Message as ProtocolMessage;
use crate::proto::temporal::update::v1::{
    Acceptance, Input, Meta, Outcome as UpdateOutcome, Rejection as UpdateRejection, Request as UpdateRequest,
    Response, outcome,
};

pub fn request(id: &str) -> UpdateRequest {
    UpdateRequest {
        meta: Some(Meta { update_id: id.into(), identity: "caller".into() }),
        input: Some(Input { name: "handler".into(), args: Some(payloads("argument")), ..Input::default() }),
        ..UpdateRequest::default()
    }
}

fn call(id: &str, run_id: &str) -> UpdateWorkflowExecutionRequest {
    UpdateWorkflowExecutionRequest {
        workflow_execution: execution("w", run_id),
        request: Some(request(id)),
        ..UpdateWorkflowExecutionRequest::default()
    }
}

pub fn update(id: &str) -> Body {
    Body::UpdateWorkflow(UpdateWorkflow { request: Some(call(id, "")) })
}

fn message(id: &str, message_id: &str, name: &str, body: &impl prost::Message) -> ProtocolMessage {
    let type_url = format!("type.googleapis.com/temporal.api.update.v1.{name}");
    ProtocolMessage {
        id: message_id.into(),
        protocol_instance_id: id.into(),
        body: Some(Any { type_url, value: body.encode_to_vec() }),
        ..ProtocolMessage::default()
    }
}

fn accepts(id: &str) -> ProtocolMessage {
    let acceptance = Acceptance {
        accepted_request_message_id: format!("{id}/request"),
        accepted_request_sequencing_event_id: 5,
        accepted_request: Some(request(id)),
    };
    message(id, &format!("{id}/accept"), "Acceptance", &acceptance)
}

/// An acceptance as workers send it that leave out the request.
pub fn accepts_without_request(id: &str) -> ProtocolMessage {
    let acceptance = Acceptance {
        accepted_request_message_id: format!("{id}/request"),
        accepted_request_sequencing_event_id: 5,
        accepted_request: None,
    };
    message(id, &format!("{id}/accept"), "Acceptance", &acceptance)
}

fn rejects(id: &str) -> ProtocolMessage {
    let rejection = UpdateRejection { failure: Some(failure("Refused")), ..UpdateRejection::default() };
    message(id, &format!("{id}/reject"), "Rejection", &rejection)
}

fn responds(id: &str) -> ProtocolMessage {
    let response = Response {
        meta: Some(Meta { update_id: id.into(), identity: "caller".into() }),
        outcome: Some(UpdateOutcome { value: Some(outcome::Value::Success(payloads("result"))) }),
    };
    message(id, &format!("{id}/complete"), "Response", &response)
}

fn names(message: &ProtocolMessage) -> Do {
    Do::ProtocolMessageCommandAttributes(workflow_command::ProtocolMessageCommandAttributes {
        message_id: message.id.clone(),
    })
}

/// A completion with messages: acceptances and responses are named by commands before the others, as SDKs send them.
pub fn answers(
    token: TaskToken,
    messages: Vec<ProtocolMessage>,
    commands: impl IntoIterator<Item = Do>,
    change: impl FnOnce(&mut RespondWorkflowTaskCompletedRequest),
) -> Body {
    let named = messages.iter().filter(|message| !messages::is_rejection(message)).map(names);
    let commands: Vec<_> = named.chain(commands).collect();
    completion(token, commands, |request| {
        request.messages = messages;
        change(request);
    })
}

/// A workflow that has completed its first workflow task, and waits.
fn waiting() -> Scenario {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([]);
    scenario
}

fn kind(scenario: &Scenario) -> Option<TaskKindOf> {
    scenario.run().head.workflow_task.as_ref().map(|task| task.kind())
}

pub fn sent(scenario: &Scenario) -> Vec<String> {
    messages::messages(scenario.run()).into_iter().map(|message| message.protocol_instance_id).collect()
}

#[test]
fn an_update_that_is_accepted_and_completed_stands_behind_the_task_that_was_made_for_it() {
    let mut scenario = waiting();
    scenario.then(update("u"));
    assert_eq!(scenario.joined(), [""; 0], "it leaves no trace yet");
    assert_eq!(kind(&scenario), Some(TaskKindOf::Speculative));
    let token = scenario.take_task();
    assert_eq!((token.scheduled_event_id, token.started_event_id), (5, 6));
    let [message] = &messages::messages(scenario.run())[..] else { panic!("the worker is sent the update") };
    assert_eq!((message.id.as_str(), message.protocol_instance_id.as_str()), ("u/request", "u"));
    use crate::proto::temporal::protocol::v1::message::SequencingId;
    assert_eq!(message.sequencing_id, Some(SequencingId::EventId(5)));
    scenario.then(answers(token, vec![accepts("u"), responds("u")], [], |_| {}));
    assert_eq!(
        scenario.joined(),
        [
            "WORKFLOW_TASK_SCHEDULED",
            "WORKFLOW_TASK_STARTED",
            "WORKFLOW_TASK_COMPLETED",
            "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
            "WORKFLOW_EXECUTION_UPDATE_COMPLETED"
        ]
    );
    let Attributes::WorkflowExecutionUpdateCompletedEventAttributes(completed) =
        scenario.attributes(EventType::WorkflowExecutionUpdateCompleted)
    else {
        panic!("it is completed")
    };
    assert_eq!(completed.accepted_event_id, 8);
    assert_eq!(scenario.run().updates.stage("u"), Some(Stage::Completed { event_id: 9 }));
    let stored = scenario.run().record(&SubKey::Named(part::UPDATE, "u".into())).expect("the run has it");
    assert!(stored.encoded_len() < 20, "the request and the outcome are in the history");
    assert_eq!(kind(&scenario), None);
}

#[test]
fn a_rejected_update_leaves_nothing() {
    let mut scenario = waiting();
    let before = scenario.run().clone();
    scenario.then(update("u"));
    let token = scenario.take_task();
    scenario.then(answers(token, vec![rejects("u")], [], |_| {}));
    assert_eq!(scenario.joined(), [""; 0]);
    let Reply::WorkflowTaskCompleted { reset_history_event_id, .. } = scenario.reply else { panic!() };
    assert_eq!(reset_history_event_id, 3);
    assert_eq!(scenario.run().updates.count(), 0);
    assert_eq!(scenario.run().head.next_event_id, before.head.next_event_id);
    scenario.signal("next");
    assert_eq!(scenario.run().head.next_event_id, 7, "the signal is event 5");
}

#[test]
fn an_update_that_the_worker_does_not_answer_is_rejected_by_the_server() {
    let mut scenario = waiting();
    scenario.then(update("u"));
    let token = scenario.take_task();
    scenario.then(answers(token, vec![], [], |_| {}));
    assert_eq!((scenario.joined().len(), scenario.run().updates.count()), (0, 0));
    // A heartbeat answers nothing yet, and its follower brings only what is new.
    scenario.then(update("u"));
    let token = scenario.take_task();
    scenario.then(update("later"));
    scenario.then(answers(token, vec![], [], |request| {
        request.force_create_new_workflow_task = true;
        request.return_new_workflow_task = true;
    }));
    assert_eq!((kind(&scenario), sent(&scenario)), (Some(TaskKindOf::Normal), vec!["later".to_owned()]));
    assert_eq!(scenario.run().updates.count(), 2);
}

#[test]
fn updates_ride_on_a_task_that_is_pending() {
    let mut scenario = Scenario::started(|_| {});
    scenario.then(update("a")).then(update("b"));
    assert_eq!(kind(&scenario), Some(TaskKindOf::Normal));
    let token = scenario.take_task();
    assert_eq!(sent(&scenario), ["a", "b"]);
    scenario.then(update("late"));
    assert_eq!(sent(&scenario), ["a", "b"], "it came after the task was started");
    scenario.then(answers(token, vec![rejects("a"), accepts("b")], [], |request| {
        request.return_new_workflow_task = true;
    }));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED", "WORKFLOW_EXECUTION_UPDATE_ACCEPTED"]);
    assert_eq!((kind(&scenario), sent(&scenario)), (Some(TaskKindOf::Speculative), vec!["late".to_owned()]));
}

#[test]
fn what_came_while_the_task_was_worked_on_gets_a_normal_one_if_the_worker_does_not_take_it() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(update("late")).then(answers(token, vec![], [], |_| {}));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED", "WORKFLOW_TASK_SCHEDULED"]);
    assert_eq!(kind(&scenario), Some(TaskKindOf::Normal));
}

#[test]
fn a_speculative_task_becomes_normal_before_anything_else_joins_the_history() {
    let mut scenario = waiting();
    scenario.then(update("u")).signal("s");
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_EXECUTION_SIGNALED"]);
    let token = scenario.take_task();
    assert_eq!((scenario.joined(), sent(&scenario)), (vec!["WORKFLOW_TASK_STARTED"], vec!["u".to_owned()]));
    scenario.then(answers(token, vec![rejects("u")], [], |_| {}));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED"]);

    let mut scenario = waiting();
    scenario.then(update("u"));
    let token = scenario.take_task();
    scenario.signal("s");
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"]);
    let Attributes::WorkflowTaskStartedEventAttributes(started) = scenario.attributes(EventType::WorkflowTaskStarted)
    else {
        panic!()
    };
    assert_eq!(started.identity, "");
    scenario.then(answers(token, vec![rejects("u")], [], |_| {}));
    assert_eq!(
        scenario.joined(),
        ["WORKFLOW_TASK_COMPLETED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]
    );
}

#[test]
fn a_speculative_task_that_fails_or_takes_too_long_is_in_the_history() {
    let mut scenario = waiting();
    scenario.then(update("u"));
    let token = scenario.take_task();
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: Some(Default::default()) }));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_FAILED"]);
    assert_eq!(kind(&scenario), Some(TaskKindOf::Transient));
    scenario.take_task();
    assert_eq!(sent(&scenario), ["u"], "it is sent again");

    let mut scenario = waiting();
    scenario.then(update("u"));
    scenario.take_task();
    scenario.due(SubKey::Head).expect("its time is up");
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_TIMED_OUT"]);

    let mut scenario = waiting();
    scenario.then(update("u"));
    let before = scenario.now;
    scenario.due(SubKey::Head).expect("no worker has taken it");
    assert_eq!(scenario.now - before, 5000);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_TIMED_OUT", "WORKFLOW_TASK_SCHEDULED"]);
    assert_eq!(kind(&scenario), Some(TaskKindOf::Normal));
}

#[test]
fn events_that_the_worker_may_be_sent_twice_keep_a_task_that_brings_nothing_else() {
    let with_activity = || {
        let mut scenario = Scenario::started(|_| {});
        scenario.workflow_does([activity("a")]);
        scenario.then(update("u"));
        scenario
    };
    let mut scenario = with_activity();
    let token = scenario.take_task();
    scenario.then(answers(token, vec![rejects("u")], [], |_| {}));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_COMPLETED"]);
    let mut scenario = with_activity();
    let token = scenario.take_task();
    scenario.then(answers(token, vec![rejects("u")], [], |request| {
        request.capabilities.get_or_insert_default().discard_speculative_workflow_task_with_events = true;
    }));
    assert_eq!(scenario.joined(), [""; 0]);
}

#[test]
fn a_workflow_that_ends_fails_what_it_has_accepted_and_aborts_the_rest() {
    let mut scenario = waiting();
    scenario.then(update("accepted")).then(update("sent"));
    let token = scenario.take_task();
    scenario.then(update("late"));
    let reply = answers(token, vec![accepts("accepted")], [complete()], |_| {});
    scenario.then(reply);
    assert_eq!(scenario.joined()[3..], ["WORKFLOW_EXECUTION_UPDATE_ACCEPTED", "WORKFLOW_EXECUTION_COMPLETED"]);
    let run = scenario.run();
    assert!(matches!(run.updates.stage("accepted"), Some(Stage::Accepted { .. })));
    assert_eq!((run.updates.stage("sent"), run.updates.stage("late")), (None, None));
    scenario.then(update("accepted"));
    assert_eq!(scenario.when(update("new")), Err(Rejection::workflow_closed()));
}

#[test]
fn updates_that_no_worker_has_answered_go_on_with_the_workflow() {
    let mut scenario = waiting();
    let run_id = scenario.run().head.run_id.clone();
    scenario.then(update("sent"));
    let token = scenario.take_task();
    scenario.then(update("late"));
    let pinned = UpdateWorkflow { request: Some(call("pinned", &run_id)) };
    scenario.then(Body::UpdateWorkflow(pinned)).then(answers(token, vec![], [continue_as_new()], |_| {}));
    assert_ne!(scenario.run().head.run_id, run_id);
    let ids: Vec<_> = scenario.run().updates.ids().cloned().collect();
    assert_eq!(ids, ["late", "sent"]);
    assert_eq!(kind(&scenario), Some(TaskKindOf::Speculative), "although the first task is delayed");
    let token = scenario.take_task();
    assert_eq!(sent(&scenario), ["sent", "late"], "in their order");
    scenario.then(answers(token, vec![accepts("sent"), accepts("late")], [], |_| {}));
    assert!(!scenario.run().head.first_task_delayed);
}

#[test]
fn an_update_is_admitted_once() {
    let mut scenario = waiting();
    scenario.then(update("u")).then(update("u"));
    let token = scenario.take_task();
    assert_eq!(sent(&scenario), ["u"]);
    scenario.then(answers(token, vec![accepts("u"), responds("u")], [], |_| {})).then(update("u"));
    assert_eq!(kind(&scenario), None, "the outcome is known");
}

#[test]
fn no_more_updates_are_admitted_than_may_be() {
    let mut scenario = waiting();
    for id in 0..10 {
        scenario.then(update(&id.to_string()));
    }
    let refused = scenario.when(update("one more")).expect_err("there are ten");
    assert_eq!(refused.message(), "limit on number of concurrent in-flight updates has been reached (10)");
    let token = scenario.take_task();
    let answered: Vec<_> = (0..10).flat_map(|id| [accepts(&id.to_string()), responds(&id.to_string())]).collect();
    scenario.then(answers(token, answered, [], |_| {})).then(update("one more"));
}

#[test]
fn a_failing_workflow_admits_none() {
    let mut scenario = waiting();
    scenario.signal("s");
    for _ in 0..2 {
        let token = scenario.take_task();
        let failed = FailWorkflowTask { token: Some(token), request: Some(Default::default()) };
        scenario.then(Body::FailWorkflowTask(failed));
    }
    assert!(matches!(scenario.when(update("u")), Err(Rejection::NotReady(_))));
}

#[test]
fn a_completion_that_the_server_refuses_aborts_what_its_worker_was_sent() {
    let bad: [(Vec<ProtocolMessage>, Vec<Do>, &str); 6] = [
        (
            vec![accepts("u"), accepts("u")],
            vec![],
            "invalid state transition attempted for Update u: received *update.Acceptance message while in state ProvisionallyAccepted",
        ),
        (
            vec![responds("u")],
            vec![],
            "invalid state transition attempted for Update u: received *update.Response message while in state Sent",
        ),
        (
            vec![responds("other")],
            vec![],
            "update other wasn't found on the server. This is most likely a transient error which will be resolved automatically by retries",
        ),
        (vec![message("u", "m", "Request", &request("u"))], vec![], "Message type *update.Request not supported"),
        (
            vec![message("u", "m", "Acceptance", &Acceptance::default())],
            vec![],
            "invalid *update.Acceptance: accepted_request_sequencing_event_id is not set",
        ),
        (vec![], vec![names(&accepts("absent"))], "ProtocolMessageCommand referenced absent message ID absent/accept"),
    ];
    for (messages, commands, problem) in bad {
        let mut scenario = waiting();
        scenario.then(update("u"));
        let token = scenario.take_task();
        scenario.then(update("late")).then(completion(token, commands, |request| request.messages = messages));
        let Reply::WorkflowTaskFailed { message } = &scenario.reply else { panic!("{:?}", scenario.reply) };
        assert_eq!(*message, format!("BadUpdateWorkflowExecutionMessage: {problem}"));
        assert_eq!(scenario.run().updates.ids().collect::<Vec<_>>(), ["late"]);
        assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_FAILED"]);
    }
}

#[test]
fn a_worker_s_own_copy_brings_an_update_back() {
    let mut scenario = waiting();
    scenario.signal("s");
    let token = scenario.take_task();
    scenario.then(answers(token, vec![accepts("lost"), responds("lost")], [], |_| {}));
    assert!(matches!(scenario.run().updates.stage("lost"), Some(Stage::Completed { .. })));
}

#[test]
fn two_speculative_tasks_with_the_same_events_are_told_apart() {
    let mut scenario = waiting();
    scenario.then(update("a"));
    let first = scenario.take_task();
    scenario.then(answers(first.clone(), vec![rejects("a")], [], |_| {})).then(update("b"));
    let second = scenario.take_task();
    assert_eq!((first.scheduled_event_id, first.started_ms), (second.scheduled_event_id, second.started_ms));
    assert!(scenario.when(answers(first, vec![rejects("a")], [], |_| {})).is_err());
    scenario.then(answers(second, vec![accepts("b")], [], |_| {}));
}

#[test]
fn an_update_with_a_start_is_both_or_neither() {
    let with_start = |id: &str, conflict: i32| {
        Body::UpdateWithStartWorkflow(UpdateWithStartWorkflow {
            start: Some(StartWorkflowExecutionRequest {
                workflow_id: "w".into(),
                workflow_type: Some(WorkflowType { name: "Type".into() }),
                task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
                request_id: format!("start for {id}"),
                workflow_id_conflict_policy: conflict,
                ..StartWorkflowExecutionRequest::default()
            }),
            update: Some(call(id, "")),
        })
    };
    let mut scenario = Scenario::default();
    scenario.then(with_start("a", 1));
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED"]);
    let started = |scenario: &Scenario| matches!(scenario.reply, Reply::UpdatedWithStart { started: true, .. });
    assert!(started(&scenario));
    let token = scenario.take_task();
    assert_eq!(sent(&scenario), ["a"]);
    scenario.then(with_start("a", 1));
    assert!(!started(&scenario), "its update is known");
    assert!(matches!(scenario.when(with_start("b", 1)), Err(Rejection::AlreadyStarted { .. })));
    assert_eq!(scenario.run().updates.count(), 1);
    scenario.then(with_start("b", 2));
    assert!(!started(&scenario), "it uses the run that is there");
    scenario.then(answers(token, vec![accepts("a"), responds("a")], [complete()], |_| {}));
    scenario.then(with_start("a", 1));
    assert!(!started(&scenario), "it is completed");
    scenario.then(with_start("b", 1));
    assert!(started(&scenario), "it was aborted");
}

#[test]
fn the_first_task_is_not_lost_to_an_update_that_is_rejected() {
    let delayed = || {
        let mut scenario =
            Scenario::started(|request| request.workflow_start_delay = Some(crate::types::time::duration(60_000)));
        scenario.then(update("u"));
        assert_eq!(kind(&scenario), Some(TaskKindOf::Speculative), "an update does not wait for the delay");
        scenario
    };
    // Rejected before the delay is over: the first task comes in its time.
    let mut scenario = delayed();
    let token = scenario.take_task();
    let token_of_update = (token.scheduled_event_id, token.started_event_id, token.last_update);
    scenario.then(answers(token, vec![rejects("u")], [], |_| {}));
    assert_eq!((scenario.joined().len(), kind(&scenario)), (0, None));
    scenario.due(SubKey::Head).expect("the delay is over");
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED"]);
    let first = scenario.take_task();
    assert_eq!((first.scheduled_event_id, first.started_event_id), (token_of_update.0, token_of_update.1));
    assert_ne!(first.last_update, token_of_update.2, "it is another task");
    // And after it: the task that was made for the update is the first one.
    let mut scenario = delayed();
    let token = scenario.take_task();
    scenario.now = 60_000;
    scenario.fires(SubKey::Head).expect("the delay is over");
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"]);
    scenario.then(answers(token, vec![rejects("u")], [], |_| {}));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED"]);
    // An update that came meanwhile does not wait either.
    let mut scenario = delayed();
    let token = scenario.take_task();
    scenario.then(update("late")).then(answers(token, vec![rejects("u")], [], |_| {}));
    assert_eq!(kind(&scenario), Some(TaskKindOf::Normal));
}

#[test]
fn updates_never_end_a_run_for_its_size() {
    let large =
        |bytes: usize| Some(Payloads { payloads: vec![Payload { data: vec![7; bytes].into(), ..Payload::default() }] });
    let with = |id: &str, bytes: usize| {
        let mut call = call(id, "");
        call.request.as_mut().and_then(|request| request.input.as_mut()).expect("it has an input").args = large(bytes);
        Body::UpdateWorkflow(UpdateWorkflow { request: Some(call) })
    };
    let mut scenario = waiting();
    let mib = 1024 * 1024;
    scenario.then(with("a", mib)).then(with("b", mib));
    let refused = scenario.when(with("c", mib)).expect_err("they are too large together");
    assert!(refused.message().starts_with("limit on total payload size of in-flight updates"), "{refused:?}");
    scenario.then(update("small"));
    assert_eq!(scenario.run().updates.request_bytes() / mib, 2);
    // The worker's copies of what the server has do not count either.
    let token = scenario.take_task();
    let mut accepted = accepts("a");
    let copy = UpdateRequest { input: Some(Input { args: large(2 * mib), ..Input::default() }), ..request("a") };
    accepted.body.as_mut().expect("it has one").value = Acceptance {
        accepted_request_message_id: "a/request".into(),
        accepted_request_sequencing_event_id: 5,
        accepted_request: Some(copy),
    }
    .encode_to_vec();
    scenario.then(answers(token, vec![accepted, rejects("b")], [], |_| {}));
    assert_eq!(scenario.status(), Status::Running);
    assert_eq!(scenario.run().updates.request_bytes(), 0);
}

#[test]
fn an_update_is_rejected_or_accepted_by_one_completion_but_not_both() {
    let mut scenario = waiting();
    scenario.then(update("u"));
    let token = scenario.take_task();
    scenario.then(answers(token, vec![rejects("u"), accepts("u")], [], |_| {}));
    // The acceptance is named by a command, and so comes first.
    let Reply::WorkflowTaskFailed { message } = &scenario.reply else { panic!("{:?}", scenario.reply) };
    assert!(message.ends_with("received *update.Rejection message while in state ProvisionallyAccepted"), "{message}");
    let mut scenario = waiting();
    scenario.then(update("u"));
    let token = scenario.take_task();
    scenario.then(completion(token, [], |request| request.messages = vec![rejects("u"), accepts("u")]));
    let Reply::WorkflowTaskFailed { message } = &scenario.reply else { panic!("{:?}", scenario.reply) };
    assert!(
        message.ends_with("received *update.Acceptance message while in state ProvisionallyCompleted"),
        "{message}"
    );
}

/// A worker has accepted an update, and works on it.
pub fn accepted(scenario: &mut Scenario, id: &str) {
    scenario.then(update(id));
    let token = scenario.take_task();
    scenario.then(answers(token, vec![accepts(id)], [], |_| {}));
}
