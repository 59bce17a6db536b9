//! `FailActivity`: an attempt of an activity failed. It is tried again, or the activity fails.

use super::activity;
use super::history::event;
use super::{Reply, Work};
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::proto::commands::FailActivity;
use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{ActivityTaskFailedEventAttributes, history_event::Attributes};

pub fn decide(work: &mut Work, command: &FailActivity) -> Result<Reply, Rejection> {
    let pending = activity::started(work, command.activity.as_ref())?;
    let failure = command.failure.clone().unwrap_or_default();
    if command.last_heartbeat_details.is_some() {
        let (now_ms, details) = (work.now, command.last_heartbeat_details.clone());
        let beat = attempts::Event::HeartbeatRecorded { now_ms, details, identity: String::new() };
        work.attempt(pending.scheduled_event_id, beat);
    }
    match attempts::retry(&pending, work.now, &failure) {
        Ok(retried) => work.attempt(pending.scheduled_event_id, retried),
        Err(state) => activity::close(work, &pending, command.worker_version.clone(), |started_event_id| {
            let attributes = ActivityTaskFailedEventAttributes {
                failure: Some(failure),
                scheduled_event_id: pending.scheduled_event_id,
                started_event_id,
                identity: command.identity.clone(),
                retry_state: state as i32,
                ..ActivityTaskFailedEventAttributes::default()
            };
            event(EventType::ActivityTaskFailed, Attributes::ActivityTaskFailedEventAttributes(attributes))
        }),
    }
    Ok(Reply::Done)
}
