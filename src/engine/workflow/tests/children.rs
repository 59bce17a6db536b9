use super::*;
use crate::proto::commands;
use crate::proto::temporal::common::v1::{Header, Priority};
use crate::proto::temporal::enums::v1::ParentClosePolicy;

/// A parent whose child has been asked for; the initiated event's id.
fn parent(change: impl FnOnce(&mut workflow_command::StartChildWorkflowExecutionCommandAttributes)) -> (Scenario, i64) {
    let mut scenario = Scenario::started(|_| {});
    let Do::StartChildWorkflowExecutionCommandAttributes(mut start) = child("c") else { unreachable!() };
    change(&mut start);
    scenario.workflow_does([Do::StartChildWorkflowExecutionCommandAttributes(start)]);
    let Body::StartWorkflow(sent) = &scenario.sent().body else { panic!("{:?}", scenario.sends) };
    let initiated = sent.parent.as_ref().unwrap().initiated_event_id;
    (scenario, initiated)
}

fn header() -> Option<Header> {
    Some(Header { fields: [("trace".to_owned(), payloads("id").payloads.remove(0))].into() })
}

fn started(initiated_event_id: i64) -> Body {
    let started = Outcome::Started(commands::Started { header: header() });
    notice(initiated_event_id, execution("c", "child run"), started)
}

#[test]
fn a_child_starts_and_its_result_comes_back() {
    let (mut scenario, initiated) = parent(|_| {});
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_COMPLETED", "START_CHILD_WORKFLOW_EXECUTION_INITIATED"]);
    scenario.then(started(initiated));
    assert_eq!(scenario.joined(), ["CHILD_WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED"]);
    let Attributes::ChildWorkflowExecutionStartedEventAttributes(recorded) =
        scenario.attributes(EventType::ChildWorkflowExecutionStarted)
    else {
        panic!()
    };
    assert_eq!(recorded.header, header());
    assert_eq!(scenario.when(started(initiated)), Err(Rejection::Duplicate));

    // The child's own history, and its notifications to its parent.
    let mut own = Scenario::started(|_| {});
    own.workflow_does([complete()]);
    let close = own.joined.last().cloned();
    let closed = Outcome::Closed(Closed { close, ..Default::default() });
    scenario.then(notice(initiated, execution("c", "child run"), closed));
    assert_eq!(scenario.joined(), ["CHILD_WORKFLOW_EXECUTION_COMPLETED"]);
    assert!(scenario.run().children.is_empty());
}

#[test]
fn a_child_whose_id_is_taken_fails_to_start() {
    let (mut scenario, initiated) = parent(|_| {});
    scenario.then(notice(initiated, None, Outcome::Refused(Refused::default())));
    assert_eq!(scenario.joined(), ["START_CHILD_WORKFLOW_EXECUTION_FAILED", "WORKFLOW_TASK_SCHEDULED"]);
    let Attributes::StartChildWorkflowExecutionFailedEventAttributes(failed) =
        scenario.attributes(EventType::StartChildWorkflowExecutionFailed)
    else {
        panic!()
    };
    assert_eq!(failed.workflow_task_completed_event_id, 0, "the server leaves it out");
}

#[test]
fn a_started_child_tells_its_parent_once_it_runs_and_when_it_closes() {
    let mut own = Scenario::default();
    let request = StartWorkflowExecutionRequest {
        workflow_type: Some(WorkflowType { name: "Child".into() }),
        task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
        request_id: "from the parent".into(),
        header: header(),
        ..Default::default()
    };
    let parent = Parent {
        namespace_id: "n".into(),
        namespace: "default".into(),
        execution: execution("p", "parent run"),
        initiated_event_id: 5,
        ..Parent::default()
    };
    let start = Body::StartWorkflow(StartWorkflow {
        request: Some(request),
        parent: Some(parent),
        root: execution("p", "parent run"),
    });
    own.then_for(callback_of("p", 5), start.clone());
    let Body::Notify(notice) = &own.sent().body else { panic!("{:?}", own.sends) };
    let run_id = &notice.execution.as_ref().unwrap().run_id;
    assert_eq!((token(&notice.token).initiated_event_id, run_id), (5, &own.run().head.run_id));
    own.then_for(callback_of("p", 5), start);
    assert!(own.joined().is_empty() && own.sends.len() == 1, "a second copy only notifies the parent again");
    let Body::Notify(Notify { outcome: Some(Outcome::Started(again)), .. }) = &own.sent().body else {
        panic!("{:?}", own.sends)
    };
    assert_eq!(again.header, header());
    own.workflow_does([complete()]);
    let Body::Notify(notice) = &own.sent().body else { panic!("{:?}", own.sends) };
    assert!(token(&notice.token).initiated_event_id == 5 && matches!(notice.outcome, Some(Outcome::Closed(_))));
}

#[test]
fn the_parent_close_policy_decides_over_the_children() {
    for (policy, expected) in [
        (ParentClosePolicy::Terminate, "terminate"),
        (ParentClosePolicy::RequestCancel, "cancel"),
        (ParentClosePolicy::Abandon, "nothing"),
    ] {
        let (mut scenario, initiated) = parent(|start| start.parent_close_policy = policy as i32);
        scenario.then(started(initiated)).workflow_does([complete()]);
        let sent = match &scenario.sends[..] {
            [] => "nothing",
            [Send { body: Body::TerminateWorkflow(_), .. }] => "terminate",
            [Send { body: Body::RequestCancelWorkflow(_), .. }] => "cancel",
            other => panic!("{other:?}"),
        };
        assert_eq!(sent, expected);
    }
}

#[test]
fn canceling_another_workflow_is_sent_and_its_outcome_joins_the_history() {
    let refused = |code: &str| Outcome::Refused(Refused { code: code.into(), ..Refused::default() });
    for (outcome, expected) in [
        (Outcome::Done(Done {}), "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED"),
        (refused("NOT_FOUND"), "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED"),
        // It was terminated, as the cancellation made its state too large: nothing is left to cancel.
        (refused("INVALID_ARGUMENT"), "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED"),
    ] {
        let mut scenario = Scenario::started(|_| {});
        let attributes = workflow_command::RequestCancelExternalWorkflowExecutionCommandAttributes {
            workflow_id: "other".into(),
            ..Default::default()
        };
        scenario.workflow_does([Do::RequestCancelExternalWorkflowExecutionCommandAttributes(attributes)]);
        assert!(matches!(scenario.sent().body, Body::RequestCancelWorkflow(_)), "{:?}", scenario.sends);
        let initiated_event_id = token(&scenario.sent().callback.as_ref().unwrap().token).initiated_event_id;
        scenario.then(notice(initiated_event_id, execution("other", ""), outcome));
        assert_eq!(scenario.joined(), [expected, "WORKFLOW_TASK_SCHEDULED"]);
    }
}

#[test]
fn a_child_inherits_what_it_leaves_unsaid_of_its_priority() {
    let own = Priority { priority_key: 5, ..Priority::default() };
    let workflow_s = Priority { priority_key: 1, fairness_key: "tenant".into(), fairness_weight: 2.0 };
    let mut scenario = Scenario::started(|request| request.priority = Some(workflow_s));
    let Do::StartChildWorkflowExecutionCommandAttributes(mut start) = child("c") else { unreachable!() };
    start.priority = Some(own.clone());
    scenario.workflow_does([Do::StartChildWorkflowExecutionCommandAttributes(start)]);
    let Body::StartWorkflow(sent) = &scenario.sent().body else { panic!("{:?}", scenario.sends) };
    let inherited = Priority { priority_key: 5, fairness_key: "tenant".into(), fairness_weight: 2.0 };
    assert_eq!(sent.request.as_ref().unwrap().priority, Some(inherited));
    let Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(initiated) =
        scenario.attributes(EventType::StartChildWorkflowExecutionInitiated)
    else {
        panic!()
    };
    assert_eq!(initiated.priority, Some(own), "the history has what the workflow set");
}
