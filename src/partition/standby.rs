//! A partition that is not assigned to this node: it waits, and keeps its store and its lists warm if the settings say so.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::restore::{self, CatchUp, Until};
use super::{Envelope, Message, Node, lists};
use crate::store::{self, Store};

/// How often a warm store reads what its partition's owner has committed.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Returns when the partition is assigned to this node; false: the node stops.
pub fn wait_for_assignment(node: &Arc<Node>, partition: u32, receiver: &Receiver<Envelope>) -> bool {
    let mut warm = Warm::default();
    let mut more = false;
    loop {
        let wait = match node.settings.standby {
            true if more => Duration::ZERO,
            true => FOLLOW_EVERY,
            false => Duration::from_secs(3600),
        };
        match receiver.recv_timeout(wait) {
            Ok(Envelope { message: Message::Assign, .. }) => return true,
            Ok(Envelope { message: Message::Stop, .. }) | Err(RecvTimeoutError::Disconnected) => return false,
            // Dropped, it notifies its caller that the partition is not here.
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if node.settings.standby => more = warm.follow(node, partition),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The store of a partition that another node owns, and its lists.
#[derive(Default)]
pub(super) struct Warm {
    open: Option<(Arc<dyn Store>, CatchUp)>,
    complained: bool,
}

impl Warm {
    /// Reads what the partition's owner has committed. True: the lists are still behind, and are to take their next part at once,
    /// unless the partition is assigned to this node meanwhile.
    pub(super) fn follow(&mut self, node: &Arc<Node>, partition: u32) -> bool {
        match self.catch_up(node, partition) {
            Ok(more) => {
                self.complained = false;
                more
            }
            Err(error) => {
                self.open = None;
                if let restore::Error::Stale(_) = error {
                    let _ = discard(node, partition);
                }
                if !self.complained {
                    tracing::warn!(partition, "the store can't be kept warm, and is tried again: {error}");
                }
                self.complained = true;
                false
            }
        }
    }

    fn catch_up(&mut self, node: &Arc<Node>, partition: u32) -> Result<bool, restore::Error> {
        let (store, catch_up) = match &mut self.open {
            Some(open) => open,
            none => {
                let store = node.stores.open(partition)?;
                // Commits are its owner's, so none are handed over.
                let (lists, _) = lists::Writer::new(node.clone(), partition, store.clone());
                none.insert((store, CatchUp::with(lists)))
            }
        };
        let positions = catch_up.run(node, partition, &**store, Until::Reported)?;
        let Some(lists) = &mut catch_up.lists else { return Ok(false) };
        lists.aim(positions.state, positions.state);
        let more = lists.catch_up().map_err(Box::new)?;
        if !more {
            lists.stay().map_err(Box::new)?;
        }
        Ok(more)
    }
}

/// Deletes a partition's store, which is not open, and what lists show by it.
pub(super) fn discard(node: &Node, partition: u32) -> Result<(), store::Error> {
    if let Err(error) = node.lists[partition as usize].clear() {
        tracing::warn!(partition, "lists can't be cleared: {error}");
    }
    node.stores.delete(partition)
}
