//! Requests of one workflow to another: checking the target, and answering the sender.

use super::decision::Working;
use super::rejection::Rejection;
use crate::proto::commands::{External, command::Body};

/// Whether the run that a request names is open and, where only a child may be meant, is that child.
pub fn target_run(work: &Working, run_id: &str, external: Option<&External>) -> Result<(), Rejection> {
    let run = match work.open_run(run_id) {
        Ok(run) => run,
        // A child is addressed by the first run of its chain.
        Err(_) if work.run().is_open() && work.head().first_run_id == run_id => work.run(),
        Err(rejection) => return Err(rejection),
    };
    let Some(external) = external.filter(|external| external.child_workflow_only) else { return Ok(()) };
    let is_child = run.head.parent.is_some() && run.head.parent == external.execution;
    if is_child { Ok(()) } else { Err(Rejection::workflow_not_found(&run.head.workflow_id)) }
}

/// Sends the outcome back to the workflow that asked.
pub fn reply(work: &mut Working, external: &External, body: Body) {
    let to = external.execution.clone().unwrap_or_default();
    work.send(&external.namespace_id, &external.namespace, &to.workflow_id, body);
}
