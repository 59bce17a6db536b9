//! Former leaders that were paused. A broker is paused, others lead its partitions meanwhile, and when it resumes it still takes
//! itself for the leader for a while: to clients with its metadata it returns ends, positions and records as they were when it
//! was paused. It can acknowledge nothing, as no replica follows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use millrace::log::{Isolation, Topic};

use crate::broker::Broker;
use crate::random::Rng;

/// How long one that has resumed takes itself for the leader, at most, in milliseconds.
const BELIEVES_MS_MAX: i64 = 2000;
/// How many calls go to it meanwhile: so many of a thousand.
const ASKED: u32 = 500;

/// What a leader of before has of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub end: i64,
    /// Where readers of committed records ended.
    pub stable: i64,
    pub generation: u32,
}

impl View {
    pub fn end_for(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.end,
            Isolation::ReadCommitted => self.stable,
        }
    }
}

#[derive(Default)]
struct Paused {
    views: BTreeMap<(Topic, u32), View>,
    positions: BTreeMap<(String, Topic, u32), i64>,
    /// Until when it takes itself for the leader; none: it is paused.
    until_ms: Option<i64>,
}

/// The broker that is paused, or has just resumed, if there is one.
#[derive(Default)]
pub struct Woken(Mutex<Option<Paused>>);

impl Woken {
    fn lock(&self) -> MutexGuard<'_, Option<Paused>> {
        self.0.lock().expect("no code panics while it holds what was paused")
    }

    /// Pauses a broker that led some of the partitions, or resumes it. Returns what happened.
    pub fn pause_or_wake(&self, broker: &Broker, rng: &Rng, now_ms: i64) -> &'static str {
        let mut paused = self.lock();
        match paused.as_mut().filter(|paused| paused.until_ms.is_none_or(|until| now_ms < until)) {
            Some(paused) => {
                paused.until_ms = Some(now_ms + rng.between(20, BELIEVES_MS_MAX));
                "a broker woke that had led before"
            }
            None => {
                let mut views = broker.views();
                views.retain(|_, _| rng.per_mille(600));
                *paused = Some(Paused { views, positions: broker.positions(), until_ms: None });
                "a broker was paused"
            }
        }
    }

    /// It is gone, or was notified of what happened meanwhile.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    /// What it reports of a partition, if the call goes to it, and it takes itself for its leader.
    pub fn view(&self, broker: &Broker, rng: &Rng, topic: Topic, partition: u32) -> Option<View> {
        let now_ms = broker.clock.elapsed_ms();
        let paused = self.lock();
        let awake = paused.as_ref().filter(|paused| paused.until_ms.is_some_and(|until| now_ms < until))?;
        let view = *awake.views.get(&(topic, partition))?;
        drop(paused);
        // What is gone from memory here would be on its disk.
        let has_it =
            view.generation == broker.generation(topic) && broker.start_offset(topic, partition) <= view.stable;
        (has_it && rng.per_mille(ASKED)).then_some(view)
    }

    /// A position that it reports of a consumer.
    pub fn position(&self, broker: &Broker, rng: &Rng, of: &(String, Topic, u32)) -> Option<Option<i64>> {
        let now_ms = broker.clock.elapsed_ms();
        let paused = self.lock();
        let awake = paused.as_ref().filter(|paused| paused.until_ms.is_some_and(|until| now_ms < until))?;
        let position = awake.positions.get(of).copied();
        drop(paused);
        rng.per_mille(ASKED).then_some(position)
    }
}
