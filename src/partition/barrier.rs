//! Barriers: commands that change nothing. An owner appends one to find the end of the log, where there is nothing else to
//! append: what was acknowledged before stands before it.
//!
//! A broker's end offset would not do. A former leader that was paused may report the end that it had; but it can't acknowledge
//! an append, as no replica follows it.
//!
//! A barrier moves the position, and neither the time nor anything else, so that it alone is no reason for a commit: many may
//! stand behind the position of the head, and the next owner passes them again.

use std::sync::atomic::Ordering;

use super::core::Core;
use super::restore;
use crate::log::{Appended, Topic};
use crate::proto::commands::{Barrier, Command, command::Body};

/// So many barriers are a reason for a commit, lest the next owner pass too many.
const UNCOMMITTED_MAX: u32 = 1000;
/// An append may be acknowledged without its offset. So many in a row are not a retry any more.
const ATTEMPTS_MAX: u32 = 10;

pub(super) fn command() -> Command {
    Command { body: Some(Body::Barrier(Barrier {})), ..Command::default() }
}

impl Core {
    /// Appends a barrier, and returns its offset. Blocks.
    pub(super) fn append_barrier(&self) -> Result<Appended, restore::Error> {
        for _ in 0..ATTEMPTS_MAX {
            let records = vec![super::run_loop::record(&command())];
            let appended = self.node.log.append_and_wait(Topic::Commands, self.partition, records)?;
            if let Some(at) = appended.first().filter(|at| at.offset >= 0) {
                return Ok(*at);
            }
        }
        Err(restore::Error::Broken("the log does not return a command's offset".into()))
    }

    /// Decides a barrier: the position moves past it.
    pub(super) fn pass_barrier(&mut self, at: Appended) {
        self.position.next = at.offset + 1;
        self.position.barriers += 1;
        self.commits.pending.touched |= self.position.barriers >= UNCOMMITTED_MAX;
        if !self.replaying {
            self.node.positions[self.partition as usize].store(self.position.next, Ordering::Relaxed);
        }
    }
}
