//! What clients request of entities other than workflows: each request is sent until its outcome is known.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

use millrace::engine::{EntityId, Reply};
use millrace::partition::Failure;
use millrace::proto::commands::{Command, command::Body};

use crate::machine::{Machine, namespace};
use crate::random::Rng;

/// What a client has requested of an entity.
pub struct Asked {
    pub entity: EntityId,
    pub body: Body,
    pub attempts: u32,
    pub outcome: Option<Result<Reply, Failure>>,
    answer: Receiver<Result<Reply, Failure>>,
}

/// The requests to one kind of entity, with random numbers of their own.
pub struct Requests {
    pub rng: Rng,
    pub asked: Vec<Asked>,
}

impl Requests {
    pub fn new(rng: Rng) -> Self {
        Self { rng, asked: Vec::new() }
    }

    /// Whether a caller waits for an answer.
    pub fn has_callers(&self) -> bool {
        self.asked.iter().any(|asked| asked.outcome.is_none())
    }

    pub fn ask(&mut self, machines: &[Machine], entity: EntityId, body: Body) {
        let answer = send(machines, &self.rng, &entity, &body);
        self.asked.push(Asked { entity, body, attempts: 1, outcome: None, answer });
    }

    /// Takes the answers that have come, and retries requests whose outcome is not known.
    pub fn receive(&mut self, machines: &[Machine]) {
        for asked in self.asked.iter_mut().filter(|asked| asked.outcome.is_none()) {
            match asked.answer.try_recv() {
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) | Ok(Err(Failure::Unavailable(_) | Failure::Overloaded(_))) => {
                    asked.answer = send(machines, &self.rng, &asked.entity, &asked.body);
                    asked.attempts += 1;
                }
                Ok(outcome) => asked.outcome = Some(outcome),
            }
        }
    }
}

/// Sends a command by some node, which hands it on if it is another's.
fn send(machines: &[Machine], rng: &Rng, entity: &EntityId, body: &Body) -> Receiver<Result<Reply, Failure>> {
    let (sender, answer) = channel();
    let up: Vec<_> = machines.iter().filter_map(|machine| machine.process.as_ref()).collect();
    // There is no owner: the sender is dropped, which notifies the caller.
    if up.is_empty() {
        return answer;
    }
    let node = &rng.pick(&up).node;
    let command = Command {
        kind: entity.kind as u32,
        namespace_id: entity.namespace_id.to_string(),
        namespace: namespace().name,
        id: entity.id.to_string(),
        seed_high: node.random(),
        seed_low: node.random(),
        sent_ms: node.clock_ms(),
        body: Some(body.clone()),
        ..Command::default()
    };
    node.owner_of(entity).command(command, Box::new(move |_, outcome| drop(sender.send(outcome))));
    answer
}
