//! How entities are named.

use std::sync::Arc;

use super::kinds::Kind;
use crate::proto::commands::{Command, TaskToken};
use crate::types::Slot;

/// Names an entity: its commands, sends, records and tasks are addressed by it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId {
    pub kind: Kind,
    pub namespace_id: Arc<str>,
    /// Unique among those of its kind in the namespace; a workflow's is the workflow id.
    pub id: Arc<str>,
}

impl EntityId {
    pub fn new(kind: Kind, namespace_id: &str, id: &str) -> Self {
        Self { kind, namespace_id: namespace_id.into(), id: id.into() }
    }

    pub fn workflow(namespace_id: &str, workflow_id: &str) -> Self {
        Self::new(Kind::Workflow, namespace_id, workflow_id)
    }

    pub fn schedule(namespace_id: &str, schedule_id: &str) -> Self {
        Self::new(Kind::Schedule, namespace_id, schedule_id)
    }

    pub fn batch(namespace_id: &str, job_id: &str) -> Self {
        Self::new(Kind::Batch, namespace_id, job_id)
    }

    /// A namespace belongs to none, and is named by its name.
    pub fn namespace(name: &str) -> Self {
        Self::new(Kind::Namespace, "", name)
    }

    /// The entity that a command is for; none if it is of a kind that this version does not know.
    pub fn of(command: &Command) -> Option<Self> {
        Some(Self::new(Kind::of(command.kind)?, &command.namespace_id, &command.id))
    }

    /// The entity that a task is of; none if it is of a kind that this version does not know.
    pub fn of_token(token: &TaskToken) -> Option<Self> {
        Some(Self::new(Kind::of(token.kind)?, &token.namespace_id, &token.id))
    }

    pub fn slot(&self) -> Slot {
        Slot::of(self.kind as u8, &self.namespace_id, &self.id)
    }

    /// The partition that owns it, of `partitions`.
    pub fn partition(&self, partitions: u32) -> u32 {
        self.slot().partition(partitions)
    }
}
