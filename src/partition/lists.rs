//! The lists of a partition: the projection that its commits are written to, and who reads it.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::visibility::{Count, Error, Page, Projection, Query, Readers, merge::Source};

pub struct Lists {
    writer: Arc<Mutex<Projection>>,
    readers: Readers,
}

impl Lists {
    pub(super) fn new(writer: Arc<Mutex<Projection>>) -> Self {
        let readers = writer.lock().expect("no code panics while it holds the projection").readers();
        Self { writer, readers }
    }

    /// For commits alone: whoever reads would hold them up.
    pub(super) fn writer(&self) -> MutexGuard<'_, Projection> {
        self.writer.lock().expect("no code panics while it holds the projection")
    }
}

impl Source for Lists {
    fn list(&self, query: &Query, page_size: usize, page_token: &[u8]) -> Result<Page, Error> {
        self.readers.list(query, page_size, page_token)
    }

    fn count(&self, query: &Query) -> Result<Count, Error> {
        self.readers.count(query)
    }
}
