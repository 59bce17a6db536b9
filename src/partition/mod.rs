//! A partition: one loop that owns the state of its entities. [`workers`] run the loops of a node, with a thread for each core.
//!
//! Commands are appended to the log, decided in the log's order, and answered once they are durable and decided; every few
//! tens of milliseconds their outputs are committed in one transaction, and then written to the store. Decisions never
//! wait for a commit.
//!
//! [`Handle`] is how the rest of the node calls it; [`core::Core`] is what it owns; [`restore`] takes it over; [`commit`] makes
//! transactions of what was decided.

mod background;
mod backlog;
mod barrier;
mod batches;
mod commit;
mod copies;
mod core;
mod decide;
mod delete;
mod entities;
mod failure_depth;
mod fits;
#[cfg(test)]
pub(crate) mod fixture;
mod guard;
mod indexes;
mod lists;
mod load;
mod outgoing;
mod outlook;
mod peers;
mod position;
mod reads;
mod replies;
mod restore;
mod run_loop;
mod schedules;
mod standby;
mod stepped;
mod supervise;
mod version;
mod workers;
mod workflows;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::engine::{EntityId, FOLD_VERSION_MAX, FOLD_VERSION_MIN, Rejection, Reply};
use crate::environment::{Environment, System};
use crate::log::{self, Appended, Assignee, Log, Member, Topic};
use crate::matching::Matching;
use crate::proto::commands::Command;
use crate::registry::Registry;
use crate::shared::SharedEntities;
use crate::store::{Stores, rocks};
use crate::types::limits;
use crate::visibility::Projection;
use crate::wire::avro::Framing;

pub use self::batches::WantedPages;
pub use self::core::Core;
pub use self::lists::Lists;
pub use self::outlook::Outlook;
pub use self::peers::{Alone, Done, Peers};
pub use self::stepped::{Standby, Stepped};
use self::workers::{Waker, Workers};
pub use self::workflows::{
    Awaited, PAGE_BYTES, PolledTask, QUERY_WAIT_MS_MAX, QueryAnswer, QueryFailure, TakeTask, UpdateStatus,
    activity_task, workflow_task,
};

/// Why a command has no reply.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Decided, and refused.
    Rejected(Rejection),
    /// Not decided, as far as is known: it may still be decided. The same request may be sent again.
    Unavailable(String),
    /// Not appended, as too much is under way: the same request is to be sent again, a little later.
    Overloaded(String),
}

/// How long a partition that is assigned to another node may take to commit what it has. Then it is fenced.
const RELEASE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Called by the partition's loop with the outcome of a command.
pub type Decided = Box<dyn FnOnce(&mut Core, Result<Reply, Failure>) + Send>;
/// A read, served by the partition's loop once it has decided everything that was acknowledged when the read came.
pub type Read = Box<dyn FnOnce(&mut Core) + Send>;

/// A command on its way into the log.
pub struct Request {
    pub command: Command,
    pub decided: Option<Decided>,
    /// Its size as a record, once it is appended.
    bytes: usize,
}

enum Message {
    Command(Box<Request>),
    Read(Read),
    Visit(Read),
    /// An offset that the commands have reached.
    Reached(i64),
    Appended {
        outcome: Result<Vec<Appended>, log::Error>,
    },
    Committed {
        generation: u64,
        outcome: Result<(), commit::CommitError>,
    },
    Acknowledged {
        target: u32,
        sequence: i64,
        delivered: bool,
    },
    /// The partition is assigned to this node.
    Assign,
    /// The partition is revoked from this node. The sender is dropped once it is released.
    Release(Sender<()>),
    Stop,
}

/// What all partitions of a node share.
pub struct Node {
    pub log: Arc<dyn Log>,
    pub matching: Arc<Matching>,
    pub shared: SharedEntities,
    pub environment: Arc<dyn Environment>,
    pub stores: Arc<dyn Stores>,
    pub settings: Settings,
    pub lists: Vec<Arc<Lists>>,
    pub peers: Arc<dyn Peers>,
    pub wanted_pages: WantedPages,
    handles: Vec<Handle>,
    /// The next command that each partition will decide; -1 while it is not owned.
    positions: Vec<AtomicI64>,
    /// Whether each partition has been owned here, and has published its entities.
    known: Vec<AtomicBool>,
    /// Take-overs so far.
    incarnations: AtomicU64,
    /// Held while a command is decided alone.
    alone: Mutex<()>,
    /// Held while a part of a partition's lists is built from its store.
    building: Mutex<()>,
    /// The partitions that make commits now.
    busy_partitions: AtomicU32,
    /// Why this node can't take part any more, and its notification.
    failure: OnceLock<String>,
    failed: Notify,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub node: log::Node,
    /// Whether stores are kept warm of partitions that other nodes own.
    pub standby: bool,
    /// How long outputs are gathered before they are committed; longer where more than four partitions of a node are busy.
    pub commit_interval: Duration,
    /// What one commit takes, about: if there is more, it is made at once, and with four times as much under way the
    /// partition refuses commands. Commands, and bytes of them and their outputs.
    pub commit_commands_max: usize,
    pub commit_bytes_max: usize,
    /// Committed commands are deleted once in so many commits, but for so many of them.
    pub trim_every: u64,
    pub commands_kept: i64,
    /// Changes of lists that wait to be written, at most. What comes then is read from the changelog, where each run counts once.
    pub list_changes_max: usize,
    /// Batches of history, and records, that one decision deletes of a run: the commands carry it. The rest follows, one such
    /// part after the other.
    pub deleted_at_once: u32,
    /// Bytes of events that one decision copies of a history with which a run begins again: the commands carry it. What is longer is copied
    /// part by part.
    pub copied_at_once: u32,
    /// Memory for what a node keeps of its partitions' state: half for entities, half for what the stores read and write.
    /// Bytes.
    pub cache_bytes: usize,
    /// Timers that each partition has in memory, about; the others are read from its store when their time comes near.
    pub timers_in_memory: usize,
    /// Tasks of each task queue that each partition has in memory and offers, about; the others are read from its store when
    /// these have been taken.
    pub tasks_in_memory: usize,
    /// Topics that requests may name for their answers.
    pub reply_topics: Vec<Topic>,
    /// Namespace and task queue of the activities whose tasks are published to `activity-tasks`.
    pub published_queues: BTreeSet<(String, String)>,
    /// How public records are framed.
    pub framing: Framing,
    /// Resolves the schema of a record that has only an id.
    pub registry: Option<Arc<Registry>>,
    /// From how many events on a workflow task suggests to its workflow to continue as new.
    pub history_count_suggest: i64,
    /// The largest record that the log takes, in bytes: less than its own limit only in tests.
    pub record_bytes_max: usize,
    /// The versions of the fold that this node decides by: less than the binary's only in tests.
    pub fold_versions: RangeInclusive<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: log::Node { id: "millrace".into(), session_timeout: Duration::from_secs(10) },
            standby: false,
            commit_interval: Duration::from_millis(50),
            commit_commands_max: 4000,
            commit_bytes_max: 16 << 20,
            trim_every: 600,
            commands_kept: 10_000,
            list_changes_max: 20_000,
            deleted_at_once: limits::DELETED_AT_ONCE,
            copied_at_once: limits::COPIED_AT_ONCE,
            cache_bytes: 512 << 20,
            timers_in_memory: 20_000,
            tasks_in_memory: 2_000,
            reply_topics: Vec::new(),
            published_queues: BTreeSet::new(),
            framing: Framing::default(),
            registry: None,
            history_count_suggest: limits::HISTORY_COUNT_SUGGEST,
            record_bytes_max: log::RECORD_BYTES_MAX,
            fold_versions: FOLD_VERSION_MIN..=FOLD_VERSION_MAX,
        }
    }
}

/// Sends messages to a partition, from any thread.
#[derive(Clone)]
pub struct Handle {
    sender: Sender<Envelope>,
    /// Which take-over of the partition this belongs to; 0: the present one.
    incarnation: u64,
    waker: Arc<Waker>,
}

/// What comes for a partition.
pub struct Inbox(Receiver<Envelope>);

/// A message, and the take-over that it is for: the outcome of what one has begun must not reach the next.
struct Envelope {
    incarnation: u64,
    message: Message,
}

impl Handle {
    /// Appends a command; `decided` is called with its outcome.
    pub fn command(&self, command: Command, decided: Decided) {
        self.send(Message::Command(Box::new(Request { command, decided: Some(decided), bytes: 0 })));
    }

    pub fn read(&self, read: Read) {
        self.send(Message::Read(read));
    }

    /// Runs in the partition's loop at once: it must not return the state of an entity, as a read does.
    pub fn visit(&self, visit: Read) {
        self.send(Message::Visit(visit));
    }

    fn send(&self, message: Message) {
        // A partition that has stopped drops its callers' channels, which notifies them.
        let _ = self.sender.send(Envelope { incarnation: self.incarnation, message });
        self.waker.wake();
    }
}

/// The partitions of this process: those that it owns run, the others wait until they are assigned to it.
pub struct Partitions {
    pub node: Arc<Node>,
    threads: Vec<std::thread::JoinHandle<()>>,
    member: Option<Box<dyn Member>>,
}

impl Partitions {
    /// A node without others.
    pub fn start(log: Arc<dyn Log>, data_dir: PathBuf, settings: Settings) -> anyhow::Result<Self> {
        let mut partitions = Self::prepare(log, data_dir, Arc::new(System), settings, Arc::new(Alone))?;
        partitions.join()?;
        Ok(partitions)
    }

    /// Makes a node that owns nothing before it has [joined](Self::join) the others.
    pub fn prepare(
        log: Arc<dyn Log>,
        data_dir: PathBuf,
        environment: Arc<dyn Environment>,
        settings: Settings,
        peers: Arc<dyn Peers>,
    ) -> anyhow::Result<Self> {
        let mut projections = Vec::new();
        for partition in 0..log.partitions() {
            let path = data_dir.join(format!("p{partition}"));
            std::fs::create_dir_all(&path)?;
            projections.push(Arc::new(Mutex::new(Projection::open(&path.join("visibility.sqlite"))?)));
        }
        let stores = Arc::new(rocks::Directory::new(data_dir, settings.cache_bytes / 2));
        let (node, inboxes) = Node::new(log, stores, projections, environment, settings, peers);
        let workers = Arc::new(Workers::start()?);
        let spawn = |(partition, inbox): (usize, Inbox)| {
            let (node, workers) = (node.clone(), workers.clone());
            let thread = std::thread::Builder::new().name(format!("partition-{partition}"));
            thread.spawn(move || supervise::supervise(&node, &workers, partition as u32, inbox))
        };
        let threads = inboxes.into_iter().enumerate().map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { node, threads, member: None })
    }

    /// Takes part: partitions are assigned to this node. Returns at once; each answers when it has caught up.
    pub fn join(&mut self) -> Result<(), log::Error> {
        let assignee = Arc::new(Assignment { node: Arc::downgrade(&self.node) });
        self.member = Some(self.node.log.join(&self.node.settings.node, assignee)?);
        Ok(())
    }

    /// Commits what is pending and ends the partitions.
    pub fn stop(self) {
        for handle in &self.node.handles {
            handle.stop();
        }
        for thread in self.threads {
            let _ = thread.join();
        }
        drop(self.member);
    }
}

/// Hands on assignments and revocations.
struct Assignment {
    node: Weak<Node>,
}

impl Assignment {
    /// Has partitions released. The channel that it returns is closed when they are.
    fn release(&self, partitions: &[u32]) -> Receiver<()> {
        let (sender, released) = channel();
        let Some(node) = self.node.upgrade() else { return released };
        if !partitions.is_empty() {
            tracing::info!(?partitions, "revoked");
        }
        for handle in partitions.iter().filter_map(|partition| node.handles.get(*partition as usize)) {
            handle.send(Message::Release(sender.clone()));
        }
        released
    }
}

impl Assignee for Assignment {
    fn assigned(&self, partitions: &[u32]) {
        let Some(node) = self.node.upgrade() else { return };
        if !partitions.is_empty() {
            tracing::info!(?partitions, "assigned");
        }
        // Partitions that were added since are owned by nodes that were started since.
        for handle in partitions.iter().filter_map(|partition| node.handles.get(*partition as usize)) {
            handle.send(Message::Assign);
        }
    }

    fn revoked(&self, partitions: &[u32]) {
        // Nothing is sent: this ends when all are released.
        let _ = self.release(partitions).recv_timeout(RELEASE_WAIT_MAX);
    }

    fn lost(&self, partitions: &[u32]) {
        drop(self.release(partitions));
    }

    fn failed(&self, error: log::Error) {
        tracing::error!("this node owns nothing any more: {error}");
        let Some(node) = self.node.upgrade() else { return };
        let _ = node.failure.set(error.to_string());
        node.failed.notify_one();
        for handle in &node.handles {
            handle.send(Message::Release(channel().0));
        }
    }
}

impl Node {
    /// A node whose partitions do not run yet, with the inbox of each.
    pub fn new(
        log: Arc<dyn Log>,
        stores: Arc<dyn Stores>,
        projections: Vec<Arc<Mutex<Projection>>>,
        environment: Arc<dyn Environment>,
        settings: Settings,
        peers: Arc<dyn Peers>,
    ) -> (Arc<Self>, Vec<Inbox>) {
        let (handles, inboxes): (Vec<_>, Vec<_>) = (0..log.partitions())
            .map(|_| {
                let (sender, receiver) = channel();
                (Handle { sender, incarnation: 0, waker: Arc::default() }, Inbox(receiver))
            })
            .unzip();
        let node = Node {
            matching: Matching::new(environment.clone()),
            log,
            peers,
            wanted_pages: WantedPages::default(),
            shared: SharedEntities::default(),
            environment,
            stores,
            settings,
            lists: projections.into_iter().map(|projection| Arc::new(Lists::new(projection))).collect(),
            positions: handles.iter().map(|_| AtomicI64::new(-1)).collect(),
            known: handles.iter().map(|_| AtomicBool::new(false)).collect(),
            incarnations: AtomicU64::new(0),
            alone: Mutex::default(),
            building: Mutex::default(),
            busy_partitions: AtomicU32::new(0),
            failure: OnceLock::new(),
            failed: Notify::new(),
            handles,
        };
        (Arc::new(node), inboxes)
    }

    /// Waits until this node can't take part any more, and returns why.
    pub async fn has_failed(&self) -> String {
        self.failed.notified().await;
        self.failure.get().cloned().unwrap_or_default()
    }

    /// The wall clock, in milliseconds since the Unix epoch.
    pub fn clock_ms(&self) -> i64 {
        self.environment.clock_ms()
    }

    /// A clock that only goes forward.
    pub fn now(&self) -> Instant {
        self.environment.now()
    }

    pub fn random(&self) -> u64 {
        self.environment.random()
    }

    /// A new random id.
    pub fn new_id(&self) -> String {
        crate::types::uuid_from(self.random(), self.random())
    }

    pub fn partitions(&self) -> u32 {
        self.handles.len() as u32
    }

    pub fn partition(&self, partition: u32) -> &Handle {
        &self.handles[partition as usize]
    }

    /// What each of the partitions that are owned here may take of the memory for entities. Bytes.
    fn entity_bytes_max(&self) -> usize {
        let owned = (0..self.partitions()).filter(|partition| self.position(*partition).is_some()).count();
        self.settings.cache_bytes / 2 / owned.max(1)
    }

    /// The next command that a partition will decide, if it is owned here.
    pub fn position(&self, partition: u32) -> Option<i64> {
        let position = self.positions.get(partition as usize)?.load(Ordering::Relaxed);
        Some(position).filter(|position| *position >= 0)
    }

    /// Whether an entity that is not among [`shared`](Self::shared) does not exist: not known before all partitions have been
    /// restored once, here or elsewhere.
    pub fn knows_all_shared(&self) -> bool {
        self.known.iter().all(|known| known.load(Ordering::Acquire)) || self.peers.knows_all_shared()
    }

    /// Whether another node owns the partition, as far as this one knows.
    pub fn is_elsewhere(&self, partition: u32) -> bool {
        self.position(partition).is_none() && self.peers.is_elsewhere(partition)
    }

    /// Has a partition decide a command, wherever it is owned.
    pub fn decide_anywhere(&self, partition: u32, command: Command, done: Done<Result<(), Rejection>>) {
        if self.is_elsewhere(partition) {
            return self.peers.decide(partition, &command, done);
        }
        let decided = move |_: &mut Core, outcome| {
            done(match outcome {
                Ok(_) => Ok(Ok(())),
                Err(Failure::Rejected(rejection)) => Ok(Err(rejection)),
                Err(Failure::Unavailable(reason) | Failure::Overloaded(reason)) => Err(reason),
            });
        };
        self.partition(partition).command(command, Box::new(decided));
    }

    /// A handle for the messages of a new take-over of a partition to itself.
    fn incarnate(&self, partition: u32) -> Handle {
        let incarnation = self.incarnations.fetch_add(1, Ordering::Relaxed) + 1;
        Handle { incarnation, ..self.partition(partition).clone() }
    }

    /// The partition of an entity.
    pub fn partition_of(&self, entity: &EntityId) -> u32 {
        entity.partition(self.partitions())
    }

    /// The handle of an entity's partition.
    pub fn owner_of(&self, entity: &EntityId) -> &Handle {
        self.partition(self.partition_of(entity))
    }
}
