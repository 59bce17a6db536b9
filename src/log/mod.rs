//! The log: one trait, implemented on an embedded RocksDB and on Kafka.
//!
//! Owns the contract that the partition loop relies on, and nothing of what the records mean. One conformance suite
//! (`tests/kafka`) runs against both implementations, so that the embedded default can't drift from Kafka.

use std::sync::{Arc, mpsc};

use bytes::Bytes;

pub mod embedded;
mod in_order;
pub mod kafka;

/// The largest record that is accepted, counted by [`Record::size`]: 8 MiB, less what Kafka's framing of a batch may need.
pub const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024 - 4096;

/// A deletion in a compacted topic can be read for at least this long: Kafka's `delete.retention.ms`. Milliseconds.
pub const TOMBSTONE_RETENTION_MS: i64 = 24 * 3600 * 1000;

/// Whether what was last written so long ago, in milliseconds, may miss deletions that the log keeps no longer. Half of what it
/// keeps them for: the clocks of nodes and brokers differ.
pub fn may_miss_deletions(age_ms: i64) -> bool {
    age_ms > TOMBSTONE_RETENTION_MS / 2
}

/// Whether what misses nothing, and was last written so long ago, should record that: else it looks too old one day.
pub fn should_note_age(age_ms: i64) -> bool {
    age_ms > TOMBSTONE_RETENTION_MS / 100
}

/// The topics, Millrace's own without their prefix. All of these but `Control` have the same number of partitions, and
/// everything that partition p of `Commands` leads to goes to partition p of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    Requests,
    Commands,
    History,
    Completions,
    ActivityTasks,
    Timers,
    Rejections,
    State,
    Control,
    /// A topic of the users' own, which the settings name: records come from there, or answers go there.
    User(&'static str),
}

impl Topic {
    /// Millrace's own.
    pub const ALL: [Topic; 9] = [
        Topic::Requests,
        Topic::Commands,
        Topic::History,
        Topic::Completions,
        Topic::ActivityTasks,
        Topic::Timers,
        Topic::Rejections,
        Topic::State,
        Topic::Control,
    ];

    /// A topic that the settings name. Its name is kept for as long as the process runs.
    pub fn user(name: &str) -> Topic {
        Topic::User(Box::leak(name.into()))
    }

    pub fn name(self) -> &'static str {
        match self {
            Topic::Requests => "requests",
            Topic::Commands => "commands",
            Topic::History => "history",
            Topic::Completions => "completions",
            Topic::ActivityTasks => "activity-tasks",
            Topic::Timers => "timers",
            Topic::Rejections => "rejections",
            Topic::State => "state",
            Topic::Control => "control",
            Topic::User(name) => name,
        }
    }

    /// Of a compacted topic only the last record of each key is kept; it can't be trimmed.
    pub fn is_compacted(self) -> bool {
        matches!(self, Topic::History | Topic::State | Topic::Control)
    }

    /// How many partitions a topic of Millrace's own has where most have `partitions`.
    fn partitions(self, partitions: u32) -> u32 {
        if self == Topic::Control { 1 } else { partitions }
    }
}

/// What is appended. A record without a value is a tombstone: compaction removes the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Bytes)>,
}

impl Record {
    /// What counts towards [`RECORD_BYTES_MAX`]. A header costs its bytes and 16 more.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 16).sum();
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + headers
    }

    fn check_size(&self, topic: Topic) -> Result<(), Error> {
        if self.size() <= RECORD_BYTES_MAX {
            return Ok(());
        }
        Err(Error::TooLarge { topic, size: self.size(), limit: RECORD_BYTES_MAX })
    }
}

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub offset: i64,
    /// The log's own clock at the append, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    pub record: Record,
    /// What of the record is null, and not empty.
    pub nulls: Nulls,
}

/// What a foreign record may leave out: Kafka distinguishes null from empty. Millrace writes an empty key as null, and no null
/// headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nulls {
    pub key: bool,
    /// Places among the headers.
    pub headers: Vec<usize>,
}

impl Nulls {
    /// Of a record that Millrace has written.
    pub fn of(record: &Record) -> Self {
        Self { key: record.key.is_empty(), headers: Vec::new() }
    }
}

/// Where an append landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub offset: i64,
    pub timestamp_ms: i64,
}

impl Appended {
    /// The record is durable, exactly once, but its offset is not known: Kafka returns none when it acknowledges a retry of an
    /// append that had succeeded. Read the partition to find it.
    pub const SOMEWHERE: Appended = Appended { offset: -1, timestamp_ms: -1 };
}

/// What a reader sees of transactions. `Commands` and `Requests` carry none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Records of open and aborted transactions too.
    ReadUncommitted,
    /// Only records of committed transactions, up to the first open one.
    ReadCommitted,
}

/// Records read, and where to go on: past gaps (Kafka's markers, aborted records), so that a reader that sees no record
/// still gets nearer to the end.
#[derive(Clone, Debug, Default)]
pub struct Read {
    pub records: Vec<Stored>,
    pub next_offset: i64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process has taken the partition over: nothing of this producer can be committed any more.
    #[error("partition {partition} is owned by another process now")]
    Fenced { partition: u32 },
    /// The outcome of the last operation is unknown or the producer is broken: drop it, own the partition again, and trust
    /// only what is committed.
    #[error("the log's producer for partition {partition} failed ({reason}); its last operation may or may not stand")]
    Unknown { partition: u32, reason: String },
    #[error("a record of {size} bytes for {topic:?} is larger than the log takes ({limit} bytes)")]
    TooLarge { topic: Topic, size: usize, limit: usize },
    #[error(
        "a reader starts {topic:?}-{partition} at offset {from}, but it ends at {end} in the log at {log}: records were lost, \
         or this is not the log that the position comes from"
    )]
    PastTheEnd { topic: Topic, partition: u32, from: i64, end: i64, log: String },
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// Wrong settings, missing topics, data of another version: a person has to act.
    #[error("{0}")]
    Unusable(String),
}

/// Called exactly once with the outcome of an append, on any thread, in the order of the appends to a partition.
pub type OnAppend = Box<dyn FnOnce(Result<Vec<Appended>, Error>) + Send>;

pub trait Log: Send + Sync + 'static {
    /// How many partitions each of Millrace's own topics has, `control` excepted.
    fn partitions(&self) -> u32;

    /// Millrace's own topics, and those of the users' that the log was given.
    fn topics(&self) -> Vec<Topic>;

    /// How many partitions a topic has; none, if the log was not given it.
    fn partitions_of(&self, topic: Topic) -> u32;

    /// How many partitions a topic of the users' has by now: they may add some. Blocks.
    fn look_for_partitions(&self, topic: Topic) -> Result<u32, Error> {
        Ok(self.partitions_of(topic))
    }

    /// Names a topic for as long as it lives: one that is deleted and created again has another id. Blocks.
    fn topic_id(&self, topic: Topic) -> Result<String, Error>;

    /// Appends outside transactions, in order per partition; `done` is called once all are durable. Never blocks on the
    /// network: what can't be queued is refused through `done`.
    fn append(&self, topic: Topic, partition: u32, records: Vec<Record>, done: OnAppend);

    /// Appends as [`append`](Log::append) does, and blocks until the outcome is known.
    ///
    /// This is how the end of a partition is found: what was acknowledged before stands before what is acknowledged now.
    fn append_and_wait(&self, topic: Topic, partition: u32, records: Vec<Record>) -> Result<Vec<Appended>, Error> {
        let (sender, outcome) = mpsc::channel();
        self.append(topic, partition, records, Box::new(move |outcome| drop(sender.send(outcome))));
        let no_outcome =
            |_| Err(Error::Unknown { partition, reason: "the outcome of an append was not reported".into() });
        outcome.recv().unwrap_or_else(no_outcome)
    }

    /// Takes the partition over: fences the former owner, ends its open transaction, and writes a [`Barrier`]. Blocks.
    fn own(&self, partition: u32) -> Result<Owned, Error>;

    /// An offset that the log has reached for readers of this isolation: it ends there, or later. Blocks.
    ///
    /// It is reported by one broker, and a former leader that was paused may report an old end. So it shows what can be read,
    /// never that there is no more: that follows from a [`Barrier`], or from an own append that is acknowledged.
    fn end_at_least(&self, topic: Topic, partition: u32, isolation: Isolation) -> Result<i64, Error>;

    /// The first offset still in the log, or an earlier one that was. Blocks.
    fn start_offset(&self, topic: Topic, partition: u32) -> Result<i64, Error>;

    /// Opens a reader at `from` (or at the first offset still there, if that is later). [`Error::PastTheEnd`] if the log, asked
    /// again for some seconds, does not come to that offset.
    fn reader(&self, topic: Topic, partition: u32, from: i64, isolation: Isolation) -> Result<Box<dyn Reader>, Error>;

    /// Deletes the records before `before`.
    fn trim(&self, topic: Topic, partition: u32, before: i64) -> Result<(), Error>;

    /// Where a named consumer of a topic's partition goes on, if it ever committed; or an earlier place, if the broker that
    /// answers was paused.
    fn committed(&self, consumer: &str, topic: Topic, partition: u32) -> Result<Option<i64>, Error>;

    /// Stores where a named consumer goes on.
    fn commit_position(&self, consumer: &str, topic: Topic, partition: u32, next: i64) -> Result<(), Error>;

    /// Joins the nodes that share the partitions, until what is returned is dropped. A node that is assigned a partition should
    /// try to [`own`](Log::own) it; that alone decides.
    fn join(&self, node: &Node, assignee: Arc<dyn Assignee>) -> Result<Box<dyn Member>, Error>;

    /// The ids of the nodes that have joined; none, if the log does not know. Blocks.
    fn members(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

/// A partition that has just been taken over.
pub struct Owned {
    pub owner: Box<dyn Owner>,
    pub barrier: Barrier,
}

/// The offsets of an owner's first records, in the topics that a store is restored from. They have no effect. Readers of
/// committed records see them only where the barrier commits a transaction that has lost its end: as a record whose key is
/// `!barrier`, without a value. All that owners before have committed stands before them, and nothing of theirs can come to
/// stand after them. All in-sync replicas have acknowledged them, so that no broker that lacks them can report them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    pub state: i64,
    pub history: i64,
}

/// A node, as the others know it.
#[derive(Clone, Debug)]
pub struct Node {
    /// It stays when the process starts again, so that the node gets its partitions back.
    pub id: String,
    /// A node without a heartbeat for this long loses its partitions.
    pub session_timeout: std::time::Duration,
}

/// Is notified of the partitions assigned to a node. Called by one thread, one call at a time.
pub trait Assignee: Send + Sync + 'static {
    fn assigned(&self, partitions: &[u32]);

    /// Returns once they are released, or after a while.
    fn revoked(&self, partitions: &[u32]);

    /// They are another node's, or may be, so there is no wait for this one.
    fn lost(&self, partitions: &[u32]);

    /// The node can't take part any more: another has its id, or the settings are wrong.
    fn failed(&self, error: Error);
}

/// A place among the nodes.
pub trait Member: Send + Sync {}

/// The right to write a partition's outputs. Dropping it without a commit leaves nothing behind.
pub trait Owner: Send {
    /// Commits all outputs as one transaction to the owned partition of each topic (of a user's topic, to the partition of
    /// the record's key): read_committed readers see all or none.
    /// Returns, for each output, its offset. Blocks until the outcome is known.
    ///
    /// The transaction stands then, but readers may see it some milliseconds later, and not in all topics at the same
    /// time.
    fn commit(&mut self, outputs: Vec<(Topic, Record)>) -> Result<Vec<i64>, Error>;

    /// For a thread that does not wait for the outcome of a commit any more.
    fn abandon(&self) -> Abandon {
        Arc::new(|| {})
    }
}

/// Has a commit under way fail with [`Error::Unknown`] at once, and all later ones, if the log may take long to answer: the
/// partition's next owner finds out the outcome.
pub type Abandon = Arc<dyn Fn() + Send + Sync>;

pub trait Reader: Send {
    /// The next records, at most `max_records`, waiting at most `wait` for the first. Blocks.
    fn next(&mut self, max_records: usize, wait: std::time::Duration) -> Result<Read, Error>;
}

fn check_trim(topic: Topic) -> Result<(), Error> {
    if !topic.is_compacted() {
        return Ok(());
    }
    Err(Error::Unusable(format!("{topic:?} is compacted, so it can't be trimmed")))
}
