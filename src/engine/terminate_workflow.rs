//! `TerminateWorkflow`: ends a run at once, whatever it is doing.

use super::close::Close;
use super::decision::{Reply, Working};
use super::external;
use super::rejection::Rejection;
use crate::proto::commands::{External, TerminateWorkflow};

pub fn decide(work: &mut Working, command: &TerminateWorkflow) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let target = request.workflow_execution.clone().unwrap_or_default();
    let run_id =
        if request.first_execution_run_id.is_empty() { &target.run_id } else { &request.first_execution_run_id };
    let parent = External {
        execution: command.parent.clone(),
        child_workflow_only: command.child_workflow_only,
        ..External::default()
    };
    external::target_run(work, run_id, Some(&parent))?;
    work.close(Close::terminated(&request.reason, request.details.clone(), &request.identity));
    Ok(Reply::Done)
}
