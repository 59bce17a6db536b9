//! Counters, a kind of entity beside workflows: clients start them and add to them, they tick, and they start each other.
//!
//! They draw from random numbers of their own, so that worlds without them are what they are without this file.

use millrace::engine::{EntityId, Kind};
use millrace::proto::commands::command::Body;
use millrace::proto::counter::{Add, Start, Tell, tell::What};

use crate::machine::namespace;
use crate::random::Rng;
use crate::requests::Requests;
use crate::world::World;

/// So many steps lie between two requests, at least.
pub const EVERY: u64 = 20;
const COUNTERS: usize = 6;
const REQUESTS_MAX: usize = 60;

pub struct Counters {
    happen: bool,
    pub requests: Requests,
}

/// In a fifth of the worlds.
pub fn happens(seed: u64) -> bool {
    matches!(seed % 10, 3 | 7)
}

impl Counters {
    pub fn new(seed: u64) -> Self {
        Self { happen: happens(seed), requests: Requests::new(Rng::new(!seed)) }
    }

    pub fn happen(&self) -> bool {
        self.happen
    }

    fn what(&self) -> What {
        let request_id = format!("c{}", self.requests.rng.next());
        if self.requests.rng.per_mille(650) {
            return What::Add(Add { by: self.requests.rng.between(1, 9), request_id });
        }
        let children = (0..self.requests.rng.below(3)).map(|_| counter_id(self.requests.rng.below(COUNTERS))).collect();
        let ticks = self.requests.rng.per_mille(400);
        What::Start(Start {
            // One that ticks comes to an end by itself, so that the world comes to rest.
            goal: if ticks { self.requests.rng.between(2, 5) } else { self.requests.rng.between(5, 40) },
            tick_ms: if ticks { self.requests.rng.between(100, 1500) } else { 0 },
            children,
            children_goal: self.requests.rng.between(1, 10),
        })
    }
}

fn counter_id(number: usize) -> String {
    format!("counter-{number}")
}

impl World {
    /// A client sends a request, or receives its outcome.
    pub fn ask_counters(&mut self) {
        let Counters { requests, .. } = &mut self.counters;
        requests.receive(&self.machines);
        if requests.asked.len() < REQUESTS_MAX {
            let id = counter_id(requests.rng.below(COUNTERS));
            let body = Body::Counter(Tell { what: Some(self.counters.what()) });
            let entity = EntityId::new(Kind::Counter, &namespace().id, &id);
            self.counters.requests.ask(&self.machines, entity, body);
        }
    }
}
