//! `StartActivityTask`: a worker takes an attempt of an activity.

use super::{Reply, Work};
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::proto::commands::StartActivityTask;

pub fn decide(work: &mut Work, command: &StartActivityTask) -> Result<Reply, Rejection> {
    let run = work.open_run(&command.run_id)?;
    let (run_id, scheduled_event_id) = (run.head.run_id.clone(), command.scheduled_event_id);
    let activity = run.activities.get(&scheduled_event_id).ok_or_else(attempts::not_there)?;
    let started = attempts::start(activity, command.attempt, work.now, &command.request_id, &command.identity)?;
    if let Some(event) = started {
        work.attempt(scheduled_event_id, event);
    }
    Ok(Reply::ActivityTaskStarted { run_id, scheduled_event_id })
}
