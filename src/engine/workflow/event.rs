//! What deciding a command emits: facts, in the past tense. History events are Temporal's; the rest only move state.

use std::sync::Arc;

use super::{updates, workflow_task};
use crate::engine::attempts;
use crate::proto::state::{self, Pause};
use crate::proto::temporal::history::v1::HistoryEvent;
use crate::proto::temporal::workflow::v1::WorkflowExecutionOptions;

/// What a run begins with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Created {
    pub head: state::Run,
    pub properties: state::Properties,
    pub start: state::Start,
}

/// One fact about one run. [`Run::apply`](super::state::Run::apply) is the only thing that changes a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A run began; its history follows.
    RunCreated(Box<Created>),
    /// An event joined the history.
    History(Arc<HistoryEvent>),
    /// An event arrived while a workflow task was started: it has no id yet and waits for the task to end.
    Buffered(Box<HistoryEvent>),
    /// What waited is about to join the history.
    BufferFlushed,
    /// The timer that fired while a workflow task was started was canceled by that task: as if it had not fired.
    BufferedTimerWithdrawn { timer_id: String },
    /// Something became of the workflow task.
    WorkflowTask(workflow_task::Event),
    /// Something became of an update.
    Update { id: String, event: updates::Event },
    /// The worker that caches the run named its own queue, or lost it (empty).
    StickyQueueChanged { queue: String, schedule_to_start_ms: i64 },
    /// The delay before a run's first workflow task is over.
    FirstTaskDelayEnded,
    /// Something became of a pending activity's attempt.
    Attempt { scheduled_event_id: i64, event: attempts::Event },
    /// A request that must have no second effect was carried out.
    RequestSeen { request_id: String, now_ms: i64 },
    /// What of the run is paused has changed.
    PausedChanged { paused: Vec<String> },
    /// An operator has paused the run, or lets it go on.
    RunPaused(Option<Box<Pause>>),
    /// An operator has changed the run's options.
    OptionsChanged(Box<WorkflowExecutionOptions>),
    /// Another run began again from a point of the history.
    WasReset { run_id: String, request_id: String },
    /// How long the closed run is kept was settled.
    DeletionScheduled { delete_ms: i64 },
}
