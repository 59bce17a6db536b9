//! The attempts of an activity: how one is taken, prolonged by heartbeats, given back, tried again and timed out, whatever the
//! activity belongs to. Decides on its record alone; the owner records its end.

use super::failure;
use super::machine::{Task, TaskKind};
use super::rejection::Rejection;
use super::retry;
use crate::proto::commands::TaskToken;
use crate::proto::state::Activity;
use crate::proto::temporal::common::v1::Payloads;
use crate::proto::temporal::enums::v1::{RetryState, TimeoutType};
use crate::proto::temporal::failure::v1::{Failure, failure::FailureInfo};
use crate::types::limits;

/// A fact about an activity's present attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Started {
        started_ms: i64,
        request_id: String,
        identity: String,
    },
    /// The attempt failed or timed out, and another one follows.
    RetryScheduled {
        now_ms: i64,
        not_before_ms: i64,
        failure: Option<Box<Failure>>,
    },
    /// The task reached no worker: the same attempt is offered again.
    Returned,
    HeartbeatRecorded {
        now_ms: i64,
        details: Option<Payloads>,
        /// The sender; empty: none.
        identity: String,
    },
}

/// Folds one event in.
pub fn apply(activity: &mut Activity, event: &Event) {
    match event {
        Event::Started { started_ms, request_id, identity } => {
            activity.started_ms = *started_ms;
            if activity.first_started_ms == 0 {
                activity.first_started_ms = *started_ms;
            }
            activity.request_id.clone_from(request_id);
            activity.identity.clone_from(identity);
            activity.last_heartbeat_ms = 0;
            activity.not_before_ms = 0;
        }
        Event::RetryScheduled { now_ms, not_before_ms, failure } => {
            activity.attempt += 1;
            activity.last_identity = std::mem::take(&mut activity.identity);
            activity.last_attempt_complete_ms = *now_ms;
            activity.attempt_scheduled_ms = *not_before_ms;
            activity.not_before_ms = *not_before_ms;
            activity.started_ms = 0;
            activity.request_id.clear();
            activity.last_failure = failure.as_deref().cloned();
        }
        Event::Returned => {
            activity.started_ms = 0;
            activity.request_id.clear();
        }
        Event::HeartbeatRecorded { now_ms, details, identity } => {
            activity.last_heartbeat_ms = *now_ms;
            activity.heartbeat_details.clone_from(details);
            if !identity.is_empty() {
                activity.last_identity.clone_from(identity);
            }
        }
    }
}

/// A worker takes an attempt: exactly one start of it wins. `None`: it is that worker's already.
pub fn start(
    activity: &Activity,
    attempt: i32,
    now_ms: i64,
    request_id: &str,
    identity: &str,
) -> Result<Option<Event>, Rejection> {
    let is_taken = activity.started_ms != 0;
    if activity.attempt != attempt || is_taken && activity.request_id != request_id {
        return Err(not_there());
    }
    Ok((!is_taken).then(|| Event::Started {
        started_ms: now_ms,
        request_id: request_id.into(),
        identity: identity.into(),
    }))
}

pub fn not_there() -> Rejection {
    Rejection::NotFound("Activity task not found.".into())
}

/// Whether a token names the present attempt, as it was started.
pub fn is_named_by(activity: &Activity, token: &TaskToken) -> bool {
    activity.attempt == token.attempt && (token.started_ms == 0 || token.started_ms == activity.started_ms)
}

/// The task of a started attempt goes back, as its poller was gone before it came.
pub fn give_back(activity: Option<&Activity>, token: &TaskToken) -> Result<Event, Rejection> {
    let is_started = |activity: &&Activity| {
        activity.attempt == token.attempt && activity.started_ms == token.started_ms && activity.started_ms != 0
    };
    activity
        .filter(is_started)
        .map(|_| Event::Returned)
        .ok_or_else(|| Rejection::NotFound("the task is not started".into()))
}

/// Tries again if the policy allows it; else returns why not.
pub fn retry(activity: &Activity, now_ms: i64, failure: &Failure) -> Result<Event, RetryState> {
    let Some(policy) = &activity.retry_policy else { return Err(RetryState::RetryPolicyNotSet) };
    if activity.cancel_requested {
        return Err(RetryState::CancelRequested);
    }
    let expires_ms = if activity.schedule_to_close_ms > 0 {
        activity.scheduled_ms.saturating_add(activity.schedule_to_close_ms)
    } else {
        0
    };
    let delay = retry::activity_delay(policy, activity.attempt, now_ms, expires_ms, failure)?;
    // It is in the activity's record until the next attempt ends.
    let max = limits::RETRIED_FAILURE_SIZE_MAX;
    let failure = failure::within(failure.clone(), max, max, false);
    Ok(Event::RetryScheduled { now_ms, not_before_ms: now_ms.saturating_add(delay), failure: Some(Box::new(failure)) })
}

/// The timeout that is due; none if none is.
pub fn timeout_due(activity: &Activity, now_ms: i64) -> Option<TimeoutType> {
    let due = deadlines(activity).into_iter().filter(|(due, _)| *due <= now_ms);
    // Of those due at the same time the first by its number counts, as with Temporal's server.
    due.min_by_key(|(due, timeout)| (*due, *timeout as i32)).map(|(_, timeout)| timeout)
}

/// A timeout is due: the attempt is tried again, or the activity ends with a failure.
pub fn time_out(activity: &Activity, now_ms: i64, timeout: TimeoutType) -> Result<Event, (RetryState, Box<Failure>)> {
    let name = match timeout {
        TimeoutType::StartToClose => "StartToClose",
        TimeoutType::Heartbeat => "Heartbeat",
        TimeoutType::ScheduleToStart => "ScheduleToStart",
        _ => "ScheduleToClose",
    };
    let mut failure = failure::of_timeout(format!("activity {name} timeout"), timeout);
    retry(activity, now_ms, &failure).map_err(|state| {
        if state == RetryState::Timeout && timeout != TimeoutType::ScheduleToStart {
            let message =
                "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying";
            failure = failure::of_timeout(message.into(), TimeoutType::ScheduleToClose);
        }
        // The next attempt would be handed the heartbeat's details itself; a failure that ends the activity carries them. What
        // went wrong before explains why the time ran out.
        if let Some(FailureInfo::TimeoutFailureInfo(info)) = &mut failure.failure_info {
            info.last_heartbeat_details.clone_from(&activity.heartbeat_details);
        }
        failure.cause = activity.last_failure.clone().map(Box::new);
        (state, Box::new(failure))
    })
}

/// Every timeout that an activity can meet next, with its time.
pub fn deadlines(activity: &Activity) -> Vec<(i64, TimeoutType)> {
    let mut due = Vec::new();
    if activity.schedule_to_close_ms > 0 {
        due.push((activity.scheduled_ms.saturating_add(activity.schedule_to_close_ms), TimeoutType::ScheduleToClose));
    }
    if activity.started_ms == 0 {
        if activity.schedule_to_start_ms > 0 {
            due.push((
                activity.attempt_scheduled_ms.saturating_add(activity.schedule_to_start_ms),
                TimeoutType::ScheduleToStart,
            ));
        }
    } else {
        if activity.start_to_close_ms > 0 {
            due.push((activity.started_ms.saturating_add(activity.start_to_close_ms), TimeoutType::StartToClose));
        }
        if activity.heartbeat_ms > 0 {
            let last = activity.last_heartbeat_ms.max(activity.started_ms);
            due.push((last.saturating_add(activity.heartbeat_ms), TimeoutType::Heartbeat));
        }
    }
    due
}

/// The next moment, in milliseconds since the Unix epoch, at which a timeout is due; none if none ever is.
pub fn next_due(activity: &Activity) -> Option<i64> {
    deadlines(activity).into_iter().map(|(due, _)| due).min()
}

/// The task that waits for a worker, if the attempt is not started.
pub fn task(activity: &Activity) -> Option<Task> {
    (activity.started_ms == 0).then(|| Task {
        kind: TaskKind::Activity,
        queue: activity.task_queue.clone(),
        scheduled_event_id: activity.scheduled_event_id,
        attempt: activity.attempt,
        scheduled_ms: activity.attempt_scheduled_ms,
        not_before_ms: activity.not_before_ms,
    })
}
