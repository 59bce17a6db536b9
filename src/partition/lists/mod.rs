//! The lists of a partition: their readers, and [`Writer`], which keeps them up to date.

mod writer;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

pub(super) use self::writer::{Error as WriterError, Step, Update, Updates, Writer};
use crate::visibility::{Count, Error, Page, Projection, Query, Readers, merge::Source};

pub struct Lists {
    writer: Arc<Mutex<Projection>>,
    readers: Readers,
    current: watch::Sender<bool>,
}

impl Lists {
    pub(super) fn new(writer: Arc<Mutex<Projection>>) -> Self {
        let readers = writer.lock().expect("no code panics while it holds the projection").readers();
        Self { writer, readers, current: watch::Sender::new(false) }
    }

    /// For the writer alone: readers would hold it up.
    fn writer(&self) -> MutexGuard<'_, Projection> {
        self.writer.lock().expect("no code panics while it holds the projection")
    }

    /// Forgets all: it belongs to another log.
    pub(super) fn clear(&self) -> Result<(), Error> {
        self.writer().clear()
    }

    /// Waits until the lists show all that was committed before the partition was taken over here: later ones are some
    /// milliseconds behind the commits, as ever. False: they did not in time.
    pub async fn are_current(&self, timeout: Duration) -> bool {
        let mut current = self.current.subscribe();
        let waited = tokio::time::timeout(timeout, current.wait_for(|current| *current)).await;
        waited.is_ok_and(|current| current.is_ok())
    }

    fn set_current(&self, current: bool) {
        self.current.send_if_modified(|before| std::mem::replace(before, current) != current);
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
