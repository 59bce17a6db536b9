//! Which run a request is for.

use super::*;

/// A signal, a termination and a cancellation of one run, or of a chain by its first run.
fn requests(run_id: &str, first_execution_run_id: &str) -> [Body; 3] {
    let workflow_execution = execution("w", run_id);
    let signal = SignalWorkflowExecutionRequest {
        workflow_execution: workflow_execution.clone(),
        signal_name: "s".into(),
        ..Default::default()
    };
    let terminate = TerminateWorkflowExecutionRequest {
        workflow_execution: workflow_execution.clone(),
        first_execution_run_id: first_execution_run_id.into(),
        ..Default::default()
    };
    [
        Body::SignalWorkflow(SignalWorkflow { request: Some(signal), external: None }),
        cancel_of(run_id, first_execution_run_id),
        Body::TerminateWorkflow(TerminateWorkflow { request: Some(terminate), ..Default::default() }),
    ]
}

fn cancel_of(run_id: &str, first_execution_run_id: &str) -> Body {
    let request = RequestCancelWorkflowExecutionRequest {
        workflow_execution: execution("w", run_id),
        first_execution_run_id: first_execution_run_id.into(),
        ..Default::default()
    };
    Body::RequestCancelWorkflow(RequestCancelWorkflow { request: Some(request), ..Default::default() })
}

/// A workflow that has gone on as another run, and its first run's id.
fn gone_on() -> (Scenario, String) {
    let mut scenario = Scenario::started(|_| {});
    let first = scenario.run().head.run_id.clone();
    scenario.now = 5000;
    scenario.workflow_does([continue_as_new()]);
    (scenario, first)
}

#[test]
fn a_request_to_a_run_does_not_reach_the_run_that_continued_it() {
    let (mut scenario, first) = gone_on();
    let before = scenario.run().clone();
    for request in requests(&first, "") {
        match scenario.when(request) {
            // To cancel what has ended is a success without an effect.
            Ok(()) => assert!(scenario.joined().is_empty()),
            Err(refused) => assert_eq!(refused, Rejection::workflow_closed()),
        }
        assert_eq!(*scenario.run(), before);
    }
    for request in requests("another", "") {
        assert_eq!(scenario.when(request), Err(Rejection::workflow_not_found("w", "another")));
    }
}

#[test]
fn the_first_run_s_id_names_the_chain_whatever_run_is_named() {
    let (scenario, first) = gone_on();
    for request in &requests(&first, &first)[1..] {
        let mut scenario = Scenario { run: scenario.run.clone(), older: scenario.older.clone(), ..Scenario::default() };
        scenario.then(request.clone());
        assert!(!scenario.joined().is_empty());
    }
    let mut other = scenario;
    for request in &requests("", "another")[1..] {
        assert!(matches!(other.when(request.clone()), Err(Rejection::NotFound(_))));
    }
}

#[test]
fn a_closed_workflow_is_canceled_with_success_and_without_effect() {
    let (mut scenario, _) = gone_on();
    scenario.workflow_does([complete()]);
    let run_id = scenario.run().head.run_id.clone();
    for run_id in ["", &run_id] {
        scenario.then(cancel_of(run_id, ""));
        assert!(scenario.joined().is_empty());
    }
    assert!(matches!(Scenario::default().when(cancel_of("", "")), Err(Rejection::NotFound(_))));
}

fn from(workflow_id: &str, child_workflow_only: bool) -> Option<External> {
    Some(External { execution: execution(workflow_id, "its run"), initiated_event_id: 5, child_workflow_only })
}

#[test]
fn another_workflow_s_cancellation_succeeds_once_the_target_has_ended_and_a_workflow_can_t_cancel_itself() {
    let canceled = |scenario: &mut Scenario, external: Option<External>| {
        let Body::RequestCancelWorkflow(mut cancel) = cancel_of("", "") else { unreachable!() };
        let sender = external.as_ref().and_then(|external| external.execution.clone()).unwrap_or_default();
        cancel.external = external;
        scenario.then_for(callback_of(&sender.workflow_id, 5), Body::RequestCancelWorkflow(cancel));
        assert!(scenario.joined().is_empty());
        let Body::Notify(Notify { outcome, .. }) = &scenario.sent().body else { panic!("{:?}", scenario.sends) };
        matches!(outcome, Some(Outcome::Done(_)))
    };
    let mut open = Scenario::started(|_| {});
    assert!(!canceled(&mut open, from("w", false)));
    assert!(!canceled(&mut open, from("p", true)));
    open.workflow_does([complete()]);
    assert!(canceled(&mut open, from("p", false)));
    let mut absent = Scenario::default();
    assert!(!canceled(&mut absent, from("p", false)));
}

#[test]
fn a_cancellation_ends_the_delay_of_a_start_and_the_back_off_of_a_retry() {
    let delayed = Scenario::started(|request| request.workflow_start_delay = Some(duration(60_000)));
    assert_eq!(delayed.joined(), ["WORKFLOW_EXECUTION_STARTED"]);
    let mut backing_off = Scenario::started(|request| {
        request.retry_policy = Some(RetryPolicy { initial_interval: Some(duration(60_000)), ..RetryPolicy::default() });
    });
    backing_off.workflow_does([fail()]);
    for mut scenario in [delayed, backing_off] {
        scenario.then(request_cancel());
        assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_CANCEL_REQUESTED", "WORKFLOW_TASK_SCHEDULED"]);
        scenario.workflow_does([Do::CancelWorkflowExecutionCommandAttributes(Default::default())]);
        assert_eq!(scenario.status(), Status::Canceled);
    }
}

/// A child of `p`'s run `its run`.
fn child_of_p() -> Scenario {
    let mut own = Scenario::default();
    let request = StartWorkflowExecutionRequest {
        workflow_type: Some(WorkflowType { name: "Child".into() }),
        task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
        request_id: "from the parent".into(),
        ..Default::default()
    };
    let parent = Parent {
        namespace_id: "n".into(),
        namespace: "default".into(),
        execution: execution("p", "its run"),
        initiated_event_id: 5,
        ..Parent::default()
    };
    own.then(Body::StartWorkflow(StartWorkflow { request: Some(request), parent: Some(parent), root: None }));
    own
}

/// What a parent of these children sends them when it ends.
fn sent_at_close(started: bool, child_run_id: &str) -> Vec<Body> {
    let mut parent = Scenario::started(|_| {});
    let children = [1, 3].map(|policy| {
        let Do::StartChildWorkflowExecutionCommandAttributes(mut start) = child("w") else { unreachable!() };
        start.parent_close_policy = policy;
        Do::StartChildWorkflowExecutionCommandAttributes(start)
    });
    parent.workflow_does(children);
    let initiated: Vec<i64> = parent.run().children.keys().copied().collect();
    for initiated_event_id in initiated.into_iter().filter(|_| started) {
        parent.then(notice(initiated_event_id, execution("w", child_run_id), Outcome::Started(Default::default())));
    }
    parent.signal("go on").workflow_does([complete()]);
    // As if `p` had sent it: a scenario's workflow has one id.
    let this = |parent: Option<WorkflowExecution>| {
        assert_eq!(parent.unwrap().workflow_id, "w");
        execution("p", "its run")
    };
    let from_p = parent.sends.into_iter().map(|send| match send.body {
        Body::TerminateWorkflow(terminate) => {
            let parent = this(terminate.parent);
            Body::TerminateWorkflow(TerminateWorkflow { parent, parent_initiated_event_id: 5, ..terminate })
        }
        Body::RequestCancelWorkflow(cancel) => {
            let parent = this(cancel.parent);
            Body::RequestCancelWorkflow(RequestCancelWorkflow { parent, parent_initiated_event_id: 5, ..cancel })
        }
        other => other,
    });
    from_p.collect()
}

#[test]
fn the_parent_close_policy_reaches_the_child_and_the_runs_that_continue_it() {
    let mut child = child_of_p();
    let first = child.run().head.run_id.clone();
    child.now = 5000;
    child.workflow_does([continue_as_new()]);
    for (started, run_id) in [(false, ""), (true, first.as_str())] {
        for body in sent_at_close(started, run_id) {
            let mut child = Scenario { run: child.run.clone(), older: child.older.clone(), ..Scenario::default() };
            child.then(body);
            assert!(!child.joined().is_empty());
            if let Some(Attributes::WorkflowExecutionCancelRequestedEventAttributes(requested)) =
                &child.joined[0].attributes
            {
                assert_eq!(requested.external_workflow_execution, execution("p", "its run"));
            }
        }
    }
}

#[test]
fn the_parent_close_policy_spares_a_stranger_who_has_taken_the_child_s_id() {
    for (started, run_id) in [(false, ""), (true, "the child's run")] {
        for body in sent_at_close(started, run_id) {
            let mut stranger = Scenario::started(|_| {});
            assert!(matches!(stranger.when(body), Err(Rejection::NotFound(_))));
        }
    }
}

#[test]
fn the_parent_close_policy_spares_another_child_of_the_same_id() {
    for body in sent_at_close(false, "") {
        let mut other = child_of_p();
        let outcome = other.when(match body {
            Body::TerminateWorkflow(terminate) => {
                Body::TerminateWorkflow(TerminateWorkflow { parent_initiated_event_id: 6, ..terminate })
            }
            Body::RequestCancelWorkflow(cancel) => {
                Body::RequestCancelWorkflow(RequestCancelWorkflow { parent_initiated_event_id: 6, ..cancel })
            }
            other => other,
        });
        assert!(matches!(outcome, Err(Rejection::NotFound(_))));
    }
}

#[test]
fn whoever_waits_for_a_command_is_notified_once_whatever_the_command_is() {
    let outcomes = |scenario: &Scenario| -> Vec<&'static str> {
        let of = |send: &Send| match &send.body {
            Body::Notify(Notify { outcome: Some(outcome), .. }) if &*send.to.id == "sender" => match outcome {
                Outcome::Started(_) => "started",
                Outcome::Refused(_) => "refused",
                Outcome::Closed(_) => "closed",
                Outcome::Done(_) => "done",
            },
            other => panic!("{other:?}"),
        };
        scenario.sends.iter().map(of).collect()
    };
    let sender = || callback_of("sender", 5);
    let mut scenario = Scenario::default();
    scenario.then_for(sender(), with_start());
    assert_eq!(outcomes(&scenario), ["started"]);
    scenario.then_for(sender(), with_start());
    assert_eq!(outcomes(&scenario), ["done"], "it finds the run");
    scenario.then_for(sender(), terminate());
    assert_eq!(outcomes(&scenario), ["closed", "done"], "whoever started it, and whoever ends it");
    scenario.then_for(sender(), terminate());
    assert_eq!((outcomes(&scenario), scenario.refusal.is_some()), (vec!["refused"], true));
    scenario.then(with_start()).then(terminate());
    assert!(scenario.sends.is_empty(), "nobody waits: {:?}", scenario.sends);
}
