//! Time and chance, as a node has them: the system's, or those that a simulation chooses.
//!
//! Everything that the partitions, matching and the edges do is a function of their inputs, of what the log and the store return,
//! and of this.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

pub trait Environment: Send + Sync + 'static {
    /// The wall clock, in milliseconds since the Unix epoch. It may jump, and go back.
    fn clock_ms(&self) -> i64;

    /// A clock that only goes forward.
    fn now(&self) -> Instant;

    fn random(&self) -> u64;
}

/// The system's own.
pub struct System;

impl Environment for System {
    fn clock_ms(&self) -> i64 {
        clock_ms()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn random(&self) -> u64 {
        random()
    }
}

/// The system's own, with a wall clock that is put forward: for tests of workflows that sleep.
#[derive(Default)]
pub struct PutForward {
    by_ms: AtomicI64,
}

impl PutForward {
    /// Puts the clock forward to a time, in milliseconds since the Unix epoch, unless it is past that.
    pub fn to(&self, at_ms: i64) {
        self.by_ms.fetch_max(at_ms - clock_ms(), Ordering::Relaxed);
    }
}

impl Environment for PutForward {
    fn clock_ms(&self) -> i64 {
        clock_ms() + self.by_ms.load(Ordering::Relaxed)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn random(&self) -> u64 {
        random()
    }
}

/// The system's wall clock, in milliseconds since the Unix epoch.
pub fn clock_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}

/// A random number, from the operating system's seed of the standard library's hasher.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
