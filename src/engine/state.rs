//! The state of one run, and how events change it.
//!
//! Copies are cheap (the maps share structure), so a decision works on a copy and a refused one leaves nothing behind.
//! Knows nothing of storage: [`Run::record`] says what each sub-key's record is, and `changed` which of them moved.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use prost::{DecodeError, Message};

use super::event::{Created, Event};
use super::external_payloads::External;
use crate::proto::state;
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;
use crate::proto::temporal::history::v1::HistoryEvent;

/// The event id of an event that has none yet, as Temporal's server has it.
pub const BUFFERED_EVENT_ID: i64 = -123;

/// Names one record of a run. The order is the order of the records in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubKey {
    Head,
    Properties,
    Start,
    /// An event that waits for the started workflow task to end, by the order in which it came.
    Buffered(i64),
    Activity(i64),
    Timer(String),
    Child(i64),
    External(i64),
    Request(String),
}

impl SubKey {
    /// Whether such records can be due or offer a task.
    pub fn has_agenda(&self) -> bool {
        matches!(self, Self::Head | Self::Activity(_) | Self::Timer(_))
    }

    /// What an id takes of which the record itself has nothing, and of which a run may have many. Bytes.
    pub fn id_len(&self) -> usize {
        if let Self::Request(id) = self { id.len() } else { 0 }
    }
}

/// One record of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Head(Arc<state::Run>),
    Properties(Arc<state::Properties>),
    Start(Arc<state::Start>),
    Buffered(Arc<HistoryEvent>),
    Activity(Arc<state::Activity>),
    Timer(Arc<state::Timer>),
    Child(Arc<state::Child>),
    External(Arc<state::ExternalRequest>),
    Request(state::RequestId),
}

impl Record {
    /// The record's bytes, as they are stored under its sub-key.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Head(head) => head.encode_to_vec(),
            Self::Properties(properties) => properties.encode_to_vec(),
            Self::Start(start) => start.encode_to_vec(),
            Self::Buffered(event) => event.encode_to_vec(),
            Self::Activity(activity) => activity.encode_to_vec(),
            Self::Timer(timer) => timer.encode_to_vec(),
            Self::Child(child) => child.encode_to_vec(),
            Self::External(external) => external.encode_to_vec(),
            Self::Request(request) => request.encode_to_vec(),
        }
        .into()
    }

    /// How many bytes [`encode`](Self::encode) would make.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Head(head) => head.encoded_len(),
            Self::Properties(properties) => properties.encoded_len(),
            Self::Start(start) => start.encoded_len(),
            Self::Buffered(event) => event.encoded_len(),
            Self::Activity(activity) => activity.encoded_len(),
            Self::Timer(timer) => timer.encoded_len(),
            Self::Child(child) => child.encoded_len(),
            Self::External(external) => external.encoded_len(),
            Self::Request(request) => request.encoded_len(),
        }
    }

    pub fn decode(key: &SubKey, value: Bytes) -> Result<Self, DecodeError> {
        Ok(match key {
            SubKey::Head => Self::Head(Arc::new(Message::decode(value)?)),
            SubKey::Properties => Self::Properties(Arc::new(Message::decode(value)?)),
            SubKey::Start => Self::Start(Arc::new(Message::decode(value)?)),
            SubKey::Buffered(_) => Self::Buffered(Arc::new(Message::decode(value)?)),
            SubKey::Activity(_) => Self::Activity(Arc::new(Message::decode(value)?)),
            SubKey::Timer(_) => Self::Timer(Arc::new(Message::decode(value)?)),
            SubKey::Child(_) => Self::Child(Arc::new(Message::decode(value)?)),
            SubKey::External(_) => Self::External(Arc::new(Message::decode(value)?)),
            SubKey::Request(_) => Self::Request(Message::decode(value)?),
        })
    }
}

#[derive(Clone, Debug, Default)]
pub struct Run {
    pub head: Arc<state::Run>,
    pub properties: Arc<state::Properties>,
    pub start: Arc<state::Start>,
    /// Events that wait for the started workflow task to end, in the order in which they came.
    pub buffered: OrdMap<i64, Arc<HistoryEvent>>,
    /// By scheduled event id.
    pub activities: OrdMap<i64, Arc<state::Activity>>,
    /// Activity id to scheduled event id.
    pub activity_ids: OrdMap<String, i64>,
    pub timers: OrdMap<String, Arc<state::Timer>>,
    /// By initiated event id.
    pub children: OrdMap<i64, Arc<state::Child>>,
    /// Signals to and cancellations of other workflows, by initiated event id.
    pub externals: OrdMap<i64, Arc<state::ExternalRequest>>,
    /// Ids of signal requests that were carried out, and of starts that were attached to this run.
    pub requests: OrdMap<String, state::RequestId>,
    /// What moved since this was last emptied.
    pub changed: BTreeSet<SubKey>,
    /// What all records take, encoded, after the last decision. Bytes.
    pub size_bytes: usize,
}

impl PartialEq for Run {
    /// Compares what is recorded, not what changed lately.
    fn eq(&self, other: &Self) -> bool {
        self.head == other.head
            && self.properties == other.properties
            && self.start == other.start
            && self.buffered == other.buffered
            && self.activities == other.activities
            && self.timers == other.timers
            && self.children == other.children
            && self.externals == other.externals
            && self.requests == other.requests
    }
}

impl Run {
    pub fn is_open(&self) -> bool {
        self.head.status == Status::Running as i32
    }

    pub fn status(&self) -> Status {
        Status::try_from(self.head.status).unwrap_or(Status::Unspecified)
    }

    /// The workflow task that a worker is working on.
    pub fn started_task(&self) -> Option<&state::WorkflowTask> {
        self.head.workflow_task.as_ref().filter(|task| task.started_event_id != 0)
    }

    pub fn record(&self, key: &SubKey) -> Option<Record> {
        match key {
            SubKey::Head => Some(Record::Head(self.head.clone())),
            SubKey::Properties => {
                (*self.properties != state::Properties::default()).then(|| Record::Properties(self.properties.clone()))
            }
            SubKey::Start => (*self.start != state::Start::default()).then(|| Record::Start(self.start.clone())),
            SubKey::Buffered(id) => self.buffered.get(id).cloned().map(Record::Buffered),
            SubKey::Activity(id) => self.activities.get(id).cloned().map(Record::Activity),
            SubKey::Timer(id) => self.timers.get(id).cloned().map(Record::Timer),
            SubKey::Child(id) => self.children.get(id).cloned().map(Record::Child),
            SubKey::External(id) => self.externals.get(id).cloned().map(Record::External),
            SubKey::Request(id) => self.requests.get(id).cloned().map(Record::Request),
        }
    }

    /// Puts a stored record back in its place.
    pub fn restore(&mut self, key: SubKey, record: Record) {
        self.size_bytes += key.id_len() + record.encoded_len();
        match (key, record) {
            (SubKey::Head, Record::Head(head)) => self.head = head,
            (SubKey::Properties, Record::Properties(properties)) => self.properties = properties,
            (SubKey::Start, Record::Start(start)) => self.start = start,
            (SubKey::Buffered(id), Record::Buffered(event)) => drop(self.buffered.insert(id, event)),
            (SubKey::Activity(id), Record::Activity(activity)) => {
                self.activity_ids.insert(activity.activity_id.clone(), id);
                self.activities.insert(id, activity);
            }
            (SubKey::Timer(id), Record::Timer(timer)) => drop(self.timers.insert(id, timer)),
            (SubKey::Child(id), Record::Child(child)) => drop(self.children.insert(id, child)),
            (SubKey::External(id), Record::External(external)) => drop(self.externals.insert(id, external)),
            (SubKey::Request(id), Record::Request(request)) => drop(self.requests.insert(id, request)),
            (key, record) => unreachable!("a record of another kind stands under {key:?}: {record:?}"),
        }
    }

    /// Takes a record out, other than the head.
    pub fn forget(&mut self, key: &SubKey) {
        match key {
            SubKey::Head => {}
            SubKey::Properties => self.properties = Arc::default(),
            SubKey::Start => self.start = Arc::default(),
            SubKey::Buffered(id) => drop(self.buffered.remove(id)),
            SubKey::Activity(id) => self.remove_activity(*id),
            SubKey::Timer(id) => drop(self.timers.remove(id)),
            SubKey::Child(id) => drop(self.children.remove(id)),
            SubKey::External(id) => drop(self.externals.remove(id)),
            SubKey::Request(id) => drop(self.requests.remove(id)),
        }
    }

    /// Every sub-key that the run has, its head included.
    pub fn keys(&self) -> OrdSet<SubKey> {
        [SubKey::Head, SubKey::Properties, SubKey::Start]
            .into_iter()
            .filter(|key| self.record(key).is_some())
            .chain(self.buffered.keys().map(|id| SubKey::Buffered(*id)))
            .chain(self.activities.keys().map(|id| SubKey::Activity(*id)))
            .chain(self.timers.keys().map(|id| SubKey::Timer(id.clone())))
            .chain(self.children.keys().map(|id| SubKey::Child(*id)))
            .chain(self.externals.keys().map(|id| SubKey::External(*id)))
            .chain(self.requests.keys().map(|id| SubKey::Request(id.clone())))
            .collect()
    }

    pub fn head_mut(&mut self) -> &mut state::Run {
        self.changed.insert(SubKey::Head);
        Arc::make_mut(&mut self.head)
    }

    pub(super) fn properties_mut(&mut self) -> &mut state::Properties {
        self.changed.insert(SubKey::Properties);
        Arc::make_mut(&mut self.properties)
    }

    /// Lets go of how the run was started: it is closed, and nothing starts it again.
    pub(super) fn forget_restart(&mut self) {
        if self.start.restart.is_some() {
            Arc::make_mut(&mut self.start).restart = None;
            self.changed.insert(SubKey::Start);
        }
    }

    fn add_buffered(&mut self, event: HistoryEvent) {
        let id = self.buffered.get_max().map_or(1, |(last, _)| last + 1);
        self.buffered.insert(id, Arc::new(event));
        self.changed.insert(SubKey::Buffered(id));
    }

    fn retain_buffered(&mut self, keep: impl Fn(&HistoryEvent) -> bool) {
        let gone: Vec<i64> = self.buffered.iter().filter(|(_, event)| !keep(event)).map(|(id, _)| *id).collect();
        for id in gone {
            self.buffered.remove(&id);
            self.changed.insert(SubKey::Buffered(id));
        }
    }

    /// Changes a pending activity, if it is still pending.
    pub(super) fn change_activity(&mut self, scheduled_event_id: i64, change: impl FnOnce(&mut state::Activity)) {
        if let Some(activity) = self.activities.get_mut(&scheduled_event_id) {
            change(Arc::make_mut(activity));
            self.changed.insert(SubKey::Activity(scheduled_event_id));
        }
    }

    pub(super) fn remove_activity(&mut self, scheduled_event_id: i64) {
        if let Some(activity) = self.activities.remove(&scheduled_event_id) {
            self.activity_ids.remove(&activity.activity_id);
            self.changed.insert(SubKey::Activity(scheduled_event_id));
        }
    }

    pub(super) fn note_request(&mut self, request_id: &str, request: state::RequestId) {
        self.requests.insert(request_id.to_owned(), request);
        self.changed.insert(SubKey::Request(request_id.to_owned()));
    }

    /// Requests to start the workflow that found this run.
    pub fn attached_requests(&self) -> impl Iterator<Item = (&String, &state::RequestId)> {
        self.requests.iter().filter(|(_, request)| request.event_type != 0)
    }

    /// Folds one event in. It cannot fail: `decide` has refused what does not fit.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::RunCreated(created) => {
                let Created { head, properties, start } = (**created).clone();
                let (head, properties, start) = (Arc::new(head), Arc::new(properties), Arc::new(start));
                *self = Self { head, properties, start, ..Self::default() };
                self.changed.extend(self.keys());
            }
            Event::History(event) => {
                let head = self.head_mut();
                head.next_event_id = event.event_id + 1;
                head.history_size_bytes += prost::Message::encoded_len(&**event) as i64;
                let external = External::of(event);
                head.external_payload_count += external.count;
                head.external_payload_bytes = head.external_payload_bytes.saturating_add(external.bytes);
                self.apply_attributes(event, false);
            }
            Event::Buffered(event) => {
                self.add_buffered((**event).clone());
                self.apply_attributes(event, true);
            }
            Event::BufferFlushed => self.retain_buffered(|_| false),
            Event::BufferedTimerWithdrawn { timer_id } => {
                self.retain_buffered(|event| !super::history::fires(event, timer_id))
            }
            Event::WorkflowTaskChanged { task, attempt } => {
                let head = self.head_mut();
                head.workflow_task = task.as_deref().cloned();
                head.workflow_task_attempt = *attempt;
            }
            Event::WorkflowTaskSeen { started_event_id, completed_event_id } => {
                let head = self.head_mut();
                head.previous_started_event_id = *started_event_id;
                head.most_recent_completed_event_id = *completed_event_id;
            }
            Event::StickyQueueChanged { queue, schedule_to_start_ms } => {
                let head = self.head_mut();
                head.sticky_queue.clone_from(queue);
                head.sticky_schedule_to_start_ms = *schedule_to_start_ms;
            }
            Event::FirstTaskDelayEnded => self.head_mut().first_task_delayed = false,
            Event::ActivityAttemptStarted { scheduled_event_id, started_ms, request_id, identity } => {
                self.change_activity(*scheduled_event_id, |activity| {
                    activity.started_ms = *started_ms;
                    if activity.first_started_ms == 0 {
                        activity.first_started_ms = *started_ms;
                    }
                    activity.request_id.clone_from(request_id);
                    activity.identity.clone_from(identity);
                    activity.last_heartbeat_ms = 0;
                    activity.not_before_ms = 0;
                });
            }
            Event::ActivityRetryScheduled { scheduled_event_id, now_ms, not_before_ms, failure } => {
                self.change_activity(*scheduled_event_id, |activity| {
                    activity.attempt += 1;
                    activity.last_identity = std::mem::take(&mut activity.identity);
                    activity.last_attempt_complete_ms = *now_ms;
                    activity.attempt_scheduled_ms = *not_before_ms;
                    activity.not_before_ms = *not_before_ms;
                    activity.started_ms = 0;
                    activity.request_id.clear();
                    activity.last_failure = failure.as_deref().cloned();
                });
            }
            Event::ActivityAttemptReturned { scheduled_event_id } => {
                self.change_activity(*scheduled_event_id, |activity| {
                    activity.started_ms = 0;
                    activity.request_id.clear();
                })
            }
            Event::ActivityHeartbeatRecorded { scheduled_event_id, now_ms, details, identity } => {
                self.change_activity(*scheduled_event_id, |activity| {
                    activity.last_heartbeat_ms = *now_ms;
                    activity.heartbeat_details.clone_from(details);
                    if !identity.is_empty() {
                        activity.last_identity.clone_from(identity);
                    }
                });
            }
            Event::RequestSeen { request_id, now_ms } => {
                self.note_request(request_id, state::RequestId { seen_ms: *now_ms, ..state::RequestId::default() });
            }
            Event::DeletionScheduled { delete_ms } => self.head_mut().delete_ms = *delete_ms,
        }
    }
}
