//! The log of production: Kafka, through librdkafka.
//!
//! Appends share one idempotent producer; each owned partition has a transactional one. Readers assign their partition
//! themselves; a consumer group only assigns partitions to nodes. Durability is Kafka's replication: an acknowledged record is in
//! the memory of the in-sync replicas, not on their disks.

mod admin;
mod append;
mod client;
mod member;
mod owner;
mod positions;
mod producer;
mod reader;
mod topic_id;
mod topics;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use self::admin::Admin;
use self::append::{Appender, Lane};
use self::client::{CALL_WAIT_MAX, Clients, Events, unavailable, unusable};
use self::owner::BarrierEnd;
use self::positions::Positions;
pub use self::topics::requirements;
use super::{Assignee, Error, Isolation, Log, Node, OnAppend, Record, Topic};

/// How long the first contact may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(9);

/// How long a look at one topic's partitions may take.
const METADATA_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long the first question for a partition's bounds may take. Its leader may be gone: then another answers the next.
const BOUNDS_WAIT_MIN: Duration = Duration::from_secs(2);

/// How often in a row a transaction must be reported open before it counts as left open.
const LEFT_OPEN_TIMES: u32 = 20;
const LEFT_OPEN_ASK_EVERY: Duration = Duration::from_millis(100);

/// How long a reader waits for the offset that it is to begin at.
const REACH_WAIT_MAX: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port`, several with commas between.
    pub brokers: String,
    /// Before the names of topics, transactional ids and consumer groups: one per Millrace cluster.
    pub topic_prefix: String,
    /// `None`: as many as the topics have, or 8 for new ones.
    pub partitions: Option<u32>,
    /// Whether topics that are missing are created.
    pub create_topics: bool,
    /// `None`: 3, or as many as there are brokers.
    pub replication_factor: Option<u32>,
    /// More properties for librdkafka: TLS, SASL, tuning.
    pub properties: BTreeMap<String, String>,
    /// Topics of the users' own. They must be there, and get no prefix.
    pub user_topics: Vec<Topic>,
}

impl Config {
    pub fn new(brokers: &str) -> Config {
        Config {
            brokers: brokers.to_string(),
            topic_prefix: "millrace.".to_string(),
            partitions: None,
            create_topics: true,
            replication_factor: None,
            properties: BTreeMap::new(),
            user_topics: Vec::new(),
        }
    }
}

/// One for each partition of each topic.
type Lanes = BTreeMap<Topic, Vec<Arc<Lane>>>;

pub struct Kafka {
    clients: Clients,
    names: BTreeMap<Topic, String>,
    partition_count: u32,
    appender: Appender,
    lanes: ArcSwap<Lanes>,
    committed: BaseConsumer<Events>,
    uncommitted: BaseConsumer<Events>,
    positions: Positions,
    admin: OnceLock<Admin>,
}

impl Kafka {
    /// Connects, creates the topics that are missing and checks the others. Blocks, for some ten seconds if no broker answers.
    pub fn connect(config: Config) -> Result<Kafka, Error> {
        let clients = Clients {
            brokers: config.brokers.clone(),
            prefix: config.topic_prefix.clone(),
            properties: config.properties.clone(),
        };
        let mut names: BTreeMap<Topic, String> =
            Topic::ALL.into_iter().map(|topic| (topic, format!("{}{}", config.topic_prefix, topic.name()))).collect();
        let client = |isolation| clients.questions(isolation).create_with_context(Events::default()).map_err(unusable);
        let committed: BaseConsumer<Events> = client(Isolation::ReadCommitted)?;
        let uncommitted: BaseConsumer<Events> = client(Isolation::ReadUncommitted)?;
        let found = committed.fetch_metadata(None, CONNECT_WAIT_MAX).map_err(|error| {
            let reason = complaint(&committed).unwrap_or_else(|| error.to_string());
            Error::Unavailable(format!("no Kafka broker answers at {}: {reason}", config.brokers))
        })?;
        let admin = Admin::new(&clients)?;
        let user_topics = topics::check_user_topics(&config.user_topics, &found)?;
        let partition_count = topics::prepare(&config, &names, &committed, &admin, found)?;
        let own = Topic::ALL.into_iter().map(|topic| (topic, topic.partitions(partition_count)));
        let lane = |_| Arc::new(Lane::default());
        let lanes: Lanes =
            own.chain(user_topics).map(|(topic, count)| (topic, (0..count).map(lane).collect())).collect();
        names.extend(config.user_topics.iter().map(|topic| (*topic, topic.name().to_owned())));
        Ok(Kafka {
            appender: Appender::new(clients.clone())?,
            clients,
            names,
            partition_count,
            lanes: ArcSwap::from_pointee(lanes),
            committed,
            uncommitted,
            positions: Positions::default(),
            admin: OnceLock::new(),
        })
    }

    fn name(&self, topic: Topic, partition: u32) -> Result<&str, Error> {
        if partition >= self.partitions_of(topic) {
            return Err(Error::Unusable(format!("{topic:?} has no partition {partition}")));
        }
        Ok(&self.names[&topic])
    }

    /// The first offset and the one after the last.
    fn bounds(&self, topic: Topic, partition: u32, isolation: Isolation) -> Result<(i64, i64), Error> {
        let name = self.name(topic, partition)?;
        let client = match isolation {
            Isolation::ReadCommitted => &self.committed,
            Isolation::ReadUncommitted => &self.uncommitted,
        };
        let deadline = Instant::now() + CALL_WAIT_MAX;
        let mut wait = BOUNDS_WAIT_MIN;
        loop {
            drain(client);
            let left = deadline.saturating_duration_since(Instant::now()).max(BOUNDS_WAIT_MIN);
            match client.fetch_watermarks(name, partition as i32, wait.min(left)) {
                Err(error) if is_passing(&error) && Instant::now() < deadline => {
                    // librdkafka keeps its first metadata of the topic: from a broker that was just starting, or of a
                    // leader that is gone, for which a call waits as long as it may.
                    let code = error.rdkafka_error_code();
                    if matches!(code, Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::OperationTimedOut)) {
                        let _ = client.fetch_metadata(Some(name), METADATA_WAIT_MAX);
                        wait *= 2;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                answer => {
                    let doing = || format!("the bounds of {name}-{partition} can't be read");
                    return answer.map_err(|error| unavailable(&doing(), error));
                }
            }
        }
    }

    /// Whether a transaction was left open on a partition before the record at `barrier`, which is acknowledged and the first
    /// of a transaction that is open. Committed records end at the first that is open: a broker that reports the barrier itself
    /// reports that none is open before, and can't be one that was paused, which has no barrier. An earlier offset counts only if
    /// it is reported for some seconds, by brokers that have the barrier. If that was false all the same, the barrier is only
    /// ended in more topics than needed, or visible.
    fn is_left_open(&self, topic: Topic, partition: u32, barrier: i64) -> Result<bool, Error> {
        let deadline = Instant::now() + CALL_WAIT_MAX;
        let (mut reported, mut times) = (-1, 0);
        loop {
            let committed = self.end_at_least(topic, partition, Isolation::ReadCommitted)?;
            if committed >= barrier {
                return Ok(false);
            }
            let has_barrier = self.end_at_least(topic, partition, Isolation::ReadUncommitted)? > barrier;
            times = if has_barrier && committed == reported { times + 1 } else { 0 };
            reported = committed;
            if times == LEFT_OPEN_TIMES {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Err(Error::Unavailable(format!(
                    "partition {partition} can't be owned: its brokers don't agree where {topic:?} ends"
                )));
            }
            std::thread::sleep(LEFT_OPEN_ASK_EVERY);
            let name = self.name(topic, partition)?;
            for client in [&self.committed, &self.uncommitted] {
                let _ = client.fetch_metadata(Some(name), METADATA_WAIT_MAX);
            }
        }
    }

    fn admin(&self) -> Result<&Admin, Error> {
        if let Some(admin) = self.admin.get() {
            return Ok(admin);
        }
        let admin = Admin::new(&self.clients)?;
        Ok(self.admin.get_or_init(|| admin))
    }
}

/// Takes the log lines and errors that a consumer without a partition would otherwise accumulate.
fn drain(client: &BaseConsumer<Events>) {
    for _ in 0..8 {
        let _ = client.poll(Duration::ZERO);
    }
}

/// The last error of a client that got no answer.
fn complaint(client: &BaseConsumer<Events>) -> Option<String> {
    while client.poll(Duration::from_millis(10)).is_some() {}
    client.client().context().complaint()
}

/// What a broker returns that does not know its partitions yet, or that it no longer leads them, or has only just become leader.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::ReplicaNotAvailable
                | Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::OffsetNotAvailable
        )
    )
}

impl Log for Kafka {
    fn partitions(&self) -> u32 {
        self.partition_count
    }

    fn topics(&self) -> Vec<Topic> {
        self.names.keys().copied().collect()
    }

    fn partitions_of(&self, topic: Topic) -> u32 {
        self.lanes.load().get(&topic).map_or(0, |lanes| lanes.len() as u32)
    }

    fn look_for_partitions(&self, topic: Topic) -> Result<u32, Error> {
        if !matches!(topic, Topic::User(_)) {
            return Ok(self.partition_count);
        }
        let name = self.name(topic, 0)?;
        let found = self.uncommitted.fetch_metadata(Some(name), METADATA_WAIT_MAX);
        let found = found.map_err(|error| unavailable(&format!("the partitions of {name} can't be counted"), error))?;
        let count =
            found.topics().iter().find(|topic| topic.name() == name).map_or(0, |topic| topic.partitions().len());
        if count > self.partitions_of(topic) as usize {
            self.appender.refresh_metadata(name, METADATA_WAIT_MAX);
            self.lanes.rcu(|lanes| {
                let mut lanes = Lanes::clone(lanes);
                lanes.entry(topic).or_default().resize_with(count, Arc::default);
                lanes
            });
        }
        Ok(self.partitions_of(topic))
    }

    fn topic_id(&self, topic: Topic) -> Result<String, Error> {
        self.admin()?.topic_id(self.name(topic, 0)?)
    }

    fn append(&self, topic: Topic, partition: u32, records: Vec<Record>, done: OnAppend) {
        match self.name(topic, partition) {
            Ok(name) => {
                let lane = self.lanes.load()[&topic][partition as usize].clone();
                self.appender.append(&lane, (topic, name), partition, records, done);
            }
            Err(error) => done(Err(error)),
        }
    }

    fn own(&self, partition: u32) -> Result<super::Owned, Error> {
        self.name(Topic::Commands, partition)?;
        let owner = owner::Owner::new(&self.clients, self.names.clone(), partition)?;
        let barrier = owner.begin_barrier()?;
        let end = if self.is_left_open(Topic::State, partition, barrier.state)? {
            BarrierEnd::AbortEverywhere
        } else if self.is_left_open(Topic::History, partition, barrier.history)? {
            BarrierEnd::Commit
        } else {
            BarrierEnd::Abort
        };
        owner.end_barrier(end)?;
        Ok(super::Owned { owner: Box::new(owner), barrier })
    }

    fn end_at_least(&self, topic: Topic, partition: u32, isolation: Isolation) -> Result<i64, Error> {
        Ok(self.bounds(topic, partition, isolation)?.1)
    }

    fn start_offset(&self, topic: Topic, partition: u32) -> Result<i64, Error> {
        Ok(self.bounds(topic, partition, Isolation::ReadUncommitted)?.0)
    }

    fn reader(
        &self,
        topic: Topic,
        partition: u32,
        from: i64,
        isolation: Isolation,
    ) -> Result<Box<dyn super::Reader>, Error> {
        let name = self.name(topic, partition)?;
        let deadline = Instant::now() + REACH_WAIT_MAX;
        let (mut start, mut end) = self.bounds(topic, partition, Isolation::ReadUncommitted)?;
        while from > end {
            if Instant::now() > deadline {
                return Err(Error::PastTheEnd { topic, partition, from, end, log: self.clients.brokers.clone() });
            }
            // A former leader that was paused reports an old end, until it is notified of its successor.
            std::thread::sleep(Duration::from_millis(50));
            let _ = self.uncommitted.fetch_metadata(Some(name), METADATA_WAIT_MAX);
            (start, end) = self.bounds(topic, partition, Isolation::ReadUncommitted)?;
        }
        let from = from.max(start);
        Ok(Box::new(reader::Reader::new(&self.clients, isolation, (topic, name), partition, from)?))
    }

    fn trim(&self, topic: Topic, partition: u32, before: i64) -> Result<(), Error> {
        super::check_trim(topic)?;
        let name = self.name(topic, partition)?;
        // With an old end, of a former leader, less is deleted.
        let (start, end) = self.bounds(topic, partition, Isolation::ReadUncommitted)?;
        let before = before.min(end);
        if before <= start {
            return Ok(());
        }
        self.admin()?.delete_records(name, partition, before)
    }

    fn committed(&self, consumer: &str, topic: Topic, partition: u32) -> Result<Option<i64>, Error> {
        self.positions.get(&self.clients, consumer, self.name(topic, partition)?, partition)
    }

    fn commit_position(&self, consumer: &str, topic: Topic, partition: u32, next: i64) -> Result<(), Error> {
        self.positions.set(&self.clients, consumer, self.name(topic, partition)?, partition, next)
    }

    fn join(&self, node: &Node, assignee: Arc<dyn Assignee>) -> Result<Box<dyn super::Member>, Error> {
        Ok(Box::new(member::Member::join(&self.clients, self.name(Topic::Commands, 0)?, node, assignee)?))
    }

    fn members(&self) -> Result<Vec<String>, Error> {
        drain(&self.committed);
        member::ids(&self.committed, &self.clients.group_of_nodes())
    }
}
