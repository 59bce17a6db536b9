//! How far a partition is in its commands, and what is known by them: the time, the version of the fold, and the numbers that were
//! taken.

use std::collections::BTreeMap;

use crate::engine::Rejection;
use crate::log::Appended;
use crate::proto::commands::{Command, Source};

/// How far a sender's clock may be behind the log's, in milliseconds, before the log's is not used.
const CLOCK_BOUND_MS: i64 = 10_000;

#[derive(Default)]
pub struct Position {
    /// The next offset of `commands` to decide, and the one that the last head names or the next will.
    pub next: i64,
    pub in_head: i64,
    /// The last `now`, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// The version of the fold in force, and the newest that was appended.
    pub fold_version: u32,
    pub version_asked: u32,
    /// The last sequence accepted from each source.
    pub accepted: BTreeMap<String, i64>,
    /// Barriers that no head has passed yet.
    pub barriers: u32,
    /// The end of the changelog after the take-over.
    pub taken_over_at: i64,
}

impl Position {
    /// Goes on to a command, whatever is decided: time and position go on, and the number of its source is taken.
    pub fn admit(&mut self, command: &Command, at: Appended) -> Result<(), Rejection> {
        self.next = at.offset + 1;
        let latest = if command.sent_ms > 0 { command.sent_ms.saturating_add(CLOCK_BOUND_MS) } else { i64::MAX };
        self.now_ms = self.now_ms.max(at.timestamp_ms.min(latest));
        command.source.as_ref().map_or(Ok(()), |source| self.take_number(source))
    }

    fn take_number(&mut self, source: &Source) -> Result<(), Rejection> {
        let accepted = self.accepted.get(&source.name).copied().unwrap_or_default();
        if source.sequence <= accepted {
            return Err(Rejection::Duplicate);
        }
        if source.previous > accepted {
            let message = format!(
                "a command of {} is missing: expected the one after {accepted}, got the one after {}",
                source.name, source.previous
            );
            return Err(Rejection::OutOfOrder(message));
        }
        self.accepted.insert(source.name.clone(), source.sequence);
        Ok(())
    }
}
