//! What a partition's loop owns, and the reads that it serves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::oneshot;

use super::commit::Commits;
use super::copies::{Copies, Part};
use super::entities::{Batch, CachedRun, Entities, Entity};
use super::guard::Guard;
use super::indexes::Indexes;
use super::load::Intake;
use super::outgoing::Outbox;
use super::position::Position;
use super::workflows::{Queries, Updates};
use super::{Decided, Node, Request};
use crate::engine::workflow::Run;
use crate::engine::{EntityId, Histories, Needed, Shared, State, SubKey};
use crate::proto::commands::{Command, command::Body};
use crate::proto::state;
use crate::proto::temporal::history::v1::{History, HistoryEvent};
use crate::store::{self, Store, keys};

/// The state of an owned partition.
pub struct Core {
    pub(super) partition: u32,
    pub(super) node: Arc<Node>,
    pub(super) store: Arc<dyn Store>,
    /// Sends to the partition's own thread.
    pub(super) own: super::Handle,
    pub(super) entities: Entities,
    pub(super) position: Position,
    /// Commands on their way into the log.
    pub(super) intake: Intake,
    /// What of the store's indexes is in memory.
    pub(super) indexes: Indexes,
    /// Sends to other partitions.
    pub(super) outbox: Outbox,
    /// What was decided and is not durable yet.
    pub(super) commits: Commits,
    /// Histories that are being copied.
    pub(super) copies: Copies,
    pub(super) queries: Queries,
    /// Callers of updates that wait.
    pub(super) updates: Updates,
    watchers: HashMap<EntityId, Vec<oneshot::Sender<()>>>,
    pub(super) replaying: bool,
    pub(super) guard: Guard,
    pub(super) set_aside: Vec<state::SetAside>,
}

impl Core {
    pub(super) fn new(partition: u32, node: Arc<Node>, store: Arc<dyn Store>) -> Self {
        let own = node.incarnate(partition);
        let guard = Guard::open(node.stores.note(partition).as_deref());
        Self {
            partition,
            entities: Entities::default(),
            position: Position::default(),
            intake: Intake::default(),
            indexes: Indexes::new(&node.settings),
            outbox: Outbox::default(),
            commits: Commits::default(),
            copies: Copies::default(),
            queries: Queries::new(node.random() >> 1),
            updates: Updates::default(),
            watchers: HashMap::new(),
            replaying: false,
            guard,
            set_aside: Vec::new(),
            node,
            store,
            own,
        }
    }

    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Appends a command to this partition.
    pub fn enqueue(&mut self, namespace: &str, key: &EntityId, body: Body, decided: Option<Decided>) {
        let command = Command {
            kind: key.kind as u32,
            namespace_id: key.namespace_id.to_string(),
            namespace: namespace.to_owned(),
            id: key.id.to_string(),
            seed_high: self.node.random(),
            seed_low: self.node.random(),
            sent_ms: self.node.clock_ms(),
            retention_s: self.node.shared.namespaces.retention_s(&key.namespace_id),
            body: Some(body),
            ..Command::default()
        };
        self.intake.queue.push(Box::new(Request { command, decided, bytes: 0 }));
    }

    /// The entity, from memory or from the store.
    pub(super) fn entity(&mut self, key: &EntityId) -> Result<&mut Entity, store::Error> {
        if self.entities.get(key).is_none() {
            let entity = self.load(key)?;
            self.entities.insert(key.clone(), entity);
        }
        Ok(self.entities.get(key).expect("it was just inserted"))
    }

    fn load(&self, key: &EntityId) -> Result<Entity, store::Error> {
        let Some(bytes) = self.store.get(&keys::entity(key))? else {
            return Ok(Entity::default());
        };
        let entity = state::Entity::decode(bytes).map_err(|error| store::Error::Io(error.to_string()))?;
        let newest = self.load_run(key, &entity.current_run_id)?.map(CachedRun::new);
        Ok(Entity::loaded(newest))
    }

    pub(super) fn load_run(&self, key: &EntityId, run_id: &str) -> Result<Option<State>, store::Error> {
        let prefix = keys::run(key, run_id);
        let mut run = key.kind.empty();
        let mut broken = None;
        self.store.scan(&prefix, &prefix, &mut |key, value| {
            let parsed = keys::parse(key).and_then(|parsed| parsed.record);
            broken = match parsed {
                Some((_, sub_key)) => {
                    let restored = run.restore(sub_key, Bytes::copy_from_slice(value));
                    restored.err().map(|error| error.to_string())
                }
                None => Some(format!("{key:?} is no key of a record")),
            };
            broken.is_none()
        })?;
        if let Some(error) = broken {
            return Err(store::Error::Io(format!("a record of run {run_id} can't be read: {error}")));
        }
        Ok((!run.run_id().is_empty()).then_some(run))
    }

    /// A run of a workflow, as [`state`](Self::state) has it.
    pub fn run(&mut self, key: &EntityId, run_id: &str) -> Result<Option<Run>, store::Error> {
        Ok(self.state(key, run_id)?.and_then(State::into_workflow))
    }

    /// A run of an entity: the newest, if `run_id` is empty. None that is being deleted.
    pub fn state(&mut self, key: &EntityId, run_id: &str) -> Result<Option<State>, store::Error> {
        Ok(self.state_or_remains(key, run_id)?.filter(|run| run.header().deleted_to_event_id == 0))
    }

    /// As [`state`](Self::state), or what is left to be deleted of it.
    pub(super) fn state_or_remains(&mut self, key: &EntityId, run_id: &str) -> Result<Option<State>, store::Error> {
        let entity = self.entity(key)?;
        if let Some(found) = entity.find(run_id) {
            return Ok(Some(found.run.clone()));
        }
        if run_id.is_empty() || entity.is_deleted(run_id) { Ok(None) } else { self.load_run(key, run_id) }
    }

    /// What a command needs of histories, as far as they are there.
    pub(super) fn histories(&mut self, key: &EntityId, needed: Needed) -> Result<Histories, store::Error> {
        let mut histories = Histories::new(needed);
        while let Some((run_id, from)) = histories.next() {
            let run_id = run_id.to_owned();
            if self.state(key, &run_id)?.is_none() {
                break;
            }
            histories.begin();
            self.visit_history(key, &run_id, from, i64::MAX, &mut |event| histories.take(event))?;
        }
        Ok(histories)
    }

    /// The events of a run from `from` up to, not including, `to`: no more than `max_bytes`, but one at least.
    pub fn history(
        &mut self,
        key: &EntityId,
        run_id: &str,
        from: i64,
        to: i64,
        max_bytes: usize,
    ) -> Result<Vec<HistoryEvent>, store::Error> {
        let mut page = Page::new(usize::MAX, max_bytes);
        self.visit_history(key, run_id, from, to, &mut |event| page.add(event))?;
        Ok(page.events)
    }

    /// Visits the events of a run from `from` up to, not including, `to`, until `visit` returns false; those too that are still to be copied
    /// from another run. Returns whether `visit` wants more.
    pub(super) fn visit_history(
        &mut self,
        key: &EntityId,
        run_id: &str,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(&HistoryEvent) -> bool,
    ) -> Result<bool, store::Error> {
        let tail = self.tail(key, run_id)?;
        let Some(copied) = self.copies.part(key, run_id).filter(|copied| from < copied.end) else {
            return self.visit_own(key, run_id, &tail, from..to, visit);
        };
        let Part { next, end, from_run_id: other, uncommitted } = copied;
        Ok(self.visit_own(key, run_id, &uncommitted, from..to.min(next), visit)?
            && (next.max(from) >= end.min(to)
                || self.visit_history(key, &other, from.max(next), to.min(end), visit)?)
            && self.visit_own(key, run_id, &tail, end..to, visit)?)
    }

    /// What a run has added lately, oldest first.
    fn tail(&mut self, key: &EntityId, run_id: &str) -> Result<Vec<Arc<Batch>>, store::Error> {
        let cached = self.entity(key)?.find(run_id);
        Ok(cached.map(|cached| cached.tail.iter().map(|(_, batch)| batch.clone()).collect()).unwrap_or_default())
    }

    /// Visits events that are in the store, or among the batches after those, which are in memory.
    fn visit_own(
        &self,
        key: &EntityId,
        run_id: &str,
        in_memory: &[Arc<Batch>],
        range: Range<i64>,
        visit: &mut dyn FnMut(&HistoryEvent) -> bool,
    ) -> Result<bool, store::Error> {
        let Range { start: from, end: to } = range;
        let mut go_on = true;
        if from >= to {
            return Ok(go_on);
        }
        let mut add = |event: &HistoryEvent| event.event_id < from || event.event_id >= to || visit(event);
        let in_memory_from = in_memory.first().map_or(i64::MAX, |batch| batch.first_event_id);
        if from < in_memory_from {
            let prefix = keys::history(key, run_id);
            let at = keys::history_batch(key, run_id, from);
            let first = self.store.last_at_or_before(&prefix, &at)?.map_or(at, |(key, _)| key);
            self.store.scan(&prefix, &first, &mut |_, value| {
                let Ok(batch) = History::decode(value) else { return false };
                let first_id = batch.events.first().map_or(i64::MAX, |event| event.event_id);
                if first_id >= in_memory_from || first_id >= to {
                    return false;
                }
                go_on = batch.events.iter().all(&mut add);
                go_on
            })?;
        }
        for batch in in_memory {
            if !go_on || batch.first_event_id >= to {
                break;
            }
            go_on = batch.events.iter().all(|event| add(event));
        }
        Ok(go_on)
    }

    /// The events of a run before `end`, the last one first: no more than `max_count` and `max_bytes`, but one at least.
    pub fn history_before(
        &mut self,
        key: &EntityId,
        run_id: &str,
        end: i64,
        max_count: usize,
        max_bytes: usize,
    ) -> Result<Vec<HistoryEvent>, store::Error> {
        let mut page = Page::new(max_count, max_bytes);
        self.visit_before(key, run_id, 1, end, &mut page)?;
        Ok(page.events)
    }

    /// As [`visit_history`](Self::visit_history), the last one first.
    fn visit_before(
        &mut self,
        key: &EntityId,
        run_id: &str,
        from: i64,
        to: i64,
        page: &mut Page,
    ) -> Result<bool, store::Error> {
        let tail = self.tail(key, run_id)?;
        let Some(copied) = self.copies.part(key, run_id).filter(|copied| from < copied.end) else {
            return self.visit_own_before(key, run_id, &tail, from..to, page);
        };
        let Part { next, end, from_run_id: other, uncommitted } = copied;
        Ok(self.visit_own_before(key, run_id, &tail, end..to, page)?
            && (next.max(from) >= end.min(to) || self.visit_before(key, &other, from.max(next), to.min(end), page)?)
            && self.visit_own_before(key, run_id, &uncommitted, from..to.min(next), page)?)
    }

    fn visit_own_before(
        &self,
        key: &EntityId,
        run_id: &str,
        in_memory: &[Arc<Batch>],
        range: Range<i64>,
        page: &mut Page,
    ) -> Result<bool, store::Error> {
        let Range { start: from, end: to } = range;
        let mut add =
            |event: &HistoryEvent, end: i64| event.event_id >= end || event.event_id < from || page.add(event);
        for batch in in_memory.iter().rev().filter(|batch| batch.first_event_id < to) {
            if !batch.events.iter().rev().all(|event| add(event, to)) {
                return Ok(false);
            }
        }
        let mut end = in_memory.first().map_or(to, |first| to.min(first.first_event_id));
        let prefix = keys::history(key, run_id);
        while end > from {
            let at = keys::history_batch(key, run_id, end - 1);
            let Some((_, value)) = self.store.last_at_or_before(&prefix, &at)? else { break };
            let Ok(batch) = History::decode(value) else { break };
            let first = batch.events.first().map_or(1, |event| event.event_id);
            if first >= end {
                break;
            }
            if !batch.events.iter().rev().all(|event| add(event, end)) {
                return Ok(false);
            }
            end = first;
        }
        Ok(true)
    }

    /// One event of a run.
    pub fn history_event(
        &mut self,
        key: &EntityId,
        run_id: &str,
        event_id: i64,
    ) -> Result<Option<HistoryEvent>, store::Error> {
        if let Some(cached) = self.entity(key)?.find(run_id) {
            for (_, batch) in cached.tail.iter().rev() {
                if batch.first_event_id <= event_id {
                    let event = batch.events.get((event_id - batch.first_event_id) as usize);
                    return Ok(event.map(|event| (**event).clone()));
                }
            }
        }
        Ok(self.history(key, run_id, event_id, event_id + 1, usize::MAX)?.into_iter().next())
    }

    /// Is notified of the next change to an entity.
    pub fn watch(&mut self, key: &EntityId) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let watchers = self.watchers.entry(key.clone()).or_default();
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(sender);
        receiver
    }

    pub(super) fn wake_watchers(&mut self, key: &EntityId) {
        for watcher in self.watchers.remove(key).into_iter().flatten() {
            let _ = watcher.send(());
        }
    }

    /// The entities here that every node must know, as they were committed.
    pub(super) fn shared(&mut self) -> Result<BTreeMap<EntityId, Shared>, store::Error> {
        let mut found = BTreeSet::new();
        self.store.scan(keys::SHARED, keys::SHARED, &mut |key, _| {
            found.extend(keys::parse(&key[keys::SHARED.len()..]).map(|parsed| parsed.entity));
            true
        })?;
        let mut shared = BTreeMap::new();
        for id in found {
            let newest = self.entity(&id)?.newest.as_ref();
            if let Some(newest) = newest.and_then(|newest| newest.run.shared()) {
                shared.insert(id, newest);
            }
        }
        Ok(shared)
    }

    /// When a record of a run that is in memory is due, in milliseconds since the Unix epoch.
    pub(super) fn due_ms(&self, key: &EntityId, run_id: &str, sub_key: &SubKey) -> Option<i64> {
        self.entities.peek(key)?.find(run_id)?.run.agenda(sub_key).due_ms
    }
}

/// Events as they are gathered for one answer.
struct Page {
    events: Vec<HistoryEvent>,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
}

impl Page {
    fn new(max_count: usize, max_bytes: usize) -> Self {
        Self { events: Vec::new(), bytes: 0, max_count, max_bytes }
    }

    /// Adds an event, if it fits.
    fn add(&mut self, event: &HistoryEvent) -> bool {
        self.bytes = self.bytes.saturating_add(event.encoded_len());
        let fits = self.events.is_empty() || (self.events.len() < self.max_count && self.bytes <= self.max_bytes);
        if fits {
            self.events.push(event.clone());
        }
        fits
    }
}
