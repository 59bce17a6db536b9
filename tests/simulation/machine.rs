//! A machine: its disk and its clock, and the node's process that runs on it now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use millrace::engine::{EntityId, FOLD_VERSION_MIN, Shared};
use millrace::grpc::Service;
use millrace::ingress::{Feed, Reading};
use millrace::log::Topic;
use millrace::partition::{Handle, Inbox, Node, Settings, Standby, Stepped};
use millrace::proto::state::Namespace;
use prost::Message as _;

use crate::broker::{Broker, REPLIES};
use crate::clock::{Clock, Simulated};
use crate::connection::{Client, Connection, Network};
use crate::disk::{Disk, Mounted};
use crate::large;
use crate::life::Life;
use crate::mutations::Mutation;
use crate::peers::{Known, Owners};
use crate::random::Rng;
use crate::slow;
use crate::workers::NAMESPACE;

pub const NAMESPACE_ID: &str = "n";
/// How long closed runs are kept: a clock that jumps far gets there.
const RETENTION_MS: i64 = 24 * 3600 * 1000;

pub struct Machine {
    pub number: usize,
    pub clock: Arc<Clock>,
    pub disk: Arc<Disk>,
    pub process: Option<Process>,
}

/// A node's process.
pub struct Process {
    pub life: Arc<Life>,
    pub connection: Arc<Connection>,
    pub owners: Arc<Owners>,
    pub machine: usize,
    pub node: Arc<Node>,
    pub service: Service,
    inboxes: Vec<Inbox>,
    /// The partitions that it owns, as far as it knows.
    owned: Vec<Option<Stepped>>,
    /// Of the others.
    standbys: Vec<Standby>,
    feeds: Vec<(Feed, Option<Reading>)>,
}

/// What all processes of a simulation have in common.
pub struct Cluster {
    pub broker: Arc<Broker>,
    pub network: Arc<Network>,
    pub owners: Arc<Owners>,
    pub begun: Instant,
    pub binaries: Arc<Binaries>,
    pub mutation: Option<Mutation>,
}

/// The newest version of the fold that each machine's binary knows.
pub struct Binaries(Vec<AtomicU32>);

impl Binaries {
    pub fn new(machines: usize, newest: u32) -> Self {
        Self((0..machines).map(|_| AtomicU32::new(newest)).collect())
    }

    pub fn newest(&self, machine: usize) -> u32 {
        self.0[machine].load(Ordering::Relaxed)
    }

    /// Counts for the processes that are started from then on.
    pub fn install(&self, machine: usize, newest: u32) {
        self.0[machine].store(newest, Ordering::Relaxed);
    }

    pub fn of_all(&self) -> u32 {
        self.0.iter().map(|newest| newest.load(Ordering::Relaxed)).min().unwrap_or_default()
    }
}

pub fn settings() -> Settings {
    Settings {
        commit_interval: Duration::from_millis(20),
        trim_every: 4,
        commands_kept: 3,
        list_changes_max: 3,
        deleted_at_once: 4,
        copied_at_once: 300,
        // Of three workflows or so.
        cache_bytes: 48 << 10,
        timers_in_memory: 4,
        tasks_in_memory: 2,
        reply_topics: vec![REPLIES],
        record_bytes_max: large::BYTES_MAX,
        commit_commands_max: slow::COMMIT_COMMANDS_MAX,
        ..Settings::default()
    }
}

pub fn namespace() -> Namespace {
    let (id, name) = (NAMESPACE_ID.into(), NAMESPACE.into());
    Namespace { id, name, retention_ms: RETENTION_MS, state: 1, revision: 1, ..Namespace::default() }
}

impl Process {
    pub fn start(cluster: &Cluster, machine: &Machine, rng: &Rng) -> Self {
        let settings = Settings {
            record_bytes_max: large::believed(cluster.mutation),
            commit_commands_max: slow::commit_commands_max(cluster.mutation),
            ..settings()
        };
        Self::start_with(settings, cluster, machine, rng)
    }

    pub fn start_with(settings: Settings, cluster: &Cluster, machine: &Machine, rng: &Rng) -> Self {
        let Cluster { broker, network, owners, begun, binaries, mutation } = cluster;
        let life = Arc::new(Life::default());
        let connection = Connection::new(broker.clone(), network.clone(), life.clone(), rng.fork(), *mutation);
        let stores = Mounted {
            disk: machine.disk.clone(),
            life: life.clone(),
            network: network.clone(),
            rng: Arc::new(rng.fork()),
            mutation: *mutation,
        };
        let environment = Simulated {
            clock: machine.clock.clone(),
            begun: *begun,
            rng: rng.fork(),
            stuck: *mutation == Some(Mutation::RandomStuck),
        };
        let (node, inboxes) = Node::new(
            Arc::new(Client(connection.clone())),
            Arc::new(stores),
            (0..broker.partitions).map(|partition| machine.disk.lists(partition)).collect(),
            Arc::new(environment),
            Settings { fold_versions: FOLD_VERSION_MIN..=binaries.newest(machine.number), ..settings },
            Arc::new(Known {
                owners: owners.clone(),
                machine: machine.number,
                binaries: binaries.clone(),
                mutation: *mutation,
            }),
        );
        let namespace = namespace();
        let shared = Shared { revision: namespace.revision, value: namespace.encode_to_vec().into() };
        owners.publish(&EntityId::namespace(&namespace.name), &shared);
        owners.begin(machine.number, &node);
        let service = Service {
            node: node.clone(),
            cluster_id: "simulation".into(),
            cluster: None,
            ready: Arc::new(true.into()),
        };
        let feed = |partition| (Feed { topic: Topic::Requests, partition, subscription: None }, None);
        Self {
            life,
            connection,
            owners: owners.clone(),
            machine: machine.number,
            node,
            service,
            owned: inboxes.iter().map(|_| None).collect(),
            standbys: inboxes.iter().map(|_| Standby::default()).collect(),
            inboxes,
            feeds: (0..broker.partitions).map(feed).collect(),
        }
    }

    pub fn owns(&self, partition: u32) -> bool {
        self.owned[partition as usize].is_some()
    }

    /// Takes a partition over, or fails to.
    pub fn take_over(&mut self, partition: u32) -> Result<(), String> {
        self.standbys[partition as usize] = Standby::default();
        let taken = Stepped::take_over(&self.node, partition);
        taken.map(|stepped| {
            self.owned[partition as usize] = Some(stepped);
            self.owners.set(partition, self.machine, &self.node);
        })
    }

    /// One turn of a partition's loop. Why it has ended, if it has.
    pub fn turn(&mut self, partition: u32, max: usize) -> Option<String> {
        let index = partition as usize;
        let end = self.owned[index].as_mut()?.turn(&self.inboxes[index], max)?;
        self.give_up(partition);
        Some(end.err().unwrap_or_else(|| "it was stopped".into()))
    }

    pub fn give_up(&mut self, partition: u32) {
        if let Some(stepped) = self.owned[partition as usize].take() {
            stepped.give_up();
        }
    }

    pub fn commit(&mut self, partition: u32) -> bool {
        self.owned[partition as usize].as_mut().is_some_and(Stepped::commit)
    }

    /// Writes what the lists of a partition lack next.
    pub fn list(&mut self, partition: u32) -> bool {
        self.owned[partition as usize].as_mut().is_some_and(Stepped::list)
    }

    /// Keeps what there is here of a partition warm, which another owns.
    pub fn follow(&mut self, partition: u32) {
        if !self.owns(partition) {
            self.standbys[partition as usize].follow(&self.node, partition);
        }
    }

    pub fn look(&mut self, partition: u32) -> bool {
        self.owned[partition as usize].as_mut().is_some_and(Stepped::look)
    }

    /// What came for a partition that is not owned here goes to its owner, or is refused.
    pub fn pass_on(&self, partition: u32, to: Option<&Handle>) {
        match to {
            Some(to) => self.inboxes[partition as usize].pass_on(to),
            None => self.inboxes[partition as usize].refuse(),
        }
    }

    /// A step of the ingress of one partition.
    pub fn ingest(&mut self, partition: u32) {
        let (feed, slot) = &mut self.feeds[partition as usize];
        let went = match slot {
            Some(reading) => carry_on(reading),
            None => Reading::open(&self.node, feed).map(|reading| *slot = Some(reading)),
        };
        if went.is_err() {
            *slot = None;
        }
    }
}

/// What the ingress does next, if it does not wait for something to be decided.
fn carry_on(reading: &mut Reading) -> Result<(), millrace::log::Error> {
    if reading.poll()? {
        reading.look()?;
        reading.send(Duration::ZERO)?;
    }
    Ok(())
}
