//! Task queues: who polls them, and what waits in them.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::Status;

use super::service::Service;
use super::{others, validate};
use crate::matching::{QueueName, Stats};
use crate::proto::cluster::{DescribeQueueRequest, PollerSeen};
use crate::proto::temporal::enums::v1::TaskQueueType;
use crate::proto::temporal::taskqueue::v1::{
    PollerInfo, TaskQueuePartitionMetadata, TaskQueueStats, TaskQueueStatus, TaskQueueTypeInfo, TaskQueueVersionInfo,
};
use crate::proto::temporal::workflowservice::v1::*;
use crate::types::time::timestamp;

pub async fn describe(
    service: &Service,
    request: DescribeTaskQueueRequest,
) -> Result<DescribeTaskQueueResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::task_queue(request.task_queue.as_ref())?;
    let queue = request.task_queue.clone().unwrap_or_default().name;
    let mut response = DescribeTaskQueueResponse::default();
    if request.api_mode == 1 {
        // The enhanced mode asks for several kinds at once.
        let kinds = if request.task_queue_types.is_empty() {
            vec![TaskQueueType::Workflow as i32, TaskQueueType::Activity as i32]
        } else {
            request.task_queue_types.clone()
        };
        let mut types_info = BTreeMap::new();
        for kind in kinds {
            let of = TaskQueueType::try_from(kind).unwrap_or(TaskQueueType::Workflow);
            let (pollers, stats) = whole(service, &namespace.id, &queue, of).await?;
            let info = TaskQueueTypeInfo {
                pollers: if request.report_pollers { pollers } else { Vec::new() },
                stats: request.report_stats.then_some(stats),
            };
            types_info.insert(kind, info);
        }
        response
            .versions_info
            .insert(String::new(), TaskQueueVersionInfo { types_info, ..TaskQueueVersionInfo::default() });
        return Ok(response);
    }
    let kind = if request.task_queue_type() == TaskQueueType::Activity {
        TaskQueueType::Activity
    } else {
        TaskQueueType::Workflow
    };
    let (pollers, stats) = whole(service, &namespace.id, &queue, kind).await?;
    if request.include_task_queue_status {
        response.task_queue_status =
            Some(TaskQueueStatus { backlog_count_hint: stats.approximate_backlog_count, ..TaskQueueStatus::default() });
    }
    response.pollers = pollers;
    response.stats = request.report_stats.then_some(stats);
    Ok(response)
}

/// Who polls a queue, and what waits in it, at all nodes.
async fn whole(
    service: &Service,
    namespace_id: &str,
    queue: &str,
    kind: TaskQueueType,
) -> Result<(Vec<PollerInfo>, TaskQueueStats), Status> {
    let name =
        QueueName { namespace_id: namespace_id.into(), name: queue.into(), activity: kind == TaskQueueType::Activity };
    let matching = &service.node.matching;
    let owners = others::owners(service);
    let describe = DescribeQueueRequest { queue: Some((&name).into()) };
    // Workers may poll a node that owns nothing. If it has just gone, so have they.
    let mut more = Vec::new();
    if let Some(cluster) = &service.cluster {
        let polled = matching.polled_at(&name).into_iter();
        let polled = polled.filter(|address| owners.iter().all(|node| *node.address != **address));
        more.extend(polled.map(|address| cluster.link(&address)));
    }
    let (asked, more) = (others::ask(owners, &describe), others::ask(more, &describe));
    let Stats { mut backlog, mut oldest_age, .. } = matching.stats(&name, service.node.clock_ms());
    let mut seen: BTreeMap<_, _> =
        matching.pollers(&name).into_iter().map(|seen| (seen.identity, seen.last_ms)).collect();
    for answer in asked.answers().await?.into_iter().chain(more.some_answers().await) {
        backlog += answer.backlog as usize;
        oldest_age = oldest_age.max(Duration::from_millis(answer.oldest_age_ms));
        for PollerSeen { identity, last_ms } in answer.pollers {
            let last = seen.entry(identity).or_insert(last_ms);
            *last = last_ms.max(*last);
        }
    }
    let pollers = seen.into_iter().map(|(identity, last_ms)| PollerInfo {
        last_access_time: Some(timestamp(last_ms)),
        identity,
        rate_per_second: 100_000.0,
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
