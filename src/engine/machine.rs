//! What a kind of entity is to the rest of the engine, and to the shell around it.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::Bytes;
use imbl::OrdSet;

use super::histories::Needed;
use super::rejection::Rejection;
use super::row::Row;
use super::sub_key::SubKey;
use super::task_queue_type::TaskQueueType;
use super::work::{Reply, Work};
use crate::proto::commands::Command;

/// The state machine of one kind of entity: the state of one of its runs, what commands do to it, and how it is stored. Pure.
///
/// An entity has runs, one after the other, of which the newest counts. Adding a kind is a folder of `engine`, a row of
/// [`kinds`](super::kinds) and a body for its commands in `schemas/commands.proto`; what clients see of it is its edge's.
pub trait Machine: Clone + Debug + Default + PartialEq {
    /// A fact about a run. Decisions change one by [`apply`](Self::apply) alone.
    type Event: Clone + Debug + PartialEq;
    type Record: Recorded;

    /// Decides one command. Every change goes through [`Work::emit`]. A rejection undoes everything.
    fn decide(work: &mut Work<Self>, command: &Command) -> Result<Reply, Rejection>;

    /// Folds one event in. It cannot fail: `decide` has refused what does not fit.
    fn apply(&mut self, event: &Self::Event);

    /// Ends an open run whose state a command would have made too large.
    fn end_too_large(work: &mut Work<Self>, reason: &'static str);

    /// The run that a command names, which may be older than the newest: it is loaded too.
    fn named_run(_command: &Command) -> Option<&str> {
        None
    }

    /// What of histories a command is decided with, as the newest run is, and the one that the command [names](Self::named_run); none:
    /// it needs nothing of them, or is refused whatever they hold.
    fn needed_history(_newest: &Self, _named: Option<&Self>, _command: &Command) -> Option<Needed> {
        None
    }

    /// The records that the row is made of, which [`row`](Self::row) needs no others than.
    const ROW: &'static [SubKey] = &[SubKey::Head];

    /// What lists show of the run.
    fn row(&self) -> Option<Row>;

    /// How many things of the run are being worked on at a time, or wait for a worker: while there are any, time is not skipped.
    fn at_work(&self, _now: i64) -> usize {
        0
    }

    /// Whether such records can be due or offer a task.
    fn has_agenda(_key: &SubKey) -> bool {
        true
    }

    /// What every node must know of the entity, as its edges answer from it; none: only its partition knows it. It is made of
    /// the head alone, whose [`Agenda`] has it.
    /// One that is deleted stays published as it was last: a kind whose entities go has to publish that before.
    fn shared(&self) -> Option<Shared> {
        None
    }

    /// What the shell knows of every run.
    fn header(&self) -> Header<'_>;

    /// A closed run is being deleted: its history before an event is gone, and the rest is due to be deleted at a time.
    fn mark_deleted(&mut self, deleted_to_event_id: i64, delete_ms: i64);

    /// What is stored under a sub-key; none: nothing.
    fn record(&self, key: &SubKey) -> Option<Self::Record>;

    /// Puts a stored record back in its place.
    fn restore(&mut self, key: SubKey, record: Self::Record);

    /// Takes a record out, other than the head.
    fn forget(&mut self, key: &SubKey);

    /// Every sub-key that the run has, its head included.
    fn keys(&self) -> OrdSet<SubKey>;

    /// What of a run's state does not count towards the limit beyond which it is ended, as it has a limit of its own. Bytes.
    fn uncounted_bytes(&self) -> usize {
        0
    }

    /// How the run differs from what was last taken over, and what it takes.
    fn tally(&self) -> &Tally;
    fn tally_mut(&mut self) -> &mut Tally;
}

/// What changes of a run's records are counted by. No part of its state: two runs that differ in it alone are equal.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// What moved since this was last emptied.
    pub changed: BTreeSet<SubKey>,
    /// How many records there are after the last decision, and what all of them take, encoded. Bytes.
    pub records: usize,
    pub size_bytes: usize,
    /// What the head takes of that: it has many fields, and almost every decision changes it.
    pub head_bytes: usize,
}

impl PartialEq for Tally {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What every run has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// Empty: there is no run.
    pub run_id: &'a str,
    pub namespace: &'a str,
    pub is_open: bool,
    /// The task queue that its tasks go to unless they name another.
    pub task_queue: &'a str,
    /// When a closed run is deleted, in milliseconds since the Unix epoch; 0: never.
    pub delete_ms: i64,
    /// The run is being deleted, and not visible any more: its history before this event is gone. 0: it is not.
    pub deleted_to_event_id: i64,
}

/// Why a stored record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Value(#[from] prost::DecodeError),
    #[error("an entity of its kind has no record {0:?}")]
    Key(SubKey),
}

/// One stored record of a run.
pub trait Recorded: Sized {
    fn decode(key: &SubKey, value: Bytes) -> Result<Self, Unreadable>;
    fn encode(&self) -> Bytes;
    /// How many bytes [`encode`](Self::encode) would make.
    fn encoded_len(&self) -> usize;
    fn agenda(&self) -> Agenda;
}

/// What follows from a record's presence. Timers and task queues are derived from this alone: the store has indexes of both,
/// which go with the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agenda {
    /// The next moment, in milliseconds since the Unix epoch, at which the record must be looked at; none if it never must.
    pub due_ms: Option<i64>,
    /// The task that it offers now.
    pub task: Option<Task>,
    /// It is the head of a run of an entity that every node must know.
    pub is_shared: bool,
}

/// An entity as it is published to every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Grows with each change of the entity, through all of its runs ([`Work::revision_after`]): of two that are published, the
    /// higher one holds.
    pub revision: i64,
    /// In the form of its kind.
    pub value: Bytes,
}

/// A task that a worker may take.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    pub kind: TaskKind,
    pub queue: String,
    pub scheduled_event_id: i64,
    pub attempt: i32,
    /// When it joined its queue, in milliseconds since the Unix epoch.
    pub scheduled_ms: i64,
    /// Not offered earlier; 0: at once.
    pub not_before_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskKind {
    Workflow,
    StickyWorkflow,
    Activity,
}

impl TaskKind {
    /// The type of the queues in which such tasks wait.
    pub fn queue_type(self) -> TaskQueueType {
        match self {
            Self::Workflow | Self::StickyWorkflow => TaskQueueType::Workflow,
            Self::Activity => TaskQueueType::Activity,
        }
    }
}
