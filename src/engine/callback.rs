//! Callbacks: the sender of a command may attach one, and is notified once that was carried out or refused; and, if it has
//! started an entity, once that closes.

use super::entity_id::EntityId;
use super::kinds::Kind;
use super::machine::Machine;
use super::rejection::Rejection;
use super::work::{Send, Work};
use crate::proto::commands::{Callback, Command, Done, Notify, Refused, command::Body, notify::Outcome};
use crate::proto::temporal::common::v1::WorkflowExecution;

impl<M: Machine> Work<M> {
    /// A callback to the entity that decides: `token` is what it will know the command by.
    pub fn callback_to_this(&self, token: Vec<u8>) -> Callback {
        Callback {
            kind: self.entity.kind as u32,
            namespace_id: self.entity.namespace_id.to_string(),
            namespace: self.namespace.clone(),
            id: self.entity.id.to_string(),
            token: token.into(),
        }
    }

    /// Notifies the sender that attached a callback. `run_id`: of the present entity's run that this is about.
    pub fn notify(&mut self, callback: &Callback, run_id: &str, outcome: Outcome) {
        let send = notification(callback, &self.entity.id.clone(), run_id, outcome);
        self.sends.extend(send);
    }

    /// Notifies the sender of the command that is decided, if it waits for that: it is about the present run.
    pub fn notify_sender(&mut self, outcome: Outcome) {
        if let Some(callback) = self.callback.take() {
            let run_id = self.run().header().run_id.to_owned();
            self.notify(&callback, &run_id, outcome);
        }
    }
}

/// The notification of a command's refusal; none: nobody waits for it.
pub fn refused(command: &Command, refusal: &Rejection) -> Option<Send> {
    let callback = command.callback.as_ref()?;
    let run_id = if let Rejection::AlreadyStarted { run_id, .. } = refusal { run_id.clone() } else { String::new() };
    let refused = Refused { code: refusal.code().into(), reason: refusal.message(), run_id };
    notification(callback, &command.id, "", Outcome::Refused(refused))
}

/// The notification that a command was carried out which is decided by no machine; none: nobody waits for it.
pub fn done(command: &Command) -> Option<Send> {
    notification(command.callback.as_ref()?, &command.id, "", Outcome::Done(Done {}))
}

/// `None`: the callback is of a kind that this version does not know, so no sender can have attached it.
fn notification(callback: &Callback, id: &str, run_id: &str, outcome: Outcome) -> Option<Send> {
    let execution = WorkflowExecution { workflow_id: id.to_owned(), run_id: run_id.to_owned() };
    let body = Notify { token: callback.token.clone(), execution: Some(execution), outcome: Some(outcome) };
    Some(Send {
        to: EntityId::new(Kind::of(callback.kind)?, &callback.namespace_id, &callback.id),
        namespace: callback.namespace.clone(),
        body: Body::Notify(body),
        callback: None,
    })
}
