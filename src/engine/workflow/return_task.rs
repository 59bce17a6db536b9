//! `ReturnTask`: a task was started for a poller that was gone before the task reached it, so it is offered again without
//! waiting for its timeout.

use super::due::TimeoutType;
use super::event::Event;
use super::workflow_task;
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::ReturnTask;

pub fn decide(work: &mut Work, command: &ReturnTask) -> Result<Reply, Rejection> {
    let token = command.token.clone().unwrap_or_default();
    let run = work.open_run(&token.run_id)?;
    let gone = || Rejection::NotFound("the task is not started".into());
    if command.activity {
        let activity = run
            .activities
            .get(&token.scheduled_event_id)
            .filter(|a| a.attempt == token.attempt && a.started_ms == token.started_ms);
        activity.filter(|activity| activity.started_ms != 0).ok_or_else(gone)?;
        work.emit(Event::ActivityAttemptReturned { scheduled_event_id: token.scheduled_event_id });
    } else {
        run.started_task()
            .filter(|task| task.started_event_id == token.started_event_id && task.attempt == token.attempt)
            .ok_or_else(gone)?;
        workflow_task::time_out(work, TimeoutType::StartToClose);
    }
    Ok(Reply::Done)
}
