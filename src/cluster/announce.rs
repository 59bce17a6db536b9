//! Tells the homes of task queues what waits for their pollers.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, Link};
use crate::engine::due::TaskKind;
use crate::matching::{Announcement, TaskOrigin, WaitingTask};
use crate::partition::Node;
use crate::proto::cluster::{self, AnnounceRequest, TaskPlace, waiting_task::Kind};

/// How often homes are told again of what they may have forgotten, and how long a home may take to hear.
const TICK: Duration = Duration::from_millis(500);
const HEAR_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long what is announced waits for company.
const GATHER: Duration = Duration::from_millis(1);

pub fn start(cluster: &Arc<Cluster>, node: &Arc<Node>) {
    let runtime = cluster.runtime.clone();
    let (cluster, node) = (Arc::downgrade(cluster), Arc::downgrade(node));
    let work = async move {
        while let (Some(cluster), Some(node)) = (cluster.upgrade(), node.upgrade()) {
            let _ = tokio::time::timeout(TICK, node.matching.announcements()).await;
            tokio::time::sleep(GATHER).await;
            for announcement in node.matching.take_announcements() {
                match cluster.owner(announcement.home) {
                    Some(home) => drop(tokio::spawn(announce(node.clone(), home, announcement))),
                    // It has no owner for now.
                    None => node.matching.announce_again(announcement),
                }
            }
        }
    };
    runtime.spawn(work);
}

async fn announce(node: Arc<Node>, home: Arc<Link>, announcement: Announcement) {
    let request = AnnounceRequest {
        home: announcement.home,
        waiting: announcement.waiting.iter().map(cluster::WaitingTask::from).collect(),
        withdrawn: announcement.withdrawn.iter().map(cluster::WaitingTask::from).collect(),
    };
    let mut client = home.client();
    match tokio::time::timeout(HEAR_WAIT_MAX, client.announce(request)).await {
        Ok(Ok(response)) => {
            for index in response.into_inner().stranded {
                if let Some(waiting) = announcement.waiting.get(index as usize) {
                    node.matching.stranded(announcement.home, waiting.clone());
                }
            }
        }
        Ok(Err(_)) | Err(_) => node.matching.announce_again(announcement),
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
        namespace_id: origin.namespace_id.to_string(),
        workflow_id: origin.workflow_id.to_string(),
        run_id: origin.run_id.to_string(),
        scheduled_event_id,
    }
}
