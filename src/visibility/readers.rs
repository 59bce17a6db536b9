//! Readers of a projection's file, beside its writer. A list can take long, and neither waits for the other.

use super::{Count, Error, Page, Query, Reader, merge::Source};
use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Connections that are kept open while there are no queries, for the next ones.
const IDLE_MAX: usize = 2;

/// Readers of one partition's file, each with a connection of its own: one for each that asks at the same time. They are opened
/// when they are wanted.
pub struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Reader>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Readers {
        Readers { path, idle: Mutex::default() }
    }

    /// A connection is taken out while it is used, so that nothing is locked meanwhile.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Reader) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle().pop();
        let reader = idle.map_or_else(|| Reader::open(&self.path), Ok)?;
        let answer = question(&reader);
        let works = answer.as_ref().err().is_none_or(Error::is_callers_fault);
        let mut idle = self.idle();
        if works && idle.len() < IDLE_MAX {
            idle.push(reader);
        }
        answer
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Readers {
    fn list(&self, query: &Query, page_size: usize, page_token: &[u8]) -> Result<Page, Error> {
        self.ask(|reader| reader.list(query, page_size, page_token))
    }

    fn count(&self, query: &Query) -> Result<Count, Error> {
        self.ask(|reader| reader.count(query))
    }
}
