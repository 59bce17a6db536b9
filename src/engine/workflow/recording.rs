//! How events join a run's history: at once, or, while a worker works on a workflow task, when that task ends.

use std::sync::Arc;

use super::event::Event;
use super::state::{BUFFERED_EVENT_ID, Run};
use super::{Work, workflow_task};
use crate::engine::rejection::Rejection;
use crate::proto::state;
use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes};
use crate::types::time::timestamp;

impl Work {
    pub fn head(&self) -> &state::Run {
        &self.run().head
    }

    /// The run of this id, open or closed: the newest, if `run_id` is empty.
    pub fn find(&self, run_id: &str) -> Result<&Run, Rejection> {
        let is_meant = |run: &&Run| !run.head.run_id.is_empty() && (run_id.is_empty() || run.head.run_id == run_id);
        let mut known = std::iter::once(self.run()).chain(self.named());
        known.find(is_meant).ok_or_else(|| Rejection::workflow_not_found(&self.entity.id, run_id))
    }

    /// The open run that a request names: the newest, if `run_id` is empty.
    pub fn open_run(&self, run_id: &str) -> Result<&Run, Rejection> {
        let run = self.find(run_id)?;
        if run.is_open() { Ok(run) } else { Err(Rejection::workflow_closed()) }
    }

    /// Adds an event to the history and returns its id.
    pub fn record(&mut self, mut event: HistoryEvent) -> i64 {
        event.event_id = self.head().next_event_id;
        event.task_id = task_id(event.event_id);
        if event.event_time.is_none() {
            event.event_time = Some(timestamp(self.now));
        }
        let id = event.event_id;
        let event = Arc::new(event);
        self.joined(event.clone());
        self.emit(Event::History(event));
        id
    }

    /// Adds an event that came from outside: at once, or, while a worker works on a workflow task, when that task ends.
    pub fn record_external(&mut self, mut event: HistoryEvent) -> i64 {
        workflow_task::make_normal(self, "");
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
}

/// A number that grows along a history, as clients may expect. Temporal's server takes it from a counter that begins here, and
/// that all workflows of a shard share.
pub fn task_id(event_id: i64) -> i64 {
    (1 << 20) + event_id
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
