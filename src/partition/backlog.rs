//! The tasks of a partition that wait for workers, or for their time.
//!
//! The store has an index of them, by task queue and time. Of each queue, those that come first are in memory and are offered;
//! so a backlog takes no more memory than a part of it. After a take-over the index is read in pieces, while the partition
//! serves: first which queues there are, then how many tasks each has.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use bytes::Bytes;

use crate::store::index::{Unwritten, Window};
use crate::store::{self, Change, Store, keys};

/// Tasks of one queue that are read at a time.
const READ_AT_ONCE: usize = 250;
/// Queues that are found at a time, and tasks that are counted at a time.
const FOUND_AT_ONCE: usize = 50;
const COUNTED_AT_ONCE: usize = 1000;

pub struct Backlog {
    queues: HashMap<Bytes, Waiting>,
    unwritten: Unwritten,
    /// So many tasks of a queue are in memory at most.
    max: usize,
    /// Those in memory that were not offered yet, by the time from which they may be.
    later: BTreeSet<(i64, Bytes)>,
    /// Those that were offered and are not among the first any more.
    surplus: Vec<Bytes>,
    /// Queues of which more should be in memory, and the last that was filled: they take turns.
    short: BTreeSet<Bytes>,
    filled: Bytes,
    /// Queues of which a different number may be in the store only.
    moved: BTreeSet<Bytes>,
    /// From this key of the store's index on, queues are not known; none: all are.
    unfound: Option<Bytes>,
    /// From this key on, tasks are not counted; none: all are.
    uncounted: Option<Bytes>,
    /// The index is read: not before the commands have been decided again that it misses.
    has_begun: bool,
}

/// What waits in one queue.
struct Waiting {
    first: Window,
    /// Of those that are counted.
    count: usize,
}

impl Waiting {
    /// How many of those that may be had are in the store only. Some may have to wait for their time yet.
    fn in_store_only(&self, now_ms: i64) -> usize {
        let from = self.first.horizon().and_then(keys::parse_task);
        if from.is_none_or(|first| first.at_ms <= now_ms) { self.count.saturating_sub(self.first.len()) } else { 0 }
    }
}

impl Backlog {
    /// Empty: the index has yet to be read. About `max` tasks of each queue are held in memory.
    pub fn new(max: usize) -> Self {
        Self {
            queues: HashMap::new(),
            unwritten: Unwritten::default(),
            max,
            later: BTreeSet::new(),
            surplus: Vec::new(),
            short: BTreeSet::new(),
            filled: Bytes::new(),
            moved: BTreeSet::new(),
            unfound: None,
            uncounted: None,
            has_begun: false,
        }
    }

    /// From now on the store's index is read, and misses nothing but what is added and removed here.
    pub fn begin(&mut self) {
        self.has_begun = true;
        self.unfound = Some(Bytes::from_static(keys::TASKS));
        self.uncounted = self.unfound.clone();
    }

    /// Finds the next queues in the index.
    fn find(&mut self, store: &dyn Store) -> Result<(), store::Error> {
        for _ in 0..FOUND_AT_ONCE {
            let Some(from) = self.unfound.take() else { break };
            let mut found = None;
            store.scan(keys::TASKS, &from, &mut |key, _| {
                found = Some(Bytes::copy_from_slice(key));
                false
            })?;
            let Some(keys::Waiting { queue, .. }) = found.as_ref().and_then(keys::parse_task) else { break };
            self.unfound = keys::after(&queue);
            let unread = || Waiting { first: Window::unread(queue.clone(), self.max), count: 0 };
            self.queues.entry(queue.clone()).or_insert_with(unread);
            self.settle(queue);
        }
        Ok(())
    }

    /// Counts the next tasks of the index.
    fn count(&mut self, store: &dyn Store) -> Result<(), store::Error> {
        let Some(from) = self.uncounted.take() else { return Ok(()) };
        let (keys, next) = self.unwritten.read(store, keys::TASKS, &from, COUNTED_AT_ONCE)?;
        self.uncounted = next;
        for keys::Waiting { queue, .. } in keys.iter().filter_map(keys::parse_task) {
            if let Some(waiting) = self.queues.get_mut(&queue) {
                waiting.count += 1;
                self.moved.insert(queue);
            }
        }
        Ok(())
    }

    fn is_counted(&self, key: &Bytes) -> bool {
        self.uncounted.as_ref().is_none_or(|uncounted| key < uncounted)
    }

    /// Adds a task. True: it is to be offered.
    pub fn add(&mut self, key: Bytes, now_ms: i64) -> bool {
        self.unwritten.add(key.clone());
        let Some(keys::Waiting { queue, at_ms, .. }) = keys::parse_task(&key).filter(|_| self.has_begun) else {
            return false;
        };
        let left = self.take_in(queue, key.clone());
        if left.as_ref() == Some(&key) {
            return false;
        }
        if let Some(left) = left
            && let Some(named) = keys::parse_task(&left)
            && !self.later.remove(&(named.at_ms, left.clone()))
        {
            self.surplus.push(left);
        }
        if at_ms > now_ms {
            self.later.insert((at_ms, key));
        }
        at_ms <= now_ms
    }

    /// Tasks that are not to be offered any longer: earlier ones have come.
    pub fn take_surplus(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.surplus)
    }

    /// Gives a task its place in its queue. Returns the one, this or another, for which there is no room in memory then.
    fn take_in(&mut self, queue: Bytes, key: Bytes) -> Option<Bytes> {
        let is_counted = self.is_counted(&key);
        let is_found = self.unfound.as_ref().is_none_or(|unfound| queue < *unfound);
        let window = |queue| if is_found { Window::empty(queue, self.max) } else { Window::unread(queue, self.max) };
        let new = || Waiting { first: window(queue.clone()), count: 0 };
        let waiting = self.queues.entry(queue.clone()).or_insert_with(new);
        waiting.count += usize::from(is_counted);
        let left = waiting.first.insert(key);
        if left.is_some() {
            self.moved.insert(queue.clone());
        }
        self.settle(queue);
        left
    }

    /// Removes a task, which waits no longer.
    pub fn remove(&mut self, key: Bytes) {
        if let Some(keys::Waiting { queue, at_ms, .. }) = keys::parse_task(&key)
            && let Some(waiting) = self.queues.get_mut(&queue)
        {
            if self.uncounted.as_ref().is_none_or(|uncounted| key < *uncounted) {
                waiting.count = waiting.count.saturating_sub(1);
            }
            if waiting.first.remove(&key) {
                self.later.remove(&(at_ms, key.clone()));
            }
            if waiting.first.horizon().is_some() {
                self.moved.insert(queue.clone());
            }
            self.settle(queue);
        }
        self.unwritten.remove(key);
    }

    /// Something has been taken out of a queue, or was read: it is noted if more is to be read, and forgotten if nothing is left.
    fn settle(&mut self, queue: Bytes) {
        let Some(waiting) = self.queues.get(&queue) else { return };
        if waiting.first.is_short() {
            self.short.insert(queue);
        } else if waiting.first.is_empty() && waiting.first.horizon().is_none() {
            self.queues.remove(&queue);
        }
    }

    /// Reads on in the index: which queues there are, and how many tasks, and then where little is left in memory, once all that
    /// is there has been offered: else the oldest queue's tasks could go before all others' for ever.
    pub fn fill(&mut self, store: &dyn Store, now_ms: i64) -> Result<(), store::Error> {
        match self.unfound {
            Some(_) => self.find(store)?,
            None => self.count(store)?,
        }
        if self.later.first().is_some_and(|(at, _)| *at <= now_ms) {
            return Ok(());
        }
        let after = (Bound::Excluded(&self.filled), Bound::Unbounded);
        let Some(queue) = self.short.range::<Bytes, _>(after).next().or(self.short.first()).cloned() else {
            return Ok(());
        };
        self.short.remove(&queue);
        self.filled = queue.clone();
        let Some(waiting) = self.queues.get_mut(&queue) else { return Ok(()) };
        for key in waiting.first.fill(store, &self.unwritten, READ_AT_ONCE)? {
            if let Some(named) = keys::parse_task(&key) {
                self.later.insert((named.at_ms, key));
            }
        }
        self.moved.insert(queue.clone());
        self.settle(queue);
        Ok(())
    }

    /// When there is something to do next, in milliseconds since the Unix epoch; 0: now.
    pub fn next_ms(&self) -> Option<i64> {
        let is_read = self.short.is_empty() && self.unfound.is_none() && self.uncounted.is_none();
        if is_read { self.later.first().map(|(at, _)| *at) } else { Some(0) }
    }

    /// Takes at most `max` of those that are to be offered now.
    pub fn take_ready(&mut self, now_ms: i64, max: usize) -> Vec<Bytes> {
        let mut ready = Vec::new();
        while ready.len() < max && self.later.first().is_some_and(|(at, _)| *at <= now_ms) {
            ready.extend(self.later.pop_first().map(|(_, key)| key));
        }
        self.moved.extend(ready.iter().filter_map(keys::parse_task).map(|named| named.queue));
        ready
    }

    /// Of which queues, by what their keys begin with, how many tasks are in the store only, if that may have changed since
    /// the last time.
    pub fn take_moved(&mut self, now_ms: i64) -> Vec<(Bytes, usize)> {
        let moved = std::mem::take(&mut self.moved).into_iter();
        let counted = |queue| {
            let count = self.queues.get(&queue).map_or(0, |waiting| waiting.in_store_only(now_ms));
            (queue, count)
        };
        moved.map(counted).collect()
    }

    /// What the next commit changes in the store's index.
    pub fn begin_commit(&mut self) -> impl Iterator<Item = Change> {
        self.unwritten.begin_commit()
    }

    /// The commit stands.
    pub fn committed(&mut self) {
        self.unwritten.committed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::TaskQueueType;
    use crate::store::{Positions, rocks::tests::opened};
    use proptest::prelude::*;

    const MAX: usize = 4;

    fn key(queue: u8, at: i64, name: u8) -> Bytes {
        keys::task("n", TaskQueueType::Workflow, &format!("q{queue}"), at, &[b's', name])
    }

    fn named(key: &Bytes) -> keys::Waiting {
        keys::parse_task(key).expect("a key of the index")
    }

    fn taken_over() -> Backlog {
        let mut backlog = Backlog::new(MAX);
        backlog.begin();
        backlog
    }

    /// One that has read the whole index.
    fn read(store: &dyn Store) -> Backlog {
        let mut backlog = taken_over();
        while backlog.unfound.is_some() || backlog.uncounted.is_some() {
            backlog.fill(store, 0).expect("the store can be read");
        }
        backlog
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8, i64, u8),
        /// Another outcome than a start: the workflow ends, or the task times out.
        Remove(u8, i64, u8),
        Begin,
        Committed,
        /// Workers take what is offered, until nothing is.
        Work(i64),
        TakenOver,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..2_u8, 0..20_i64, 0..4_u8).prop_map(|(queue, at, name)| Step::Add(queue, at, name)),
            2 => (0..2_u8, 0..20_i64, 0..4_u8).prop_map(|(queue, at, name)| Step::Remove(queue, at, name)),
            2 => Just(Step::Begin),
            2 => Just(Step::Committed),
            1 => (0..25_i64).prop_map(Step::Work),
            1 => Just(Step::TakenOver),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is in memory and what in the store: workers are offered all that may be had, and no more is in memory than
        /// may be.
        #[test]
        fn workers_get_all_that_waits(steps in steps()) {
            let directory = tempfile::tempdir().expect("a directory");
            let store = opened(&directory);
            let mut backlog = taken_over();
            let (mut all, mut offered, mut stored): (BTreeSet<Bytes>, BTreeSet<Bytes>, BTreeSet<Bytes>) = Default::default();
            let mut committing: Option<(Vec<Change>, BTreeSet<Bytes>)> = None;
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Add(queue, at, name) => {
                        if all.insert(key(queue, at, name)) {
                            if backlog.add(key(queue, at, name), now) {
                                prop_assert!(at <= now);
                                offered.insert(key(queue, at, name));
                            }
                            for surplus in backlog.take_surplus() {
                                prop_assert!(offered.remove(&surplus));
                            }
                        }
                    }
                    Step::Remove(queue, at, name) => {
                        if all.remove(&key(queue, at, name)) {
                            backlog.remove(key(queue, at, name));
                            offered.remove(&key(queue, at, name));
                        }
                    }
                    Step::Begin if committing.is_none() => {
                        committing = Some((backlog.begin_commit().collect(), all.clone()));
                    }
                    Step::Begin => {}
                    Step::Committed => {
                        if let Some((changes, then)) = committing.take() {
                            store.write(&changes, Positions::default()).expect("the store is written");
                            backlog.committed();
                            stored = then;
                        }
                    }
                    Step::Work(until) => {
                        now = now.max(until);
                        let expected: BTreeSet<_> = all.iter().filter(|key| named(key).at_ms <= now).cloned().collect();
                        let mut worked = BTreeSet::new();
                        loop {
                            while backlog.next_ms().is_some_and(|next| next <= now) {
                                backlog.fill(&*store, now).expect("the store can be read");
                                for ready in backlog.take_ready(now, 3) {
                                    prop_assert!(offered.insert(ready), "offered already");
                                }
                            }
                            for waiting in backlog.queues.values() {
                                prop_assert!(waiting.first.len() <= MAX);
                            }
                            let Some(first) = offered.pop_first() else { break };
                            backlog.remove(first.clone());
                            prop_assert!(worked.insert(first), "offered twice");
                        }
                        prop_assert_eq!(&worked, &expected);
                        all.retain(|key| !worked.contains(key));
                    }
                    Step::TakenOver => {
                        backlog = taken_over();
                        (committing, all) = (None, stored.clone());
                        offered.clear();
                    }
                }
                let count = |queue: u8| all.iter().filter(|key| key.starts_with(&named(&super::tests::key(queue, 0, 0)).queue)).count();
                if backlog.unfound.is_some() || backlog.uncounted.is_some() {
                    continue;
                }
                for queue in 0..2 {
                    let waiting = backlog.queues.get(&named(&key(queue, 0, 0)).queue);
                    prop_assert_eq!(waiting.map_or(0, |waiting| waiting.count), count(queue));
                }
            }
        }
    }

    #[test]
    fn short_queues_take_turns() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = opened(&directory);
        let mut backlog = read(&*store);
        // Of queue 0 are the oldest, and workers take at once what is offered of it.
        for at in 0..100 {
            backlog.add(key(0, at, 0), 1000);
        }
        let late: Vec<_> = (200..210).map(|at| key(1, at, 0)).collect();
        for key in &late {
            backlog.add(key.clone(), 1000);
        }
        let first: Vec<_> = backlog.queues.values().flat_map(|waiting| waiting.first.keys().cloned()).collect();
        first.into_iter().for_each(|key| backlog.remove(key));
        let (mut turns, mut seen) = (0, BTreeSet::new());
        while !late[MAX..].iter().all(|key| seen.contains(key)) {
            turns += 1;
            assert!(turns < 10, "the other queue waits");
            backlog.fill(&*store, 1000).expect("the store can be read");
            for ready in backlog.take_ready(1000, 3) {
                backlog.remove(ready.clone());
                seen.insert(ready);
            }
        }
        assert!(seen.len() < 30, "the first queue is not worked off before");
    }

    #[test]
    fn a_take_over_reads_no_more_than_a_piece_at_a_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = opened(&directory);
        let keys: Vec<_> = (0..3 * COUNTED_AT_ONCE as i64).map(|at| key(0, at, 0)).collect();
        let changes: Vec<Change> = keys.iter().map(|key| (key.clone(), Some(Bytes::new()))).collect();
        store.write(&changes, Positions::default()).expect("the store is written");
        let mut backlog = taken_over();
        backlog.fill(&*store, i64::MAX).expect("the store can be read");
        assert_eq!(backlog.take_ready(i64::MAX, 10), keys[..MAX], "the first are there at once");
        let queue = named(&keys[0]).queue;
        let mut counts = Vec::new();
        while backlog.next_ms() == Some(0) {
            // Something comes and goes meanwhile, before and after what was counted.
            backlog.remove(keys[counts.len()].clone());
            backlog.remove(keys[keys.len() - 1 - counts.len()].clone());
            backlog.fill(&*store, i64::MAX).expect("the store can be read");
            backlog.take_ready(i64::MAX, 10);
            counts.push(backlog.queues[&queue].count);
        }
        assert!(counts[0] <= COUNTED_AT_ONCE && counts.len() > 1, "{counts:?}");
        assert_eq!(counts.last(), Some(&(keys.len() - 2 * counts.len())), "{counts:?}");
    }

    #[test]
    fn it_tells_how_many_are_in_the_store_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = opened(&directory);
        let mut backlog = read(&*store);
        let keys: Vec<_> = (0..10).map(|at| key(0, at, 0)).collect();
        let offered: Vec<_> = keys.iter().filter(|key| backlog.add((*key).clone(), 20)).cloned().collect();
        let queue = named(&keys[0]).queue;
        assert_eq!(offered, keys[..MAX], "those that came first");
        assert_eq!(backlog.take_moved(20), [(queue.clone(), 6)]);
        assert_eq!(backlog.take_moved(20), [], "nothing has moved");
        keys[..2].iter().for_each(|key| backlog.remove(key.clone()));
        assert_eq!(backlog.next_ms(), Some(0), "two are few");
        backlog.fill(&*store, 20).expect("the store can be read");
        assert_eq!(backlog.take_ready(20, 10), keys[4..6]);
        assert_eq!(backlog.take_moved(20), [(queue, 4)]);
        keys[2..].iter().for_each(|key| backlog.remove(key.clone()));
        backlog.fill(&*store, 20).expect("the store can be read");
        assert!(backlog.queues.is_empty(), "an empty queue is forgotten");
    }
}
