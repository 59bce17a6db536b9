//! The life of a node's process: once it has died, nothing that it does reaches the log or the disk.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

#[derive(Default)]
pub struct Life {
    dead: AtomicBool,
    /// Calls of the log or the disk until it dies; 0: it is not about to.
    left: AtomicI64,
}

impl Life {
    pub fn is_over(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// Lets the process die at one of its next calls.
    pub fn end_after(&self, calls: i64) {
        self.left.store(calls, Ordering::Relaxed);
    }

    /// Counts a call. Whether it has an effect.
    pub fn go_on(&self) -> bool {
        if self.left.load(Ordering::Relaxed) > 0 && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.end();
        }
        !self.is_over()
    }
}
