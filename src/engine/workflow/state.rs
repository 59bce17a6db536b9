//! The state of one run, and how events change it.
//!
//! Copies are cheap (the maps share structure), so a decision works on a copy and a refused one leaves nothing behind.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use prost::Message;

use super::updates::Updates;
use super::{deadlines, workflow_task};
use crate::engine::machine::{Agenda, Recorded, Tally, Unreadable};
use crate::engine::sub_key::SubKey;
use crate::proto::state;
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;
use crate::proto::temporal::history::v1::HistoryEvent;

/// The event id of an event that has none yet, as Temporal's server has it.
pub const BUFFERED_EVENT_ID: i64 = -123;

/// The letters of a run's records.
pub mod part {
    pub const PROPERTIES: u8 = b'p';
    pub const START: u8 = b's';
    /// An event that waits for the started workflow task to end, by the order in which it came.
    pub const BUFFERED: u8 = b'b';
    pub const ACTIVITY: u8 = b'a';
    pub const TIMER: u8 = b'T';
    pub const CHILD: u8 = b'c';
    pub const EXTERNAL: u8 = b'x';
    pub const REQUEST: u8 = b'Q';
    pub const UPDATE: u8 = b'U';
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
    Update(Arc<state::Update>),
}

impl Recorded for Record {
    fn encode(&self) -> Bytes {
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
            Self::Update(update) => update.encode_to_vec(),
        }
        .into()
    }

    fn encoded_len(&self) -> usize {
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
            Self::Update(update) => update.encoded_len(),
        }
    }

    fn agenda(&self) -> Agenda {
        Agenda { due_ms: deadlines::next_due(self), task: deadlines::task(self), is_shared: false }
    }

    fn decode(key: &SubKey, value: Bytes) -> Result<Self, Unreadable> {
        Ok(match key {
            SubKey::Head => Self::Head(Arc::new(Message::decode(value)?)),
            SubKey::One(part::PROPERTIES) => Self::Properties(Arc::new(Message::decode(value)?)),
            SubKey::One(part::START) => Self::Start(Arc::new(Message::decode(value)?)),
            SubKey::Numbered(part::BUFFERED, _) => Self::Buffered(Arc::new(Message::decode(value)?)),
            SubKey::Numbered(part::ACTIVITY, _) => Self::Activity(Arc::new(Message::decode(value)?)),
            SubKey::Named(part::TIMER, _) => Self::Timer(Arc::new(Message::decode(value)?)),
            SubKey::Numbered(part::CHILD, _) => Self::Child(Arc::new(Message::decode(value)?)),
            SubKey::Numbered(part::EXTERNAL, _) => Self::External(Arc::new(Message::decode(value)?)),
            SubKey::Named(part::REQUEST, _) => Self::Request(Message::decode(value)?),
            SubKey::Named(part::UPDATE, _) => Self::Update(Arc::new(Message::decode(value)?)),
            key => return Err(Unreadable::Key(key.clone())),
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
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
    pub updates: Arc<Updates>,
    pub tally: Tally,
}

/// A run that is paused is open too.
pub fn is_open(head: &state::Run) -> bool {
    head.status == Status::Running as i32 || head.status == Status::Paused as i32
}

impl Run {
    pub fn is_open(&self) -> bool {
        is_open(&self.head)
    }

    pub fn status(&self) -> Status {
        Status::try_from(self.head.status).unwrap_or(Status::Unspecified)
    }

    /// The workflow task that a worker is working on.
    pub fn started_task(&self) -> Option<&state::WorkflowTask> {
        self.head.workflow_task.as_ref().filter(|task| workflow_task::is_started(task))
    }

    pub fn head_mut(&mut self) -> &mut state::Run {
        self.tally.changed.insert(SubKey::Head);
        Arc::make_mut(&mut self.head)
    }

    pub(super) fn properties_mut(&mut self) -> &mut state::Properties {
        self.tally.changed.insert(SubKey::One(part::PROPERTIES));
        Arc::make_mut(&mut self.properties)
    }

    /// Drops how the run was started: it is closed, and nothing starts it again.
    pub(super) fn forget_restart(&mut self) {
        if self.start.restart.is_some() {
            Arc::make_mut(&mut self.start).restart = None;
            self.tally.changed.insert(SubKey::One(part::START));
        }
    }

    pub(super) fn add_buffered(&mut self, event: HistoryEvent) {
        let id = self.buffered.get_max().map_or(1, |(last, _)| last + 1);
        self.buffered.insert(id, Arc::new(event));
        self.tally.changed.insert(SubKey::Numbered(part::BUFFERED, id));
    }

    pub(super) fn retain_buffered(&mut self, keep: impl Fn(&HistoryEvent) -> bool) {
        let gone: Vec<i64> = self.buffered.iter().filter(|(_, event)| !keep(event)).map(|(id, _)| *id).collect();
        for id in gone {
            self.buffered.remove(&id);
            self.tally.changed.insert(SubKey::Numbered(part::BUFFERED, id));
        }
    }

    /// Changes a pending activity, if it is still pending.
    pub(super) fn change_activity(&mut self, scheduled_event_id: i64, change: impl FnOnce(&mut state::Activity)) {
        if let Some(activity) = self.activities.get_mut(&scheduled_event_id) {
            change(Arc::make_mut(activity));
            self.tally.changed.insert(SubKey::Numbered(part::ACTIVITY, scheduled_event_id));
        }
    }

    pub(super) fn remove_activity(&mut self, scheduled_event_id: i64) {
        if let Some(activity) = self.activities.remove(&scheduled_event_id) {
            self.activity_ids.remove(&activity.activity_id);
            self.tally.changed.insert(SubKey::Numbered(part::ACTIVITY, scheduled_event_id));
        }
    }

    pub(super) fn updates_mut(&mut self) -> &mut Updates {
        Arc::make_mut(&mut self.updates)
    }

    pub(super) fn note_request(&mut self, request_id: &str, request: state::RequestId) {
        self.requests.insert(request_id.to_owned(), request);
        self.tally.changed.insert(SubKey::Named(part::REQUEST, request_id.to_owned()));
    }

    /// The run that began again from the history of another, as far as this one goes back to it by resets: the latest.
    pub fn reset_of(&self, run_id: &str) -> Option<&str> {
        let from = &self.head.reset_from;
        let place = from.iter().rposition(|from| from.run_id == run_id)?;
        Some(from.get(place + 1).map_or(&self.head.run_id, |next| &next.run_id))
    }

    /// Requests to start the workflow that found this run.
    pub fn attached_requests(&self) -> impl Iterator<Item = (&String, &state::RequestId)> {
        self.requests.iter().filter(|(_, request)| request.event_type != 0)
    }
}
