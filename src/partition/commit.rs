//! Commits: what was decided since the last one, as one transaction of outputs, changelog and head, and then as one batch of
//! the store. They are made in the background, one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashlink::LinkedHashMap;
use prost::Message as _;

use super::core::Core;
use super::entities::Batch;
use super::lists::{Update, Updates};
use super::load::Load;
use super::{Handle, Message, Node, workflows};
use crate::engine::{EntityId, Row, RunOutcome, State, SubKey};
use crate::log::{self, Abandon, Owner, Record, Topic};
use crate::metrics;
use crate::proto::temporal::history::v1::History;
use crate::proto::{events, state};
use crate::store::{Change, Positions, Store, keys};
use crate::visibility::{self, Place};
use crate::wire::avro::Framing;
use crate::wire::outputs;

/// The store is written to disk this often: what is not there is read from the log again after a crash, which must find
/// the deletions among it.
const FLUSH_EVERY: Duration = Duration::from_secs(600);

/// What is left of a key, or a reason, of a refusal that would be too large. Bytes.
const REJECTED_KEY_MAX: usize = 64 * 1024;

/// What was decided and is not durable yet.
pub struct Commits {
    /// What the next commit takes.
    pub pending: Pending,
    /// Which commit takes what is changed now, and the last that was made.
    pub generation: u64,
    pub made: u64,
    /// What the commit takes that is being made, and its entities.
    pub load: Load,
    pub entities: Vec<EntityId>,
}

impl Default for Commits {
    fn default() -> Self {
        Self { pending: Pending::default(), generation: 1, made: 0, load: Load::default(), entities: Vec::new() }
    }
}

/// What the next commit takes.
#[derive(Default)]
pub struct Pending {
    /// Something was decided, if only that nothing changes: the head moves.
    pub touched: bool,
    /// What was decided.
    pub load: Load,
    /// In the order in which they were first changed.
    pub(super) records: LinkedHashMap<EntityId, BTreeMap<String, BTreeSet<SubKey>>>,
    entities: BTreeSet<EntityId>,
    /// Histories of which some was copied, or is to be: by the run that they are copied to.
    pub(super) copies: BTreeSet<(EntityId, String)>,
    pub history: Vec<(EntityId, Arc<str>, Arc<Batch>)>,
    pub outgoing: BTreeMap<(u32, i64), Option<Bytes>>,
    deleted: Vec<Deleted>,
    pub rejections: Vec<events::Rejected>,
    /// Records for the public alone, in the order in which they were decided.
    pub public: Vec<(Topic, Record)>,
}

struct Deleted {
    key: EntityId,
    run: State,
    batches: Vec<Bytes>,
    /// History that no commit has taken yet: it is published all the same.
    unseen: Vec<Arc<Batch>>,
    sub_keys: BTreeSet<SubKey>,
    listed: bool,
}

impl Pending {
    /// Adds one run's changes.
    pub fn note(&mut self, key: &EntityId, new: bool, changed: &RunOutcome, sub_keys: BTreeSet<SubKey>) {
        if new {
            self.entities.insert(key.clone());
        }
        let runs = self.records.entry(key.clone()).or_insert_with(BTreeMap::new);
        runs.entry(changed.run.run_id().to_owned()).or_default().extend(sub_keys);
    }

    /// Adds what is deleted of a run. `listed`: it may be in the lists yet.
    pub(super) fn deleting(
        &mut self,
        key: &EntityId,
        newest: bool,
        batches: Vec<Bytes>,
        run: &State,
        sub_keys: BTreeSet<SubKey>,
        listed: bool,
    ) {
        if newest {
            self.entities.insert(key.clone());
        }
        // What is deleted later is committed like any other batch, so that it is found then.
        let is_deleted =
            |batch: &Batch| batches.contains(&keys::history_batch(key, run.run_id(), batch.first_event_id));
        let unseen = self
            .history
            .extract_if(.., |(of, run_id, batch)| of == key && **run_id == *run.run_id() && is_deleted(batch));
        let unseen = unseen.map(|(_, _, batch)| batch).collect();
        self.deleted.push(Deleted { key: key.clone(), run: run.clone(), batches, unseen, sub_keys, listed });
    }
}

/// One commit, ready to be made.
pub struct Commit {
    generation: u64,
    outputs: Vec<(Topic, Record)>,
    changes: Vec<Change>,
    rows: Vec<Row>,
    deleted_rows: Vec<visibility::Deleted>,
    /// The commands before this offset may be deleted, once the commit is durable.
    trim_before: Option<i64>,
}

impl Core {
    /// Turns what has gathered into a commit, and begins the next generation.
    pub(super) fn make_commit(&mut self) -> Commit {
        let pending = std::mem::take(&mut self.commits.pending);
        let mut commit = Commit {
            generation: self.commits.generation,
            outputs: Vec::new(),
            changes: Vec::new(),
            rows: Vec::new(),
            deleted_rows: Vec::new(),
            trim_before: None,
        };
        let settings = &self.node.settings;
        if self.commits.generation.is_multiple_of(settings.trim_every) {
            commit.trim_before = Some(self.position.next.saturating_sub(settings.commands_kept));
        }
        self.commits.generation += 1;
        (self.position.in_head, self.position.barriers) = (self.position.next, 0);
        self.commits.load = pending.load;
        self.commits.entities = pending.records.keys().cloned().collect();
        // A run is deleted from its beginning on: what is deleted comes before what is left of it.
        let framing = &self.node.settings.framing;
        pending.deleted.iter().for_each(|deleted| commit.publish(framing, deleted));
        for (key, run_id, batch) in &pending.history {
            self.commit_history(&mut commit, key, run_id, batch);
        }
        commit.outputs.extend(pending.public.into_iter().filter(|(topic, record)| self.fits(*topic, record)));
        for rejected in &pending.rejections {
            let record = rejection(framing, rejected, self.node.settings.record_bytes_max);
            commit.outputs.push((Topic::Rejections, record));
        }
        for (key, runs) in &pending.records {
            for (run_id, sub_keys) in runs {
                self.commit_run(&mut commit, key, run_id, sub_keys);
            }
        }
        for deleted in &pending.deleted {
            commit.delete(deleted);
        }
        for key in &pending.entities {
            let newest = self.entities.peek(key).and_then(|entity| entity.newest.as_ref());
            let value = newest
                .map(|newest| state::Entity { current_run_id: newest.run.run_id().to_owned() }.encode_to_vec().into());
            commit.state(keys::entity(key), value);
        }
        for name in &pending.copies {
            commit.state(keys::copy(&name.0, &name.1), self.copies.record(name));
        }
        for ((target, sequence), command) in pending.outgoing {
            let value = command.map(|command| state::Outgoing { command }.encode_to_vec().into());
            commit.state(keys::outgoing(target, sequence), value);
        }
        commit.changes.extend(self.indexes.begin_commit());
        let head = state::Head {
            commands_position: self.position.next,
            now_ms: self.position.now_ms,
            fold_version: self.position.fold_version,
            accepted: self.position.accepted.clone(),
            sent: self.outbox.sent.clone(),
            set_aside: self.set_aside.clone(),
        };
        commit.state(Bytes::from_static(keys::HEAD), Some(head.encode_to_vec().into()));
        commit
    }

    /// A commit is made: what it took is durable.
    pub(super) fn committed(&mut self, generation: u64) {
        self.commits.made = generation;
        self.commits.load = Load::default();
        self.indexes.committed();
        self.copies.committed(generation);
        let entities = std::mem::take(&mut self.commits.entities);
        self.entities.settle(&entities, generation);
    }

    fn commit_history(&self, commit: &mut Commit, key: &EntityId, run_id: &str, batch: &Batch) {
        let cached = self.entities.peek(key).and_then(|entity| entity.find(run_id)).map(|cached| &cached.run);
        // One that is not in memory has been replaced while its history is copied.
        let stored = if cached.is_none() { self.load_run(key, run_id).ok().flatten() } else { None };
        let public = workflows::history(&self.node.settings.framing, key, run_id, cached.or(stored.as_ref()), batch);
        let record_key = public.key.clone();
        commit.outputs.push((Topic::History, public));
        let stored = History { events: batch.to_events() }.encode_to_vec();
        commit.changes.push((record_key, Some(stored.into())));
    }

    fn commit_run(&self, commit: &mut Commit, key: &EntityId, run_id: &str, sub_keys: &BTreeSet<SubKey>) {
        let Some(cached) = self.entities.peek(key).and_then(|entity| entity.find(run_id)) else { return };
        for sub_key in sub_keys {
            let value = cached.run.encode(sub_key);
            commit.state(keys::record(key, run_id, sub_key), value);
        }
        let listed = key.kind.row_keys().iter().any(|part| sub_keys.contains(part));
        // One that is being deleted is not listed any more.
        if listed && cached.run.header().deleted_to_event_id == 0 {
            commit.rows.extend(cached.run.row());
        }
    }
}

/// The record of a refusal. What was refused may be as large as a record can be, and is left out then: its coordinates stay.
fn rejection(framing: &Framing, rejected: &events::Rejected, bytes_max: usize) -> Record {
    let record = |rejected: &events::Rejected| Record {
        key: rejected.key.clone(),
        value: Some(outputs::encode(framing, rejected)),
        headers: Vec::new(),
    };
    let whole = record(rejected);
    if whole.size() <= bytes_max {
        return whole;
    }
    let key = rejected.key.slice(..rejected.key.len().min(REJECTED_KEY_MAX));
    let reason = rejected.reason.chars().take(REJECTED_KEY_MAX).collect();
    record(&events::Rejected { key, value: Bytes::new(), reason, ..rejected.clone() })
}

impl Commit {
    fn state(&mut self, key: Bytes, value: Option<Bytes>) {
        self.outputs.push((Topic::State, Record { key: key.clone(), value: value.clone(), headers: Vec::new() }));
        self.changes.push((key, value));
    }

    fn publish(&mut self, framing: &Framing, Deleted { key, run, unseen, .. }: &Deleted) {
        let record =
            |batch: &Arc<Batch>| (Topic::History, workflows::history(framing, key, run.run_id(), Some(run), batch));
        self.outputs.extend(unseen.iter().map(record));
    }

    fn delete(&mut self, Deleted { key, run, batches, sub_keys, listed, .. }: &Deleted) {
        let run_id = run.run_id();
        for sub_key in sub_keys {
            self.state(keys::record(key, run_id, sub_key), None);
        }
        for batch in batches {
            self.outputs.push((Topic::History, Record { key: batch.clone(), value: None, headers: Vec::new() }));
            self.changes.push((batch.clone(), None));
        }
        if *listed {
            self.deleted_rows.push(visibility::Deleted {
                kind: key.kind,
                namespace_id: key.namespace_id.to_string(),
                run_id: run_id.to_owned(),
            });
        }
    }
}

/// Why a commit was not made, or may not have been.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    #[error("another node owns the partition now")]
    Fenced,
    #[error("{0}")]
    Failed(String),
}

/// Makes commits, in order.
pub struct Committer {
    node: Arc<Node>,
    partition: u32,
    owner: Box<dyn Owner>,
    store: Arc<dyn Store>,
    positions: Positions,
    /// Where lists are notified of commits. They never hold one up.
    lists: Updates,
}

impl Committer {
    pub fn new(
        node: Arc<Node>,
        partition: u32,
        owner: Box<dyn Owner>,
        store: Arc<dyn Store>,
        positions: Positions,
        lists: Updates,
    ) -> Self {
        Self { node, partition, owner, store, positions, lists }
    }

    pub fn abandon(&self) -> Abandon {
        self.owner.abandon()
    }

    /// Makes one commit. On an error the partition must be taken over again: what stands in the log is not known.
    pub fn commit(&mut self, commit: Commit) -> Result<(), CommitError> {
        let begun = Instant::now();
        let topics: Vec<Topic> = commit.outputs.iter().map(|(topic, _)| *topic).collect();
        let bytes: usize = commit
            .outputs
            .iter()
            .map(|(_, record)| record.key.len() + record.value.as_ref().map_or(0, Bytes::len))
            .sum();
        let from = self.positions.state;
        let offsets = self.owner.commit(commit.outputs).map_err(|error| match error {
            log::Error::Fenced { .. } => CommitError::Fenced,
            error => CommitError::Failed(error.to_string()),
        })?;
        for (topic, offset) in topics.iter().zip(&offsets) {
            match topic {
                // The head is the last of them.
                Topic::State => (self.positions.state, self.positions.head) = (offset + 1, *offset),
                Topic::History => self.positions.history = self.positions.history.max(offset + 1),
                _ => {}
            }
        }
        self.positions.written_ms = self.node.clock_ms();
        let written = Instant::now();
        let stored = self.store.write(&commit.changes, self.positions);
        stored.map_err(|error| CommitError::Failed(error.to_string()))?;
        metrics::store_write(self.partition, written.elapsed());
        let Positions { state, head, written_ms, .. } = self.positions;
        let place = Place { next: state, head, written_ms };
        self.lists.send(Update { from, place, rows: commit.rows, deleted: commit.deleted_rows });
        metrics::commit(self.partition, topics.len(), bytes, begun.elapsed());
        Ok(())
    }

    /// The end of the changelog, as far as this owner has written it.
    pub fn changelog_end(&self) -> i64 {
        self.positions.state
    }

    /// Makes one commit, and notifies the loop of its outcome.
    pub fn settle(&mut self, commit: Commit, own: &Handle) -> Result<(), CommitError> {
        let (generation, trim_before) = (commit.generation, commit.trim_before);
        // A panic is an outcome too: the loop would wait for this commit for ever.
        let made = catch_unwind(AssertUnwindSafe(|| self.commit(commit)));
        let outcome = made.unwrap_or_else(|_| Err(CommitError::Failed("a commit panicked".into())));
        own.send(Message::Committed { generation, outcome: outcome.clone() });
        if let Some(before) = trim_before.filter(|_| outcome.is_ok())
            && let Err(error) = self.node.log.trim(Topic::Commands, self.partition, before)
        {
            tracing::warn!(partition = self.partition, "old commands could not be deleted: {error}");
        }
        outcome
    }

    /// Makes commits until the loop has no more, or one fails.
    pub fn serve(mut self, commits: &Receiver<Commit>, own: &Handle) {
        let mut flushed = Instant::now();
        let mut dirty = false;
        loop {
            if dirty && flushed.elapsed() > FLUSH_EVERY {
                if let Err(error) = self.store.flush() {
                    tracing::warn!(partition = self.partition, "the store could not be flushed: {error}");
                }
                (flushed, dirty) = (Instant::now(), false);
            }
            let commit = match commits.recv_timeout(FLUSH_EVERY) {
                Ok(commit) => commit,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            dirty = true;
            if self.settle(commit, own).is_err() {
                return;
            }
        }
        // A clean stop leaves nothing to catch up with.
        let _ = self.store.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Reply;
    use crate::log::RECORD_BYTES_MAX;
    use crate::partition::Settings;
    use crate::partition::fixture::{self, Fixture};
    use crate::partition::run_loop::End;
    use crate::proto::commands::{DeleteRun, command::Body};
    use crate::proto::events::{HistoryBatch, Rejected};
    use crate::wire::avro;

    struct Panics;

    impl Owner for Panics {
        fn commit(&mut self, _: Vec<(Topic, Record)>) -> Result<Vec<i64>, log::Error> {
            panic!("it can't do anything")
        }
    }

    #[test]
    fn history_is_published_in_its_order_when_its_run_is_deleted_part_by_part_in_the_same_commit() {
        let fixture = Fixture::new(1, Settings { deleted_at_once: 3, ..Settings::default() });
        let (mut turns, background) = fixture.take_over(0);
        let mut decided = |body| fixture::decided(&fixture, &mut turns, "w", body);
        let Reply::Started { run_id, .. } = decided(fixture::start()) else { panic!("it starts") };
        (0..10).for_each(|number| drop(decided(fixture::signal(&number.to_string()))));
        decided(fixture::terminate());
        decided(Body::DeleteRun(DeleteRun { run_id, due: false, at_once: 3 }));
        fixture.clock.pass(100);
        fixture.turn(0, &mut turns);
        let commit = background.commits.try_recv().expect("a commit is due");
        let batches = commit.outputs.iter().filter(|(topic, _)| *topic == Topic::History);
        let batches = batches.filter_map(|(_, record)| avro::decode::<HistoryBatch>(record.value.as_ref()?).ok());
        let published: Vec<i64> = batches.flat_map(|batch| batch.events).map(|event| event.event_id).collect();
        assert_eq!(published, (1..=13).collect::<Vec<_>>());
    }

    #[test]
    fn a_commit_that_panics_ends_the_partition_and_nobody_waits_for_it() {
        let fixture = Fixture::new(1, Settings::default());
        let (mut turns, mut background) = fixture.take_over(0);
        background.committer.owner = Box::new(Panics);
        let thread = background.start();
        let _outcome = fixture.send("w", fixture::start());
        fixture.node.partition(0).stop();
        let begun = Instant::now();
        let end = loop {
            assert!(begun.elapsed() < Duration::from_secs(30), "it waits for ever");
            if let Some(end) = turns.turn(fixture.inboxes[0].0.try_iter()) {
                break end;
            }
            fixture.clock.pass(100);
        };
        let End::Lost(reason) = end else { panic!("it is lost") };
        assert_eq!(reason, "a commit panicked");
        thread.join().expect("the thread ends well");
    }

    #[test]
    fn what_was_refused_is_left_out_where_it_does_not_fit() {
        let large = Bytes::from(vec![b'x'; RECORD_BYTES_MAX - 1000]);
        let of = |key: &Bytes, value: &Bytes| Rejected {
            topic: "requests".into(),
            offset: 7,
            key: key.clone(),
            value: value.clone(),
            reason: "no".into(),
            ..Rejected::default()
        };
        let small = Bytes::from_static(b"k");
        for (key, value) in [(&small, &small), (&small, &large), (&large, &small), (&large, &large)] {
            let record = rejection(&Framing::SingleObject, &of(key, value), RECORD_BYTES_MAX);
            assert!(record.size() <= RECORD_BYTES_MAX);
            let read: Rejected = avro::decode(record.value.as_deref().unwrap_or_default()).expect("it can be read");
            assert_eq!((read.offset, read.reason.as_str()), (7, "no"));
            assert_eq!(read.value.is_empty(), key.len() > 1, "a value that fits stays");
        }
    }
}
