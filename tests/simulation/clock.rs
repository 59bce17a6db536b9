//! Virtual time: one true time, and the clocks of the broker and of each node, which may be wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use millrace::environment::Environment;

use crate::random::Rng;

const START_MS: i64 = 1_700_000_000_000;

/// How long the simulation has run, in milliseconds of virtual time.
#[derive(Default)]
pub struct Time(AtomicI64);

impl Time {
    pub fn elapsed_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn pass(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

/// A wall clock.
pub struct Clock {
    time: Arc<Time>,
    /// How far it is ahead of the true time.
    skew_ms: AtomicI64,
}

impl Clock {
    pub fn new(time: Arc<Time>) -> Self {
        Self { time, skew_ms: AtomicI64::new(0) }
    }

    pub fn now_ms(&self) -> i64 {
        START_MS + self.time.elapsed_ms() + self.skew_ms.load(Ordering::Relaxed)
    }

    pub fn true_ms(&self) -> i64 {
        START_MS + self.time.elapsed_ms()
    }

    /// How long the simulation has run.
    pub fn elapsed_ms(&self) -> i64 {
        self.time.elapsed_ms()
    }

    pub fn skew(&self, ms: i64) {
        self.skew_ms.store(ms, Ordering::Relaxed);
    }
}

/// A node's time and chance.
pub struct Simulated {
    pub clock: Arc<Clock>,
    pub begun: Instant,
    pub rng: Rng,
    /// Every random number is the same.
    pub stuck: bool,
}

impl Environment for Simulated {
    fn clock_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn now(&self) -> Instant {
        self.begun + Duration::from_millis(self.clock.time.elapsed_ms() as u64)
    }

    fn random(&self) -> u64 {
        if self.stuck { 42 } else { self.rng.next() }
    }
}
