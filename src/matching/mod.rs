//! Matching: brings tasks and waiting pollers together, by task queue.
//!
//! Holds nothing that can't be lost: tasks are derived from the partitions' records, and offered again by their next owner; a
//! poller that is lost polls again. Exactly one start of a task wins because the start is a command.
//!
//! A worker waits at the node that it has called, and a task goes to a worker of its own partition's node first. If none waits
//! there, it is sent to a node where one does ([`News`]), which starts it for its worker. Nodes announce to each other which
//! queues are polled at them.

mod elsewhere;
mod news;
mod queue;
mod state;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::{EntityId, Task, TaskQueueType};
use crate::environment::Environment;
use crate::proto::temporal::common::v1::WorkerVersionCapabilities;
use queue::{Queue, Taken};
use state::{Now, State};

pub use news::{Address, Answer, Item, News, Polled, WaitingQuery, WaitingTask};

/// Queues that were not used for this long are forgotten.
const QUEUE_FORGOTTEN: Duration = Duration::from_secs(300);

/// Names a queue: those of one name and of different types are apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName {
    pub namespace_id: Arc<str>,
    pub name: Arc<str>,
    pub queue_type: TaskQueueType,
}

/// Where a task comes from, as its start must name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskOrigin {
    pub partition: u32,
    pub entity: EntityId,
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
#[derive(Clone, Debug, PartialEq)]
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
        let now = self.matching.environment.now();
        if let Some(queue) = self.matching.lock().queues.get_mut(&self.queue) {
            queue.leave(self.poller, now);
        }
    }
}

/// A worker, as its polls describe it.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    pub identity: String,
    pub capabilities: Option<WorkerVersionCapabilities>,
}

/// A worker that polled a queue lately, or waits in it.
#[derive(Clone, Debug)]
pub struct PollerSeen {
    pub worker: Worker,
    pub last_ms: i64,
}

/// A queue's state, for people and metrics.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub backlog: usize,
    /// Age of the oldest task that waits.
    pub oldest_age: Duration,
    /// Workers, by identity, that polled lately or wait now, and polls that wait now.
    pub pollers: usize,
    pub waiting_polls: usize,
    /// One worker's own queue.
    pub sticky: bool,
}

/// The node takes no news from others, as it is stopping.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

pub struct Matching {
    environment: Arc<dyn Environment>,
    state: Mutex<State>,
    pollers: AtomicU64,
    /// Notified when there is news for other nodes.
    news: Notify,
}

impl Matching {
    pub fn new(environment: Arc<dyn Environment>) -> Arc<Self> {
        Arc::new(Self { environment, state: Mutex::default(), pollers: AtomicU64::new(0), news: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the queues")
    }

    /// Does something to the queues; then, with no lock held, hands out what was taken.
    fn turn<T>(&self, act: impl FnOnce(&mut State, &mut Vec<Taken>) -> T) -> T {
        let mut taken = Vec::new();
        let (result, has_news) = {
            let mut state = self.lock();
            let result = act(&mut state, &mut taken);
            (result, std::mem::take(&mut state.has_news))
        };
        if has_news {
            self.news.notify_one();
        }
        taken.into_iter().for_each(|(take, offer)| take(offer));
        result
    }

    fn now(&self) -> Now {
        Now { instant: self.environment.now(), ms: self.environment.clock_ms() }
    }

    /// Offers a task of a partition of this node's. `normal_queue` takes a sticky task whose worker is gone.
    pub fn offer(&self, origin: TaskOrigin, task: Task, normal_queue: &str) {
        let waiting =
            WaitingTask { queue: task.queue.as_str().into(), normal_queue: normal_queue.into(), origin, task };
        let now = self.now();
        self.turn(|state, taken| state.offer(Item::Task(waiting), now, taken));
    }

    /// Offers a query of a partition of this node's: to a poller of the queue, or of the normal one if it is sticky and its
    /// worker gone. If it is lost on its way through another node, the caller has to retry.
    pub fn query(&self, query: Query, queue: &str, normal_queue: &str) {
        let waiting = WaitingQuery { query, queue: queue.into(), normal_queue: normal_queue.into() };
        let now = self.now();
        self.turn(|state, taken| state.offer(Item::Query(waiting), now, taken));
    }

    /// Sets how many more tasks of a queue a partition of this node's holds back, to offer them when others are taken.
    pub fn withhold(&self, queue: QueueName, partition: u32, tasks: usize) {
        let now = self.now();
        let mut state = self.lock();
        if tasks > 0 || state.queues.contains_key(&queue) {
            state.queue(&queue, now).withhold(partition, tasks);
        }
    }

    /// Withdraws a task that is no longer available.
    pub fn withdraw(&self, origin: &TaskOrigin, task: &Task, normal_queue: &str) {
        let key = news::Key::Task(origin.clone(), task.scheduled_event_id);
        self.turn(|state, _| {
            for queue in [task.queue.as_str(), normal_queue] {
                let name = QueueName {
                    namespace_id: origin.entity.namespace_id.clone(),
                    name: queue.into(),
                    queue_type: task.kind.queue_type(),
                };
                if let Some(notice) = state.queues.get_mut(&name).and_then(|queue| queue.withdraw(&key)) {
                    return state.send(notice);
                }
            }
        });
    }

    /// Waits for a task: `take` is called at once if one is there, else when one comes, unless the place is given up before.
    /// It is dropped if nothing will come any more.
    pub fn poll(self: &Arc<Self>, name: QueueName, sticky: bool, worker: &Worker, take: Take) -> Place {
        let now = self.now();
        let poller = self.pollers.fetch_add(1, Ordering::Relaxed);
        self.turn(|state, taken| {
            if state.closed {
                return;
            }
            let has_peers = state.has_peers;
            let queue = state.queue(&name, now);
            match queue.poll(poller, worker, sticky, now, take) {
                Some((one, notice)) => {
                    taken.push(one);
                    state.send(notice);
                }
                None if has_peers && queue.has_unannounced() => {
                    state.unannounced.insert(name.clone());
                    state.has_news = true;
                }
                None => {}
            }
        });
        Place { matching: self.clone(), queue: name, poller }
    }

    /// A worker shuts down: its sticky queue is not served any more, and what waits there goes to the normal one.
    pub fn forget_sticky(&self, namespace_id: &str, sticky: &str) {
        let queue_type = TaskQueueType::Workflow;
        let name = QueueName { namespace_id: namespace_id.into(), name: sticky.into(), queue_type };
        let now = self.now();
        self.turn(|state, taken| {
            state.forget(&name, now, taken);
            if state.has_peers {
                state.forgotten.push(name);
                state.has_news = true;
            }
        });
    }

    /// This node has given up a partition: the next owner offers its tasks.
    pub fn lose(&self, partition: u32) {
        self.lock().queues.values_mut().for_each(|queue| queue.forget_partition(partition));
    }

    /// The node stops: pollers that wait, or come later, are dropped.
    pub fn close(&self) {
        let pollers: Vec<_> = {
            let mut state = self.lock();
            state.closed = true;
            state.queues.values_mut().map(Queue::drop_pollers).collect()
        };
        drop(pollers);
    }

    /// Returns when there may be news for other nodes.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The news to send to other nodes now. `others` are those that own partitions. Each needs a call of [`Self::answered`].
    pub fn take_news(&self, others: &[Address]) -> Vec<(Address, News)> {
        let now = self.environment.now();
        let mut state = self.lock();
        state.has_peers = true;
        let State { queues, outbox, unannounced, forgotten, .. } = &mut *state;
        for name in std::mem::take(unannounced) {
            let polled = queues.get_mut(&name).map(|queue| queue.announcements(others, now));
            for (other, polled) in polled.into_iter().flatten() {
                outbox.to(&other).polled.push(polled);
            }
        }
        for name in std::mem::take(forgotten) {
            others.iter().for_each(|other| outbox.to(other).forgotten.push(name.clone()));
        }
        outbox.take()
    }

    /// Takes another node's news of its tasks and pollers.
    pub fn receive_news(&self, from: &Address, news: News) -> Result<Answer, Closed> {
        let now = self.now();
        self.turn(
            |state, taken| if state.closed { Err(Closed) } else { Ok(state.receive_news(from, news, now, taken)) },
        )
    }

    /// The outcome of news sent to another node. None: it may not have received them.
    pub fn answered(&self, by: &Address, items: Vec<Item>, answer: Option<Answer>) {
        let now = self.now();
        self.turn(|state, taken| match answer {
            Some(answer) => state.receive_answer(by, items, answer, now, taken),
            None => state.lost(by, items, now, taken),
        });
    }

    /// Another node may know nothing of the pollers here.
    pub fn is_new(&self, node: &Address) {
        let now = self.environment.now();
        self.turn(|state, _| {
            for (name, queue) in &mut state.queues {
                queue.announce_again_to(node);
                if queue.is_polled_here(now) {
                    state.unannounced.insert(name.clone());
                    state.has_news = true;
                }
            }
        });
    }

    /// To be called periodically: repeats announcements that may be lost, and shares a backlog with workers elsewhere.
    pub fn tick(&self) {
        let now = self.now();
        self.turn(|state, taken| state.tick(now, taken));
    }

    /// The queue's pollers at this node.
    pub fn pollers(&self, name: &QueueName) -> Vec<PollerSeen> {
        self.lock().queues.get(name).map(Queue::seen).unwrap_or_default()
    }

    /// Whether no other node has ever sent news.
    pub fn is_alone(&self) -> bool {
        !self.lock().has_received
    }

    /// The other nodes where the queue was polled lately.
    pub fn polled_at(&self, name: &QueueName) -> Vec<Address> {
        let now = self.environment.now();
        self.lock().queues.get(name).map(|queue| queue.polled_at(now)).unwrap_or_default()
    }

    /// A queue's state: this node's tasks and pollers.
    pub fn stats(&self, name: &QueueName, now_ms: i64) -> Stats {
        self.lock().queues.get(name).map(|queue| queue.stats(now_ms)).unwrap_or_default()
    }

    /// Every queue's state. Forgets unused queues.
    pub fn all_stats(&self, now_ms: i64) -> Vec<(QueueName, Stats)> {
        let now = self.environment.now();
        let mut state = self.lock();
        state.queues.retain(|_, queue| !queue.idle_for(QUEUE_FORGOTTEN, now));
        state.queues.iter().map(|(name, queue)| (name.clone(), queue.stats(now_ms))).collect()
    }
}
