//! What partitions need of other nodes.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tonic::Status;

use super::{Cluster, Link, tasks};
use crate::engine::{EntityId, Rejection, Shared};
use crate::matching::Query;
use crate::partition::{Done, Peers, PolledTask};
use crate::proto::commands::Command;

/// How long another node may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// The cluster, as its partitions use it.
pub struct OverGrpc(pub Arc<Cluster>);

impl OverGrpc {
    /// Calls the owner of a partition.
    fn ask<T, F>(&self, partition: u32, done: Done<T>, ask: impl FnOnce(Arc<Link>) -> F)
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let Some(owner) = self.0.owner(partition) else { return done(Err("the partition has no owner".into())) };
        let asked = ask(owner);
        self.0.runtime.spawn(async move {
            done(match tokio::time::timeout(ANSWER_WAIT_MAX, asked).await {
                Ok(answer) => answer.map_err(|status| status.message().to_owned()),
                Err(_) => Err("the other node does not answer".into()),
            });
        });
    }
}

impl Peers for OverGrpc {
    fn is_elsewhere(&self, partition: u32) -> bool {
        let owners = self.0.owners.load();
        let owner = owners.get(partition as usize).and_then(Option::as_ref);
        owner.is_some_and(|owner| owner.node_id != self.0.node_id)
    }

    fn knows_all_shared(&self) -> bool {
        self.0.has_caught_up() && self.0.owners.load().iter().all(Option::is_some)
    }

    fn fold_version(&self) -> u32 {
        self.0.versions.of_all()
    }

    fn catch_up_with_control(&self) -> Result<(), String> {
        self.0.catch_up_with_control()
    }

    fn owned(&self, partition: u32, generation: i64, shared: BTreeMap<EntityId, Shared>) {
        self.0.publish_owner(partition, generation, shared);
    }

    fn publish(&self, id: &EntityId, shared: &Shared) {
        self.0.publish(id.clone(), shared.clone());
    }

    fn decide(&self, partition: u32, command: &Command, done: Done<Result<(), Rejection>>) {
        match self.0.owner(partition) {
            Some(owner) => owner.decide(partition, command.encode_to_vec().into(), done),
            None => done(Err("the partition has no owner".into())),
        }
    }

    fn start_task(&self, partition: u32, command: &Command, sticky: bool, done: Done<Option<PolledTask>>) {
        self.ask(partition, done, |owner| tasks::ask_for_task(owner, partition, command, sticky));
    }

    fn take_query(&self, query: &Query, sticky: bool, done: Done<Option<PolledTask>>) {
        self.ask(query.origin.partition, done, |owner| tasks::ask_for_query(owner, query, sticky));
    }
}
