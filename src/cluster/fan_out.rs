//! Calls to which several nodes each return a part of the answer.

use std::sync::Arc;

use tonic::Status;

use super::tunnel::Question;
use super::{Cluster, Link};

/// All other nodes that own partitions.
pub fn owners(cluster: Option<&Cluster>) -> Vec<Arc<Link>> {
    cluster.map(Cluster::others).unwrap_or_default()
}

/// Calls nodes, at the same time.
pub fn ask<Q>(nodes: Vec<Arc<Link>>, question: &Q) -> Asked<Q::Answer>
where
    Q: Question<Answer: Send> + Clone + Send + 'static,
{
    let ask = |node: Arc<Link>, question: Q| tokio::spawn(async move { node.ask(question).await });
    Asked(nodes.into_iter().map(|node| ask(node, question.clone())).collect())
}

/// Calls that are under way.
pub struct Asked<T>(Vec<tokio::task::JoinHandle<Result<T, Status>>>);

impl<T> Asked<T> {
    /// The answers of those that succeed.
    pub async fn some_answers(self) -> Vec<T> {
        let mut answers = Vec::new();
        for answer in self.0 {
            answers.extend(answer.await.into_iter().flatten());
        }
        answers
    }

    /// All answers, or the first error.
    pub async fn answers(self) -> Result<Vec<T>, Status> {
        let mut answers = Vec::new();
        for answer in self.0 {
            let answer = answer.await.map_err(|error| Status::internal(error.to_string()))?;
            let failed =
                |status: Status| Status::unavailable(format!("a node does not return its part: {}", status.message()));
            answers.push(answer.map_err(failed)?);
        }
        Ok(answers)
    }
}
