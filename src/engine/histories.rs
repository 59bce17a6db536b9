//! What a command is decided with of histories: this says which events are to be read, and keeps those that count.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;

use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes};
use crate::types::limits;

/// What a command needs of the history of a run, and of those of the runs that continued it as new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    pub run_id: String,
    /// All events of the run from this one on, up to that one.
    pub from: i64,
    pub to: i64,
    /// The types of those events that are needed of what follows.
    pub later: BTreeSet<EventType>,
    /// The same of the runs that continued it as new, which are not read if none are needed.
    pub of_successors: BTreeSet<EventType>,
}

/// Histories as they are read: what is needed of each run's, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Histories {
    needed: Needed,
    runs: Vec<Vec<Arc<HistoryEvent>>>,
    /// The run that was read last, and the one that is read next.
    last: String,
    next: Option<String>,
    read_bytes: usize,
    kept_bytes: usize,
    is_too_long: bool,
}

impl Histories {
    pub fn new(needed: Needed) -> Self {
        let next = Some(needed.run_id.clone());
        Self { needed, next, ..Self::default() }
    }

    /// The run that is to be read next, and from which event on; none: there is no more.
    pub fn next(&self) -> Option<(&str, i64)> {
        let from = if self.runs.is_empty() { self.needed.from } else { 1 };
        self.next.as_deref().map(|run_id| (run_id, from))
    }

    /// The events of the next run follow.
    pub fn begin(&mut self) {
        self.last = self.next.take().unwrap_or_default();
        self.runs.push(Vec::new());
    }

    /// Takes an event. False: no more is to be read.
    pub fn take(&mut self, event: &HistoryEvent) -> bool {
        let is_first = self.runs.len() <= 1;
        let types = if is_first { &self.needed.later } else { &self.needed.of_successors };
        let is_kept = is_first && event.event_id <= self.needed.to || types.contains(&event.event_type());
        if let Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(a)) = &event.attributes
            && !self.needed.of_successors.is_empty()
            && !a.new_execution_run_id.is_empty()
        {
            self.next = Some(a.new_execution_run_id.clone());
        }
        let bytes = event.encoded_len();
        self.read_bytes += bytes;
        self.kept_bytes += if is_kept { bytes } else { 0 };
        if self.read_bytes > limits::HISTORIES_READ_MAX || self.kept_bytes > limits::HISTORIES_KEPT_MAX {
            *self = Self { is_too_long: true, ..Self::default() };
            return false;
        }
        if let Some(run) = self.runs.last_mut().filter(|_| is_kept) {
            run.push(Arc::new(event.clone()));
        }
        true
    }

    /// There is more than may be read for one command, and nothing of it is kept.
    pub fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// The run that was read last.
    pub fn last_run_id(&self) -> &str {
        &self.last
    }

    /// What is needed of each run.
    pub fn into_runs(self) -> Vec<Vec<Arc<HistoryEvent>>> {
        self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::temporal::common::v1::{Payload, Payloads};
    use crate::proto::temporal::history::v1::{
        WorkflowExecutionContinuedAsNewEventAttributes, WorkflowExecutionSignaledEventAttributes,
    };

    fn signal(event_id: i64, bytes: usize) -> HistoryEvent {
        let payload = Payload { data: vec![7; bytes].into(), ..Payload::default() };
        let attributes = WorkflowExecutionSignaledEventAttributes {
            input: Some(Payloads { payloads: vec![payload] }),
            ..WorkflowExecutionSignaledEventAttributes::default()
        };
        HistoryEvent {
            event_id,
            event_type: EventType::WorkflowExecutionSignaled as i32,
            attributes: Some(Attributes::WorkflowExecutionSignaledEventAttributes(attributes)),
            ..HistoryEvent::default()
        }
    }

    fn of_type(event_id: i64, event_type: EventType) -> HistoryEvent {
        HistoryEvent { event_id, event_type: event_type as i32, ..HistoryEvent::default() }
    }

    fn continued(event_id: i64) -> HistoryEvent {
        let attributes = WorkflowExecutionContinuedAsNewEventAttributes {
            new_execution_run_id: "next".into(),
            ..WorkflowExecutionContinuedAsNewEventAttributes::default()
        };
        HistoryEvent {
            attributes: Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(Box::new(attributes))),
            ..of_type(event_id, EventType::WorkflowExecutionContinuedAsNew)
        }
    }

    fn needed(of_successors: impl IntoIterator<Item = EventType>) -> Needed {
        Needed {
            run_id: "first".into(),
            from: 1,
            to: 2,
            later: [EventType::WorkflowExecutionSignaled].into(),
            of_successors: of_successors.into_iter().collect(),
        }
    }

    fn ids(histories: Histories) -> Vec<Vec<i64>> {
        histories.into_runs().iter().map(|run| run.iter().map(|event| event.event_id).collect()).collect()
    }

    #[test]
    fn what_does_not_count_is_not_kept() {
        let mut histories = Histories::new(needed([EventType::WorkflowExecutionSignaled]));
        assert_eq!(histories.next(), Some(("first", 1)));
        histories.begin();
        for event in [1, 2, 3].map(|id| of_type(id, EventType::TimerStarted)) {
            assert!(histories.take(&event));
        }
        assert!(histories.take(&signal(4, 1)) && histories.take(&continued(5)));
        assert_eq!(histories.next(), Some(("next", 1)));
        histories.begin();
        assert!(histories.take(&of_type(1, EventType::TimerStarted)) && histories.take(&signal(2, 1)));
        assert_eq!((histories.next(), histories.last_run_id()), (None, "next"));
        assert_eq!(ids(histories), [vec![1, 2, 4], vec![2]]);
    }

    #[test]
    fn runs_of_which_nothing_counts_are_not_read() {
        let mut histories = Histories::new(needed([]));
        histories.begin();
        assert!(histories.take(&continued(1)));
        assert_eq!((histories.next(), histories.last_run_id()), (None, "first"));
    }

    #[test]
    fn no_more_is_read_and_kept_than_may_be() {
        let mib = 1024 * 1024;
        let read = |events: &mut dyn Iterator<Item = HistoryEvent>| {
            let mut histories = Histories::new(needed([]));
            histories.begin();
            let count = events.take_while(|event| histories.take(event)).count();
            (count, histories.is_too_long())
        };
        let signals = |count: i64| (3..3 + count).map(|id| signal(id, mib));
        assert_eq!(read(&mut signals(63)), (63, false));
        assert_eq!(read(&mut signals(100)), (63, true), "all are kept");
        let others =
            |count| signals(count).map(|event| HistoryEvent { event_type: EventType::TimerFired as i32, ..event });
        assert_eq!(read(&mut others(255)), (255, false));
        assert_eq!(read(&mut others(300)), (255, true), "none is kept");
    }
}
