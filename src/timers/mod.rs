//! Due times of one partition's records.
//!
//! The store has an index of all due times, by time. In memory are those that come next.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use bytes::Bytes;

use crate::store::index::{Unwritten, Window};
use crate::store::{self, Change, Store, keys};

pub struct Timers {
    /// Keys of the index ([`keys::due`]).
    due: Window,
    unwritten: Unwritten,
    /// So many are read at a time.
    read_at_once: usize,
    /// Those that came before their time as the log has it, and when to try again. By the monotonic clock: how much longer they
    /// take does not depend on the node's wall clock.
    again: BTreeSet<(Instant, Bytes)>,
    again_at: HashMap<Bytes, Instant>,
}

impl Timers {
    /// Empty: the store has yet to be read. About `max` are held in memory.
    pub fn new(max: usize) -> Self {
        Self {
            due: Window::unread(Bytes::from_static(keys::DUE), max),
            unwritten: Unwritten::default(),
            read_at_once: (max / 4).max(1),
            again: BTreeSet::new(),
            again_at: HashMap::new(),
        }
    }

    /// Adds one that is not there.
    pub fn arm(&mut self, key: Bytes) {
        self.unwritten.add(key.clone());
        self.due.insert(key);
    }

    pub fn disarm(&mut self, key: Bytes) {
        self.due.remove(&key);
        self.forget(&key);
        self.unwritten.remove(key);
    }

    /// Takes one up again that came before its time: once, whenever it was to be tried again until now.
    pub fn try_again(&mut self, at: Instant, key: Bytes) {
        self.forget(&key);
        self.again_at.insert(key.clone(), at);
        self.again.insert((at, key));
    }

    /// Does not try it again.
    fn forget(&mut self, key: &Bytes) {
        if let Some(at) = self.again_at.remove(key) {
            self.again.remove(&(at, key.clone()));
        }
    }

    /// What the next commit changes in the store's index.
    pub fn begin_commit(&mut self) -> impl Iterator<Item = Change> {
        self.unwritten.begin_commit()
    }

    /// The commit stands.
    pub fn committed(&mut self) {
        self.unwritten.committed();
    }

    /// Reads on in the store's index, if little is left in memory.
    pub fn fill(&mut self, store: &dyn Store) -> Result<(), store::Error> {
        self.due.fill(store, &self.unwritten, self.read_at_once)?;
        Ok(())
    }

    /// When something is due next, in milliseconds since the Unix epoch; 0, if the store is to be looked at.
    pub fn next_ms(&self) -> Option<i64> {
        if self.due.is_empty() && self.due.horizon().is_some() {
            return Some(0);
        }
        self.due.first().and_then(|key| keys::due_ms(key))
    }

    /// Those that are in memory, in the order in which they are due.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.due.keys()
    }

    /// When to try the next of those again that came before their time.
    pub fn next_again(&self) -> Option<Instant> {
        self.again.first().map(|(at, _)| *at)
    }

    /// Takes at most `max` of the timers that are due at `now_ms`, or, if they came before their time, are to be tried again now.
    pub fn take_due(&mut self, now_ms: i64, now: Instant, max: usize) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while taken.len() < max && self.again.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.again.pop_first() else { break };
            self.again_at.remove(&key);
            taken.push(key);
        }
        let is_due = |key: &Bytes| keys::due_ms(key).is_none_or(|at| at <= now_ms);
        while taken.len() < max && self.due.first().is_some_and(is_due) {
            taken.extend(self.due.pop_first());
        }
        taken
    }

    /// How many are to be tried again.
    #[cfg(test)]
    pub fn again(&self) -> usize {
        assert_eq!(self.again.len(), self.again_at.len());
        self.again.len()
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
    use crate::store::{Positions, rocks::tests::opened};
    use proptest::prelude::*;

    fn key(at: i64, name: u8) -> Bytes {
        keys::due(at, &[b's', name])
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
                        if all.insert(key(at, name)) {
                            timers.arm(key(at, name));
                        }
                    }
                    Step::Disarm(at, name) => {
                        if all.remove(&key(at, name)) {
                            timers.disarm(key(at, name));
                        }
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
                            let some = timers.take_due(now, Instant::now(), 3);
                            // Their outcome takes them out of the index.
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
            taken.extend(timers.take_due(i64::MAX, Instant::now(), 7));
            assert!(timers.len() <= 150, "{} are in memory", timers.len());
        }
        let expected: Vec<Bytes> = (0..10_000).map(|at| key(at, 0)).collect();
        assert_eq!(taken, expected, "all come, in order, and once");
        timers.fill(&*store).expect("the store can be read");
        assert_eq!(timers.next_ms(), None);
    }
}
