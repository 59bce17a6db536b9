//! The working copy that a decision is made on, and its outcome.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::entity_id::EntityId;
use super::histories::Histories;
use super::kinds::{Events, Kind, Listed, State};
use super::machine::Machine;
use super::rejection::Rejection;
use super::size;
use super::sub_key::SubKey;
use crate::proto::commands::{Callback, Command, FireTimer, command::Body};
use crate::proto::temporal::activity::v1::ActivityOptions;
use crate::proto::temporal::history::v1::HistoryEvent;
use crate::proto::temporal::workflow::v1::WorkflowExecutionOptions;
use crate::types::{IdSource, limits};

/// The outcome of a command that was accepted.
#[derive(Debug, Default)]
pub struct Outcome {
    pub reply: Reply,
    /// The runs that changed, oldest first; the last is the entity's newest run.
    pub runs: Vec<RunOutcome>,
    pub sends: Vec<Send>,
    /// The request is refused, and yet something has happened: its workflow was terminated because of it.
    pub refusal: Option<Rejection>,
}

/// The outcome of a command for one run.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    pub run: State,
    /// What joined the history.
    pub history: Vec<Arc<HistoryEvent>>,
    /// Everything that was emitted, in order; folding it over the run as it was gives `run`.
    pub events: Events,
    /// So many of the events, the first ones, repeat what became of another run.
    pub repeated: usize,
}

/// A command to another entity (or to this one, later).
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    pub to: EntityId,
    /// The name of its namespace.
    pub namespace: String,
    pub body: Body,
    /// Notified of its outcome.
    pub callback: Option<Callback>,
}

/// What is returned to the caller.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Reply {
    #[default]
    Done,
    /// The workflow runs; `started`: this request (or its first copy) started it. `eager_task`: its first
    /// workflow task was started for the caller.
    Started {
        run_id: String,
        started: bool,
        eager_task: bool,
    },
    WorkflowTaskStarted {
        run_id: String,
    },
    /// `new_task`: the worker requested the next workflow task, and it was started. `activities`: those started eagerly.
    /// `reset_history_event_id`: the task left no trace, and the worker drops what followed this event; 0: it did leave one.
    WorkflowTaskCompleted {
        run_id: String,
        new_task: bool,
        activities: Vec<i64>,
        reset_history_event_id: i64,
    },
    /// The run has the update.
    Updated {
        run_id: String,
    },
    /// A run began again, as another one.
    Reset {
        run_id: String,
    },
    /// The same of one that came with a start; `started`: the run was begun for it.
    UpdatedWithStart {
        run_id: String,
        started: bool,
    },
    /// The completion can't be accepted, and its workflow task has failed because of it.
    WorkflowTaskFailed {
        message: String,
    },
    /// The worker prolonged its workflow task for longer than it may: the task has timed out, and another follows.
    WorkflowTaskTimedOut,
    ActivityTaskStarted {
        run_id: String,
        scheduled_event_id: i64,
    },
    HeartbeatRecorded {
        cancel_requested: bool,
        paused: bool,
        reset: bool,
    },
    /// The options of the last of the activities whose options were changed.
    ActivityOptions(Box<ActivityOptions>),
    WorkflowOptions(Box<WorkflowExecutionOptions>),
}

/// What of an entity is loaded for a command to it.
#[derive(Clone, Default)]
pub struct Loaded<'a> {
    /// None: the id was never used.
    pub newest: Option<&'a State>,
    /// The run that the command [names](Machine::named_run), if it is not the newest. It is closed, and nothing changes it.
    pub named: Option<&'a State>,
    /// What the command [needs](Machine::needed_history) of histories.
    pub histories: Histories,
}

impl<'a> From<Option<&'a State>> for Loaded<'a> {
    fn from(newest: Option<&'a State>) -> Self {
        Self { newest, named: None, histories: Histories::default() }
    }
}

/// What a decision is made in: all that it needs beside the state, and what it sends.
#[derive(Clone, Debug)]
pub struct Context {
    pub now: i64,
    /// The version of the fold that is in force.
    pub version: u32,
    pub entity: EntityId,
    /// The name of the entity's namespace.
    pub namespace: String,
    pub retention_s: i64,
    pub history_count_suggest: i64,
    pub ids: IdSource,
    /// The sender that waits for the command's outcome, unless it is notified already.
    pub callback: Option<Callback>,
    pub sends: Vec<Send>,
}

/// The scratch copy of an entity that one command is decided on.
pub struct Work<M: Machine> {
    context: Context,
    current: Changed<M>,
    older: Vec<Changed<M>>,
    named: Option<M>,
    histories: Histories,
}

/// A run within a decision.
#[derive(Clone, Debug)]
pub struct Changed<M: Machine> {
    pub run: M,
    pub history: Vec<Arc<HistoryEvent>>,
    pub events: Vec<M::Event>,
    pub repeated: usize,
}

/// A moment within a decision.
pub struct Checkpoint<M: Machine> {
    current: Changed<M>,
    older: usize,
    sends: usize,
    callback: Option<Callback>,
}

/// What was decided.
pub struct Decision<M: Machine> {
    pub reply: Reply,
    pub runs: Vec<Changed<M>>,
    pub sends: Vec<Send>,
}

impl<M: Machine> Deref for Work<M> {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl<M: Machine> DerefMut for Work<M> {
    fn deref_mut(&mut self) -> &mut Context {
        &mut self.context
    }
}

impl Context {
    fn new(kind: Kind, command: &Command, now: i64, version: u32) -> Self {
        let or_default = |given: i64, default: i64| if given > 0 { given } else { default };
        Self {
            now,
            version,
            entity: EntityId::new(kind, &command.namespace_id, &command.id),
            namespace: command.namespace.clone(),
            retention_s: or_default(command.retention_s, limits::RETENTION_S_DEFAULT),
            history_count_suggest: or_default(command.history_count_suggest, limits::HISTORY_COUNT_SUGGEST),
            ids: IdSource::new(command.seed_high, command.seed_low),
            callback: command.callback.clone(),
            sends: Vec::new(),
        }
    }

    /// An id for a run that begins now.
    pub fn new_run_id(&mut self) -> String {
        self.ids.run_id(self.now)
    }

    /// When a run that closes now is deleted, in milliseconds since the Unix epoch.
    pub fn delete_ms(&self) -> i64 {
        self.now.saturating_add(self.retention_s.saturating_mul(1000))
    }

    /// The revision of a shared entity after one: later than any of a run that is deleted by now, too.
    pub fn revision_after(&self, revision: i64) -> i64 {
        self.now.max(revision + 1)
    }

    /// `namespace`: the name of the namespace of `to`.
    pub fn send(&mut self, to: EntityId, namespace: &str, body: Body) {
        self.sends.push(Send { to, namespace: namespace.into(), body, callback: None });
    }

    /// The same of a command whose outcome the entity is to be notified of.
    pub fn send_for(&mut self, callback: Callback, to: EntityId, namespace: &str, body: Body) {
        self.sends.push(Send { to, namespace: namespace.into(), body, callback: Some(callback) });
    }
}

impl<M: Listed> Work<M> {
    pub fn new(loaded: &Loaded, command: &Command, now: i64, version: u32) -> Self {
        let newest = loaded.newest.and_then(M::of);
        let run = newest.cloned().unwrap_or_default();
        Self {
            context: Context::new(M::KIND, command, now, version),
            current: Changed { run, history: Vec::new(), events: Vec::new(), repeated: 0 },
            older: Vec::new(),
            named: loaded.named.and_then(M::of).cloned(),
            histories: Histories::default(),
        }
    }

    pub fn with_histories(self, histories: Histories) -> Self {
        Self { histories, ..self }
    }
}

impl<M: Machine> Work<M> {
    pub fn run(&self) -> &M {
        &self.current.run
    }

    /// Refuses a timer that is not that of the run's head, or comes before its time. `due_ms`: when the head is due; 0: it is not.
    pub fn expect_due(&self, fired: &FireTimer, due_ms: i64) -> Result<(), Rejection> {
        let is_of_head = SubKey::decode(&fired.record) == Some(SubKey::Head);
        let is_meant = is_of_head && fired.run_id == self.run().header().run_id;
        if is_meant && due_ms != 0 && due_ms <= self.now {
            return Ok(());
        }
        Err(Rejection::NotFound("nothing of it is due".into()))
    }

    /// The older run that the command names.
    pub fn named(&self) -> Option<&M> {
        self.named.as_ref()
    }

    /// The histories that the command needs. Once.
    pub fn take_histories(&mut self) -> Histories {
        std::mem::take(&mut self.histories)
    }

    /// Emits one event: applies it, and keeps it.
    pub fn emit(&mut self, event: M::Event) {
        self.current.run.apply(&event);
        self.current.events.push(event);
    }

    /// What has joined the run's history by this decision.
    pub fn history(&self) -> &[Arc<HistoryEvent>] {
        &self.current.history
    }

    /// What was emitted about the run so far repeats what became of another.
    pub fn has_repeated(&mut self) {
        self.current.repeated = self.current.events.len();
    }

    /// Takes note of an event that has joined the run's history.
    pub fn joined(&mut self, event: Arc<HistoryEvent>) {
        self.current.history.push(event);
    }

    /// What [`roll_back`](Self::roll_back) returns to.
    pub fn checkpoint(&self) -> Checkpoint<M> {
        let (older, sends) = (self.older.len(), self.sends.len());
        Checkpoint { current: self.current.clone(), older, sends, callback: self.callback.clone() }
    }

    /// Undoes everything since the checkpoint, but no id is given out twice.
    pub fn roll_back(&mut self, to: Checkpoint<M>) {
        self.current = to.current;
        self.older.truncate(to.older);
        self.sends.truncate(to.sends);
        self.callback = to.callback;
    }

    /// Goes on with a new run of the same entity: what was current is done with.
    pub fn next_run(&mut self) {
        let next = Changed { run: M::default(), history: Vec::new(), events: Vec::new(), repeated: 0 };
        let done = std::mem::replace(&mut self.current, next);
        self.older.push(done);
    }

    /// `before`: the newest run before the decision.
    pub fn finish(self, reply: Reply, before: Option<&M>) -> Decision<M> {
        let mut runs = self.older;
        runs.push(self.current);
        runs.retain(|run| !run.events.is_empty());
        for changed in &mut runs {
            size::count(&mut changed.run, before);
        }
        Decision { reply, runs, sends: self.context.sends }
    }
}

impl<M: Listed> Decision<M> {
    pub fn outcome(self) -> Outcome {
        let runs = self.runs.into_iter().map(M::outcome).collect();
        Outcome { reply: self.reply, runs, sends: self.sends, refusal: None }
    }
}
