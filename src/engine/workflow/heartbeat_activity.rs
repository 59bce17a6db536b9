//! `HeartbeatActivity`: an attempt is alive, and got this far. The answer contains whether to cancel.

use super::activity;
use super::{Reply, Work};
use crate::engine::attempts::Event;
use crate::engine::rejection::Rejection;
use crate::proto::commands::HeartbeatActivity;

pub fn decide(work: &mut Work, command: &HeartbeatActivity) -> Result<Reply, Rejection> {
    let pending = activity::started(work, command.activity.as_ref())?;
    let (now_ms, details, identity) = (work.now, command.details.clone(), command.identity.clone());
    work.attempt(pending.scheduled_event_id, Event::HeartbeatRecorded { now_ms, details, identity });
    let (cancel_requested, paused, reset) = (pending.cancel_requested, pending.pause.is_some(), pending.reset);
    Ok(Reply::HeartbeatRecorded { cancel_requested, paused, reset })
}
