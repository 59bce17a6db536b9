//! A partition's life: it waits until it is assigned to this node, is taken over, runs, and is given up or taken over again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::background::Background;
use super::run_loop::{End, Loop};
use super::workers::{Ended, Workers};
use super::{Inbox, Message, Node, restore, standby};
use crate::metrics;

/// How long a partition that was lost waits before it is taken over again: at first, and at most.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Runs a partition whenever it is assigned to this node, until it is stopped; takes it over again after any failure.
pub fn supervise(node: &Arc<Node>, workers: &Workers, partition: u32, mut inbox: Inbox) {
    while standby::wait_for_assignment(node, partition, &inbox.0) {
        match keep(node, workers, partition, inbox) {
            Some(back) => inbox = back,
            None => return,
        }
    }
}

/// Owns a partition for as long as it is assigned to this node. `None`: the node stops.
fn keep(node: &Arc<Node>, workers: &Workers, partition: u32, mut inbox: Inbox) -> Option<Inbox> {
    let mut wait = RETRY_MIN;
    loop {
        let end;
        (inbox, end) = run(node, workers, partition, inbox, &mut wait);
        close(node, partition);
        match end {
            End::Stopped => return None,
            End::Released => return Some(inbox),
            End::Behind(_) => {}
            End::Lost(reason) => {
                metrics::partition_failed(partition, "lost");
                tracing::warn!(partition, "the partition is taken over again: {reason}");
            }
            End::Fenced => {
                metrics::partition_failed(partition, "fenced");
                tracing::warn!(partition, "another node has taken the partition over");
                // If it is not this node's any more, the group revokes it by then. To take it back at once would cost its new
                // owner a take-over, again and again.
                wait = wait.max(RETRY_MAX.min(node.settings.node.session_timeout / 2));
            }
        }
        // Callers are refused at once meanwhile, and a stop of the node is noticed.
        let until = Instant::now() + wait;
        while let Ok(envelope) = inbox.0.recv_timeout(until.saturating_duration_since(Instant::now())) {
            match envelope.message {
                Message::Stop => return None,
                Message::Release(_) => return Some(inbox),
                _ => {}
            }
        }
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// The partition is not served here any more.
pub(super) fn close(node: &Node, partition: u32) {
    node.positions[partition as usize].store(-1, Ordering::Relaxed);
    node.matching.lose(partition);
    metrics::partition_closed(partition);
}

fn run(node: &Arc<Node>, workers: &Workers, partition: u32, inbox: Inbox, wait: &mut Duration) -> (Inbox, End) {
    let taken = catch_unwind(AssertUnwindSafe(|| {
        take_over(node, partition).map(|(turns, background)| (turns, background.start()))
    }));
    let (turns, commits) = match taken.unwrap_or_else(|_| Err("its take-over panicked".into())) {
        Ok(taken) => taken,
        Err(reason) => return (inbox, End::Lost(reason)),
    };
    *wait = RETRY_MIN;
    let waker = &node.partition(partition).waker;
    let mut ended = workers.run(partition, waker, turns, inbox);
    while let Ended { turns: Some(mut turns), inbox, end: End::Behind(offset) } = ended {
        let caught_up = catch_unwind(AssertUnwindSafe(|| turns.catch_up(offset)));
        ended = match caught_up.unwrap_or_else(|_| Err("it panicked as it caught up".into())) {
            Ok(()) => workers.run(partition, waker, turns, inbox),
            Err(reason) => Ended { turns: Some(turns), inbox, end: End::Lost(reason) },
        };
    }
    let Ended { turns, inbox, end } = ended;
    // One that panicked is left as it is: its end notifies its callers.
    let Some(mut turns) = turns else {
        commits.abandon();
        return (inbox, end);
    };
    let failed = catch_unwind(AssertUnwindSafe(|| turns.fail_all()));
    drop(turns.commits.take());
    match end {
        End::Lost(_) | End::Fenced => commits.abandon(),
        End::Stopped | End::Released | End::Behind(_) => drop(commits.join()),
    }
    let end = match (end, &turns.stopping) {
        (_, None) if failed.is_err() => End::Lost("it panicked as it ended".into()),
        // The next owner decides the rest again.
        (End::Lost(reason), Some(stopping)) => {
            tracing::warn!(partition, "the partition was lost while it stopped: {reason}");
            stopping.end()
        }
        (End::Fenced, Some(stopping)) => stopping.end(),
        (end, _) => end,
    };
    (inbox, end)
}

/// Takes the partition over, if it can be.
pub(super) fn take_over(node: &Arc<Node>, partition: u32) -> Result<(Loop, Background), String> {
    let begun = Instant::now();
    let store = node.stores.open(partition).map_err(|error| error.to_string())?;
    let (mut core, committer, lists) = match restore::take_over(node, partition, store) {
        Ok(taken) => taken,
        Err(stale @ restore::Error::Stale(_)) => {
            // The store is not in use any more, and all of it is in the log.
            return Err(match standby::discard(node, partition) {
                Ok(()) => format!("{stale}; it is read from the log as a whole"),
                Err(error) => format!("{stale}, and can't be deleted: {error}"),
            });
        }
        Err(error) => return Err(error.to_string()),
    };
    tracing::info!(
        partition,
        position = core.position.next,
        elapsed_ms = begun.elapsed().as_millis() as u64,
        "the partition is owned"
    );
    node.known[partition as usize].store(true, Ordering::Release);
    node.positions[partition as usize].store(core.position.next, Ordering::Relaxed);
    metrics::partition_opened(partition, begun.elapsed());
    // What comes back finds the partition here.
    core.resume_sends();
    core.note_version();
    core.raise_version();
    let shared = core.shared().map_err(|error| error.to_string())?;
    node.peers.owned(partition, core.position.taken_over_at, shared);
    let (commits, wanted) = channel();
    let (look, looks) = channel();
    let background =
        Background { node: node.clone(), partition, own: core.own.clone(), committer, commits: wanted, lists, looks };
    Ok((Loop::new(core, commits, look), background))
}
