//! Which version of the fold all nodes decide, so that an owner may put it in force.
//!
//! Every node tells on `control` what it decides, before it joins the group, and every owner does so again with its address. All
//! nodes are those that the group has now. This can be wrong: a node may come back as an older binary in the very moment. It then
//! refuses the partitions that have the newer version, and nothing worse happens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Cluster;
use crate::partition::Node;

/// How often it is found out, while somebody asks, and how long it counts.
const ASK_EVERY: Duration = Duration::from_secs(2);
const COUNTS_FOR: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Versions {
    /// The newest version that each node said it decides, by its id.
    told: Mutex<HashMap<String, u32>>,
    /// Somebody wants to know.
    wanted: AtomicBool,
    /// What all decide, and when that was found out.
    found: Mutex<Option<(u32, Instant)>>,
}

impl Versions {
    pub fn hear(&self, node_id: &str, version: u32) {
        let mut told = self.told.lock().expect("no code panics while it holds what was told");
        told.insert(node_id.to_owned(), version);
    }

    /// The newest version that all nodes decide; 0: that is not known, or not yet.
    pub fn of_all(&self) -> u32 {
        self.wanted.store(true, Ordering::Relaxed);
        let found = *self.found.lock().expect("no code panics while it holds what was found");
        found.filter(|(_, at)| at.elapsed() < COUNTS_FOR).map_or(0, |(version, _)| version)
    }

    /// What the nodes of these ids and these owners decide.
    fn lowest(&self, members: &[String], owners: impl Iterator<Item = u32>) -> u32 {
        let told = self.told.lock().expect("no code panics while it holds what was told");
        let members = members.iter().map(|id| told.get(id).copied().unwrap_or_default());
        members.chain(owners).min().unwrap_or_default()
    }
}

/// Starts to find out what all nodes decide, whenever somebody asks.
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
                tracing::debug!("what version of the fold all nodes decide is not known: {error}");
            }
        }
    };
    runtime.spawn(work);
}

fn find(cluster: &Cluster) -> Result<(), String> {
    let members = cluster.log.members().map_err(|error| error.to_string())?;
    // After the members: who was among them had told before.
    cluster.hear_all()?;
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
        versions.hear("a", 2);
        versions.hear("b", 3);
        let members = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(versions.lowest(&members(&["a", "b"]), [3, 2].into_iter()), 2);
        assert_eq!(versions.lowest(&members(&["b"]), [3, 3].into_iter()), 3);
        assert_eq!(versions.lowest(&members(&["b", "c"]), [3].into_iter()), 0);
        assert_eq!(
            versions.lowest(&members(&["b"]), [3, 0].into_iter()),
            0,
            "a partition without an owner that said so"
        );
        versions.hear("b", 2);
        assert_eq!(versions.lowest(&members(&["b"]), [2].into_iter()), 2, "it has come back as an older one");
    }

    #[test]
    fn what_was_never_found_out_is_nothing() {
        assert_eq!(Versions::default().of_all(), 0);
    }
}
