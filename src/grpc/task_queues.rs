//! Task queues: who polls them, and what waits in them.

use std::collections::BTreeMap;

use tonic::Status;

use super::service::Service;
use super::validate;
use crate::matching::{QueueName, Stats};
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
    let now_ms = service.node.clock_ms();
    let of = |kind: TaskQueueType| {
        let name = QueueName {
            namespace_id: namespace.id.as_str().into(),
            name: queue.as_str().into(),
            activity: kind == TaskQueueType::Activity,
        };
        let pollers = service.node.matching.pollers(&name);
        let pollers: Vec<PollerInfo> = pollers
            .into_iter()
            .map(|seen| PollerInfo {
                last_access_time: Some(timestamp(seen.last_ms)),
                identity: seen.identity,
                rate_per_second: 100_000.0,
                ..PollerInfo::default()
            })
            .collect();
        (pollers, stats(&service.node.matching.stats(&name, now_ms)))
    };
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
            let (pollers, stats) = of(TaskQueueType::try_from(kind).unwrap_or(TaskQueueType::Workflow));
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
    let (pollers, stats) = of(kind);
    if request.include_task_queue_status {
        response.task_queue_status =
            Some(TaskQueueStatus { backlog_count_hint: stats.approximate_backlog_count, ..TaskQueueStatus::default() });
    }
    response.pollers = pollers;
    response.stats = request.report_stats.then_some(stats);
    Ok(response)
}

fn stats(stats: &Stats) -> TaskQueueStats {
    let age = stats.oldest_age;
    TaskQueueStats {
        approximate_backlog_count: stats.backlog as i64,
        approximate_backlog_age: Some(prost_types::Duration {
            seconds: age.as_secs() as i64,
            nanos: age.subsec_nanos() as i32,
        }),
        ..TaskQueueStats::default()
    }
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
