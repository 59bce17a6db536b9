//! `StartWorkflowTask`: a worker takes the pending workflow task. Exactly one start of an attempt wins.

use super::workflow_task::{self, Starter};
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::StartWorkflowTask;

pub fn decide(work: &mut Work, command: &StartWorkflowTask) -> Result<Reply, Rejection> {
    let run = work.open_run(&command.run_id)?;
    let run_id = run.head.run_id.clone();
    if workflow_task::is_to_start(run.head.workflow_task.as_ref(), command)? {
        let by = Starter {
            identity: command.identity.clone(),
            request_id: command.request_id.clone(),
            worker_version: command.worker_version.clone(),
        };
        work.start_workflow_task(by, 0);
    }
    Ok(Reply::WorkflowTaskStarted { run_id })
}
