//! A partition that is not assigned to this node: it waits, and keeps its store warm if the settings say so.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::restore::{self, CatchUp, Until};
use super::{Envelope, Message, Node};
use crate::store::Store;

/// How often a warm store reads what its partition's owner has committed.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Returns when the partition is assigned to this node; false: the node stops.
pub fn wait_for_assignment(node: &Arc<Node>, partition: u32, receiver: &Receiver<Envelope>) -> bool {
    let mut warm = Warm::default();
    loop {
        let wait = if node.settings.standby { FOLLOW_EVERY } else { Duration::from_secs(3600) };
        match receiver.recv_timeout(wait) {
            Ok(Envelope { message: Message::Assign, .. }) => return true,
            Ok(Envelope { message: Message::Stop, .. }) | Err(RecvTimeoutError::Disconnected) => return false,
            // Whoever wanted something hears by its end that the partition is not here.
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if node.settings.standby => warm.follow(node, partition),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The store of a partition that another node owns.
#[derive(Default)]
struct Warm {
    open: Option<(Arc<dyn Store>, CatchUp)>,
    complained: bool,
}

impl Warm {
    fn follow(&mut self, node: &Node, partition: u32) {
        match self.catch_up(node, partition) {
            Ok(()) => self.complained = false,
            Err(error) => {
                self.open = None;
                if let restore::Error::Stale(_) = error {
                    let _ = node.stores.delete(partition);
                }
                if !self.complained {
                    tracing::warn!(partition, "the store can't be kept warm, and is tried again: {error}");
                }
                self.complained = true;
            }
        }
    }

    fn catch_up(&mut self, node: &Node, partition: u32) -> Result<(), restore::Error> {
        if self.open.is_none() {
            self.open = Some((node.stores.open(partition)?, CatchUp::default()));
        }
        if let Some((store, catch_up)) = &mut self.open {
            catch_up.run(node, partition, &**store, Until::Told)?;
        }
        Ok(())
    }
}
