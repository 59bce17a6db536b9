//! `UpdateWorkflow` and `UpdateWithStartWorkflow`: an update is admitted, by a run that is started first if need be. What comes of it
//! is in [`updates`].

use super::start_workflow::{self, Found};
use super::updates::{self, id_of};
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::{UpdateWithStartWorkflow, UpdateWorkflow};
use crate::proto::state;
use crate::proto::temporal::enums::v1::WorkflowIdConflictPolicy as Conflict;
use crate::proto::temporal::update::v1::Request;
use crate::proto::temporal::workflowservice::v1::{StartWorkflowExecutionRequest, UpdateWorkflowExecutionRequest};

pub fn decide(work: &mut Work, command: &UpdateWorkflow) -> Result<Reply, Rejection> {
    let call = command.request.clone().unwrap_or_default();
    let request = requested(&call)?;
    let target = call.workflow_execution.clone().unwrap_or_default();
    let run = work.find(&target.run_id)?;
    if !call.first_execution_run_id.is_empty() && call.first_execution_run_id != run.head.first_run_id {
        return Err(Rejection::NotFound("workflow execution not found".into()));
    }
    let run_id = run.head.run_id.clone();
    if run.is_open() {
        not_paused(&run.head)?;
        work.admit_update(request, !target.run_id.is_empty())?;
    } else if run.updates.get(id_of(request)).is_none() {
        return Err(Rejection::workflow_closed());
    }
    Ok(Reply::Updated { run_id })
}

fn not_paused(head: &state::Run) -> Result<(), Rejection> {
    let paused = || Rejection::FailedPrecondition("Workflow is paused. Cannot update the workflow.".into());
    if head.pause.is_some() { Err(paused()) } else { Ok(()) }
}

fn requested(call: &UpdateWorkflowExecutionRequest) -> Result<&Request, Rejection> {
    let request = call.request.as_ref();
    let request = request.ok_or_else(|| Rejection::InvalidArgument("the update carries no request".into()))?;
    match updates::request_problem(request) {
        None if id_of(request).is_empty() => Err(Rejection::InvalidArgument("the update carries no id".into())),
        None => Ok(request),
        Some(problem) => Err(Rejection::InvalidArgument(problem.into())),
    }
}

/// Both or neither. As with Temporal's server, an update that the newest run has already is found there, whatever the policies say,
/// once it is completed even if that run is closed.
pub fn decide_with_start(work: &mut Work, command: &UpdateWithStartWorkflow) -> Result<Reply, Rejection> {
    let start = command.start.clone().unwrap_or_default();
    let call = command.update.clone().unwrap_or_default();
    let request = requested(&call)?;
    let stage = work.run().updates.stage(id_of(request));
    if matches!(stage, Some(updates::Stage::Completed { .. })) {
        return Ok(Reply::UpdatedWithStart { run_id: work.head().run_id.clone(), started: false });
    }
    if work.run().is_open() && (stage.is_some() || uses_running(work, &start)) {
        not_paused(work.head())?;
        work.admit_update(request, false)?;
        return Ok(Reply::UpdatedWithStart { run_id: work.head().run_id.clone(), started: false });
    }
    match start_workflow::clear_the_way(work, &start)? {
        // The request was seen before, and its run has ended since.
        Found::Existing { .. } => Err(Rejection::workflow_closed()),
        Found::Free { run_id } => {
            let run_id = start_workflow::begin_with(work, run_id, &start, |work| {
                work.add_update(id_of(request), request.clone(), false);
                Ok(())
            })?;
            Ok(Reply::UpdatedWithStart { run_id, started: true })
        }
    }
}

/// Whether the update is for the run that is open, and not for one that is to be started.
fn uses_running(work: &Work, start: &StartWorkflowExecutionRequest) -> bool {
    let is_repeated = !start.request_id.is_empty() && work.head().create_request_id == start.request_id;
    is_repeated || start.workflow_id_conflict_policy() == Conflict::UseExisting
}
