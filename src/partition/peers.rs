//! The other nodes, as a partition needs them. What is asked of them may be lost: whoever asks does so again, or has asked for
//! something that can be lost.

use std::collections::BTreeMap;

use super::PolledTask;
use crate::engine::{EntityId, Rejection, Shared};
use crate::matching::Query;
use crate::proto::commands::Command;

/// Hears once what came of what was asked; `Err`: nobody knows.
pub type Done<T> = Box<dyn FnOnce(Result<T, String>) + Send>;

pub trait Peers: Send + Sync + 'static {
    /// Whether another node owns the partition, as far as this one knows.
    fn is_elsewhere(&self, partition: u32) -> bool;

    /// Whether all partitions have published the entities that every node must know of, since this node started.
    fn knows_all_shared(&self) -> bool;

    /// The newest version of the fold that every node is known to decide; 0: nothing is known of some.
    fn fold_version(&self) -> u32;

    /// Returns once this node knows all that was published, as far as the log had it when this was called. Blocks.
    fn hear_all(&self) -> Result<(), String>;

    /// This node has taken the partition over. `generation` is higher than that of any take-over before. `shared`: all that every node
    /// must know of the partition's entities.
    fn owned(&self, partition: u32, generation: i64, shared: BTreeMap<EntityId, Shared>);

    /// An entity has changed that every node must know of.
    fn publish(&self, id: &EntityId, shared: &Shared);

    /// Has a partition elsewhere decide a command: those to one partition in the order of the calls.
    fn decide(&self, partition: u32, command: &Command, done: Done<Result<(), Rejection>>);

    /// Has a partition elsewhere start a task for a poller here: none, if it is not to be had any more.
    fn start_task(&self, partition: u32, command: &Command, sticky: bool, done: Done<Option<PolledTask>>);

    /// Takes a query of a partition elsewhere for a poller here: none, if nobody waits for its answer any more.
    fn take_query(&self, query: &Query, sticky: bool, done: Done<Option<PolledTask>>);
}

/// There are none.
pub struct Alone;

fn nobody<T>(done: Done<T>) {
    done(Err("the partition is not owned".into()));
}

impl Peers for Alone {
    fn is_elsewhere(&self, _: u32) -> bool {
        false
    }

    fn knows_all_shared(&self) -> bool {
        false
    }

    fn fold_version(&self) -> u32 {
        u32::MAX
    }

    fn hear_all(&self) -> Result<(), String> {
        Ok(())
    }

    fn owned(&self, _: u32, _: i64, _: BTreeMap<EntityId, Shared>) {}

    fn publish(&self, _: &EntityId, _: &Shared) {}

    fn decide(&self, _: u32, _: &Command, done: Done<Result<(), Rejection>>) {
        nobody(done);
    }

    fn start_task(&self, _: u32, _: &Command, _: bool, done: Done<Option<PolledTask>>) {
        nobody(done);
    }

    fn take_query(&self, _: &Query, _: bool, done: Done<Option<PolledTask>>) {
        nobody(done);
    }
}
