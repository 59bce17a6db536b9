//! Task queues, as all nodes together know them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::messages::queue_name;
use super::{Cluster, fan_out};
use crate::matching::{PollerSeen, QueueName};
use crate::partition::Node;
use crate::proto::cluster::{DescribeQueueRequest, DescribeQueueResponse};

/// The pollers of a queue, and what waits in it.
#[derive(Default)]
pub struct Description {
    /// By identity.
    pub pollers: Vec<PollerSeen>,
    pub backlog: usize,
    /// Of the oldest task that waits.
    pub oldest_age: Duration,
}

/// Describes a queue, as this node and the others know it.
pub async fn describe(node: &Node, cluster: Option<&Cluster>, name: &QueueName) -> Result<Description, Status> {
    let owners = fan_out::owners(cluster);
    let question = DescribeQueueRequest { queue: Some(name.into()) };
    // Workers may poll a node that owns nothing. If it has just gone, so have they.
    let mut more = Vec::new();
    if let Some(cluster) = cluster {
        let polled = node.matching.polled_at(name).into_iter();
        let polled = polled.filter(|address| owners.iter().all(|node| *node.address != **address));
        more.extend(polled.map(|address| cluster.link(&address)));
    }
    let (asked, more) = (fan_out::ask(owners, &question), fan_out::ask(more, &question));
    let Description { pollers, mut backlog, mut oldest_age } = here(node, name);
    let mut seen: BTreeMap<_, PollerSeen> = BTreeMap::new();
    let mut add = |pollers: Vec<PollerSeen>| {
        for poller in pollers {
            let is_later = |known: &PollerSeen| known.last_ms < poller.last_ms;
            if seen.get(&poller.worker.identity).is_none_or(is_later) {
                seen.insert(poller.worker.identity.clone(), poller);
            }
        }
    };
    add(pollers);
    for answer in asked.answers().await?.into_iter().chain(more.some_answers().await) {
        backlog += answer.backlog as usize;
        oldest_age = oldest_age.max(Duration::from_millis(answer.oldest_age_ms));
        add(answer.pollers.into_iter().map(Into::into).collect());
    }
    Ok(Description { pollers: seen.into_values().collect(), backlog, oldest_age })
}

fn here(node: &Node, name: &QueueName) -> Description {
    let stats = node.matching.stats(name, node.clock_ms());
    Description { pollers: node.matching.pollers(name), backlog: stats.backlog, oldest_age: stats.oldest_age }
}

pub async fn answer(node: &Arc<Node>, request: DescribeQueueRequest) -> Result<DescribeQueueResponse, Status> {
    // A queue of a type that is not known here has no pollers and no tasks here.
    let Some(name) = request.queue.and_then(queue_name) else { return Ok(DescribeQueueResponse::default()) };
    let Description { pollers, backlog, oldest_age } = here(node, &name);
    Ok(DescribeQueueResponse {
        pollers: pollers.into_iter().map(Into::into).collect(),
        backlog: backlog as u64,
        oldest_age_ms: oldest_age.as_millis() as u64,
    })
}
