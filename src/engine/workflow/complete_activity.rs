//! `CompleteActivity`: an activity has a result. One that no worker has taken, completed by its id, is also started, for the
//! identity that completes it.

use super::activity;
use super::history::event;
use super::{Reply, Work};
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::proto::commands::CompleteActivity;
use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{ActivityTaskCompletedEventAttributes, history_event::Attributes};

pub fn decide(work: &mut Work, command: &CompleteActivity) -> Result<Reply, Rejection> {
    let mut pending = activity::to_complete(work, command.activity.as_ref())?;
    if pending.started_ms == 0 {
        let started = attempts::start(&pending, pending.attempt, work.now, "", &command.identity)?;
        started.into_iter().for_each(|event| work.attempt(pending.scheduled_event_id, event));
        pending = activity::to_complete(work, command.activity.as_ref())?;
    }
    activity::close(work, &pending, command.worker_version.clone(), |started_event_id| {
        let attributes = ActivityTaskCompletedEventAttributes {
            result: command.result.clone(),
            scheduled_event_id: pending.scheduled_event_id,
            started_event_id,
            identity: command.identity.clone(),
            ..ActivityTaskCompletedEventAttributes::default()
        };
        event(EventType::ActivityTaskCompleted, Attributes::ActivityTaskCompletedEventAttributes(attributes))
    });
    Ok(Reply::Done)
}
