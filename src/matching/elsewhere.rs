//! A queue's relation to other nodes: where else it is polled, and which of its tasks were sent there.
//!
//! A task that is sent to another node is lent: as long as that node is about to start it, no other poller gets it. If no poller
//! waited there, it is idle, and goes to the first poller, here or there; its start decides.

use std::time::{Duration, Instant};

use super::news::{Address, Item, Key, Polled, WaitingTask};
use super::queue::{POLLED_LATELY, Queue, Rank, Taken, Waiting, withdrawn};
use super::state::Now;

/// Tasks lent to one other node at a time, so that a backlog of millions costs it little.
const LENT_MAX: usize = 500;
/// Tasks moved at once to a node that has not started those lent to it before.
const MOVED_AT_ONCE: usize = 10;
/// A lent task that was not started is available again after this long: the other node may have lost it.
const LENT_FOR: Duration = Duration::from_secs(2);
/// Tasks that have waited this long, while workers poll here and elsewhere, are shared between both.
const SHARED_AFTER: Duration = Duration::from_millis(500);
/// How often it is announced to other nodes that a queue is polled here.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);

/// A task of this node's that was sent to another one.
pub struct Lent {
    pub waiting: Waiting,
    pub to: Address,
    since: Instant,
    /// How many reports of its pollers that node had sent before.
    reports: u64,
}

/// Another node, where workers poll this queue.
pub struct Elsewhere {
    /// When a worker polled there last, as far as is known.
    polled: Instant,
    /// As far as is known, a poller waits.
    waits: bool,
    lent: usize,
    /// When a task was last sent to it: a count.
    chosen: u64,
    /// How many reports of its pollers it has sent.
    reports: u64,
}

/// What is to be sent to another node.
pub enum Notice {
    Item(Item),
    Withdrawn(WaitingTask),
}

impl Elsewhere {
    pub fn is_polled(&self, now: Instant) -> bool {
        now.duration_since(self.polled) < POLLED_LATELY
    }
}

impl Queue {
    /// Takes a lent task back.
    pub(super) fn give_back(&mut self, rank: Rank) -> Option<Lent> {
        let lent = self.lent.remove(&rank)?;
        self.idle.remove(&rank);
        if let Some(elsewhere) = self.elsewhere.get_mut(&lent.to) {
            elsewhere.lent = elsewhere.lent.saturating_sub(1);
        }
        Some(lent)
    }

    /// The other nodes where it was polled lately.
    pub fn polled_at(&self, now: Instant) -> Vec<Address> {
        let polled = self.elsewhere.iter().filter(|(_, elsewhere)| elsewhere.is_polled(now));
        polled.map(|(address, _)| address.clone()).collect()
    }

    /// Where to send what waits: to a node where a poller waits; else, if none polls here, to one that was polled lately.
    fn choose(&self, now: Instant) -> Option<&Address> {
        let here = self.is_polled_here(now);
        let might = |(_, elsewhere): &(&Address, &Elsewhere)| {
            elsewhere.is_polled(now) && elsewhere.lent < LENT_MAX && (elsewhere.waits || !here)
        };
        let chosen = self.elsewhere.iter().filter(might);
        chosen.min_by_key(|(_, node)| (!node.waits, node.lent, node.chosen)).map(|(address, _)| address)
    }

    /// Sends an item that waits here to another node.
    fn lend(&mut self, rank: Rank, to: &Address, now: Instant) -> Option<Notice> {
        if !matches!(self.waiting.get(&rank)?.item, Item::Task(_)) {
            // If it is lost, the caller retries.
            return self.remove(rank).map(|(waiting, _)| Notice::Item(waiting.item));
        }
        let waiting = self.waiting.remove(&rank)?;
        let notice = Notice::Item(waiting.item.clone());
        let mut reports = 0;
        if let Some(elsewhere) = self.elsewhere.get_mut(to) {
            self.choices += 1;
            elsewhere.chosen = self.choices;
            elsewhere.lent += 1;
            reports = elsewhere.reports;
        }
        self.lent.insert(rank, Lent { waiting, to: to.clone(), since: now, reports });
        Some(notice)
    }

    /// Lends an item for which no poller waits here. Returns the notice, and the node to send it to.
    pub fn lend_one(&mut self, rank: Rank, now: Instant) -> Option<(Address, Notice)> {
        let to = self.choose(now)?.clone();
        let notice = self.lend(rank, &to, now)?;
        Some((to, notice))
    }

    /// Another node reports whether a poller waits there. Returns the notices to send.
    pub fn polled_elsewhere(&mut self, node: &Address, polled: &Polled, now: Instant) -> Vec<(Address, Notice)> {
        self.last_use = now;
        self.sticky |= polled.sticky;
        let at = now.checked_sub(polled.age).unwrap_or(now);
        let new = Elsewhere { polled: at, waits: false, lent: 0, chosen: 0, reports: 0 };
        let elsewhere = self.elsewhere.entry(node.clone()).or_insert(new);
        elsewhere.polled = at;
        elsewhere.waits = polled.waiting;
        elsewhere.reports += 1;
        let room = LENT_MAX.saturating_sub(elsewhere.lent);
        if !polled.waiting && self.is_polled_here(now) {
            return Vec::new();
        }
        let mut notices = self.lend_oldest(node, room, now, |_| true);
        if notices.is_empty() && polled.waiting {
            // No poller waited for these where they were sent.
            let elsewhere = |rank: &&Rank| self.lent.get(rank).is_some_and(|lent| lent.to != *node);
            let moved: Vec<_> = self.idle.iter().filter(elsewhere).take(MOVED_AT_ONCE).copied().collect();
            moved.into_iter().for_each(|rank| notices.extend(self.move_to(rank, node, now)));
        }
        notices
    }

    /// Lends to another node what is lent to one already.
    fn move_to(&mut self, rank: Rank, node: &Address, now: Instant) -> Vec<(Address, Notice)> {
        let Some(Lent { waiting, to, .. }) = self.give_back(rank) else { return Vec::new() };
        let withdrawn = withdrawn(to, &waiting.item);
        self.waiting.insert(rank, waiting);
        let notice = self.lend(rank, node, now).map(|notice| (node.clone(), notice));
        withdrawn.into_iter().chain(notice).collect()
    }

    fn lend_oldest(
        &mut self,
        to: &Address,
        most: usize,
        now: Instant,
        whether: impl Fn(Rank) -> bool,
    ) -> Vec<(Address, Notice)> {
        let own = self.waiting.iter().take_while(|(rank, _)| whether(**rank));
        let own = own.filter(|(_, waiting)| waiting.from.is_none());
        let ranks: Vec<_> = own.take(most).map(|(rank, _)| *rank).collect();
        let notices = ranks.into_iter().filter_map(|rank| self.lend(rank, to, now));
        notices.map(|notice| (to.clone(), notice)).collect()
    }

    /// Lends a part of the backlog to workers elsewhere, though others poll here: else it would wait for those alone.
    pub fn share(&mut self, Now { instant: now, ms: now_ms }: Now) -> Vec<(Address, Notice)> {
        self.elsewhere.retain(|_, node| node.is_polled(now) || node.lent > 0);
        let before = now_ms - SHARED_AFTER.as_millis() as i64;
        let mut shared = Vec::new();
        let nodes = self.elsewhere.iter().filter(|(_, node)| node.is_polled(now));
        let nodes: Vec<_> =
            nodes.map(|(address, node)| (address.clone(), LENT_MAX.saturating_sub(node.lent))).collect();
        for (node, room) in nodes {
            // Half of it stays, for those that poll here.
            let room = room.min(self.own_waiting().div_ceil(2));
            shared.extend(self.lend_oldest(&node, room, now, |rank| rank.0 <= before));
        }
        shared
    }

    /// No poller waited for a task where it was sent: it goes to one that waits now, or else to the first that comes. Returns the
    /// notices to send.
    pub fn kept(
        &mut self,
        by: &Address,
        task: &WaitingTask,
        now: Instant,
        taken: &mut Vec<Taken>,
    ) -> Vec<(Address, Notice)> {
        let rank = self.ranks.get(&task.key()).copied();
        let lent = rank.and_then(|rank| self.lent.get(&rank)).filter(|lent| lent.to == *by);
        let (Some(rank), Some(lent)) = (rank, lent) else {
            // It is gone meanwhile, or lent to another node.
            return vec![(by.clone(), Notice::Withdrawn(task.clone()))];
        };
        // A report since then is newer.
        let reports = lent.reports;
        if let Some(elsewhere) = self.elsewhere.get_mut(by).filter(|elsewhere| elsewhere.reports == reports) {
            elsewhere.waits = false;
        }
        self.idle.insert(rank);
        if let Some(take) = self.take_poller(now) {
            let Some((waiting, notice)) = self.remove(rank) else { return Vec::new() };
            taken.push((take, waiting.item.into_offer()));
            return notice.into_iter().collect();
        }
        let waits = |other: &&Address| **other != *by && self.elsewhere.get(*other).is_some_and(|node| node.waits);
        match self.choose(now).filter(waits).cloned() {
            Some(other) => self.move_to(rank, &other, now),
            None => Vec::new(),
        }
    }

    /// The node where it polled reports that the worker of a sticky queue is gone. Returns the task.
    pub fn stranded(&mut self, by: &Address, key: &Key, now: Instant) -> Option<Item> {
        if let Some(elsewhere) = self.elsewhere.get_mut(by) {
            elsewhere.waits = false;
            elsewhere.polled = now.checked_sub(POLLED_LATELY).unwrap_or(elsewhere.polled);
        }
        let rank = *self.ranks.get(key)?;
        self.lent.get(&rank).filter(|lent| lent.to == *by)?;
        self.remove(rank).map(|(waiting, _)| waiting.item)
    }

    /// Items lent too long ago: an idle one is sent again, as the other node may have lost it; one that it seemed to start is
    /// returned, to be offered again.
    pub fn late(&mut self, now: Instant) -> (Vec<Item>, Vec<(Address, Notice)>) {
        let late = self.lent.iter().filter(|(_, lent)| now.duration_since(lent.since) >= LENT_FOR);
        let ranks: Vec<_> = late.map(|(rank, _)| *rank).collect();
        let (mut back, mut notices) = (Vec::new(), Vec::new());
        for rank in ranks {
            let Some(lent) = self.lent.get_mut(&rank) else { continue };
            let node = self.elsewhere.get_mut(&lent.to).filter(|node| node.is_polled(now));
            if let Some(node) = node {
                if self.idle.contains(&rank) {
                    lent.since = now;
                    notices.push((lent.to.clone(), Notice::Item(lent.waiting.item.clone())));
                    continue;
                }
                node.waits = false;
            }
            let to = lent.to.clone();
            if let Some((waiting, _)) = self.remove(rank) {
                notices.extend(withdrawn(to, &waiting.item));
                back.push(waiting.item);
            }
        }
        (back, notices)
    }

    /// Another node is gone, or can't be reached. Returns what was lent to it.
    pub fn gone(&mut self, node: &Address) -> Vec<Item> {
        let lent = self.lent.iter().filter(|(_, lent)| lent.to == *node);
        let ranks: Vec<_> = lent.map(|(rank, _)| *rank).collect();
        let back = ranks.into_iter().filter_map(|rank| self.remove(rank)).map(|(waiting, _)| waiting.item).collect();
        self.elsewhere.remove(node);
        back
    }

    /// Another node does not know, or no longer, that a poller waits here.
    pub fn announce_again_to(&mut self, node: &Address) {
        self.announced_to.remove(node);
        self.unannounced = true;
    }

    /// Whether a poller waits here that was not announced to all others.
    pub fn has_unannounced(&self) -> bool {
        self.unannounced && !self.pollers.is_empty()
    }

    /// What each of the others does not know yet of the pollers here.
    pub fn announcements(&mut self, others: &[Address], now: Instant) -> Vec<(Address, Polled)> {
        let Some(last_poll) = self.last_poll.filter(|_| self.is_polled_here(now)) else { return Vec::new() };
        let waiting = !self.pollers.is_empty();
        let age = if waiting { Duration::ZERO } else { now.duration_since(last_poll) };
        let polled = Polled { queue: self.name.clone(), sticky: self.sticky, waiting, age };
        let mut news = Vec::new();
        for other in others.iter().filter(|other| !self.announced_to.contains(*other)) {
            news.push((other.clone(), polled.clone()));
        }
        if waiting {
            self.announced_to.extend(others.iter().cloned());
        }
        self.unannounced = !waiting;
        news
    }

    /// Whether it is time to announce to all others again: they may have forgotten.
    pub fn is_announcement_due(&mut self, now: Instant) -> bool {
        let due =
            self.announced_at.is_none_or(|at| now.duration_since(at) >= ANNOUNCE_EVERY) && self.is_polled_here(now);
        if due {
            self.announced_at = Some(now);
            self.announced_to.clear();
            self.unannounced = true;
        }
        due
    }
}
