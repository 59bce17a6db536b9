//! Runs that begin again from a point of a history. The histories and the words are those of Temporal's server.

use super::*;
use crate::engine::workflow::UpdateStage;
use crate::proto::commands;
use crate::proto::commands::PauseWorkflow;
use crate::proto::temporal::enums::v1::{ResetReapplyExcludeType, UpdateAdmittedEventOrigin};
use crate::proto::temporal::workflowservice::v1::PauseWorkflowExecutionRequest;

pub fn reset(run_id: &str, finish: i64, change: impl FnOnce(&mut ResetWorkflowExecutionRequest)) -> Body {
    let mut request = ResetWorkflowExecutionRequest {
        workflow_execution: execution("w", run_id),
        reason: "again".into(),
        workflow_task_finish_event_id: finish,
        ..ResetWorkflowExecutionRequest::default()
    };
    change(&mut request);
    Body::ResetWorkflow(ResetWorkflow { request: Some(request), ..ResetWorkflow::default() })
}

fn names(history: &[HistoryEvent]) -> Vec<&'static str> {
    history.iter().map(|event| event.event_type().as_str_name().trim_start_matches("EVENT_TYPE_")).collect()
}

/// The history of the newest run.
fn history(scenario: &Scenario) -> &[HistoryEvent] {
    &scenario.histories[&scenario.run().head.run_id]
}

fn run_id(scenario: &Scenario) -> String {
    scenario.run().head.run_id.clone()
}

/// A run that has scheduled an activity, and had a signal since.
fn with_activity() -> Scenario {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a")]);
    scenario.now += 1;
    scenario.signal("first");
    scenario
}

const BEGINNING: [&str; 4] =
    ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_FAILED"];

#[test]
fn a_run_begins_again_before_its_first_task_completes_and_has_its_signals_again() {
    let mut scenario = with_activity();
    let base = run_id(&scenario);
    let before = history(&scenario).to_vec();
    scenario.now = 60_000;
    scenario.then(reset("", 4, |_| {}));
    let again = run_id(&scenario);
    assert_eq!(scenario.reply, Reply::Reset { run_id: again.clone() });
    assert_eq!(names(history(&scenario))[..4], BEGINNING);
    assert_eq!(names(history(&scenario))[4..], ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]);
    assert_eq!(history(&scenario)[..3], before[..3], "what came before the point is the same");
    let Some(Attributes::WorkflowTaskFailedEventAttributes(failed)) = &history(&scenario)[3].attributes else {
        panic!()
    };
    assert_eq!((&*failed.base_run_id, &*failed.new_run_id, &*failed.identity), (&*base, &*again, "history-service"));
    assert_eq!(failed.failure.as_ref().map(|failure| failure.message.as_str()), Some("again"));
    assert!(scenario.run().activities.is_empty(), "it was scheduled after the point");
    let head = &scenario.run().head;
    assert_eq!((head.start_ms - START_MS, head.original_start_ms - START_MS), (60_000, 0));

    let ended = scenario.older.last().expect("the run before");
    assert_eq!((ended.status(), &ended.head.reset_run_id), (Status::Terminated, &again));
    let last = scenario.histories[&base].last();
    let Some(Attributes::WorkflowExecutionTerminatedEventAttributes(end)) = last.and_then(|e| e.attributes.as_ref())
    else {
        panic!()
    };
    assert_eq!((&*end.reason, &*end.identity), ("again", "history-resetter"));
    scenario.workflow_does([complete()]);
    assert_eq!(scenario.status(), Status::Completed);
}

#[test]
fn what_is_excluded_is_not_applied_again() {
    let mut scenario = with_activity();
    let exclude = ResetReapplyExcludeType::Signal as i32;
    scenario.then(reset("", 4, |request| request.reset_reapply_exclude_types.push(exclude)));
    assert_eq!(names(history(&scenario))[4..], ["WORKFLOW_TASK_SCHEDULED"]);
}

#[test]
fn what_waited_for_a_task_is_applied_again_too() {
    let mut scenario = with_activity();
    scenario.take_task();
    scenario.signal("second");
    scenario.then(reset("", 4, |_| {}));
    let again = ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"];
    assert_eq!(names(history(&scenario))[4..], again);
}

#[test]
fn pending_activities_and_timers_go_on() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a"), timer("t", 100_000)]);
    let attempt = scenario.take_activity("a");
    scenario.signal("first");
    scenario.take_task();
    scenario.now = 60_000;
    scenario.then(reset("", 9, |_| {})).then(reset("", 9, |_| {}));
    let activity = scenario.activity("a");
    assert_eq!((activity.attempt, activity.started_ms, activity.scheduled_ms - START_MS), (1, 0, 60_000));
    let stale = scenario.when(result(attempt)).expect_err("it is of the run before");
    assert!(matches!(stale, Rejection::NotFound(_)), "{stale:?}");
    scenario.due(timer_record("t")).expect("it fires");
    assert_eq!(scenario.now, 100_000, "as it would have");
    let attempt = scenario.take_activity("a");
    scenario.then(result(attempt));
    assert!(scenario.run().activities.is_empty());
}

#[test]
fn what_a_run_has_of_the_history_before_it_is_no_news_but_for_timers_that_go_on() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([timer("over", 1000), timer("on", 100_000)]);
    scenario.due(timer_record("over")).expect("it fires");
    scenario.take_task();
    let events = history(&scenario).len() as i64;
    scenario.then(reset("", events, |_| {}));
    let closed = ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_TERMINATED"];
    let again = ["TIMER_STARTED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"];
    assert_eq!(names(&scenario.news), [&closed[..], &again[..]].concat());
    assert_eq!(scenario.news[2].event_id, 6, "the timer that goes on");
}

#[test]
fn a_closed_run_begins_again_and_a_run_before_the_newest_ends_that() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([complete()]);
    let first = run_id(&scenario);
    scenario.then(reset("", 4, |_| {}));
    assert_eq!(scenario.histories[&first].len(), 5, "its history stays as it was");
    let second = run_id(&scenario);
    scenario.then(reset(&first, 3, |_| {}));
    assert_eq!(names(history(&scenario))[..4], BEGINNING, "a task is started, to fail");
    let ended = scenario.older.last().expect("the run before");
    assert_eq!((ended.head.run_id.as_str(), ended.status()), (second.as_str(), Status::Terminated));
    let from = &scenario.run().head.reset_from;
    assert_eq!(from.iter().map(|from| from.run_id.as_str()).collect::<Vec<_>>(), [first.as_str()]);
}

#[test]
fn signals_of_runs_that_continued_it_as_new_are_applied_again() {
    let mut scenario = Scenario::started(|_| {});
    let first = run_id(&scenario);
    scenario.signal("one");
    scenario.workflow_does([continue_as_new()]);
    scenario.signal("two");
    scenario.then(reset(&first, 3, |_| {}));
    let signals = history(&scenario).iter().filter_map(|event| match &event.attributes {
        Some(Attributes::WorkflowExecutionSignaledEventAttributes(signal)) => Some(signal.signal_name.as_str()),
        _ => None,
    });
    assert_eq!(signals.collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn a_point_is_before_what_a_workflow_task_led_to() {
    let mut scenario = with_activity();
    let refused = |scenario: &mut Scenario, finish| match scenario.when(reset("", finish, |_| {})) {
        Err(Rejection::InvalidArgument(message)) => message,
        other => panic!("{other:?}"),
    };
    for finish in [0, 1, 8, 100] {
        let message = "Workflow task finish ID must be > 1 && <= workflow last event ID.";
        assert_eq!(refused(&mut scenario, finish), message);
    }
    for finish in [2, 5] {
        let boundary = "StateRebuilder unable to Rebuild mutable state to event ID: ";
        assert!(refused(&mut scenario, finish).starts_with(boundary));
    }
    let range = "Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]: 6";
    assert_eq!(refused(&mut scenario, 6), range);
    let missing = scenario.when(reset("another", 4, |_| {}));
    assert_eq!(missing, Err(Rejection::workflow_not_found("w", "another")));
}

#[test]
fn a_point_may_be_behind_events_that_a_failing_task_has_not_seen() {
    let failed = || {
        let mut scenario = Scenario::started(|_| {});
        let token = scenario.take_task();
        let request = Some(RespondWorkflowTaskFailedRequest::default());
        scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request }));
        scenario.now += 1;
        scenario.signal("first");
        scenario.now += 1;
        scenario.workflow_does([]);
        scenario
    };
    let mut scenario = failed();
    let seen = ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"];
    assert_eq!(names(history(&scenario))[3..6], seen);
    scenario.then(reset("", 6, |_| {}));
    assert_eq!(names(history(&scenario))[3..6], seen);
    let again = ["WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"];
    assert_eq!(names(history(&scenario))[6..], again);
}

#[test]
fn a_point_at_which_the_run_was_paused_is_refused() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    let request = PauseWorkflowExecutionRequest { request_id: "1".into(), ..PauseWorkflowExecutionRequest::default() };
    scenario.then(Body::PauseWorkflow(PauseWorkflow { request: Some(request) }));
    let request = Some(RespondWorkflowTaskFailedRequest::default());
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request }));
    scenario.now += 1;
    scenario.signal("first");
    assert_eq!(
        names(history(&scenario))[3..],
        ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_PAUSED", "WORKFLOW_EXECUTION_SIGNALED"]
    );
    let refused = scenario.when(reset("", 6, |_| {})).expect_err("it was paused");
    assert!(refused.message().contains("by event 5"), "{refused:?}");
    scenario.then(reset("", 4, |_| {}));
}

#[test]
fn histories_are_read_only_where_the_state_does_not_tell_what_becomes_of_a_reset() {
    let once = |finish| reset("", finish, |request| request.request_id = "once".into());
    let mut scenario = with_activity();
    scenario.when(once(100)).expect_err("there is no such event");
    assert!(!scenario.was_read);
    scenario.when(reset("another", 4, |_| {})).expect_err("there is no such run");
    assert!(!scenario.was_read);
    scenario.then(once(4));
    assert!(scenario.was_read);
    scenario.then(once(4));
    assert!(!scenario.was_read, "it is repeated");
}

#[test]
fn a_reset_that_would_take_too_much_is_refused() {
    let signals = |count: i64| {
        let mut scenario = Scenario::started(|_| {});
        scenario.workflow_does([]);
        for _ in 0..count {
            let payload = Payload { data: vec![7; 2_000_000].into(), ..Payload::default() };
            let input = Some(Payloads { payloads: vec![payload] });
            let request = SignalWorkflowExecutionRequest { input, ..SignalWorkflowExecutionRequest::default() };
            scenario.then(Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: None }));
        }
        scenario
    };
    let mut scenario = signals(20);
    let first = run_id(&scenario);
    scenario.workflow_does([continue_as_new()]);
    let continued =
        scenario.histories[&first].iter().filter(|e| e.event_type() == EventType::WorkflowExecutionSignaled);
    let mut again: Vec<_> = continued.cloned().collect();
    scenario.then(reset(&first, 4, |_| {}));
    // Its successor has as many.
    let second = run_id(&scenario);
    scenario.workflow_does([continue_as_new()]);
    let third = run_id(&scenario);
    for (event, id) in again.iter_mut().zip(scenario.run().head.next_event_id..) {
        event.event_id = id;
    }
    scenario.histories.get_mut(&third).expect("it is there").extend(again);
    let refused = scenario.when(reset(&second, 4, |_| {})).expect_err("it is too much");
    assert!(
        matches!(&refused, Rejection::ResourceExhausted(message) if message.contains("no more than 64 MiB")),
        "{refused:?}"
    );
    let exclude = ResetReapplyExcludeType::Signal as i32;
    scenario.then(reset(&second, 4, |request| request.reset_reapply_exclude_types.push(exclude)));
}

#[test]
fn a_point_may_be_named_by_its_kind() {
    let to = |point| {
        let request = ResetWorkflowExecutionRequest::default();
        Body::ResetWorkflow(ResetWorkflow { request: Some(request), point: point as i32 })
    };
    let mut scenario = with_activity();
    scenario.workflow_does([]);
    scenario.then(to(ResetPoint::LastWorkflowTask));
    assert_eq!(names(history(&scenario))[8..10], ["WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]);
    scenario.then(to(ResetPoint::FirstWorkflowTask));
    assert_eq!(names(history(&scenario))[..4], BEGINNING);
    let mut scenario = Scenario::started(|_| {});
    let refused = scenario.when(to(ResetPoint::FirstWorkflowTask));
    assert!(matches!(refused, Err(Rejection::InvalidArgument(_))), "it has not begun: {refused:?}");
    scenario.take_task();
    scenario.then(to(ResetPoint::FirstWorkflowTask));
    assert_eq!(names(history(&scenario))[..4], BEGINNING);
}

#[test]
fn no_point_is_between_the_start_of_an_activity_and_its_end() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a")]);
    scenario.signal("first");
    let attempt = scenario.take_activity("a");
    scenario.then(result(attempt));
    assert_eq!(names(history(&scenario))[7..], ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED"]);
    scenario.take_task();
    let refused = scenario.when(reset("", 9, |_| {}));
    assert!(matches!(refused, Err(Rejection::InvalidArgument(_))), "{refused:?}");
    scenario.then(reset("", 10, |_| {}));
    assert!(scenario.run().activities.is_empty());
}

#[test]
fn a_repeated_request_begins_no_other_run() {
    let mut scenario = with_activity();
    scenario.then(reset("", 4, |request| request.request_id = "once".into()));
    let again = run_id(&scenario);
    scenario.then(reset("", 4, |request| request.request_id = "once".into()));
    assert_eq!((run_id(&scenario), scenario.reply.clone()), (again.clone(), Reply::Reset { run_id: again }));
}

#[test]
fn a_repeated_request_is_known_when_the_run_that_it_began_is_not_the_newest_any_more() {
    let once = |run_id: &str, finish| reset(run_id, finish, |request| request.request_id = "once".into());
    let mut scenario = with_activity();
    let base = run_id(&scenario);
    scenario.then(once("", 4));
    let again = run_id(&scenario);
    scenario.workflow_does([continue_as_new()]);
    for finish in [4, 100] {
        scenario.then(once(&base, finish));
        assert_eq!(scenario.reply, Reply::Reset { run_id: again.clone() }, "even if its point were wrong");
        assert_eq!(scenario.status(), Status::Running);
    }
    scenario.then(reset(&base, 4, |request| request.request_id = "another".into()));
    assert_ne!(scenario.reply, Reply::Reset { run_id: again });
}

#[test]
fn the_latest_run_that_began_from_a_history_is_known() {
    let mut scenario = with_activity();
    let first = run_id(&scenario);
    scenario.then(reset("", 4, |_| {})).workflow_does([complete()]);
    let second = run_id(&scenario);
    scenario.then(reset(&first, 4, |_| {}));
    let third = run_id(&scenario);
    assert_eq!(scenario.run().reset_of(&first), Some(&*third));
    scenario.then(reset("", 4, |_| {}));
    let fourth = run_id(&scenario);
    let of = |run_id: &str| scenario.run().reset_of(run_id);
    assert_eq!((of(&first), of(&third)), (Some(&*third), Some(&*fourth)));
    assert_eq!((of(&second), of(&fourth)), (None, None));
}

/// A parent whose child runs.
fn parent() -> Scenario {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([child("c")]);
    let started = Outcome::Started(commands::Started::default());
    scenario.then(notice(5, execution("c", "child run"), started));
    scenario
}

#[test]
fn a_child_that_is_pending_at_the_point_reports_to_the_run_that_began_again() {
    let mut scenario = parent();
    let base = run_id(&scenario);
    scenario.workflow_does([]);
    let events = history(&scenario).len() as i64;
    scenario.then(reset("", events, |_| {}));
    assert!(scenario.sends.is_empty(), "the child goes on");
    let mut own = Scenario::started(|_| {});
    own.workflow_does([complete()]);
    let close = own.joined.last().cloned();
    let closed = Outcome::Closed(Closed { close, ..Default::default() });
    let token = InitiatedToken { run_id: base.clone(), initiated_event_id: 5 }.encode_to_vec().into();
    scenario.then(Body::Notify(Notify {
        token,
        execution: execution("c", "child run"),
        outcome: Some(closed.clone()),
    }));
    assert_eq!(scenario.joined().first(), Some(&"CHILD_WORKFLOW_EXECUTION_COMPLETED"));

    let mut scenario = parent();
    let base = run_id(&scenario);
    scenario.then(reset("", 4, |_| {}));
    scenario.workflow_does([child("c")]);
    let token = InitiatedToken { run_id: base, initiated_event_id: 5 }.encode_to_vec().into();
    let other = Body::Notify(Notify { token, execution: execution("c", "child run"), outcome: Some(closed) });
    assert!(scenario.when(other).is_err(), "a child that the run before began is none of this run's");
}

#[test]
fn what_became_of_a_child_since_is_applied_again() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([child("c")]);
    scenario.signal("s");
    let started = Outcome::Started(commands::Started::default());
    scenario.then(notice(5, execution("c", "child run"), started));
    scenario.then(reset("", 8, |_| {}));
    let later = [
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_FAILED",
        "CHILD_WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
    ];
    assert_eq!(names(history(&scenario))[7..], later);
    assert_eq!(scenario.run().children.len(), 1);
}

#[test]
fn an_accepted_update_is_admitted_again() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a")]);
    let request = updates::request("u");
    updates::accepted(&mut scenario, "u");
    scenario.then(reset("", 4, |_| {}));
    let Attributes::WorkflowExecutionUpdateAdmittedEventAttributes(admitted) =
        scenario.attributes(EventType::WorkflowExecutionUpdateAdmitted)
    else {
        panic!()
    };
    assert_eq!(admitted.request.as_ref(), Some(&request));
    assert_eq!(admitted.origin(), UpdateAdmittedEventOrigin::Reapply);
    let pending = scenario.run().updates.get("u").map(|update| (update.accepted_event_id, update.request.is_some()));
    assert_eq!(pending, Some((0, true)));
}

/// A run that began again, and has an update in its history that was accepted before.
fn with_update_in_history() -> Scenario {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a")]);
    updates::accepted(&mut scenario, "u");
    scenario.then(reset("", 4, |_| {}));
    scenario
}

fn is_admitted(scenario: &Scenario) -> bool {
    scenario.run().updates.stage("u") == Some(UpdateStage::Admitted)
}

#[test]
fn a_task_that_the_server_fails_leaves_an_update_that_is_in_the_history_admitted() {
    let mut scenario = with_update_in_history();
    let token = scenario.take_task();
    scenario.signal("s").completes(token, [complete()]);
    assert!(matches!(scenario.reply, Reply::WorkflowTaskFailed { .. }), "there is an event that it has not seen");
    assert!(is_admitted(&scenario));
    scenario.then(updates::update("u"));
    let token = scenario.take_task();
    assert_eq!(updates::sent(&scenario), [""; 0], "the history has it");
    scenario.then(updates::answers(token, vec![updates::accepts_without_request("u")], [], |_| {}));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED", "WORKFLOW_EXECUTION_UPDATE_ACCEPTED"]);
    let Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(accepted) =
        scenario.attributes(EventType::WorkflowExecutionUpdateAccepted)
    else {
        panic!()
    };
    assert_eq!(accepted.accepted_request, None, "its request is in the history once");
}

#[test]
fn an_update_in_the_history_that_a_worker_does_not_answer_may_be_answered_by_the_next() {
    let mut scenario = with_update_in_history();
    scenario.workflow_does([]);
    assert!(is_admitted(&scenario) && scenario.run().head.workflow_task.is_none(), "no task is made for it again");
    scenario.then(updates::update("u"));
    let token = scenario.take_task();
    scenario.then(updates::answers(token, vec![updates::accepts_without_request("u")], [], |_| {}));
    assert!(matches!(scenario.run().updates.stage("u"), Some(UpdateStage::Accepted { .. })));
}

fn signal_external(id: &str) -> Do {
    Do::SignalExternalWorkflowExecutionCommandAttributes(
        workflow_command::SignalExternalWorkflowExecutionCommandAttributes {
            execution: execution(id, ""),
            signal_name: "s".into(),
            ..Default::default()
        },
    )
}

/// A workflow has issued a command, by event 5, whose outcome is not known behind event 7.
fn with_request(command: Do) -> Scenario {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([command]);
    scenario.signal("s").take_task();
    scenario
}

fn notify_run(run_id: &str, execution: Option<WorkflowExecution>, outcome: Outcome) -> Body {
    let token = InitiatedToken { run_id: run_id.into(), initiated_event_id: 5 }.encode_to_vec().into();
    Body::Notify(Notify { token, execution, outcome: Some(outcome) })
}

fn started() -> Outcome {
    Outcome::Started(commands::Started::default())
}

/// The close of a child.
fn closed() -> Outcome {
    let mut own = Scenario::started(|_| {});
    own.workflow_does([complete()]);
    let close = own.joined.last().cloned();
    Outcome::Closed(Closed { close, first_run_id: "child run".into(), ..Default::default() })
}

#[test]
fn a_child_of_which_another_run_was_notified_is_requested_again() {
    let mut scenario = with_request(child("c"));
    let base = run_id(&scenario);
    scenario.then(reset("", 8, |_| {}));
    let Body::StartWorkflow(again) = &scenario.sent().body else { panic!("{:?}", scenario.sends) };
    let parent = again.parent.as_ref().expect("it has a parent");
    assert_eq!((parent.initiated_event_id, &parent.reset_from), (5, &vec![base.clone()]));
    let request = again.request.as_ref().expect("it is a start");
    assert_eq!((&*request.workflow_id, request.workflow_type.as_ref().map(|t| &*t.name)), ("c", Some("Child")));
    scenario.then(notify_run(&base, execution("c", "child run"), started()));
    assert_eq!(scenario.joined(), ["CHILD_WORKFLOW_EXECUTION_STARTED"]);
    scenario.then(reset(&base, 8, |_| {}));
    let starts: Vec<_> = scenario.sends.iter().filter(|send| matches!(send.body, Body::StartWorkflow(_))).collect();
    assert_eq!(starts.len(), 1, "the run before had been notified: {:?}", scenario.sends);
    let newest = run_id(&scenario);
    assert_eq!(token(&starts[0].callback.as_ref().expect("it waits for it").token).run_id, newest);
    scenario.then(notify_run(&newest, execution("c", "child run"), started()));
    assert_eq!(scenario.joined(), ["CHILD_WORKFLOW_EXECUTION_STARTED"]);
}

#[test]
fn a_child_s_end_does_not_stand_without_its_start() {
    let mut scenario = with_request(child("c"));
    let base = run_id(&scenario);
    scenario.then(reset("", 8, |_| {}));
    scenario.then(notify_run(&base, execution("c", "later child run"), closed()));
    let both = ["CHILD_WORKFLOW_EXECUTION_STARTED", "CHILD_WORKFLOW_EXECUTION_COMPLETED"];
    assert_eq!(scenario.joined(), both);
    let Attributes::ChildWorkflowExecutionStartedEventAttributes(start) =
        scenario.attributes(EventType::ChildWorkflowExecutionStarted)
    else {
        panic!()
    };
    assert_eq!(start.workflow_execution, execution("c", "child run"), "the first of its runs");
    let Attributes::ChildWorkflowExecutionCompletedEventAttributes(end) =
        scenario.attributes(EventType::ChildWorkflowExecutionCompleted)
    else {
        panic!()
    };
    assert_eq!(end.started_event_id, scenario.joined[0].event_id);
    // The same while a worker works on a task.
    let mut scenario = with_request(child("c"));
    let base = run_id(&scenario);
    scenario.then(reset("", 8, |_| {}));
    let token = scenario.take_task();
    scenario.then(notify_run(&base, execution("c", "child run"), closed())).completes(token, []);
    assert_eq!(scenario.joined()[1..3], both);
    assert_eq!(scenario.run().children.len(), 0);
}

#[test]
fn a_child_that_is_requested_again_is_not_started_again() {
    let start = |run_id: &str, reset_from: &[&str]| {
        let request = StartWorkflowExecutionRequest {
            workflow_type: Some(WorkflowType { name: "Child".into() }),
            task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
            request_id: format!("of {run_id}"),
            ..Default::default()
        };
        let parent = Parent {
            namespace_id: "n".into(),
            namespace: "default".into(),
            execution: execution("p", run_id),
            initiated_event_id: 5,
            reset_from: reset_from.iter().map(|id| (*id).to_owned()).collect(),
        };
        Body::StartWorkflow(StartWorkflow { request: Some(request), parent: Some(parent), root: None })
    };
    let outcomes = |scenario: &Scenario| -> Vec<(String, Outcome)> {
        let notice = |send: &Send| match &send.body {
            Body::Notify(Notify { execution: Some(execution), outcome: Some(outcome), .. }) => {
                (execution.run_id.clone(), outcome.clone())
            }
            other => panic!("{other:?}"),
        };
        scenario.sends.iter().map(notice).collect()
    };
    let mut own = Scenario::default();
    own.then_for(callback_of("p", 5), start("parent run", &[]));
    let first = run_id(&own);
    own.workflow_does([continue_as_new()]);
    let again = start("its reset run", &["parent run"]);
    own.then_for(callback_of("p", 5), again.clone());
    assert!(own.joined().is_empty());
    assert!(matches!(&outcomes(&own)[..], [(run, Outcome::Started(_))] if *run == first));

    own.due(SubKey::Head).expect("its first task is due");
    own.workflow_does([complete()]);
    let last = run_id(&own);
    own.then_for(callback_of("p", 5), again);
    assert!(own.joined().is_empty(), "it has closed");
    let told = outcomes(&own);
    let [(run, Outcome::Started(_)), (closed_run, Outcome::Closed(closed))] = &told[..] else { panic!("{told:?}") };
    assert_eq!((run, closed_run, &closed.first_run_id), (&first, &last, &first));
    let close = closed.close.as_ref().map(HistoryEvent::event_type);
    assert_eq!(close, Some(EventType::WorkflowExecutionCompleted));

    // A child of another event, or of a run that the parent does not go back to, is another one.
    own.then_for(callback_of("p", 5), start("another run", &["a third"]));
    assert_eq!(own.joined()[0], "WORKFLOW_EXECUTION_STARTED");
}

#[test]
fn what_was_sent_to_another_workflow_is_sent_again_if_its_outcome_is_not_known() {
    let cancel = Do::RequestCancelExternalWorkflowExecutionCommandAttributes(
        workflow_command::RequestCancelExternalWorkflowExecutionCommandAttributes {
            workflow_id: "other".into(),
            reason: "no more".into(),
            ..Default::default()
        },
    );
    let mut scenario = with_request(cancel);
    scenario.then(reset("", 8, |_| {}));
    let Body::RequestCancelWorkflow(cancel) = &scenario.sent().body else { panic!("{:?}", scenario.sends) };
    assert_eq!(cancel.request.as_ref().map(|request| &*request.reason), Some("no more"));

    let request_id = |scenario: &Scenario| {
        let Body::SignalWorkflow(signal) = &scenario.sent().body else { panic!("{:?}", scenario.sends) };
        signal.request.as_ref().map(|request| request.request_id.clone())
    };
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([signal_external("other")]);
    let first = request_id(&scenario);
    scenario.signal("s").take_task();
    let base = run_id(&scenario);
    scenario.then(terminate());
    let lost = scenario.when(notify_run(&base, execution("other", ""), Outcome::Done(Done {})));
    assert_eq!(lost, Err(Rejection::workflow_closed()));
    scenario.then(reset("", 8, |_| {}));
    assert_eq!(request_id(&scenario), first, "the other workflow takes it once");
    let newest = run_id(&scenario);
    scenario.then(notify_run(&newest, execution("other", ""), Outcome::Done(Done {})));
    assert_eq!(scenario.joined(), ["EXTERNAL_WORKFLOW_EXECUTION_SIGNALED"]);
}

#[test]
fn a_refusal_of_what_was_requested_before_a_reset_is_not_that_of_what_is_requested_again() {
    let refused = || Outcome::Refused(commands::Refused { code: "NOT_FOUND".into(), ..Default::default() });
    for (command, taken, event) in [
        (signal_external("other"), Outcome::Done(Done {}), "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED"),
        (child("other"), started(), "CHILD_WORKFLOW_EXECUTION_STARTED"),
    ] {
        let mut scenario = with_request(command);
        let base = run_id(&scenario);
        scenario.then(reset("", 8, |_| {}));
        let late = scenario.when(notify_run(&base, execution("other", ""), refused()));
        assert!(matches!(late, Err(Rejection::NotFound(_))), "{late:?}");
        let newest = run_id(&scenario);
        scenario.then(notify_run(&newest, execution("other", "its run"), taken));
        assert_eq!(scenario.joined(), [event]);
    }
}

#[test]
fn outcomes_are_applied_again_even_if_all_is_excluded() {
    use ResetReapplyExcludeType as Exclude;
    let all = [Exclude::Signal, Exclude::Update, Exclude::Nexus, Exclude::CancelRequest].map(|each| each as i32);
    let mut scenario = with_request(signal_external("other"));
    let token = scenario.task_token();
    scenario.completes(token, []);
    scenario.then(notice(5, execution("other", ""), Outcome::Done(Done {}))).signal("later");
    scenario.then(reset("", 8, |request| request.reset_reapply_exclude_types = all.to_vec()));
    let later = ["EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"];
    assert_eq!((&names(history(&scenario))[9..], scenario.sends.len()), (&later[..], 0));

    let mut scenario = with_request(child("c"));
    let token = scenario.task_token();
    scenario.completes(token, []).then(notice(5, execution("c", "child run"), started()));
    scenario.then(notice(5, execution("c", "child run"), closed()));
    let base = run_id(&scenario);
    scenario.then(reset("", 8, |request| request.reset_reapply_exclude_types = all.to_vec()));
    let outcome = ["CHILD_WORKFLOW_EXECUTION_STARTED", "CHILD_WORKFLOW_EXECUTION_COMPLETED"];
    assert_eq!((&names(history(&scenario))[9..11], scenario.sends.len()), (&outcome[..], 0));
    // At this point it is known that the child has started.
    assert_eq!(
        names(&scenario.histories[&base])[9..11],
        ["CHILD_WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED"]
    );
    scenario.then(reset(&base, 12, |request| request.reset_reapply_exclude_types = all.to_vec()));
    assert_eq!(scenario.run().children.len(), 1);
}

#[test]
fn what_became_of_a_successor_s_child_is_not_that_of_the_run_s_own() {
    let abandoned = |id: &str| {
        let Do::StartChildWorkflowExecutionCommandAttributes(mut start) = child(id) else { unreachable!() };
        start.parent_close_policy = crate::proto::temporal::enums::v1::ParentClosePolicy::Abandon as i32;
        Do::StartChildWorkflowExecutionCommandAttributes(start)
    };
    let mut scenario = Scenario::started(|_| {});
    let first = run_id(&scenario);
    scenario.workflow_does([abandoned("c1")]);
    scenario.then(notice(5, execution("c1", "child run"), started()));
    scenario.workflow_does([continue_as_new()]).due(SubKey::Head).expect("its first task is due");
    scenario.workflow_does([abandoned("c2")]);
    let initiated = scenario.joined.last().expect("it is requested").event_id;
    assert_eq!(initiated, 5, "the same as of the other");
    scenario.then(notice(5, execution("c2", "child run"), started()));
    scenario.then(notice(5, execution("c2", "child run"), closed()));
    scenario.then(reset(&first, 8, |_| {}));
    assert_eq!(names(history(&scenario))[8..], ["WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]);
    let pending: Vec<_> = scenario.run().children.values().map(|child| child.workflow_id.clone()).collect();
    assert_eq!(pending, ["c1"]);
}
