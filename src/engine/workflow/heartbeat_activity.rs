//! `HeartbeatActivity`: an attempt is alive, and got this far. The answer tells whether to cancel.

use super::activity;
use super::event::Event;
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::HeartbeatActivity;

pub fn decide(work: &mut Work, command: &HeartbeatActivity) -> Result<Reply, Rejection> {
    let pending = activity::started(work, command.activity.as_ref())?;
    let (scheduled_event_id, now_ms, details) = (pending.scheduled_event_id, work.now, command.details.clone());
    let identity = command.identity.clone();
    work.emit(Event::ActivityHeartbeatRecorded { scheduled_event_id, now_ms, details, identity });
    Ok(Reply::ActivityCancelRequested(pending.cancel_requested))
}
