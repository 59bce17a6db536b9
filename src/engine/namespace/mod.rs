//! Namespaces: `PutNamespace` registers one, `UpdateNamespace` changes it, and `ChangeSearchAttributes` its search attributes.
//!
//! A namespace is named by its name, and its id is that of its only run. Every node must know of it: see [`Machine::shared`].

pub mod search_attributes;

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdSet;
use prost::Message;

use self::search_attributes::merge_aliases;
use super::machine::{Agenda, Header, Machine, Recorded, Shared, Tally, Unreadable};
use super::rejection::Rejection;
use super::row::Row;
use super::sub_key::SubKey;
use super::work::{Reply, Work};
use crate::proto::commands::{Command, PutNamespace, UpdateNamespace, command::Body};
use crate::proto::state;
use crate::proto::temporal::enums::v1::NamespaceState;
use crate::types::{limits, time::duration_ms};

/// The state of a namespace: one record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    pub head: Arc<state::Namespace>,
    tally: Tally,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Registered(Box<state::Namespace>),
    Changed(Box<state::Namespace>),
}

/// The head, which is all.
#[derive(Clone, Debug, PartialEq)]
pub struct Record(Arc<state::Namespace>);

impl Recorded for Record {
    fn decode(key: &SubKey, value: Bytes) -> Result<Self, Unreadable> {
        match key {
            SubKey::Head => Ok(Self(Arc::new(Message::decode(value)?))),
            key => Err(Unreadable::Key(key.clone())),
        }
    }

    fn encode(&self) -> Bytes {
        self.0.encode_to_vec().into()
    }

    fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    fn agenda(&self) -> Agenda {
        Agenda { is_shared: true, ..Agenda::default() }
    }
}

impl Machine for Namespace {
    type Event = Event;
    type Record = Record;

    fn decide(work: &mut Work<Self>, command: &Command) -> Result<Reply, Rejection> {
        let present = work.run().present();
        let mut decided = match &command.body {
            Some(Body::PutNamespace(put)) => register(present, &work.entity.id, put)?,
            Some(Body::UpdateNamespace(update)) => change(present, update)?,
            Some(Body::ChangeSearchAttributes(change)) => {
                let present = present.ok_or_else(|| Rejection::NamespaceNotFound(work.entity.id.to_string()))?;
                search_attributes::change(present, change)?
            }
            _ => return Err(Rejection::InvalidArgument("the command is not one to a namespace".into())),
        };
        let is_new = present.is_none();
        decided.revision = work.revision_after(work.run().head.revision);
        let decided = Box::new(decided);
        work.emit(if is_new { Event::Registered(decided) } else { Event::Changed(decided) });
        Ok(Reply::Done)
    }

    fn apply(&mut self, event: &Event) {
        let (Event::Registered(namespace) | Event::Changed(namespace)) = event;
        self.head = Arc::new((**namespace).clone());
        self.tally.changed.insert(SubKey::Head);
    }

    /// Its own decisions keep it far below the limit of all states.
    fn end_too_large(_: &mut Work<Self>, _: &'static str) {}

    const ROW: &'static [SubKey] = &[];

    fn row(&self) -> Option<Row> {
        None
    }

    fn shared(&self) -> Option<Shared> {
        self.present().map(|head| Shared { revision: head.revision, value: head.encode_to_vec().into() })
    }

    fn header(&self) -> Header<'_> {
        let Some(head) = self.present() else { return Header::default() };
        Header { run_id: &head.id, namespace: &head.name, is_open: true, ..Header::default() }
    }

    /// It never closes.
    fn mark_deleted(&mut self, _: i64, _: i64) {}

    fn record(&self, key: &SubKey) -> Option<Record> {
        (*key == SubKey::Head).then(|| Record(self.head.clone()))
    }

    fn restore(&mut self, _: SubKey, Record(head): Record) {
        self.head = head;
    }

    fn forget(&mut self, _: &SubKey) {}

    fn keys(&self) -> OrdSet<SubKey> {
        OrdSet::unit(SubKey::Head)
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

impl Namespace {
    fn present(&self) -> Option<&state::Namespace> {
        (!self.head.id.is_empty()).then_some(&*self.head)
    }
}

fn register(
    present: Option<&state::Namespace>,
    name: &str,
    command: &PutNamespace,
) -> Result<state::Namespace, Rejection> {
    let asked = command.namespace.clone().unwrap_or_default();
    for (what, value) in [("Namespace name", &asked.name), ("Namespace id", &asked.id)] {
        if value.is_empty() {
            return Err(Rejection::InvalidArgument(format!("{what} is not set on request.")));
        }
    }
    if asked.name != name {
        let message = format!("a namespace of the name {} is not registered as {name}", asked.name);
        return Err(Rejection::InvalidArgument(message));
    }
    if present.is_some() {
        return Err(Rejection::NamespaceAlreadyExists("Namespace already exists.".into()));
    }
    check_size(asked)
}

/// What the request leaves out stays as it is.
fn change(present: Option<&state::Namespace>, command: &UpdateNamespace) -> Result<state::Namespace, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let mut namespace = present.cloned().ok_or(Rejection::NamespaceNotFound(request.namespace))?;
    if let Some(info) = request.update_info {
        if !info.description.is_empty() {
            namespace.description = info.description;
        }
        if !info.owner_email.is_empty() {
            namespace.owner_email = info.owner_email;
        }
        namespace.data.extend(info.data);
        if info.state != 0 && info.state != namespace.state {
            use NamespaceState::{Deleted, Deprecated, Registered};
            let ends = match NamespaceState::try_from(namespace.state) {
                Ok(Registered) => [Deprecated as i32, Deleted as i32].contains(&info.state),
                Ok(Deprecated) => info.state == Deleted as i32,
                _ => false,
            };
            if !ends {
                return Err(Rejection::InvalidArgument("Invalid namespace state update.".into()));
            }
            namespace.state = info.state;
        }
    }
    if let Some(config) = request.config {
        if config.workflow_execution_retention_ttl.is_some() {
            namespace.retention_ms = duration_ms(config.workflow_execution_retention_ttl.as_ref());
        }
        let update = config.custom_search_attribute_aliases;
        merge_aliases(&mut namespace.custom_search_attribute_aliases, update)?;
    }
    check_size(namespace)
}

/// Data grows by merging, and is one record.
fn check_size(namespace: state::Namespace) -> Result<state::Namespace, Rejection> {
    let (size, limit) = (namespace.encoded_len(), limits::NAMESPACE_SIZE_MAX);
    if size > limit {
        return Err(Rejection::InvalidArgument(format!(
            "namespace {} comes to {size} bytes, and the limit is {limit}: give it less data",
            namespace.name
        )));
    }
    Ok(namespace)
}

#[cfg(test)]
mod tests;
