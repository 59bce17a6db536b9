//! Taking a partition over: fence, catch the store up with what is committed, decide the tail of the commands again, and
//! rebuild what is derived.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use super::Node;
use super::commit::{Commit, Committer};
use super::core::Core;
use super::guard::Trace;
use super::{decide, lists, version};
use crate::engine::Agenda;
use crate::log::{self, Barrier, Isolation, Owned, Topic};
use crate::metrics;
use crate::proto::commands::{Command, command::Body};
use crate::proto::state;
use crate::proto::temporal::history::v1::History;
use crate::store::index::Entries;
use crate::store::{self, Change, Positions, Store, keys};
use crate::wire::outputs;

/// Records read and written at a time while catching up.
const CHUNK: usize = 5000;
/// How long a read waits for something that is there to be read.
const READ_WAIT: Duration = Duration::from_millis(500);
/// Reads in a row that return nothing although there is something.
const EMPTY_READS_MAX: u32 = 20;
/// A transaction's records are followed by the offset of its marker. In the changelog one offset alone is no record: of a
/// transaction that it lacks the end of, nothing is committed.
pub(super) const MARKER: i64 = 1;
/// How often a take-over logs its progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Decide(#[from] decide::Error),
    #[error(transparent)]
    Version(#[from] version::Unknown),
    #[error("the lists: {0}")]
    Lists(#[from] Box<lists::WriterError>),
    #[error("{0}")]
    Broken(String),
    /// The store can't be caught up: it must be deleted, and read from the log as a whole.
    #[error("the store {0}")]
    Stale(String),
}

/// Takes the partition over. Nothing is answered before this has returned; its lists catch up after.
pub fn take_over(
    node: &Arc<Node>,
    partition: u32,
    store: Arc<dyn Store>,
) -> Result<(Core, Committer, lists::Writer), Error> {
    // First fence: from here on no other node commits, and what is committed is final.
    let Owned { owner, barrier } = node.log.own(partition)?;
    CatchUp::check_head(node, partition, store.positions()?.unwrap_or_default(), barrier)?;
    let positions = CatchUp::default().run(node, partition, &*store, Until::Barrier(barrier))?;
    let mut core = Core::new(partition, node.clone(), store.clone());
    core.load_partition_state()?;
    let (mut lists, updates) = lists::Writer::new(node.clone(), partition, store.clone());
    lists.aim(positions.state, barrier.state);
    let mut committer = Committer::new(node.clone(), partition, owner, store, positions, updates);
    core.replay(&mut committer)?;
    core.position.taken_over_at = committer.changelog_end();
    lists.settle_at(core.position.taken_over_at);
    core.indexes.backlog.begin();
    Ok((core, committer, lists))
}

/// How far a store is brought.
#[derive(Clone, Copy)]
pub enum Until {
    /// To an owner's barrier: nothing is committed that does not stand before it.
    Barrier(Barrier),
    /// To the end of the log that a broker reports. For non-owners, as it may be an old end: the rest follows later.
    Reported,
}

impl Until {
    /// Up to where there is something to read, from `from` on.
    fn end(self, node: &Node, partition: u32, topic: Topic, from: i64) -> Result<Option<i64>, Error> {
        let end = match self {
            Until::Reported => {
                let end = node.log.end_at_least(topic, partition, Isolation::ReadCommitted)?;
                return Ok(Some(end).filter(|end| from < *end));
            }
            Until::Barrier(barrier) if topic == Topic::State => barrier.state,
            Until::Barrier(barrier) => barrier.history,
        };
        if from > end {
            return Err(Error::Stale(format!(
                "has read {topic:?} up to {from}, and the log ends at {end}: it belongs to another log"
            )));
        }
        // Of the history's one offset that is left, the barrier may have made a record: it ends what was left open there.
        let marker = if topic == Topic::State { MARKER } else { 0 };
        Ok(Some(end).filter(|end| from + marker < *end))
    }
}

/// Brings a store to the end of the changelog and of the history; it can go on where it was later.
#[derive(Default)]
pub struct CatchUp {
    readers: BTreeMap<Topic, Box<dyn log::Reader>>,
    /// Follows the store.
    pub(super) lists: Option<lists::Writer>,
}

impl CatchUp {
    /// One whose lists follow the store.
    pub fn with(lists: lists::Writer) -> Self {
        Self { readers: BTreeMap::new(), lists: Some(lists) }
    }

    /// Returns the store's position then.
    pub fn run(&mut self, node: &Node, partition: u32, store: &dyn Store, until: Until) -> Result<Positions, Error> {
        let mut positions = store.positions()?.unwrap_or_default();
        if positions == Positions::default() {
            // Read from its start now, it is as old as that.
            positions.written_ms = node.clock_ms();
        }
        let before = positions;
        let age_ms = || node.clock_ms() - before.written_ms;
        let is_too_old = |from| 0 < from && log::may_miss_deletions(age_ms());
        let stale = || {
            let hours = age_ms() / 3_600_000;
            Error::Stale(format!("was last written {hours} h ago, and the log may have expired deletions since"))
        };
        for topic in [Topic::State, Topic::History] {
            let from = if topic == Topic::State { positions.state } else { positions.history };
            let Some(end) = until.end(node, partition, topic, from)? else { continue };
            if is_too_old(from) {
                return Err(stale());
            }
            self.read(node, partition, store, &mut positions, topic, from..end)?;
            // The process may have been paused in between.
            if is_too_old(from) {
                return Err(stale());
            }
        }
        if let Until::Barrier(barrier) = until {
            // The barrier is nothing that would have to be read.
            positions.state = positions.state.max(barrier.state + 1);
            positions.history = positions.history.max(barrier.history + 1);
        }
        // Not before: one that is left halfway misses deletions that are as old as it was.
        if positions != before || log::should_note_age(age_ms()) {
            positions.written_ms = node.clock_ms();
            store.write(&[], positions)?;
        }
        Ok(positions)
    }

    /// Makes sure that what the store took for committed is. A broker that goes down can acknowledge a transaction and lose the
    /// marker that ends it, if the partition has no leader meanwhile: its next owner aborts it then.
    pub(super) fn check_head(node: &Node, partition: u32, positions: Positions, barrier: Barrier) -> Result<(), Error> {
        let end = barrier.state;
        let mut next = positions.head;
        if next == 0 || next >= end {
            // There is no head to check, or the store belongs to another log, which is found elsewhere.
            return Ok(());
        }
        let mut reader = node.log.reader(Topic::State, partition, next, Isolation::ReadCommitted)?;
        let mut empty = EmptyReads::default();
        while next < end {
            let read = reader.next(CHUNK, READ_WAIT)?;
            empty.count(read.next_offset > next, Topic::State, next..end)?;
            next = read.next_offset.max(next);
            if read.records.iter().any(|stored| stored.record.key == keys::HEAD) {
                return Ok(());
            }
        }
        Err(Error::Stale("holds what the log has not committed".into()))
    }

    fn read(
        &mut self,
        node: &Node,
        partition: u32,
        store: &dyn Store,
        positions: &mut Positions,
        topic: Topic,
        range: Range<i64>,
    ) -> Result<(), Error> {
        let reader = match self.readers.entry(topic) {
            Entry::Occupied(reader) => reader.into_mut(),
            Entry::Vacant(none) => {
                none.insert(node.log.reader(topic, partition, range.start, Isolation::ReadCommitted)?)
            }
        };
        let (begun, mut logged) = (Instant::now(), Instant::now());
        let (mut next, mut restored) = (range.start, 0_usize);
        let mut empty = EmptyReads::default();
        while next < range.end {
            let read = reader.next(CHUNK, READ_WAIT)?;
            empty.count(read.next_offset > next, topic, next..range.end)?;
            next = read.next_offset.max(next);
            restored += read.records.len();
            let heads = read.records.iter().rev().find(|stored| stored.record.key == keys::HEAD);
            let head = heads.map(|stored| stored.offset);
            let mut changes: Vec<Change> =
                read.records.into_iter().map(|stored| change(topic, stored.record)).collect::<Result<_, _>>()?;
            let followed = self.lists.as_mut().filter(|_| topic == Topic::State);
            let changed: Vec<Bytes> = followed.iter().flat_map(|_| &changes).map(|(key, _)| key.clone()).collect();
            let from = positions.state;
            index(store, &mut changes)?;
            match topic {
                Topic::State => (positions.state, positions.head) = (next, head.unwrap_or(positions.head)),
                _ => positions.history = next,
            }
            store.write(&changes, *positions)?;
            if let Some(lists) = followed {
                lists.follow(&changed, from, *positions).map_err(Box::new)?;
            }
            if logged.elapsed() >= PROGRESS_EVERY {
                logged = Instant::now();
                let percent = (next - range.start) * 100 / (range.end - range.start).max(1);
                tracing::info!(
                    partition,
                    topic = topic.name(),
                    records = restored,
                    percent,
                    "the store is catching up"
                );
            }
        }
        if begun.elapsed() >= PROGRESS_EVERY {
            let elapsed_ms = begun.elapsed().as_millis() as u64;
            tracing::info!(partition, topic = topic.name(), records = restored, elapsed_ms, "the store has caught up");
        }
        metrics::restored(partition, topic.name(), restored);
        Ok(())
    }
}

/// Counts reads that return nothing.
#[derive(Default)]
struct EmptyReads(u32);

impl EmptyReads {
    /// `Err`: too many in a row. A broker may lack what another has acknowledged, and must not hold up the take-over: the next
    /// reader may reach the other.
    fn count(&mut self, moved: bool, topic: Topic, expected: Range<i64>) -> Result<(), Error> {
        self.0 = if moved { 0 } else { self.0 + 1 };
        if self.0 < EMPTY_READS_MAX {
            return Ok(());
        }
        let Range { start, end } = expected;
        Err(Error::Broken(format!("the log returns nothing of {topic:?} from {start} to {end}")))
    }
}

fn change(topic: Topic, record: log::Record) -> Result<Change, Error> {
    let value = match (topic, record.value) {
        (Topic::History, Some(avro)) => {
            let batch = outputs::read_history(&avro, &record.headers)
                .map_err(|error| Error::Broken(format!("a record of the history topic can't be read: {error}")))?;
            Some(Bytes::from(History { events: batch.events }.encode_to_vec()))
        }
        (_, value) => value,
    };
    Ok((record.key, value))
}

/// Adds what changed records mean for the store's indexes.
fn index(store: &dyn Store, changes: &mut Vec<Change>) -> Result<(), Error> {
    let mut latest: HashMap<Bytes, Entries> = HashMap::new();
    let mut entries: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
    for (key, value) in changes.iter() {
        let Some(keys::Parsed { entity, record: Some((_, sub_key)) }) = keys::parse(key) else { continue };
        if !entity.kind.has_agenda(&sub_key) {
            continue;
        }
        let of = |value: &Bytes| {
            let agenda = entity.kind.agenda(&sub_key, value.clone()).unwrap_or_else(|error| {
                tracing::error!(id = %entity.id, ?sub_key, "a record can't be read, and is neither due nor offers a task: {error}");
                Agenda::default()
            });
            Entries::of(&entity.namespace_id, key, &agenda)
        };
        let after = value.as_ref().map(of).unwrap_or_default();
        let before = match latest.insert(key.clone(), after.clone()) {
            Some(before) => before,
            None => store.get(key)?.as_ref().map(of).unwrap_or_default(),
        };
        if before != after {
            entries.extend(before.into_keys().map(|key| (key, None)));
            entries.extend(after.into_keys().map(|key| (key, Some(Bytes::new()))));
        }
    }
    changes.extend(entries);
    Ok(())
}

impl Core {
    fn load_partition_state(&mut self) -> Result<(), Error> {
        let store = self.store.clone();
        let head = store.get(keys::HEAD)?.map(state::Head::decode).transpose();
        let head = head.map_err(|error| Error::Broken(format!("the partition's head can't be read: {error}")))?;
        self.restore_version(head.as_ref())?;
        if let Some(head) = head {
            (self.position.next, self.position.now_ms) = (head.commands_position, head.now_ms);
            (self.position.accepted, self.outbox.sent, self.set_aside) = (head.accepted, head.sent, head.set_aside);
            self.position.in_head = self.position.next;
        } else {
            // The first head names the version of the fold that decides what follows.
            self.commits.pending.touched = true;
        }
        for (id, shared) in self.shared()? {
            if let Err(error) = self.node.shared.put(&id, &shared) {
                tracing::error!(
                    partition = self.partition,
                    ?id,
                    "an entity that every node must know can't be read: {error}"
                );
            }
        }
        self.restore_copies()?;
        store.scan(keys::OUTGOING, keys::OUTGOING, &mut |key, value| {
            if let (Some(name), Ok(outgoing)) = (keys::parse_outgoing(key), state::Outgoing::decode(value)) {
                self.outbox.unacknowledged.insert(name, outgoing.command);
            }
            true
        })?;
        Ok(())
    }

    /// Decides again what was durable and not yet committed, up to a barrier, and commits it if there was anything. If the
    /// process before went down meanwhile, the command that may be the cause is decided alone.
    fn replay(&mut self, committer: &mut Committer) -> Result<(), Error> {
        let barrier = self.append_barrier()?;
        let end = barrier.offset;
        if self.position.next > end {
            let position = self.position.next;
            return Err(Error::Broken(format!("the position is {position}, and the commands end at {end}")));
        }
        self.replaying = true;
        match self.guard.found() {
            Trace::Deciding(at) | Trace::Alone(at) if (self.position.next..end).contains(&at.offset) => {
                tracing::warn!(
                    partition = self.partition,
                    offset = at.offset,
                    "the process went down while this command was decided, which has a commit of its own now"
                );
                self.replay_until(at.offset, committer)?;
                self.commit_replayed(committer)?;
                self.decide_alone(at.offset, committer)?;
            }
            Trace::Gathering => {
                while self.position.next < end {
                    self.decide_alone(self.position.next, committer)?;
                }
            }
            _ => {}
        }
        self.replay_until(end, committer)?;
        self.pass_barrier(barrier);
        self.commit_replayed(committer)?;
        self.replaying = false;
        Ok(())
    }

    /// Decides the commands before `end`, and commits what comes of them in pieces, but for the last: neither memory nor a
    /// transaction has to hold all of it.
    fn replay_until(&mut self, end: i64, committer: &mut Committer) -> Result<(), Error> {
        loop {
            self.decide_some(end, true)?;
            if self.position.next >= end {
                return Ok(());
            }
            self.commits.pending.touched = true;
            self.commit_replayed(committer)?;
        }
    }

    fn commit_replayed(&mut self, committer: &mut Committer) -> Result<(), Error> {
        if !self.commits.pending.touched {
            self.guard.idle();
            return Ok(());
        }
        self.guard.gathering();
        let commit = self.make_commit();
        self.guard.idle();
        self.commit_now(commit, committer)
    }

    /// Makes a commit, and waits for it.
    fn commit_now(&mut self, commit: Commit, committer: &mut Committer) -> Result<(), Error> {
        committer.commit(commit).map_err(|error| Error::Broken(error.to_string()))?;
        self.committed(self.commits.generation - 1);
        self.entities.evict(self.node.entity_bytes_max(), self.commits.made);
        Ok(())
    }

    /// Decides the command at an offset in a commit of its own, and while no other partition does so.
    fn decide_alone(&mut self, offset: i64, committer: &mut Committer) -> Result<(), Error> {
        let node = self.node.clone();
        let alone = node.alone.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard.begin_alone();
        let decided = self.decide_range(offset + 1);
        let commit = decided.map(|()| self.make_commit());
        let is_set_aside = self.set_aside.iter().any(|set_aside| set_aside.offset == offset);
        if !is_set_aside {
            self.guard.end_alone();
            drop(alone);
        }
        let committed = self.commit_now(commit?, committer);
        // Not before its refusal stands: else the next process would have to go down for it again.
        if is_set_aside && committed.is_ok() {
            self.guard.end_alone();
        }
        committed
    }

    /// Reads and decides the commands from the present position up to `end`, which others have appended.
    pub(super) fn decide_range(&mut self, end: i64) -> Result<(), Error> {
        self.decide_some(end, false)
    }

    /// As [`decide_range`](Self::decide_range); `piecewise`: stops where there is enough for one commit.
    fn decide_some(&mut self, end: i64, piecewise: bool) -> Result<(), Error> {
        if self.position.next >= end {
            return Ok(());
        }
        let log = self.node.log.clone();
        let start = log.start_offset(Topic::Commands, self.partition)?;
        if start > self.position.next {
            // The present owner has decided and deleted them.
            return Err(Error::Broken(format!(
                "commands from {} on are needed, and the log begins at {start}",
                self.position.next
            )));
        }
        let mut reader = log.reader(Topic::Commands, self.partition, self.position.next, Isolation::ReadUncommitted)?;
        let mut empty = EmptyReads::default();
        while self.position.next < end {
            if piecewise && self.commits.pending.load.fills_a_commit(&self.node.settings) {
                return Ok(());
            }
            let before = self.position.next;
            let read = reader.next(CHUNK, READ_WAIT)?;
            let mut full = false;
            let mut decided = Ok(());
            for stored in read.records.iter().filter(|stored| stored.offset < end) {
                decided = self.decide_stored(stored);
                full = piecewise && self.commits.pending.load.fills_a_commit(&self.node.settings);
                if full || decided.is_err() {
                    break;
                }
            }
            self.guard.idle();
            decided?;
            if !full && read.next_offset >= end {
                self.position.next = self.position.next.max(end);
            }
            empty.count(self.position.next > before, Topic::Commands, self.position.next..end)?;
        }
        Ok(())
    }

    fn decide_stored(&mut self, stored: &log::Stored) -> Result<(), Error> {
        let at = log::Appended { offset: stored.offset, timestamp_ms: stored.timestamp_ms };
        let value = stored.record.value.clone().unwrap_or_default();
        let is_set_aside = self.replaying && self.guard.found() == Trace::Alone(at);
        self.guard.deciding(at);
        match Command::decode(value.clone()) {
            Ok(command) => {
                self.count(&command, stored.record.size());
                // More of what is set aside is refused: barriers must not be, and can't be the cause.
                let decided = if is_set_aside && !matches!(command.body, Some(Body::Barrier(_))) {
                    let refused = self.admit(&command, at).and_then(|()| Err(self.put_aside(&command, at)));
                    self.note_reply(&command, &refused);
                    refused
                } else {
                    let decided = self.decide(&command, at)?;
                    self.after_decision(&command);
                    decided
                };
                if let Err(rejection) = decided {
                    self.note_rejection(&command, at, &rejection);
                }
            }
            Err(error) => {
                self.position.next = stored.offset + 1;
                tracing::error!(
                    partition = self.partition,
                    offset = stored.offset,
                    "a record of the commands can't be read, and is set aside: {error}"
                );
                let reason = format!("not a command: {error}");
                self.reject_stored(at, stored.record.key.clone(), value, "INVALID_ARGUMENT", reason);
            }
        }
        Ok(())
    }
}
