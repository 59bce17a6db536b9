//! Runs that operators pause, let go on, and give other options. The histories and the words are those of Temporal's server.

use super::*;
use crate::proto::temporal::common::v1::Priority;
use crate::proto::temporal::enums::v1::WorkflowTaskFailedCause;
use crate::proto::temporal::workflow::v1::{VersioningOverride, WorkflowExecutionOptions, versioning_override as over};

fn pause(request_id: &str) -> Body {
    let request = PauseWorkflowExecutionRequest {
        workflow_id: "w".into(),
        reason: "a look at it".into(),
        identity: "operator".into(),
        request_id: request_id.into(),
        ..PauseWorkflowExecutionRequest::default()
    };
    Body::PauseWorkflow(PauseWorkflow { request: Some(request) })
}

fn unpause() -> Body {
    Body::UnpauseWorkflow(UnpauseWorkflow { request: Some(UnpauseWorkflowExecutionRequest::default()) })
}

fn options(options: WorkflowExecutionOptions, paths: &[&str]) -> Body {
    let request = UpdateWorkflowExecutionOptionsRequest {
        workflow_execution: execution("w", ""),
        workflow_execution_options: Some(options),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        identity: "operator".into(),
        ..UpdateWorkflowExecutionOptionsRequest::default()
    };
    Body::UpdateWorkflowOptions(UpdateWorkflowOptions { request: Some(request) })
}

#[test]
fn a_paused_run_gets_no_workflow_task_until_it_goes_on() {
    let mut scenario = Scenario::started(|_| {});
    scenario.then(pause("1"));
    assert_eq!(scenario.joined(), ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_PAUSED"]);
    let Attributes::WorkflowTaskFailedEventAttributes(failed) = scenario.attributes(EventType::WorkflowTaskFailed)
    else {
        panic!()
    };
    let cause = WorkflowTaskFailedCause::WorkflowPauseRequestedBeforeTaskStarted;
    assert_eq!((failed.cause(), failed.scheduled_event_id, failed.started_event_id), (cause, 2, 0));
    assert_eq!(scenario.status(), Status::Paused);
    assert_eq!(scenario.run().head.paused, ["Workflow:w", "Reason:a look at it"]);
    scenario.signal("s");
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_SIGNALED"]);

    scenario.then(pause("1"));
    assert!(scenario.joined().is_empty(), "the same request has paused it");
    let again = scenario.when(pause("2")).expect_err("it is paused");
    assert_eq!(again, Rejection::FailedPrecondition("workflow is already paused.".into()));
    let message = "Workflow is paused. Cannot update the workflow.";
    assert_eq!(scenario.when(updates::update("u")), Err(Rejection::FailedPrecondition(message.into())));

    scenario.then(unpause());
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_UNPAUSED", "WORKFLOW_TASK_SCHEDULED"]);
    assert_eq!((scenario.status(), scenario.run().head.paused.len()), (Status::Running, 0));
    let again = scenario.when(unpause()).expect_err("it is not paused");
    assert_eq!(again, Rejection::FailedPrecondition("workflow is not paused.".into()));
    scenario.workflow_does([complete()]);
    assert_eq!(scenario.status(), Status::Completed);
}

#[test]
fn a_task_that_is_under_way_ends_and_the_pause_follows_it() {
    let mut scenario = Scenario::started(|_| {});
    let token = scenario.take_task();
    scenario.then(pause("1"));
    assert!(scenario.joined().is_empty(), "it waits for the task");
    let more = completion(token.clone(), [], |request| request.force_create_new_workflow_task = true);
    let message = "Workflow is paused and force create new workflow task is not allowed.";
    assert_eq!(scenario.when(more), Err(Rejection::FailedPrecondition(message.into())));
    scenario.completes(token, [activity("a")]);
    let then = ["WORKFLOW_TASK_COMPLETED", "ACTIVITY_TASK_SCHEDULED", "WORKFLOW_EXECUTION_PAUSED"];
    assert_eq!(scenario.joined(), then);
    assert!(is_held(&scenario), "it was scheduled while the run was paused");
    scenario.then(unpause());
    assert!(!is_held(&scenario));
}

fn is_held(scenario: &Scenario) -> bool {
    let record = scenario.run().record(&activity_record(scenario.activity("a").scheduled_event_id));
    record.and_then(|record| record.agenda().task).is_none()
}

#[test]
fn activities_that_wait_are_held_and_those_that_run_go_on() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a"), activity("b")]);
    let attempt = scenario.take_activity("b");
    scenario.then(pause("1"));
    assert!(is_held(&scenario));
    scenario.then(result(attempt));
    assert_eq!(scenario.joined(), ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED"], "no task follows");
    let mut terminated = Scenario::started(|_| {});
    terminated.then(pause("1")).then(terminate());
    assert_eq!(terminated.status(), Status::Terminated);
    scenario.then(unpause());
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_UNPAUSED", "WORKFLOW_TASK_SCHEDULED"]);
    assert!(!is_held(&scenario));
}

#[test]
fn a_task_for_an_update_that_no_worker_has_taken_is_in_the_history_once_the_run_is_paused() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([]);
    scenario.then(updates::update("u")).then(pause("1"));
    let failed = ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_FAILED"];
    assert_eq!(scenario.joined()[..3], failed);
    scenario.then(unpause());
    scenario.take_task();
    assert_eq!(updates::sent(&scenario), ["u"], "it goes on with the run");
}

#[test]
fn a_run_that_goes_on_gets_its_first_task_even_before_its_delay_is_over() {
    let delayed = || Scenario::started(|request| request.workflow_start_delay = Some(duration(3_600_000)));
    let mut scenario = delayed();
    scenario.then(pause("1")).then(unpause());
    assert_eq!(scenario.joined(), ["WORKFLOW_EXECUTION_UNPAUSED", "WORKFLOW_TASK_SCHEDULED"]);
    let mut scenario = delayed();
    scenario.then(updates::update("u")).then(pause("1")).then(unpause());
    scenario.take_task();
    assert_eq!(updates::sent(&scenario), ["u"], "it does not wait for the delay");
}

#[test]
fn a_priority_that_is_taken_away_stays_in_force() {
    let mut scenario = Scenario::started(|_| {});
    let priority = Some(Priority { priority_key: 2, ..Priority::default() });
    let given = WorkflowExecutionOptions { priority: priority.clone(), ..WorkflowExecutionOptions::default() };
    scenario.then(options(given, &["priority"])).then(options(WorkflowExecutionOptions::default(), &["priority"]));
    let Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(updated) =
        scenario.attributes(EventType::WorkflowExecutionOptionsUpdated)
    else {
        panic!()
    };
    assert_eq!((&updated.priority, &scenario.run().head.priority), (&None, &priority));
    scenario.then(resets::reset("", 3, |_| {}));
    assert_eq!(scenario.run().head.priority, priority, "a run that begins again has the same");
}

#[test]
fn a_run_that_is_reset_while_it_is_paused_goes_on() {
    let mut scenario = Scenario::started(|_| {});
    scenario.workflow_does([activity("a")]);
    scenario.then(pause("1")).then(resets::reset("", 4, |_| {}));
    assert_eq!((scenario.status(), scenario.run().head.paused.len()), (Status::Running, 0));
    assert!(scenario.run().head.workflow_task.is_some());
}

#[test]
fn a_reset_changes_the_options_that_its_mask_names() {
    use crate::proto::temporal::workflow::v1::{PostResetOperation, post_reset_operation as then};
    let reset = |paths: Option<&[&str]>| {
        let priority = Some(Priority { priority_key: 2, ..Priority::default() });
        let update_mask =
            paths.map(|paths| prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
        let options = Some(WorkflowExecutionOptions { priority, ..WorkflowExecutionOptions::default() });
        let variant = then::Variant::UpdateWorkflowOptions(then::UpdateWorkflowOptions {
            workflow_execution_options: options,
            update_mask,
        });
        resets::reset("", 3, |request| {
            request.post_reset_operations = vec![PostResetOperation { variant: Some(variant) }];
        })
    };
    let mut scenario = Scenario::started(|_| {});
    scenario.take_task();
    let refused = scenario.when(reset(Some(&["priority.nonsense"]))).expect_err("there is no such field");
    assert!(refused.message().contains("invalid path"), "{refused:?}");
    scenario.then(reset(None));
    assert_eq!(scenario.run().head.priority, None, "no mask names nothing");
    scenario.then(reset(Some(&["priority"])));
    assert_eq!(scenario.run().head.priority.as_ref().map(|priority| priority.priority_key), Some(2));
}

#[test]
fn the_options_of_a_run_are_changed_by_an_event() {
    let mut scenario = Scenario::started(|_| {});
    let priority = Some(Priority { priority_key: 2, ..Priority::default() });
    let given = WorkflowExecutionOptions { priority: priority.clone(), ..WorkflowExecutionOptions::default() };
    scenario.then(options(given.clone(), &["priority.priority_key"]));
    let Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(updated) =
        scenario.attributes(EventType::WorkflowExecutionOptionsUpdated)
    else {
        panic!()
    };
    assert_eq!(
        (&updated.priority, &*updated.identity, updated.unset_versioning_override),
        (&priority, "operator", true)
    );
    assert_eq!(scenario.run().head.priority, priority);
    scenario.then(options(given, &["priority"]));
    assert!(scenario.joined().is_empty(), "it is the same");

    let auto = VersioningOverride { r#override: Some(over::Override::AutoUpgrade(true)), ..Default::default() };
    let given = WorkflowExecutionOptions { versioning_override: Some(auto), ..WorkflowExecutionOptions::default() };
    scenario.take_task();
    scenario.then(options(given.clone(), &["versioning_override"]));
    assert!(scenario.joined().is_empty(), "it waits for the task");
    assert_eq!(scenario.run().head.versioning_override, given.versioning_override, "but is in force");
    let unknown = "error applying update_options: proto: invalid path \"priority.nonsense\" for message \"temporal.api.workflow.v1.WorkflowExecutionOptions\"";
    let refused = scenario.when(options(given.clone(), &["priority.nonsense"]));
    assert_eq!(refused, Err(Rejection::InvalidArgument(unknown.into())));
    let partial = "error applying update_options: versioning_override doesn't support partial updates";
    let refused = scenario.when(options(given, &["versioning_override.pinned"]));
    assert_eq!(refused, Err(Rejection::InvalidArgument(partial.into())));
    let pinned = VersioningOverride {
        r#override: Some(over::Override::Pinned(over::PinnedOverride {
            behavior: over::PinnedOverrideBehavior::Pinned as i32,
            version: Some(crate::proto::temporal::deployment::v1::WorkerDeploymentVersion {
                deployment_name: "d".into(),
                build_id: "b".into(),
            }),
        })),
        ..Default::default()
    };
    let given = WorkflowExecutionOptions { versioning_override: Some(pinned), ..WorkflowExecutionOptions::default() };
    let unknown = "Pinned version 'd:b' is not present in task queue 'queue' of type 'Workflow'";
    let refused = scenario.when(options(given, &["versioning_override"]));
    assert_eq!(refused, Err(Rejection::FailedPrecondition(unknown.into())));
}
