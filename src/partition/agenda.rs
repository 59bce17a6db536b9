//! When records are due, and which tasks wait for workers: what both indexes of the store are in memory.

use super::Settings;
use super::backlog::Backlog;
use crate::store::Change;
use crate::timers::Timers;

pub struct Agenda {
    pub timers: Timers,
    pub backlog: Backlog,
}

impl Agenda {
    pub fn new(settings: &Settings) -> Self {
        Self { timers: Timers::new(settings.timers_in_memory), backlog: Backlog::new(settings.tasks_in_memory) }
    }

    /// What the next commit changes in the indexes.
    pub fn begin_commit(&mut self) -> impl Iterator<Item = Change> {
        self.timers.begin_commit().chain(self.backlog.begin_commit())
    }

    /// The store has what the last commit changed.
    pub fn committed(&mut self) {
        self.timers.committed();
        self.backlog.committed();
    }
}
