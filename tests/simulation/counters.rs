//! Counters, a kind of entity beside workflows: clients start them and add to them, they tick, and they start each other.
//!
//! They draw from random numbers of their own, so that worlds without them are what they are without this file.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

use millrace::engine::{EntityId, Kind, Reply};
use millrace::partition::Failure;
use millrace::proto::commands::{Command, command::Body};
use millrace::proto::counter::{Add, Start, Tell, tell::What};

use crate::machine::namespace;
use crate::random::Rng;
use crate::world::World;

/// So many steps lie between two requests, at least.
pub const EVERY: u64 = 20;
const COUNTERS: usize = 6;
const REQUESTS: usize = 60;

/// What a client has requested of a counter.
pub struct Asked {
    pub id: String,
    pub what: What,
    pub attempts: u32,
    pub outcome: Option<Result<Reply, Failure>>,
    answer: Receiver<Result<Reply, Failure>>,
}

pub struct Counters {
    happen: bool,
    rng: Rng,
    pub asked: Vec<Asked>,
}

/// In a fifth of the worlds.
pub fn happens(seed: u64) -> bool {
    matches!(seed % 10, 3 | 7)
}

impl Counters {
    pub fn new(seed: u64) -> Self {
        Self { happen: happens(seed), rng: Rng::new(!seed), asked: Vec::new() }
    }

    pub fn happen(&self) -> bool {
        self.happen
    }

    /// Whether a caller waits for an answer.
    pub fn has_callers(&self) -> bool {
        self.asked.iter().any(|asked| asked.outcome.is_none())
    }

    fn what(&self) -> What {
        let request_id = format!("c{}", self.rng.next());
        if self.rng.per_mille(650) {
            return What::Add(Add { by: self.rng.between(1, 9), request_id });
        }
        let children = (0..self.rng.below(3)).map(|_| counter_id(self.rng.below(COUNTERS))).collect();
        let ticks = self.rng.per_mille(400);
        What::Start(Start {
            // One that ticks comes to an end by itself, so that the world comes to rest.
            goal: if ticks { self.rng.between(2, 5) } else { self.rng.between(5, 40) },
            tick_ms: if ticks { self.rng.between(100, 1500) } else { 0 },
            children,
            children_goal: self.rng.between(1, 10),
        })
    }
}

fn counter_id(number: usize) -> String {
    format!("counter-{number}")
}

impl World {
    /// A client sends a request, or receives its outcome.
    pub fn ask_counters(&mut self) {
        self.hear_counters();
        if self.counters.asked.len() < REQUESTS {
            let (id, what) = (counter_id(self.counters.rng.below(COUNTERS)), self.counters.what());
            let answer = self.send_to_counter(&id, &what);
            self.counters.asked.push(Asked { id, what, attempts: 1, outcome: None, answer });
        }
    }

    /// Takes the answers that have come, and retries requests whose outcome is not known.
    pub fn hear_counters(&mut self) {
        for index in 0..self.counters.asked.len() {
            let asked = &self.counters.asked[index];
            if asked.outcome.is_some() {
                continue;
            }
            let answer = match asked.answer.try_recv() {
                Err(TryRecvError::Empty) => continue,
                Err(TryRecvError::Disconnected) | Ok(Err(Failure::Unavailable(_) | Failure::Overloaded(_))) => None,
                Ok(answer) => Some(answer),
            };
            if answer.is_none() {
                let answer = self.send_to_counter(&asked.id, &asked.what);
                let asked = &mut self.counters.asked[index];
                (asked.answer, asked.attempts) = (answer, asked.attempts + 1);
            } else {
                self.counters.asked[index].outcome = answer;
            }
        }
    }

    /// Sends a command by some node, which hands it on if it is another's.
    fn send_to_counter(&self, id: &str, what: &What) -> Receiver<Result<Reply, Failure>> {
        let (sender, answer) = channel();
        let up: Vec<_> = self.machines.iter().filter_map(|machine| machine.process.as_ref()).collect();
        // There is no owner: the sender is dropped, which notifies the caller.
        if up.is_empty() {
            return answer;
        }
        let node = &self.counters.rng.pick(&up).node;
        let entity = EntityId::new(Kind::Counter, &namespace().id, id);
        let command = Command {
            kind: entity.kind as u32,
            namespace_id: entity.namespace_id.to_string(),
            namespace: namespace().name,
            id: id.to_owned(),
            seed_high: node.random(),
            seed_low: node.random(),
            sent_ms: node.clock_ms(),
            body: Some(Body::Counter(Tell { what: Some(what.clone()) })),
            ..Command::default()
        };
        node.owner_of(&entity).command(command, Box::new(move |_, outcome| drop(sender.send(outcome))));
        answer
    }
}
