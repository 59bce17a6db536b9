//! Questions to which several nodes know a part of the answer.

use std::future::Future;
use std::sync::Arc;

use tonic::{Response, Status};

use super::service::Service;
use crate::cluster::Link;
use crate::cluster::tunnel::Tunnel;
use crate::proto::cluster::node_service_client::NodeServiceClient;

/// All other nodes that own partitions.
pub fn owners(service: &Service) -> Vec<Arc<Link>> {
    service.cluster.iter().flat_map(|cluster| cluster.others()).collect()
}

/// Asks nodes, at the same time.
pub fn ask<T, F>(nodes: Vec<Arc<Link>>, ask: impl Fn(NodeServiceClient<Tunnel>) -> F) -> Asked<T>
where
    T: Send + 'static,
    F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
{
    Asked(nodes.into_iter().map(|node| tokio::spawn(ask(node.client()))).collect())
}

/// Questions that are under way.
pub struct Asked<T>(Vec<tokio::task::JoinHandle<Result<Response<T>, Status>>>);

impl<T> Asked<T> {
    /// The answers of those that have one.
    pub async fn some_answers(self) -> Vec<T> {
        let mut answers = Vec::new();
        for answer in self.0 {
            answers.extend(answer.await.into_iter().flatten().map(Response::into_inner));
        }
        answers
    }

    /// All answers, or the first error.
    pub async fn answers(self) -> Result<Vec<T>, Status> {
        let mut answers = Vec::new();
        for answer in self.0 {
            let answer = answer.await.map_err(|error| Status::internal(error.to_string()))?;
            let failed =
                |status: Status| Status::unavailable(format!("a node does not say its part: {}", status.message()));
            answers.push(answer.map_err(failed)?.into_inner());
        }
        Ok(answers)
    }
}
