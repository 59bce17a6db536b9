//! What decided events of batches mean for the metrics, and for whoever lists their pages.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::Node;
use crate::engine::batch::Event;
use crate::engine::{EntityId, Events, RunOutcome};
use crate::metrics;

/// The batches of a node's partitions that want a page and were not [taken](Self::next) yet. Nothing is lost with it: a page that does
/// not come is wanted again.
#[derive(Default)]
pub struct WantedPages {
    batches: Mutex<BTreeSet<EntityId>>,
    added: Notify,
}

impl WantedPages {
    fn add(&self, batch: EntityId) {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).insert(batch);
        self.added.notify_one();
    }

    /// One of them, if there is one now.
    pub fn take(&self) -> Option<EntityId> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    /// The next one. For one caller at a time.
    pub async fn next(&self) -> EntityId {
        loop {
            if let Some(batch) = self.take() {
                return batch;
            }
            self.added.notified().await;
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
