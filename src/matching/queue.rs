//! One task queue, as one node has it: the tasks and pollers that wait, and where else it is polled.
//!
//! No task waits here while a poller does, but for those lent to another node that is about to start them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use hashlink::LinkedHashMap;

use super::elsewhere::{Elsewhere, Lent, Notice};
use super::news::{Address, Item, Key};
use super::state::Now;
use super::{Offer, PollerSeen, QueueName, Stats, Take, Worker};

/// A queue that was not polled for this long has no workers any more. Temporal's server has the same 10 s for sticky ones.
pub const POLLED_LATELY: Duration = Duration::from_secs(10);
/// What another node has sent is forgotten after this long, if it does not send it again.
const EXPIRE_AFTER: Duration = Duration::from_secs(10);
/// Longer than any caller waits for the answer to a query.
const QUERY_EXPIRE_AFTER: Duration = Duration::from_secs(40);

/// A poller, and what it gets.
pub type Taken = (Take, Offer);

/// Items are ordered by their time, then by arrival.
pub type Rank = (i64, u64);

pub struct Waiting {
    pub item: Item,
    /// The node that sent it, if it is not this node's.
    pub from: Option<Address>,
}

/// The outcome of an offer.
pub enum Put {
    /// It was here already.
    Known,
    Taken(Taken),
    Waits(Rank),
}

pub struct Queue {
    pub(super) name: QueueName,
    pub(super) waiting: BTreeMap<Rank, Waiting>,
    pub(super) lent: BTreeMap<Rank, Lent>,
    /// Those lent for which no poller waited.
    pub(super) idle: BTreeSet<Rank>,
    /// Where each item stands.
    pub(super) ranks: HashMap<Key, Rank>,
    next: u64,
    /// How many more each of this node's partitions has.
    withheld: BTreeMap<u32, usize>,
    /// What waits here and is no task of this node's, and until when: its sender repeats it.
    expiring: BTreeMap<Rank, Instant>,
    /// In the order in which they came.
    pub(super) pollers: LinkedHashMap<u64, Take>,
    seen: HashMap<String, (Instant, PollerSeen)>,
    pub(super) last_poll: Option<Instant>,
    pub(super) last_use: Instant,
    pub(super) sticky: bool,
    pub(super) elsewhere: BTreeMap<Address, Elsewhere>,
    pub(super) choices: u64,
    /// The nodes to which a waiting poller was announced.
    pub(super) announced_to: BTreeSet<Address>,
    /// A poller that waits here may not have been announced to all others.
    pub(super) unannounced: bool,
    pub(super) announced_at: Option<Instant>,
}

impl Queue {
    pub fn new(name: QueueName, now: Instant) -> Self {
        Self {
            name,
            waiting: BTreeMap::new(),
            lent: BTreeMap::new(),
            idle: BTreeSet::new(),
            ranks: HashMap::new(),
            next: 0,
            withheld: BTreeMap::new(),
            expiring: BTreeMap::new(),
            pollers: LinkedHashMap::new(),
            seen: HashMap::new(),
            last_poll: None,
            last_use: now,
            sticky: false,
            elsewhere: BTreeMap::new(),
            choices: 0,
            announced_to: BTreeSet::new(),
            unannounced: true,
            announced_at: None,
        }
    }

    /// Hands the item to the poller that has waited longest, or keeps it.
    pub fn put(&mut self, item: Item, from: Option<&Address>, now: Now) -> Put {
        let Now { instant: now, ms: now_ms } = now;
        self.last_use = now;
        let key = item.key();
        if let Some(rank) = self.ranks.get(&key).copied() {
            if self.stands_for(rank, &item, from) {
                if let Some(until) = self.expiring.get_mut(&rank) {
                    *until = now + EXPIRE_AFTER;
                }
                return Put::Known;
            }
            self.remove(rank);
        }
        if let Some(take) = self.take_poller(now) {
            return Put::Taken((take, item.into_offer()));
        }
        let rank = (item.joined_ms(now_ms), self.next);
        self.next += 1;
        self.sticky |= item.is_sticky();
        self.ranks.insert(key, rank);
        if from.is_some() {
            self.expiring.insert(rank, now + EXPIRE_AFTER);
        } else if matches!(item, Item::Query(_)) {
            self.expiring.insert(rank, now + QUERY_EXPIRE_AFTER);
        }
        self.waiting.insert(rank, Waiting { item, from: from.cloned() });
        Put::Waits(rank)
    }

    /// Whether what stands there is the one that is offered, or a later attempt: a partition offers a task more than once.
    fn stands_for(&self, rank: Rank, item: &Item, from: Option<&Address>) -> bool {
        let known = self.waiting.get(&rank).or_else(|| self.lent.get(&rank).map(|lent| &lent.waiting));
        let Some(known) = known else { return false };
        // The owner's offer counts, and a task that has become this node's is no other's.
        match (known.from.is_none(), from.is_none()) {
            (true, false) => return true,
            (false, true) => return false,
            _ => {}
        }
        match (&known.item, item) {
            (Item::Task(known), Item::Task(task)) => {
                let (known, task) = (&known.task, &task.task);
                known.attempt > task.attempt || (known.attempt == task.attempt && known.kind == task.kind)
            }
            _ => true,
        }
    }

    /// The poller that has waited longest: until now.
    pub(super) fn take_poller(&mut self, now: Instant) -> Option<Take> {
        let (_, take) = self.pollers.pop_front()?;
        self.last_poll = Some(now);
        Some(take)
    }

    /// Removes an item. A node that keeps it too has to be notified.
    pub(super) fn remove(&mut self, rank: Rank) -> Option<(Waiting, Option<(Address, Notice)>)> {
        let removed = match self.waiting.remove(&rank) {
            Some(waiting) => {
                self.expiring.remove(&rank);
                (waiting, None)
            }
            None => {
                let idle = self.idle.contains(&rank);
                let Lent { waiting, to, .. } = self.give_back(rank)?;
                let notice = if idle { withdrawn(to, &waiting.item) } else { None };
                (waiting, notice)
            }
        };
        self.ranks.remove(&removed.0.item.key());
        Some(removed)
    }

    /// Takes what has waited longest, or waits. Returned with it: the notice for a node that keeps the task too.
    pub fn poll(
        &mut self,
        poller: u64,
        worker: &Worker,
        sticky: bool,
        Now { instant: now, ms: now_ms }: Now,
        take: Take,
    ) -> Option<(Taken, Option<(Address, Notice)>)> {
        self.last_use = now;
        self.last_poll = Some(now);
        self.sticky |= sticky;
        match self.seen.get_mut(&worker.identity) {
            Some((at, seen)) => {
                (*at, seen.last_ms) = (now, now_ms);
                if seen.worker.capabilities != worker.capabilities {
                    seen.worker.capabilities.clone_from(&worker.capabilities);
                }
            }
            None => {
                // Workers come and go under new names: only the last few minutes are of interest.
                self.seen.retain(|_, (at, _)| now.duration_since(*at) < Duration::from_secs(300));
                let seen = PollerSeen { worker: worker.clone(), last_ms: now_ms };
                self.seen.insert(worker.identity.clone(), (now, seen));
            }
        }
        let oldest = self.waiting.keys().next().into_iter().chain(self.idle.first()).min().copied();
        let Some((waiting, notice)) = oldest.and_then(|rank| self.remove(rank)) else {
            self.pollers.insert(poller, take);
            return None;
        };
        Some(((take, waiting.item.into_offer()), notice))
    }

    pub fn leave(&mut self, poller: u64, now: Instant) {
        if self.pollers.remove(&poller).is_some() {
            self.last_poll = Some(now);
        }
    }

    /// Drops all pollers.
    pub fn drop_pollers(&mut self) -> LinkedHashMap<u64, Take> {
        std::mem::take(&mut self.pollers)
    }

    /// Removes a task that is no longer available. Returns the notice for a node that keeps it too. None: it was not here.
    pub fn withdraw(&mut self, key: &Key) -> Option<Option<(Address, Notice)>> {
        let rank = *self.ranks.get(key)?;
        self.remove(rank).map(|(_, notice)| notice)
    }

    /// The same, of a task that another node has sent.
    pub fn withdraw_foreign(&mut self, key: &Key) {
        let rank = self.ranks.get(key).copied();
        let foreign = |rank: &Rank| self.waiting.get(rank).is_some_and(|waiting| waiting.from.is_some());
        if let Some(rank) = rank.filter(foreign) {
            self.remove(rank);
        }
    }

    /// Removes and returns what is this node's own.
    pub fn drain(&mut self) -> Vec<Item> {
        let ranks: Vec<_> = self.waiting.keys().chain(self.lent.keys()).copied().collect();
        let removed: Vec<_> = ranks.into_iter().filter_map(|rank| self.remove(rank)).collect();
        removed.into_iter().filter(|(waiting, _)| waiting.from.is_none()).map(|(waiting, _)| waiting.item).collect()
    }

    /// A partition holds this many tasks back.
    pub fn withhold(&mut self, partition: u32, tasks: usize) {
        if tasks == 0 {
            self.withheld.remove(&partition);
        } else {
            self.withheld.insert(partition, tasks);
        }
    }

    /// Forgets the items of a partition that was this node's.
    pub fn forget_partition(&mut self, partition: u32) {
        self.withheld.remove(&partition);
        let of_it = |waiting: &Waiting| waiting.from.is_none() && waiting.item.partition() == partition;
        let waiting = self.waiting.iter().filter(|(_, waiting)| of_it(waiting)).map(|(rank, _)| *rank);
        let lent = self.lent.iter().filter(|(_, lent)| of_it(&lent.waiting)).map(|(rank, _)| *rank);
        for rank in waiting.chain(lent).collect::<Vec<_>>() {
            self.remove(rank);
        }
    }

    /// Forgets other nodes' items that were not sent again.
    pub fn expire(&mut self, now: Instant) {
        let late: Vec<_> = self.expiring.iter().filter(|(_, until)| **until <= now).map(|(rank, _)| *rank).collect();
        for rank in late {
            self.remove(rank);
        }
    }

    /// How many tasks of this node's wait in it that are not lent.
    pub(super) fn own_waiting(&self) -> usize {
        self.waiting.len() - self.expiring.len()
    }

    /// Whether it is polled here now, or was a moment ago.
    pub fn is_polled_here(&self, now: Instant) -> bool {
        !self.pollers.is_empty() || self.last_poll.is_some_and(|at| now.duration_since(at) < POLLED_LATELY)
    }

    /// The same, here or elsewhere.
    pub fn is_polled(&self, now: Instant) -> bool {
        self.is_polled_here(now) || self.elsewhere.values().any(|elsewhere| elsewhere.is_polled(now))
    }

    pub fn idle_for(&self, age: Duration, now: Instant) -> bool {
        self.ranks.is_empty()
            && self.withheld.is_empty()
            && self.pollers.is_empty()
            && now.duration_since(self.last_use) > age
    }

    pub fn seen(&self) -> Vec<PollerSeen> {
        let mut seen: Vec<_> = self.seen.values().map(|(_, seen)| seen.clone()).collect();
        seen.sort_by(|a, b| a.worker.identity.cmp(&b.worker.identity));
        seen
    }

    pub fn stats(&self, now_ms: i64) -> Stats {
        let waiting = self.waiting.keys().find(|rank| !self.expiring.contains_key(*rank));
        let oldest = waiting.into_iter().chain(self.lent.keys().next()).map(|rank| rank.0).min();
        Stats {
            backlog: self.own_waiting() + self.lent.len() + self.withheld.values().sum::<usize>(),
            oldest_age: Duration::from_millis(oldest.map_or(0, |at| now_ms.saturating_sub(at).max(0)) as u64),
            pollers: self.seen.len(),
            waiting_polls: self.pollers.len(),
            sticky: self.sticky,
        }
    }
}

/// The notice for a node that keeps a task which is gone.
pub(super) fn withdrawn(holder: Address, item: &Item) -> Option<(Address, Notice)> {
    match item {
        Item::Task(task) => Some((holder, Notice::Withdrawn(task.clone()))),
        Item::Query(_) => None,
    }
}
