//! Ingress: records of `requests` become commands, in their order, each once.
//!
//! One thread per partition of `requests`. A record's coordinates are its source and number: the partition that decides it
//! ignores a number that it has seen. The position is committed once everything before it has been decided, so that after
//! a crash some records are sent again, and none is skipped.

mod translate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::engine::Rejection;
use crate::log::{Error, Isolation, Stored, Topic};
use crate::metrics;
use crate::partition::{Failure, Node};
use crate::proto::commands::Source;
use crate::types::partition_of;

/// The name under which positions in `requests` are kept.
const CONSUMER: &str = "ingress";
/// Records under way at once, per partition of `requests`.
const BATCH: usize = 500;

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

/// Starts reading `requests`.
pub fn start(node: &Arc<Node>) -> Ingress {
    let stop = Arc::new(AtomicBool::new(false));
    let spawn = |partition| {
        let (node, stop) = (node.clone(), stop.clone());
        let work = move || {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = read(&node, partition, &stop) {
                    tracing::warn!(partition, "requests could not be read, and are tried again: {error}");
                    std::thread::sleep(Duration::from_millis(500));
                }
            }
        };
        std::thread::Builder::new().name(format!("ingress-{partition}")).spawn(work)
    };
    let threads = (0..node.partitions()).filter_map(|partition| spawn(partition).ok()).collect();
    Ingress { stop, threads }
}

/// Reads one partition of `requests` from its committed position on.
fn read(node: &Arc<Node>, partition: u32, stop: &AtomicBool) -> Result<(), Error> {
    let log = &node.log;
    let start = log.start_offset(Topic::Requests, partition)?;
    let mut next = log.committed(CONSUMER, Topic::Requests, partition)?.unwrap_or(start).max(start);
    let mut reader = log.reader(Topic::Requests, partition, next, Isolation::ReadCommitted)?;
    // What this reader sent last to each partition. Nothing yet: what came before the position has been decided.
    let mut sent = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let read = reader.next(BATCH, Duration::from_millis(250))?;
        if !read.records.is_empty() {
            carry_out(node, partition, &read.records, &mut sent)?;
        }
        if read.next_offset > next {
            next = read.next_offset;
            if !read.records.is_empty() {
                log.commit_position(CONSUMER, Topic::Requests, partition, next)?;
            }
        }
    }
    Ok(())
}

/// Sends a batch and waits until all of it has been decided. Each record names the one before it, so that none is decided
/// while an earlier one is still missing.
fn carry_out(node: &Arc<Node>, partition: u32, records: &[Stored], sent: &mut BTreeMap<u32, i64>) -> Result<(), Error> {
    let (sender, receiver) = mpsc::channel::<Result<(), String>>();
    let mut waiting = 0_usize;
    for stored in records {
        let source = Source {
            name: format!("{}/{partition}", Topic::Requests.name()),
            sequence: stored.offset + 1,
            previous: -1,
            ..Source::default()
        };
        let mut command = translate::command(node, stored, source);
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
                        metrics::request_ingested("requests", "accepted");
                        Ok(())
                    }
                    Err(Failure::Rejected(_)) => {
                        metrics::request_ingested("requests", "rejected");
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
