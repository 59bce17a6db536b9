//! `StartWorkflowTask`: a worker takes the pending workflow task. Exactly one start of an attempt wins.

use super::decision::{Reply, Working};
use super::event::{Event, Starter};
use super::rejection::Rejection;
use crate::proto::commands::{ReturnTask, StartWorkflowTask};

pub fn decide(work: &mut Working, command: &StartWorkflowTask) -> Result<Reply, Rejection> {
    let run = work.open_run(&command.run_id)?;
    let gone = || Rejection::NotFound("Workflow task not found.".into());
    let task = run.head.workflow_task.as_ref().ok_or_else(gone)?;
    let same = task.scheduled_event_id == command.scheduled_event_id && task.attempt == command.attempt;
    if !same || (task.started_event_id != 0 && task.request_id != command.request_id) {
        return Err(gone());
    }
    let run_id = run.head.run_id.clone();
    if task.started_event_id == 0 {
        let by = Starter {
            identity: command.identity.clone(),
            request_id: command.request_id.clone(),
            worker_version: command.worker_version.clone(),
        };
        work.start_workflow_task(by);
    }
    Ok(Reply::WorkflowTaskStarted { run_id })
}

/// `ReturnTask`: a task was started for a poller that was gone before the task reached it, so it is offered again
/// without waiting for its timeout.
pub fn decide_return(work: &mut Working, command: &ReturnTask) -> Result<Reply, Rejection> {
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
        super::workflow_task::time_out(work, super::due::TimeoutType::StartToClose);
    }
    Ok(Reply::Done)
}
