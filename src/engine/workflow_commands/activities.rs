//! Scheduling activities and asking them to cancel.

use super::{BadCommand, Completing, check_id, check_length};
use crate::engine::decision::{Working, normal_queue};
use crate::engine::event::Event;
use crate::engine::history::event;
use crate::engine::retry;
use crate::proto::temporal::command::v1::ScheduleActivityTaskCommandAttributes as Schedule;
use crate::proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    ActivityTaskCancelRequestedEventAttributes, ActivityTaskCanceledEventAttributes,
    ActivityTaskScheduledEventAttributes, history_event::Attributes,
};
use crate::proto::temporal::sdk::v1::UserMetadata;
use crate::types::{
    limits,
    time::{duration, duration_ms, is_negative},
};

/// At most this many activities of one completion are started eagerly, as the SDKs ask for at most three.
const EAGER_MAX: usize = 10;

pub fn schedule(
    work: &mut Working,
    completing: &mut Completing,
    command: &Schedule,
    user_metadata: Option<UserMetadata>,
) -> Result<(), BadCommand> {
    check(work, command)?;
    let queue = command
        .task_queue
        .as_ref()
        .map(|queue| queue.name.clone())
        .filter(|queue| !queue.is_empty())
        .unwrap_or_else(|| completing.task_queue.clone());
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
    let mut scheduled =
        event(EventType::ActivityTaskScheduled, Attributes::ActivityTaskScheduledEventAttributes(attributes));
    scheduled.user_metadata = user_metadata;
    let scheduled_event_id = work.record(scheduled);
    if command.request_eager_execution && same_queue && completing.eager.len() < EAGER_MAX {
        let (started_ms, request_id) = (work.now, work.ids.uuid());
        work.emit(Event::ActivityAttemptStarted {
            scheduled_event_id,
            started_ms,
            request_id,
            identity: completing.identity.to_owned(),
        });
        completing.eager.push(scheduled_event_id);
    }
    Ok(())
}

fn check(work: &Working, command: &Schedule) -> Result<(), BadCommand> {
    let cause = Cause::BadScheduleActivityAttributes;
    let bad = |message: String| Err(BadCommand::new(cause, message));
    let name = command.activity_type.as_ref().map(|t| t.name.as_str()).unwrap_or_default();
    check_id(cause, "ActivityId", &command.activity_id)?;
    check_id(cause, "ActivityType", name)?;
    check_length(cause, "TaskQueue", command.task_queue.as_ref().map_or("", |queue| &queue.name))?;
    for (what, timeout) in [
        ("ScheduleToCloseTimeout", &command.schedule_to_close_timeout),
        ("ScheduleToStartTimeout", &command.schedule_to_start_timeout),
        ("StartToCloseTimeout", &command.start_to_close_timeout),
        ("HeartbeatTimeout", &command.heartbeat_timeout),
    ] {
        if is_negative(timeout.as_ref()) {
            return bad(format!(
                "Invalid {what}: it is negative. ActivityId={} ActivityType={name}",
                command.activity_id
            ));
        }
    }
    if let Some(problem) = command.retry_policy.as_ref().and_then(retry::problem) {
        return bad(format!("{problem} ActivityId={} ActivityType={name}", command.activity_id));
    }
    let timeouts = Timeouts::of(command);
    if timeouts.to_close == 0 && timeouts.run == 0 {
        return bad(format!(
            "A valid StartToClose or ScheduleToCloseTimeout is not set on command. ActivityId={} ActivityType={name}",
            command.activity_id
        ));
    }
    if work.run().activity_ids.contains_key(&command.activity_id) {
        return Err(BadCommand::new(
            Cause::ScheduleActivityDuplicateId,
            format!("ActivityId={} is already in use", command.activity_id),
        ));
    }
    if work.run().activities.len() >= limits::PENDING_MAX {
        let message = format!(
            "the number of pending activities, {0}, has reached the per-workflow limit of {0}",
            limits::PENDING_MAX
        );
        return Err(BadCommand::new(Cause::PendingActivitiesLimitExceeded, message));
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

pub fn request_cancel(
    work: &mut Working,
    completing: &mut Completing,
    scheduled_event_id: i64,
) -> Result<(), BadCommand> {
    let Some(activity) = work.run().activities.get(&scheduled_event_id).cloned() else {
        // It may have closed while the task ran: its close event is waiting, and asking is harmless.
        let known = scheduled_event_id > 0 && scheduled_event_id < work.head().next_event_id;
        if !known {
            let message = format!("ScheduledEventId={scheduled_event_id} is not an activity of this workflow");
            return Err(BadCommand::new(Cause::BadRequestCancelActivityAttributes, message));
        }
        record_cancel_requested(work, completing, scheduled_event_id);
        return Ok(());
    };
    if activity.cancel_requested {
        return Ok(());
    }
    let requested_id = record_cancel_requested(work, completing, scheduled_event_id);
    if activity.started_ms == 0 {
        let attributes = ActivityTaskCanceledEventAttributes {
            details: None,
            latest_cancel_requested_event_id: requested_id,
            scheduled_event_id,
            started_event_id: 0,
            identity: completing.identity.to_owned(),
            ..ActivityTaskCanceledEventAttributes::default()
        };
        work.record(event(
            EventType::ActivityTaskCanceled,
            Attributes::ActivityTaskCanceledEventAttributes(attributes),
        ));
        completing.news = true;
    }
    Ok(())
}

fn record_cancel_requested(work: &mut Working, completing: &Completing, scheduled_event_id: i64) -> i64 {
    let attributes = ActivityTaskCancelRequestedEventAttributes {
        scheduled_event_id,
        workflow_task_completed_event_id: completing.completed_id,
    };
    work.record(event(
        EventType::ActivityTaskCancelRequested,
        Attributes::ActivityTaskCancelRequestedEventAttributes(attributes),
    ))
}
