//! `StartWorkflowTask`: a worker takes the pending workflow task. Exactly one start of an attempt wins.

use super::event::Starter;
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::StartWorkflowTask;

pub fn decide(work: &mut Work, command: &StartWorkflowTask) -> Result<Reply, Rejection> {
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
