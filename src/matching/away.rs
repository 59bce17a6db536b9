//! Tasks of this node's partitions that wait in queues whose home is elsewhere.
//!
//! Each home hears of the oldest of each queue, in a window, so that a backlog of millions costs it little; and hears of them
//! again now and then, as it may have forgotten: it is another node since, or took a task for a poller that could not start it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{QueueName, TaskOrigin};
use crate::engine::due::{Task, TaskKind};

/// Tasks of one queue that its home knows of at once, per node.
const WINDOW: usize = 500;
/// A task that nobody has started is announced again after this long.
const REPEAT: Duration = Duration::from_secs(2);

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
            namespace_id: self.origin.namespace_id.clone(),
            name: self.queue.clone(),
            activity: self.task.kind == TaskKind::Activity,
        }
    }

    /// Whether it waits for one worker.
    pub fn is_sticky(&self) -> bool {
        self.task.kind == TaskKind::StickyWorkflow && self.queue != self.normal_queue
    }

    fn place(&self) -> Place {
        (self.origin.clone(), self.task.scheduled_event_id)
    }
}

/// What a home is told.
#[derive(Debug, Default)]
pub struct Announcement {
    pub home: u32,
    pub waiting: Vec<WaitingTask>,
    pub withdrawn: Vec<WaitingTask>,
}

type Place = (TaskOrigin, i64);

#[derive(Default)]
pub struct Away {
    homes: BTreeMap<u32, Home>,
    next: u64,
}

/// The tasks of a queue by arrival, each with the time when the home was last told.
type Tasks = BTreeMap<u64, (WaitingTask, Option<Instant>)>;

#[derive(Default)]
struct Home {
    queues: BTreeMap<QueueName, Tasks>,
    places: HashMap<Place, (QueueName, u64)>,
    withdrawn: Vec<WaitingTask>,
}

impl Home {
    fn find(&mut self, place: &Place) -> Option<&mut (WaitingTask, Option<Instant>)> {
        let (queue, at) = self.places.get(place)?;
        self.queues.get_mut(queue)?.get_mut(at)
    }

    fn remove(&mut self, waiting: &WaitingTask) -> Option<(WaitingTask, Option<Instant>)> {
        let (queue, at) = self.places.remove(&waiting.place())?;
        let tasks = self.queues.get_mut(&queue)?;
        let removed = tasks.remove(&at);
        if tasks.is_empty() {
            self.queues.remove(&queue);
        }
        removed
    }
}

impl Away {
    pub fn put(&mut self, home: u32, waiting: WaitingTask) {
        let home = self.homes.entry(home).or_default();
        // A later attempt stands for an earlier one.
        if home.find(&waiting.place()).is_some_and(|(known, _)| known.task.attempt > waiting.task.attempt) {
            return;
        }
        home.remove(&waiting);
        home.places.insert(waiting.place(), (waiting.queue_name(), self.next));
        home.queues.entry(waiting.queue_name()).or_default().insert(self.next, (waiting, None));
        self.next += 1;
    }

    /// The task is not to be had any more. False if it is not here.
    pub fn remove(&mut self, home: u32, waiting: &WaitingTask) -> bool {
        let Some(home) = self.homes.get_mut(&home) else { return false };
        let Some((removed, told)) = home.remove(waiting) else { return false };
        if told.is_some() {
            home.withdrawn.push(removed);
        }
        true
    }

    /// Takes a task back that still waits.
    pub fn take_back(&mut self, home: u32, waiting: &WaitingTask) -> bool {
        let Some(home) = self.homes.get_mut(&home) else { return false };
        let same = home.find(&waiting.place()).is_some_and(|(known, _)| known == waiting);
        same && home.remove(waiting).is_some()
    }

    /// Takes all tasks whose home is now here.
    pub fn take_home(&mut self, home: u32) -> Vec<WaitingTask> {
        let home = self.homes.remove(&home).unwrap_or_default();
        home.queues.into_values().flat_map(BTreeMap::into_values).map(|(waiting, _)| waiting).collect()
    }

    /// Forgets the tasks of a partition.
    pub fn forget_partition(&mut self, partition: u32) {
        for home in self.homes.values_mut() {
            home.queues.retain(|_, tasks| {
                tasks.retain(|_, (waiting, _)| waiting.origin.partition != partition);
                !tasks.is_empty()
            });
            home.places.retain(|(origin, _), _| origin.partition != partition);
            home.withdrawn.retain(|waiting| waiting.origin.partition != partition);
        }
    }

    /// The home has heard of nothing yet.
    pub fn moved(&mut self, home: u32) {
        let home = self.homes.get_mut(&home);
        let tasks = home.into_iter().flat_map(|home| home.queues.values_mut()).flat_map(BTreeMap::values_mut);
        tasks.for_each(|(_, told)| *told = None);
    }

    /// What the homes have to hear now.
    pub fn take(&mut self, now: Instant) -> Vec<Announcement> {
        let mut announcements = Vec::new();
        for (home, tasks) in &mut self.homes {
            let mut waiting = Vec::new();
            for (task, told) in tasks.queues.values_mut().flat_map(|tasks| tasks.values_mut().take(WINDOW)) {
                if told.is_none_or(|told| now.duration_since(told) >= REPEAT) {
                    *told = Some(now);
                    waiting.push(task.clone());
                }
            }
            let withdrawn = std::mem::take(&mut tasks.withdrawn);
            if !waiting.is_empty() || !withdrawn.is_empty() {
                announcements.push(Announcement { home: *home, waiting, withdrawn });
            }
        }
        self.homes.retain(|_, home| !home.queues.is_empty());
        announcements
    }

    /// Takes note of what a home has not heard. What was withdrawn is refused when somebody takes it.
    pub fn again(&mut self, announcement: Announcement) {
        let Some(home) = self.homes.get_mut(&announcement.home) else { return };
        for waiting in announcement.waiting {
            if let Some((_, told)) = home.find(&waiting.place()) {
                *told = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(workflow_id: &str, attempt: i32) -> WaitingTask {
        let origin =
            TaskOrigin { partition: 1, namespace_id: "n".into(), workflow_id: workflow_id.into(), run_id: "r".into() };
        let task = Task {
            kind: TaskKind::Activity,
            queue: "q".into(),
            scheduled_event_id: 5,
            attempt,
            scheduled_ms: 0,
            not_before_ms: 0,
        };
        WaitingTask { origin, task, queue: "q".into(), normal_queue: "q".into() }
    }

    #[test]
    fn a_home_hears_of_a_task_once_and_then_now_and_then() {
        let (mut away, now) = (Away::default(), Instant::now());
        away.put(3, task("a", 1));
        let told = away.take(now);
        assert_eq!((told.len(), told[0].home, &told[0].waiting[..]), (1, 3, &[task("a", 1)][..]));
        assert!(away.take(now).is_empty());
        assert_eq!(away.take(now + REPEAT).len(), 1);
        away.again(Announcement { home: 3, waiting: vec![task("a", 1)], withdrawn: Vec::new() });
        assert_eq!(away.take(now + REPEAT).len(), 1, "what was not heard is said again");
    }

    #[test]
    fn a_later_attempt_stands_for_an_earlier_one() {
        let (mut away, now) = (Away::default(), Instant::now());
        away.put(3, task("a", 2));
        away.put(3, task("a", 1));
        assert_eq!(away.take(now)[0].waiting, [task("a", 2)]);
        assert!(!away.take_back(3, &task("a", 1)));
        assert!(away.take_back(3, &task("a", 2)));
    }

    #[test]
    fn a_task_is_withdrawn_where_it_was_announced() {
        let (mut away, now) = (Away::default(), Instant::now());
        away.put(3, task("a", 1));
        away.put(3, task("b", 1));
        assert!(away.remove(3, &task("a", 1)));
        assert_eq!(away.take(now)[0].waiting, [task("b", 1)], "nobody had heard of the first");
        assert!(away.remove(3, &task("b", 1)));
        assert!(!away.remove(3, &task("b", 1)));
        let told = away.take(now);
        assert_eq!((told[0].waiting.len(), &told[0].withdrawn[..]), (0, &[task("b", 1)][..]));
        assert!(away.homes.is_empty());
    }

    #[test]
    fn a_home_hears_of_the_oldest_first() {
        let (mut away, now) = (Away::default(), Instant::now());
        for number in 0..WINDOW + 10 {
            away.put(3, task(&format!("w{number}"), 1));
        }
        let other = WaitingTask { queue: "other".into(), ..task("x", 1) };
        away.put(3, other.clone());
        let told = away.take(now);
        assert_eq!(told[0].waiting.len(), WINDOW + 1);
        assert!(told[0].waiting.contains(&other), "a long queue does not hide another");
        assert!(away.remove(3, &task("w0", 1)));
        let told = away.take(now);
        assert_eq!(told[0].waiting, [task(&format!("w{WINDOW}"), 1)]);
        away.forget_partition(1);
        assert!(away.take(now + REPEAT).is_empty());
    }
}
