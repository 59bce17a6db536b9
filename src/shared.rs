//! The entities that every node knows, namespaces for example: copies, for the edges, of what their partitions have decided.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use prost::Message as _;

use crate::engine::{EntityId, Kind, Shared};
use crate::proto::state::Namespace;
use crate::types::limits;

/// Read often, written rarely.
#[derive(Default)]
pub struct SharedEntities {
    newest: Mutex<HashMap<EntityId, Shared>>,
    pub namespaces: Namespaces,
}

impl SharedEntities {
    /// Takes an entity over, unless a later revision of it is known: that is returned then. An error: it can't be read.
    pub fn put(&self, id: &EntityId, shared: &Shared) -> Result<Option<Shared>, prost::DecodeError> {
        let mut newest = self.newest.lock().expect("no code panics while it holds the shared entities");
        if let Some(known) = newest.get(id).filter(|known| known.revision > shared.revision) {
            return Ok(Some(known.clone()));
        }
        if id.kind == Kind::Namespace {
            self.namespaces.put(Namespace::decode(shared.value.clone())?);
        }
        newest.insert(id.clone(), shared.clone());
        Ok(None)
    }
}

#[derive(Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Namespace>>,
    by_id: BTreeMap<String, Arc<Namespace>>,
}

/// The namespaces, by name and by id.
#[derive(Default)]
pub struct Namespaces(ArcSwap<Known>);

impl Namespaces {
    fn put(&self, namespace: Namespace) {
        let namespace = Arc::new(namespace);
        self.0.rcu(|known| {
            let mut next = Known { by_name: known.by_name.clone(), by_id: known.by_id.clone() };
            next.by_name.insert(namespace.name.clone(), namespace.clone());
            next.by_id.insert(namespace.id.clone(), namespace.clone());
            next
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_revision_holds_and_what_can_not_be_read_changes_nothing() {
        let known = SharedEntities::default();
        let id = EntityId::namespace("orders");
        let shared = |revision: i64| {
            let namespace = Namespace { id: "id".into(), name: "orders".into(), revision, ..Namespace::default() };
            Shared { revision, value: namespace.encode_to_vec().into() }
        };
        assert_eq!(known.put(&id, &shared(2)), Ok(None));
        assert_eq!(known.put(&id, &shared(1)), Ok(Some(shared(2))));
        assert!(known.put(&id, &Shared { revision: 3, value: "?".into() }).is_err());
        assert_eq!(known.put(&id, &shared(1)), Ok(Some(shared(2))), "what can't be read is not taken over");
        for found in [known.namespaces.by_name("orders"), known.namespaces.by_id("id")] {
            assert_eq!(found.expect("it is known").revision, 2);
        }
        assert_eq!(known.put(&id, &shared(3)), Ok(None));
        assert_eq!(known.namespaces.all().len(), 1);
        assert_eq!(known.namespaces.all()[0].revision, 3);
    }
}
