//! `UpdateActivityOptions`: an operator changes the options of activities, or gives back what their workflow asked for.

use super::activity::{self, Selector};
use super::workflow_commands::{check_queue, priority_problem};
use super::{Reply, Work};
use crate::engine::attempts::{self, Event};
use crate::engine::rejection::Rejection;
use crate::engine::retry;
use crate::proto::commands::UpdateActivityOptions;
use crate::proto::state;
use crate::proto::temporal::activity::v1::ActivityOptions;
use crate::proto::temporal::common::v1::RetryPolicy;
use crate::proto::temporal::workflowservice::v1::update_activity_options_request::Activity;
use crate::types::time::{self, duration, duration_ms};

pub fn decide(work: &mut Work, command: &UpdateActivityOptions) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let selector = match &request.activity {
        Some(Activity::Id(id)) => Selector::Id(id),
        Some(Activity::Type(name)) => Selector::Type(name),
        Some(Activity::MatchAll(_)) => Selector::All,
        None => return Err(activity::without_selector()),
    };
    let paths = request.update_mask.as_ref().map(|mask| &mask.paths[..]);
    if request.restore_original && paths.is_some_and(|paths| !paths.is_empty()) {
        return Err(invalid("Both UpdateMask and RestoreOriginal are provided"));
    }
    let changes = match (&request.activity_options, request.restore_original) {
        (_, true) => None,
        (None, false) => return Err(invalid("ActivityOptions are not provided")),
        (Some(options), false) => Some(options),
    };
    if let Some(problem) =
        priority_problem(request.activity_options.as_ref().and_then(|options| options.priority.as_ref()))
    {
        return Err(invalid(problem));
    }
    let mut last = ActivityOptions::default();
    for pending in activity::selected(work, request.execution.as_ref(), &selector)? {
        let options = match changes {
            None => pending.original_options.clone().unwrap_or_else(|| attempts::options_of(&pending)),
            Some(changes) => {
                let paths = paths.ok_or_else(|| invalid("UpdateMask is not provided"))?;
                merged(work, &pending, changes, paths)?
            }
        };
        let at_ms = attempts::due_by_options(&pending, &options);
        work.attempt(pending.scheduled_event_id, Event::OptionsChanged(Box::new(options.clone())));
        if let Some(at_ms) = at_ms {
            work.attempt(pending.scheduled_event_id, Event::Rescheduled { at_ms });
        }
        last = options;
    }
    Ok(Reply::ActivityOptions(Box::new(last)))
}

fn invalid(message: impl Into<String>) -> Rejection {
    Rejection::InvalidArgument(message.into())
}

/// The activity's options with what the paths name of others. Temporal: a path that is unknown names nothing.
fn merged(
    work: &Work,
    pending: &state::Activity,
    changes: &ActivityOptions,
    paths: &[String],
) -> Result<ActivityOptions, Rejection> {
    let mut options = attempts::options_of(pending);
    let mut policy_changed = false;
    for path in paths {
        match &snake_case(path)[..] {
            "task_queue.name" => {
                let queue = changes.task_queue.clone().ok_or_else(|| invalid("TaskQueue is not provided"))?;
                options.task_queue.get_or_insert_default().name = queue.name;
            }
            "schedule_to_close_timeout" => options.schedule_to_close_timeout = changes.schedule_to_close_timeout,
            "schedule_to_start_timeout" => options.schedule_to_start_timeout = changes.schedule_to_start_timeout,
            "start_to_close_timeout" => options.start_to_close_timeout = changes.start_to_close_timeout,
            "heartbeat_timeout" => options.heartbeat_timeout = changes.heartbeat_timeout,
            "priority" => options.priority.clone_from(&changes.priority),
            path if path.starts_with("priority.") => {
                let given = changes.priority.clone().ok_or_else(|| invalid("Priority is not provided"))?;
                let priority = options.priority.get_or_insert_default();
                match path {
                    "priority.priority_key" => priority.priority_key = given.priority_key,
                    "priority.fairness_key" => priority.fairness_key = given.fairness_key,
                    "priority.fairness_weight" => priority.fairness_weight = given.fairness_weight,
                    _ => {}
                }
            }
            "retry_policy" => {
                let policy = changes.retry_policy.clone().ok_or_else(|| invalid("RetryPolicy is not provided"))?;
                options.retry_policy = Some(policy);
            }
            path if path.starts_with("retry_policy.") => {
                let given = changes.retry_policy.clone().ok_or_else(|| invalid("RetryPolicy is not provided"))?;
                change_policy(options.retry_policy.get_or_insert_default(), path, &given);
                policy_changed = true;
            }
            _ => {}
        }
    }
    if policy_changed && let Some(problem) = options.retry_policy.as_ref().and_then(retry::problem) {
        return Err(invalid(problem));
    }
    normalized(work, pending, options)
}

fn change_policy(policy: &mut RetryPolicy, path: &str, given: &RetryPolicy) {
    match path {
        "retry_policy.initial_interval" => policy.initial_interval = given.initial_interval,
        "retry_policy.backoff_coefficient" => policy.backoff_coefficient = given.backoff_coefficient,
        "retry_policy.maximum_interval" => policy.maximum_interval = given.maximum_interval,
        "retry_policy.maximum_attempts" => policy.maximum_attempts = given.maximum_attempts,
        _ => {}
    }
}

/// A path in either of its spellings, `taskQueue.name` or `task_queue.name`.
fn snake_case(path: &str) -> String {
    let mut name = String::with_capacity(path.len() + 4);
    for letter in path.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Checks options, and fills their gaps, as those of an activity that a workflow schedules, without its run's timeout.
fn normalized(work: &Work, pending: &state::Activity, options: ActivityOptions) -> Result<ActivityOptions, Rejection> {
    let queue = check_queue(options.task_queue.as_ref(), "", &work.head().task_queue).map_err(invalid)?;
    let timeouts = [
        ("ScheduleToCloseTimeout", &options.schedule_to_close_timeout),
        ("ScheduleToStartTimeout", &options.schedule_to_start_timeout),
        ("StartToCloseTimeout", &options.start_to_close_timeout),
        ("HeartbeatTimeout", &options.heartbeat_timeout),
    ];
    for (name, timeout) in timeouts {
        if let Some(problem) = time::problem(timeout.as_ref()) {
            return Err(invalid(format!("invalid {name}: {problem}")));
        }
    }
    let [to_close, mut to_start, mut run, mut heartbeat] = timeouts.map(|(_, timeout)| duration_ms(timeout.as_ref()));
    let cap = |value: i64, limit: i64| if limit > 0 && (value == 0 || value > limit) { limit } else { value };
    if to_close > 0 {
        (to_start, run) = (cap(to_start, to_close), cap(run, to_close));
    } else if run == 0 {
        return Err(invalid(format!(
            "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity. ActivityId={} ActivityType={}",
            pending.activity_id, pending.activity_type
        )));
    }
    if heartbeat > 0 {
        heartbeat = cap(heartbeat, run);
    }
    let mut options = ActivityOptions {
        schedule_to_close_timeout: Some(duration(to_close)),
        schedule_to_start_timeout: Some(duration(to_start)),
        start_to_close_timeout: Some(duration(run)),
        heartbeat_timeout: Some(duration(heartbeat)),
        ..options
    };
    options.task_queue.get_or_insert_default().name = queue;
    Ok(options)
}
