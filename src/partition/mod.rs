//! A partition: one thread that owns the state of its workflows.
//!
//! Commands are appended to the log, decided in the log's order, and answered once they are durable and decided; every few
//! tens of milliseconds their outputs are committed in one transaction, and then written to the store. Decisions never
//! wait for a commit.
//!
//! [`Handle`] is how the rest of the node speaks to it; [`core::Core`] is what it owns; [`restore`] brings it up; [`commit`]
//! makes transactions of what was decided.

mod answer;
mod beside;
mod commit;
mod core;
mod decide;
mod entities;
mod for_topics;
mod observe;
mod outgoing;
mod queries;
mod reads;
mod restore;
mod run_loop;
mod stepped;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine::{Rejection, Reply};
use crate::environment::{Environment, System};
use crate::log::{self, Appended, Log, Topic};
use crate::matching::Matching;
use crate::namespaces::Namespaces;
use crate::proto::commands::Command;
use crate::store::{Stores, rocks};
use crate::visibility::Projection;

pub use self::answer::{PAGE_BYTES, activity_task, page_token, query_task, token, transient_events, workflow_task};
pub use self::core::Core;
pub use self::entities::EntityKey;
pub use self::queries::{QueryAnswer, QueryFailure};
pub use self::stepped::Stepped;

/// Why a command has no reply.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Decided, and refused.
    Rejected(Rejection),
    /// Not decided, as far as is known: it may be decided yet. The same request may be sent again.
    Unavailable(String),
}

/// Called by the partition's thread with what came of a command.
pub type Decided = Box<dyn FnOnce(&mut Core, Result<Reply, Failure>) + Send>;
/// A read, served by the partition's thread once it has decided everything that stood in the log when the read came.
pub type Read = Box<dyn FnOnce(&mut Core) + Send>;

/// A command on its way into the log.
pub struct Request {
    pub command: Command,
    pub decided: Option<Decided>,
}

enum Message {
    Command(Box<Request>),
    Read(Read),
    Visit(Read),
    /// Where the commands end, for reads.
    End(Result<i64, String>),
    Appended {
        outcome: Result<Vec<Appended>, log::Error>,
    },
    Committed {
        generation: u64,
        outcome: Result<(), String>,
    },
    Acknowledged {
        target: u32,
        sequence: i64,
        delivered: bool,
    },
    Stop,
}

/// What all partitions of a node share.
pub struct Node {
    pub log: Arc<dyn Log>,
    pub matching: Arc<Matching>,
    pub namespaces: Namespaces,
    pub environment: Arc<dyn Environment>,
    pub stores: Arc<dyn Stores>,
    pub settings: Settings,
    pub projections: Vec<Arc<Mutex<Projection>>>,
    handles: Vec<Handle>,
    /// The next command that each partition will decide; -1 while it is not owned.
    positions: Vec<AtomicI64>,
    /// Whether each partition has been owned here, and has told what it knows.
    known: Vec<AtomicBool>,
    /// Take-overs so far.
    incarnations: AtomicU64,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// How long outputs wait for company before they are committed.
    pub commit_interval: Duration,
    /// Workflows kept in memory, per partition.
    pub cached_workflows: usize,
    /// Memory for the blocks of each partition's store. Bytes.
    pub store_cache_bytes: usize,
    /// Topics that requests may name for their answers.
    pub reply_topics: Vec<Topic>,
    /// Namespace and task queue of the activities whose tasks are published to `activity-tasks`.
    pub published_queues: BTreeSet<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(50),
            cached_workflows: 10_000,
            store_cache_bytes: 64 << 20,
            reply_topics: Vec::new(),
            published_queues: BTreeSet::new(),
        }
    }
}

/// Speaks to a partition, from any thread.
#[derive(Clone)]
pub struct Handle {
    sender: Sender<Envelope>,
    /// Which take-over of the partition this belongs to; 0: whichever there is.
    incarnation: u64,
}

/// What comes for a partition.
pub struct Inbox(Receiver<Envelope>);

/// A message, and the take-over that it is for: what one has begun, the next must not hear the end of.
struct Envelope {
    incarnation: u64,
    message: Message,
}

impl Handle {
    /// Appends a command; `decided` hears what came of it.
    pub fn command(&self, command: Command, decided: Decided) {
        self.send(Message::Command(Box::new(Request { command, decided: Some(decided) })));
    }

    pub fn read(&self, read: Read) {
        self.send(Message::Read(read));
    }

    /// Does something on the partition's thread that tells nobody how a workflow is: it waits for nothing.
    pub fn visit(&self, visit: Read) {
        self.send(Message::Visit(visit));
    }

    fn send(&self, message: Message) {
        // A partition that has stopped drops its callers' channels, which tells them.
        let _ = self.sender.send(Envelope { incarnation: self.incarnation, message });
    }
}

/// The running partitions of this process.
pub struct Partitions {
    pub node: Arc<Node>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Partitions {
    /// Starts all partitions of the log. Returns at once; each answers when it has caught up.
    pub fn start(log: Arc<dyn Log>, data_dir: PathBuf, settings: Settings) -> anyhow::Result<Self> {
        let mut projections = Vec::new();
        for partition in 0..log.partitions() {
            let path = data_dir.join(format!("p{partition}"));
            std::fs::create_dir_all(&path)?;
            projections.push(Projection::open(&path.join("visibility.sqlite"))?);
        }
        let stores = Arc::new(rocks::Directory::new(data_dir, settings.store_cache_bytes));
        let (node, inboxes) = Node::new(log, stores, projections, Arc::new(System), settings);
        let spawn = |(partition, inbox): (usize, Inbox)| {
            let node = node.clone();
            let thread = std::thread::Builder::new().name(format!("partition-{partition}"));
            thread.spawn(move || run_loop::supervise(&node, partition as u32, &inbox.0))
        };
        let threads = inboxes.into_iter().enumerate().map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { node, threads })
    }

    /// Commits what is pending and ends the partitions.
    pub fn stop(self) {
        for handle in &self.node.handles {
            handle.stop();
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

impl Node {
    /// A node whose partitions nobody runs yet, with what comes for each of them.
    pub fn new(
        log: Arc<dyn Log>,
        stores: Arc<dyn Stores>,
        projections: Vec<Projection>,
        environment: Arc<dyn Environment>,
        settings: Settings,
    ) -> (Arc<Self>, Vec<Inbox>) {
        let (handles, inboxes): (Vec<_>, Vec<_>) = (0..log.partitions())
            .map(|_| {
                let (sender, receiver) = channel();
                (Handle { sender, incarnation: 0 }, Inbox(receiver))
            })
            .unzip();
        let node = Node {
            log,
            matching: Matching::new(environment.clone()),
            namespaces: Namespaces::default(),
            environment,
            stores,
            settings,
            projections: projections.into_iter().map(|projection| Arc::new(Mutex::new(projection))).collect(),
            positions: handles.iter().map(|_| AtomicI64::new(-1)).collect(),
            known: handles.iter().map(|_| AtomicBool::new(false)).collect(),
            incarnations: AtomicU64::new(0),
            handles,
        };
        (Arc::new(node), inboxes)
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

    /// The next command that a partition will decide, if it is owned here.
    pub fn position(&self, partition: u32) -> Option<i64> {
        Some(self.positions[partition as usize].load(Ordering::Relaxed)).filter(|position| *position >= 0)
    }

    /// Whether a namespace that is not among [`namespaces`](Self::namespaces) does not exist: before all partitions have
    /// been restored once, nobody knows.
    pub fn knows_all_namespaces(&self) -> bool {
        self.known.iter().all(|known| known.load(Ordering::Acquire))
    }

    /// A handle for what a new take-over of a partition tells itself.
    fn incarnate(&self, partition: u32) -> Handle {
        let incarnation = self.incarnations.fetch_add(1, Ordering::Relaxed) + 1;
        Handle { sender: self.partition(partition).sender.clone(), incarnation }
    }

    /// The partition that owns a workflow, or a namespace if the workflow id is empty.
    pub fn owner_of(&self, namespace_id: &str, workflow_id: &str) -> &Handle {
        self.partition(crate::types::partition_of(namespace_id, workflow_id, self.partitions()))
    }
}
