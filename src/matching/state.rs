//! The queues of one node, and the news of them for other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::QueueName;
use super::elsewhere::Notice;
use super::news::{Address, Answer, Item, News, Outbox};
use super::queue::{Put, Queue, Taken};

#[derive(Default)]
pub struct State {
    pub queues: BTreeMap<QueueName, Queue>,
    pub outbox: Outbox,
    /// Queues with pollers that were not announced to all others.
    pub unannounced: BTreeSet<QueueName>,
    /// Sticky queues whose workers have shut down, to be announced to all others.
    pub forgotten: Vec<QueueName>,
    /// Nodes that did not acknowledge the last news.
    unreachable: BTreeSet<Address>,
    pub has_news: bool,
    /// There are other nodes, or were.
    pub has_peers: bool,
    /// They have sent news.
    pub has_received: bool,
    pub closed: bool,
}

/// The time, as the queues need it.
#[derive(Clone, Copy)]
pub struct Now {
    pub instant: Instant,
    pub ms: i64,
}

/// The worker of a sticky queue is gone.
pub struct Stranded;

impl State {
    pub fn queue(&mut self, name: &QueueName, now: Now) -> &mut Queue {
        self.queues.entry(name.clone()).or_insert_with(|| Queue::new(name.clone(), now.instant))
    }

    pub fn send(&mut self, notices: impl IntoIterator<Item = (Address, Notice)>) {
        for (to, notice) in notices {
            let news = self.outbox.to(&to);
            match notice {
                Notice::Item(item) => news.items.push(item),
                Notice::Withdrawn(task) => news.withdrawn.push(task),
            }
            self.has_news = true;
        }
    }

    /// Offers what is this node's: to its queue, or to the normal one if its own is sticky and the worker gone.
    pub fn offer(&mut self, mut item: Item, now: Now, taken: &mut Vec<Taken>) {
        let polled = |queue: &Queue| queue.is_polled(now.instant);
        if item.is_sticky() && !self.queues.get(&item.queue_name()).is_some_and(polled) {
            item = item.for_any();
        }
        let queue = self.queue(&item.queue_name(), now);
        match queue.put(item, None, now) {
            Put::Known => {}
            Put::Taken(one) => taken.push(one),
            Put::Waits(rank) => {
                let notice = queue.lend_one(rank, now.instant);
                self.send(notice);
            }
        }
    }

    /// The worker of a sticky queue shuts down.
    pub fn forget(&mut self, name: &QueueName, now: Now, taken: &mut Vec<Taken>) {
        self.unannounced.remove(name);
        let Some(mut gone) = self.queues.remove(name) else { return };
        gone.drain().into_iter().for_each(|item| self.offer(item.for_any(), now, taken));
    }

    /// Another node's tasks and pollers.
    pub fn receive_news(&mut self, from: &Address, news: News, now: Now, taken: &mut Vec<Taken>) -> Answer {
        self.has_received = true;
        if self.unreachable.contains(from) {
            // It may not receive tasks, so it gets none before it has acknowledged something.
            self.outbox.to(from).probe = true;
            self.has_news = true;
        } else {
            for polled in &news.polled {
                let notices = self.queue(&polled.queue, now).polled_elsewhere(from, polled, now.instant);
                self.send(notices);
            }
        }
        news.forgotten.iter().for_each(|name| self.forget(name, now, taken));
        for withdrawn in news.withdrawn {
            if let Some(queue) = self.queues.get_mut(&withdrawn.queue_name()) {
                queue.withdraw_foreign(&withdrawn.key());
            }
        }
        let mut answer = Answer::default();
        for (index, item) in news.items.into_iter().enumerate() {
            match self.keep(item, from, now) {
                Ok(Some(one)) => taken.push(one),
                Ok(None) => answer.kept.push(index as u32),
                Err(Stranded) => answer.stranded.push(index as u32),
            }
        }
        answer
    }

    /// Another node's task or query, for a poller of this one. `None`: it waits.
    fn keep(&mut self, item: Item, from: &Address, now: Now) -> Result<Option<Taken>, Stranded> {
        let name = item.queue_name();
        if item.is_sticky() && !self.queues.get(&name).is_some_and(|queue| queue.is_polled_here(now.instant)) {
            return Err(Stranded);
        }
        let queue = self.queue(&name, now);
        match queue.put(item, Some(from), now) {
            Put::Taken(one) => Ok(Some(one)),
            Put::Known | Put::Waits(_) => {
                queue.announce_again_to(from);
                Ok(None)
            }
        }
    }

    /// Another node's answer to news.
    pub fn receive_answer(&mut self, by: &Address, items: Vec<Item>, answer: Answer, now: Now, taken: &mut Vec<Taken>) {
        self.unreachable.remove(by);
        for index in answer.kept {
            let Some(Item::Task(task)) = items.get(index as usize) else { continue };
            match self.queues.get_mut(&task.queue_name()) {
                Some(queue) => {
                    let notices = queue.kept(by, task, now.instant, taken);
                    self.send(notices);
                }
                None => self.send([(by.clone(), Notice::Withdrawn(task.clone()))]),
            }
        }
        for index in answer.stranded {
            let Some(item) = items.get(index as usize) else { continue };
            let queue = self.queues.get_mut(&item.queue_name());
            let back = queue.and_then(|queue| queue.stranded(by, &item.key(), now.instant));
            let query = Some(item).filter(|item| matches!(item, Item::Query(_))).cloned();
            back.or(query).into_iter().for_each(|item| self.offer(item.for_any(), now, taken));
        }
        self.has_news |= self.outbox.done(by);
    }

    /// Another node can't be reached, or does not acknowledge `items`.
    pub fn lost(&mut self, node: &Address, items: Vec<Item>, now: Now, taken: &mut Vec<Taken>) {
        self.unreachable.insert(node.clone());
        let pending = self.outbox.forget(node).items;
        let mut back: Vec<_> = self.queues.values_mut().flat_map(|queue| queue.gone(node)).collect();
        back.extend(items.into_iter().chain(pending).filter(|item| matches!(item, Item::Query(_))));
        back.into_iter().for_each(|item| self.offer(item, now, taken));
    }

    pub fn tick(&mut self, now: Now, taken: &mut Vec<Taken>) {
        let (mut late, mut notices) = (Vec::new(), Vec::new());
        for (name, queue) in &mut self.queues {
            queue.expire(now.instant);
            let (back, again) = queue.late(now.instant);
            late.extend(back);
            notices.extend(again);
            notices.extend(queue.share(now));
            if queue.is_announcement_due(now.instant) {
                self.unannounced.insert(name.clone());
                self.has_news = true;
            }
        }
        self.send(notices);
        late.into_iter().for_each(|item| self.offer(item, now, taken));
    }
}
