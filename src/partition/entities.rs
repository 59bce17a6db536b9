//! The entities that a partition has in memory: their newest runs, with the history that they added lately.
//!
//! What is not committed yet stays; the rest makes room, least recently used first. How much memory an entity takes is
//! estimated, whenever one was loaded or its changes were committed.

use std::collections::VecDeque;
use std::sync::Arc;

use hashlink::LinkedHashMap;
use prost::Message as _;

use crate::engine::{EntityId, State};
use crate::proto::temporal::history::v1::HistoryEvent;

/// Batches of history kept in memory for a run once they are committed.
const TAIL_BATCHES: usize = 12;
/// What a record takes beside its fields' contents, and an entity without any. Bytes, measured roughly.
const RECORD_BYTES: usize = 600;
const ENTITY_BYTES: usize = 600;

/// Events that one decision added to a run.
#[derive(Debug)]
pub struct Batch {
    pub first_event_id: i64,
    pub events: Vec<Arc<HistoryEvent>>,
    bytes: usize,
}

/// From how many bytes on a history with which a run begins again is more than one batch: one must fit into a record of the log, in Avro
/// too.
const BATCH_BYTES: usize = 256 * 1024;

impl Batch {
    /// What one decision has added to a run, as batches. `begins_again`: it begins with another run's history. Else it is one batch,
    /// however large: whether that fits into a record decides something.
    pub fn split(mut events: Vec<Arc<HistoryEvent>>, begins_again: bool) -> Vec<Self> {
        if !begins_again {
            return if events.is_empty() { Vec::new() } else { vec![Self::new(events)] };
        }
        let mut batches = Vec::new();
        let mut bytes = 0;
        let mut first = 0;
        let mut ends = Vec::new();
        for (index, event) in events.iter().enumerate() {
            bytes += event.encoded_len();
            if bytes > BATCH_BYTES && index > first {
                ends.push(index);
                (first, bytes) = (index, event.encoded_len());
            }
        }
        for end in ends.into_iter().rev() {
            batches.push(Self::new(events.split_off(end)));
        }
        if !events.is_empty() {
            batches.push(Self::new(events));
        }
        batches.reverse();
        batches
    }

    pub fn new(events: Vec<Arc<HistoryEvent>>) -> Self {
        let first_event_id = events.first().map_or(0, |event| event.event_id);
        let bytes = events.iter().map(|event| size_of::<HistoryEvent>() + event.encoded_len()).sum();
        Self { first_event_id, events, bytes }
    }

    /// Its events as a part of a message.
    pub fn to_events(&self) -> Vec<HistoryEvent> {
        self.events.iter().map(|event| (**event).clone()).collect()
    }

    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A run with its latest history, oldest batch first and without gaps.
#[derive(Clone, Debug)]
pub struct CachedRun {
    pub run: State,
    pub tail: VecDeque<(u64, Arc<Batch>)>,
}

#[derive(Debug, Default)]
pub struct Entity {
    pub newest: Option<CachedRun>,
    /// Runs that were superseded and are not committed yet, with the generation that will commit them.
    pub older: Vec<(u64, CachedRun)>,
    /// Runs whose deletion is not committed yet, with the generation that will commit it: the store still has them.
    pub deleted: Vec<(u64, String)>,
    /// The generation that commits the last change.
    pub generation: u64,
    /// What it takes in memory, as was last estimated.
    bytes: usize,
}

impl CachedRun {
    pub fn new(run: State) -> Self {
        Self { run, tail: VecDeque::new() }
    }

    fn bytes(&self) -> usize {
        let tally = self.run.tally();
        tally.records * RECORD_BYTES + tally.size_bytes + self.tail_bytes()
    }

    fn tail_bytes(&self) -> usize {
        self.tail.iter().map(|(_, batch)| batch.bytes).sum()
    }
}

impl Entity {
    /// As the store has it.
    pub fn loaded(newest: Option<CachedRun>) -> Self {
        Self { newest, ..Self::default() }
    }

    /// The run of this id, or the newest, if it is in memory.
    pub fn find(&self, run_id: &str) -> Option<&CachedRun> {
        match &self.newest {
            Some(newest) if run_id.is_empty() || newest.run.run_id() == run_id => Some(newest),
            _ => self.older.iter().map(|(_, run)| run).find(|run| run.run.run_id() == run_id),
        }
    }

    /// Whether a run was deleted, though the store may still have it.
    pub fn is_deleted(&self, run_id: &str) -> bool {
        self.deleted.iter().any(|(_, deleted)| deleted == run_id)
    }

    /// Evicts what is committed and not likely to be needed.
    pub fn trim(&mut self, committed: u64) {
        self.older.retain(|(generation, _)| *generation > committed);
        self.deleted.retain(|(generation, _)| *generation > committed);
        if let Some(newest) = &mut self.newest {
            while newest.tail.len() > TAIL_BATCHES
                && newest.tail.front().is_some_and(|(generation, _)| *generation <= committed)
            {
                newest.tail.pop_front();
            }
        }
    }
}

/// The cache itself.
#[derive(Default)]
pub struct Entities {
    map: LinkedHashMap<EntityId, Entity>,
    bytes: usize,
    /// What the last eviction left, which may be more than it was to leave.
    left: usize,
}

impl Entities {
    pub fn get(&mut self, key: &EntityId) -> Option<&mut Entity> {
        self.map.to_back(key)
    }

    pub fn peek(&self, key: &EntityId) -> Option<&Entity> {
        self.map.get(key)
    }

    pub fn insert(&mut self, key: EntityId, mut entity: Entity) -> &mut Entity {
        entity.bytes = weigh(&key, &entity);
        self.bytes += entity.bytes;
        let replaced = self.map.insert(key.clone(), entity);
        self.bytes -= replaced.map_or(0, |replaced| replaced.bytes);
        self.map.get_mut(&key).expect("it was just inserted")
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The newest runs, where they are open.
    pub fn open(&self) -> impl Iterator<Item = &State> {
        let newest = self.map.iter().filter_map(|(_, entity)| entity.newest.as_ref());
        newest.map(|newest| &newest.run).filter(|run| run.is_open())
    }

    /// About how much memory they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Evicts what the last commit made durable: all of a closed entity, and old history of others.
    pub fn settle(&mut self, keys: &[EntityId], committed: u64) {
        for key in keys {
            let Some(entity) = self.map.get_mut(key) else { continue };
            self.bytes -= entity.bytes;
            if entity.generation <= committed && entity.newest.as_ref().is_none_or(|newest| !newest.run.is_open()) {
                self.map.remove(key);
            } else {
                entity.trim(committed);
                entity.bytes = weigh(key, entity);
                self.bytes += entity.bytes;
            }
        }
    }

    /// Makes room, if there is more than `max_bytes` and more has come since the last time. What is not committed stays.
    pub fn evict(&mut self, max_bytes: usize, committed: u64) {
        // What could not go the last time is not tried again with every command.
        if self.bytes <= max_bytes.max(self.left + self.left / 8) {
            return;
        }
        for _ in 0..self.map.len() {
            if self.bytes <= max_bytes {
                break;
            }
            match self.map.pop_front() {
                Some((key, entity)) if entity.generation > committed => drop(self.map.insert(key, entity)),
                Some((_, entity)) => self.bytes -= entity.bytes,
                None => break,
            }
        }
        self.left = self.bytes;
    }
}

fn weigh(key: &EntityId, entity: &Entity) -> usize {
    let runs = entity.newest.iter().chain(entity.older.iter().map(|(_, run)| run));
    ENTITY_BYTES + 2 * key.id.len() + runs.map(CachedRun::bytes).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::temporal::common::v1::{Payload, Payloads};
    use crate::proto::temporal::history::v1::{WorkflowExecutionSignaledEventAttributes, history_event::Attributes};

    fn signal(event_id: i64) -> HistoryEvent {
        let payload = Payload { data: vec![7; BATCH_BYTES / 2].into(), ..Payload::default() };
        let attributes = WorkflowExecutionSignaledEventAttributes {
            input: Some(Payloads { payloads: vec![payload] }),
            ..WorkflowExecutionSignaledEventAttributes::default()
        };
        HistoryEvent {
            event_id,
            attributes: Some(Attributes::WorkflowExecutionSignaledEventAttributes(attributes)),
            ..HistoryEvent::default()
        }
    }

    #[test]
    fn only_a_history_with_which_a_run_begins_again_is_more_than_one_batch() {
        let first_ids = |begins_again| -> Vec<i64> {
            let batches = Batch::split((1..=4).map(signal).map(Arc::new).collect(), begins_again);
            assert_eq!(batches.iter().map(|batch| batch.events.len()).sum::<usize>(), 4);
            batches.iter().map(|batch| batch.first_event_id).collect()
        };
        assert_eq!(first_ids(false), [1]);
        assert_eq!(first_ids(true), [1, 2, 3, 4]);
        assert!(Batch::split(Vec::new(), false).is_empty() && Batch::split(Vec::new(), true).is_empty());
    }
}
