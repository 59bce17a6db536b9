//! Announces to other nodes the tasks for their pollers, and the queues that are polled here; and receives their announcements.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::Cluster;
use super::messages::{polled, queue_name};
use crate::matching::{Address, Answer, Closed, News};
use crate::partition::Node;
use crate::proto::cluster::{AnnounceRequest, AnnounceResponse};

/// How often announcements are repeated that may be lost, and how long a node may take to acknowledge one.
const TICK: Duration = Duration::from_millis(500);
const ANNOUNCE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long news is gathered before it is sent.
const GATHER: Duration = Duration::from_millis(1);

pub fn start(cluster: &Arc<Cluster>, node: &Arc<Node>) {
    let runtime = cluster.runtime.clone();
    let (cluster, node) = (Arc::downgrade(cluster), Arc::downgrade(node));
    let work = async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while let (Some(cluster), Some(node)) = (cluster.upgrade(), node.upgrade()) {
            tokio::select! {
                () = node.matching.news() => tokio::time::sleep(GATHER).await,
                _ = ticks.tick() => node.matching.tick(),
            }
            for (receiver, news) in node.matching.take_news(&cluster.addresses_of_others()) {
                drop(tokio::spawn(announce(cluster.clone(), node.clone(), receiver, news)));
            }
        }
    };
    runtime.spawn(work);
}

async fn announce(cluster: Arc<Cluster>, node: Arc<Node>, receiver: Address, news: News) {
    let request = AnnounceRequest {
        from: cluster.address.clone(),
        polled: news.polled.iter().map(Into::into).collect(),
        withdrawn: news.withdrawn.iter().map(Into::into).collect(),
        items: news.items.iter().map(Into::into).collect(),
        forgotten: news.forgotten.iter().map(Into::into).collect(),
    };
    let answer = match tokio::time::timeout(ANNOUNCE_WAIT_MAX, cluster.link(&receiver).ask(request)).await {
        Ok(Ok(AnnounceResponse { kept, stranded })) => Some(Answer { kept, stranded }),
        Ok(Err(_)) | Err(_) => None,
    };
    node.matching.answered(&receiver, news.items, answer);
}

/// Another node's news.
pub async fn answer(node: &Arc<Node>, request: AnnounceRequest) -> Result<AnnounceResponse, Status> {
    let news = News {
        polled: request.polled.into_iter().filter_map(|queue| polled(queue).transpose()).collect::<Result<_, _>>()?,
        withdrawn: request.withdrawn.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        items: request.items.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        forgotten: request.forgotten.into_iter().filter_map(queue_name).collect(),
        probe: false,
    };
    let answer = node.matching.receive_news(&request.from.into(), news);
    let Answer { kept, stranded } = answer.map_err(|Closed| Status::unavailable("this node is stopping"))?;
    Ok(AnnounceResponse { kept, stranded })
}
