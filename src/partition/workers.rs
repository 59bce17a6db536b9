//! The threads that run a node's partitions: one for each core, and each takes turns with several partitions. A thread for each
//! partition would be woken, and would wake others, for almost every message.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::Inbox;
use super::run_loop::{End, Loop};

/// Messages taken in one turn.
const TURN_MAX: usize = 512;
/// How long a worker that runs nothing sleeps.
const IDLE: Duration = Duration::from_secs(3600);

pub(super) struct Workers {
    jobs: Vec<Sender<Job>>,
    /// How many partitions each worker runs. A partition stays with its worker for as long as it is owned.
    loads: Mutex<Vec<usize>>,
}

enum Job {
    Run(Box<Running>),
    /// Something has come for a partition.
    Ready(u32),
}

/// A partition that a worker runs.
struct Running {
    partition: u32,
    waker: Arc<Waker>,
    turns: Loop,
    inbox: Inbox,
    ready: bool,
    /// When it has something to do, though nothing comes.
    due: Instant,
    ended: Sender<Ended>,
}

/// What is left of a partition that has ended.
pub(super) struct Ended {
    /// `None`: it panicked.
    pub turns: Option<Loop>,
    pub inbox: Inbox,
    pub end: End,
}

/// Notifies a partition's worker that something has come for it; without a worker, its driver looks.
#[derive(Default)]
pub(super) struct Waker {
    woken: AtomicBool,
    target: ArcSwapOption<Target>,
}

struct Target {
    partition: u32,
    jobs: Sender<Job>,
}

impl Waker {
    /// To be called after the message is there.
    pub fn wake(&self) {
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(target) = &*self.target.load() {
            let _ = target.jobs.send(Job::Ready(target.partition));
        }
    }

    /// To be called before messages are taken: the next one wakes again.
    fn reset(&self) {
        self.woken.swap(false, Ordering::AcqRel);
    }
}

impl Workers {
    /// Starts the threads. They end when the workers are dropped.
    pub fn start() -> std::io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        let start = |number| {
            let (jobs, received) = channel();
            let thread = std::thread::Builder::new().name(format!("partitions-{number}"));
            thread.spawn(move || work(&received))?;
            Ok(jobs)
        };
        let jobs = (0..count).map(start).collect::<std::io::Result<_>>()?;
        Ok(Self { jobs, loads: Mutex::new(vec![0; count]) })
    }

    fn loads(&self) -> MutexGuard<'_, Vec<usize>> {
        self.loads.lock().expect("no code panics while it holds the loads")
    }

    /// Runs a partition until it ends. Blocks.
    pub fn run(&self, partition: u32, waker: &Arc<Waker>, turns: Loop, inbox: Inbox) -> Ended {
        let worker = {
            let mut loads = self.loads();
            let least = (0..loads.len()).min_by_key(|worker| loads[*worker]).unwrap_or_default();
            loads[least] += 1;
            least
        };
        let jobs = &self.jobs[worker];
        waker.target.store(Some(Arc::new(Target { partition, jobs: jobs.clone() })));
        let (ended, outcome) = channel();
        let running =
            Running { partition, waker: waker.clone(), turns, inbox, ready: true, due: Instant::now(), ended };
        let sent = jobs.send(Job::Run(Box::new(running)));
        sent.expect("a worker ends after all partitions only");
        let outcome = outcome.recv().expect("a worker reports the end of each partition");
        waker.target.store(None);
        self.loads()[worker] -= 1;
        outcome
    }
}

fn work(jobs: &Receiver<Job>) {
    let mut running: BTreeMap<u32, Box<Running>> = BTreeMap::new();
    loop {
        let next = running.values().map(|running| running.next()).min();
        let timeout =
            next.map_or(IDLE, |next| next.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now())));
        let first = match jobs.recv_timeout(timeout) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for job in first.into_iter().chain(jobs.try_iter()) {
            match job {
                Job::Run(partition) => drop(running.insert(partition.partition, partition)),
                // It may have ended just now: then the supervisor takes what came.
                Job::Ready(partition) => drop(running.get_mut(&partition).map(|running| running.ready = true)),
            }
        }
        let now = Instant::now();
        let mut ended = Vec::new();
        for partition in running.values_mut().filter(|running| running.ready || running.due <= now) {
            if let Some(end) = partition.turn() {
                ended.push((partition.partition, end));
            }
        }
        for (partition, end) in ended {
            if let Some(partition) = running.remove(&partition) {
                partition.finish(end);
            }
        }
    }
}

impl Running {
    /// When its next turn is due; `None`: at once.
    fn next(&self) -> Option<Instant> {
        (!self.ready).then_some(self.due)
    }

    fn turn(&mut self) -> Option<Result<End, ()>> {
        self.waker.reset();
        let mut taken = 0;
        let messages = self.inbox.0.try_iter().take(TURN_MAX).inspect(|_| taken += 1);
        let turn = || {
            let end = self.turns.turn(messages);
            self.due = Instant::now() + self.turns.timeout();
            end
        };
        let end = catch_unwind(AssertUnwindSafe(turn));
        self.ready = taken == TURN_MAX;
        end.map_err(drop).transpose()
    }

    fn finish(self, end: Result<End, ()>) {
        let ended = match end {
            Ok(end) => Ended { turns: Some(self.turns), inbox: self.inbox, end },
            Err(()) => {
                // Before the end is reported: it holds the store. And dropping it may panic again.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(self.turns)));
                Ended { turns: None, inbox: self.inbox, end: End::Lost("it panicked".into()) }
            }
        };
        let _ = self.ended.send(ended);
    }
}
