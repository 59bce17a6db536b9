//! `TerminateWorkflow`: ends a run at once, whatever it is doing.

use super::close::Close;
use super::target::Target;
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::TerminateWorkflow;

/// The reason of the termination of an open run that is to be deleted.
pub const DELETE_REASON: &str = "Delete workflow execution";

pub fn decide(work: &mut Work, command: &TerminateWorkflow) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let target = request.workflow_execution.clone().unwrap_or_default();
    let target = Target {
        run_id: &target.run_id,
        first_execution_run_id: &request.first_execution_run_id,
        parent: command.parent.as_ref().filter(|_| command.child_workflow_only),
        parent_initiated_event_id: command.parent_initiated_event_id,
    };
    target.find_open(work)?;
    let close = Close::terminated(&request.reason, request.details.clone(), &request.identity);
    work.close(close.linked(&request.links));
    Ok(Reply::Done)
}
