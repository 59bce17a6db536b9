//! Due times of one partition's records, and the tasks that must not be offered yet. Derived from the records.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::SubKey;
use crate::engine::due::Task;
use crate::matching::TaskOrigin;

/// Names the record of a run that is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    pub namespace_id: Arc<str>,
    pub workflow_id: Arc<str>,
    pub run_id: Arc<str>,
    pub sub_key: SubKey,
}

/// A task whose back-off is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delayed {
    pub origin: TaskOrigin,
    pub task: Task,
    pub namespace: String,
    pub normal_queue: String,
}

#[derive(Default)]
pub struct Timers {
    due: BTreeSet<(i64, TimerKey)>,
    delayed: std::collections::BTreeMap<(i64, u64), Delayed>,
    sequence: u64,
}

impl Timers {
    pub fn arm(&mut self, due_ms: i64, key: TimerKey) {
        self.due.insert((due_ms, key));
    }

    pub fn disarm(&mut self, due_ms: i64, key: TimerKey) {
        self.due.remove(&(due_ms, key));
    }

    pub fn delay(&mut self, delayed: Delayed) {
        self.sequence += 1;
        self.delayed.insert((delayed.task.not_before_ms, self.sequence), delayed);
    }

    /// When something is due next, in milliseconds since the Unix epoch.
    pub fn next_ms(&self) -> Option<i64> {
        let due = self.due.first().map(|(at, _)| *at);
        let delayed = self.delayed.first_key_value().map(|((at, _), _)| *at);
        due.into_iter().chain(delayed).min()
    }

    /// Takes at most `max` of the timers that are due.
    pub fn take_due(&mut self, now_ms: i64, max: usize) -> Vec<TimerKey> {
        let mut taken = Vec::new();
        while taken.len() < max && self.due.first().is_some_and(|(at, _)| *at <= now_ms) {
            taken.extend(self.due.pop_first().map(|(_, key)| key));
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

    pub fn len(&self) -> usize {
        self.due.len()
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}
