//! When records are due, which tasks wait for workers, and which entities every node must know: the store's indexes, in memory.

use super::Settings;
use super::backlog::Backlog;
use crate::store::Change;
use crate::store::index::Unwritten;
use crate::timers::Timers;

pub struct Indexes {
    pub timers: Timers,
    pub backlog: Backlog,
    /// Read only when the partition is taken over.
    pub shared: Unwritten,
}

impl Indexes {
    pub fn new(settings: &Settings) -> Self {
        Self {
            timers: Timers::new(settings.timers_in_memory),
            backlog: Backlog::new(settings.tasks_in_memory),
            shared: Unwritten::default(),
        }
    }

    /// What the next commit changes in the indexes.
    pub fn begin_commit(&mut self) -> impl Iterator<Item = Change> {
        self.timers.begin_commit().chain(self.backlog.begin_commit()).chain(self.shared.begin_commit())
    }

    /// The store has what the last commit changed.
    pub fn committed(&mut self) {
        self.timers.committed();
        self.backlog.committed();
        self.shared.committed();
    }
}
