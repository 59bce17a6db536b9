//! Leaders of before that wake up. A broker is paused, others lead its partitions meanwhile, and when it wakes it believes for
//! a while that it leads them still: to clients that believe so too it tells ends, positions and records as they were when it
//! was paused. It can acknowledge nothing, as no replica follows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use millrace::log::{Isolation, Topic};

use crate::broker::Broker;
use crate::random::Rng;

/// How long one that has woken believes that it leads, at most, in milliseconds.
const BELIEVES_MS_MAX: i64 = 2000;
/// How much of what is asked comes to it meanwhile: so many times in a thousand.
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
    /// Until when it believes that it leads; none: it is paused.
    until_ms: Option<i64>,
}

/// The broker that is paused, or has just woken, if there is one.
#[derive(Default)]
pub struct Woken(Mutex<Option<Paused>>);

impl Woken {
    fn lock(&self) -> MutexGuard<'_, Option<Paused>> {
        self.0.lock().expect("no code panics while it holds what was paused")
    }

    /// Pauses a broker that led some of the partitions, or wakes it. What happened.
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

    /// It is gone, or has heard what happened meanwhile.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    /// What it tells of a partition, if that is what is asked, and it believes that it leads it.
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

    /// A position that it tells of a consumer.
    pub fn position(&self, broker: &Broker, rng: &Rng, of: &(String, Topic, u32)) -> Option<Option<i64>> {
        let now_ms = broker.clock.elapsed_ms();
        let paused = self.lock();
        let awake = paused.as_ref().filter(|paused| paused.until_ms.is_some_and(|until| now_ms < until))?;
        let position = awake.positions.get(of).copied();
        drop(paused);
        rng.per_mille(ASKED).then_some(position)
    }
}
