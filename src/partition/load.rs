//! Back-pressure: how much a partition has taken on that no commit has made durable yet.
//!
//! Decisions do not wait for commits. Where commits hang, or do not keep up, what is decided would gather without bound, in memory
//! and then in one transaction, and each take-over would decide all of it again. So there is a bound: beyond it callers are
//! refused before their commands are appended, and retry; other partitions and topics send again; due timers wait.

use std::collections::VecDeque;

use super::core::Core;
use super::{Request, Settings};
use crate::proto::commands::{Command, command::Body};

/// A bound of what is taken on, as a multiple of what one commit takes.
const COMMITS_AHEAD_MAX: usize = 4;

/// Commands, and about what they and their outputs take. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub commands: usize,
    pub bytes: usize,
}

impl Load {
    pub fn add(&mut self, bytes: usize) {
        self.commands += 1;
        self.bytes += bytes;
    }

    pub fn remove(&mut self, bytes: usize) {
        self.commands = self.commands.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether it is as much as one commit should take.
    pub fn fills_a_commit(&self, settings: &Settings) -> bool {
        self.commands >= settings.commit_commands_max || self.bytes >= settings.commit_bytes_max
    }
}

/// Commands on their way into the log.
#[derive(Default)]
pub struct Intake {
    /// To be appended; and appended, with an outcome that is not known yet.
    // They move on to `in_flight`, and a command is large.
    #[allow(clippy::vec_box)]
    pub queue: Vec<Box<Request>>,
    pub in_flight: VecDeque<Box<Request>>,
    pub appended: u64,
    /// What is appended and not decided.
    pub load: Load,
}

impl Core {
    /// What is appended and not decided, and what is decided and not committed.
    fn load_now(&self) -> Load {
        let all = [self.intake.load, self.commits.pending.load, self.commits.load];
        all.iter().fold(Load::default(), |sum, load| Load {
            commands: sum.commands + load.commands,
            bytes: sum.bytes + load.bytes,
        })
    }

    /// A command is decided. Barriers change nothing, and are no reason for a commit.
    pub(super) fn count(&mut self, command: &Command, bytes: usize) {
        if !matches!(command.body, Some(Body::Barrier(_))) {
            self.commits.pending.load.add(bytes);
        }
    }

    /// Whether the partition takes nothing more on for now.
    pub(super) fn is_overloaded(&self) -> bool {
        let (load, settings) = (self.load_now(), &self.node.settings);
        load.commands >= settings.commit_commands_max.saturating_mul(COMMITS_AHEAD_MAX)
            || load.bytes >= settings.commit_bytes_max.saturating_mul(COMMITS_AHEAD_MAX)
    }

    /// Why a command is refused, for its caller.
    pub(super) fn overloaded(&self) -> String {
        let Load { commands, bytes } = self.load_now();
        format!(
            "partition {} has {commands} commands of {bytes} bytes under way, and its log does not keep up: try again",
            self.partition
        )
    }
}

/// Whether a command is taken on whatever the load is. Tasks that workers wait for are as few as these, and the workers' answers
/// are refused.
pub fn is_exempt(body: Option<&Body>) -> bool {
    matches!(body, Some(Body::StartWorkflowTask(_) | Body::StartActivityTask(_) | Body::ReturnTask(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Reply;
    use crate::partition::Failure;
    use crate::partition::fixture::{Fixture, commit, decided, outcome, start};

    #[test]
    fn commands_are_refused_while_commits_hang_and_taken_again_once_they_are_made() {
        let settings = Settings { commit_commands_max: 10, ..Settings::default() };
        let fixture = Fixture::new(1, settings);
        let (mut turns, mut background) = fixture.take_over(0);
        fixture.turn(0, &mut turns);
        while commit(&mut background) {
            fixture.turn(0, &mut turns);
        }
        let mut outcomes = Vec::new();
        for number in 0..100 {
            outcomes.push(fixture.send(&format!("w{number}"), start()));
            for _ in 0..3 {
                fixture.turn(0, &mut turns);
                fixture.clock.pass(100);
            }
        }
        let outcomes: Vec<_> = outcomes.iter().map(|sent| outcome(&fixture, &mut turns, sent)).collect();
        let taken = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Reply::Started { .. }))).count();
        assert!((30..=40).contains(&taken), "{taken} were taken");
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(Failure::Overloaded(_)))).count();
        assert_eq!(taken + refused, 100);

        while turns.core.is_overloaded() {
            commit(&mut background);
            fixture.turn(0, &mut turns);
        }
        let reply = decided(&fixture, &mut turns, "w99", start());
        assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
    }

    #[test]
    fn large_commands_count_by_their_bytes() {
        let settings = Settings { commit_bytes_max: 1 << 20, ..Settings::default() };
        assert!(Load { commands: 1, bytes: 1 << 20 }.fills_a_commit(&settings));
        assert!(!Load { commands: 1, bytes: (1 << 20) - 1 }.fills_a_commit(&settings));
    }
}
