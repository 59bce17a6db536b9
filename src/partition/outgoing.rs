//! Commands from one workflow to another. They are numbered per target partition, kept until the target has decided them,
//! and sent again after any doubt; the target takes each number once, in order.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use super::core::Core;
use super::{Handle, Message};
use crate::engine::{Rejection, Send};
use crate::proto::commands::{Command, Source};

/// How long a target that did not take a command is left alone.
const RESEND_AFTER: Duration = Duration::from_millis(100);

impl Core {
    /// Posts a send that was decided.
    pub(super) fn post(&mut self, send: Send) {
        let target = crate::types::partition_of(&send.namespace_id, &send.workflow_id, self.node.partitions());
        let previous = self.sent.get(&target).copied().unwrap_or_default();
        let sequence = previous + 1;
        self.sent.insert(target, sequence);
        // Derived from what sent it, so that deciding it again makes the same command.
        let mut ids = crate::types::IdSource::new(
            self.position as u64,
            (u64::from(self.partition) << 32) | u64::from(target) | ((sequence as u64) << 40),
        );
        let command = Command {
            retention_s: self.node.namespaces.retention_s(&send.namespace_id),
            namespace_id: send.namespace_id,
            namespace: send.namespace,
            workflow_id: send.workflow_id,
            seed_high: ids.number(),
            seed_low: ids.number(),
            sent_ms: self.now_ms,
            source: Some(Source { name: format!("p{}", self.partition), sequence, previous, ..Source::default() }),
            body: Some(send.body),
            ..Command::default()
        };
        let bytes = Bytes::from(command.encode_to_vec());
        self.pending.load.bytes += bytes.len();
        self.unacknowledged.insert((target, sequence), bytes.clone());
        self.pending.outgoing.insert((target, sequence), Some(bytes));
        if !self.replaying {
            self.deliver(target, sequence, command);
        }
    }

    fn deliver(&mut self, target: u32, sequence: i64, command: Command) {
        *self.delivering.entry(target).or_default() += 1;
        let receipt = Receipt { back: self.own.clone(), target, sequence, delivered: false };
        let done = move |outcome: Result<_, _>| {
            receipt.settle(match outcome {
                Ok(Ok(())) => true,
                // Refused, or seen before: either way it has been decided.
                Ok(Err(rejection)) => !matches!(rejection, Rejection::OutOfOrder(_)),
                Err(_) => false,
            });
        };
        self.node.decide_anywhere(target, command, Box::new(done));
    }

    pub(super) fn acknowledge(&mut self, target: u32, sequence: i64, delivered: bool) {
        if let Some(delivering) = self.delivering.get_mut(&target) {
            *delivering -= 1;
        }
        if !delivered {
            let at = self.node.now() + RESEND_AFTER;
            self.resend_at.entry(target).or_insert(at);
        } else if self.unacknowledged.remove(&(target, sequence)).is_some() {
            // What was never committed need not be deleted.
            if self.pending.outgoing.remove(&(target, sequence)).is_none() {
                self.pending.outgoing.insert((target, sequence), None);
            }
        }
    }

    /// Sends everything again that is not acknowledged, in order.
    pub(super) fn resend(&mut self, target: Option<u32>) {
        let again = self.unacknowledged.iter().filter(|((to, _), _)| target.is_none_or(|target| target == *to));
        let again: Vec<_> = again.map(|(name, bytes)| (*name, bytes.clone())).collect();
        for ((to, sequence), bytes) in again {
            if let Ok(command) = Command::decode(bytes) {
                self.deliver(to, sequence, command);
            }
        }
    }

    pub(super) fn next_resend(&self) -> Option<Instant> {
        self.resend_at.values().min().copied()
    }

    /// Sends again what has waited long enough for its target to come back.
    pub(super) fn resend_due(&mut self) {
        let now = self.node.now();
        while let Some(target) = self.resend_at.iter().find_map(|(target, at)| (*at <= now).then_some(*target)) {
            self.resend_at.remove(&target);
            if self.delivering.get(&target).is_some_and(|delivering| *delivering > 0) {
                // Some are under way yet: what comes of the last of them says whether to send again.
                self.resend_at.insert(target, now + RESEND_AFTER);
            } else {
                self.resend(Some(target));
            }
        }
    }
}

/// Tells the sender what became of a command, also if it is dropped by a target that is being taken over.
struct Receipt {
    back: Handle,
    target: u32,
    sequence: i64,
    delivered: bool,
}

impl Receipt {
    fn settle(mut self, delivered: bool) {
        self.delivered = delivered;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let Self { target, sequence, delivered, .. } = *self;
        self.back.send(Message::Acknowledged { target, sequence, delivered });
    }
}
