//! Counters: the smallest kind of entity that has all that a kind can have. For the tests alone: builds with debug assertions have it,
//! releases have not. It has requests that are carried out once, a timer, entities that it starts and that notify it, an end, a row in
//! lists, and records that go.

use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use prost::Message;

use super::machine::{Agenda, Header, Machine, Recorded, Shared, Tally, Unreadable};
use super::rejection::Rejection;
use super::row::Row;
use super::sub_key::SubKey;
use super::work::{Reply, Work};
use super::{EntityId, Kind};
use crate::proto::commands::{Closed, Command, FireTimer, Notify, Started, command::Body, notify::Outcome};
use crate::proto::counter::{Add, Head, Request, Start, Tell, tell::What};
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;

/// The letter of the requests that were added.
const REQUEST: u8 = b'Q';

/// One run of a counter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counter {
    pub head: Arc<Head>,
    pub requests: OrdMap<String, Request>,
    tally: Tally,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Began(Box<Head>),
    Added { by: i64, request_id: String },
    Ticked { due_ms: i64 },
    ChildStarted,
    ChildRefused,
    ChildClosed { count: i64 },
    Closed { close_ms: i64, delete_ms: i64 },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Head(Arc<Head>),
    Request(Request),
}

impl Recorded for Record {
    fn decode(key: &SubKey, value: Bytes) -> Result<Self, Unreadable> {
        Ok(match key {
            SubKey::Head => Self::Head(Arc::new(Message::decode(value)?)),
            SubKey::Named(REQUEST, _) => Self::Request(Message::decode(value)?),
            key => return Err(Unreadable::Key(key.clone())),
        })
    }

    fn encode(&self) -> Bytes {
        match self {
            Self::Head(head) => head.encode_to_vec(),
            Self::Request(request) => request.encode_to_vec(),
        }
        .into()
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Head(head) => head.encoded_len(),
            Self::Request(request) => request.encoded_len(),
        }
    }

    fn agenda(&self) -> Agenda {
        let Self::Head(head) = self else { return Agenda::default() };
        let due_ms = if head.close_ms == 0 { head.due_ms } else { head.delete_ms };
        let is_shared = head.deleted_to_event_id == 0;
        Agenda { due_ms: (due_ms > 0).then_some(due_ms), task: None, is_shared }
    }
}

impl Counter {
    fn is_open(&self) -> bool {
        !self.head.run_id.is_empty() && self.head.close_ms == 0
    }

    fn head_mut(&mut self) -> &mut Head {
        self.tally.changed.insert(SubKey::Head);
        Arc::make_mut(&mut self.head)
    }
}

impl Machine for Counter {
    type Event = Event;
    type Record = Record;

    fn decide(work: &mut Work<Self>, command: &Command) -> Result<Reply, Rejection> {
        match &command.body {
            Some(Body::Counter(Tell { what: Some(What::Start(start)) })) => return begin(work, start),
            Some(Body::Counter(Tell { what: Some(What::Add(add)) })) => add_to(work, add)?,
            Some(Body::FireTimer(fired)) => tick(work, fired)?,
            Some(Body::Notify(notify)) => take_notice(work, notify)?,
            _ => return Err(Rejection::InvalidArgument("the command is not one to a counter".into())),
        }
        close_at_goal(work);
        Ok(Reply::Done)
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Began(head) => {
                self.head = Arc::new((**head).clone());
                self.tally.changed.insert(SubKey::Head);
            }
            Event::Added { by, request_id } => {
                self.head_mut().count += by;
                let key = SubKey::Named(REQUEST, request_id.clone());
                self.requests.insert(request_id.clone(), Request { by: *by });
                self.tally.changed.insert(key);
            }
            Event::Ticked { due_ms } => {
                let head = self.head_mut();
                (head.due_ms, head.count, head.ticks) = (*due_ms, head.count + 1, head.ticks + 1);
            }
            Event::ChildStarted => self.head_mut().children_started += 1,
            Event::ChildRefused => self.head_mut().children_refused += 1,
            Event::ChildClosed { count } => {
                let head = self.head_mut();
                (head.count, head.children_closed) = (head.count + count, head.children_closed + 1);
            }
            Event::Closed { close_ms, delete_ms } => {
                let head = self.head_mut();
                (head.close_ms, head.delete_ms, head.due_ms) = (*close_ms, *delete_ms, 0);
            }
        }
        self.head_mut().revision += 1;
    }

    fn end_too_large(work: &mut Work<Self>, _: &'static str) {
        close(work);
    }

    fn row(&self) -> Option<Row> {
        let head = &self.head;
        let status = if head.close_ms == 0 { Status::Running } else { Status::Completed };
        Some(Row {
            kind: Kind::Counter as u32,
            namespace_id: head.namespace_id.clone(),
            workflow_id: head.id.clone(),
            run_id: head.run_id.clone(),
            workflow_type: "Counter".into(),
            status: status as i32,
            start_time_ms: head.start_ms,
            execution_time_ms: head.start_ms,
            close_time_ms: (head.close_ms > 0).then_some(head.close_ms),
            state_transition_count: head.count,
            ..Row::default()
        })
    }

    fn has_agenda(key: &SubKey) -> bool {
        *key == SubKey::Head
    }

    fn shared(&self) -> Option<Shared> {
        let revision = self.head.revision;
        (revision > 0).then(|| Shared { revision, value: self.head.encode_to_vec().into() })
    }

    fn header(&self) -> Header<'_> {
        Header {
            run_id: &self.head.run_id,
            namespace: &self.head.namespace,
            is_open: self.is_open(),
            task_queue: "",
            delete_ms: self.head.delete_ms,
            deleted_to_event_id: self.head.deleted_to_event_id,
        }
    }

    fn mark_deleted(&mut self, deleted_to_event_id: i64, delete_ms: i64) {
        let head = self.head_mut();
        (head.deleted_to_event_id, head.delete_ms) = (deleted_to_event_id, delete_ms);
    }

    fn record(&self, key: &SubKey) -> Option<Record> {
        match key {
            SubKey::Head => Some(Record::Head(self.head.clone())),
            SubKey::Named(REQUEST, id) => self.requests.get(id).cloned().map(Record::Request),
            _ => None,
        }
    }

    fn restore(&mut self, key: SubKey, record: Record) {
        match (key, record) {
            (SubKey::Named(_, id), Record::Request(request)) => drop(self.requests.insert(id, request)),
            (_, Record::Head(head)) => self.head = head,
            (key, record) => unreachable!("a record of another kind stands under {key:?}: {record:?}"),
        }
    }

    fn forget(&mut self, key: &SubKey) {
        if let SubKey::Named(_, id) = key {
            self.requests.remove(id);
        }
    }

    fn keys(&self) -> OrdSet<SubKey> {
        let requests = self.requests.keys().map(|id| SubKey::Named(REQUEST, id.clone()));
        std::iter::once(SubKey::Head).chain(requests).collect()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

fn begin(work: &mut Work<Counter>, start: &Start) -> Result<Reply, Rejection> {
    let head = &work.run().head;
    if work.run().is_open() {
        return Err(Rejection::AlreadyStarted {
            message: format!("counter {} counts already", work.entity.id),
            start_request_id: String::new(),
            run_id: head.run_id.clone(),
            first_run_id: head.run_id.clone(),
        });
    }
    let before = head.revision;
    if !head.run_id.is_empty() {
        work.next_run();
    }
    let run_id = work.new_run_id();
    let head = Head {
        namespace_id: work.entity.namespace_id.to_string(),
        namespace: work.namespace.clone(),
        id: work.entity.id.to_string(),
        run_id: run_id.clone(),
        goal: start.goal,
        tick_ms: start.tick_ms,
        due_ms: if start.tick_ms > 0 { work.now + start.tick_ms } else { 0 },
        start_ms: work.now,
        callback: work.callback.clone(),
        children: start.children.len() as i64,
        revision: work.revision_after(before) - 1,
        ..Head::default()
    };
    work.emit(Event::Began(Box::new(head)));
    work.notify_sender(Outcome::Started(Started::default()));
    for child in &start.children {
        let callback = work.callback_to_this(run_id.clone().into_bytes());
        let start = Start { goal: start.children_goal, ..Start::default() };
        let to = EntityId::new(Kind::Counter, &work.entity.namespace_id, child);
        let namespace = work.namespace.clone();
        work.send_for(callback, to, &namespace, Body::Counter(Tell { what: Some(What::Start(start)) }));
    }
    Ok(Reply::Started { run_id, started: true, eager_task: false })
}

fn add_to(work: &mut Work<Counter>, Add { by, request_id }: &Add) -> Result<(), Rejection> {
    if work.run().requests.contains_key(request_id) {
        return Ok(());
    }
    open(work)?;
    work.emit(Event::Added { by: *by, request_id: request_id.clone() });
    Ok(())
}

fn open(work: &Work<Counter>) -> Result<(), Rejection> {
    if work.run().is_open() { Ok(()) } else { Err(Rejection::NotFound(format!("{} does not count", work.entity.id))) }
}

fn tick(work: &mut Work<Counter>, fired: &FireTimer) -> Result<(), Rejection> {
    open(work)?;
    work.expect_due(fired, work.run().head.due_ms)?;
    let due_ms = work.now + work.run().head.tick_ms;
    work.emit(Event::Ticked { due_ms });
    Ok(())
}

fn take_notice(work: &mut Work<Counter>, notify: &Notify) -> Result<(), Rejection> {
    open(work)?;
    if notify.token != work.run().head.run_id {
        return Err(Rejection::NotFound("the run that began it is closed".into()));
    }
    match &notify.outcome {
        Some(Outcome::Started(_)) => work.emit(Event::ChildStarted),
        Some(Outcome::Refused(_)) => work.emit(Event::ChildRefused),
        Some(Outcome::Closed(Closed { result, .. })) => {
            let count = result.as_ref().try_into().map_or(0, i64::from_be_bytes);
            work.emit(Event::ChildClosed { count });
        }
        Some(Outcome::Done(_)) | None => {}
    }
    Ok(())
}

fn close_at_goal(work: &mut Work<Counter>) {
    let head = &work.run().head;
    if work.run().is_open() && head.goal > 0 && head.count >= head.goal {
        close(work);
    }
}

fn close(work: &mut Work<Counter>) {
    let head = work.run().head.clone();
    let (close_ms, delete_ms) = (work.now, work.delete_ms());
    work.emit(Event::Closed { close_ms, delete_ms });
    if let Some(callback) = &head.callback {
        let result = Bytes::copy_from_slice(&head.count.to_be_bytes());
        work.notify(callback, &head.run_id, Outcome::Closed(Closed { result, ..Closed::default() }));
    }
}

#[cfg(test)]
mod tests;
