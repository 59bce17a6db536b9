//! The working copy that a decision is made on, and what comes of it.

use super::event::{Event, Starter};
use super::history::event;
use super::rejection::Rejection;
use super::state::{BUFFERED_EVENT_ID, Run};
use super::state_size;
use crate::proto::commands::{Command, command::Body};
use crate::proto::state;
use crate::proto::temporal::enums::v1::{EventType, SuggestContinueAsNewReason, TaskQueueKind};
use crate::proto::temporal::history::v1::{
    HistoryEvent, WorkflowTaskScheduledEventAttributes, WorkflowTaskStartedEventAttributes, history_event::Attributes,
};
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::types::{
    IdSource, limits,
    time::{duration, timestamp},
};

/// What came of a command that was accepted.
#[derive(Debug, Default)]
pub struct Outcome {
    pub reply: Reply,
    /// The runs that changed, oldest first; the last is the entity's newest run.
    pub runs: Vec<RunOutcome>,
    pub sends: Vec<Send>,
    /// The caller is refused what it asked for, and yet something has happened: its workflow was terminated because of it.
    pub refusal: Option<Rejection>,
}

/// What came of a command for one run.
#[derive(Clone, Debug, Default)]
pub struct RunOutcome {
    pub run: Run,
    /// What joined the history.
    pub history: Vec<HistoryEvent>,
    /// Everything that was emitted, in order; folding it over the run as it was gives `run`.
    pub events: Vec<Event>,
}

/// A command to another entity (or to this one, later).
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    pub namespace_id: String,
    pub namespace: String,
    pub workflow_id: String,
    pub body: Body,
}

/// What the caller is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Reply {
    #[default]
    Done,
    /// The workflow runs; `started` tells whether this request (or its first copy) started it. `eager_task`: its first
    /// workflow task was started for the caller.
    Started {
        run_id: String,
        started: bool,
        eager_task: bool,
    },
    WorkflowTaskStarted {
        run_id: String,
    },
    /// `new_task`: the worker asked for the next workflow task, and it was started. `activities`: those started eagerly.
    WorkflowTaskCompleted {
        run_id: String,
        new_task: bool,
        activities: Vec<i64>,
    },
    /// What the completion asked for can't be accepted, and its workflow task has failed because of it.
    WorkflowTaskFailed {
        message: String,
    },
    /// The worker prolonged its workflow task for longer than it may: the task has timed out, and another follows.
    WorkflowTaskTimedOut,
    ActivityTaskStarted {
        run_id: String,
        scheduled_event_id: i64,
    },
    /// What a heartbeat is told.
    ActivityCancelRequested(bool),
    Namespace(Box<state::Namespace>),
}

/// What of a workflow is loaded for a command to it.
#[derive(Clone, Copy, Default)]
pub struct Loaded<'a> {
    /// None: the id was never used.
    pub newest: Option<&'a Run>,
    /// The run that the command [names](super::named_run), if it is not the newest. It is closed, and nothing changes it.
    pub named: Option<&'a Run>,
}

impl<'a> From<Option<&'a Run>> for Loaded<'a> {
    fn from(newest: Option<&'a Run>) -> Self {
        Self { newest, named: None }
    }
}

/// The scratch copy of an entity that one command is decided on.
pub struct Working {
    pub now: i64,
    /// The version of the fold that is in force.
    pub version: u32,
    pub namespace_id: String,
    pub namespace: String,
    pub workflow_id: String,
    pub retention_s: i64,
    history_count_suggest: i64,
    pub ids: IdSource,
    pub sends: Vec<Send>,
    current: RunOutcome,
    older: Vec<RunOutcome>,
    named: Option<Run>,
}

/// A moment within a decision.
pub struct Checkpoint {
    current: RunOutcome,
    older: usize,
    sends: usize,
}

impl Working {
    pub fn new(loaded: Loaded, command: &Command, now: i64, version: u32) -> Self {
        let or_default = |given: i64, default: i64| if given > 0 { given } else { default };
        let retention_s = or_default(command.retention_s, limits::RETENTION_S_DEFAULT);
        Self {
            now,
            version,
            namespace_id: command.namespace_id.clone(),
            namespace: command.namespace.clone(),
            workflow_id: command.workflow_id.clone(),
            retention_s,
            history_count_suggest: or_default(command.history_count_suggest, limits::HISTORY_COUNT_SUGGEST),
            ids: IdSource::new(command.seed_high, command.seed_low),
            sends: Vec::new(),
            current: RunOutcome { run: loaded.newest.cloned().unwrap_or_default(), ..RunOutcome::default() },
            older: Vec::new(),
            named: loaded.named.cloned(),
        }
    }

    pub fn run(&self) -> &Run {
        &self.current.run
    }

    pub fn head(&self) -> &state::Run {
        &self.current.run.head
    }

    /// The run of this id, open or closed: the newest, if `run_id` is empty.
    pub fn find(&self, run_id: &str) -> Result<&Run, Rejection> {
        let is_meant = |run: &&Run| !run.head.run_id.is_empty() && (run_id.is_empty() || run.head.run_id == run_id);
        let mut known = std::iter::once(self.run()).chain(&self.named);
        known.find(is_meant).ok_or_else(|| Rejection::workflow_not_found(&self.workflow_id, run_id))
    }

    /// The open run that a request names: the newest, if `run_id` is empty.
    pub fn open_run(&self, run_id: &str) -> Result<&Run, Rejection> {
        let run = self.find(run_id)?;
        if run.is_open() { Ok(run) } else { Err(Rejection::workflow_closed()) }
    }

    /// An id for a run that begins now.
    pub fn new_run_id(&mut self) -> String {
        self.ids.run_id(self.now)
    }

    /// Emits one event: applies it, and keeps it.
    pub fn emit(&mut self, event: Event) {
        self.current.run.apply(&event);
        if let Event::History(event) = &event {
            self.current.history.push((**event).clone());
        }
        self.current.events.push(event);
    }

    /// Adds an event to the history and returns its id.
    pub fn record(&mut self, mut event: HistoryEvent) -> i64 {
        event.event_id = self.head().next_event_id;
        event.task_id = task_id(event.event_id);
        if event.event_time.is_none() {
            event.event_time = Some(timestamp(self.now));
        }
        let id = event.event_id;
        self.emit(Event::History(Box::new(event)));
        id
    }

    /// Adds an event that came from outside: at once, or, while a worker works on a workflow task, when that task ends.
    pub fn record_external(&mut self, mut event: HistoryEvent) -> i64 {
        if self.run().started_task().is_none() {
            return self.record(event);
        }
        // That of an activity's start was earlier.
        event.event_time.get_or_insert_with(|| timestamp(self.now));
        self.emit(Event::Buffered(Box::new(event)));
        BUFFERED_EVENT_ID
    }

    /// Gives the buffered events their ids. Completions come last, behind what they may refer to. Temporal: events of
    /// activities and children that close are reordered behind the others.
    pub fn flush_buffer(&mut self) {
        if self.run().buffered.is_empty() {
            return;
        }
        let buffered = self.run().buffered.clone();
        self.emit(Event::BufferFlushed);
        let buffered = buffered.values().map(|event| (**event).clone());
        let (closing, others): (Vec<_>, Vec<_>) = buffered.partition(closes_something);
        let mut started = std::collections::BTreeMap::new();
        for mut event in others.into_iter().chain(closing) {
            resolve_started(&mut event, &started);
            let begun = match &event.attributes {
                Some(Attributes::ActivityTaskStartedEventAttributes(a)) => Some(a.scheduled_event_id),
                Some(Attributes::ChildWorkflowExecutionStartedEventAttributes(a)) => Some(a.initiated_event_id),
                _ => None,
            };
            let id = self.record(event);
            if let Some(of) = begun {
                started.insert(of, id);
            }
        }
    }

    /// Schedules a workflow task even if the first one is delayed, whose delay is over with that.
    pub fn schedule_workflow_task_at_once(&mut self) {
        if self.run().is_open() && self.head().first_task_delayed {
            self.emit(Event::FirstTaskDelayEnded);
        }
        self.schedule_workflow_task();
    }

    /// Schedules a workflow task, unless one is pending, the run is closed, or its first task is delayed.
    pub fn schedule_workflow_task(&mut self) {
        let head = self.head();
        if !self.run().is_open() || head.workflow_task.is_some() || head.first_task_delayed {
            return;
        }
        let mut attempt = head.workflow_task_attempt.max(1);
        if !self.run().buffered.is_empty() {
            // There is news, so the worker gets a fresh first attempt.
            attempt = 1;
            self.flush_buffer();
        }
        let slower_ms = retry_backoff_ms(attempt, &mut self.ids);
        let head = self.head();
        let mut task = state::WorkflowTask {
            scheduled_event_id: head.next_event_id,
            attempt,
            scheduled_ms: self.now,
            original_scheduled_ms: self.now,
            timeout_ms: head.workflow_task_timeout_ms.saturating_add(slower_ms),
            sticky: !head.sticky_queue.is_empty(),
            ..state::WorkflowTask::default()
        };
        if attempt == 1 {
            task.scheduled_event_id = self.record_task_scheduled(&task);
        }
        self.emit(Event::WorkflowTaskChanged { task: Some(Box::new(task)), attempt });
    }

    pub(super) fn record_task_scheduled(&mut self, task: &state::WorkflowTask) -> i64 {
        let scheduled = task_scheduled(self.head(), task);
        self.record(scheduled)
    }

    /// Starts the pending workflow task for a worker.
    pub fn start_workflow_task(&mut self, by: Starter) {
        let Some(mut task) = self.head().workflow_task.clone() else { return };
        if task.attempt > 1 && task.scheduled_event_id != self.head().next_event_id {
            // Events came since the transient task was scheduled: it becomes an ordinary one.
            task.attempt = 1;
            let scheduled = state::WorkflowTask { scheduled_ms: self.now, ..task.clone() };
            task.scheduled_event_id = self.record_task_scheduled(&scheduled);
        }
        let head = self.head();
        let mut reasons = Vec::new();
        if head.history_size_bytes >= limits::HISTORY_SIZE_SUGGEST {
            reasons.push(SuggestContinueAsNewReason::HistorySizeTooLarge as i32);
        }
        if head.next_event_id >= self.history_count_suggest {
            reasons.push(SuggestContinueAsNewReason::TooManyHistoryEvents as i32);
        }
        task.suggest_continue_as_new = !reasons.is_empty();
        task.suggest_reasons = reasons;
        task.history_size_bytes = head.history_size_bytes;
        task.started_ms = self.now;
        (task.identity, task.request_id, task.worker_version) = (by.identity, by.request_id, by.worker_version);
        task.started_event_id =
            if task.attempt == 1 { self.record(task_started(&task)) } else { task.scheduled_event_id + 1 };
        let attempt = task.attempt;
        self.emit(Event::WorkflowTaskChanged { task: Some(Box::new(task)), attempt });
    }

    /// What [`roll_back`](Self::roll_back) returns to.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { current: self.current.clone(), older: self.older.len(), sends: self.sends.len() }
    }

    /// Undoes everything since the checkpoint, but no id is given out twice.
    pub fn roll_back(&mut self, to: Checkpoint) {
        self.current = to.current;
        self.older.truncate(to.older);
        self.sends.truncate(to.sends);
    }

    /// Goes on with a new run of the same workflow: what was current is done with.
    pub fn next_run(&mut self) {
        let done = std::mem::take(&mut self.current);
        self.older.push(done);
    }

    pub fn send(&mut self, namespace_id: &str, namespace: &str, workflow_id: &str, body: Body) {
        self.sends.push(Send {
            namespace_id: namespace_id.into(),
            namespace: namespace.into(),
            workflow_id: workflow_id.into(),
            body,
        });
    }

    /// `before`: the newest run before the decision.
    pub fn finish(mut self, reply: Reply, before: Option<&Run>) -> Outcome {
        self.older.push(self.current);
        self.older.retain(|run| !run.events.is_empty());
        for changed in &mut self.older {
            state_size::count(&mut changed.run, before);
        }
        Outcome { reply, runs: self.older, sends: self.sends, refusal: None }
    }
}

/// The history event of a workflow task's scheduling.
fn task_scheduled(head: &state::Run, task: &state::WorkflowTask) -> HistoryEvent {
    let queue = &head.task_queue;
    let attributes = WorkflowTaskScheduledEventAttributes {
        task_queue: Some(if task.sticky { sticky_queue(&head.sticky_queue, queue) } else { normal_queue(queue) }),
        start_to_close_timeout: Some(duration(task.timeout_ms)),
        attempt: task.attempt,
    };
    let mut event =
        event(EventType::WorkflowTaskScheduled, Attributes::WorkflowTaskScheduledEventAttributes(attributes));
    event.event_time = Some(timestamp(task.scheduled_ms));
    event
}

/// The events of a pending workflow task that join the history only if it completes: those of any attempt but the first,
/// unless other events have come since it was scheduled.
pub fn transient_events(head: &state::Run) -> Vec<HistoryEvent> {
    let task = head.workflow_task.as_ref();
    let Some(task) = task.filter(|task| task.attempt > 1 && task.scheduled_event_id == head.next_event_id) else {
        return Vec::new();
    };
    let mut events = vec![task_scheduled(head, task)];
    if task.started_event_id != 0 {
        events.push(task_started(task));
    }
    for (event, id) in events.iter_mut().zip(task.scheduled_event_id..) {
        event.event_id = id;
        event.task_id = task_id(id);
    }
    events
}

/// The history event of a workflow task's start.
pub fn task_started(task: &state::WorkflowTask) -> HistoryEvent {
    let attributes = WorkflowTaskStartedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        identity: task.identity.clone(),
        request_id: task.request_id.clone(),
        suggest_continue_as_new: task.suggest_continue_as_new,
        suggest_continue_as_new_reasons: task.suggest_reasons.clone(),
        history_size_bytes: task.history_size_bytes,
        worker_version: task.worker_version.clone(),
        ..WorkflowTaskStartedEventAttributes::default()
    };
    let mut event = event(EventType::WorkflowTaskStarted, Attributes::WorkflowTaskStartedEventAttributes(attributes));
    event.event_time = Some(timestamp(task.started_ms));
    event
}

/// A number that grows along a history, as clients may expect. Temporal's server takes it from a counter that begins here, and
/// that all workflows of a shard share.
fn task_id(event_id: i64) -> i64 {
    (1 << 20) + event_id
}

pub fn normal_queue(name: &str) -> TaskQueue {
    TaskQueue { name: name.to_owned(), kind: TaskQueueKind::Normal as i32, ..TaskQueue::default() }
}

pub fn sticky_queue(name: &str, normal_name: &str) -> TaskQueue {
    TaskQueue { name: name.to_owned(), kind: TaskQueueKind::Sticky as i32, normal_name: normal_name.to_owned() }
}

/// How much longer than the first an attempt of a failing task may take: from the fourth on 5 s, doubled up to 10 min, less up to
/// a fifth. Milliseconds. Workers leave such a task alone once they have failed it, so it is handed out again when its time is up:
/// the longer that is, the slower it fails. Temporal: `history.workflowTaskRetryMaxInterval`.
fn retry_backoff_ms(attempt: i32, ids: &mut IdSource) -> i64 {
    if attempt <= 3 {
        return 0;
    }
    let backoff = (5_000_i64 << (attempt - 4).min(10)).min(600_000);
    backoff * 4 / 5 + (ids.number() % (backoff as u64 / 5)) as i64
}

fn closes_something(event: &HistoryEvent) -> bool {
    matches!(
        event.event_type(),
        EventType::ActivityTaskCompleted
            | EventType::ActivityTaskFailed
            | EventType::ActivityTaskTimedOut
            | EventType::ActivityTaskCanceled
            | EventType::ChildWorkflowExecutionCompleted
            | EventType::ChildWorkflowExecutionFailed
            | EventType::ChildWorkflowExecutionCanceled
            | EventType::ChildWorkflowExecutionTimedOut
            | EventType::ChildWorkflowExecutionTerminated
    )
}

/// Points a closing event at the started event that was buffered before it.
fn resolve_started(event: &mut HistoryEvent, started: &std::collections::BTreeMap<i64, i64>) {
    use Attributes as A;
    let (of, reference) = match event.attributes.as_mut() {
        Some(A::ActivityTaskCompletedEventAttributes(a)) => (a.scheduled_event_id, &mut a.started_event_id),
        Some(A::ActivityTaskFailedEventAttributes(a)) => (a.scheduled_event_id, &mut a.started_event_id),
        Some(A::ActivityTaskTimedOutEventAttributes(a)) => (a.scheduled_event_id, &mut a.started_event_id),
        Some(A::ActivityTaskCanceledEventAttributes(a)) => (a.scheduled_event_id, &mut a.started_event_id),
        Some(A::ChildWorkflowExecutionCompletedEventAttributes(a)) => (a.initiated_event_id, &mut a.started_event_id),
        Some(A::ChildWorkflowExecutionFailedEventAttributes(a)) => (a.initiated_event_id, &mut a.started_event_id),
        Some(A::ChildWorkflowExecutionCanceledEventAttributes(a)) => (a.initiated_event_id, &mut a.started_event_id),
        Some(A::ChildWorkflowExecutionTimedOutEventAttributes(a)) => (a.initiated_event_id, &mut a.started_event_id),
        Some(A::ChildWorkflowExecutionTerminatedEventAttributes(a)) => (a.initiated_event_id, &mut a.started_event_id),
        _ => return,
    };
    if *reference == BUFFERED_EVENT_ID {
        *reference = started.get(&of).copied().unwrap_or_default();
    }
}
