//! `control`: what each node publishes to all others: the owner of a partition, its address, and the entities that every node
//! must know, such as namespaces.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use super::Cluster;
use crate::engine::{EntityId, Kind, Shared};
use crate::log::{Error, Isolation, Record, Stored, Topic};
use crate::partition::Node;
use crate::proto::cluster::{Node as NodeRecord, Owner, Published};

const OWNER: &str = "owner/";
const ENTITY: &str = "entity/";
const NODE: &str = "node/";
/// What a node appends to find the end of `control`: readers ignore it, and compaction removes it.
const BARRIER: &str = "barrier/";
/// How long a caller waits until `control` is read to its end.
const CATCH_UP_WAIT_MAX: Duration = Duration::from_secs(3);
/// An append or a read that failed is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Starts the thread that reads `control`, for as long as the node is there.
pub fn start(cluster: &Arc<Cluster>, node: &Arc<Node>) -> std::io::Result<()> {
    let (cluster, node) = (Arc::downgrade(cluster), Arc::downgrade(node));
    let work = move || {
        while node.strong_count() > 0 {
            if let Err(error) = read(&cluster, &node) {
                tracing::warn!("the topic control can't be read, which is tried again: {error}");
                std::thread::sleep(RETRY_AFTER);
            }
        }
    };
    std::thread::Builder::new().name("control".into()).spawn(work).map(drop)
}

fn read(cluster: &Weak<Cluster>, node: &Weak<Node>) -> Result<(), Error> {
    let (end, mut reader) = {
        let Some(node) = node.upgrade() else { return Ok(()) };
        let Some(cluster) = cluster.upgrade() else { return Ok(()) };
        let start = node.log.start_offset(Topic::Control, 0)?;
        let end = cluster.end_of_control()?;
        (end, node.log.reader(Topic::Control, 0, start, Isolation::ReadUncommitted)?)
    };
    let mut next = 0;
    loop {
        if next >= end
            && let Some(cluster) = cluster.upgrade()
        {
            cluster.caught_up.store(true, Ordering::Release);
        }
        let read = reader.next(1000, Duration::from_secs(1))?;
        next = read.next_offset.max(next);
        let (Some(cluster), Some(node)) = (cluster.upgrade(), node.upgrade()) else { return Ok(()) };
        for stored in read.records {
            if let Err(reason) = cluster.apply_record(&node, &stored) {
                tracing::warn!(offset = stored.offset, "a record of control is left out: {reason}");
            }
        }
        cluster.read_to.fetch_max(next, Ordering::AcqRel);
    }
}

impl Cluster {
    /// The offset after a record of this node's own, one for all concurrent callers: what was published before stands before it.
    /// The end offset of a broker would not do, as one that was paused may report an old one, and a namespace that is not found
    /// is refused for good.
    fn end_of_control(&self) -> Result<i64, Error> {
        let asked = self.ends_asked.load(Ordering::Acquire);
        let mut end = self.end.lock().expect("no code panics while it holds the end");
        if end.0 > asked {
            return Ok(end.1);
        }
        let asked = self.ends_asked.fetch_add(1, Ordering::AcqRel) + 1;
        let nothing = Record { key: format!("{BARRIER}{}", self.node_id).into(), value: None, headers: Vec::new() };
        let appended = self.log.append_and_wait(Topic::Control, 0, vec![nothing])?;
        match appended.first() {
            Some(at) if at.offset >= 0 => {
                *end = (asked, at.offset + 1);
                Ok(end.1)
            }
            _ => Err(Error::Unavailable("the log returned no offset for a record of control".into())),
        }
    }

    /// Returns once what stood on `control` when this was called is known here.
    pub(super) fn catch_up_with_control(&self) -> Result<(), String> {
        let end = self.end_of_control().map_err(|error| error.to_string())?;
        let begun = Instant::now();
        while self.read_to.load(Ordering::Acquire) < end {
            if begun.elapsed() > CATCH_UP_WAIT_MAX {
                return Err("the topic control is not read to its end".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn apply_record(self: &Arc<Self>, node: &Node, stored: &Stored) -> Result<(), String> {
        let key = std::str::from_utf8(&stored.record.key).map_err(|error| error.to_string())?;
        let Some(value) = stored.record.value.clone() else { return Ok(()) };
        if let Some(partition) = key.strip_prefix(OWNER) {
            let partition: u32 = partition.parse().map_err(|_| format!("no partition: {key}"))?;
            let owner = Owner::decode(value).map_err(|error| error.to_string())?;
            let late = self.is_superseded(partition, owner.generation);
            let address = owner.address.as_str().into();
            if self.note(partition, owner) {
                node.matching.is_new(&address);
            } else if late && self.owner(partition).is_none() {
                // It came after what this node published: compaction would keep the wrong one.
                self.publish_owner_again(partition);
            }
        } else if let Some(id) = key.strip_prefix(NODE) {
            let node = NodeRecord::decode(value).map_err(|error| error.to_string())?;
            self.versions.set(id, node.fold_version_max);
        } else if key.starts_with(ENTITY) {
            let Published { kind, namespace_id, id, revision, value } =
                Published::decode(value).map_err(|error| error.to_string())?;
            // Of a kind that only newer nodes know, and serve.
            let Some(kind) = Kind::of(kind) else { return Ok(()) };
            let id = EntityId::new(kind, &namespace_id, &id);
            let newer = node.shared.put(&id, &Shared { revision, value }).map_err(|error| error.to_string())?;
            let mut published = self.published();
            let highest = published.entry(id.clone()).or_insert(revision);
            *highest = revision.max(*highest);
            drop(published);
            // It came after a later one: compaction would keep the wrong one.
            if let Some(newer) = newer.filter(|_| node.position(node.partition_of(&id)).is_some()) {
                self.publish(id, newer);
            }
        }
        Ok(())
    }

    /// Publishes once more that this node owns a partition.
    fn publish_owner_again(self: &Arc<Self>, partition: u32) {
        let owners = self.owners.load();
        if let Some(own) = owners.get(partition as usize).and_then(Option::as_ref) {
            self.publish_owner(partition, own.generation, BTreeMap::new());
        }
    }

    /// Takes note of an owner. False: a later one is known.
    pub(super) fn note(&self, partition: u32, owner: Owner) -> bool {
        let mut noted = false;
        self.owners.rcu(|owners| {
            let mut next = owners.as_ref().clone();
            noted = false;
            if let Some(known) = next.get_mut(partition as usize)
                && known.as_ref().is_none_or(|known| known.generation < owner.generation)
            {
                *known = Some(owner.clone());
                noted = true;
            }
            next
        });
        noted
    }

    /// Whether a later owner of the partition is known.
    fn is_superseded(&self, partition: u32, generation: i64) -> bool {
        let owners = self.owners.load();
        let known = owners.get(partition as usize).and_then(Option::as_ref);
        known.is_some_and(|known| known.generation > generation)
    }

    /// Publishes that this node owns the partition, and the entities there that every node must know.
    pub(super) fn publish_owner(self: &Arc<Self>, partition: u32, generation: i64, shared: BTreeMap<EntityId, Shared>) {
        let owner = Owner {
            node_id: self.node_id.clone(),
            address: self.address.clone(),
            generation,
            fold_version_max: self.fold_version_max,
        };
        self.note(partition, owner.clone());
        let key = format!("{OWNER}{partition}");
        let entities = shared.iter().map(|(id, shared)| published(id, shared));
        let records = entities.chain([record(key, owner.encode_to_vec())]).collect();
        let (cluster, again) = (self.clone(), shared);
        self.append_to_control(records, move || {
            if !cluster.is_superseded(partition, generation) {
                cluster.publish_owner(partition, generation, again);
            }
        });
    }

    /// Publishes what this node supports.
    pub(super) fn publish_node(self: &Arc<Self>) {
        let node = NodeRecord { fold_version_max: self.fold_version_max };
        let (cluster, key) = (self.clone(), format!("{NODE}{}", self.node_id));
        self.append_to_control(vec![record(key, node.encode_to_vec())], move || cluster.publish_node());
    }

    /// Publishes an entity that every node must know.
    pub(super) fn publish(self: &Arc<Self>, id: EntityId, shared: Shared) {
        let (cluster, records) = (self.clone(), vec![published(&id, &shared)]);
        self.append_to_control(records, move || cluster.publish(id, shared));
    }

    /// Appends to `control`. If that fails, `again` is called a little later.
    fn append_to_control(self: &Arc<Self>, records: Vec<Record>, again: impl FnOnce() + Send + 'static) {
        let runtime = self.runtime.clone();
        let done = move |outcome: Result<_, Error>| {
            let Err(error) = outcome else { return };
            tracing::warn!("a record could not be published on control, which is tried again: {error}");
            runtime.spawn(async move {
                tokio::time::sleep(RETRY_AFTER).await;
                again();
            });
        };
        self.log.append(Topic::Control, 0, records, Box::new(done));
    }
}

fn record(key: String, value: Vec<u8>) -> Record {
    Record { key: key.into(), value: Some(Bytes::from(value)), headers: Vec::new() }
}

fn published(id: &EntityId, Shared { revision, value }: &Shared) -> Record {
    let published = Published {
        kind: id.kind as u32,
        namespace_id: id.namespace_id.to_string(),
        id: id.id.to_string(),
        revision: *revision,
        value: value.clone(),
    };
    // Ids of namespaces have no slash.
    record(format!("{ENTITY}{}/{}/{}", published.kind, id.namespace_id, id.id), published.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Nulls;
    use crate::partition::fixture::Fixture;
    use crate::partition::{Settings, Stepped};

    fn namespace(revision: i64) -> (EntityId, Shared) {
        let value =
            crate::proto::state::Namespace { id: "id".into(), name: "orders".into(), revision, ..Default::default() };
        (EntityId::namespace("orders"), Shared { revision, value: value.encode_to_vec().into() })
    }

    fn stored(record: Record) -> Stored {
        Stored { offset: 0, timestamp_ms: 0, record, nulls: Nulls::default() }
    }

    /// The revisions that stand on `control`.
    fn revisions(node: &Node) -> Vec<i64> {
        let reader = node.log.reader(Topic::Control, 0, 0, Isolation::ReadUncommitted);
        let read = reader.expect("the log can be read").next(1000, Duration::ZERO).expect("the log can be read");
        let entities = read.records.into_iter().filter(|stored| stored.record.key.starts_with(ENTITY.as_bytes()));
        let published = entities.map(|stored| Published::decode(stored.record.value.expect("it has a value")));
        published.map(|published| published.expect("it can be read").revision).collect()
    }

    #[tokio::test]
    async fn the_owner_publishes_the_later_revision_again_where_an_earlier_one_came_after_it() {
        let fixture = Fixture::new(1, Settings::default());
        let node = &fixture.node;
        let cluster = Cluster::new(node.log.clone(), &node.settings, "127.0.0.1:1");
        let apply = |revision| {
            let (id, shared) = namespace(revision);
            cluster.apply_record(node, &stored(published(&id, &shared))).expect("it can be read");
        };
        let id = namespace(0).0;
        apply(5);
        assert!(cluster.has_published(&id, 5) && !cluster.has_published(&id, 6));
        apply(3);
        assert_eq!(node.shared.namespaces.by_name(&id.id).map(|known| known.revision), Some(5));
        assert!(revisions(node).is_empty(), "another node owns its partition, and does that");
        let _owned = Stepped::take_over(node, 0).expect("it is free");
        apply(3);
        let begun = Instant::now();
        while revisions(node).is_empty() && begun.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(revisions(node), [5]);
    }

    #[tokio::test]
    async fn entities_of_kinds_that_are_not_known_are_ignored_and_what_is_none_is_an_error() {
        let fixture = Fixture::new(1, Settings::default());
        let node = &fixture.node;
        let cluster = Cluster::new(node.log.clone(), &node.settings, "127.0.0.1:1");
        let unknown = Published { kind: 4000, id: "x".into(), revision: 1, ..Published::default() };
        cluster
            .apply_record(node, &stored(record(format!("{ENTITY}4000//x"), unknown.encode_to_vec())))
            .expect("ignored");
        for value in [&b"?"[..], &Published { kind: 1, value: "?".into(), ..Published::default() }.encode_to_vec()] {
            let wrong = record(format!("{ENTITY}1//x"), value.to_vec());
            assert!(cluster.apply_record(node, &stored(wrong)).is_err(), "{value:?}");
        }
        assert!(node.shared.namespaces.all().is_empty());
    }
}
