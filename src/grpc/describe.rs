//! Describing a workflow: what it is, and what it waits for.

use std::collections::BTreeMap;

use tonic::Status;

use super::service::Service;
use super::validate;
use crate::engine::Rejection;
use crate::engine::attempts::options_of;
use crate::engine::workflow::{self, Run};
use crate::proto::state;
use crate::proto::temporal::activity::v1::ActivityOptions;
use crate::proto::temporal::common::v1::ActivityType;
use crate::proto::temporal::enums::v1::{
    EventType, PendingActivityState, PendingWorkflowTaskState, VersioningBehavior,
};
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflow::v1::pending_activity_info::{
    PauseInfo,
    pause_info::{Manual, PausedBy},
};
use crate::proto::temporal::workflow::v1::*;
use crate::proto::temporal::workflowservice::v1::*;
use crate::types::time::{duration, timestamp, timestamp_or_none};
use crate::visibility::{Attributes, attributes_of, leave_out_removed, to_execution_info};

pub async fn describe(
    service: &Service,
    request: DescribeWorkflowExecutionRequest,
) -> Result<DescribeWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::execution(request.execution.as_ref())?;
    let custom = attributes_of(&namespace);
    service
        .read(&namespace.id, &execution.workflow_id, move |core, key| {
            let run = core.run(key, &execution.run_id)?;
            let run = run.ok_or_else(|| Rejection::workflow_not_found(&key.id, &execution.run_id))?;
            let mut response = response(&run, &custom, core.node().clock_ms());
            // Nothing is written to a run that was not the newest when it was reset.
            let newest = core.run(key, "")?;
            if let Some(reset_run_id) = newest.as_ref().and_then(|newest| newest.reset_of(&run.head.run_id))
                && let Some(extended) = &mut response.workflow_extended_info
            {
                extended.reset_run_id = reset_run_id.to_owned();
            }
            Ok(response)
        })
        .await
}

fn response(run: &Run, custom: &Attributes, now_ms: i64) -> DescribeWorkflowExecutionResponse {
    let head = &run.head;
    let mut row = workflow::row(head, &run.properties);
    leave_out_removed(&mut row, custom);
    let mut info = to_execution_info(&row);
    info.first_run_id.clone_from(&head.first_run_id);
    info.parent_namespace_id.clone_from(&head.parent_namespace_id);
    info.priority.clone_from(&head.priority);
    info.auto_reset_points = Some(head.reset_points.clone().unwrap_or_default());
    info.versioning_info = head.versioning_override.as_ref().map(|given| WorkflowExecutionVersioningInfo {
        // In the older form too.
        versioning_override: Some(VersioningOverride {
            behavior: VersioningBehavior::AutoUpgrade as i32,
            ..given.clone()
        }),
        ..WorkflowExecutionVersioningInfo::default()
    });
    info.external_payload_count = head.external_payload_count;
    info.external_payload_size_bytes = head.external_payload_bytes;
    info.memo = Some(run.properties.memo.clone().unwrap_or_default());
    info.search_attributes = Some(info.search_attributes.unwrap_or_default());
    let timeout = |ms: i64| (ms > 0).then(|| duration(ms));
    let config = WorkflowExecutionConfig {
        task_queue: Some(TaskQueue { name: head.task_queue.clone(), kind: 1, ..TaskQueue::default() }),
        workflow_execution_timeout: timeout(head.execution_timeout_ms),
        workflow_run_timeout: timeout(head.run_timeout_ms),
        default_workflow_task_timeout: Some(duration(head.workflow_task_timeout_ms)),
        user_metadata: run.start.user_metadata.clone(),
    };
    let extended = WorkflowExecutionExtendedInfo {
        execution_expiration_time: timestamp_or_none(head.execution_expiration_ms),
        run_expiration_time: timestamp_or_none(head.run_expiration_ms),
        cancel_requested: head.cancel_requested,
        last_reset_time: (head.original_start_ms > 0).then(|| timestamp(head.start_ms)),
        original_start_time: Some(timestamp(if head.original_start_ms > 0 {
            head.original_start_ms
        } else {
            head.start_ms
        })),
        reset_run_id: head.reset_run_id.clone(),
        pause_info: head.pause.as_ref().filter(|_| run.is_open()).map(|pause| WorkflowExecutionPauseInfo {
            identity: pause.identity.clone(),
            paused_time: Some(timestamp(pause.time_ms)),
            reason: pause.reason.clone(),
        }),
        request_id_infos: request_ids(run),
        ..WorkflowExecutionExtendedInfo::default()
    };
    DescribeWorkflowExecutionResponse {
        execution_config: Some(config),
        workflow_execution_info: Some(info),
        pending_activities: run.activities.values().map(|activity| pending_activity(activity, now_ms)).collect(),
        pending_children: run.children.values().map(|child| pending_child(child)).collect(),
        pending_workflow_task: head.workflow_task.as_ref().map(pending_task),
        workflow_extended_info: Some(extended),
        ..DescribeWorkflowExecutionResponse::default()
    }
}

/// The requests that started the run, or were attached to it. Temporal's server leaves those of signals out.
fn request_ids(run: &Run) -> BTreeMap<String, RequestIdInfo> {
    let start = RequestIdInfo { event_type: EventType::WorkflowExecutionStarted as i32, event_id: 1, buffered: false };
    let started = Some((run.head.create_request_id.clone(), start)).filter(|(id, _)| !id.is_empty());
    let attached = run.attached_requests().map(|(id, request)| {
        let (event_type, buffered) = (request.event_type, request.event_id <= 0);
        (id.clone(), RequestIdInfo { event_type, event_id: request.event_id.max(0), buffered })
    });
    started.into_iter().chain(attached).collect()
}

fn pending_activity(activity: &state::Activity, now_ms: i64) -> PendingActivityInfo {
    let started = activity.started_ms != 0;
    let state = match (started, activity.cancel_requested) {
        (true, true) => PendingActivityState::CancelRequested,
        (true, false) => PendingActivityState::Started,
        (false, _) => PendingActivityState::Scheduled,
    };
    let state = match (state, &activity.pause) {
        (PendingActivityState::Scheduled, Some(_)) => PendingActivityState::Paused,
        (PendingActivityState::Started, Some(_)) => PendingActivityState::PauseRequested,
        (state, _) => state,
    };
    let policy = activity.retry_policy.clone().unwrap_or_default();
    // Once it is due, it is in its task queue.
    let waits = !started && activity.not_before_ms > now_ms && activity.pause.is_none();
    let is_named = started && !activity.identity.is_empty();
    PendingActivityInfo {
        activity_id: activity.activity_id.clone(),
        activity_type: Some(ActivityType { name: activity.activity_type.clone() }),
        state: state as i32,
        heartbeat_details: activity.heartbeat_details.clone(),
        last_heartbeat_time: timestamp_or_none(activity.last_heartbeat_ms),
        last_started_time: timestamp_or_none(activity.started_ms),
        attempt: activity.attempt,
        maximum_attempts: policy.maximum_attempts,
        scheduled_time: (!started).then(|| timestamp(activity.attempt_scheduled_ms)),
        expiration_time: (activity.schedule_to_close_ms > 0)
            .then(|| timestamp(activity.scheduled_ms.saturating_add(activity.schedule_to_close_ms))),
        last_failure: activity.last_failure.clone(),
        last_worker_identity: if is_named { activity.identity.clone() } else { activity.last_identity.clone() },
        current_retry_interval: waits.then(|| duration(activity.not_before_ms - activity.last_attempt_complete_ms)),
        last_attempt_complete_time: timestamp_or_none(activity.last_attempt_complete_ms),
        next_attempt_schedule_time: waits.then(|| timestamp(activity.not_before_ms)),
        priority: activity.priority.clone(),
        // As there, the queue has both of its names here, and no kind.
        activity_options: Some(ActivityOptions {
            task_queue: Some(TaskQueue {
                name: activity.task_queue.clone(),
                normal_name: activity.task_queue.clone(),
                ..TaskQueue::default()
            }),
            ..options_of(activity)
        }),
        paused: activity.pause.is_some(),
        pause_info: activity.pause.as_ref().map(pause_info),
        ..PendingActivityInfo::default()
    }
}

fn pause_info(pause: &state::Pause) -> PauseInfo {
    let (identity, reason) = (pause.identity.clone(), pause.reason.clone());
    PauseInfo {
        pause_time: Some(timestamp(pause.time_ms)),
        paused_by: Some(PausedBy::Manual(Manual { identity, reason })),
    }
}

fn pending_child(child: &state::Child) -> PendingChildExecutionInfo {
    PendingChildExecutionInfo {
        workflow_id: child.workflow_id.clone(),
        run_id: child.run_id.clone(),
        workflow_type_name: child.workflow_type.clone(),
        initiated_id: child.initiated_event_id,
        parent_close_policy: child.parent_close_policy,
    }
}

fn pending_task(task: &state::WorkflowTask) -> PendingWorkflowTaskInfo {
    let state = if task.started_event_id == 0 {
        PendingWorkflowTaskState::Scheduled
    } else {
        PendingWorkflowTaskState::Started
    };
    PendingWorkflowTaskInfo {
        state: state as i32,
        scheduled_time: Some(timestamp(task.scheduled_ms)),
        original_scheduled_time: Some(timestamp(task.original_scheduled_ms)),
        started_time: timestamp_or_none(task.started_ms),
        attempt: task.attempt,
    }
}
