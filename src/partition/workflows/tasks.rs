//! What a worker is handed: tasks, with the history that they need.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use crate::engine::workflow::{Run, transient_events};
use crate::engine::{EntityId, Reply, TaskQueueType, priority};
use crate::partition::Core;
use crate::proto::commands::{ReturnTask, TaskToken};
use crate::proto::state;
use crate::proto::temporal::common::v1::{ActivityType, WorkflowExecution, WorkflowType};
use crate::proto::temporal::history::v1::{History, history_event::Attributes as A};
use crate::proto::temporal::query::v1::WorkflowQuery;
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflowservice::v1::{PollActivityTaskQueueResponse, PollWorkflowTaskQueueResponse};
use crate::store;
use crate::types::time::{timestamp, timestamp_or_none};

/// History in one answer: beyond this, the rest is read page by page. Bytes.
pub const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Names a page of history that is still to be read: `next event id`, of which run.
pub fn page_token(run_id: &str, next_event_id: i64, last_event_id: i64, transient: bool) -> Bytes {
    let token = TaskToken {
        run_id: run_id.to_owned(),
        scheduled_event_id: next_event_id,
        started_event_id: last_event_id,
        attempt: i32::from(transient),
        ..TaskToken::default()
    };
    token.encode_to_vec().into()
}

pub fn token(
    run: &state::Run,
    scheduled_event_id: i64,
    started_event_id: i64,
    attempt: i32,
    started_ms: i64,
    activity_id: &str,
) -> TaskToken {
    TaskToken {
        namespace_id: run.namespace_id.clone(),
        workflow_id: run.workflow_id.clone(),
        run_id: run.run_id.clone(),
        scheduled_event_id,
        started_event_id,
        attempt,
        activity_id: activity_id.to_owned(),
        started_ms,
    }
}

/// The started workflow task of a run. `sticky`: the worker has the history up to its last task.
pub fn workflow_task(
    core: &mut Core,
    key: &EntityId,
    run: &Run,
    sticky: bool,
) -> Result<Option<PollWorkflowTaskQueueResponse>, store::Error> {
    let Some(task) = run.started_task() else { return Ok(None) };
    let head = &run.head;
    let from = if sticky { head.previous_started_event_id + 1 } else { 1 };
    let mut events = core.history(key, &head.run_id, from, head.next_event_id, PAGE_BYTES)?;
    let next = events.last().map_or(head.next_event_id, |event| event.event_id + 1);
    let mut transient = transient_events(head);
    let mut next_page_token = Bytes::new();
    if next < head.next_event_id {
        next_page_token = page_token(&head.run_id, next, head.next_event_id, !transient.is_empty());
    } else {
        events.append(&mut transient);
    }
    let token = token(head, task.scheduled_event_id, task.started_event_id, task.attempt, task.started_ms, "");
    let queries = core.ride(key, &head.run_id);
    Ok(Some(PollWorkflowTaskQueueResponse {
        task_token: token.encode_to_vec().into(),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: head.workflow_id.clone(),
            run_id: head.run_id.clone(),
        }),
        workflow_type: Some(WorkflowType { name: head.workflow_type.clone() }),
        previous_started_event_id: head.previous_started_event_id,
        started_event_id: task.started_event_id,
        attempt: task.attempt,
        history: Some(History { events }),
        next_page_token,
        workflow_execution_task_queue: Some(TaskQueue {
            name: head.task_queue.clone(),
            kind: 1,
            ..TaskQueue::default()
        }),
        scheduled_time: Some(timestamp(task.scheduled_ms)),
        started_time: Some(timestamp(task.started_ms)),
        queries,
        ..PollWorkflowTaskQueueResponse::default()
    }))
}

/// What the poller of a task is handed that was started for it.
pub enum StartedTask {
    Workflow(PollWorkflowTaskQueueResponse),
    Activity(PollActivityTaskQueueResponse),
}

/// The task that was started, and what gives it back if its poller has gone. `sticky`: the poller has the history up to its
/// last task.
pub fn started_task(core: &mut Core, key: &EntityId, sticky: bool, reply: Reply) -> Option<(StartedTask, ReturnTask)> {
    match reply {
        Reply::WorkflowTaskStarted { run_id } => {
            let run = core.run(key, &run_id).ok().flatten()?;
            let answer = workflow_task(core, key, &run, sticky).ok().flatten()?;
            let task = run.started_task()?;
            let (scheduled, started) = (task.scheduled_event_id, task.started_event_id);
            let token = token(&run.head, scheduled, started, task.attempt, task.started_ms, "");
            Some((StartedTask::Workflow(answer), give_back(token, TaskQueueType::Workflow)))
        }
        Reply::ActivityTaskStarted { run_id, scheduled_event_id } => {
            let run = core.run(key, &run_id).ok().flatten()?;
            let answer = activity_task(core, key, &run, scheduled_event_id).ok().flatten()?;
            let activity = run.activities.get(&scheduled_event_id)?;
            let token = token(&run.head, scheduled_event_id, 0, activity.attempt, activity.started_ms, "");
            Some((StartedTask::Activity(answer), give_back(token, TaskQueueType::Activity)))
        }
        _ => None,
    }
}

fn give_back(token: TaskToken, queue_type: TaskQueueType) -> ReturnTask {
    ReturnTask { token: Some(token), task_queue_type: queue_type as i32 }
}

/// A query as a task of its own. `sticky`: the worker has the history.
pub fn query_task(
    core: &mut Core,
    key: &EntityId,
    run_id: &str,
    id: u64,
    query: WorkflowQuery,
    sticky: bool,
) -> Result<Option<PollWorkflowTaskQueueResponse>, store::Error> {
    let Some(run) = core.run(key, run_id)? else { return Ok(None) };
    let head = &run.head;
    let mut events = Vec::new();
    let mut next_page_token = Bytes::new();
    if !sticky {
        events = core.history(key, &head.run_id, 1, head.next_event_id, PAGE_BYTES)?;
        let next = events.last().map_or(head.next_event_id, |event| event.event_id + 1);
        if next < head.next_event_id {
            next_page_token = page_token(&head.run_id, next, head.next_event_id, false);
        }
    }
    let token = TaskToken {
        namespace_id: key.namespace_id.to_string(),
        workflow_id: key.id.to_string(),
        run_id: head.run_id.clone(),
        scheduled_event_id: id as i64,
        activity_id: "query".into(),
        ..TaskToken::default()
    };
    Ok(Some(PollWorkflowTaskQueueResponse {
        task_token: token.encode_to_vec().into(),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: head.workflow_id.clone(),
            run_id: head.run_id.clone(),
        }),
        workflow_type: Some(WorkflowType { name: head.workflow_type.clone() }),
        previous_started_event_id: head.previous_started_event_id,
        // None, as nothing was started: SDKs take another number as the event that the history must reach.
        started_event_id: 0,
        attempt: 1,
        history: Some(History { events }),
        next_page_token,
        workflow_execution_task_queue: Some(TaskQueue {
            name: head.task_queue.clone(),
            kind: 1,
            ..TaskQueue::default()
        }),
        query: Some(query),
        queries: BTreeMap::new(),
        ..PollWorkflowTaskQueueResponse::default()
    }))
}

/// A started attempt of an activity.
pub fn activity_task(
    core: &mut Core,
    key: &EntityId,
    run: &Run,
    scheduled_event_id: i64,
) -> Result<Option<PollActivityTaskQueueResponse>, store::Error> {
    let head = &run.head;
    let Some(activity) = run.activities.get(&scheduled_event_id) else { return Ok(None) };
    let Some(event) = core.history_event(key, &head.run_id, scheduled_event_id)? else { return Ok(None) };
    let Some(A::ActivityTaskScheduledEventAttributes(scheduled)) = event.attributes else { return Ok(None) };
    let token = token(head, scheduled_event_id, 0, activity.attempt, activity.started_ms, &activity.activity_id);
    Ok(Some(PollActivityTaskQueueResponse {
        task_token: token.encode_to_vec().into(),
        workflow_namespace: head.namespace.clone(),
        workflow_type: Some(WorkflowType { name: head.workflow_type.clone() }),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: head.workflow_id.clone(),
            run_id: head.run_id.clone(),
        }),
        activity_type: Some(ActivityType { name: activity.activity_type.clone() }),
        activity_id: activity.activity_id.clone(),
        header: scheduled.header,
        input: scheduled.input,
        heartbeat_details: activity.heartbeat_details.clone(),
        scheduled_time: timestamp_or_none(activity.scheduled_ms),
        current_attempt_scheduled_time: timestamp_or_none(activity.attempt_scheduled_ms),
        started_time: timestamp_or_none(activity.started_ms),
        attempt: activity.attempt,
        schedule_to_close_timeout: scheduled.schedule_to_close_timeout,
        start_to_close_timeout: scheduled.start_to_close_timeout,
        heartbeat_timeout: scheduled.heartbeat_timeout,
        retry_policy: scheduled.retry_policy,
        priority: priority::inherited(head.priority.as_ref(), activity.priority.as_ref()),
        ..PollActivityTaskQueueResponse::default()
    }))
}
