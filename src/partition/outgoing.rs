//! Commands from one entity to another. They are numbered per target partition, kept until the target has decided them, and sent
//! again whenever the outcome is unknown; the target takes each number once, in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use super::core::Core;
use super::{Handle, Message};
use crate::engine::{Rejection, Send};
use crate::proto::commands::{Command, Source};

/// Commands under way to a target at once. All from one that is not taken on are sent again, so that more would only cost more;
/// after one that was not taken, the window opens from one again.
const WINDOW_MAX: usize = 256;

/// How long nothing is sent to a target that did not take a command: at first, and at most.
const RESEND_AFTER_MIN: Duration = Duration::from_millis(100);
const RESEND_AFTER_MAX: Duration = Duration::from_secs(3);

/// What a partition sends to others.
#[derive(Default)]
pub(super) struct Outbox {
    /// The last sequence sent to each target partition.
    pub sent: BTreeMap<u32, i64>,
    /// Sends that their targets have not acknowledged.
    pub unacknowledged: BTreeMap<(u32, i64), Bytes>,
    /// How far the sends to each target are.
    sending: BTreeMap<u32, Sending>,
}

/// How far the sends to one target partition are.
struct Sending {
    /// The lowest number that is not sent, or is to be sent again.
    next: i64,
    under_way: usize,
    window: usize,
    /// One of those under way was not taken: those after it will be refused.
    failed: bool,
    back_off: Duration,
    /// Nothing is sent before this.
    resume_at: Option<Instant>,
}

impl Default for Sending {
    fn default() -> Self {
        let (window, back_off) = (WINDOW_MAX, RESEND_AFTER_MIN);
        Self { next: 0, under_way: 0, window, failed: false, back_off, resume_at: None }
    }
}

impl Sending {
    fn may_send(&self) -> bool {
        self.under_way < self.window && !self.failed && self.resume_at.is_none()
    }

    fn sent(&mut self, sequence: i64) {
        self.next = sequence + 1;
        self.under_way += 1;
    }

    /// Takes the outcome of one. `lowest`: the lowest number that is not acknowledged.
    fn settle(&mut self, delivered: bool, lowest: i64, now: Instant) {
        self.under_way -= 1;
        if delivered {
            self.window = (self.window * 2).min(WINDOW_MAX);
            self.back_off = RESEND_AFTER_MIN;
        }
        self.failed |= !delivered;
        if self.failed && self.under_way == 0 {
            self.failed = false;
            (self.next, self.window) = (lowest, 1);
            self.resume_at = Some(now + self.back_off);
            self.back_off = (self.back_off * 2).min(RESEND_AFTER_MAX);
        }
    }
}

impl Core {
    /// Posts a send that was decided.
    pub(super) fn post(&mut self, send: Send) {
        let target = self.node.partition_of(&send.to);
        let previous = self.outbox.sent.get(&target).copied().unwrap_or_default();
        let sequence = previous + 1;
        self.outbox.sent.insert(target, sequence);
        // Derived from what sent it, so that deciding it again makes the same command.
        let mut ids = crate::types::IdSource::new(
            self.position.next as u64,
            (u64::from(self.partition) << 32) | u64::from(target) | ((sequence as u64) << 40),
        );
        let command = Command {
            retention_s: self.node.shared.namespaces.retention_s(&send.to.namespace_id),
            kind: send.to.kind as u32,
            namespace_id: send.to.namespace_id.to_string(),
            namespace: send.namespace,
            id: send.to.id.to_string(),
            seed_high: ids.number(),
            seed_low: ids.number(),
            sent_ms: self.position.now_ms,
            source: Some(Source { name: format!("p{}", self.partition), sequence, previous, ..Source::default() }),
            callback: send.callback,
            body: Some(send.body),
            ..Command::default()
        };
        let bytes = Bytes::from(command.encode_to_vec());
        self.commits.pending.load.bytes += bytes.len();
        self.outbox.unacknowledged.insert((target, sequence), bytes.clone());
        self.commits.pending.outgoing.insert((target, sequence), Some(bytes));
        if !self.replaying {
            let sending = self.outbox.sending.entry(target).or_default();
            // Else it waits for its turn.
            if sending.may_send() && self.is_next(target, sequence) {
                self.deliver(target, sequence, command);
            }
        }
    }

    /// Whether all before it, of those that are not acknowledged, are sent.
    fn is_next(&self, target: u32, sequence: i64) -> bool {
        let next = self.outbox.sending.get(&target).map_or(0, |sending| sending.next);
        let mut waiting = self.outbox.unacknowledged.range((target, next)..=(target, sequence));
        waiting.next().is_some_and(|((_, first), _)| *first == sequence)
    }

    fn deliver(&mut self, target: u32, sequence: i64, command: Command) {
        self.outbox.sending.entry(target).or_default().sent(sequence);
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
        if delivered && self.outbox.unacknowledged.remove(&(target, sequence)).is_some() {
            // What was never committed need not be deleted.
            if self.commits.pending.outgoing.remove(&(target, sequence)).is_none() {
                self.commits.pending.outgoing.insert((target, sequence), None);
            }
        }
        let lowest = self.outbox.unacknowledged.range((target, 0)..=(target, i64::MAX)).next();
        let lowest = lowest.map_or(sequence + 1, |((_, sequence), _)| *sequence);
        let now = self.node.now();
        self.outbox.sending.entry(target).or_default().settle(delivered, lowest, now);
        self.send_on(target);
    }

    /// Sends what is not acknowledged, in order, as far as the target's window goes.
    fn send_on(&mut self, target: u32) {
        loop {
            let sending = self.outbox.sending.entry(target).or_default();
            if !sending.may_send() {
                return;
            }
            let waiting = self.outbox.unacknowledged.range((target, sending.next)..=(target, i64::MAX)).next();
            let Some(((_, sequence), bytes)) = waiting.map(|(name, bytes)| (*name, bytes.clone())) else { return };
            match Command::decode(bytes) {
                Ok(command) => self.deliver(target, sequence, command),
                // It was encoded here. Without it the target takes nothing more, which its lag shows.
                Err(error) => {
                    tracing::error!(
                        partition = self.partition,
                        target,
                        sequence,
                        "a command that was to be sent can't be read: {error}"
                    );
                    sending.next = sequence + 1;
                }
            }
        }
    }

    /// Sends again, after a take-over, what is not known to have arrived.
    pub(super) fn resume_sends(&mut self) {
        let mut next = self.outbox.unacknowledged.keys().next().copied();
        while let Some((target, _)) = next {
            self.send_on(target);
            next = self.outbox.unacknowledged.range((target + 1, 0)..).next().map(|(name, _)| *name);
        }
    }

    pub(super) fn next_resend(&self) -> Option<Instant> {
        self.outbox.sending.values().filter_map(|sending| sending.resume_at).min()
    }

    /// Sends again what has waited long enough for its target to come back.
    pub(super) fn resend_due(&mut self) {
        let now = self.node.now();
        let is_due = |sending: &Sending| sending.resume_at.is_some_and(|at| at <= now);
        let due: Vec<u32> =
            self.outbox.sending.iter().filter(|(_, sending)| is_due(sending)).map(|(target, _)| *target).collect();
        for target in due {
            self.outbox.sending.entry(target).or_default().resume_at = None;
            self.send_on(target);
        }
    }
}

/// Notifies the sender of a command's outcome, also if it is dropped by a target that is being taken over.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EntityId;
    use crate::partition::fixture::{self, Fixture};
    use crate::partition::{Inbox, Settings};
    use crate::proto::commands::{Notify, command::Body};

    #[test]
    fn a_target_that_takes_nothing_is_asked_less_and_less_often_and_for_one_only() {
        let begun = Instant::now();
        let mut sending = Sending::default();
        let mut sent = 0;
        for ms in (0..60_000).step_by(10) {
            let now = begun + Duration::from_millis(ms);
            if sending.resume_at.is_some_and(|at| at <= now) {
                sending.resume_at = None;
            }
            while sending.may_send() {
                sending.sent(sending.next);
                sent += 1;
            }
            while sending.under_way > 0 {
                sending.settle(false, 1, now);
            }
        }
        assert!((WINDOW_MAX + 10..WINDOW_MAX + 30).contains(&sent), "{sent} were sent");
    }

    #[test]
    fn the_window_opens_again_with_what_is_taken() {
        let now = Instant::now();
        let mut sending = Sending::default();
        sending.sent(1);
        sending.settle(false, 1, now);
        assert!(!sending.may_send(), "it waits");
        sending.resume_at = None;
        for sequence in 1..=10 {
            assert!(sending.may_send());
            sending.sent(sequence);
            sending.settle(true, sequence + 1, now);
        }
        assert_eq!((sending.window, sending.back_off, sending.next), (WINDOW_MAX, RESEND_AFTER_MIN, 11));
    }

    /// To a workflow of partition 1, which refuses it, as it does not exist: an outcome all the same.
    fn send() -> Send {
        let mut ids = (0..).map(|number| format!("w{number}"));
        let workflow_id = ids.find(|id| EntityId::workflow("n", id).partition(2) == 1).expect("half of all are there");
        let body = Body::Notify(Notify::default());
        Send { to: EntityId::workflow("n", &workflow_id), namespace: "default".into(), body, callback: None }
    }

    /// Drops what has come for a partition without an owner, so that its senders are notified that it was not taken.
    fn refuse(inbox: &Inbox) -> usize {
        inbox.0.try_iter().filter(|envelope| matches!(envelope.message, Message::Command(_))).count()
    }

    #[test]
    fn a_hundred_thousand_sends_to_a_partition_without_an_owner_cost_little() {
        const SENDS: usize = 100_000;
        let fixture = Fixture::new(2, Settings::default());
        let (mut turns, mut background) = fixture.take_over(0);
        for _ in 0..SENDS {
            turns.core.post(send());
        }
        let begun = Instant::now();
        let (mut sent, mut minute) = (0, 0);
        while minute < 60_000 {
            fixture.turn(0, &mut turns);
            sent += refuse(&fixture.inboxes[1]);
            fixture.clock.pass(10);
            minute += 10;
        }
        let elapsed = begun.elapsed();
        println!("{SENDS} sends, a minute: {sent} were sent, in {elapsed:?} of a thread");
        assert!(sent < WINDOW_MAX + 50, "{sent} were sent");

        // Once it has an owner, all arrive, and hardly any is sent twice.
        let (mut target, mut target_background) = fixture.take_over(1);
        let mut arriving = 0;
        while !turns.core.outbox.unacknowledged.is_empty() {
            arriving += 1;
            assert!(arriving < 100_000, "{} are left", turns.core.outbox.unacknowledged.len());
            fixture.turn(0, &mut turns);
            fixture.turn(1, &mut target);
            fixture::commit(&mut background);
            fixture::commit(&mut target_background);
            fixture.clock.pass(10);
        }
        assert_eq!(target.core.position.accepted.get("p0"), Some(&(SENDS as i64)));
        assert!(target.core.position.next <= (SENDS + SENDS / 50) as i64, "{} were sent", target.core.position.next);
    }
}
