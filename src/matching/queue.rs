//! One task queue: tasks that wait, or pollers that wait; never both.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::engine::due::TaskKind;

use super::{Offer, PollerSeen, Stats, Take, TaskOrigin};

pub struct Queue {
    /// By arrival, each with the queue that takes it if this one's worker goes.
    tasks: BTreeMap<u64, (Offer, Box<str>)>,
    /// Where each task stands, for withdrawal.
    places: HashMap<(TaskOrigin, i64), u64>,
    next: u64,
    pollers: VecDeque<(u64, Take)>,
    seen: HashMap<String, (Instant, i64)>,
    last_poll: Option<Instant>,
    last_use: Instant,
    sticky: bool,
    added: u64,
    dispatched: u64,
}

impl Queue {
    pub fn new(now: Instant) -> Self {
        Self {
            tasks: BTreeMap::new(),
            places: HashMap::new(),
            next: 0,
            pollers: VecDeque::new(),
            seen: HashMap::new(),
            last_poll: None,
            last_use: now,
            sticky: false,
            added: 0,
            dispatched: 0,
        }
    }

    /// Hands the offer to the poller that has waited longest, or keeps it.
    pub fn offer(&mut self, offer: Offer, normal_queue: &str, now: Instant) -> Option<(Take, Offer)> {
        self.last_use = now;
        if self.has(&offer) {
            return None;
        }
        self.added += 1;
        if let Some((_, take)) = self.pollers.pop_front() {
            self.dispatched += 1;
            return Some((take, offer));
        }
        if let Offer::Task { origin, task } = &offer {
            self.sticky |= task.kind == TaskKind::StickyWorkflow;
            let place = (origin.clone(), task.scheduled_event_id);
            if let Some(old) = self.places.insert(place, self.next) {
                self.tasks.remove(&old);
            }
        }
        self.tasks.insert(self.next, (offer, normal_queue.into()));
        self.next += 1;
        None
    }

    /// Whether the same task waits already, or a later attempt: its partition tells of it more than once.
    fn has(&self, offer: &Offer) -> bool {
        let Offer::Task { origin, task } = offer else { return false };
        let place = self.places.get(&(origin.clone(), task.scheduled_event_id));
        let known = place.and_then(|place| self.tasks.get(place));
        known.is_some_and(|(known, _)| matches!(known, Offer::Task { task: known, .. } if known == task || known.attempt > task.attempt))
    }

    /// Takes the task that has waited longest, or waits.
    pub fn poll(
        &mut self,
        poller: u64,
        identity: &str,
        now: Instant,
        now_ms: i64,
        take: Take,
    ) -> Option<(Take, Offer)> {
        self.last_use = now;
        self.last_poll = Some(now);
        match self.seen.get_mut(identity) {
            Some(seen) => *seen = (now, now_ms),
            None => {
                // Workers come and go under new names: only the last few minutes are of interest.
                self.seen.retain(|_, (at, _)| now.duration_since(*at) < Duration::from_secs(300));
                self.seen.insert(identity.to_owned(), (now, now_ms));
            }
        }
        match self.tasks.pop_first() {
            Some((_, (offer, _))) => {
                if let Offer::Task { origin, task } = &offer {
                    self.places.remove(&(origin.clone(), task.scheduled_event_id));
                }
                self.dispatched += 1;
                Some((take, offer))
            }
            None => {
                self.pollers.push_back((poller, take));
                None
            }
        }
    }

    pub fn leave(&mut self, poller: u64) {
        if let Some(index) = self.pollers.iter().position(|(waiting, _)| *waiting == poller) {
            drop(self.pollers.remove(index));
        }
    }

    pub fn withdraw(&mut self, origin: &TaskOrigin, scheduled_event_id: i64) -> bool {
        let Some(place) = self.places.remove(&(origin.clone(), scheduled_event_id)) else { return false };
        self.tasks.remove(&place).is_some()
    }

    pub fn drain(&mut self) -> Vec<(Offer, Box<str>)> {
        self.places.clear();
        std::mem::take(&mut self.tasks).into_values().collect()
    }

    pub fn forget_partition(&mut self, partition: u32) {
        self.places.retain(|(origin, _), _| origin.partition != partition);
        self.tasks
            .retain(|_, (offer, _)| !matches!(offer, Offer::Task { origin, .. } if origin.partition == partition));
    }

    /// A poller that still waits counts as one that polls now.
    pub fn polled_within(&self, age: Duration, now: Instant) -> bool {
        !self.pollers.is_empty() || self.last_poll.is_some_and(|at| now.duration_since(at) < age)
    }

    pub fn idle_for(&self, age: Duration, now: Instant) -> bool {
        self.tasks.is_empty() && self.pollers.is_empty() && now.duration_since(self.last_use) > age
    }

    pub fn seen(&self) -> Vec<PollerSeen> {
        let mut seen: Vec<_> = self
            .seen
            .iter()
            .map(|(identity, (_, last_ms))| PollerSeen { identity: identity.clone(), last_ms: *last_ms })
            .collect();
        seen.sort_by(|a, b| a.identity.cmp(&b.identity));
        seen
    }

    pub fn stats(&self, now_ms: i64) -> Stats {
        let oldest = self.tasks.values().find_map(|(offer, _)| match offer {
            Offer::Task { task, .. } => Some(task.scheduled_ms),
            Offer::Query(_) => None,
        });
        Stats {
            backlog: self.tasks.len(),
            oldest_age: Duration::from_millis(oldest.map_or(0, |at| now_ms.saturating_sub(at).max(0)) as u64),
            added: self.added,
            dispatched: self.dispatched,
            pollers: self.seen.len(),
            waiting_polls: self.pollers.len(),
            sticky: self.sticky,
        }
    }
}
