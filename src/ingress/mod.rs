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
use std::time::{Duration, Instant};

use crate::log::{Error, Topic};
use crate::partition::Node;

/// Stops the ingress when asked, or dropped.
pub struct Ingress {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Ingress {
    /// Takes no more records than are under way.
    pub fn hear_no_more(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn stop(mut self) {
        self.hear_no_more();
        for thread in self.threads.drain(..) {
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

/// Starts reading `requests`, and the topics that are subscribed to.
pub fn start(node: &Arc<Node>, subscriptions: Vec<Subscription>) -> Ingress {
    let stop = Arc::new(AtomicBool::new(false));
    let spawn = |feed: Feed| {
        let (node, stop) = (node.clone(), stop.clone());
        let name = format!("ingress-{}", feed.partition);
        let work = move || {
            while !stop.load(Ordering::Relaxed) {
                let taken = catch_unwind(AssertUnwindSafe(|| read(&node, &feed, &stop)));
                let taken = taken.unwrap_or_else(|_| Err(Error::Unavailable("a record made the reader panic".into())));
                if let Err(error) = taken {
                    let (topic, partition) = (feed.topic.name(), feed.partition);
                    tracing::warn!(topic, partition, "records could not be taken, and are tried again: {error}");
                    std::thread::sleep(Duration::from_millis(500));
                }
            }
        };
        std::thread::Builder::new().name(name).spawn(work)
    };
    let subscribed = subscriptions.into_iter().map(|subscription| (subscription.topic(), Some(Arc::new(subscription))));
    let threads = std::iter::once((Topic::Requests, None))
        .chain(subscribed)
        .flat_map(|(topic, subscription)| {
            let feed = move |partition| Feed { topic, partition, subscription: subscription.clone() };
            (0..node.log.partitions_of(topic)).map(feed)
        })
        .filter_map(|feed| spawn(feed).ok())
        .collect();
    Ingress { stop, threads }
}

/// Reads one partition from its committed position on.
fn read(node: &Arc<Node>, feed: &Feed, stop: &AtomicBool) -> Result<(), Error> {
    // Whoever owns a partition reads the same of each topic. And without all namespaces a record would be refused for one
    // that is there.
    let owned = feed.partition % node.partitions();
    while node.position(owned).is_none() || !node.knows_all_namespaces() {
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
