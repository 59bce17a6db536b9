//! What decided events of batches mean for the metrics, and for whoever lists their pages.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Node;
use crate::engine::batch::Event;
use crate::engine::{EntityId, Events, RunOutcome};
use crate::metrics;

/// The batches of a node's partitions that want a page, in the order in which they asked. Nothing is lost with it: a page that does
/// not come is wanted again.
#[derive(Clone, Default)]
pub struct WantedPages(Arc<Shared>);

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    added: Notify,
}

#[derive(Default)]
struct Wanted {
    waiting: VecDeque<EntityId>,
    known: HashMap<EntityId, Stage>,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Waiting,
    Taken,
    /// It asked once more since it was taken.
    TakenAndWanted,
}

/// A batch that was taken: until this is dropped, it is not taken again.
pub struct TakenBatch {
    batch: EntityId,
    from: WantedPages,
}

impl WantedPages {
    fn add(&self, batch: EntityId) {
        self.with(|wanted| {
            let stage = match wanted.known.get(&batch) {
                None | Some(Stage::Waiting) => Stage::Waiting,
                Some(Stage::Taken | Stage::TakenAndWanted) => Stage::TakenAndWanted,
            };
            if wanted.known.insert(batch.clone(), stage).is_none() {
                wanted.waiting.push_back(batch);
            }
        });
        self.0.added.notify_one();
    }

    /// The first of them, if there is one now.
    pub fn take(&self) -> Option<TakenBatch> {
        let batch = self.with(|wanted| {
            let batch = wanted.waiting.pop_front()?;
            wanted.known.insert(batch.clone(), Stage::Taken);
            Some(batch)
        })?;
        Some(TakenBatch { batch, from: self.clone() })
    }

    /// The next one. For one caller at a time.
    pub async fn next(&self) -> TakenBatch {
        loop {
            if let Some(batch) = self.take() {
                return batch;
            }
            self.0.added.notified().await;
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Wanted) -> T) -> T {
        change(&mut self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Deref for TakenBatch {
    type Target = EntityId;

    fn deref(&self) -> &EntityId {
        &self.batch
    }
}

impl Drop for TakenBatch {
    fn drop(&mut self) {
        let stage = self.from.with(|wanted| wanted.known.remove(&self.batch));
        if stage == Some(Stage::TakenAndWanted) {
            self.from.add(self.batch.clone());
        }
    }
}

/// Looks at what one decision did to an entity, if that is a batch.
pub fn observe(node: &Node, key: &EntityId, changed: &RunOutcome) {
    let Events::Batch(events) = &changed.events else { return };
    let namespace = changed.run.header().namespace;
    for event in events {
        match event {
            Event::PageWanted { .. } => node.wanted_pages.add(key.clone()),
            Event::PageAdded { failed, .. } if *failed > 0 => {
                metrics::batch_operations(namespace, "failed", failed.unsigned_abs());
            }
            Event::Applied { succeeded, .. } => {
                metrics::batch_operations(namespace, if *succeeded { "succeeded" } else { "failed" }, 1);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_take_turns_and_none_is_listed_twice_at_a_time() {
        let wanted = WantedPages::default();
        let add = |id: &str| wanted.add(EntityId::batch("n", id));
        let taken = || wanted.take().expect("one is wanted");
        ["b", "a", "b"].into_iter().for_each(add);
        let first = taken();
        let second = taken();
        assert_eq!((&*first.id, &*second.id), ("b", "a"));
        ["c", "b", "b"].into_iter().for_each(add);
        assert_eq!(&*taken().id, "c");
        assert!(wanted.take().is_none(), "the others are being listed");
        drop((second, first));
        assert_eq!(&*taken().id, "b", "it asked again meanwhile");
        assert!(wanted.take().is_none());
        add("a");
        assert_eq!(&*taken().id, "a");
    }
}
