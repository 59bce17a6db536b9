use super::*;
use crate::proto::temporal::enums::v1::{WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse};

#[test]
fn a_start_schedules_the_first_workflow_task() {
    let scenario = Scenario::started(|_| {});
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED"]);
    assert_eq!(scenario.run().head.task_queue, "queue");
}

#[test]
fn the_same_request_starts_once() {
    let mut scenario = Scenario::started(|request| request.request_id = "once".into());
    let run_id = scenario.run().head.run_id.clone();
    scenario.start(|request| request.request_id = "once".into()).unwrap();
    assert_eq!(scenario.reply, Reply::Started { run_id, started: true, eager_task: false });
    assert!(scenario.joined().is_empty());
}

#[test]
fn a_running_workflow_keeps_its_id_unless_the_conflict_policy_gives_it_away() {
    let mut scenario = Scenario::started(|_| {});
    let first = scenario.run().head.run_id.clone();
    let Err(Rejection::AlreadyStarted { run_id, .. }) = scenario.start(|_| {}) else { panic!("the id is taken") };
    assert_eq!(run_id, first);

    scenario.start(|request| request.workflow_id_conflict_policy = Conflict::UseExisting as i32).unwrap();
    assert_eq!(scenario.reply, Reply::Started { run_id: first.clone(), started: false, eager_task: false });

    scenario.start(|request| request.workflow_id_conflict_policy = Conflict::TerminateExisting as i32).unwrap();
    assert_eq!(
        scenario.joined(),
        ["WORKFLOW_EXECUTION_TERMINATED", "WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED"]
    );
    let second = scenario.run().head.run_id.clone();
    assert_ne!(second, first);
    let Attributes::WorkflowExecutionTerminatedEventAttributes(terminated) =
        scenario.attributes(EventType::WorkflowExecutionTerminated)
    else {
        panic!()
    };
    assert_eq!(terminated.reason, "TerminateIfRunning WorkflowIdReusePolicy");
    let details = &terminated.details.as_ref().unwrap().payloads[0].data;
    assert_eq!(&details[..], format!("\"terminated by new runID: {second}\"").as_bytes());
}

#[test]
fn a_closed_workflow_gives_its_id_away_as_the_reuse_policy_has_it() {
    let reuse = |policy: Reuse| {
        move |request: &mut StartWorkflowExecutionRequest| request.workflow_id_reuse_policy = policy as i32
    };
    let mut completed = Scenario::started(|_| {});
    completed.workflow_does([complete()]);
    assert!(matches!(completed.start(reuse(Reuse::RejectDuplicate)), Err(Rejection::AlreadyStarted { .. })));
    assert!(matches!(completed.start(reuse(Reuse::AllowDuplicateFailedOnly)), Err(Rejection::AlreadyStarted { .. })));
    completed.start(reuse(Reuse::AllowDuplicate)).unwrap();

    let mut failed = Scenario::started(|_| {});
    failed.workflow_does([fail()]);
    failed.start(reuse(Reuse::AllowDuplicateFailedOnly)).unwrap();
}

#[test]
fn a_delayed_start_waits_with_its_first_task() {
    let mut scenario = Scenario::started(|request| request.workflow_start_delay = Some(duration(60_000)));
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_STARTED"]);
    scenario.due(SubKey::Head).unwrap();
    assert_eq!((scenario.now, scenario.joined()), (60_000, vec!["WORKFLOW_TASK_SCHEDULED"]));
}

#[test]
fn an_eager_start_hands_the_first_task_to_the_caller() {
    let scenario = Scenario::started(|request| request.request_eager_execution = true);
    assert!(matches!(scenario.reply, Reply::Started { eager_task: true, .. }));
    assert_eq!(scenario.joined().last(), Some(&"WORKFLOW_TASK_STARTED"));
}

#[test]
fn an_eager_start_that_is_sent_again_is_handed_its_task_again() {
    let eager = |request: &mut StartWorkflowExecutionRequest| {
        (request.request_id, request.request_eager_execution) = ("the same".into(), true);
    };
    let mut scenario = Scenario::started(eager);
    let token = scenario.task_token();
    scenario.start(eager).unwrap();
    assert!(matches!(scenario.reply, Reply::Started { started: true, eager_task: true, .. }));
    assert_eq!((scenario.joined().len(), scenario.task_token()), (0, token.clone()));
    // Not once the task is done, or has failed: another worker may have the next one.
    scenario.then(Body::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: None }));
    scenario.start(eager).unwrap();
    assert!(matches!(scenario.reply, Reply::Started { started: true, eager_task: false, .. }));
}

#[test]
fn cron_starts_run_after_run_on_schedule() {
    let mut scenario = Scenario::started(|request| request.cron_schedule = "@every 1m".into());
    let first = scenario.run().head.run_id.clone();
    for _ in 0..3 {
        scenario.due(SubKey::Head).unwrap();
        scenario.workflow_does([complete()]);
        assert_eq!(scenario.joined()[1..], ["WORKFLOW_EXECUTION_COMPLETED", "WORKFLOW_EXECUTION_STARTED"]);
    }
    assert_eq!(scenario.now, 180_000);
    assert_eq!((scenario.status(), &scenario.run().head.first_run_id), (Status::Running, &first));
}

#[test]
fn a_command_after_its_deadline_does_nothing() {
    let command = Command { deadline_ms: START_MS, body: Some(terminate()), ..Command::default() };
    assert_eq!(decide(None, &command, START_MS + 1, FOLD_VERSION_MAX).unwrap_err(), Rejection::DeadlineExceeded);
}

#[test]
fn a_command_of_no_known_type_is_set_aside_and_so_is_one_that_came_before_its_version() {
    let command = Command { id: "w".into(), ..Command::default() };
    assert!(matches!(decide(None, &command, START_MS, FOLD_VERSION_MAX), Err(Rejection::Poison(_))));
    let command = Command { body: Some(Body::UpdateWorkflow(UpdateWorkflow::default())), ..command };
    let since = crate::engine::version::UPDATES;
    assert!(matches!(decide(None, &command, START_MS, since - 1), Err(Rejection::Poison(_))));
    assert!(crate::engine::not_yet_known(&command, since - 1).is_some());
    assert_eq!(crate::engine::not_yet_known(&command, since), None);
}

#[test]
fn run_ids_are_uuids_of_version_7() {
    let mut scenario = Scenario::started(|_| {});
    let mut ids = vec![scenario.run().head.run_id.clone()];
    scenario.workflow_does([continue_as_new()]);
    ids.push(scenario.run().head.run_id.clone());
    let mut failing = Scenario::started(|request| request.retry_policy = Some(RetryPolicy::default()));
    failing.workflow_does([fail()]);
    ids.push(failing.run().head.run_id.clone());
    for id in ids {
        assert!(crate::types::is_uuid(&id) && &id[14..15] == "7", "{id}");
    }
}
