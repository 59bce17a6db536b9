//! Ingress: records of `requests`, and of topics that are subscribed to, become commands, in their order, each once.
//!
//! One thread per partition of a topic. A record's coordinates are its source and number: the partition that decides it
//! ignores a number that it has seen. The position is committed once everything before it has been decided, so that after
//! a crash some records are sent again, and none is skipped.

mod request;
mod select;
mod subscription;
mod translate;

pub use subscription::Subscription;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::engine::Rejection;
use crate::log::{Error, Isolation, Stored, Topic};
use crate::metrics;
use crate::partition::{Failure, Node};
use crate::proto::commands::Source;
use crate::types::partition_of;

/// The name under which positions in `requests` are kept.
const CONSUMER: &str = "ingress";
/// Records under way at once, per partition of a topic.
const BATCH: usize = 500;
/// How often the metrics learn how far behind a topic's end its reader is.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// How often a position is committed though it stands still.
const COMMIT_EVERY: Duration = Duration::from_secs(3600);

/// Stops the ingress when asked, or dropped.
pub struct Ingress {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Ingress {
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A partition of a topic, and what its records mean.
#[derive(Clone)]
struct Feed {
    topic: Topic,
    partition: u32,
    /// None: they are requests.
    subscription: Option<Arc<Subscription>>,
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
    let (log, topic, partition) = (&node.log, feed.topic, feed.partition);
    // Else a record would be refused for a namespace that is there.
    while !node.knows_all_namespaces() {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // A topic that was deleted and created again has other records under the same offsets.
    let id = log.topic_id(topic)?;
    // The name too, as old brokers give no ids.
    let source = format!("{}:{id}/{partition}", topic.name());
    let start = log.start_offset(topic, partition)?;
    let mut next = log.committed(CONSUMER, topic, partition)?.unwrap_or(start).max(start);
    let end = log.end_offset(topic, partition, Isolation::ReadCommitted)?;
    if next > end {
        tracing::warn!(
            topic = topic.name(),
            partition,
            next,
            end,
            "the topic ends before the position: it is read from its start"
        );
        next = start;
    }
    let mut reader = log.reader(topic, partition, next, Isolation::ReadCommitted)?;
    // What this reader sent last to each partition. Nothing yet: what came before the position has been decided.
    let mut sent = BTreeMap::new();
    let mut committed = Instant::now();
    let mut lag_known = Instant::now() - LAG_EVERY;
    while !stop.load(Ordering::Relaxed) {
        let read = reader.next(BATCH, Duration::from_millis(500))?;
        if read.next_offset < next {
            return Err(Error::Unavailable(format!("it goes on at {} instead of {next}", read.next_offset)));
        }
        if !read.records.is_empty() {
            carry_out(node, feed, &source, &read.records, &mut sent)?;
        }
        if read.next_offset > next {
            next = read.next_offset;
            if !read.records.is_empty() {
                log.commit_position(CONSUMER, topic, partition, next)?;
            }
        }
        if lag_known.elapsed() >= LAG_EVERY {
            lag_known = Instant::now();
            if log.topic_id(topic)? != id {
                return Err(Error::Unavailable("it was deleted and created again".into()));
            }
            // Kafka forgets positions that stand still for days.
            if committed.elapsed() >= COMMIT_EVERY {
                log.commit_position(CONSUMER, topic, partition, next)?;
                committed = Instant::now();
            }
            let end = log.end_offset(topic, partition, Isolation::ReadCommitted)?;
            metrics::ingress_position(topic.name(), partition, next.min(end), end);
        }
    }
    Ok(())
}

/// Sends a batch and waits until all of it has been decided. Each record names the one before it, so that none is decided
/// while an earlier one is still missing.
fn carry_out(
    node: &Arc<Node>,
    feed: &Feed,
    source: &str,
    records: &[Stored],
    sent: &mut BTreeMap<u32, i64>,
) -> Result<(), Error> {
    let topic = feed.topic.name();
    let (sender, receiver) = mpsc::channel::<Result<(), String>>();
    let mut waiting = 0_usize;
    for stored in records {
        let source = Source {
            name: source.to_owned(),
            topic: topic.to_owned(),
            sequence: stored.offset + 1,
            previous: -1,
            ..Source::default()
        };
        let mut command = translate::command(node, feed, stored, source);
        let target = partition_of(&command.namespace_id, &command.workflow_id, node.partitions());
        if let (Some(source), Some(previous)) = (&mut command.source, sent.insert(target, stored.offset + 1)) {
            source.previous = previous;
        }
        let done = sender.clone();
        waiting += 1;
        node.partition(target).command(
            command,
            Box::new(move |_, outcome| {
                let outcome = match outcome {
                    Err(Failure::Unavailable(reason) | Failure::Rejected(Rejection::OutOfOrder(reason))) => Err(reason),
                    Ok(_) => {
                        metrics::request_ingested(topic, "accepted");
                        Ok(())
                    }
                    Err(Failure::Rejected(Rejection::Duplicate)) => {
                        metrics::request_ingested(topic, "duplicate");
                        Ok(())
                    }
                    Err(Failure::Rejected(_)) => {
                        metrics::request_ingested(topic, "rejected");
                        Ok(())
                    }
                };
                let _ = done.send(outcome);
            }),
        );
    }
    drop(sender);
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    while waiting > 0 {
        waiting -= 1;
        match receiver.recv() {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => *failed.entry(reason).or_default() += 1,
            Err(_) => *failed.entry("the partition has stopped".into()).or_default() += 1,
        }
    }
    match failed.into_keys().next() {
        None => Ok(()),
        Some(reason) => Err(Error::Unavailable(reason)),
    }
}
