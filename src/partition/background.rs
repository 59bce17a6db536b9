//! What is done in the background of a partition's loop, as it waits for the log or would take long: commits, lists, and looks
//! how far the log has come. Threads do it in a server; a simulation does it piece by piece.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{Builder, JoinHandle};

use super::commit::{Commit, Committer};
use super::{Handle, Node, lists, reads};
use crate::log::Abandon;

pub(super) struct Background {
    pub node: Arc<Node>,
    pub partition: u32,
    /// Where the loop is notified of the outcomes.
    pub own: Handle,
    pub committer: Committer,
    pub commits: Receiver<Commit>,
    pub lists: lists::Writer,
    /// Each requests a look how far the log has come.
    pub looks: Receiver<()>,
}

/// The thread that makes a partition's commits.
pub(super) struct Commits {
    thread: JoinHandle<()>,
    abandon: Abandon,
}

impl Commits {
    /// Waits until the thread has ended, which it does once the loop has. The store is not in use then.
    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }

    /// The same for a partition that is lost: what is under way is not needed, and a log that does not answer must not hold up
    /// the next take-over.
    pub fn abandon(self) {
        (self.abandon)();
        let _ = self.join();
    }
}

impl Background {
    /// Starts the threads. They end with the loop.
    pub fn start(self) -> Commits {
        let Self { node, partition, own, committer, commits, lists, looks } = self;
        let thread = |what: &str| Builder::new().name(format!("{what}-{partition}"));
        let notified = own.clone();
        let look = move || looks.iter().for_each(|()| reads::look(&node, partition, &notified));
        thread("look").spawn(look).expect("the system can start a thread");
        let lists = thread("lists").spawn(move || lists.serve()).expect("the system can start a thread");
        let abandon = committer.abandon();
        let commit = move || {
            committer.serve(&commits, &own);
            let _ = lists.join();
        };
        Commits { thread: thread("commit").spawn(commit).expect("the system can start a thread"), abandon }
    }
}
