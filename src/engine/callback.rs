//! Callbacks: whoever starts an entity may attach one, and is notified once that has started, or has not, and once it closes.

use super::entity_id::EntityId;
use super::kinds::Kind;
use super::machine::Machine;
use super::work::Work;
use crate::proto::commands::{Callback, Notify, command::Body, notify::Outcome};
use crate::proto::temporal::common::v1::WorkflowExecution;

impl<M: Machine> Work<M> {
    /// A callback to the entity that decides: `token` is what it will know the other one by.
    pub fn callback(&self, token: Vec<u8>) -> Callback {
        Callback {
            kind: self.entity.kind as u32,
            namespace_id: self.entity.namespace_id.to_string(),
            namespace: self.namespace.clone(),
            id: self.entity.id.to_string(),
            token: token.into(),
        }
    }

    /// Notifies whoever attached a callback. `run_id`: of the present entity's run that this is about.
    pub fn notify(&mut self, callback: &Callback, run_id: &str, outcome: Outcome) {
        // Of a kind that this version does not know: nobody could have attached it.
        let Some(kind) = Kind::of(callback.kind) else { return };
        let execution = WorkflowExecution { workflow_id: self.entity.id.to_string(), run_id: run_id.to_owned() };
        let body = Notify { token: callback.token.clone(), execution: Some(execution), outcome: Some(outcome) };
        let to = EntityId::new(kind, &callback.namespace_id, &callback.id);
        self.send(to, &callback.namespace, Body::Notify(body));
    }
}
