//! What a node sends another about its task queues, and what is pending.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Offer, Query, QueueName, TaskOrigin};
use crate::engine::{Task, TaskKind, TaskQueueType};

/// Where a node is reached: HOST:PORT of its gRPC service.
pub type Address = Arc<str>;

/// A task, and the queue in which it waits: its own, or the normal one if its own is sticky and the worker gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingTask {
    pub origin: TaskOrigin,
    pub task: Task,
    pub queue: Arc<str>,
    pub normal_queue: Arc<str>,
}

impl WaitingTask {
    pub fn queue_name(&self) -> QueueName {
        QueueName {
            namespace_id: self.origin.entity.namespace_id.clone(),
            name: self.queue.clone(),
            queue_type: self.task.kind.queue_type(),
        }
    }

    pub fn key(&self) -> Key {
        Key::Task(self.origin.clone(), self.task.scheduled_event_id)
    }

    /// Whether it waits for one worker.
    fn is_sticky(&self) -> bool {
        match self.task.kind {
            TaskKind::StickyWorkflow => self.queue != self.normal_queue,
            TaskKind::Workflow | TaskKind::Activity => false,
        }
    }
}

/// A query, and the queue in which it waits: the sticky one of its workflow's worker, or the normal one.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingQuery {
    pub query: Query,
    pub queue: Arc<str>,
    pub normal_queue: Arc<str>,
}

/// What waits in a queue.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Task(WaitingTask),
    Query(WaitingQuery),
}

/// Names an item, whatever its attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Task(TaskOrigin, i64),
    Query(TaskOrigin, u64),
}

impl Item {
    pub fn queue_name(&self) -> QueueName {
        match self {
            Self::Task(task) => task.queue_name(),
            Self::Query(WaitingQuery { query, queue, .. }) => QueueName {
                namespace_id: query.origin.entity.namespace_id.clone(),
                name: queue.clone(),
                queue_type: TaskQueueType::Workflow,
            },
        }
    }

    pub fn key(&self) -> Key {
        match self {
            Self::Task(task) => task.key(),
            Self::Query(WaitingQuery { query, .. }) => Key::Query(query.origin.clone(), query.id),
        }
    }

    pub fn partition(&self) -> u32 {
        match self {
            Self::Task(task) => task.origin.partition,
            Self::Query(waiting) => waiting.query.origin.partition,
        }
    }

    /// When it joined its queue: a query, now.
    pub fn joined_ms(&self, now_ms: i64) -> i64 {
        match self {
            Self::Task(waiting) => waiting.task.scheduled_ms,
            Self::Query(_) => now_ms,
        }
    }

    /// Whether it waits for one worker.
    pub fn is_sticky(&self) -> bool {
        match self {
            Self::Task(task) => task.is_sticky(),
            Self::Query(waiting) => waiting.queue != waiting.normal_queue,
        }
    }

    /// The same, for any worker.
    pub fn for_any(mut self) -> Self {
        match &mut self {
            Self::Task(task) => task.queue = task.normal_queue.clone(),
            Self::Query(waiting) => waiting.queue = waiting.normal_queue.clone(),
        }
        self
    }

    pub fn into_offer(self) -> Offer {
        match self {
            Self::Task(WaitingTask { origin, task, .. }) => Offer::Task { origin, task },
            Self::Query(WaitingQuery { query, .. }) => Offer::Query(query),
        }
    }
}

/// A queue that workers poll at the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polled {
    pub queue: QueueName,
    pub sticky: bool,
    /// A poller waits now.
    pub waiting: bool,
    /// Since the last poll, if none waits.
    pub age: Duration,
}

/// What one node sends another.
#[derive(Clone, Debug, Default)]
pub struct News {
    pub polled: Vec<Polled>,
    /// Tasks that are no longer available.
    pub withdrawn: Vec<WaitingTask>,
    /// What a poller there may take.
    pub items: Vec<Item>,
    /// Sticky queues whose workers have shut down.
    pub forgotten: Vec<QueueName>,
    /// To be sent even if empty: finds out whether the other node can be reached.
    pub probe: bool,
}

impl News {
    fn is_empty(&self) -> bool {
        self.polled.is_empty()
            && self.withdrawn.is_empty()
            && self.items.is_empty()
            && self.forgotten.is_empty()
            && !self.probe
    }
}

/// The other node's answer to the items sent to it: indexes into them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// No poller waited for these, and they wait there too.
    pub kept: Vec<u32>,
    /// The worker of their sticky queue is gone.
    pub stranded: Vec<u32>,
}

/// News by receiver. One message at a time is in flight to each, so news for a slow one gathers.
#[derive(Default)]
pub struct Outbox {
    receivers: BTreeMap<Address, Pending>,
}

#[derive(Default)]
struct Pending {
    news: News,
    under_way: bool,
}

impl Outbox {
    /// The next news for the receiver.
    pub fn to(&mut self, receiver: &Address) -> &mut News {
        if !self.receivers.contains_key(receiver) {
            self.receivers.insert(receiver.clone(), Pending::default());
        }
        &mut self.receivers.get_mut(receiver).expect("it is there now").news
    }

    /// The news to send now, to receivers that have none in flight.
    pub fn take(&mut self) -> Vec<(Address, News)> {
        let idle = self.receivers.iter_mut().filter(|(_, pending)| !pending.under_way && !pending.news.is_empty());
        idle.map(|(receiver, pending)| {
            pending.under_way = true;
            (receiver.clone(), std::mem::take(&mut pending.news))
        })
        .collect()
    }

    /// The receiver has acknowledged what was taken. True: there is more for it.
    pub fn done(&mut self, receiver: &Address) -> bool {
        let Some(pending) = self.receivers.get_mut(receiver) else { return false };
        pending.under_way = false;
        if pending.news.is_empty() {
            self.receivers.remove(receiver);
            return false;
        }
        true
    }

    /// The receiver can't be reached: its pending news is returned.
    pub fn forget(&mut self, receiver: &Address) -> News {
        self.receivers.remove(receiver).unwrap_or_default().news
    }
}
