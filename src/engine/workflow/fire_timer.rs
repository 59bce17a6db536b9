//! `FireTimer`: a timer of a record is due. What is due is decided from the record as it stands now; a command
//! that comes early does nothing, and the record, which still has the time when it is due, arms it again.

use super::activity;
use super::deadlines::{RunDue, TimeoutType, run_deadlines};
use super::event::Event;
use super::history::event;
use super::state::part;
use super::workflow_task;
use super::{Reply, Work};
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::engine::sub_key::SubKey;
use crate::proto::commands::FireTimer;
use crate::proto::state;
use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{
    ActivityTaskTimedOutEventAttributes, TimerFiredEventAttributes, history_event::Attributes,
};

pub fn decide(work: &mut Work, command: &FireTimer) -> Result<Reply, Rejection> {
    let run = work.open_run(&command.run_id)?;
    let now = work.now;
    let early = || Rejection::NotFound("nothing of it is due".into());
    match &SubKey::decode(&command.record).ok_or_else(early)? {
        SubKey::Head => {
            let due = run_deadlines(&run.head).into_iter().filter(|(due, _)| *due <= now).map(|(_, what)| what);
            // A timeout of the run outweighs what else is due.
            let what = due.min_by_key(|what| *what as u8).ok_or_else(early)?;
            run_due(work, what);
        }
        SubKey::Named(part::TIMER, id) => {
            let timer = run.timers.get(id).filter(|timer| timer.due_ms <= now).cloned().ok_or_else(early)?;
            let attributes =
                TimerFiredEventAttributes { timer_id: id.clone(), started_event_id: timer.started_event_id };
            work.record_external(event(EventType::TimerFired, Attributes::TimerFiredEventAttributes(attributes)));
            work.schedule_workflow_task();
        }
        SubKey::Numbered(part::ACTIVITY, id) => {
            let pending = run.activities.get(id).cloned().ok_or_else(early)?;
            let timeout = attempts::timeout_due(&pending, now).ok_or_else(early)?;
            activity_due(work, &pending, timeout);
        }
        _ => return Err(early()),
    }
    Ok(Reply::Done)
}

fn run_due(work: &mut Work, what: RunDue) {
    match what {
        RunDue::ExecutionTimeout => work.close_timed_out(),
        RunDue::FirstTask => {
            // A task that an update has brought may leave no trace, and then the first one would be missing.
            workflow_task::make_normal(work, "");
            work.emit(Event::FirstTaskDelayEnded);
            work.schedule_workflow_task();
        }
        RunDue::TaskNotTaken => workflow_task::time_out(work, TimeoutType::ScheduleToStart),
        RunDue::TaskTimeout => workflow_task::time_out(work, TimeoutType::StartToClose),
        // Closed runs are deleted by their own command.
        RunDue::Delete => {}
    }
}

fn activity_due(work: &mut Work, pending: &state::Activity, timeout: TimeoutType) {
    let (state, failure) = match attempts::time_out(pending, work.now, timeout) {
        Ok(retried) => return work.attempt(pending.scheduled_event_id, retried),
        Err(ended) => ended,
    };
    activity::close(work, pending, None, |started_event_id| {
        let attributes = ActivityTaskTimedOutEventAttributes {
            failure: Some(*failure),
            scheduled_event_id: pending.scheduled_event_id,
            started_event_id,
            retry_state: state as i32,
        };
        event(EventType::ActivityTaskTimedOut, Attributes::ActivityTaskTimedOutEventAttributes(attributes))
    });
}
