//! `UpdateWorkflowOptions`: an operator changes the priority of a run, or the versions of workers that it goes to.

use super::event::Event;
use super::history::event;
use super::workflow_commands::priority_problem;
use super::{Reply, Work, workflow_task};
use crate::engine::rejection::Rejection;
use crate::proto::commands::UpdateWorkflowOptions;
use crate::proto::temporal::enums::v1::{EventType, VersioningBehavior};
use crate::proto::temporal::history::v1::{WorkflowExecutionOptionsUpdatedEventAttributes, history_event::Attributes};
use crate::proto::temporal::workflow::v1::versioning_override::{Override, PinnedOverrideBehavior};
use crate::proto::temporal::workflow::v1::{VersioningOverride, WorkflowExecutionOptions as Options};
use crate::proto::temporal::workflowservice::v1::UpdateWorkflowExecutionOptionsRequest as Request;

pub fn decide(work: &mut Work, command: &UpdateWorkflowOptions) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let target = request.workflow_execution.clone().unwrap_or_default();
    work.open_run(&target.run_id)?;
    let options = update(work, &request)?;
    Ok(Reply::WorkflowOptions(Box::new(options)))
}

/// Changes the options of the newest run as a request has them, and returns what they are now. The edge has refused a request without
/// a mask; what is done after a reset may have none, and changes nothing then.
pub fn update(work: &mut Work, request: &Request) -> Result<Options, Rejection> {
    let given = &request.workflow_execution_options.clone().unwrap_or_default();
    let paths = request.update_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
    if let Some(problem) = priority_problem(given.priority.as_ref()) {
        return Err(invalid(problem));
    }
    check_override(work, given.versioning_override.as_ref())?;
    let present = Options {
        versioning_override: work.head().versioning_override.clone(),
        priority: work.head().priority.clone(),
        ..Options::default()
    };
    let merged = merged(&present, given, paths)
        .map_err(|problem| invalid(format!("error applying update_options: {problem}")))?;
    if merged == present {
        return Ok(merged);
    }
    let attributes = WorkflowExecutionOptionsUpdatedEventAttributes {
        unset_versioning_override: merged.versioning_override.is_none(),
        versioning_override: merged.versioning_override.clone(),
        priority: merged.priority.clone(),
        identity: request.identity.clone(),
        ..WorkflowExecutionOptionsUpdatedEventAttributes::default()
    };
    let mut updated = event(
        EventType::WorkflowExecutionOptionsUpdated,
        Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(attributes),
    );
    updated.worker_may_ignore = true;
    work.record_external(updated);
    work.emit(Event::OptionsChanged(Box::new(merged.clone())));
    if merged.versioning_override != present.versioning_override {
        // Another version's workers may have the run from here on.
        workflow_task::forget_worker(work);
    }
    Ok(merged)
}

/// The paths that masks of options may have.
const PATHS: [&str; 29] = [
    "versioning_override",
    "versioning_override.pinned",
    "versioning_override.pinned.behavior",
    "versioning_override.pinned.version",
    "versioning_override.pinned.version.deployment_name",
    "versioning_override.pinned.version.build_id",
    "versioning_override.auto_upgrade",
    "versioning_override.one_time",
    "versioning_override.one_time.target_deployment_version",
    "versioning_override.one_time.target_deployment_version.deployment_name",
    "versioning_override.one_time.target_deployment_version.build_id",
    "versioning_override.behavior",
    "versioning_override.deployment",
    "versioning_override.deployment.series_name",
    "versioning_override.deployment.build_id",
    "versioning_override.pinned_version",
    "priority",
    "priority.priority_key",
    "priority.fairness_key",
    "priority.fairness_weight",
    "time_skipping_config",
    "time_skipping_config.enabled",
    "time_skipping_config.fast_forward_config",
    "time_skipping_config.fast_forward_config.id",
    "time_skipping_config.fast_forward_config.duration",
    "time_skipping_config.fast_forward_config.duration.seconds",
    "time_skipping_config.fast_forward_config.duration.nanos",
    "time_skipping_config.disable_propagation",
    "time_skipping_config.max_session_skip_count",
];

/// What is wrong with a mask of options, as Temporal's server words it.
pub fn mask_problem(paths: &[String]) -> Option<String> {
    let unknown = paths.iter().find(|path| !PATHS.contains(&path.as_str()))?;
    let message = "temporal.api.workflow.v1.WorkflowExecutionOptions";
    Some(format!("proto: invalid path \"{unknown}\" for message \"{message}\""))
}

fn merged(present: &Options, given: &Options, paths: &[String]) -> Result<Options, String> {
    if let Some(problem) = mask_problem(paths) {
        return Err(problem);
    }
    let mut merged = present.clone();
    for path in paths {
        let priority = given.priority.clone().unwrap_or_default();
        match path.as_str() {
            "versioning_override" => merged.versioning_override = given.versioning_override.clone().map(in_new_form),
            "versioning_override.behavior" | "versioning_override.deployment" => {
                let together = ["versioning_override.behavior", "versioning_override.deployment"];
                if !together.iter().all(|each| paths.iter().any(|path| path == each)) {
                    return Err("versioning_override fields must be updated together".into());
                }
                merged.versioning_override = given.versioning_override.clone().map(in_new_form);
            }
            "priority" => merged.priority = given.priority.clone(),
            "priority.priority_key" => merged.priority.get_or_insert_default().priority_key = priority.priority_key,
            "priority.fairness_key" => merged.priority.get_or_insert_default().fairness_key = priority.fairness_key,
            "priority.fairness_weight" => {
                merged.priority.get_or_insert_default().fairness_weight = priority.fairness_weight;
            }
            path if path.starts_with("versioning_override.") => {
                return Err("versioning_override doesn't support partial updates".into());
            }
            path if path.starts_with("time_skipping_config.") => {
                return Err("time_skipping_config doesn't support partial update".into());
            }
            _ => {}
        }
    }
    Ok(merged)
}

/// The fields that are deprecated give way to the others.
fn in_new_form(given: VersioningOverride) -> VersioningOverride {
    let over = match given.r#override {
        None if given.behavior() == VersioningBehavior::AutoUpgrade => Some(Override::AutoUpgrade(true)),
        over => over,
    };
    VersioningOverride { r#override: over, ..VersioningOverride::default() }
}

/// There are no versions of workers here, so that none can be named; the words are those of Temporal's server.
#[expect(deprecated, reason = "older clients set them")]
fn check_override(work: &Work, given: Option<&VersioningOverride>) -> Result<(), Rejection> {
    let Some(given) = given else { return Ok(()) };
    let named = |version: String| {
        let queue = &work.head().task_queue;
        let problem = format!("Pinned version '{version}' is not present in task queue '{queue}' of type 'Workflow'");
        Err(Rejection::FailedPrecondition(problem))
    };
    match &given.r#override {
        Some(Override::AutoUpgrade(true)) => Ok(()),
        Some(Override::AutoUpgrade(false)) => Err(invalid("auto-upgrade override must be true")),
        Some(Override::Pinned(pinned)) => match &pinned.version {
            _ if pinned.behavior() == PinnedOverrideBehavior::Unspecified => {
                Err(invalid("must specify pinned override behavior if override is pinned."))
            }
            Some(version) => named(format!("{}:{}", version.deployment_name, version.build_id)),
            None => Err(Rejection::FailedPrecondition(format!(
                "must specify a specific pinned override version because workflow with id {} has behavior Unspecified and is not yet pinned to any version",
                work.entity.id
            ))),
        },
        Some(Override::OneTime(once)) => match &once.target_deployment_version {
            Some(version) => named(format!("{}:{}", version.deployment_name, version.build_id)),
            None => Err(invalid("must provide target deployment version if override is one-time.")),
        },
        None => match given.behavior() {
            VersioningBehavior::Pinned => match (&given.deployment, given.pinned_version.as_str()) {
                (Some(deployment), _) => named(format!("{}:{}", deployment.series_name, deployment.build_id)),
                (None, "") => {
                    Err(invalid("must provide deployment (deprecated) or pinned version if behavior is 'PINNED'"))
                }
                (None, version) => named(version.to_owned()),
            },
            VersioningBehavior::AutoUpgrade if given.deployment.is_some() => {
                Err(invalid("only provide deployment if behavior is 'PINNED'"))
            }
            VersioningBehavior::AutoUpgrade if !given.pinned_version.is_empty() => {
                Err(invalid("only provide pinned version if behavior is 'PINNED'"))
            }
            VersioningBehavior::AutoUpgrade => Ok(()),
            VersioningBehavior::Unspecified => Err(invalid("override behavior is required")),
        },
    }
}

fn invalid(message: impl Into<String>) -> Rejection {
    Rejection::InvalidArgument(message.into())
}
