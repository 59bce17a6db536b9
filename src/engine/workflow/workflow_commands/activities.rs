//! Scheduling activities and asking them to cancel.

use super::{BadCommand, Completing, check};
use crate::engine::attempts;
use crate::engine::payload::json_text;
use crate::engine::retry;
use crate::engine::workflow::event::Event;
use crate::engine::workflow::history::event;
use crate::engine::workflow::{Work, queues::normal_queue};
use crate::proto::temporal::command::v1::ScheduleActivityTaskCommandAttributes as Schedule;
use crate::proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    ActivityTaskCancelRequestedEventAttributes, ActivityTaskCanceledEventAttributes,
    ActivityTaskScheduledEventAttributes, HistoryEvent, history_event::Attributes,
};
use crate::types::{
    limits,
    time::{self, duration, duration_ms, timestamp},
};

/// At most this many activities of one completion are started eagerly, as the SDKs request at most three.
const EAGER_MAX: usize = 10;
/// The details of a cancellation that no worker had a part in.
const NOT_STARTED: &str = "ACTIVITY_ID_NOT_STARTED";

pub fn schedule(work: &mut Work, completing: &mut Completing, command: &Schedule) -> Result<(), BadCommand> {
    let queue = check(work, completing, command)?;
    let timeouts = Timeouts::of(command).filled(work.head().run_timeout_ms);
    let same_queue = queue == completing.task_queue;
    let attributes = ActivityTaskScheduledEventAttributes {
        activity_id: command.activity_id.clone(),
        activity_type: command.activity_type.clone(),
        task_queue: Some(normal_queue(&queue)),
        header: command.header.clone(),
        input: command.input.clone(),
        schedule_to_close_timeout: Some(duration(timeouts.to_close)),
        schedule_to_start_timeout: Some(duration(timeouts.to_start)),
        start_to_close_timeout: Some(duration(timeouts.run)),
        heartbeat_timeout: Some(duration(timeouts.heartbeat)),
        workflow_task_completed_event_id: completing.completed_id,
        retry_policy: Some(retry::with_defaults(command.retry_policy.clone())),
        priority: command.priority.clone(),
        use_workflow_build_id: command.use_workflow_build_id,
    };
    let scheduled = completing
        .event(EventType::ActivityTaskScheduled, Attributes::ActivityTaskScheduledEventAttributes(attributes));
    let scheduled_event_id = work.record(scheduled);
    if command.request_eager_execution && same_queue && completing.eager.len() < EAGER_MAX {
        completing.eager.push(scheduled_event_id);
    }
    Ok(())
}

/// Starts the activities that were requested eagerly, for the worker that completes. One that the same completion has
/// canceled since is not pending any more.
pub fn start_eagerly(work: &mut Work, completing: &mut Completing) {
    let is_offered = |id: &i64| work.run().activities.get(id).is_some_and(|activity| !activity.held);
    completing.eager.retain(is_offered);
    for scheduled_event_id in &completing.eager {
        let (started_ms, request_id, identity) = (work.now, work.ids.uuid(), completing.identity.to_owned());
        work.attempt(*scheduled_event_id, attempts::Event::Started { started_ms, request_id, identity });
    }
}

fn bad(message: impl Into<String>) -> BadCommand {
    BadCommand::new(Cause::BadScheduleActivityAttributes, message)
}

/// Checks the command, and returns the activity's queue.
fn check(work: &Work, completing: &Completing, command: &Schedule) -> Result<String, BadCommand> {
    let name = command.activity_type.as_ref().map(|t| t.name.as_str()).unwrap_or_default();
    // Unlike a child, an activity does not take over its workflow's queue: the SDKs fill it in.
    let queue = check::queue(command.task_queue.as_ref(), "", &completing.task_queue).map_err(bad)?;
    for (what, id) in [("activityId", &command.activity_id[..]), ("activityType", name)] {
        if id.is_empty() {
            return Err(bad(format!("{what} is not set")));
        }
        if limits::is_too_long(id) {
            let (length, limit) = (id.len(), limits::ID_LENGTH_MAX);
            return Err(bad(format!("{what} exceeds length limit. Length={length} Limit={limit}")));
        }
    }
    if let Some(problem) = command.retry_policy.as_ref().and_then(retry::problem) {
        return Err(bad(problem));
    }
    if let Some(problem) = check::priority_problem(command.priority.as_ref()) {
        return Err(bad(format!("invalid priorities: {problem}")));
    }
    for (what, timeout) in [
        ("ScheduleToCloseTimeout", &command.schedule_to_close_timeout),
        ("ScheduleToStartTimeout", &command.schedule_to_start_timeout),
        ("StartToCloseTimeout", &command.start_to_close_timeout),
        ("HeartbeatTimeout", &command.heartbeat_timeout),
    ] {
        if let Some(problem) = time::problem(timeout.as_ref()) {
            return Err(bad(format!("invalid {what}: {problem}")));
        }
    }
    let timeouts = Timeouts::of(command);
    if timeouts.to_close == 0 && timeouts.run == 0 {
        return Err(bad(format!(
            "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity. ActivityId={} ActivityType={name}",
            command.activity_id
        )));
    }
    check_room(work, &command.activity_id)?;
    Ok(queue)
}

fn check_room(work: &Work, activity_id: &str) -> Result<(), BadCommand> {
    if work.run().activities.len() >= limits::PENDING_MAX {
        let message = format!(
            "the number of pending activities, {0}, has reached the per-workflow limit of {0}",
            limits::PENDING_MAX
        );
        return Err(BadCommand::new(Cause::PendingActivitiesLimitExceeded, message));
    }
    if work.run().activity_ids.contains_key(activity_id) {
        return Err(BadCommand::out_of_order(
            Cause::ScheduleActivityDuplicateId,
            "add-activitytask-scheduled-event",
            format!("ActivityID: {activity_id}"),
        ));
    }
    Ok(())
}

/// An activity's timeouts in milliseconds; 0: none.
struct Timeouts {
    to_close: i64,
    to_start: i64,
    run: i64,
    heartbeat: i64,
}

impl Timeouts {
    fn of(command: &Schedule) -> Self {
        Self {
            to_close: duration_ms(command.schedule_to_close_timeout.as_ref()),
            to_start: duration_ms(command.schedule_to_start_timeout.as_ref()),
            run: duration_ms(command.start_to_close_timeout.as_ref()),
            heartbeat: duration_ms(command.heartbeat_timeout.as_ref()),
        }
    }

    /// Gaps are filled as Temporal's server does: nothing outlasts schedule-to-close, or the run.
    fn filled(mut self, run_timeout: i64) -> Self {
        let cap = |value: i64, limit: i64| if limit > 0 && (value == 0 || value > limit) { limit } else { value };
        if self.to_close > 0 {
            self.to_start = cap(self.to_start, self.to_close);
            self.run = cap(self.run, self.to_close);
        } else {
            self.to_close = run_timeout;
            self.to_start = cap(self.to_start, run_timeout);
        }
        if run_timeout > 0 {
            for timeout in [&mut self.to_close, &mut self.to_start, &mut self.run] {
                *timeout = cap(*timeout, run_timeout);
            }
        }
        if self.heartbeat > 0 {
            self.heartbeat = cap(self.heartbeat, self.run);
        }
        self
    }
}

pub fn request_cancel(work: &mut Work, completing: &mut Completing, scheduled_event_id: i64) -> Result<(), BadCommand> {
    let cause = Cause::BadRequestCancelActivityAttributes;
    if scheduled_event_id <= 0 {
        return Err(BadCommand::new(cause, "ScheduledEventId is not set on RequestCancelActivityTaskCommand."));
    }
    let activity = work.run().activities.get(&scheduled_event_id).cloned();
    let asked_for_what = match &activity {
        Some(activity) => !activity.cancel_requested,
        // It has closed while the task ran: its close event is waiting, and asking is harmless.
        None => work.run().buffered.values().any(|event| closes_activity(event, scheduled_event_id)),
    };
    if !asked_for_what {
        let what = format!("ScheduledEventID: {scheduled_event_id}");
        return Err(BadCommand::out_of_order(cause, "add-activitytask-cancel-requested-event", what));
    }
    let attributes = ActivityTaskCancelRequestedEventAttributes {
        scheduled_event_id,
        workflow_task_completed_event_id: completing.completed_id,
    };
    let requested_id = work.record(completing.event(
        EventType::ActivityTaskCancelRequested,
        Attributes::ActivityTaskCancelRequestedEventAttributes(attributes),
    ));
    if activity.is_some_and(|activity| activity.started_ms == 0) {
        cancel_unstarted(work, completing, scheduled_event_id, requested_id);
    }
    Ok(())
}

/// No worker has the activity, so it is canceled at once. The workflow receives that with the next task, so the event
/// stands behind all of this completion's own; it is dropped if the completion closes the run. So does Temporal's server.
fn cancel_unstarted(work: &mut Work, completing: &mut Completing, scheduled_event_id: i64, requested_id: i64) {
    let attributes = ActivityTaskCanceledEventAttributes {
        details: Some(json_text(NOT_STARTED)),
        latest_cancel_requested_event_id: requested_id,
        scheduled_event_id,
        started_event_id: 0,
        identity: completing.identity.to_owned(),
        ..ActivityTaskCanceledEventAttributes::default()
    };
    let mut canceled =
        event(EventType::ActivityTaskCanceled, Attributes::ActivityTaskCanceledEventAttributes(attributes));
    canceled.event_time = Some(timestamp(work.now));
    work.emit(Event::Buffered(Box::new(canceled)));
    completing.canceled_unstarted += 1;
}

fn closes_activity(event: &HistoryEvent, scheduled_event_id: i64) -> bool {
    use Attributes as A;
    let closed = match &event.attributes {
        Some(A::ActivityTaskCompletedEventAttributes(a)) => a.scheduled_event_id,
        Some(A::ActivityTaskFailedEventAttributes(a)) => a.scheduled_event_id,
        Some(A::ActivityTaskTimedOutEventAttributes(a)) => a.scheduled_event_id,
        Some(A::ActivityTaskCanceledEventAttributes(a)) => a.scheduled_event_id,
        _ => return false,
    };
    closed == scheduled_event_id
}
