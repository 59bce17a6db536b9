//! The nodes that share a log's partitions: which node owns which partition, and how to call the others.
//!
//! Partitions are assigned by the log ([`Log::join`]), and ownership is decided by fencing. Here is only what makes a node useful
//! for partitions that it does not own: each owner publishes its address on `control`, every node reads that, and calls the
//! owner. What it knows may be out of date: a former owner refuses, or can't commit.
//!
//! # Calls between nodes
//!
//! All calls go through a [`tunnel`]: [`Link`] has the calling side, [`answers`] the answering one. Both sides of a call are in
//! one file.
//!
//! | file | call | caller |
//! |---|---|---|
//! | `forward` | a call of the API, for a partition of the other node's | the edge |
//! | `decide` | commands to partitions of the other node's | partitions and ingress, as [`OverGrpc`] |
//! | `tasks` | tasks and queries of the other node's, for pollers of this one's | polls, as [`OverGrpc`] |
//! | `announce` | tasks that wait for pollers elsewhere, and queues that are polled here | [`matching`](crate::matching) |
//! | `lists` | lists and counts of the workflows of the other node's partitions | the edge |
//! | `queues` | a queue's pollers there, and what waits in it | the edge |
//!
//! What nodes publish about themselves is read from `control`.

mod announce;
mod answers;
mod control;
mod decide;
mod fan_out;
mod forward;
mod link;
pub mod lists;
mod messages;
mod peers;
pub mod queues;
mod tasks;
mod tunnel;
mod versions;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use tonic::Status;

use crate::engine::EntityId;
use crate::log::Log;
use crate::partition::{Node, Settings};
use crate::proto::cluster::Owner;

pub use answers::{Api, serve};
pub use forward::moved;
pub use link::Link;
pub use peers::OverGrpc;

/// The cluster, as one node sees it.
pub struct Cluster {
    node_id: String,
    /// Where the others reach this node: HOST:PORT.
    address: String,
    log: Arc<dyn Log>,
    runtime: tokio::runtime::Handle,
    /// By partition.
    owners: ArcSwap<Vec<Option<Owner>>>,
    /// Whether `control` has been read to the end that it had at this node's start.
    caught_up: AtomicBool,
    /// The revisions of entities that stand on `control`.
    published: Mutex<HashMap<EntityId, i64>>,
    /// How far `control` has been read.
    read_to: AtomicI64,
    /// How often a search for the end of `control` was begun, and the result of the last one.
    ends_asked: AtomicU64,
    end: Mutex<(u64, i64)>,
    links: Mutex<HashMap<String, Arc<Link>>>,
    versions: versions::Versions,
    /// The newest version of the fold that this node decides.
    fold_version_max: u32,
}

impl Cluster {
    /// Must be called in a Tokio runtime, on which the others are called.
    pub fn new(log: Arc<dyn Log>, settings: &Settings, address: &str) -> Arc<Self> {
        let owners = vec![None; log.partitions() as usize];
        Arc::new(Self {
            node_id: settings.node.id.clone(),
            address: address.to_owned(),
            log,
            runtime: tokio::runtime::Handle::current(),
            owners: ArcSwap::from_pointee(owners),
            caught_up: AtomicBool::new(false),
            published: Mutex::default(),
            read_to: AtomicI64::new(0),
            ends_asked: AtomicU64::new(0),
            end: Mutex::default(),
            links: Mutex::default(),
            versions: versions::Versions::default(),
            fold_version_max: *settings.fold_versions.end(),
        })
    }

    /// Begins to read `control`, and to announce this node's tasks and pollers to the others.
    pub fn start(self: &Arc<Self>, node: &Arc<Node>) -> std::io::Result<()> {
        control::start(self, node)?;
        self.publish_node();
        announce::start(self, node);
        versions::start(self, node);
        Ok(())
    }

    /// The link to a partition's owner, if that is another node.
    pub fn owner(&self, partition: u32) -> Option<Arc<Link>> {
        let owners = self.owners.load();
        let owner = owners.get(partition as usize)?.as_ref()?;
        (owner.node_id != self.node_id).then(|| self.link(&owner.address))
    }

    /// The links to all other owners.
    pub fn others(&self) -> Vec<Arc<Link>> {
        self.addresses_of_others().iter().map(|address| self.link(address)).collect()
    }

    fn addresses_of_others(&self) -> Vec<Arc<str>> {
        let owners = self.owners.load();
        let others = owners.iter().flatten().filter(|owner| owner.node_id != self.node_id);
        let addresses: BTreeSet<&str> = others.map(|owner| owner.address.as_str()).collect();
        addresses.into_iter().map(Arc::from).collect()
    }

    /// The link to the node at an address.
    pub fn link(&self, address: &str) -> Arc<Link> {
        let mut links = self.links.lock().expect("no code panics while it holds the links");
        let link = links.entry(address.to_owned());
        link.or_insert_with(|| Arc::new(Link::new(address, &self.runtime))).clone()
    }

    /// Whether this revision of an entity, or a later one, stands on `control`.
    pub fn has_published(&self, id: &EntityId, revision: i64) -> bool {
        self.published().get(id).is_some_and(|published| *published >= revision)
    }

    fn published(&self) -> MutexGuard<'_, HashMap<EntityId, i64>> {
        self.published.lock().expect("no code panics while it holds what is published")
    }

    fn has_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }
}

/// Why a partition of this node's gives no answer.
fn taken_over() -> Status {
    Status::unavailable("the partition is being taken over")
}
