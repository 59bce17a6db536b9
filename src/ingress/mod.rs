//! Ingress: records of `requests`, and of topics that are subscribed to, become commands, in their order, each once.
//!
//! One thread per partition of a topic, which drives a [`Reading`] of it. A record's coordinates are its source and number: the partition that decides it
//! ignores a number that it has seen. The position is committed once everything before it has been decided, so that after
//! a crash some records are sent again, and none is skipped.

mod reading;
mod request;
mod select;
mod subscription;
mod translate;

pub use reading::Reading;
pub use subscription::Subscription;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::log::{Error, Topic};
use crate::partition::Node;

/// How often topics are looked at for partitions that were added.
const LOOK_FOR_PARTITIONS_EVERY: Duration = Duration::from_secs(10);

/// Stops the ingress when asked, or dropped.
pub struct Ingress {
    stop: Arc<AtomicBool>,
    /// Dropped, it wakes the thread that has started the others.
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ingress {
    /// Takes no more records than are under way.
    pub fn hear_no_more(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
    }

    pub fn stop(mut self) {
        self.hear_no_more();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A partition of a topic, and what its records mean.
#[derive(Clone)]
pub struct Feed {
    pub topic: Topic,
    pub partition: u32,
    /// None: they are requests.
    pub subscription: Option<Arc<Subscription>>,
}

/// A topic that is read.
struct Source {
    topic: Topic,
    subscription: Option<Arc<Subscription>>,
    /// How many of its partitions are.
    partitions: u32,
}

/// Starts reading `requests`, and the topics that are subscribed to.
pub fn start(node: &Arc<Node>, subscriptions: Vec<Subscription>) -> std::io::Result<Ingress> {
    let subscribed = subscriptions.into_iter().map(|subscription| (subscription.topic(), Some(Arc::new(subscription))));
    let sources = std::iter::once((Topic::Requests, None)).chain(subscribed);
    let sources = sources.map(|(topic, subscription)| Source { topic, subscription, partitions: 0 }).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let (wake, woken) = channel();
    let (node, stopped) = (node.clone(), stop.clone());
    let work = move || read_all(&node, sources, &stopped, &woken);
    let thread = Builder::new().name("ingress".into()).spawn(work)?;
    Ok(Ingress { stop, wake: Some(wake), thread: Some(thread) })
}

/// Has a thread for each partition of each source, those that are added later too, until it is notified.
fn read_all(node: &Arc<Node>, mut sources: Vec<Source>, stop: &Arc<AtomicBool>, woken: &Receiver<()>) {
    let mut threads = Vec::new();
    loop {
        for source in &mut sources {
            if let Err(error) = source.read_more(node, stop, &mut threads) {
                tracing::warn!(topic = source.topic.name(), "not all partitions are read: {error}");
            }
        }
        if !matches!(woken.recv_timeout(LOOK_FOR_PARTITIONS_EVERY), Err(RecvTimeoutError::Timeout)) {
            break;
        }
        for source in sources.iter().filter(|_| !stop.load(Ordering::Relaxed)) {
            // A broker that is unavailable for now returns no new partitions.
            if let Err(error) = node.log.look_for_partitions(source.topic) {
                tracing::debug!(topic = source.topic.name(), "{error}");
            }
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

impl Source {
    /// Starts to read the partitions that are not yet.
    fn read_more(
        &mut self,
        node: &Arc<Node>,
        stop: &Arc<AtomicBool>,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> std::io::Result<()> {
        let count = node.log.partitions_of(self.topic);
        if 0 < self.partitions && self.partitions < count {
            tracing::info!(topic = self.topic.name(), from = self.partitions, to = count, "partitions were added");
        }
        while self.partitions < count {
            let feed = Feed { topic: self.topic, partition: self.partitions, subscription: self.subscription.clone() };
            let (node, stop) = (node.clone(), stop.clone());
            let name = format!("ingress-{}", feed.partition);
            threads.push(Builder::new().name(name).spawn(move || keep_reading(&node, &feed, &stop))?);
            self.partitions += 1;
        }
        Ok(())
    }
}

fn keep_reading(node: &Arc<Node>, feed: &Feed, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let taken = catch_unwind(AssertUnwindSafe(|| read(node, feed, stop)));
        let taken = taken.unwrap_or_else(|_| Err(Error::Unavailable("a record made the reader panic".into())));
        if let Err(error) = taken {
            let (topic, partition) = (feed.topic.name(), feed.partition);
            tracing::warn!(topic, partition, "records could not be taken, and are tried again: {error}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// Reads one partition from its committed position on.
fn read(node: &Arc<Node>, feed: &Feed, stop: &AtomicBool) -> Result<(), Error> {
    // The owner of a partition reads the same of each topic. And without all namespaces a record would be refused for one
    // that is there.
    let owned = feed.partition % node.partitions();
    while node.position(owned).is_none() || !node.knows_all_shared() {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut reading = Reading::open(node, feed)?;
    while !stop.load(Ordering::Relaxed) && node.position(owned).is_some() {
        reading.send(Duration::from_millis(500))?;
        reading.wait()?;
        reading.look()?;
        let paused = Instant::now();
        while reading.pause().is_some_and(|pause| paused.elapsed() < pause)
            && !stop.load(Ordering::Relaxed)
            && node.position(owned).is_some()
        {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}
