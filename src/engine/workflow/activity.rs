//! What the commands about activities share: finding the attempt that is meant, and ending it.

use std::sync::Arc;

use super::Work;
use super::event::Event;
use super::history::event;
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::proto::commands::ActivityRef;
use crate::proto::state;
use crate::proto::temporal::common::v1::{WorkerVersionStamp, WorkflowExecution};
use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{
    ActivityTaskStartedEventAttributes, HistoryEvent, history_event::Attributes,
};
use crate::types::time::{duration_ms, timestamp};

/// The started attempt that a token, or an activity id, names.
pub fn started(work: &Work, reference: Option<&ActivityRef>) -> Result<state::Activity, Rejection> {
    pending(work, reference).and_then(|activity| if activity.started_ms != 0 { Ok(activity) } else { Err(gone()) })
}

/// As [`started`]. An activity named by its id may also wait for a worker, or for its next attempt: it can be completed, and
/// only that, as Temporal's server has it.
pub fn to_complete(work: &Work, reference: Option<&ActivityRef>) -> Result<state::Activity, Rejection> {
    match reference {
        Some(ActivityRef { token: None, .. }) => pending(work, reference),
        _ => started(work, reference),
    }
}

fn pending(work: &Work, reference: Option<&ActivityRef>) -> Result<state::Activity, Rejection> {
    let reference = reference.ok_or_else(gone)?;
    let activity = match &reference.token {
        Some(token) => {
            let run = work.open_run(&token.run_id)?;
            let pending = run.activities.get(&token.scheduled_event_id);
            pending.filter(|activity| attempts::is_named_by(activity, token)).ok_or_else(gone)?
        }
        None => {
            let run = work.open_run(&reference.run_id)?;
            let unknown = || {
                Rejection::NotFound(format!(
                    "cannot find pending activity with ActivityID {}, check workflow execution history for more details",
                    reference.activity_id
                ))
            };
            let id = run.activity_ids.get(&reference.activity_id).ok_or_else(unknown)?;
            run.activities.get(id).ok_or_else(unknown)?
        }
    };
    Ok((**activity).clone())
}

/// Which of a run's pending activities an operator means.
pub enum Selector<'a> {
    Id(&'a str),
    Type(&'a str),
    All,
}

/// The pending activities that an operator means, one at least.
pub fn selected(
    work: &Work,
    execution: Option<&WorkflowExecution>,
    selector: &Selector,
) -> Result<Vec<Arc<state::Activity>>, Rejection> {
    let run = work.open_run(execution.map_or("", |execution| &execution.run_id))?;
    let is_meant = |activity: &&Arc<state::Activity>| match selector {
        Selector::Id(id) => activity.activity_id == *id,
        Selector::Type(name) => activity.activity_type == *name,
        Selector::All => true,
    };
    let meant: Vec<_> = run.activities.values().filter(is_meant).cloned().collect();
    if meant.is_empty() {
        let message = "Can't find pending activity with such ID. Invalid activityID or activity already completed";
        return Err(Rejection::NotFound(message.into()));
    }
    Ok(meant)
}

/// What the edge checks too.
pub fn without_selector() -> Rejection {
    Rejection::InvalidArgument("Either Activity.Id or Activity.Type should be set on request.".into())
}

fn gone() -> Rejection {
    Rejection::NotFound("invalid activityID or activity already timed out or invoking workflow is completed".into())
}

/// Records that the activity started, if that is not in the history yet. With retries it is recorded only when the
/// activity closes, with the last attempt and the build of the worker that closes it. Returns the started event's id.
fn record_started(work: &mut Work, activity: &state::Activity, worker_version: Option<WorkerVersionStamp>) -> i64 {
    if activity.started_ms == 0 {
        return 0;
    }
    if activity.started_event_id != 0 {
        return activity.started_event_id;
    }
    let attributes = ActivityTaskStartedEventAttributes {
        scheduled_event_id: activity.scheduled_event_id,
        identity: activity.identity.clone(),
        request_id: activity.request_id.clone(),
        attempt: activity.attempt,
        last_failure: activity.last_failure.clone(),
        worker_version,
        ..ActivityTaskStartedEventAttributes::default()
    };
    let mut started = event(EventType::ActivityTaskStarted, Attributes::ActivityTaskStartedEventAttributes(attributes));
    started.event_time = Some(timestamp(activity.started_ms));
    work.record_external(started)
}

/// Ends an activity: its started event if that is missing, its close event, and a workflow task for the workflow to handle it.
pub fn close(
    work: &mut Work,
    activity: &state::Activity,
    worker_version: Option<WorkerVersionStamp>,
    close: impl FnOnce(i64) -> HistoryEvent,
) {
    let started_event_id = record_started(work, activity, worker_version);
    work.record_external(close(started_event_id));
    work.schedule_workflow_task();
}

impl Work {
    /// When an attempt is offered again, in milliseconds since the Unix epoch: at any time within the jitter.
    pub fn at_random_within(&mut self, jitter: Option<&prost_types::Duration>) -> i64 {
        let jitter_ms = duration_ms(jitter).max(0);
        let later = if jitter_ms == 0 { 0 } else { (self.ids.number() % jitter_ms as u64) as i64 };
        self.now.saturating_add(later)
    }

    /// An outcome of a pending activity's attempt.
    pub fn attempt(&mut self, scheduled_event_id: i64, event: attempts::Event) {
        self.emit(Event::Attempt { scheduled_event_id, event });
    }
}
