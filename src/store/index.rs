//! Indexes that a store has beside the records that they are derived from: keys without values, in an order of their own.
//!
//! What comes first in an index is in memory; the rest is read when its turn comes. Changes are written with the records'.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::{Change, Error, Store, keys};
use crate::engine::{Agenda, Task};

/// The keys by which the indexes have a record: when it is due, the task that waits in a queue, and whether every node must know
/// of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub due: Option<Bytes>,
    pub task: Option<Bytes>,
    pub shared: Option<Bytes>,
}

impl Entries {
    /// Of the record that stands under `key`.
    pub fn of(namespace_id: &str, key: &[u8], agenda: &Agenda) -> Self {
        let task = agenda.task.as_ref().map(|task| task_key(namespace_id, key, task));
        let shared = agenda.is_shared.then(|| keys::shared(key));
        Self { due: agenda.due_ms.map(|at| keys::due(at, key)), task, shared }
    }

    pub fn into_keys(self) -> impl Iterator<Item = Bytes> {
        self.due.into_iter().chain(self.task).chain(self.shared)
    }
}

/// Where a task stands in its queue: by the time from which it may be had, which is the log's.
pub fn task_key(namespace_id: &str, record: &[u8], task: &Task) -> Bytes {
    let at_ms = task.scheduled_ms.max(task.not_before_ms);
    keys::task(namespace_id, task.kind.queue_type(), &task.queue, at_ms, record)
}

/// What is to change in an index: with the next commit, and with the one that is being made.
#[derive(Default)]
pub struct Unwritten {
    next: BTreeMap<Bytes, Fate>,
    committing: BTreeMap<Bytes, bool>,
}

/// Whether a key may have been in the index before the next commit, and whether it will be.
struct Fate {
    was: bool,
    is: bool,
}

impl Unwritten {
    /// Adds a key that is not there.
    pub fn add(&mut self, key: Bytes) {
        self.next.entry(key).or_insert(Fate { was: false, is: true }).is = true;
    }

    /// Removes a key, if it is there.
    pub fn remove(&mut self, key: Bytes) {
        self.next.entry(key).or_insert(Fate { was: true, is: false }).is = false;
    }

    /// Whether a key is added (true) or removed, if the store does not have that yet.
    fn get(&self, key: &[u8]) -> Option<bool> {
        self.next.get(key).map(|fate| fate.is).or_else(|| self.committing.get(key).copied())
    }

    /// The keys added that begin with `prefix`, from `from` on, and before `end` if there is one.
    fn added(&self, prefix: &[u8], from: &[u8], end: Option<&Bytes>) -> BTreeSet<Bytes> {
        let ours = |key: &Bytes| key.starts_with(prefix) && end.is_none_or(|end| key < end);
        let from = (Bound::Included(from), Bound::Unbounded);
        let next = self.next.range::<[u8], _>(from).map(|(key, fate)| (key, fate.is)).take_while(|(key, _)| ours(key));
        let committing = self.committing.range::<[u8], _>(from).map(|(key, is)| (key, *is));
        let committing = committing.take_while(|(key, _)| ours(key)).filter(|(key, _)| !self.next.contains_key(*key));
        next.chain(committing).filter(|(_, is)| *is).map(|(key, _)| key.clone()).collect()
    }

    /// The keys of the index that begin with `prefix`, from `from` on, as they are by now: `most` of them at most, and where the rest
    /// begins.
    pub fn read(
        &self,
        store: &dyn Store,
        prefix: &[u8],
        from: &[u8],
        most: usize,
    ) -> Result<(BTreeSet<Bytes>, Option<Bytes>), Error> {
        let (mut found, mut next) = (BTreeSet::new(), None);
        store.scan(prefix, from, &mut |key, _| {
            let key = Bytes::copy_from_slice(key);
            if found.len() == most {
                next = Some(key);
            } else if self.get(&key) != Some(false) {
                found.insert(key);
            }
            next.is_none()
        })?;
        found.append(&mut self.added(prefix, from, next.as_ref()));
        while found.len() > most {
            next = found.pop_last();
        }
        Ok((found, next))
    }

    /// What the next commit changes. What came and went since the last one leaves no trace.
    pub fn begin_commit(&mut self) -> impl Iterator<Item = Change> {
        let changed = std::mem::take(&mut self.next).into_iter().filter(|(_, fate)| fate.was || fate.is);
        self.committing = changed.map(|(key, fate)| (key, fate.is)).collect();
        self.committing.iter().map(|(key, added)| (key.clone(), added.then(Bytes::new)))
    }

    /// The store has them.
    pub fn committed(&mut self) {
        self.committing.clear();
    }
}

/// The keys of an index that come first, in memory: all before a horizon.
pub struct Window {
    prefix: Bytes,
    /// So many are in memory at most.
    max: usize,
    keys: BTreeSet<Bytes>,
    /// Where the part begins that is not in memory; none: all of it is.
    horizon: Option<Bytes>,
}

impl Window {
    /// On an index of which nothing is known but what its keys begin with.
    pub fn unread(prefix: Bytes, max: usize) -> Self {
        Self { horizon: Some(prefix.clone()), ..Self::empty(prefix, max) }
    }

    /// On an index that has nothing.
    pub fn empty(prefix: Bytes, max: usize) -> Self {
        Self { prefix, max: max.max(1), keys: BTreeSet::new(), horizon: None }
    }

    /// Takes a key in that has been added to the index. Returns the one, this or another, for which there is no room then: the
    /// last.
    pub fn insert(&mut self, key: Bytes) -> Option<Bytes> {
        if self.horizon.as_ref().is_some_and(|horizon| key >= *horizon) {
            return Some(key);
        }
        self.keys.insert(key);
        if self.keys.len() <= self.max {
            return None;
        }
        self.horizon = self.keys.pop_last();
        self.horizon.clone()
    }

    /// Whether the key was in memory.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.keys.remove(key)
    }

    pub fn first(&self) -> Option<&Bytes> {
        self.keys.first()
    }

    /// Those in memory.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter()
    }

    pub fn pop_first(&mut self) -> Option<Bytes> {
        self.keys.pop_first()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Where the part of the index begins that is not in memory, if there is one.
    pub fn horizon(&self) -> Option<&Bytes> {
        self.horizon.as_ref()
    }

    /// Whether more of the index should be in memory.
    pub fn is_short(&self) -> bool {
        self.horizon.is_some() && self.keys.len() <= self.max / 2
    }

    /// Reads on in the index if it is short, and returns the keys that have come: not many more than `most`.
    pub fn fill(&mut self, store: &dyn Store, unwritten: &Unwritten, most: usize) -> Result<Vec<Bytes>, Error> {
        let mut filled = Vec::new();
        while self.is_short()
            && filled.len() < most
            && let Some(horizon) = &self.horizon
        {
            let room = (self.max - self.keys.len()).min(most);
            let (mut found, next) = unwritten.read(store, &self.prefix, horizon, room)?;
            self.horizon = next;
            filled.extend(found.iter().cloned());
            self.keys.append(&mut found);
        }
        Ok(filled)
    }
}
