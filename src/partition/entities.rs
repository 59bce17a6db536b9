//! The workflows that a partition has in memory: their newest runs, with the history that they added lately.
//!
//! What is not committed yet stays; the rest makes room, least recently used first.

use std::collections::VecDeque;
use std::sync::Arc;

use hashlink::LinkedHashMap;

use crate::engine::Run;
use crate::proto::temporal::history::v1::HistoryEvent;

/// Batches of history kept in memory for a run once they are committed.
const TAIL_BATCHES: usize = 12;

/// Names a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey {
    pub namespace_id: Arc<str>,
    pub workflow_id: Arc<str>,
}

impl EntityKey {
    pub fn new(namespace_id: &str, workflow_id: &str) -> Self {
        Self { namespace_id: namespace_id.into(), workflow_id: workflow_id.into() }
    }
}

/// Events that one decision added to a run.
#[derive(Debug)]
pub struct Batch {
    pub first_event_id: i64,
    pub events: Vec<HistoryEvent>,
}

/// A run with its latest history, oldest batch first and without gaps.
#[derive(Clone, Debug, Default)]
pub struct CachedRun {
    pub run: Run,
    pub tail: VecDeque<(u64, Arc<Batch>)>,
}

#[derive(Debug, Default)]
pub struct Entity {
    pub newest: Option<CachedRun>,
    /// Runs that were superseded and are not committed yet, with the generation that will commit them.
    pub older: Vec<(u64, CachedRun)>,
    /// The generation that commits the last change.
    pub generation: u64,
}

impl Entity {
    /// The run of this id, or the newest, if it is in memory.
    pub fn find(&self, run_id: &str) -> Option<&CachedRun> {
        match &self.newest {
            Some(newest) if run_id.is_empty() || newest.run.head.run_id == run_id => Some(newest),
            _ => self.older.iter().map(|(_, run)| run).find(|run| run.run.head.run_id == run_id),
        }
    }

    /// Lets go of what is committed and not likely to be asked for.
    pub fn trim(&mut self, committed: u64) {
        self.older.retain(|(generation, _)| *generation > committed);
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
    map: LinkedHashMap<EntityKey, Entity>,
}

impl Entities {
    pub fn get(&mut self, key: &EntityKey) -> Option<&mut Entity> {
        self.map.to_back(key)
    }

    pub fn peek(&self, key: &EntityKey) -> Option<&Entity> {
        self.map.get(key)
    }

    pub fn insert(&mut self, key: EntityKey, entity: Entity) -> &mut Entity {
        self.map.insert(key.clone(), entity);
        self.map.get_mut(&key).expect("it was just inserted")
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Lets go of what the last commit made durable: all of a closed workflow, and old history of others.
    pub fn settle(&mut self, keys: &[EntityKey], committed: u64) {
        for key in keys {
            let Some(entity) = self.map.get_mut(key) else { continue };
            if entity.generation <= committed && entity.newest.as_ref().is_none_or(|newest| !newest.run.is_open()) {
                self.map.remove(key);
            } else {
                entity.trim(committed);
            }
        }
    }

    /// Makes room: at most `max` entities stay, but none goes that is not committed.
    pub fn evict(&mut self, max: usize, committed: u64) {
        let mut tries = self.map.len().saturating_sub(max);
        while tries > 0 {
            tries -= 1;
            match self.map.pop_front() {
                Some((key, entity)) if entity.generation > committed => drop(self.map.insert(key, entity)),
                Some(_) => {}
                None => break,
            }
        }
    }
}
