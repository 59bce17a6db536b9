//! `StartActivityTask`: a worker takes an attempt of an activity. Exactly one start of an attempt wins.

use super::event::Event;
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::StartActivityTask;

pub fn decide(work: &mut Work, command: &StartActivityTask) -> Result<Reply, Rejection> {
    let gone = || Rejection::NotFound("Activity task not found.".into());
    let run = work.open_run(&command.run_id)?;
    let activity = run
        .activities
        .get(&command.scheduled_event_id)
        .filter(|activity| activity.attempt == command.attempt)
        .ok_or_else(gone)?;
    if activity.started_ms != 0 && activity.request_id != command.request_id {
        return Err(gone());
    }
    let (run_id, scheduled_event_id) = (run.head.run_id.clone(), command.scheduled_event_id);
    if activity.started_ms == 0 {
        let (started_ms, request_id, identity) = (work.now, command.request_id.clone(), command.identity.clone());
        work.emit(Event::ActivityAttemptStarted { scheduled_event_id, started_ms, request_id, identity });
    }
    Ok(Reply::ActivityTaskStarted { run_id, scheduled_event_id })
}
