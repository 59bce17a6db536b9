//! Due times of one partition's records, and the tasks that must not be offered yet.
//!
//! The store has an index of all due times, by time, which is written with the records that it is derived from. In memory are
//! those that come next, up to a horizon, and those that no commit has taken yet.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::engine::due::Task;
use crate::matching::TaskOrigin;
use crate::store::{self, Change, Store, keys};

/// A task whose back-off is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delayed {
    pub origin: TaskOrigin,
    pub task: Task,
    pub namespace: String,
    pub normal_queue: String,
}

pub struct Timers {
    /// Keys of the index ([`keys::due`]): all before the horizon, and some beyond it.
    due: BTreeSet<Bytes>,
    /// Where the part of the index begins that is not in memory; none: all of it is.
    horizon: Option<Bytes>,
    /// So many in memory are too many.
    max: usize,
    /// What is to change in the index: with the next commit, and with the one that is being made. True: it is added.
    changed: BTreeMap<Bytes, bool>,
    committing: BTreeMap<Bytes, bool>,
    /// Those that came before their time as the log has it, and when to try again.
    again: BTreeSet<(i64, Bytes)>,
    delayed: BTreeMap<(i64, u64), Delayed>,
    sequence: u64,
}

impl Timers {
    /// Knows nothing yet but that the store may have timers. About `max` are held in memory.
    pub fn new(max: usize) -> Self {
        Self {
            due: BTreeSet::new(),
            horizon: Some(Bytes::new()),
            max,
            changed: BTreeMap::new(),
            committing: BTreeMap::new(),
            again: BTreeSet::new(),
            delayed: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub fn arm(&mut self, key: Bytes) {
        self.due.insert(key.clone());
        self.changed.insert(key, true);
    }

    pub fn disarm(&mut self, key: Bytes) {
        self.due.remove(&key);
        self.changed.insert(key, false);
    }

    /// Takes one up again that came before its time.
    pub fn try_again(&mut self, at_ms: i64, key: Bytes) {
        self.again.insert((at_ms, key));
    }

    /// What the next commit changes in the store's index.
    pub fn begin_commit(&mut self) -> impl Iterator<Item = Change> {
        self.committing = std::mem::take(&mut self.changed);
        self.committing.iter().map(|(key, added)| (key.clone(), added.then(Bytes::new)))
    }

    /// The commit stands: what comes late enough is left to the store, if there is too much.
    pub fn committed(&mut self) {
        self.committing.clear();
        if self.due.len() <= self.max {
            return;
        }
        let Some(middle) = self.due.iter().nth(self.max / 2).cloned() else { return };
        let later = self.due.split_off(&middle);
        self.due.extend(later.into_iter().filter(|key| self.changed.contains_key(key)));
        self.horizon = Some(self.horizon.take().map_or(middle.clone(), |horizon| horizon.min(middle)));
    }

    /// Whether nothing in memory comes before the part of the index that is not.
    fn is_exhausted(&self) -> bool {
        let comes_before = |horizon| self.due.first().is_some_and(|first| first < horizon);
        self.horizon.as_ref().is_some_and(|horizon| !comes_before(horizon))
    }

    /// Reads on in the store's index, if nothing is left before the horizon.
    pub fn fill(&mut self, store: &dyn Store) -> Result<(), store::Error> {
        while self.is_exhausted()
            && let Some(horizon) = &self.horizon
        {
            let (mut read, mut next) = (Vec::new(), None);
            store.scan(keys::DUE, horizon, &mut |key, _| {
                let key = Bytes::copy_from_slice(key);
                if read.len() < (self.max / 4).max(1) {
                    read.push(key);
                } else {
                    next = Some(key);
                }
                next.is_none()
            })?;
            let gone = |key: &Bytes| self.changed.get(key).or(self.committing.get(key)) == Some(&false);
            self.due.extend(read.into_iter().filter(|key| !gone(key)));
            self.horizon = next;
        }
        Ok(())
    }

    pub fn delay(&mut self, delayed: Delayed) {
        self.sequence += 1;
        self.delayed.insert((delayed.task.not_before_ms, self.sequence), delayed);
    }

    /// When something is due next, in milliseconds since the Unix epoch; 0, if the store is to be looked at.
    pub fn next_ms(&self) -> Option<i64> {
        if self.is_exhausted() {
            return Some(0);
        }
        let due = self.due.first().and_then(|key| keys::due_ms(key));
        let again = self.again.first().map(|(at, _)| *at);
        let delayed = self.delayed.first_key_value().map(|((at, _), _)| *at);
        due.into_iter().chain(again).chain(delayed).min()
    }

    /// Takes at most `max` of the timers that are due.
    pub fn take_due(&mut self, now_ms: i64, max: usize) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while taken.len() < max && self.again.first().is_some_and(|(at, _)| *at <= now_ms) {
            taken.extend(self.again.pop_first().map(|(_, key)| key));
        }
        let is_due = |key: &Bytes| keys::due_ms(key).is_none_or(|at| at <= now_ms);
        while taken.len() < max && !self.is_exhausted() && self.due.first().is_some_and(is_due) {
            taken.extend(self.due.pop_first());
        }
        taken
    }

    pub fn take_delayed(&mut self, now_ms: i64) -> Vec<Delayed> {
        let mut taken = Vec::new();
        while self.delayed.first_key_value().is_some_and(|((at, _), _)| *at <= now_ms) {
            taken.extend(self.delayed.pop_first().map(|(_, delayed)| delayed));
        }
        taken
    }

    /// How many are in memory.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Positions, Stores, rocks::Directory};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn key(at: i64, name: u8) -> Bytes {
        keys::due(at, &[b's', name])
    }

    fn opened(directory: &tempfile::TempDir) -> Arc<dyn Store> {
        Directory::new(directory.path().to_owned(), 8 << 20).open(0).expect("the store opens")
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(i64, u8),
        Disarm(i64, u8),
        Begin,
        Committed,
        Take(i64),
        TakenOver,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..60_i64, 0..4_u8).prop_map(|(at, name)| Step::Arm(at, name)),
            2 => (0..60_i64, 0..4_u8).prop_map(|(at, name)| Step::Disarm(at, name)),
            2 => Just(Step::Begin),
            2 => Just(Step::Committed),
            2 => (0..70_i64).prop_map(Step::Take),
            1 => Just(Step::TakenOver),
        ];
        proptest::collection::vec(step, 1..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is in memory and what in the store: taken is what a set of all would give, and after a take-over what was
        /// committed is there.
        #[test]
        fn a_window_on_the_store_takes_what_a_set_of_all_would(steps in steps()) {
            let directory = tempfile::tempdir().expect("a directory");
            let store = opened(&directory);
            let mut timers = Timers::new(6);
            // What is armed, and what was in the last commit that stands, and in the one that is being made.
            let (mut all, mut stored): (BTreeSet<Bytes>, BTreeSet<Bytes>) = Default::default();
            let mut committing: Option<(Vec<Change>, BTreeSet<Bytes>)> = None;
            for step in steps {
                match step {
                    Step::Arm(at, name) => {
                        timers.arm(key(at, name));
                        all.insert(key(at, name));
                    }
                    Step::Disarm(at, name) => {
                        timers.disarm(key(at, name));
                        all.remove(&key(at, name));
                    }
                    Step::Begin if committing.is_none() => {
                        committing = Some((timers.begin_commit().collect(), all.clone()));
                    }
                    Step::Committed => {
                        if let Some((changes, then)) = committing.take() {
                            store.write(&changes, Positions::default()).expect("the store is written");
                            timers.committed();
                            stored = then;
                        }
                    }
                    Step::Begin => {}
                    Step::Take(now) => {
                        timers.fill(&*store).expect("the store can be read");
                        let expected: Vec<Bytes> = all.iter().filter(|key| keys::due_ms(key) <= Some(now)).cloned().collect();
                        prop_assert_eq!(timers.next_ms(), all.first().and_then(|key| keys::due_ms(key)));
                        let mut taken = Vec::new();
                        while timers.next_ms().is_some_and(|next| next <= now) {
                            timers.fill(&*store).expect("the store can be read");
                            let some = timers.take_due(now, 3);
                            // What came of them takes them out of the index.
                            some.iter().for_each(|key| timers.disarm(key.clone()));
                            taken.extend(some);
                        }
                        prop_assert_eq!(&taken, &expected);
                        all.retain(|key| !taken.contains(key));
                    }
                    Step::TakenOver => {
                        timers = Timers::new(6);
                        committing = None;
                        all = stored.clone();
                    }
                }
            }
        }
    }

    #[test]
    fn many_that_are_far_away_are_left_to_the_store() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = opened(&directory);
        let mut timers = Timers::new(100);
        for at in 0..10_000 {
            timers.arm(key(at, 0));
            if at % 50 == 49 {
                let changes: Vec<Change> = timers.begin_commit().collect();
                store.write(&changes, Positions::default()).expect("the store is written");
                timers.committed();
                assert!(timers.len() <= 150, "{} are in memory", timers.len());
            }
        }
        let mut taken = Vec::new();
        while taken.len() < 10_000 {
            timers.fill(&*store).expect("the store can be read");
            taken.extend(timers.take_due(i64::MAX, 7));
            assert!(timers.len() <= 150, "{} are in memory", timers.len());
        }
        let expected: Vec<Bytes> = (0..10_000).map(|at| key(at, 0)).collect();
        assert_eq!(taken, expected, "all come, in order, and once");
        timers.fill(&*store).expect("the store can be read");
        assert_eq!(timers.next_ms(), None);
    }
}
