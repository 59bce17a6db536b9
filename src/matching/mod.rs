//! Matching: brings tasks and waiting pollers together, by task queue.
//!
//! Holds nothing that can't be lost: tasks are derived from the partitions' records, and offered again by whoever owns
//! them next; a poller that is lost polls again. Exactly one start of a task wins because the start is a command.
//!
//! Each queue has a home: a partition, by the queue's name, whose owner brings the queue's tasks and pollers together. Tasks
//! of queues whose home is elsewhere are kept [`away`], and announced there.

mod away;
mod queue;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::due::Task;
use crate::environment::Environment;
use away::Away;
use queue::Queue;

pub use away::{Announcement, WaitingTask};

/// A sticky queue that nobody has polled for this long has lost its worker. Temporal's server has the same 10 s.
const STICKY_WORKER_GONE: Duration = Duration::from_secs(10);
/// Queues that nobody has used for this long are forgotten.
const QUEUE_FORGOTTEN: Duration = Duration::from_secs(300);

/// Names a queue: workflow tasks and activity tasks of one name are apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName {
    pub namespace_id: Arc<str>,
    pub name: Arc<str>,
    pub activity: bool,
}

/// Where a task came from: what its start must name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskOrigin {
    pub partition: u32,
    pub namespace_id: Arc<str>,
    pub workflow_id: Arc<str>,
    pub run_id: Arc<str>,
}

/// What a poller is handed.
pub enum Offer {
    Task {
        origin: TaskOrigin,
        task: Task,
    },
    /// A question to a workflow, which is not logged.
    Query(Query),
}

/// A query on its way to a worker.
pub struct Query {
    pub origin: TaskOrigin,
    pub id: u64,
    pub query: crate::proto::temporal::query::v1::WorkflowQuery,
}

/// Takes what it is offered; called at most once, without a lock held.
pub type Take = Box<dyn FnOnce(Offer) + Send>;

/// A poller's place in its queue. Dropped, it gives the place up.
pub struct Place {
    matching: Arc<Matching>,
    queue: QueueName,
    poller: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(queue) = self.matching.lock().get_mut(&self.queue) {
            queue.leave(self.poller);
        }
    }
}

/// Who polled a queue lately.
#[derive(Clone, Debug)]
pub struct PollerSeen {
    pub identity: String,
    pub last_ms: i64,
}

/// A queue's state, for people and metrics.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub backlog: usize,
    /// Age of the oldest task that waits.
    pub oldest_age: Duration,
    pub added: u64,
    pub dispatched: u64,
    /// Workers, by identity, that polled lately or wait now, and polls that wait now.
    pub pollers: usize,
    pub waiting_polls: usize,
    /// One worker's own queue.
    pub sticky: bool,
}

/// Why a task can't wait in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The worker of its sticky queue is gone.
    Stranded,
    /// This is not the home of its queue.
    NotHere,
}

pub struct Matching {
    environment: Arc<dyn Environment>,
    queues: Mutex<BTreeMap<QueueName, Queue>>,
    pollers: AtomicU64,
    /// Which partitions are owned here: the homes of the queues that are served here.
    here: Vec<AtomicBool>,
    away: Mutex<Away>,
    /// Told when something is to be announced.
    announce: Arc<Notify>,
}

impl Matching {
    pub fn new(partitions: u32, environment: Arc<dyn Environment>) -> Arc<Self> {
        Arc::new(Self {
            environment,
            queues: Mutex::default(),
            pollers: AtomicU64::new(0),
            here: (0..partitions).map(|_| AtomicBool::new(false)).collect(),
            away: Mutex::default(),
            announce: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueueName, Queue>> {
        self.queues.lock().expect("no code panics while it holds the queues")
    }

    fn away(&self) -> MutexGuard<'_, Away> {
        self.away.lock().expect("no code panics while it holds the tasks that are away")
    }

    /// The partition whose owner serves a queue.
    pub fn home(&self, namespace_id: &str, queue: &str) -> u32 {
        crate::types::partition_of(namespace_id, queue, self.here.len() as u32)
    }

    pub fn is_here(&self, home: u32) -> bool {
        self.here.get(home as usize).is_some_and(|here| here.load(Ordering::Acquire))
    }

    /// Offers a task of a partition of this node's. `normal_queue` takes a sticky task whose worker is gone.
    pub fn offer(&self, origin: TaskOrigin, task: Task, normal_queue: &str) {
        let queue = task.queue.as_str().into();
        self.offer_waiting(WaitingTask { origin, task, queue, normal_queue: normal_queue.into() });
    }

    fn offer_waiting(&self, mut waiting: WaitingTask) {
        loop {
            let home = self.home(&waiting.origin.namespace_id, &waiting.queue);
            match self.offer_here(waiting) {
                Ok(()) => return,
                Err((Refused::Stranded, back)) => {
                    waiting = *back;
                    waiting.queue = waiting.normal_queue.clone();
                }
                Err((_, back)) => {
                    let mut away = self.away();
                    // The home may have come here meanwhile, and taken what was away.
                    if self.is_here(home) {
                        waiting = *back;
                        continue;
                    }
                    away.put(home, *back);
                    drop(away);
                    return self.announce.notify_one();
                }
            }
        }
    }

    /// Offers a task at the home of its queue; gives it back if this is not its home, or nobody will come for it.
    pub fn offer_here(&self, waiting: WaitingTask) -> Result<(), (Refused, Box<WaitingTask>)> {
        let name = waiting.queue_name();
        let now = self.environment.now();
        let taken = {
            let mut queues = self.lock();
            // Under the lock: whoever gives the home up looks at the queues after that.
            if !self.is_here(self.home(&name.namespace_id, &name.name)) {
                return Err((Refused::NotHere, Box::new(waiting)));
            }
            if waiting.is_sticky()
                && !queues.get(&name).is_some_and(|queue| queue.polled_within(STICKY_WORKER_GONE, now))
            {
                return Err((Refused::Stranded, Box::new(waiting)));
            }
            let WaitingTask { origin, task, normal_queue, .. } = waiting;
            let queue = queues.entry(name).or_insert_with(|| Queue::new(now));
            queue.offer(Offer::Task { origin, task }, &normal_queue, now)
        };
        if let Some((take, offer)) = taken {
            take(offer);
        }
        Ok(())
    }

    /// Offers a query to whoever polls the queue, whose home is here. Gives it back if the sticky worker is gone.
    pub fn query(&self, queue: &QueueName, sticky: bool, query: Query) -> Result<(), Box<Query>> {
        let now = self.environment.now();
        let taken = {
            let mut queues = self.lock();
            if sticky && !queues.get(queue).is_some_and(|queue| queue.polled_within(STICKY_WORKER_GONE, now)) {
                return Err(Box::new(query));
            }
            queues.entry(queue.clone()).or_insert_with(|| Queue::new(now)).offer(Offer::Query(query), "", now)
        };
        if let Some((take, offer)) = taken {
            take(offer);
        }
        Ok(())
    }

    /// Withdraws a task that is not to be had any more.
    pub fn withdraw(&self, origin: &TaskOrigin, task: &Task, normal_queue: &str) {
        let mut waiting = WaitingTask {
            origin: origin.clone(),
            task: task.clone(),
            queue: task.queue.as_str().into(),
            normal_queue: normal_queue.into(),
        };
        loop {
            if self.withdraw_here(&waiting) {
                return;
            }
            let home = self.home(&origin.namespace_id, &waiting.queue);
            if !self.is_here(home) && self.away().remove(home, &waiting) {
                return self.announce.notify_one();
            }
            if waiting.queue == waiting.normal_queue {
                return;
            }
            waiting.queue = waiting.normal_queue.clone();
        }
    }

    /// Withdraws a task at the home of its queue.
    pub fn withdraw_here(&self, waiting: &WaitingTask) -> bool {
        let mut queues = self.lock();
        let queue = queues.get_mut(&waiting.queue_name());
        queue.is_some_and(|queue| queue.withdraw(&waiting.origin, waiting.task.scheduled_event_id))
    }

    /// Waits for a task: `take` is called at once if one is there, else when one comes, unless the place is given up before.
    /// It is dropped where the queue's home is elsewhere, or goes there.
    pub fn poll(self: &Arc<Self>, name: QueueName, identity: &str, take: Take) -> Option<Place> {
        let (now, now_ms) = (self.environment.now(), self.environment.clock_ms());
        let poller = self.pollers.fetch_add(1, Ordering::Relaxed);
        let taken = {
            let mut queues = self.lock();
            if !self.is_here(self.home(&name.namespace_id, &name.name)) {
                return None;
            }
            let queue = queues.entry(name.clone()).or_insert_with(|| Queue::new(now));
            queue.poll(poller, identity, now, now_ms, take)
        };
        if let Some((take, offer)) = taken {
            take(offer);
        }
        Some(Place { matching: self.clone(), queue: name, poller })
    }

    /// A worker says that it is gone: nobody serves its sticky queue any more, and what waits there goes to the normal one.
    pub fn forget_sticky(&self, namespace_id: &str, sticky: &str) {
        let name = QueueName { namespace_id: namespace_id.into(), name: sticky.into(), activity: false };
        let Some(mut gone) = self.lock().remove(&name) else { return };
        for (offer, normal_queue) in gone.drain() {
            if let Offer::Task { origin, task } = offer {
                // Those of other nodes are announced again, and told then that they are stranded.
                if self.is_here(origin.partition) {
                    self.offer(origin, task, &normal_queue);
                }
            }
        }
    }

    /// This node owns a partition: it is the home of queues here, and their tasks are.
    pub fn gain(&self, partition: u32) {
        let Some(here) = self.here.get(partition as usize) else { return };
        here.store(true, Ordering::Release);
        let home = self.away().take_home(partition);
        home.into_iter().for_each(|waiting| self.offer_waiting(waiting));
    }

    /// This node has given a partition up: its tasks are its next owner's to offer, and the queues whose home it is are served
    /// elsewhere.
    pub fn lose(&self, partition: u32) {
        let Some(here) = self.here.get(partition as usize) else { return };
        let mut left = Vec::new();
        {
            let mut queues = self.lock();
            here.store(false, Ordering::Release);
            queues.retain(|name, queue| {
                queue.forget_partition(partition);
                if self.home(&name.namespace_id, &name.name) != partition {
                    return true;
                }
                left.extend(queue.drain().into_iter().map(|(offer, normal)| (name.name.clone(), offer, normal)));
                false
            });
        }
        self.away().forget_partition(partition);
        for (queue, offer, normal_queue) in left {
            if let Offer::Task { origin, task } = offer
                && self.is_here(origin.partition)
            {
                self.offer_waiting(WaitingTask { origin, task, queue, normal_queue: (*normal_queue).into() });
            }
        }
    }

    /// Waits until something may have to be announced.
    pub async fn announcements(&self) {
        self.announce.notified().await;
    }

    /// What the homes elsewhere have to hear now.
    pub fn take_announcements(&self) -> Vec<Announcement> {
        self.away().take(self.environment.now())
    }

    /// A home has another owner, who knows of no tasks yet.
    pub fn home_moved(&self, home: u32) {
        self.away().moved(home);
        self.announce.notify_one();
    }

    /// A home did not hear what it was told.
    pub fn announce_again(&self, announcement: Announcement) {
        self.away().again(announcement);
    }

    /// A home has no worker for a sticky task: it goes to its normal queue.
    pub fn stranded(&self, home: u32, waiting: WaitingTask) {
        if self.away().take_back(home, &waiting) {
            let queue = waiting.normal_queue.clone();
            self.offer_waiting(WaitingTask { queue, ..waiting });
        }
    }

    pub fn pollers(&self, name: &QueueName) -> Vec<PollerSeen> {
        self.lock().get(name).map(Queue::seen).unwrap_or_default()
    }

    pub fn stats(&self, name: &QueueName, now_ms: i64) -> Stats {
        self.lock().get(name).map(|queue| queue.stats(now_ms)).unwrap_or_default()
    }

    /// Every queue's state. Forgets queues that nobody uses.
    pub fn all_stats(&self, now_ms: i64) -> Vec<(QueueName, Stats)> {
        let mut queues = self.lock();
        queues.retain(|_, queue| !queue.idle_for(QUEUE_FORGOTTEN, self.environment.now()));
        queues.iter().map(|(name, queue)| (name.clone(), queue.stats(now_ms))).collect()
    }
}
