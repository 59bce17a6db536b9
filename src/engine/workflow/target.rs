//! Which run a request to a workflow is for.

use super::Work;
use super::state::Run;
use crate::engine::entity_id::EntityId;
use crate::engine::kinds::Kind;
use crate::engine::rejection::Rejection;
use crate::proto::commands::{External, command::Body};
use crate::proto::temporal::common::v1::WorkflowExecution;

/// How a request names the run that it is for. Temporal: a run id pins a request to that run alone, and what continued
/// it is another; the id of a chain's first run is for whichever run of the chain is open.
#[derive(Clone, Copy, Default)]
pub struct Target<'a> {
    /// Empty: the newest run.
    pub run_id: &'a str,
    /// Outweighs `run_id`, if it is set.
    pub first_execution_run_id: &'a str,
    /// Only a child of this run is meant.
    pub parent: Option<&'a WorkflowExecution>,
    /// Only the child that the parent started by this event is meant. 0: any.
    pub parent_initiated_event_id: i64,
}

impl Work {
    /// `namespace`: the name of the namespace.
    pub fn send_to_workflow(&mut self, namespace_id: &str, namespace: &str, workflow_id: &str, body: Body) {
        self.send(EntityId::workflow(namespace_id, workflow_id), namespace, body);
    }
}

impl<'a> Target<'a> {
    /// The target of a request that a workflow sends, if it comes from one.
    pub fn of_external(run_id: &'a str, external: Option<&'a External>) -> Self {
        let external = external.filter(|external| external.child_workflow_only);
        Self { run_id, parent: external.and_then(|external| external.execution.as_ref()), ..Self::default() }
    }

    /// The run that is meant, open or closed.
    pub fn find<'w>(&self, work: &'w Work) -> Result<&'w Run, Rejection> {
        let newest = work.run();
        let run = if !self.first_execution_run_id.is_empty() {
            work.find("")?
        } else if self.parent.is_some() && newest.is_open() && newest.head.first_run_id == self.run_id {
            // A child is known by the first run of its chain.
            newest
        } else {
            work.find(self.run_id)?
        };
        if run.is_open() {
            self.admits(run)?;
        }
        Ok(run)
    }

    /// The run that is meant, which must be open.
    pub fn find_open<'w>(&self, work: &'w Work) -> Result<&'w Run, Rejection> {
        let run = self.find(work)?;
        if run.is_open() { Ok(run) } else { Err(Rejection::workflow_closed()) }
    }

    fn admits(&self, run: &Run) -> Result<(), Rejection> {
        let first = self.first_execution_run_id;
        if !first.is_empty() && first != run.head.first_run_id {
            return Err(Rejection::NotFound("workflow execution not found".into()));
        }
        let other_parent = self.parent.is_some_and(|parent| run.head.parent.as_ref() != Some(parent));
        let initiated = self.parent_initiated_event_id;
        if other_parent || (initiated != 0 && run.head.parent_initiated_event_id != initiated) {
            return Err(Rejection::NotFound("workflow parent does not match".into()));
        }
        Ok(())
    }
}

/// A workflow can't signal or cancel itself by way of the server. Temporal: it does not matter which of its runs is named.
pub fn refuse_itself(work: &Work) -> Result<(), Rejection> {
    let sender = work.callback.as_ref().filter(|sender| Kind::of(sender.kind) == Some(Kind::Workflow));
    let is_itself =
        sender.is_some_and(|sender| *sender.namespace_id == *work.entity.namespace_id && *sender.id == *work.entity.id);
    if is_itself { Err(Rejection::workflow_not_found(&work.entity.id, "")) } else { Ok(()) }
}
