//! Which version of the fold all nodes support, so that an owner may put it in force.
//!
//! Every node publishes on `control` what it supports, before it joins the group, and every owner does so again with its address.
//! All nodes are the group's present members. This can be wrong: a node may come back as an older binary at that moment. It then
//! refuses the partitions that have the newer version, and nothing worse happens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Cluster;
use crate::partition::Node;

/// How often it is determined, while there are callers, and how long the result is valid.
const ASK_EVERY: Duration = Duration::from_secs(2);
const COUNTS_FOR: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Versions {
    /// The newest version that each node has published, by its id.
    by_node: Mutex<HashMap<String, u32>>,
    /// There was a caller since the last time.
    wanted: AtomicBool,
    /// What all nodes support, and when that was determined.
    found: Mutex<Option<(u32, Instant)>>,
}

impl Versions {
    pub fn set(&self, node_id: &str, version: u32) {
        let mut by_node = self.by_node.lock().expect("no code panics while it holds the versions");
        by_node.insert(node_id.to_owned(), version);
    }

    /// The newest version that all nodes support; 0: not known, or not yet.
    pub fn of_all(&self) -> u32 {
        self.wanted.store(true, Ordering::Relaxed);
        let found = *self.found.lock().expect("no code panics while it holds what was found");
        found.filter(|(_, at)| at.elapsed() < COUNTS_FOR).map_or(0, |(version, _)| version)
    }

    /// The newest version that the nodes of these ids and these owners support.
    fn lowest(&self, members: &[String], owners: impl Iterator<Item = u32>) -> u32 {
        let by_node = self.by_node.lock().expect("no code panics while it holds the versions");
        let members = members.iter().map(|id| by_node.get(id).copied().unwrap_or_default());
        members.chain(owners).min().unwrap_or_default()
    }
}

/// Starts to determine what all nodes support, whenever there are callers.
pub fn start(cluster: &Arc<Cluster>, node: &Arc<Node>) {
    let runtime = cluster.runtime.clone();
    let (cluster, node) = (Arc::downgrade(cluster), Arc::downgrade(node));
    let work = async move {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let (Some(cluster), Some(_)) = (cluster.upgrade(), node.upgrade()) else { return };
            if !cluster.versions.wanted.swap(false, Ordering::Relaxed) {
                continue;
            }
            let asked = cluster.clone();
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || find(&asked)).await {
                tracing::debug!("the version of the fold that all nodes support is not known: {error}");
            }
        }
    };
    runtime.spawn(work);
}

fn find(cluster: &Cluster) -> Result<(), String> {
    let members = cluster.log.members().map_err(|error| error.to_string())?;
    // After the members: each of them has published before.
    cluster.catch_up_with_control()?;
    let owners = cluster.owners.load();
    let owners = owners.iter().map(|owner| owner.as_ref().map_or(0, |owner| owner.fold_version_max));
    let version = if members.is_empty() { 0 } else { cluster.versions.lowest(&members, owners) };
    let mut found = cluster.versions.found.lock().expect("no code panics while it holds what was found");
    *found = Some((version, Instant::now()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_binary_counts_and_one_that_says_nothing_is_the_oldest() {
        let versions = Versions::default();
        versions.set("a", 2);
        versions.set("b", 3);
        let members = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(versions.lowest(&members(&["a", "b"]), [3, 2].into_iter()), 2);
        assert_eq!(versions.lowest(&members(&["b"]), [3, 3].into_iter()), 3);
        assert_eq!(versions.lowest(&members(&["b", "c"]), [3].into_iter()), 0);
        assert_eq!(
            versions.lowest(&members(&["b"]), [3, 0].into_iter()),
            0,
            "a partition whose owner published no version"
        );
        versions.set("b", 2);
        assert_eq!(versions.lowest(&members(&["b"]), [2].into_iter()), 2, "it has come back as an older one");
    }

    #[test]
    fn what_was_never_found_out_is_nothing() {
        assert_eq!(Versions::default().of_all(), 0);
    }
}
