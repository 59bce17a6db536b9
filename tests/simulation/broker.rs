//! The log in memory, as it stands: topics, transactions, compaction. It behaves as Kafka does, and keeps an archive of
//! everything that was ever committed, for the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use millrace::log::{Appended, Barrier, Isolation, Nulls, Read, Record, Stored, TOMBSTONE_RETENTION_MS, Topic};
use millrace::proto::state;
use millrace::store::keys;
use millrace::types::partition_of_key;
use prost::Message as _;

use crate::clock::Clock;
use crate::random::Rng;
use crate::woken::View;

/// A topic of the users' own, for answers.
pub const REPLIES: Topic = Topic::User("replies");
const TOPICS: [Topic; 10] = [
    Topic::Requests,
    Topic::Commands,
    Topic::History,
    Topic::Completions,
    Topic::ActivityTasks,
    Topic::Timers,
    Topic::Rejections,
    Topic::State,
    Topic::Control,
    REPLIES,
];

#[derive(Default)]
struct Partition {
    /// The first offset that is still there, and the next to be given.
    start: i64,
    end: i64,
    records: BTreeMap<i64, Stored>,
    /// Records of open transactions, with the partition whose owner wrote them, and those of aborted ones.
    open: BTreeMap<i64, u32>,
    aborted: BTreeSet<i64>,
    /// When compaction first met deletions, by the true time: from then on Kafka keeps them for as long as configured (KIP-534).
    deletions: BTreeMap<i64, i64>,
}

impl Partition {
    fn push(&mut self, record: Record, timestamp_ms: i64) -> Appended {
        let offset = self.end;
        self.end += 1;
        self.records.insert(offset, Stored { offset, timestamp_ms, nulls: Nulls::of(&record), record });
        Appended { offset, timestamp_ms }
    }

    fn first_open(&self) -> Option<i64> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    fn end_for(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.end,
            Isolation::ReadCommitted => self.first_open().unwrap_or(self.end),
        }
    }
}

/// Where a record was committed: its topic, how often that was created again, its partition.
pub type Place = (Topic, u32, u32);

#[derive(Default)]
struct Content {
    partitions: BTreeMap<(Topic, u32), Partition>,
    /// How often a topic was deleted and created again.
    generations: BTreeMap<Topic, u32>,
    epochs: BTreeMap<u32, u64>,
    positions: BTreeMap<(String, Topic, u32), i64>,
    /// The highest of each. Two nodes may read the same partition for a while, and the one that is behind commit last.
    reached: BTreeMap<(String, Topic, u32), i64>,
    archive: BTreeMap<Place, BTreeMap<i64, Stored>>,
}

pub struct Broker {
    pub partitions: u32,
    pub clock: Arc<Clock>,
    rng: Rng,
    content: Mutex<Content>,
}

impl Broker {
    pub fn new(partitions: u32, clock: Arc<Clock>, rng: Rng) -> Self {
        let mut content = Content::default();
        for topic in TOPICS {
            let count = if topic == Topic::Control { 1 } else { partitions };
            content.partitions.extend((0..count).map(|partition| ((topic, partition), Partition::default())));
        }
        Self { partitions, clock, rng, content: Mutex::new(content) }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("no code panics while it holds the log")
    }

    pub fn partitions_of(&self, topic: Topic) -> u32 {
        self.lock().partitions.keys().filter(|(of, _)| *of == topic).count() as u32
    }

    pub fn id(&self, topic: Topic) -> String {
        format!("id{}", self.generation(topic))
    }

    /// The name under which the ingress keeps its positions.
    pub fn consumer(&self, topic: Topic) -> String {
        format!("ingress.{}", self.id(topic))
    }

    pub fn generation(&self, topic: Topic) -> u32 {
        self.lock().generations.get(&topic).copied().unwrap_or_default()
    }

    /// Appends records outside transactions.
    pub fn append(&self, topic: Topic, partition: u32, records: Vec<Record>) -> Vec<Appended> {
        let now = self.clock.now_ms();
        let mut content = self.lock();
        let place = (topic, content.generations.get(&topic).copied().unwrap_or_default(), partition);
        let mut appended = Vec::new();
        for record in records {
            let at = content.partition(topic, partition).push(record.clone(), now);
            let stored = Stored { offset: at.offset, timestamp_ms: now, nulls: Nulls::of(&record), record };
            content.archive.entry(place).or_default().insert(at.offset, stored);
            appended.push(at);
        }
        appended
    }

    /// Where the next record would be put.
    pub fn next(&self, topic: Topic, partition: u32) -> i64 {
        self.lock().partition(topic, partition).end
    }

    /// A new epoch: the former owner of the partition is fenced, and the outcome of its last transaction is settled. The barrier
    /// is a transaction that is aborted.
    pub fn own(&self, partition: u32) -> (u64, Barrier) {
        let commit = self.rng.per_mille(500);
        let now = self.clock.now_ms();
        let mut content = self.lock();
        content.settle(partition, commit);
        let mut barrier = |topic| {
            let of = content.partition(topic, partition);
            let at = of.push(Record::default(), now);
            of.open.insert(at.offset, partition);
            at.offset
        };
        let barrier = Barrier { state: barrier(Topic::State), history: barrier(Topic::History) };
        content.settle(partition, false);
        let epoch = content.epochs.entry(partition).or_default();
        *epoch += 1;
        (*epoch, barrier)
    }

    pub fn epoch(&self, partition: u32) -> u64 {
        self.lock().epochs.get(&partition).copied().unwrap_or_default()
    }

    /// Writes a transaction. Not `standing`: it stays open, until the partition is owned again.
    pub fn transact(&self, partition: u32, outputs: Vec<(Topic, Record)>, standing: bool) -> Vec<i64> {
        let now = self.clock.now_ms();
        let mut content = self.lock();
        content.settle(partition, false);
        let mut offsets = Vec::new();
        for (topic, record) in outputs {
            let to = if matches!(topic, Topic::User(_)) {
                partition_of_key(&record.key, self.partitions)
            } else {
                partition
            };
            let to = content.partition(topic, to);
            let at = to.push(record, now);
            to.open.insert(at.offset, partition);
            offsets.push(at.offset);
        }
        if standing {
            content.settle(partition, true);
        }
        offsets
    }

    pub fn end_offset(&self, topic: Topic, partition: u32, isolation: Isolation) -> i64 {
        self.lock().partition(topic, partition).end_for(isolation)
    }

    pub fn start_offset(&self, topic: Topic, partition: u32) -> i64 {
        self.lock().partition(topic, partition).start
    }

    /// What a leader of each partition has.
    pub fn views(&self) -> BTreeMap<(Topic, u32), View> {
        let content = self.lock();
        let view = |(place, partition): (&(Topic, u32), &Partition)| {
            let generation = content.generations.get(&place.0).copied().unwrap_or_default();
            (*place, View { end: partition.end, stable: partition.end_for(Isolation::ReadCommitted), generation })
        };
        content.partitions.iter().map(view).collect()
    }

    pub fn positions(&self) -> BTreeMap<(String, Topic, u32), i64> {
        self.lock().positions.clone()
    }

    /// Reads what a leader has, or one of before.
    pub fn read(
        &self,
        (topic, partition): (Topic, u32),
        from: i64,
        isolation: Isolation,
        max: usize,
        view: Option<View>,
    ) -> Read {
        let mut content = self.lock();
        let partition = content.partition(topic, partition);
        let end = view.map_or(partition.end_for(isolation), |view| view.end_for(isolation));
        let from = from.max(partition.start);
        let seen = |offset| isolation == Isolation::ReadUncommitted || !partition.aborted.contains(offset);
        let records: Vec<Stored> = if from < end {
            let range = partition.records.range(from..end).filter(|(offset, _)| seen(offset));
            range.take(max).map(|(_, stored)| stored.clone()).collect()
        } else {
            Vec::new()
        };
        let full = records.len() == max;
        let next_offset = if full { records.last().map_or(end, |last| last.offset + 1) } else { end.max(from) };
        Read { records, next_offset }
    }

    pub fn trim(&self, topic: Topic, partition: u32, before: i64) {
        let mut content = self.lock();
        let partition = content.partition(topic, partition);
        partition.start = partition.start.max(before.min(partition.end));
        let start = partition.start;
        partition.records.retain(|offset, _| *offset >= start);
    }

    pub fn committed(&self, consumer: &str, topic: Topic, partition: u32) -> Option<i64> {
        self.lock().positions.get(&(consumer.to_owned(), topic, partition)).copied()
    }

    /// The highest position that was ever committed: all before it has been decided.
    pub fn reached(&self, consumer: &str, topic: Topic, partition: u32) -> Option<i64> {
        self.lock().reached.get(&(consumer.to_owned(), topic, partition)).copied()
    }

    pub fn commit_position(&self, consumer: &str, topic: Topic, partition: u32, next: i64) {
        let (mut content, of) = (self.lock(), (consumer.to_owned(), topic, partition));
        let reached = content.reached.entry(of.clone()).or_default();
        *reached = next.max(*reached);
        content.positions.insert(of, next);
    }

    /// Of each key only the last record stays, and of deletions only those that have not been met for long.
    pub fn compact(&self, topic: Topic, partition: u32) {
        let now = self.clock.true_ms();
        let mut content = self.lock();
        let partition = content.partition(topic, partition);
        let end = partition.end_for(Isolation::ReadCommitted);
        let mut last = BTreeMap::new();
        for (offset, stored) in partition.records.range(..end).filter(|(offset, _)| !partition.aborted.contains(offset))
        {
            last.insert(stored.record.key.clone(), *offset);
        }
        partition.records.retain(|offset, stored| {
            let deletion = *offset < end && stored.record.value.is_none();
            let old = deletion && now - *partition.deletions.entry(*offset).or_insert(now) > TOMBSTONE_RETENTION_MS;
            *offset >= end || (last.get(&stored.record.key) == Some(offset) && !old)
        });
    }

    /// Deletes a topic with all its records, and creates it again.
    pub fn recreate(&self, topic: Topic) {
        let mut content = self.lock();
        *content.generations.entry(topic).or_default() += 1;
        content.positions.retain(|(_, of, _), _| *of != topic);
        content.reached.retain(|(_, of, _), _| *of != topic);
        for ((_, _), partition) in content.partitions.iter_mut().filter(|((of, _), _)| *of == topic) {
            *partition = Partition::default();
        }
    }

    /// Writes records as they stood elsewhere.
    pub fn write(&self, places: Vec<(Place, Vec<Stored>)>) {
        let mut content = self.lock();
        for ((topic, _, partition), records) in places {
            for stored in records {
                assert_eq!(
                    content.partition(topic, partition).end,
                    stored.offset,
                    "outside transactions there are no gaps"
                );
                content.partition(topic, partition).push(stored.record, stored.timestamp_ms);
            }
        }
    }

    /// Writes records as they stood elsewhere, with the gaps between them.
    pub fn put(&self, topic: Topic, partition: u32, records: impl Iterator<Item = Stored>) {
        let mut content = self.lock();
        let place = (topic, 0, partition);
        for stored in records {
            let partition = content.partition(topic, partition);
            partition.end = stored.offset;
            partition.push(stored.record.clone(), stored.timestamp_ms);
            content.archive.entry(place).or_default().insert(stored.offset, stored);
        }
    }

    /// Lets a partition begin with a version of the fold.
    pub fn begin(&self, partition: u32, fold_version: u32) {
        let head = state::Head { fold_version, ..state::Head::default() };
        let record = Record { key: keys::HEAD.into(), value: Some(head.encode_to_vec().into()), headers: Vec::new() };
        self.transact(partition, vec![(Topic::State, record)], true);
    }

    /// Everything that was ever committed to a topic, by place, in order.
    pub fn archive(&self, topic: Topic) -> Vec<(Place, Vec<Stored>)> {
        let content = self.lock();
        let of = content.archive.iter().filter(|((of, _, _), _)| *of == topic);
        of.map(|(place, records)| (*place, records.values().cloned().collect())).collect()
    }
}

impl Content {
    fn partition(&mut self, topic: Topic, partition: u32) -> &mut Partition {
        self.partitions.get_mut(&(topic, partition)).expect("the partition exists")
    }

    /// Ends the open transaction of a partition's producer.
    fn settle(&mut self, owner: u32, commit: bool) {
        for ((topic, number), partition) in &mut self.partitions {
            let of_owner = partition.open.iter().filter(|(_, by)| **by == owner);
            let offsets: Vec<i64> = of_owner.map(|(offset, _)| *offset).collect();
            for offset in &offsets {
                partition.open.remove(offset);
                if commit {
                    let generation = self.generations.get(topic).copied().unwrap_or_default();
                    let archive = self.archive.entry((*topic, generation, *number)).or_default();
                    archive.insert(*offset, partition.records[offset].clone());
                } else {
                    partition.aborted.insert(*offset);
                }
            }
            // The marker takes an offset.
            partition.end += i64::from(!offsets.is_empty());
        }
    }
}
