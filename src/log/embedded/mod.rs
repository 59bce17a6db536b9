//! The log of `millrace server start-dev` and of most tests: one RocksDB in a directory.
//!
//! An append or a commit is one atomic batch in RocksDB's write-ahead log. It survives a killed process; with `fsync` a
//! power cut too. Without it a power cut may cost the last records, and a store that had seen them is then ahead of the
//! log: opening a reader past the end fails.
//!
//! It behaves as Kafka does, offset gaps and fencing included, but has one process, no replicas and no open transactions:
//! both isolations see the same. Compaction is done at once, by the write that supersedes a record.

mod batch;
mod directory;
mod expire;
mod layout;
mod owner;
mod partition;
mod reader;
mod sync;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rocksdb::{ColumnFamily, DB, Direction, IteratorMode, WriteBatch, WriteOptions};

use self::batch::{Batch, unavailable};
use self::partition::Partition;
use self::sync::Unsynced;
use crate::environment::{Environment, System};

use super::{Appended, Assignee, Barrier, Error, Isolation, Log, Member, Node, OnAppend, Record, Topic};

const PARTITIONS_DEFAULT: u32 = 8;

/// A record of no effect, and the marker of its transaction.
const BARRIER_OFFSETS: i64 = 2;

#[derive(Clone)]
pub struct Options {
    /// `None`: as many as the directory has, or 8 in a new one.
    pub partitions: Option<u32>,
    /// Waits for the disk before an append or a commit is acknowledged.
    pub fsync: bool,
    /// How long records of topics that are neither compacted nor `commands` are kept, at least.
    pub records_kept: Duration,
    /// How long tombstones of compacted topics are kept, at least: a store that is older must be rebuilt.
    pub tombstones_kept: Duration,
    /// Topics of the users' own. They have as many partitions as the others, and are there from the first time that they
    /// are named here.
    pub user_topics: Vec<Topic>,
    /// Whose clock gives records their times.
    pub environment: Arc<dyn Environment>,
}

impl Default for Options {
    fn default() -> Options {
        let day = Duration::from_secs(24 * 60 * 60);
        Options {
            partitions: None,
            fsync: false,
            records_kept: 7 * day,
            tombstones_kept: day,
            user_topics: Vec::new(),
            environment: Arc::new(System),
        }
    }
}

pub struct Embedded {
    shared: Arc<Shared>,
    /// Appends that wait for the disk; only with `fsync`.
    unsynced: Option<mpsc::Sender<Unsynced>>,
    /// Dropped to end the thread that deletes old records.
    stop: Option<mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

struct Alone;

impl Member for Alone {}

struct Shared {
    db: DB,
    options: Options,
    partition_count: u32,
    partitions: BTreeMap<Topic, Vec<Partition>>,
    epochs: Vec<Mutex<i64>>,
    directory: PathBuf,
}

impl Embedded {
    /// Opens the log in a directory of its own, which is made if it isn't there.
    pub fn open(directory: &Path, options: Options) -> Result<Embedded, Error> {
        let partition_count = directory::prepare(directory, options.partitions, PARTITIONS_DEFAULT)?;
        if partition_count == 0 {
            return Err(Error::Unusable("a log needs at least one partition".into()));
        }
        let db = directory::open(directory)?;
        let mut partitions = BTreeMap::new();
        for topic in Topic::ALL.into_iter().chain(options.user_topics.iter().copied()) {
            let code = layout::code(topic).map_or_else(|| user_code(&db, topic), Ok)?;
            let opened = (0..topic.partitions(partition_count)).map(|number| Partition::open(&db, topic, code, number));
            partitions.insert(topic, opened.collect::<Result<_, Error>>()?);
        }
        let epoch = |number: u32| {
            let bytes = db.get_pinned(layout::epoch_key(number)).map_err(unavailable)?;
            Ok(Mutex::new(bytes.and_then(|bytes| layout::decode_number(&bytes)).unwrap_or(0)))
        };
        let epochs = (0..partition_count).map(epoch).collect::<Result<_, Error>>()?;
        let directory = directory.to_path_buf();
        let shared = Arc::new(Shared { db, options, partition_count, partitions, epochs, directory });
        let (stop, stopped) = mpsc::channel();
        let weak = Arc::downgrade(&shared);
        let mut threads = vec![spawn("log-expiry", move || expire::run(weak, stopped))?];
        let mut unsynced = None;
        if shared.options.fsync {
            let (sender, receiver) = mpsc::channel();
            unsynced = Some(sender);
            let shared = shared.clone();
            threads.push(spawn("log-sync", move || sync::run(&shared, receiver))?);
        }
        Ok(Embedded { shared, unsynced, stop: Some(stop), threads })
    }
}

/// The code of a user's topic: a new one, if it has none yet.
fn user_code(db: &DB, topic: Topic) -> Result<u8, Error> {
    let key = layout::user_topic_key(topic.name());
    if let Some(found) = db.get_pinned(&key).map_err(unavailable)? {
        return Ok(found.first().copied().unwrap_or_default());
    }
    let from = IteratorMode::From(layout::USER_TOPICS, Direction::Forward);
    let others =
        db.iterator(from).map_while(|found| found.ok().filter(|(key, _)| key.starts_with(layout::USER_TOPICS)));
    let last = others.filter_map(|(_, code)| code.first().copied()).max();
    let full = || Error::Unusable(format!("the embedded log has no room for the topic {}", topic.name()));
    let code = last.map_or(Some(layout::FIRST_USER_CODE), |last| last.checked_add(1)).ok_or_else(full)?;
    db.put(key, [code]).map_err(unavailable)?;
    Ok(code)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(run);
    thread.map_err(|error| Error::Unavailable(format!("no thread can be started: {error}")))
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop((self.stop.take(), self.unsynced.take()));
        for thread in self.threads.drain(..) {
            // A callback may hold the last reference to the log: then this is the thread itself.
            if thread.thread().id() != std::thread::current().id() {
                // It only panics with the partition's lock, which then panics for everyone.
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn partition(&self, topic: Topic, number: u32) -> Result<&Partition, Error> {
        let found = self.partitions.get(&topic).and_then(|partitions| partitions.get(number as usize));
        found.ok_or_else(|| Error::Unusable(format!("{topic:?} has no partition {number}")))
    }

    /// Durable when it returns, as far as the options ask for.
    fn write(&self, writes: WriteBatch) -> Result<(), rocksdb::Error> {
        let mut options = WriteOptions::default();
        options.set_sync(self.options.fsync);
        self.db.write_opt(writes, &options)
    }

    fn lock_epoch(&self, partition: u32) -> MutexGuard<'_, i64> {
        self.epochs[partition as usize].lock().expect("a commit panicked: the owner's epoch can't be trusted")
    }

    /// Fences the owner before. Where Kafka has the barrier's records and their markers there is nothing, and as much room.
    fn raise_epoch(&self, partition: u32) -> Result<(i64, Barrier), Error> {
        let (history, state) = (self.partition(Topic::History, partition)?, self.partition(Topic::State, partition)?);
        let mut epoch = self.lock_epoch(partition);
        // In the order in which commits lock them.
        let (mut of_history, mut of_state) = (history.lock(), state.lock());
        let barrier = Barrier { state: of_state.head.next, history: of_history.head.next };
        of_history.head.next += BARRIER_OFFSETS;
        of_state.head.next += BARRIER_OFFSETS;
        let mut batch = Batch::new(&self.db);
        batch.writes.put(layout::epoch_key(partition), (*epoch + 1).to_be_bytes());
        batch.put_head(history, &of_history);
        batch.put_head(state, &of_state);
        if let Err(error) = self.write(batch.writes) {
            of_history.head.next = barrier.history;
            of_state.head.next = barrier.state;
            return Err(unavailable(error));
        }
        let (history_end, state_end) = (of_history.head.next, of_state.head.next);
        history.show(&mut of_history, history_end);
        state.show(&mut of_state, state_end);
        *epoch += 1;
        Ok((*epoch, barrier))
    }

    /// Writes under the partition's lock, which also gives the callback its place.
    fn append(
        &self,
        partition: &Partition,
        records: &[Record],
        done: OnAppend,
        unsynced: Option<&mpsc::Sender<Unsynced>>,
    ) {
        let mut tail = partition.lock();
        let ticket = partition.callbacks.enqueue(done);
        let timestamp_ms = tail.now_ms(self.options.environment.clock_ms());
        let first = tail.head.next;
        let write = || {
            let mut batch = Batch::new(&self.db);
            for (offset, record) in (first..).zip(records) {
                record.check_size(partition.topic)?;
                batch.put(partition, offset, timestamp_ms, record).map_err(unavailable)?;
            }
            self.db.write(batch.writes).map_err(unavailable)
        };
        let outcome = write().map(|()| {
            tail.head.next += records.len() as i64;
            tail.head.timestamp_ms = timestamp_ms;
            (first..tail.head.next).map(|offset| Appended { offset, timestamp_ms }).collect()
        });
        let end = tail.head.next;
        match (outcome, unsynced) {
            (Ok(appended), Some(unsynced)) => {
                let (topic, number) = (partition.topic, partition.number);
                // The thread runs as long as the log is open.
                let _ = unsynced.send(Unsynced { topic, number, end, ticket, appended });
            }
            (outcome, unsynced) => {
                if unsynced.is_none() {
                    partition.show(&mut tail, end);
                }
                drop(tail);
                partition.callbacks.complete(ticket, outcome);
            }
        }
    }
}

fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("the log is opened with all of its column families")
}

impl Log for Embedded {
    fn partitions(&self) -> u32 {
        self.shared.partition_count
    }

    fn topics(&self) -> Vec<Topic> {
        self.shared.partitions.keys().copied().collect()
    }

    fn partitions_of(&self, topic: Topic) -> u32 {
        self.shared.partitions.get(&topic).map_or(0, |partitions| partitions.len() as u32)
    }

    /// Topics of the embedded log are never deleted.
    fn topic_id(&self, topic: Topic) -> Result<String, Error> {
        Ok(topic.name().to_owned())
    }

    fn append(&self, topic: Topic, partition: u32, records: Vec<Record>, done: OnAppend) {
        match self.shared.partition(topic, partition) {
            Ok(partition) => self.shared.append(partition, &records, done, self.unsynced.as_ref()),
            Err(error) => done(Err(error)),
        }
    }

    fn own(&self, partition: u32) -> Result<super::Owned, Error> {
        let (owner, barrier) = owner::Owner::new(self.shared.clone(), partition)?;
        Ok(super::Owned { owner: Box::new(owner), barrier })
    }

    /// Exact: there is one process.
    fn end_at_least(&self, topic: Topic, partition: u32, _: Isolation) -> Result<i64, Error> {
        Ok(self.shared.partition(topic, partition)?.lock().bounds().1)
    }

    fn start_offset(&self, topic: Topic, partition: u32) -> Result<i64, Error> {
        Ok(self.shared.partition(topic, partition)?.lock().bounds().0)
    }

    fn reader(&self, topic: Topic, partition: u32, from: i64, _: Isolation) -> Result<Box<dyn super::Reader>, Error> {
        let (start, end) = self.shared.partition(topic, partition)?.lock().bounds();
        if from > end {
            let log = self.shared.directory.display().to_string();
            return Err(Error::PastTheEnd { topic, partition, from, end, log });
        }
        let next_offset = from.max(start);
        Ok(Box::new(reader::Reader { shared: self.shared.clone(), topic, partition, next_offset }))
    }

    fn trim(&self, topic: Topic, partition: u32, before: i64) -> Result<(), Error> {
        super::check_trim(topic)?;
        let partition = self.shared.partition(topic, partition)?;
        let mut tail = partition.lock();
        let (start, end) = tail.bounds();
        let before = before.min(end);
        if before <= start {
            return Ok(());
        }
        let mut batch = Batch::new(&self.shared.db);
        let range = [start, before].map(|offset| layout::record_key(partition.key, offset));
        batch.writes.delete_range_cf(family(&self.shared.db, layout::RECORDS), range[0], range[1]);
        tail.head.start = before;
        batch.put_head(partition, &tail);
        let written = self.shared.write(batch.writes).map_err(unavailable);
        if written.is_err() {
            tail.head.start = start;
        }
        written
    }

    fn committed(&self, consumer: &str, topic: Topic, partition: u32) -> Result<Option<i64>, Error> {
        let key = layout::position_key(self.shared.partition(topic, partition)?.key, consumer);
        let bytes = self.shared.db.get_pinned(key).map_err(unavailable)?;
        Ok(bytes.and_then(|bytes| layout::decode_number(&bytes)))
    }

    fn commit_position(&self, consumer: &str, topic: Topic, partition: u32, next: i64) -> Result<(), Error> {
        let key = layout::position_key(self.shared.partition(topic, partition)?.key, consumer);
        let mut writes = WriteBatch::default();
        writes.put(key, next.to_be_bytes());
        self.shared.write(writes).map_err(unavailable)
    }

    /// There is one process, which has all partitions.
    fn join(&self, _: &Node, assignee: Arc<dyn Assignee>) -> Result<Box<dyn Member>, Error> {
        let all: Vec<u32> = (0..self.partitions()).collect();
        assignee.assigned(&all);
        Ok(Box::new(Alone))
    }
}
