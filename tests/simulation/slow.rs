//! Commits that are slower than decisions: what is decided gathers, until the partition takes nothing more on.

use crate::mutations::Mutation;

/// What a commit takes, about. Commands.
pub const COMMIT_COMMANDS_MAX: usize = 16;
/// Of so many chances to make a commit, one is taken.
pub const ONE_COMMIT_IN: usize = 40;

/// In a tenth of the worlds.
pub fn happens(seed: u64) -> bool {
    seed % 10 == 9
}

/// The nodes' setting of how much a commit takes.
pub fn commit_commands_max(mutation: Option<Mutation>) -> usize {
    if mutation == Some(Mutation::LoadUnbounded) { 1 << 20 } else { COMMIT_COMMANDS_MAX }
}
