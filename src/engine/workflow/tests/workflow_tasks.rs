use prost::Message as _;

use super::WorkflowTaskEvent as Fact;
use super::*;
use crate::proto::temporal::enums::v1::WorkflowTaskFailedCause as Cause;

#[test]
fn one_poll_wins_the_task() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    let again = StartWorkflowTask {
        scheduled_event_id: token.scheduled_event_id,
        attempt: 1,
        request_id: "another poll".into(),
        ..Default::default()
    };
    assert!(matches!(scenario.when(Body::StartWorkflowTask(again)), Err(Rejection::NotFound(_))));
}

#[test]
fn a_completion_with_a_stale_token_is_refused() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.completes(token.clone(), []);
    assert!(matches!(scenario.when(completion(token, [complete()], |_| {})), Err(Rejection::NotFound(_))));
    assert_eq!(scenario.status(), Status::Running);
}

#[test]
fn only_the_first_failure_of_a_task_is_in_the_history() {
    let mut scenario = Scenario::started(|_| {});
    let fails = |token| {
        Body::FailWorkflowTask(FailWorkflowTask {
            token: Some(token),
            request: Some(RespondWorkflowTaskFailedRequest {
                cause: Cause::NonDeterministicError as i32,
                ..Default::default()
            }),
        })
    };
    let token = scenario.take_task();
    scenario.then(fails(token));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED"]);
    let token = scenario.take_task();
    assert_eq!((token.attempt, scenario.joined().len()), (2, 0));
    scenario.then(fails(token));
    assert!(scenario.joined().is_empty());
    let token = scenario.take_task();
    assert_eq!(token.attempt, 3);
    scenario.completes(token, [complete()]);
    assert_eq!(
        scenario.joined(),
        ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_COMPLETED", "WORKFLOW_EXECUTION_COMPLETED"]
    );
}

#[test]
fn a_task_that_fails_on_and_on_may_take_longer_and_longer() {
    let mut scenario = Scenario::started(|_| {});
    let mut longer = Vec::new();
    for attempt in 1..=14 {
        let task = scenario.run().head.workflow_task.clone().unwrap();
        assert_eq!(task.attempt, attempt);
        longer.push(task.timeout_ms - 10_000);
        // It is available at once: a worker that fails it again leaves it until its time is up.
        let offered = deadlines::task(&Record::Head(scenario.run().head.clone())).unwrap();
        assert_eq!(offered.not_before_ms, 0);
        let token = scenario.take_task();
        if attempt % 2 == 0 {
            let before = scenario.now;
            scenario.due(SubKey::Head).unwrap();
            assert_eq!(scenario.now - before, task.timeout_ms);
        } else {
            scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None }));
        }
    }
    let most: [i64; 14] = [0, 0, 0, 5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600];
    for (longer, most) in longer.into_iter().zip(most.map(|seconds| seconds * 1000)) {
        assert!((most * 4 / 5..=most).contains(&longer), "{longer} of {most}");
    }
}

#[test]
fn events_of_an_attempt_that_may_leave_none_are_told_while_it_is_pending() {
    let mut scenario = Scenario::started(|_| {});
    let transient = |scenario: &Scenario| {
        let events = crate::engine::workflow::transient_events(&scenario.run().head);
        let next = scenario.run().head.next_event_id;
        assert!(events.iter().zip(next..).all(|(event, id)| event.event_id == id));
        events.into_iter().map(|event| event.attributes.unwrap()).collect::<Vec<_>>()
    };
    let token = scenario.take_task();
    assert!(transient(&scenario).is_empty());
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None }));
    let [Attributes::WorkflowTaskScheduledEventAttributes(scheduled)] = &transient(&scenario)[..] else { panic!() };
    assert_eq!(scheduled.attempt, 2);
    let token = scenario.take_task();
    let events = transient(&scenario);
    let [_, Attributes::WorkflowTaskStartedEventAttributes(started)] = &events[..] else { panic!() };
    assert_eq!((started.scheduled_event_id, started.identity.as_str()), (token.scheduled_event_id, "worker"));
    scenario.now = 700;
    scenario.completes(token, []);
    let completed: Vec<_> = scenario.joined[..2].iter().map(|event| event.attributes.clone().unwrap()).collect();
    assert_eq!(completed, events);
    assert_eq!(scenario.joined[0].event_time, Some(crate::types::time::timestamp(START_MS)));
    assert!(transient(&scenario).is_empty());
}

#[test]
fn an_attempt_that_events_came_before_is_no_transient_one_any_more() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None }));
    scenario.now = 300;
    scenario.signal("news");
    assert!(crate::engine::workflow::transient_events(&scenario.run().head).is_empty());
    scenario.now = 500;
    scenario.take_task();
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"]);
    assert_eq!(scenario.joined[0].event_time, Some(crate::types::time::timestamp(START_MS + 500)));
}

/// The kind and the attempt of the pending workflow task.
fn pending(scenario: &Scenario) -> (WorkflowTaskKind, i32) {
    let task = scenario.run().head.workflow_task.clone().expect("a workflow task is pending");
    (task.kind(), task.attempt)
}

#[test]
fn each_step_of_a_workflow_task_is_a_fact() {
    let fails = |token| Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None });
    let mut scenario = Scenario::started(|_| {});
    assert!(matches!(&scenario.task_events[..], [Fact::Scheduled(first)] if first.scheduled_event_id == 2));
    assert_eq!(pending(&scenario), (WorkflowTaskKind::Normal, 1));
    let token = scenario.take_task();
    assert!(matches!(&scenario.task_events[..], [Fact::Started(started)] if started.started_event_id == 3));
    scenario.then(fails(token));
    // Events 5 and 6 would be the second attempt's.
    assert!(matches!(
        &scenario.task_events[..],
        [Fact::Failed { next_attempt: 2 }, Fact::Scheduled(second)] if second.scheduled_event_id == 5
    ));
    assert_eq!(pending(&scenario), (WorkflowTaskKind::Transient, 2));
    scenario.take_task();
    assert!(matches!(&scenario.task_events[..], [Fact::Started(started)] if started.started_event_id == 6));
    scenario.due(SubKey::Head).unwrap();
    let timeout = deadlines::TimeoutType::StartToClose;
    assert!(matches!(
        &scenario.task_events[..],
        [Fact::TimedOut { timeout: of, next_attempt: 3 }, Fact::Scheduled(third)]
            if *of == timeout && third.scheduled_event_id == 5
    ));
    assert_eq!(pending(&scenario), (WorkflowTaskKind::Transient, 3));
    // The signal is event 5, so the task's are 6 and 7.
    scenario.signal("news");
    assert!(scenario.task_events.is_empty());
    let token = scenario.take_task();
    assert!(matches!(
        &scenario.task_events[..],
        [Fact::BecameNormal { scheduled_event_id: 6 }, Fact::Started(started)] if started.started_event_id == 7
    ));
    assert_eq!(pending(&scenario), (WorkflowTaskKind::Normal, 1));
    scenario.completes(token, []);
    let seen = Fact::Completed { started_event_id: 7, completed_event_id: 8 };
    assert_eq!(scenario.task_events, [seen]);
    assert!(scenario.run().head.workflow_task.is_none());
}

#[test]
fn a_transient_task_that_has_become_normal_fails_like_a_first_attempt() {
    let fails = |token| Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None });
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(fails(token)).signal("news");
    let token = scenario.take_task();
    scenario.then(fails(token));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED"]);
    assert_eq!(pending(&scenario), (WorkflowTaskKind::Transient, 2));
}

#[test]
fn the_end_of_a_transient_task_leaves_nothing_in_the_history() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None }));
    scenario.take_task();
    scenario.then(terminate());
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_TERMINATED"]);
    assert_eq!(scenario.task_events, [Fact::Failed { next_attempt: 1 }]);
}

#[test]
fn a_completion_that_is_one_page_of_several_is_refused() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    for change in
        [(|request| request.intermediate_page = true) as fn(&mut RespondWorkflowTaskCompletedRequest), |request| {
            request.page_number = 1
        }]
    {
        let refused = scenario.when(completion(token.clone(), [complete()], change));
        let Err(Rejection::FailedPrecondition(why)) = refused else { panic!("{refused:?}") };
        assert_eq!(why, "workflow task completion pagination is disabled for this namespace default");
    }
    scenario.completes(token, [complete()]);
    assert_eq!(scenario.status(), Status::Completed);
}

#[test]
fn a_message_too_large_for_a_worker_to_send_ends_the_workflow() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.signal("unseen");
    let cause = Cause::GrpcMessageTooLarge as i32;
    let request = Some(RespondWorkflowTaskFailedRequest { cause, ..Default::default() });
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request }));
    assert_eq!(
        scenario.joined(),
        ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_EXECUTION_TERMINATED"]
    );
    let Attributes::WorkflowExecutionTerminatedEventAttributes(recorded) =
        scenario.attributes(EventType::WorkflowExecutionTerminated)
    else {
        panic!()
    };
    assert_eq!((recorded.reason.as_str(), recorded.identity.as_str()), ("GrpcMessageTooLarge", "history-service"));
}

#[test]
fn a_task_that_is_not_completed_in_time_is_scheduled_again() {
    let mut scenario = Scenario::started(|_| {});
    scenario.take_task();
    scenario.due(SubKey::Head).unwrap();
    assert_eq!((scenario.now, scenario.joined()), (10_000, vec!["WORKFLOW_TASK_TIMED_OUT"]));
    assert_eq!(scenario.run().head.workflow_task.as_ref().unwrap().attempt, 2);
}

#[test]
fn a_sticky_task_goes_back_to_the_normal_queue_when_its_worker_does_not_come() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(completion(token, [timer("t", 1000)], sticky));
    scenario.due(timer_record("t")).unwrap();
    let task = |scenario: &Scenario| deadlines::task(&Record::Head(scenario.run().head.clone())).unwrap();
    assert_eq!((task(&scenario).kind, task(&scenario).queue.as_str()), (TaskKind::StickyWorkflow, "own"));
    scenario.due(SubKey::Head).unwrap();
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_TIMED_OUT", "WORKFLOW_TASK_SCHEDULED"]);
    assert_eq!(
        (task(&scenario).kind, task(&scenario).queue.as_str(), task(&scenario).attempt),
        (TaskKind::Workflow, "queue", 1)
    );
}

#[test]
fn what_comes_while_a_task_is_started_waits_until_it_ends() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.signal("while it runs");
    assert!(scenario.joined().is_empty());
    scenario.completes(token, [timer("t", 1000)]);
    assert_eq!(
        scenario.joined(),
        ["WORKFLOW_TASK_COMPLETED", "TIMER_STARTED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]
    );
}

#[test]
fn a_workflow_can_t_close_over_news_that_it_has_not_seen() {
    let ends: [fn() -> Do; 4] = [complete, fail, continue_as_new, || {
        Do::CancelWorkflowExecutionCommandAttributes(
            workflow_command::CancelWorkflowExecutionCommandAttributes::default(),
        )
    }];
    for end in ends {
        for (again, prolong) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut scenario = Scenario::started(|_| {});
            let token = scenario.take_task();
            scenario.signal("unseen");
            scenario.then(completion(token, [timer("t", 1000), end()], |request| {
                request.return_new_workflow_task = again;
                request.force_create_new_workflow_task = prolong;
            }));
            assert_eq!(
                scenario.joined(),
                ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]
            );
            let Attributes::WorkflowTaskFailedEventAttributes(failed) =
                scenario.attributes(EventType::WorkflowTaskFailed)
            else {
                panic!()
            };
            assert_eq!(failed.cause(), Cause::UnhandledCommand);
            assert_eq!(scenario.reply, Reply::WorkflowTaskFailed { message: "UnhandledCommand".into() });
            assert_eq!(scenario.status(), Status::Running);
        }
    }
}

#[test]
fn a_transient_task_can_t_close_over_news_either() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None }));
    let token = scenario.take_task();
    scenario.signal("unseen");
    scenario.completes(token, [complete()]);
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]);
    assert_eq!(scenario.reply, Reply::WorkflowTaskFailed { message: "UnhandledCommand".into() });
}

#[test]
fn a_firing_that_the_completion_cancels_is_no_news() {
    let cancels = || {
        let attributes = workflow_command::CancelTimerCommandAttributes { timer_id: "t".into() };
        Do::CancelTimerCommandAttributes(attributes)
    };
    let fired = |signaled: bool| {
        let mut scenario = Scenario::started(|_| {});
        scenario.workflow_does([timer("t", 1000)]);
        scenario.signal("seen");
        let token = scenario.take_task();
        scenario.due(timer_record("t")).unwrap();
        assert!(scenario.joined().is_empty(), "the firing waits for the task to end");
        if signaled {
            scenario.signal("unseen");
        }
        scenario.completes(token, [cancels(), complete()]);
        scenario
    };
    assert_eq!(fired(false).joined(), ["WORKFLOW_TASK_COMPLETED", "TIMER_CANCELED", "WORKFLOW_EXECUTION_COMPLETED"]);
    let other = fired(true);
    assert_eq!(other.reply, Reply::WorkflowTaskFailed { message: "UnhandledCommand".into() });
    // What was withdrawn is back, as nothing of the completion took effect.
    assert_eq!(
        other.joined(),
        ["WORKFLOW_TASK_FAILED", "TIMER_FIRED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]
    );
}

#[test]
fn a_bad_command_fails_its_task_and_nothing_of_it_takes_effect() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([timer("t", 1000), activity_with("a", |a| a.start_to_close_timeout = None)]);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED"]);
    assert!(
        matches!(&scenario.reply, Reply::WorkflowTaskFailed { message } if message.contains("ActivityId=a")),
        "{:?}",
        scenario.reply
    );
    assert!(scenario.run().timers.is_empty());
}

#[test]
fn search_attributes_that_the_edge_has_refused_fail_the_task() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    let mut body = completion(token, [timer("t", 1000), complete()], |_| {});
    if let Body::CompleteWorkflowTask(completion) = &mut body {
        completion.bad_search_attributes = "there is no Colour".into();
    }
    scenario.then(body);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED"]);
    let Attributes::WorkflowTaskFailedEventAttributes(failed) = scenario.attributes(EventType::WorkflowTaskFailed)
    else {
        panic!()
    };
    assert_eq!(failed.cause(), Cause::BadSearchAttributes);
    assert_eq!(failed.failure.as_ref().unwrap().message, "BadSearchAttributes: there is no Colour");
    assert_eq!(scenario.status(), Status::Running);
}

#[test]
fn a_worker_can_ask_for_the_next_task_in_its_answer() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.signal("more");
    scenario.then(completion(token, [], |request| request.return_new_workflow_task = true));
    assert!(matches!(scenario.reply, Reply::WorkflowTaskCompleted { new_task: true, .. }));
    assert_eq!(
        scenario.joined(),
        ["WORKFLOW_TASK_COMPLETED", "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"]
    );
}

#[test]
fn a_returned_task_is_offered_again() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(returned(token, TaskQueueType::Workflow as i32));
    assert_eq!(scenario.run().head.workflow_task.as_ref().unwrap().started_event_id, 0);
}

#[test]
fn a_task_of_an_unknown_type_of_queue_is_not_returned() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    for number in [0, -1, i32::MAX] {
        assert!(matches!(scenario.when(returned(token.clone(), number)), Err(Rejection::Poison(_))), "{number}");
    }
    assert_ne!(scenario.run().head.workflow_task.as_ref().unwrap().started_event_id, 0);
}

#[test]
fn a_history_that_is_too_long_ends() {
    let mut scenario = Scenario::started(|_| {});
    let run = scenario.run.as_mut().unwrap();
    let head = std::sync::Arc::make_mut(&mut run.head);
    let size_before = head.encoded_len();
    head.next_event_id = crate::types::limits::HISTORY_COUNT_MAX;
    run.tally.size_bytes = run.tally.size_bytes + head.encoded_len() - size_before;
    run.tally.head_bytes = head.encoded_len();
    scenario.signal("one more");
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_SIGNALED"]);
    scenario.signal("too many");
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_EXECUTION_TERMINATED"]);
    let Attributes::WorkflowExecutionTerminatedEventAttributes(ended) =
        scenario.attributes(EventType::WorkflowExecutionTerminated)
    else {
        panic!()
    };
    assert_eq!(ended.reason, "Workflow history count exceeds limit.");
}

#[test]
fn a_long_history_suggests_to_continue_as_new() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.completes(token, []);
    while scenario.run().head.next_event_id <= crate::types::limits::HISTORY_COUNT_SUGGEST {
        scenario.signal("again");
    }
    scenario.take_task();
    let Attributes::WorkflowTaskStartedEventAttributes(started) = scenario.attributes(EventType::WorkflowTaskStarted)
    else {
        panic!()
    };
    assert!(started.suggest_continue_as_new);
}

#[test]
fn the_settings_say_which_history_is_long() {
    for (suggest, expected) in [(0, false), (4, false), (3, true)] {
        let mut scenario = Scenario { history_count_suggest: suggest, ..Scenario::default() };
        scenario.start(|_| {}).unwrap();
        scenario.take_task();
        let Attributes::WorkflowTaskStartedEventAttributes(started) =
            scenario.attributes(EventType::WorkflowTaskStarted)
        else {
            panic!()
        };
        // Counted with the started event, which is the third.
        assert_eq!(started.suggest_continue_as_new, expected, "{suggest}");
    }
}

#[test]
fn a_task_fails_when_too_many_events_wait_for_its_end() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    for _ in 0..crate::types::limits::BUFFERED_COUNT_MAX {
        scenario.signal("again");
        assert!(scenario.joined().is_empty());
    }
    scenario.signal("again");
    let joined = scenario.joined();
    assert_eq!(joined.first(), Some(&"WORKFLOW_TASK_FAILED"));
    assert_eq!(joined.last(), Some(&"WORKFLOW_TASK_SCHEDULED"));
    assert_eq!(joined.len(), crate::types::limits::BUFFERED_COUNT_MAX + 3);
    let Attributes::WorkflowTaskFailedEventAttributes(failed) = scenario.attributes(EventType::WorkflowTaskFailed)
    else {
        panic!()
    };
    assert_eq!(failed.cause, Cause::ForceCloseCommand as i32);
    assert!(scenario.when(completion(token, [], |_| {})).is_err(), "the worker's answer comes too late");
}

#[test]
fn large_events_do_not_wait_for_each_other() {
    let mut scenario = Scenario::started(|_| {});
    scenario.take_task();
    let large = || {
        let Body::SignalWorkflow(mut signal) = signal("large", "") else { unreachable!() };
        let payload = Payload { data: vec![7; 1_500_000].into(), ..Payload::default() };
        signal.request.as_mut().unwrap().input = Some(Payloads { payloads: vec![payload] });
        Body::SignalWorkflow(signal)
    };
    scenario.then(large());
    assert!(scenario.joined().is_empty());
    scenario.then(large());
    assert_eq!(
        scenario.joined(),
        [
            "WORKFLOW_TASK_FAILED",
            "WORKFLOW_EXECUTION_SIGNALED",
            "WORKFLOW_EXECUTION_SIGNALED",
            "WORKFLOW_TASK_SCHEDULED"
        ]
    );
}

/// A run whose worker has named its sticky queue, with a task started from there.
fn started_on_a_sticky_queue() -> (Scenario, TaskToken) {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(completion(token, [], sticky)).signal("go on");
    let token = scenario.take_task();
    (scenario, token)
}

#[test]
fn a_failure_on_a_sticky_queue_is_tried_again_on_the_normal_one_as_a_first_attempt() {
    let (mut scenario, token) = started_on_a_sticky_queue();
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None }));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]);
    let head = scenario.run().head.clone();
    assert_eq!((head.sticky_queue.as_str(), head.workflow_task.as_ref().unwrap().attempt), ("", 1));
    let token = scenario.take_task();
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None }));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED"]);
    assert_eq!(scenario.run().head.workflow_task.as_ref().unwrap().attempt, 2);
}

#[test]
fn a_time_out_on_a_sticky_queue_is_tried_again_on_the_normal_one_as_a_first_attempt() {
    let (mut scenario, _) = started_on_a_sticky_queue();
    scenario.due(SubKey::Head).unwrap();
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_TIMED_OUT", "WORKFLOW_TASK_SCHEDULED"]);
    let head = scenario.run().head.clone();
    assert_eq!((head.sticky_queue.as_str(), head.workflow_task.as_ref().unwrap().attempt), ("", 1));
}

#[test]
fn a_task_that_waits_for_a_worker_said_to_be_gone_is_scheduled_on_the_normal_queue_at_once() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(completion(token, [], sticky)).signal("go on");
    let reset = || Body::ResetStickyTaskQueue(ResetStickyTaskQueue::default());
    scenario.then(reset());
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_TIMED_OUT", "WORKFLOW_TASK_SCHEDULED"]);
    let Attributes::WorkflowTaskTimedOutEventAttributes(recorded) =
        scenario.attributes(EventType::WorkflowTaskTimedOut)
    else {
        panic!()
    };
    assert_eq!(recorded.timeout_type(), deadlines::TimeoutType::ScheduleToStart);
    let offered = deadlines::task(&Record::Head(scenario.run().head.clone())).unwrap();
    assert_eq!((offered.kind, offered.queue.as_str(), offered.attempt), (TaskKind::Workflow, "queue", 1));
    // One that is started goes on.
    let token = scenario.take_task();
    scenario.then(reset());
    assert!(scenario.joined().is_empty());
    scenario.completes(token, []);
}

#[test]
fn a_task_may_take_no_longer_than_its_run() {
    let mut scenario = Scenario::started(|request| {
        request.workflow_run_timeout = Some(duration(7000));
        request.workflow_task_timeout = Some(duration(60_000));
    });
    let Attributes::WorkflowExecutionStartedEventAttributes(started) =
        scenario.attributes(EventType::WorkflowExecutionStarted)
    else {
        panic!()
    };
    assert_eq!(started.workflow_task_timeout, Some(duration(7000)));
    scenario.workflow_does([Do::ContinueAsNewWorkflowExecutionCommandAttributes(
        workflow_command::ContinueAsNewWorkflowExecutionCommandAttributes {
            workflow_run_timeout: Some(duration(3000)),
            ..Default::default()
        },
    )]);
    let Attributes::WorkflowExecutionContinuedAsNewEventAttributes(recorded) =
        scenario.attributes(EventType::WorkflowExecutionContinuedAsNew)
    else {
        panic!()
    };
    assert_eq!(recorded.workflow_task_timeout, Some(duration(3000)));
}

#[test]
fn a_worker_can_t_prolong_its_task_for_ever() {
    let mut scenario = Scenario::started(|_| {});
    let prolongs = |request: &mut RespondWorkflowTaskCompletedRequest| {
        sticky(request);
        request.force_create_new_workflow_task = true;
        request.return_new_workflow_task = true;
    };
    let mut token = scenario.take_task();
    while scenario.now + 8000 <= crate::types::limits::WORKFLOW_TASK_HEARTBEAT_MS_MAX {
        scenario.now += 8000;
        scenario.then(completion(token, [], prolongs));
        assert!(matches!(scenario.reply, Reply::WorkflowTaskCompleted { new_task: true, .. }));
        token = scenario.task_token();
    }
    scenario.now += 8000;
    scenario.then(completion(token, [], prolongs));
    assert_eq!(scenario.reply, Reply::WorkflowTaskTimedOut);
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_TIMED_OUT", "WORKFLOW_TASK_SCHEDULED"]);
    // The next one counts from itself, and so does what follows a completion with commands.
    let token = scenario.take_task();
    scenario.then(completion(token, [], prolongs));
    let token = scenario.task_token();
    scenario.now += 1000;
    scenario.then(completion(token, [timer("t", 1000)], prolongs));
    let task = scenario.run().head.workflow_task.clone().unwrap();
    assert_eq!(task.original_scheduled_ms, START_MS + scenario.now);
}
