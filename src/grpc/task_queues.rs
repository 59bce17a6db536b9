//! Task queues: their pollers, and what waits in them.

use std::collections::BTreeSet;

use tonic::Status;

use super::service::Service;
use super::validate;
use crate::cluster::queues::{self, Description};
use crate::engine::TaskQueueType;
use crate::matching::QueueName;
use crate::proto::temporal::enums::v1::{self as enums, BuildIdTaskReachability, DescribeTaskQueueMode};
use crate::proto::temporal::taskqueue::v1::{
    PollerInfo, TaskQueuePartitionMetadata, TaskQueueStats, TaskQueueStatus, TaskQueueTypeInfo, TaskQueueVersionInfo,
};
use crate::proto::temporal::workflowservice::v1::*;
use crate::types::time::timestamp;

/// Build ids that one call can ask about, as in Temporal's server.
const BUILD_IDS_MAX: usize = 5;

pub async fn describe(
    service: &Service,
    request: DescribeTaskQueueRequest,
) -> Result<DescribeTaskQueueResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::task_queue(request.task_queue.as_ref())?;
    if request.api_mode() == DescribeTaskQueueMode::Enhanced {
        return enhanced(service, &namespace.id, request).await;
    }
    let queue = request.task_queue.clone().unwrap_or_default().name;
    let queue_type = match request.task_queue_type() {
        enums::TaskQueueType::Unspecified => enums::TaskQueueType::Workflow,
        given => given,
    };
    let (pollers, stats) = whole(service, &namespace.id, &queue, queue_type).await?;
    let status = TaskQueueStatus { backlog_count_hint: stats.approximate_backlog_count, ..TaskQueueStatus::default() };
    Ok(DescribeTaskQueueResponse {
        pollers,
        task_queue_status: request.include_task_queue_status.then_some(status),
        stats: request.report_stats.then_some(stats),
        ..DescribeTaskQueueResponse::default()
    })
}

/// The enhanced mode asks for several types and build ids at once. All that polls and waits is unversioned: a build id has no
/// queue of its own, and no rule sends it workflows, so no task reaches it.
async fn enhanced(
    service: &Service,
    namespace_id: &str,
    request: DescribeTaskQueueRequest,
) -> Result<DescribeTaskQueueResponse, Status> {
    let queue = request.task_queue.unwrap_or_default().name;
    let known = |number| match enums::TaskQueueType::try_from(number) {
        Ok(enums::TaskQueueType::Unspecified) | Err(_) => {
            Err(Status::invalid_argument(format!("invalid task queue type: {number}")))
        }
        Ok(known) => Ok(known),
    };
    let asked: BTreeSet<i32> = request.task_queue_types.into_iter().collect();
    let mut queue_types = asked.into_iter().map(known).collect::<Result<Vec<_>, _>>()?;
    if queue_types.is_empty() {
        queue_types.extend([enums::TaskQueueType::Workflow, enums::TaskQueueType::Activity]);
    }
    let selection = request.versions.unwrap_or_default();
    let mut build_ids: BTreeSet<String> = selection.build_ids.into_iter().collect();
    if build_ids.len() > BUILD_IDS_MAX {
        let message = format!("Too many build ids queried at once, limit: {BUILD_IDS_MAX}");
        return Err(Status::invalid_argument(message));
    }
    if selection.unversioned || selection.all_active || build_ids.is_empty() {
        build_ids.insert(String::new());
    }
    let mut response = DescribeTaskQueueResponse::default();
    for build_id in build_ids {
        let mut info = TaskQueueVersionInfo::default();
        for &queue_type in &queue_types {
            let (pollers, stats) = match build_id.as_str() {
                "" => whole(service, namespace_id, &queue, queue_type).await?,
                _ => Default::default(),
            };
            let info_of_type = TaskQueueTypeInfo {
                pollers: if request.report_pollers { pollers } else { Vec::new() },
                stats: request.report_stats.then_some(stats),
            };
            info.types_info.insert(queue_type as i32, info_of_type);
        }
        if request.report_task_reachability {
            let reachable = build_id.is_empty();
            let reachability =
                if reachable { BuildIdTaskReachability::Reachable } else { BuildIdTaskReachability::Unreachable };
            info.task_reachability = reachability as i32;
        }
        response.versions_info.insert(build_id, info);
    }
    Ok(response)
}

/// The pollers of a queue, and what waits in it, at all nodes: none, if there are no queues of its type here.
async fn whole(
    service: &Service,
    namespace_id: &str,
    queue: &str,
    queue_type: enums::TaskQueueType,
) -> Result<(Vec<PollerInfo>, TaskQueueStats), Status> {
    let Some(queue_type) = TaskQueueType::of(queue_type as i32) else { return Ok(Default::default()) };
    let name = QueueName { namespace_id: namespace_id.into(), name: queue.into(), queue_type };
    let Description { pollers, backlog, oldest_age } =
        queues::describe(&service.node, service.cluster.as_deref(), &name).await?;
    let pollers = pollers.into_iter().map(|seen| PollerInfo {
        last_access_time: Some(timestamp(seen.last_ms)),
        identity: seen.worker.identity,
        rate_per_second: 100_000.0,
        worker_version_capabilities: seen.worker.capabilities,
        ..PollerInfo::default()
    });
    let stats = TaskQueueStats {
        approximate_backlog_count: backlog as i64,
        approximate_backlog_age: Some(prost_types::Duration {
            seconds: oldest_age.as_secs() as i64,
            nanos: oldest_age.subsec_nanos() as i32,
        }),
        ..TaskQueueStats::default()
    };
    Ok((pollers.collect(), stats))
}

pub async fn list_partitions(
    service: &Service,
    request: ListTaskQueuePartitionsRequest,
) -> Result<ListTaskQueuePartitionsResponse, Status> {
    service.namespace(&request.namespace)?;
    validate::task_queue(request.task_queue.as_ref())?;
    let whole =
        TaskQueuePartitionMetadata { key: request.task_queue.unwrap_or_default().name, owner_host_name: String::new() };
    Ok(ListTaskQueuePartitionsResponse {
        activity_task_queue_partitions: vec![whole.clone()],
        workflow_task_queue_partitions: vec![whole],
    })
}
