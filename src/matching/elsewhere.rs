//! What a queue has to do with other nodes: where else it is polled, and what they were told of it.
//!
//! A task that another node is told of is lent: as long as that node is about to start it, nobody else gets it. If nobody waited
//! for it there, it is idle, and for whoever comes first, here or there; its start decides.

use std::time::{Duration, Instant};

use super::news::{Address, Item, Key, Polled, WaitingTask};
use super::queue::{POLLED_LATELY, Queue, Rank, Taken, Waiting, withdrawn};
use super::state::Now;

/// Tasks that one other node is told of at once, so that a backlog of millions costs it little.
const LENT_MAX: usize = 500;
/// Tasks of which a node is told that has not started those of before.
const MOVED_AT_ONCE: usize = 10;
/// A task that another node was told of and has not started is to be had again after this long: it may have forgotten.
const LENT_FOR: Duration = Duration::from_secs(2);
/// Tasks that have waited this long, while workers poll here and elsewhere, are for both.
const SHARED_AFTER: Duration = Duration::from_millis(500);
/// How often other nodes are told that a queue is polled here.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// A task of this node's that another one was told of.
pub struct Lent {
    pub waiting: Waiting,
    pub to: Address,
    since: Instant,
    /// How often that node had told of its pollers before.
    heard: u64,
}

/// Another node, where workers poll this queue.
pub struct Elsewhere {
    /// When somebody polled there last, as far as is known.
    polled: Instant,
    /// As far as is known, somebody waits.
    waits: bool,
    lent: usize,
    /// When it was last told of a task: a count.
    chosen: u64,
    /// How often it has told of its pollers.
    heard: u64,
}

/// What another node is to be told.
pub enum Told {
    Item(Item),
    Withdrawn(WaitingTask),
}

impl Elsewhere {
    pub fn is_polled(&self, now: Instant) -> bool {
        now.duration_since(self.polled) < POLLED_LATELY
    }
}

impl Queue {
    /// Takes a task back that another node was told of.
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

    /// Whom to tell of what waits: nodes where somebody waits; else, if nobody polls here, where somebody has just polled.
    fn choose(&self, now: Instant) -> Option<&Address> {
        let here = self.is_polled_here(now);
        let might = |(_, elsewhere): &(&Address, &Elsewhere)| {
            elsewhere.is_polled(now) && elsewhere.lent < LENT_MAX && (elsewhere.waits || !here)
        };
        let chosen = self.elsewhere.iter().filter(might);
        chosen.min_by_key(|(_, node)| (!node.waits, node.lent, node.chosen)).map(|(address, _)| address)
    }

    /// Tells another node of what waits here.
    fn lend(&mut self, rank: Rank, to: &Address, now: Instant) -> Option<Told> {
        if !matches!(self.waiting.get(&rank)?.item, Item::Task(_)) {
            // If it is lost, whoever asked asks again.
            return self.remove(rank).map(|(waiting, _)| Told::Item(waiting.item));
        }
        let waiting = self.waiting.remove(&rank)?;
        let told = Told::Item(waiting.item.clone());
        let mut heard = 0;
        if let Some(elsewhere) = self.elsewhere.get_mut(to) {
            self.choices += 1;
            elsewhere.chosen = self.choices;
            elsewhere.lent += 1;
            heard = elsewhere.heard;
        }
        self.lent.insert(rank, Lent { waiting, to: to.clone(), since: now, heard });
        Some(told)
    }

    /// What waits in vain here may do so elsewhere: says who is to be told of it.
    pub fn lend_one(&mut self, rank: Rank, now: Instant) -> Option<(Address, Told)> {
        let to = self.choose(now)?.clone();
        let told = self.lend(rank, &to, now)?;
        Some((to, told))
    }

    /// Another node tells whether somebody waits there. Says who is to be told of what.
    pub fn polled_elsewhere(&mut self, node: &Address, polled: &Polled, now: Instant) -> Vec<(Address, Told)> {
        self.last_use = now;
        self.sticky |= polled.sticky;
        let at = now.checked_sub(polled.age).unwrap_or(now);
        let new = Elsewhere { polled: at, waits: false, lent: 0, chosen: 0, heard: 0 };
        let elsewhere = self.elsewhere.entry(node.clone()).or_insert(new);
        elsewhere.polled = at;
        elsewhere.waits = polled.waiting;
        elsewhere.heard += 1;
        let room = LENT_MAX.saturating_sub(elsewhere.lent);
        if !polled.waiting && self.is_polled_here(now) {
            return Vec::new();
        }
        let mut told = self.lend_oldest(node, room, now, |_| true);
        if told.is_empty() && polled.waiting {
            // Nobody waited for these where they were told of.
            let elsewhere = |rank: &&Rank| self.lent.get(rank).is_some_and(|lent| lent.to != *node);
            let moved: Vec<_> = self.idle.iter().filter(elsewhere).take(MOVED_AT_ONCE).copied().collect();
            moved.into_iter().for_each(|rank| told.extend(self.move_to(rank, node, now)));
        }
        told
    }

    /// Tells another node of what was lent to one already.
    fn move_to(&mut self, rank: Rank, node: &Address, now: Instant) -> Vec<(Address, Told)> {
        let Some(Lent { waiting, to, .. }) = self.give_back(rank) else { return Vec::new() };
        let withdrawn = withdrawn(to, &waiting.item);
        self.waiting.insert(rank, waiting);
        let told = self.lend(rank, node, now).map(|told| (node.clone(), told));
        withdrawn.into_iter().chain(told).collect()
    }

    fn lend_oldest(
        &mut self,
        to: &Address,
        most: usize,
        now: Instant,
        whether: impl Fn(Rank) -> bool,
    ) -> Vec<(Address, Told)> {
        let own = self.waiting.iter().take_while(|(rank, _)| whether(**rank));
        let own = own.filter(|(_, waiting)| waiting.from.is_none());
        let ranks: Vec<_> = own.take(most).map(|(rank, _)| *rank).collect();
        let told = ranks.into_iter().filter_map(|rank| self.lend(rank, to, now));
        told.map(|told| (to.clone(), told)).collect()
    }

    /// What workers elsewhere shall have of a backlog, though others poll here: else it would wait for those alone.
    pub fn share(&mut self, Now { instant: now, ms: now_ms }: Now) -> Vec<(Address, Told)> {
        self.elsewhere.retain(|_, node| node.is_polled(now) || node.lent > 0);
        let before = now_ms - SHARED_AFTER.as_millis() as i64;
        let mut shared = Vec::new();
        let nodes = self.elsewhere.iter().filter(|(_, node)| node.is_polled(now));
        let nodes: Vec<_> =
            nodes.map(|(address, node)| (address.clone(), LENT_MAX.saturating_sub(node.lent))).collect();
        for (node, room) in nodes {
            // Half of what there is stays, for those that poll here.
            let room = room.min(self.own_waiting().div_ceil(2));
            shared.extend(self.lend_oldest(&node, room, now, |rank| rank.0 <= before));
        }
        shared
    }

    /// Nobody waited for a task where it was told of: it is for whoever comes first, or for one who waits now. Says who is to be
    /// told of what.
    pub fn kept(
        &mut self,
        by: &Address,
        task: &WaitingTask,
        now: Instant,
        taken: &mut Vec<Taken>,
    ) -> Vec<(Address, Told)> {
        let rank = self.ranks.get(&task.key()).copied();
        let lent = rank.and_then(|rank| self.lent.get(&rank)).filter(|lent| lent.to == *by);
        let (Some(rank), Some(lent)) = (rank, lent) else {
            // It is gone meanwhile, or somebody else's.
            return vec![(by.clone(), Told::Withdrawn(task.clone()))];
        };
        // What it has said since then is newer.
        let heard = lent.heard;
        if let Some(elsewhere) = self.elsewhere.get_mut(by).filter(|elsewhere| elsewhere.heard == heard) {
            elsewhere.waits = false;
        }
        self.idle.insert(rank);
        if let Some(take) = self.take_poller(now) {
            let Some((waiting, told)) = self.remove(rank) else { return Vec::new() };
            taken.push((take, waiting.item.into_offer()));
            return told.into_iter().collect();
        }
        let waits = |other: &&Address| **other != *by && self.elsewhere.get(*other).is_some_and(|node| node.waits);
        match self.choose(now).filter(waits).cloned() {
            Some(other) => self.move_to(rank, &other, now),
            None => Vec::new(),
        }
    }

    /// The worker of a sticky queue is gone, says the node where it polled. Gives its task back.
    pub fn stranded(&mut self, by: &Address, key: &Key, now: Instant) -> Option<Item> {
        if let Some(elsewhere) = self.elsewhere.get_mut(by) {
            elsewhere.waits = false;
            elsewhere.polled = now.checked_sub(POLLED_LATELY).unwrap_or(elsewhere.polled);
        }
        let rank = *self.ranks.get(key)?;
        self.lent.get(&rank).filter(|lent| lent.to == *by)?;
        self.remove(rank).map(|(waiting, _)| waiting.item)
    }

    /// What another node was told of long ago: it is told again, if nobody waited there, for it may have forgotten; what it
    /// seemed to start is to be had again.
    pub fn late(&mut self, now: Instant) -> (Vec<Item>, Vec<(Address, Told)>) {
        let late = self.lent.iter().filter(|(_, lent)| now.duration_since(lent.since) >= LENT_FOR);
        let ranks: Vec<_> = late.map(|(rank, _)| *rank).collect();
        let (mut back, mut told) = (Vec::new(), Vec::new());
        for rank in ranks {
            let Some(lent) = self.lent.get_mut(&rank) else { continue };
            let node = self.elsewhere.get_mut(&lent.to).filter(|node| node.is_polled(now));
            if let Some(node) = node {
                if self.idle.contains(&rank) {
                    lent.since = now;
                    told.push((lent.to.clone(), Told::Item(lent.waiting.item.clone())));
                    continue;
                }
                node.waits = false;
            }
            let to = lent.to.clone();
            if let Some((waiting, _)) = self.remove(rank) {
                told.extend(withdrawn(to, &waiting.item));
                back.push(waiting.item);
            }
        }
        (back, told)
    }

    /// Another node is gone, or can't be reached. Gives back what it was told of.
    pub fn gone(&mut self, node: &Address) -> Vec<Item> {
        let lent = self.lent.iter().filter(|(_, lent)| lent.to == *node);
        let ranks: Vec<_> = lent.map(|(rank, _)| *rank).collect();
        let back = ranks.into_iter().filter_map(|rank| self.remove(rank)).map(|(waiting, _)| waiting.item).collect();
        self.elsewhere.remove(node);
        back
    }

    /// Another node does not know, or no longer, that somebody waits here.
    pub fn knows_not(&mut self, node: &Address) {
        self.told.remove(node);
        self.unsaid = true;
    }

    /// Whether somebody waits here of whom not all others know.
    pub fn has_unsaid(&self) -> bool {
        self.unsaid && !self.pollers.is_empty()
    }

    /// What each of the others does not know of the pollers here.
    pub fn tell(&mut self, others: &[Address], now: Instant) -> Vec<(Address, Polled)> {
        let Some(last_poll) = self.last_poll.filter(|_| self.is_polled_here(now)) else { return Vec::new() };
        let waiting = !self.pollers.is_empty();
        let age = if waiting { Duration::ZERO } else { now.duration_since(last_poll) };
        let polled = Polled { queue: self.name.clone(), sticky: self.sticky, waiting, age };
        let mut news = Vec::new();
        for other in others.iter().filter(|other| !self.told.contains(*other)) {
            news.push((other.clone(), polled.clone()));
        }
        if waiting {
            self.told.extend(others.iter().cloned());
        }
        self.unsaid = !waiting;
        news
    }

    /// Whether all others are to be told anew: they may have forgotten.
    pub fn is_to_be_told(&mut self, now: Instant) -> bool {
        let due = self.told_all.is_none_or(|at| now.duration_since(at) >= TOLD_EVERY) && self.is_polled_here(now);
        if due {
            self.told_all = Some(now);
            self.told.clear();
            self.unsaid = true;
        }
        due
    }
}
