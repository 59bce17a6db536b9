//! The namespaces that this node knows: a copy, for the edges, of what the partitions have decided.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::proto::state::Namespace;
use crate::types::limits;

#[derive(Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Namespace>>,
    by_id: BTreeMap<String, Arc<Namespace>>,
}

/// Read often, written rarely.
#[derive(Default)]
pub struct Namespaces(ArcSwap<Known>);

impl Namespaces {
    /// Takes a namespace over, unless a later version is known.
    pub fn put(&self, namespace: Namespace) {
        let namespace = Arc::new(namespace);
        self.0.rcu(|known| {
            if known.by_name.get(&namespace.name).is_some_and(|known| known.version > namespace.version) {
                return known.clone();
            }
            let mut next = Known { by_name: known.by_name.clone(), by_id: known.by_id.clone() };
            next.by_name.insert(namespace.name.clone(), namespace.clone());
            next.by_id.insert(namespace.id.clone(), namespace.clone());
            Arc::new(next)
        });
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<Namespace>> {
        self.0.load().by_name.get(name).cloned()
    }

    pub fn by_id(&self, id: &str) -> Option<Arc<Namespace>> {
        self.0.load().by_id.get(id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Namespace>> {
        self.0.load().by_name.values().cloned().collect()
    }

    /// How long a namespace keeps closed runs, in seconds.
    pub fn retention_s(&self, id: &str) -> i64 {
        self.by_id(id).map_or(limits::RETENTION_S_DEFAULT, |namespace| (namespace.retention_ms / 1000).max(1))
    }
}
