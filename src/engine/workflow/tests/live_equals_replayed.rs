//! Whatever comes in whatever order: [`Scenario::when`] checks each step, against a run that was read back from its records.

use proptest::prelude::*;

use super::*;

/// One thing that happens to a workflow. Numbers choose among what is there.
#[derive(Clone, Debug)]
enum Step {
    Start {
        conflict: i32,
        cron: bool,
        retries: bool,
    },
    TakeTask,
    CompleteTask {
        commands: Vec<u8>,
        sticky: bool,
        ask: bool,
    },
    FailTask,
    Signal {
        request: u8,
    },
    RequestCancel,
    Terminate,
    TakeActivity(u8),
    CompleteActivity(u8),
    FailActivity(u8),
    Heartbeat(u8),
    CancelActivity(u8),
    FireActivity(u8),
    FireTimer(u8),
    FireRun,
    ResolveChild(u8),
    ResolveExternal(u8),
    /// An operator's.
    Operate(u8),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..4, any::<bool>(), any::<bool>()).prop_map(|(conflict, cron, retries)| Step::Start { conflict, cron, retries }),
        6 => Just(Step::TakeTask),
        6 => (prop::collection::vec(0_u8..40, 0..4), any::<bool>(), any::<bool>()).prop_map(|(commands, sticky, ask)| Step::CompleteTask { commands, sticky, ask }),
        1 => Just(Step::FailTask),
        3 => any::<u8>().prop_map(|request| Step::Signal { request }),
        1 => Just(Step::RequestCancel),
        1 => Just(Step::Terminate),
        4 => any::<u8>().prop_map(Step::TakeActivity),
        3 => any::<u8>().prop_map(Step::CompleteActivity),
        2 => any::<u8>().prop_map(Step::FailActivity),
        1 => any::<u8>().prop_map(Step::Heartbeat),
        1 => any::<u8>().prop_map(Step::CancelActivity),
        2 => any::<u8>().prop_map(Step::FireActivity),
        2 => any::<u8>().prop_map(Step::FireTimer),
        2 => Just(Step::FireRun),
        2 => any::<u8>().prop_map(Step::ResolveChild),
        1 => any::<u8>().prop_map(Step::ResolveExternal),
        2 => any::<u8>().prop_map(Step::Operate),
        3 => any::<u16>().prop_map(Step::Wait),
    ]
}

fn command(scenario: &Scenario, number: u8) -> Do {
    let id = format!("{}", number % 5);
    match number {
        0..=9 => activity(&id),
        10..=12 => activity_with(&id, |a| (a.retry_policy, a.request_eager_execution) = (no_retries(), true)),
        13..=17 => timer(&id, i64::from(number) * 100),
        18..=19 => Do::CancelTimerCommandAttributes(workflow_command::CancelTimerCommandAttributes { timer_id: id }),
        20..=22 => child(&id),
        23..=25 => {
            let scheduled_event_id =
                pick(&scenario.run().activities.keys().copied().collect::<Vec<_>>(), number).unwrap_or(1);
            Do::RequestCancelActivityTaskCommandAttributes(
                workflow_command::RequestCancelActivityTaskCommandAttributes { scheduled_event_id },
            )
        }
        26..=28 => Do::SignalExternalWorkflowExecutionCommandAttributes(
            workflow_command::SignalExternalWorkflowExecutionCommandAttributes {
                execution: execution(&id, ""),
                signal_name: "s".into(),
                ..Default::default()
            },
        ),
        29..=30 => Do::RequestCancelExternalWorkflowExecutionCommandAttributes(
            workflow_command::RequestCancelExternalWorkflowExecutionCommandAttributes {
                workflow_id: id,
                ..Default::default()
            },
        ),
        31..=33 => Do::RecordMarkerCommandAttributes(workflow_command::RecordMarkerCommandAttributes {
            marker_name: id,
            ..Default::default()
        }),
        34..=35 => continue_as_new(),
        36 => fail(),
        37 => Do::CancelWorkflowExecutionCommandAttributes(Default::default()),
        _ => complete(),
    }
}

fn pick<T: Clone>(from: &[T], number: u8) -> Option<T> {
    (!from.is_empty()).then(|| from[usize::from(number) % from.len()].clone())
}

/// Carries out a step, if it applies. Refusals are fine: what counts is that both copies refuse.
fn take(scenario: &mut Scenario, step: Step) {
    if let Step::Start { conflict, cron, retries } = step {
        let change = |request: &mut StartWorkflowExecutionRequest| {
            request.workflow_id_conflict_policy = conflict;
            request.cron_schedule = if cron { "@every 10s".into() } else { String::new() };
            request.retry_policy = retries.then(|| RetryPolicy { maximum_attempts: 3, ..RetryPolicy::default() });
            request.workflow_execution_timeout = retries.then(|| duration(300_000));
        };
        return drop(scenario.start(change));
    }
    let Some(run) = scenario.run.clone() else { return };
    let activities: Vec<_> = run.activities.values().map(|activity| activity.activity_id.clone()).collect();
    let chosen = |number| pick(&activities, number);
    let outcome = match step {
        Step::Start { .. } => unreachable!("starts are done"),
        Step::TakeTask => {
            if run.head.workflow_task.as_ref().is_some_and(|task| task.started_event_id == 0) {
                scenario.take_task();
            }
            Ok(())
        }
        Step::CompleteTask { commands, sticky: own, ask } => {
            if run.started_task().is_none() {
                return;
            }
            let commands: Vec<_> = commands.into_iter().map(|number| command(scenario, number)).collect();
            let change = |request: &mut RespondWorkflowTaskCompletedRequest| {
                request.return_new_workflow_task = ask;
                if own {
                    sticky(request);
                }
            };
            scenario.when(completion(scenario.task_token(), commands, change))
        }
        Step::FailTask if run.started_task().is_some() => {
            let token = Some(scenario.task_token());
            scenario.when(Body::FailWorkflowTask(FailWorkflowTask { token, request: None }))
        }
        Step::FailTask => return,
        Step::Signal { request } => scenario.when(signal("s", &format!("{}", request % 16))),
        Step::RequestCancel => scenario.when(request_cancel()),
        Step::Terminate => scenario.when(terminate()),
        Step::TakeActivity(number) => {
            let is_offered = |id: &String| {
                let activity = scenario.activity(id);
                activity.started_ms == 0 && activity.pause.is_none() && !activity.held
            };
            match chosen(number).filter(|id| run.is_open() && is_offered(id)) {
                Some(id) => return drop(scenario.take_activity(&id)),
                None => return,
            }
        }
        Step::CompleteActivity(number) => {
            chosen(number).map_or(Ok(()), |id| scenario.when(result(scenario.activity_ref(&id))))
        }
        Step::FailActivity(number) => {
            chosen(number).map_or(Ok(()), |id| scenario.when(attempt_failed(scenario.activity_ref(&id), "Oops")))
        }
        Step::Heartbeat(number) => chosen(number).map_or(Ok(()), |id| {
            scenario.when(Body::HeartbeatActivity(HeartbeatActivity {
                activity: Some(scenario.activity_ref(&id)),
                details: Some(payloads("beat")),
                ..Default::default()
            }))
        }),
        Step::CancelActivity(number) => chosen(number).map_or(Ok(()), |id| {
            scenario.when(Body::CancelActivity(CancelActivity {
                activity: Some(scenario.activity_ref(&id)),
                ..Default::default()
            }))
        }),
        Step::FireActivity(number) => pick(&run.activities.keys().copied().collect::<Vec<_>>(), number)
            .map_or(Ok(()), |id| scenario.fires(activity_record(id))),
        Step::FireTimer(number) => pick(&run.timers.keys().cloned().collect::<Vec<_>>(), number)
            .map_or(Ok(()), |id| scenario.fires(timer_record(&id))),
        Step::FireRun => scenario.fires(SubKey::Head),
        Step::ResolveChild(number) => {
            let Some(child) = pick(&run.children.values().cloned().collect::<Vec<_>>(), number) else { return };
            let (initiated_event_id, execution) =
                (child.initiated_event_id, execution(&child.workflow_id, "child run"));
            let outcome = if child.started_event_id == 0 && number % 7 == 0 {
                Outcome::Refused(Refused::default())
            } else if child.started_event_id == 0 {
                Outcome::Started(Default::default())
            } else {
                let attributes = Attributes::WorkflowExecutionCompletedEventAttributes(Default::default());
                let close = Some(HistoryEvent {
                    event_type: EventType::WorkflowExecutionCompleted as i32,
                    attributes: Some(attributes),
                    ..Default::default()
                });
                Outcome::Closed(Closed { close, ..Default::default() })
            };
            scenario.when(notice(initiated_event_id, execution, outcome))
        }
        Step::ResolveExternal(number) => {
            let Some(external) = pick(&run.externals.values().cloned().collect::<Vec<_>>(), number) else { return };
            let outcome = if number % 2 == 0 { Outcome::Done(Done {}) } else { Outcome::Refused(Refused::default()) };
            scenario.when(notice(external.initiated_event_id, external.execution.clone(), outcome))
        }
        Step::Operate(number) => match operation(scenario, number) {
            Some(body) => scenario.when(body),
            None => return,
        },
        Step::Wait(ms) => {
            scenario.now += i64::from(ms);
            Ok(())
        }
    };
    drop(outcome);
}

/// What an operator does, mostly to the newest run.
fn operation(scenario: &Scenario, number: u8) -> Option<Body> {
    use crate::proto::temporal::workflowservice::v1::{pause_activity_request, unpause_activity_request};
    let kind = number % 8;
    Some(match kind {
        0 | 1 => Body::PauseWorkflow(PauseWorkflow { request: Some(PauseWorkflowExecutionRequest::default()) }),
        2 | 3 => Body::UnpauseWorkflow(UnpauseWorkflow { request: Some(UnpauseWorkflowExecutionRequest::default()) }),
        4 => Body::PauseActivity(PauseActivity {
            request: Some(PauseActivityRequest {
                activity: Some(pause_activity_request::Activity::Type("Act".into())),
                ..PauseActivityRequest::default()
            }),
        }),
        5 => Body::UnpauseActivity(UnpauseActivity {
            request: Some(UnpauseActivityRequest {
                activity: Some(unpause_activity_request::Activity::UnpauseAll(true)),
                reset_attempts: number < 128,
                ..UnpauseActivityRequest::default()
            }),
        }),
        _ => {
            let histories: Vec<_> = scenario.histories.iter().collect();
            let (run_id, history) = if kind == 6 {
                let newest = scenario.run().head.run_id.clone();
                let history = scenario.histories.get(&newest)?;
                (newest, history)
            } else {
                let (run_id, history) = pick(&histories, number)?;
                (run_id.clone(), history)
            };
            let is_point = |event: &&HistoryEvent| {
                matches!(event.event_type(), EventType::WorkflowTaskScheduled | EventType::WorkflowTaskStarted)
            };
            let points: Vec<i64> = history.iter().filter(is_point).map(|event| event.event_id + 1).collect();
            resets::reset(&run_id, pick(&points, number / 8)?, |_| {})
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_run_read_back_decides_as_the_one_in_memory(steps in prop::collection::vec(step(), 1..120)) {
        let mut scenario = Scenario::started(|_| {});
        for step in steps {
            take(&mut scenario, step);
        }
    }
}
