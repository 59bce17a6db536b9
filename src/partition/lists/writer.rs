//! Keeps a partition's lists up to date, beside its loop: they never hold it up, and it serves before they have caught up.
//!
//! Each commit hands over what it changes. Lists hold their own place in the changelog, so that what they miss is known: after a
//! crash, on another node, or where more came than they could take. They read it from there by position; what a run is like is
//! then read from the store, which is never behind. Only lists of which nothing is known are built from the whole store.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::engine::{EntityId, Row};
use crate::log::{self, Barrier, Isolation, Topic};
use crate::partition::Node;
use crate::partition::restore::{self, CatchUp, MARKER};
use crate::store::{self, Positions, Store, keys};
use crate::visibility::{self, Deleted, Place};

/// Records of the changelog that are read at a time, and runs that are taken at a time from the store.
const CHUNK: usize = 5000;
/// Records of the store that are looked at for that.
const SCANNED_MAX: usize = 100_000;
/// Changes that are written at once, about.
const TOGETHER: usize = 2000;
/// After this long without a change, the writer checks whether the lists miss one.
const IDLE: Duration = Duration::from_secs(10);
/// Building lists is logged if it took longer than this.
const WORTH_A_WORD: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a commit changes.
pub struct Update {
    /// Where the changelog ended before the commit.
    pub from: i64,
    pub place: Place,
    pub rows: Vec<Row>,
    pub deleted: Vec<Deleted>,
}

impl Update {
    fn size(&self) -> usize {
        1 + self.rows.len() + self.deleted.len()
    }
}

/// What committers and the writer share.
#[derive(Default)]
struct Between {
    queued: AtomicUsize,
    queued_max: usize,
    /// Where the changelog ends by a commit whose changes were not handed over.
    missed: AtomicI64,
    ended: AtomicBool,
}

/// Where commits hand over what they change. The writer ends with it.
pub struct Updates {
    sender: Sender<Update>,
    between: Arc<Between>,
}

impl Updates {
    pub fn send(&self, update: Update) {
        if self.between.queued.fetch_add(update.size(), Ordering::Relaxed) > self.between.queued_max {
            self.between.queued.fetch_sub(update.size(), Ordering::Relaxed);
            self.between.missed.store(update.place.next, Ordering::Relaxed);
        } else {
            let _ = self.sender.send(update);
        }
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        self.between.ended.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Visibility(#[from] visibility::Error),
    #[error(transparent)]
    Restore(#[from] restore::Error),
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Done,
    Nothing,
    Ended,
}

pub struct Writer {
    node: Arc<Node>,
    partition: u32,
    store: Arc<dyn Store>,
    updates: Receiver<Update>,
    between: Arc<Between>,
    /// Where the lists are to get to by the changelog: the store is there already.
    goal: i64,
    /// A reader that has read up to here has read all before the goal: no records that readers see are between.
    read_to: i64,
    /// Before this offset, lists may show one run newer than another.
    settled: i64,
    is_checked: bool,
    building: Option<Building>,
    reader: Option<(i64, Box<dyn log::Reader>)>,
}

/// Lists that are built from the store.
struct Building {
    /// The store's key to go on from.
    from: Bytes,
    /// Where they are then: what was changed meanwhile comes after it.
    place: Place,
    begun: Instant,
}

impl Writer {
    pub fn new(node: Arc<Node>, partition: u32, store: Arc<dyn Store>) -> (Self, Updates) {
        let (sender, updates) = channel();
        let between = Arc::new(Between { queued_max: node.settings.list_changes_max, ..Between::default() });
        node.lists[partition as usize].set_current(false);
        let writer = Self {
            node,
            partition,
            store,
            updates,
            between: between.clone(),
            goal: 0,
            read_to: 0,
            settled: 0,
            is_checked: false,
            building: None,
            reader: None,
        };
        (writer, Updates { sender, between })
    }

    /// The store has come to the offset `goal` of the changelog, and there is nothing to be read from `read_to` on.
    pub fn aim(&mut self, goal: i64, read_to: i64) {
        (self.goal, self.read_to) = (goal, read_to);
    }

    /// Lists are not current before they show what was committed before this offset.
    pub fn settle_at(&mut self, offset: i64) {
        self.settled = self.settled.max(offset);
    }

    /// Writes until nothing can come any more. What is left for the changelog then is its next owner's.
    pub fn serve(mut self) {
        let mut complained = false;
        loop {
            match self.step(IDLE) {
                Ok(Step::Ended) => return,
                Ok(_) => complained = false,
                Err(error) => {
                    if !complained {
                        tracing::warn!(
                            partition = self.partition,
                            "lists can't be written, which is tried again: {error}"
                        );
                    }
                    complained = true;
                    std::thread::sleep(RETRY);
                }
            }
            if self.is_behind() && self.between.ended.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Writes what comes next, if anything does within a time.
    pub fn step(&mut self, wait: Duration) -> Result<Step, Error> {
        let done = self.step_on(wait);
        self.node.lists[self.partition as usize].set_current(!self.is_behind() && self.place().next >= self.settled);
        done
    }

    fn step_on(&mut self, wait: Duration) -> Result<Step, Error> {
        if self.catch_up()? {
            return Ok(Step::Done);
        }
        let update = match self.updates.try_recv() {
            // Before any wait: after the last of a burst nothing comes that would show what was missed.
            Err(TryRecvError::Empty) if self.has_missed() => return Ok(Step::Done),
            Err(TryRecvError::Empty) => self.updates.recv_timeout(wait),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Ok(update) => Ok(update),
        };
        let update = match update {
            Ok(update) => update,
            Err(RecvTimeoutError::Disconnected) => return Ok(Step::Ended),
            Err(RecvTimeoutError::Timeout) => {
                self.has_missed();
                self.stay()?;
                return Ok(if self.is_behind() { Step::Done } else { Step::Nothing });
            }
        };
        self.take(update)?;
        Ok(Step::Done)
    }

    /// Whether a commit's changes were not handed over: they are read from the changelog.
    fn has_missed(&mut self) -> bool {
        let missed = self.between.missed.load(Ordering::Relaxed);
        if missed > self.goal {
            self.aim(missed, missed);
        }
        self.is_behind()
    }

    fn place(&self) -> Place {
        self.node.lists[self.partition as usize].writer().place()
    }

    fn is_behind(&self) -> bool {
        !self.is_checked || self.building.is_some() || self.place().next < self.goal
    }

    /// Does a piece of what is to be done without an update; false: there is nothing.
    pub fn catch_up(&mut self) -> Result<bool, Error> {
        let behind = self.is_behind();
        if !self.is_checked {
            self.check()?;
        } else if self.building.is_some() {
            self.build()?;
        } else if behind {
            self.read_on()?;
        }
        Ok(behind)
    }

    /// Finds out whether the lists belong to this log, and can go on from where they are.
    fn check(&mut self) -> Result<(), Error> {
        let place = self.place();
        let reason = if place.next == 0 {
            Some("there are none yet".to_owned())
        } else if place.next > self.goal {
            let (next, goal) = (place.next, self.goal);
            Some(format!("they have read the changelog up to {next}, and it ends at {goal}: they are of another log"))
        } else if self.is_too_old(place) {
            Some("they are so old that the log may have expired deletions since".to_owned())
        } else {
            let head = Positions { head: place.head, ..Positions::default() };
            let barrier = Barrier { state: self.read_to, history: 0 };
            match CatchUp::check_head(&self.node, self.partition, head, barrier) {
                Ok(()) => None,
                Err(restore::Error::Stale(_)) => Some("they show what the log has not committed".to_owned()),
                Err(error) => return Err(error.into()),
            }
        };
        if let Some(reason) = reason {
            self.node.lists[self.partition as usize].clear()?;
            let positions = self.store.positions()?.unwrap_or_default();
            let place = Place { next: positions.state, head: positions.head, written_ms: self.node.clock_ms() };
            tracing::debug!(partition = self.partition, "lists are built from the store: {reason}");
            self.building = Some(Building { from: Bytes::from_static(keys::STATE), place, begun: self.node.now() });
        }
        self.is_checked = true;
        Ok(())
    }

    /// Whether the log may have expired deletions that the lists have not read.
    fn is_too_old(&self, place: Place) -> bool {
        place.next + MARKER < self.read_to && log::may_miss_deletions(self.node.clock_ms() - place.written_ms)
    }

    /// Takes some more runs from the store. One partition of a node at a time: they are not to take all cores.
    fn build(&mut self) -> Result<(), Error> {
        let node = self.node.clone();
        let _turn = node.building.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(building) = &self.building else { return Ok(()) };
        let (mut runs, mut seen, mut next) = (BTreeSet::new(), 0, None);
        self.store.scan(keys::STATE, &building.from, &mut |key, _| {
            if runs.len() == CHUNK || seen == SCANNED_MAX {
                next = Some(Bytes::copy_from_slice(key));
                return false;
            }
            runs.extend(shown(key));
            seen += 1;
            true
        })?;
        let place = if next.is_none() { building.place } else { Place::default() };
        self.show(runs, place)?;
        let Some(mut building) = self.building.take() else { return Ok(()) };
        if let Some(next) = next {
            building.from = next;
            self.building = Some(building);
            return Ok(());
        }
        let elapsed = self.node.now().duration_since(building.begun);
        if elapsed > WORTH_A_WORD {
            tracing::info!(partition = self.partition, elapsed_ms = elapsed.as_millis() as u64, "lists are built");
        }
        Ok(())
    }

    /// Reads on in the changelog.
    fn read_on(&mut self) -> Result<(), Error> {
        let place = self.place();
        if place.next + MARKER >= self.read_to && self.read_to < self.goal {
            return self.show(BTreeSet::new(), Place { next: self.goal, written_ms: self.node.clock_ms(), ..place });
        }
        if self.is_too_old(place) {
            // They could not be written, or had no writer, for that long.
            self.is_checked = false;
            return Ok(());
        }
        let mut reader = match self.reader.take() {
            Some((at, reader)) if at == place.next => reader,
            _ => self.node.log.reader(Topic::State, self.partition, place.next, Isolation::ReadCommitted)?,
        };
        let read = reader.next(CHUNK, Duration::from_millis(500))?;
        let goal = self.goal;
        let next = if read.next_offset >= self.read_to { goal } else { read.next_offset.max(place.next) };
        let records = read.records.iter().filter(|stored| stored.offset < goal);
        let heads = records.clone().rev().find(|stored| stored.record.key == keys::HEAD);
        let head = heads.map_or(place.head, |stored| stored.offset);
        let runs = records.filter_map(|stored| shown(&stored.record.key)).collect();
        // Not before: those that are left halfway miss deletions that are as old as they were.
        let written_ms = if next == goal { self.node.clock_ms() } else { place.written_ms };
        self.show(runs, Place { next, head, written_ms })?;
        if read.next_offset == next {
            self.reader = Some((next, reader));
        }
        Ok(())
    }

    /// Takes records of the changelog that the store has just taken, which bring it from one offset to a place, if the lists are
    /// there too.
    pub fn follow(&mut self, keys: &[Bytes], from: i64, to: Positions) -> Result<(), Error> {
        self.aim(to.state, to.state);
        let before = self.place();
        if !self.is_checked || self.building.is_some() || before.next != from {
            return Ok(());
        }
        let runs = keys.iter().filter_map(|key| shown(key)).collect();
        self.show(runs, Place { next: to.state, head: to.head, written_ms: before.written_ms })
    }

    /// Records now and then that the lists miss nothing: else they would become too old to go on from where they are.
    pub fn stay(&mut self) -> Result<(), Error> {
        let (place, now_ms) = (self.place(), self.node.clock_ms());
        if !self.is_behind() && place.next > 0 && log::should_note_age(now_ms - place.written_ms) {
            let place = Place { written_ms: now_ms, ..place };
            self.node.lists[self.partition as usize].writer().apply(&[], &[], place)?;
        }
        Ok(())
    }

    /// Shows runs as the store has them by now.
    fn show(&mut self, runs: BTreeSet<Named>, place: Place) -> Result<(), Error> {
        let (mut rows, mut deleted) = (Vec::new(), Vec::new());
        for run in runs {
            match row(&*self.store, &run)? {
                Some(row) => rows.push(row),
                None => deleted.push(run.deleted()),
            }
        }
        // The store may be ahead of the place.
        self.settle_at(self.store.positions()?.unwrap_or_default().state);
        Ok(self.node.lists[self.partition as usize].writer().apply(&rows, &deleted, place)?)
    }

    /// Takes an update, and those that wait behind it, if the lists miss nothing before.
    fn take(&mut self, update: Update) -> Result<(), Error> {
        self.taken(&update);
        let mut lists = self.node.lists[self.partition as usize].writer();
        if lists.place().next != update.from {
            (self.goal, self.read_to) = (update.place.next, update.place.next);
            return Ok(());
        }
        let Update { mut place, mut rows, mut deleted, .. } = update;
        let mut next = None;
        while rows.len() < TOGETHER
            && let Ok(update) = self.updates.try_recv()
        {
            self.taken(&update);
            if update.from != place.next {
                next = Some(update.place.next);
                break;
            }
            place = update.place;
            rows.extend(update.rows);
            deleted.extend(update.deleted);
        }
        // If it fails, they are read from the changelog.
        self.goal = next.unwrap_or(place.next);
        self.read_to = self.goal;
        Ok(lists.apply(&rows, &deleted, place)?)
    }

    fn taken(&self, update: &Update) {
        self.between.queued.fetch_sub(update.size(), Ordering::Relaxed);
    }
}

/// A run that lists show.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    entity: EntityId,
    run_id: String,
}

impl Named {
    fn deleted(self) -> Deleted {
        let EntityId { kind, namespace_id, .. } = self.entity;
        Deleted { kind, namespace_id: namespace_id.to_string(), run_id: self.run_id }
    }
}

/// The run whose row a record is part of.
fn shown(key: &[u8]) -> Option<Named> {
    let keys::Parsed { entity, record: Some((run_id, sub_key)) } = keys::parse(key)? else { return None };
    entity.kind.row_keys().contains(&sub_key).then_some(Named { entity, run_id })
}

/// What lists show of a run, by the store; none if it is not there any more.
fn row(store: &dyn Store, Named { entity, run_id }: &Named) -> Result<Option<Row>, store::Error> {
    let mut run = entity.kind.empty();
    for sub_key in entity.kind.row_keys() {
        if let Some(value) = store.get(&keys::record(entity, run_id, sub_key))? {
            let restored = run.restore(sub_key.clone(), value);
            restored.map_err(|error| store::Error::Io(format!("a record of run {run_id} can't be read: {error}")))?;
        }
    }
    // One that is being deleted is not listed any more.
    let is_there = !run.run_id().is_empty() && run.header().deleted_to_event_id == 0;
    Ok(if is_there { run.row() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::TOMBSTONE_RETENTION_MS;
    use crate::partition::Settings;
    use crate::partition::fixture::{Fixture, commit, decided, start, terminate};

    #[test]
    fn lists_that_stood_still_for_longer_than_the_log_keeps_deletions_are_built_anew() {
        let fixture = Fixture::new(1, Settings::default());
        let (mut turns, mut background) = fixture.take_over(0);
        for body in [start(), terminate()] {
            while background.lists.step(Duration::ZERO).expect("lists can be written") == Step::Done {}
            decided(&fixture, &mut turns, "w", body);
            fixture.clock.pass(100);
            fixture.turn(0, &mut turns);
            assert!(commit(&mut background));
            fixture.turn(0, &mut turns);
        }
        let mut lists = background.lists;
        let missed = lists.updates.try_recv().expect("the commit hands over what it changes").place.next;
        lists.aim(missed, missed);
        fixture.clock.set_ahead(TOMBSTONE_RETENTION_MS / 2 + 1000);
        assert!(lists.catch_up().expect("lists can be written") && !lists.is_checked, "they are too old to go on");
        assert!(lists.catch_up().expect("lists can be written") && lists.building.is_some(), "they are built");
        while lists.catch_up().expect("lists can be written") {}
        assert_eq!(lists.place().next, missed);
    }
}
