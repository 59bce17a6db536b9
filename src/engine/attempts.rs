//! The attempts of an activity: how one is taken, prolonged by heartbeats, given back, tried again and timed out, whatever the
//! activity belongs to. Decides on its record alone; the owner records its end.

use super::failure;
use super::machine::{Task, TaskKind};
use super::rejection::Rejection;
use super::retry;
use crate::proto::commands::TaskToken;
use crate::proto::state::{Activity, Pause};
use crate::proto::temporal::activity::v1::ActivityOptions;
use crate::proto::temporal::common::v1::{Payloads, RetryPolicy};
use crate::proto::temporal::enums::v1::{RetryState, TimeoutType};
use crate::proto::temporal::failure::v1::{Failure, failure::FailureInfo};
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::types::limits;
use crate::types::time::{duration, duration_ms};

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
    Paused(Box<Pause>),
    Unpaused,
    /// No attempt is offered while its run is paused.
    Held,
    Released,
    /// The present attempt counts as the first one.
    AttemptsReset,
    /// The attempt that is under way is asked to end; the next one is not handed the heartbeat details, if `heartbeat` is set.
    ResetRequested {
        heartbeat: bool,
    },
    HeartbeatCleared,
    /// The attempt that waits for a worker is offered at another time. Milliseconds since the Unix epoch.
    Rescheduled {
        at_ms: i64,
    },
    OptionsChanged(Box<ActivityOptions>),
    /// Its run begins again from a point at which the activity was pending: it is as it was scheduled, but now.
    BegunAgain {
        now_ms: i64,
    },
    /// The run closes while the activity is pending.
    Abandoned,
}

/// Folds one event in.
pub fn apply(activity: &mut Activity, event: &Event) {
    match event {
        Event::Abandoned => activity.abandoned = true,
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
            activity.held = false;
            end_reset(activity);
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
        Event::Paused(pause) => activity.pause = Some((**pause).clone()),
        Event::Unpaused => activity.pause = None,
        Event::Held => activity.held = true,
        Event::Released => activity.held = false,
        Event::AttemptsReset => activity.attempt = 1,
        Event::ResetRequested { heartbeat } => {
            activity.reset = true;
            activity.reset_heartbeat |= heartbeat;
        }
        Event::HeartbeatCleared => clear_heartbeat(activity),
        Event::Rescheduled { at_ms } => {
            activity.attempt_scheduled_ms = *at_ms;
            activity.not_before_ms = *at_ms;
            activity.last_failure = None;
            activity.held = false;
            end_reset(activity);
        }
        Event::BegunAgain { now_ms } => {
            activity.scheduled_ms = *now_ms;
            activity.attempt_scheduled_ms = *now_ms;
        }
        Event::OptionsChanged(options) => {
            if activity.original_options.is_none() {
                activity.original_options = Some(options_of(activity));
            }
            set_options(activity, options);
        }
    }
}

fn clear_heartbeat(activity: &mut Activity) {
    activity.last_heartbeat_ms = 0;
    activity.heartbeat_details = None;
}

/// Another attempt is to begin.
fn end_reset(activity: &mut Activity) {
    if std::mem::take(&mut activity.reset_heartbeat) {
        clear_heartbeat(activity);
    }
    activity.reset = false;
}

/// What may be changed of an activity while it is pending.
pub fn options_of(activity: &Activity) -> ActivityOptions {
    ActivityOptions {
        task_queue: Some(TaskQueue { name: activity.task_queue.clone(), kind: 1, ..TaskQueue::default() }),
        schedule_to_close_timeout: Some(duration(activity.schedule_to_close_ms)),
        schedule_to_start_timeout: Some(duration(activity.schedule_to_start_ms)),
        start_to_close_timeout: Some(duration(activity.start_to_close_ms)),
        heartbeat_timeout: Some(duration(activity.heartbeat_ms)),
        retry_policy: activity.retry_policy.clone(),
        priority: activity.priority.clone(),
        ..ActivityOptions::default()
    }
}

fn set_options(activity: &mut Activity, options: &ActivityOptions) {
    activity.task_queue = options.task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default();
    activity.schedule_to_close_ms = duration_ms(options.schedule_to_close_timeout.as_ref());
    activity.schedule_to_start_ms = duration_ms(options.schedule_to_start_timeout.as_ref());
    activity.start_to_close_ms = duration_ms(options.start_to_close_timeout.as_ref());
    activity.heartbeat_ms = duration_ms(options.heartbeat_timeout.as_ref());
    activity.retry_policy.clone_from(&options.retry_policy);
    activity.priority.clone_from(&options.priority);
}

/// An operator pauses an activity. `None`: the same request has paused it before.
pub fn pause(activity: &Activity, pause: Pause) -> Result<Option<Event>, Rejection> {
    match &activity.pause {
        None => Ok(Some(Event::Paused(Box::new(pause)))),
        Some(present) if present.request_id == pause.request_id => Ok(None),
        Some(_) => Err(Rejection::FailedPrecondition("activity is already paused".into())),
    }
}

/// Whether an attempt is under way, or waits for a worker rather than for its time.
pub fn is_at_work(activity: &Activity, now: i64) -> bool {
    activity.started_ms > 0 || (activity.pause.is_none() && !activity.held && activity.not_before_ms <= now)
}

/// Whether the attempt waits for a worker, or for its time.
fn is_waiting(activity: &Activity) -> bool {
    activity.started_ms == 0 && !activity.cancel_requested
}

/// What follows when an operator lets an activity go on: nothing if it is not paused. `at_ms`: when an attempt that waits is offered.
pub fn unpause(activity: &Activity, at_ms: i64, reset_attempts: bool, reset_heartbeat: bool) -> Vec<Event> {
    if activity.pause.is_none() {
        return Vec::new();
    }
    let mut events = vec![Event::Unpaused];
    events.extend(reset_attempts.then_some(Event::AttemptsReset));
    events.extend(reset_heartbeat.then_some(Event::HeartbeatCleared));
    events.extend(is_waiting(activity).then_some(Event::Rescheduled { at_ms }));
    events
}

/// How an operator resets an activity.
pub struct Reset {
    /// When an attempt that waits is offered, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub heartbeat: bool,
    pub keep_paused: bool,
    pub restore_options: bool,
}

/// What follows when an operator resets an activity: its attempts are counted anew. One that is under way goes on.
pub fn reset(activity: &Activity, reset: &Reset) -> Vec<Event> {
    let mut events = vec![Event::AttemptsReset, Event::ResetRequested { heartbeat: reset.heartbeat }];
    if reset.restore_options {
        events.extend(restored(activity));
    }
    let is_paused = activity.pause.is_some();
    if is_paused && !reset.keep_paused {
        events.push(Event::Unpaused);
    }
    if is_waiting(activity) && !(is_paused && reset.keep_paused) {
        events.push(Event::Rescheduled { at_ms: reset.at_ms });
    }
    events
}

/// The activity gets the options back that its workflow asked for, if it has others.
pub fn restored(activity: &Activity) -> Option<Event> {
    activity.original_options.clone().map(|options| Event::OptionsChanged(Box::new(options)))
}

/// When an attempt that waits is offered after its options have changed: by what is now its retry policy.
pub fn due_by_options(activity: &Activity, options: &ActivityOptions) -> Option<i64> {
    if !is_waiting(activity) || activity.pause.is_some() {
        return None;
    }
    let first = activity.attempt == 1 || activity.last_attempt_complete_ms == 0;
    let policy = options.retry_policy.as_ref().filter(|_| !first);
    Some(policy.map_or(activity.attempt_scheduled_ms, |policy| {
        activity.last_attempt_complete_ms.saturating_add(retry::interval_ms(policy, activity.attempt))
    }))
}

/// Whether no attempt may begin, as an operator has paused the activity or its run.
fn is_held(activity: &Activity) -> bool {
    activity.pause.is_some() || activity.held
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
    if activity.attempt != attempt || !is_taken && is_held(activity) || is_taken && activity.request_id != request_id {
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
    // While it is paused, neither its attempts nor its time can run out.
    let is_paused = activity.pause.is_some();
    let unlimited = RetryPolicy { maximum_attempts: 0, ..policy.clone() };
    let policy = if is_paused { &unlimited } else { policy };
    let expires_ms = if activity.schedule_to_close_ms > 0 && !is_paused {
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
    if activity.pause.is_some() {
        return due;
    }
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
    if activity.abandoned {
        return None;
    }
    deadlines(activity).into_iter().map(|(due, _)| due).min()
}

/// The task that waits for a worker, if the attempt is not started.
pub fn task(activity: &Activity) -> Option<Task> {
    let waits = activity.started_ms == 0 && !is_held(activity) && !activity.abandoned;
    waits.then(|| Task {
        kind: TaskKind::Activity,
        queue: activity.task_queue.clone(),
        scheduled_event_id: activity.scheduled_event_id,
        attempt: activity.attempt,
        scheduled_ms: activity.attempt_scheduled_ms,
        not_before_ms: activity.not_before_ms,
    })
}
