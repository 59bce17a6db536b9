//! What a worker is handed: tasks, with the history that they need.

use crate::engine::workflow::{Run, transient_events, update_messages};
use crate::engine::{EntityId, Kind as EntityKind, Reply, TaskQueueType, priority};
use crate::partition::Core;
use crate::proto::commands::{ReturnTask, TaskToken};
use crate::proto::state;
use crate::proto::tasks::workflow_task::{Kind, Started};
use crate::proto::tasks::{ActivityTask, WorkflowTask};
use crate::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes as A};
use crate::proto::temporal::query::v1::WorkflowQuery;
use crate::store;

/// History in one answer: beyond this, the rest is read page by page. Bytes.
pub const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// What a poller is handed.
#[derive(Clone, Debug, PartialEq)]
pub enum PolledTask {
    /// A started workflow task, or a query.
    Workflow(Box<WorkflowTask>),
    Activity(Box<ActivityTask>),
}

impl From<WorkflowTask> for PolledTask {
    fn from(task: WorkflowTask) -> Self {
        Self::Workflow(Box::new(task))
    }
}

impl From<ActivityTask> for PolledTask {
    fn from(task: ActivityTask) -> Self {
        Self::Activity(Box::new(task))
    }
}

impl PolledTask {
    /// Offers a task to the next poller, if the one that it was started for has gone.
    pub fn give_back(self) -> ReturnTask {
        match self {
            Self::Workflow(task) => give_back(task.token, TaskQueueType::Workflow),
            Self::Activity(task) => give_back(task.token, TaskQueueType::Activity),
        }
    }
}

fn give_back(token: Option<TaskToken>, queue_type: TaskQueueType) -> ReturnTask {
    ReturnTask { token, task_queue_type: queue_type as i32 }
}

fn token(
    run: &state::Run,
    scheduled_event_id: i64,
    started_event_id: i64,
    attempt: i32,
    started_ms: i64,
    activity_id: &str,
) -> Option<TaskToken> {
    Some(TaskToken {
        namespace_id: run.namespace_id.clone(),
        kind: EntityKind::Workflow as u32,
        id: run.workflow_id.clone(),
        run_id: run.run_id.clone(),
        scheduled_event_id,
        started_event_id,
        attempt,
        activity_id: activity_id.to_owned(),
        started_ms,
        last_update: 0,
    })
}

/// The page of a run's history that begins with an event, and the event with which the next one does.
fn page(
    core: &mut Core,
    key: &EntityId,
    head: &state::Run,
    from: i64,
) -> Result<(Vec<HistoryEvent>, Option<i64>), store::Error> {
    let events = core.history(key, &head.run_id, from, head.next_event_id, PAGE_BYTES)?;
    let next = events.last().map_or(head.next_event_id, |event| event.event_id + 1);
    Ok((events, (next < head.next_event_id).then_some(next)))
}

/// The started workflow task of a run. `sticky`: the worker has the history up to its last task.
pub fn workflow_task(
    core: &mut Core,
    key: &EntityId,
    run: &Run,
    sticky: bool,
) -> Result<Option<WorkflowTask>, store::Error> {
    let Some(task) = run.started_task() else { return Ok(None) };
    let head = &run.head;
    let from = if sticky { head.previous_started_event_id + 1 } else { 1 };
    let (mut events, next) = page(core, key, head, from)?;
    let mut own = transient_events(head);
    let has_own = !own.is_empty();
    if next.is_none() {
        events.append(&mut own);
    }
    let started = Started {
        scheduled_ms: task.scheduled_ms,
        queries: core.attach_queries(key, &head.run_id),
        messages: update_messages::messages(run),
    };
    let token = token(head, task.scheduled_event_id, task.started_event_id, task.attempt, task.started_ms, "");
    Ok(Some(WorkflowTask {
        token: token.map(|token| TaskToken { last_update: task.last_update, ..token }),
        workflow_type: head.workflow_type.clone(),
        task_queue: head.task_queue.clone(),
        previous_started_event_id: head.previous_started_event_id,
        events,
        next_event_id: next.unwrap_or_default(),
        end_event_id: next.map_or(0, |_| head.next_event_id),
        transient_events: has_own,
        kind: Some(Kind::Started(started)),
    }))
}

/// A query as a task of its own. `sticky`: the worker has the history.
pub fn query_task(
    core: &mut Core,
    key: &EntityId,
    run_id: &str,
    id: u64,
    query: WorkflowQuery,
    sticky: bool,
) -> Result<Option<WorkflowTask>, store::Error> {
    let Some(run) = core.run(key, run_id)? else { return Ok(None) };
    let head = &run.head;
    let (events, next) = if sticky { (Vec::new(), None) } else { page(core, key, head, 1)? };
    Ok(Some(WorkflowTask {
        token: token(head, id as i64, 0, 0, 0, "query"),
        workflow_type: head.workflow_type.clone(),
        task_queue: head.task_queue.clone(),
        previous_started_event_id: head.previous_started_event_id,
        events,
        next_event_id: next.unwrap_or_default(),
        end_event_id: next.map_or(0, |_| head.next_event_id),
        transient_events: false,
        kind: Some(Kind::Query(query)),
    }))
}

/// A started attempt of an activity.
pub fn activity_task(
    core: &mut Core,
    key: &EntityId,
    run: &Run,
    scheduled_event_id: i64,
) -> Result<Option<ActivityTask>, store::Error> {
    let head = &run.head;
    let Some(activity) = run.activities.get(&scheduled_event_id) else { return Ok(None) };
    let Some(event) = core.history_event(key, &head.run_id, scheduled_event_id)? else { return Ok(None) };
    let Some(A::ActivityTaskScheduledEventAttributes(scheduled)) = event.attributes else { return Ok(None) };
    Ok(Some(ActivityTask {
        token: token(head, scheduled_event_id, 0, activity.attempt, activity.started_ms, &activity.activity_id),
        namespace: head.namespace.clone(),
        workflow_type: head.workflow_type.clone(),
        scheduled: Some(scheduled),
        heartbeat_details: activity.heartbeat_details.clone(),
        scheduled_ms: activity.scheduled_ms,
        attempt_scheduled_ms: activity.attempt_scheduled_ms,
        priority: priority::inherited(head.priority.as_ref(), activity.priority.as_ref()),
    }))
}

/// The task that a command has started. `sticky`: the poller has the history up to its last task.
pub fn started_task(core: &mut Core, key: &EntityId, sticky: bool, reply: Reply) -> Option<PolledTask> {
    match reply {
        Reply::WorkflowTaskStarted { run_id } => {
            let run = core.run(key, &run_id).ok().flatten()?;
            workflow_task(core, key, &run, sticky).ok().flatten().map(PolledTask::from)
        }
        Reply::ActivityTaskStarted { run_id, scheduled_event_id } => {
            let run = core.run(key, &run_id).ok().flatten()?;
            activity_task(core, key, &run, scheduled_event_id).ok().flatten().map(PolledTask::from)
        }
        _ => None,
    }
}
