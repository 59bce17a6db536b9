//! Matching: brings tasks and waiting pollers together, by task queue.
//!
//! Holds nothing that can't be lost: tasks are derived from the partitions' records, and offered again by whoever owns
//! them next; a poller that is lost polls again. Exactly one start of a task wins because the start is a command.

mod queue;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::engine::due::{Task, TaskKind};
use crate::environment::Environment;
use queue::Queue;

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

pub struct Matching {
    environment: Arc<dyn Environment>,
    queues: Mutex<HashMap<QueueName, Queue>>,
    pollers: AtomicU64,
}

impl Matching {
    pub fn new(environment: Arc<dyn Environment>) -> Arc<Self> {
        Arc::new(Self { environment, queues: Mutex::default(), pollers: AtomicU64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<QueueName, Queue>> {
        self.queues.lock().expect("no code panics while it holds the queues")
    }

    /// Offers a task. `normal_queue` takes a sticky task whose worker is gone.
    pub fn offer(&self, origin: TaskOrigin, task: Task, normal_queue: &str) {
        let activity = task.kind == TaskKind::Activity;
        let mut name =
            QueueName { namespace_id: origin.namespace_id.clone(), name: task.queue.as_str().into(), activity };
        let now = self.environment.now();
        let taken = {
            let mut queues = self.lock();
            if task.kind == TaskKind::StickyWorkflow
                && !queues.get(&name).is_some_and(|queue| queue.polled_within(STICKY_WORKER_GONE, now))
            {
                name.name = normal_queue.into();
            }
            queues.entry(name).or_insert_with(|| Queue::new(now)).offer(Offer::Task { origin, task }, normal_queue, now)
        };
        if let Some((take, offer)) = taken {
            take(offer);
        }
    }

    /// Offers a query to whoever polls the queue. Gives it back if the sticky worker is gone.
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
        let activity = task.kind == TaskKind::Activity;
        let mut queues = self.lock();
        for name in [task.queue.as_str(), normal_queue] {
            let name = QueueName { namespace_id: origin.namespace_id.clone(), name: name.into(), activity };
            if queues.get_mut(&name).is_some_and(|queue| queue.withdraw(origin, task.scheduled_event_id)) {
                return;
            }
        }
    }

    /// Waits for a task: `take` is called at once if one is there, else when one comes, unless the place is given up before.
    pub fn poll(self: &Arc<Self>, name: QueueName, identity: &str, take: Take) -> Place {
        let (now, now_ms) = (self.environment.now(), self.environment.clock_ms());
        let poller = self.pollers.fetch_add(1, Ordering::Relaxed);
        let taken = {
            let mut queues = self.lock();
            queues.entry(name.clone()).or_insert_with(|| Queue::new(now)).poll(poller, identity, now, now_ms, take)
        };
        if let Some((take, offer)) = taken {
            take(offer);
        }
        Place { matching: self.clone(), queue: name, poller }
    }

    /// A worker says that it is gone: nobody serves its sticky queue any more, and what waits there goes to the normal one.
    pub fn forget_sticky(&self, namespace_id: &str, sticky: &str) {
        let name = QueueName { namespace_id: namespace_id.into(), name: sticky.into(), activity: false };
        let Some(mut gone) = self.lock().remove(&name) else { return };
        for (offer, normal_queue) in gone.drain() {
            if let Offer::Task { origin, task } = offer {
                self.offer(origin, task, &normal_queue);
            }
        }
    }

    /// Forgets all tasks of a partition that this node gave up.
    pub fn forget_partition(&self, partition: u32) {
        for queue in self.lock().values_mut() {
            queue.forget_partition(partition);
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
