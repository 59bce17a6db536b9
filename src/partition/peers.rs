//! The other nodes, as a partition needs them. A call to them may be lost: its caller retries, or can do without.

use std::collections::BTreeMap;

use super::PolledTask;
use crate::engine::{EntityId, Rejection, Shared};
use crate::matching::Query;
use crate::proto::commands::Command;

/// Called once with the outcome of a call; `Err`: it is not known.
pub type Done<T> = Box<dyn FnOnce(Result<T, String>) + Send>;

pub trait Peers: Send + Sync + 'static {
    /// Whether another node owns the partition, as far as this one knows.
    fn is_elsewhere(&self, partition: u32) -> bool;

    /// Whether all partitions have published the entities that every node must know of, since this node started.
    fn knows_all_shared(&self) -> bool;

    /// The newest version of the fold that every node is known to support; 0: some nodes' are not known.
    fn fold_version(&self) -> u32;

    /// Returns once this node knows all that was published, as far as the log had it when this was called. Blocks.
    fn catch_up_with_control(&self) -> Result<(), String>;

    /// This node has taken the partition over. `generation` is higher than that of any take-over before. `shared`: all that every node
    /// must know of the partition's entities.
    fn owned(&self, partition: u32, generation: i64, shared: BTreeMap<EntityId, Shared>);

    /// An entity has changed that every node must know of.
    fn publish(&self, id: &EntityId, shared: &Shared);

    /// Has a partition elsewhere decide a command: those to one partition in the order of the calls.
    fn decide(&self, partition: u32, command: &Command, done: Done<Result<(), Rejection>>);

    /// Has a partition elsewhere start a task for a poller here: none, if it is no longer available.
    fn start_task(&self, partition: u32, command: &Command, sticky: bool, done: Done<Option<PolledTask>>);

    /// Takes a query of a partition elsewhere for a poller here: none, if its caller has gone.
    fn take_query(&self, query: &Query, sticky: bool, done: Done<Option<PolledTask>>);
}

/// No other nodes.
pub struct Alone;

fn no_owner<T>(done: Done<T>) {
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

    fn catch_up_with_control(&self) -> Result<(), String> {
        Ok(())
    }

    fn owned(&self, _: u32, _: i64, _: BTreeMap<EntityId, Shared>) {}

    fn publish(&self, _: &EntityId, _: &Shared) {}

    fn decide(&self, _: u32, _: &Command, done: Done<Result<(), Rejection>>) {
        no_owner(done);
    }

    fn start_task(&self, _: u32, _: &Command, _: bool, done: Done<Option<PolledTask>>) {
        no_owner(done);
    }

    fn take_query(&self, _: &Query, _: bool, done: Done<Option<PolledTask>>) {
        no_owner(done);
    }
}
