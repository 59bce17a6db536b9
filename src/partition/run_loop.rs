//! The loop of a partition: drain what has arrived, append, decide what is durable, answer, commit now and then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use super::commit::{Commit, CommitError};
use super::core::Core;
use super::failure_depth;
use super::load;
use super::reads::{Next, Reads};
use super::{Envelope, Failure, Message, Node, Request, barrier};
use crate::engine::{self, EntityId, Rejection};
use crate::log::{Appended, Record, Topic};
use crate::metrics;
use crate::proto::commands::Command;

/// So many partitions of a node commit after the interval that is set; of more, each waits longer.
const BUSY_AT_ONCE: u32 = 4;
/// A partition that has made no commit for so long is not busy.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// A partition looks this often whether another node has appended to it: a former owner that does not know yet that it was
/// replaced.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The store's sizes are looked at once in this many commits.
const SIZES_EVERY: u64 = 50;

pub(super) enum End {
    Stopped,
    Released,
    Lost(String),
    /// Others have appended commands before this offset, which are to be read first, where that holds up no other partition.
    Behind(i64),
    /// Another node has taken it over.
    Fenced,
}

/// Why a partition commits what it has, and ends.
pub(super) enum Stopping {
    Stopped,
    /// Dropped in the end: then the partition is released.
    Released(#[allow(dead_code)] Sender<()>),
}

impl Stopping {
    pub fn end(&self) -> End {
        match self {
            Stopping::Stopped => End::Stopped,
            Stopping::Released(_) => End::Released,
        }
    }
}

pub(super) struct Loop {
    pub(super) core: Core,
    pub(super) commits: Option<Sender<Commit>>,
    committing: bool,
    last_commit: Instant,
    reads: Reads,
    /// Where own commands landed that are not decided yet.
    landed: VecDeque<Appended>,
    /// Taken anew after each commit.
    entity_bytes_max: usize,
    looked: Instant,
    /// Requests a look how far the log has come.
    look: Sender<()>,
    busy: Option<Busy>,
    pub(super) stopping: Option<Stopping>,
}

/// A partition that makes commits.
struct Busy(Arc<Node>);

impl Busy {
    fn new(node: &Arc<Node>) -> Self {
        node.busy_partitions.fetch_add(1, Ordering::Relaxed);
        Self(node.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy_partitions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Loop {
    pub(super) fn new(core: Core, commits: Sender<Commit>, look: Sender<()>) -> Self {
        let (now, entity_bytes_max) = (core.node.now(), core.node.entity_bytes_max());
        Self {
            core,
            commits: Some(commits),
            committing: false,
            last_commit: now,
            reads: Reads::default(),
            landed: VecDeque::new(),
            entity_bytes_max,
            looked: now,
            look,
            busy: None,
            stopping: None,
        }
    }

    /// One turn: takes the messages, and does what has become possible, or due.
    pub(super) fn turn(&mut self, messages: impl Iterator<Item = Envelope>) -> Option<End> {
        if let Err(end) = self.decide() {
            return Some(end);
        }
        for Envelope { incarnation, message } in messages {
            let ours = incarnation == 0 || incarnation == self.core.own.incarnation;
            if ours && let Err(end) = self.handle(message) {
                return Some(end);
            }
        }
        if self.stopping.is_none() {
            if let Err(error) = self.core.fire_due() {
                return Some(End::Lost(error.to_string()));
            }
            self.core.resend_due();
            self.core.go_on_copying();
        }
        self.append();
        self.look();
        self.serve_reads();
        if let Err(end) = self.maybe_commit() {
            return Some(end);
        }
        self.core.entities.evict(self.entity_bytes_max, self.core.commits.made);
        let done = !self.committing && !self.core.commits.pending.touched && self.core.intake.in_flight.is_empty();
        self.stopping.as_ref().filter(|_| done).map(Stopping::end)
    }

    /// How long there is nothing to do, unless a message comes.
    pub(super) fn timeout(&self) -> Duration {
        let mut timeout = Duration::from_secs(1);
        // A partition that stops leaves what is due to its next owner.
        if self.stopping.is_none() {
            let (timers, tasks) = (self.core.indexes.timers.next_ms(), self.core.indexes.backlog.next_ms());
            // The commit that makes room wakes the loop up.
            let takes_on = !self.core.is_overloaded();
            let (timers, tasks) = (timers.filter(|_| takes_on), tasks.filter(|_| takes_on));
            let left = timers.map(|due| due - self.core.node.clock_ms()).into_iter();
            if let Some(left) = left.chain(tasks.map(|due| due - self.core.now_of_tasks())).min() {
                timeout = timeout.min(Duration::from_millis(left.clamp(0, 1000) as u64));
            }
            let again = self.core.indexes.timers.next_again().filter(|_| takes_on);
            for due in again.into_iter().chain(self.core.next_resend()) {
                timeout = timeout.min(due.saturating_duration_since(self.core.node.now()));
            }
        }
        if self.core.commits.pending.touched && !self.committing {
            timeout = timeout.min(self.commit_interval().saturating_sub(self.since(self.last_commit)));
        }
        timeout
    }

    fn since(&self, earlier: Instant) -> Duration {
        self.core.node.now().duration_since(earlier)
    }

    /// Why a command can't be decided here and now, though it can once all nodes are newer: then it is sent again.
    fn unknown(&self, command: &Command) -> Option<String> {
        if command.body.is_none() {
            return Some("the command is of a kind that this node does not know: run a newer binary".into());
        }
        engine::not_yet_known(command, self.core.position.fold_version)
    }

    fn handle(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Command(request) if self.stopping.is_some() => {
                let reason = "the node is stopping, or another takes the partition over";
                fail(&mut self.core, request, Failure::Unavailable(reason.into()));
            }
            Message::Command(request) => match self.unknown(&request.command) {
                Some(reason) => fail(&mut self.core, request, Failure::Unavailable(reason)),
                None => self.core.intake.queue.push(request),
            },
            Message::Read(read) => self.reads.push(read, self.sent()),
            Message::Visit(visit) => visit(&mut self.core),
            // Appends in flight show how far the log is.
            Message::Reached(end) if end > self.core.position.next && self.core.intake.in_flight.is_empty() => {
                return Err(End::Behind(end));
            }
            Message::Reached(_) => {}
            Message::Appended { outcome } => match outcome {
                Ok(appended) => {
                    self.landed.extend(appended);
                    self.decide()?;
                }
                Err(error) => return Err(End::Lost(error.to_string())),
            },
            Message::Committed { generation, outcome } => {
                outcome.map_err(|error| match error {
                    CommitError::Fenced => End::Fenced,
                    CommitError::Failed(reason) => End::Lost(reason),
                })?;
                self.committing = false;
                self.core.committed(generation);
                self.housekeeping(generation);
            }
            Message::Acknowledged { target, sequence, delivered } => {
                self.core.acknowledge(target, sequence, delivered);
                self.core.commits.pending.touched |= delivered;
            }
            // It was revoked, and now it stays. Tasks were refused to pollers meanwhile: they are found again.
            Message::Assign => {
                if self.stopping.take_if(|stopping| matches!(stopping, Stopping::Released(_))).is_some() {
                    return Err(End::Lost("another node was to have it, and now it stays here".into()));
                }
            }
            Message::Release(released) => self.stopping = self.stopping.take().or(Some(Stopping::Released(released))),
            Message::Stop => self.stopping = Some(Stopping::Stopped),
        }
        Ok(())
    }

    /// Appends what is queued. Its outcome comes back as a message, in order.
    fn append(&mut self) {
        if self.core.intake.queue.is_empty() {
            return;
        }
        let mut records = Vec::new();
        let mut queue = Vec::new();
        for mut request in std::mem::take(&mut self.core.intake.queue) {
            failure_depth::limit(&mut request.command);
            if let Some(rejection) = self.core.like_set_aside(&request.command) {
                fail(&mut self.core, request, Failure::Rejected(rejection));
                continue;
            }
            let exempt = request.decided.is_none() || load::is_exempt(request.command.body.as_ref());
            if !exempt && self.core.is_overloaded() {
                metrics::command_rejected("RESOURCE_EXHAUSTED");
                let reason = self.core.overloaded();
                fail(&mut self.core, request, Failure::Overloaded(reason));
                continue;
            }
            let record = record(&request.command);
            let (size, limit) = (record.size(), self.core.node.settings.record_bytes_max);
            if size <= limit {
                request.bytes = size;
                self.core.intake.load.add(size);
                records.push(record);
                queue.push(request);
            } else {
                let reason = format!("the request comes to {size} bytes as a command, and the limit is {limit}");
                fail(&mut self.core, request, Failure::Rejected(Rejection::InvalidArgument(reason)));
            }
        }
        if records.is_empty() {
            return;
        }
        let (own, count, partition) = (self.core.own.clone(), records.len(), self.core.partition);
        self.core.intake.in_flight.extend(queue);
        let begun = Instant::now();
        let done = move |outcome: Result<_, _>| {
            if outcome.is_ok() {
                metrics::append(partition, count, begun.elapsed());
            }
            own.send(Message::Appended { outcome });
        };
        self.core.node.log.append(Topic::Commands, self.core.partition, records, Box::new(done));
    }

    /// Decides the own commands that have landed.
    fn decide(&mut self) -> Result<(), End> {
        if self.landed.is_empty() {
            return Ok(());
        }
        let decided = self.decide_each();
        self.core.guard.idle();
        decided
    }

    fn decide_each(&mut self) -> Result<(), End> {
        while let Some(at) = self.landed.front().copied() {
            if at.offset < 0 {
                // The log took it but did not return its offset: what stands there is read again.
                return Err(End::Lost("the log did not return a command's offset".into()));
            }
            if at.offset < self.core.position.next {
                let position = self.core.position.next;
                let reason = format!("the log put a command at {}, before the position {position}", at.offset);
                return Err(End::Lost(reason));
            }
            if at.offset > self.core.position.next {
                // Another node's commands came between: a former owner that does not know yet that it was replaced.
                return Err(End::Behind(at.offset));
            }
            self.landed.pop_front();
            let Some(request) = self.core.intake.in_flight.pop_front() else {
                return Err(End::Lost("an append was acknowledged that was not made".into()));
            };
            let Request { command, decided, bytes } = *request;
            self.core.intake.load.remove(bytes);
            self.core.count(&command, bytes);
            self.core.guard.deciding(at);
            let outcome = self.core.decide(&command, at).map_err(|error| End::Lost(error.to_string()))?;
            self.core.intake.appended += 1;
            metrics::commands_decided(self.core.partition, command.name(), 1);
            if let Err(rejection) = &outcome {
                self.core.note_rejection(&command, at, rejection);
            }
            if let Some(decided) = decided {
                decided(&mut self.core, outcome.map_err(Failure::Rejected));
            }
            self.core.after_decision(&command);
        }
        Ok(())
    }

    fn look(&mut self) {
        if self.since(self.looked) >= LOOK_EVERY {
            self.looked = self.core.node.now();
            self.core.ask_again();
            self.core.updates.tidy();
            if self.stopping.is_none() {
                self.core.raise_version();
            }
            let _ = self.look.send(());
        }
    }

    /// Reads and decides what others have appended before an offset. Blocks.
    pub(super) fn catch_up(&mut self, offset: i64) -> Result<(), String> {
        self.core.decide_range(offset).map_err(|error| error.to_string())
    }

    fn serve_reads(&mut self) {
        loop {
            match self.reads.next(self.sent(), self.core.intake.appended) {
                Next::Serve(read) => read(&mut self.core),
                Next::Append => {
                    // A partition that stops would not come to its end: its readers are refused.
                    if self.core.intake.queue.is_empty() && self.stopping.is_none() {
                        self.core.intake.queue.push(Box::new(Request {
                            command: barrier::command(),
                            decided: None,
                            bytes: 0,
                        }));
                    }
                    break;
                }
                Next::Wait => break,
            }
        }
        // What a read or an answer needs is appended before the loop waits again.
        self.append();
    }

    /// The appends that were sent so far.
    fn sent(&self) -> u64 {
        self.core.intake.appended + self.core.intake.in_flight.len() as u64
    }

    /// How long outputs are gathered. A transaction costs the same however little is in it, so that a node with many busy
    /// partitions makes about as many as one with few.
    fn commit_interval(&self) -> Duration {
        let busy = self.core.node.busy_partitions.load(Ordering::Relaxed).max(BUSY_AT_ONCE);
        self.core.node.settings.commit_interval * busy / BUSY_AT_ONCE
    }

    fn maybe_commit(&mut self) -> Result<(), End> {
        if self.busy.is_some() && self.since(self.last_commit) >= BUSY_FOR {
            self.busy = None;
        }
        if self.committing || !self.core.commits.pending.touched {
            return Ok(());
        }
        let due = self.since(self.last_commit) >= self.commit_interval();
        if due || self.stopping.is_some() || self.core.commits.pending.load.fills_a_commit(&self.core.node.settings) {
            self.last_commit = self.core.node.now();
            self.busy.get_or_insert_with(|| Busy::new(&self.core.node));
            let commit = self.core.make_commit();
            self.committing = self.commits.as_ref().is_some_and(|commits| commits.send(commit).is_ok());
            if !self.committing {
                return Err(End::Lost("the thread that makes commits has ended".into()));
            }
        }
        Ok(())
    }

    fn housekeeping(&mut self, generation: u64) {
        self.entity_bytes_max = self.core.node.entity_bytes_max();
        let core = &self.core;
        metrics::partition_cached(
            core.partition,
            core.entities.len(),
            core.entities.bytes(),
            core.indexes.timers.len(),
        );
        core.node.positions[core.partition as usize].store(core.position.next, Ordering::Relaxed);
        if generation % SIZES_EVERY == 2 {
            for (what, bytes) in core.store.sizes() {
                metrics::store_size(core.partition, what, bytes);
            }
        }
    }

    pub(super) fn fail_all(&mut self) {
        let waiting: Vec<_> = self.core.intake.in_flight.drain(..).collect();
        let queued = std::mem::take(&mut self.core.intake.queue);
        for request in waiting.into_iter().chain(queued) {
            fail(&mut self.core, request, Failure::Unavailable("the partition is being taken over again".into()));
        }
    }
}

fn fail(core: &mut Core, request: Box<Request>, failure: Failure) {
    if let Some(decided) = request.decided {
        decided(core, Err(failure));
    }
}

pub(super) fn record(command: &Command) -> Record {
    let id = EntityId::of(command);
    let key = id.as_ref().map(crate::store::keys::entity).unwrap_or_default();
    Record { key, value: Some(Bytes::from(command.encode_to_vec())), headers: Vec::new() }
}
