//! Tells the other nodes which tasks wait for their pollers, and which queues are polled here.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::Cluster;
use crate::engine::TaskKind;
use crate::matching::{Address, Answer, Item, News, Polled, QueueName, TaskOrigin, WaitingQuery, WaitingTask};
use crate::partition::Node;
use crate::proto::cluster::{self, AnnounceRequest, AnnounceResponse, TaskPlace, item::What, waiting_task::Kind};

/// How often the others are told again of what they may have forgotten, and how long one may take to hear.
const TICK: Duration = Duration::from_millis(500);
const HEAR_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long what is announced waits for company.
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
        polled: news.polled.iter().map(cluster::PolledQueue::from).collect(),
        withdrawn: news.withdrawn.iter().map(cluster::WaitingTask::from).collect(),
        items: news.items.iter().map(cluster::Item::from).collect(),
        forgotten: news.forgotten.iter().map(cluster::QueueName::from).collect(),
    };
    let answer = match tokio::time::timeout(HEAR_WAIT_MAX, cluster.link(&receiver).ask(request)).await {
        Ok(Ok(AnnounceResponse { kept, stranded })) => Some(Answer { kept, stranded }),
        Ok(Err(_)) | Err(_) => None,
    };
    node.matching.answered(&receiver, news.items, answer);
}

impl From<&QueueName> for cluster::QueueName {
    fn from(name: &QueueName) -> Self {
        let QueueName { namespace_id, name, queue_type } = name;
        let (namespace_id, name) = (namespace_id.to_string(), name.to_string());
        Self { namespace_id, name, task_queue_type: *queue_type as i32 }
    }
}

impl From<&Polled> for cluster::PolledQueue {
    fn from(polled: &Polled) -> Self {
        let Polled { queue, sticky, waiting, age } = polled;
        Self { queue: Some(queue.into()), sticky: *sticky, waiting: *waiting, age_ms: age.as_millis() as u64 }
    }
}

impl From<&Item> for cluster::Item {
    fn from(item: &Item) -> Self {
        let what = match item {
            Item::Task(task) => What::Task(task.into()),
            Item::Query(WaitingQuery { query, queue, normal_queue }) => What::Query(cluster::WaitingQuery {
                place: Some(place(&query.origin, 0)),
                id: query.id,
                query: query.query.encode_to_vec().into(),
                queue: queue.to_string(),
                normal_queue: normal_queue.to_string(),
            }),
        };
        Self { what: Some(what) }
    }
}

impl From<&WaitingTask> for cluster::WaitingTask {
    fn from(waiting: &WaitingTask) -> Self {
        let WaitingTask { origin, task, queue, normal_queue } = waiting;
        let kind = match task.kind {
            TaskKind::Workflow => Kind::Workflow,
            TaskKind::StickyWorkflow => Kind::StickyWorkflow,
            TaskKind::Activity => Kind::Activity,
        };
        Self {
            place: Some(place(origin, task.scheduled_event_id)),
            queue: queue.to_string(),
            kind: kind.into(),
            task_queue: task.queue.clone(),
            normal_queue: normal_queue.to_string(),
            attempt: task.attempt,
            scheduled_ms: task.scheduled_ms,
        }
    }
}

pub(super) fn place(origin: &TaskOrigin, scheduled_event_id: i64) -> TaskPlace {
    TaskPlace {
        partition: origin.partition,
        kind: origin.entity.kind as u32,
        namespace_id: origin.entity.namespace_id.to_string(),
        id: origin.entity.id.to_string(),
        run_id: origin.run_id.to_string(),
        scheduled_event_id,
    }
}
