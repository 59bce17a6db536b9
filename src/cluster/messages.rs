//! Task queues, and what waits in them, as messages between nodes: both ways.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use crate::engine::{EntityId, Kind as EntityKind, Task, TaskKind, TaskQueueType};
use crate::matching::{Item, Polled, PollerSeen, Query, QueueName, TaskOrigin, WaitingQuery, WaitingTask, Worker};
use crate::proto::cluster::{self, TaskPlace, item::What, waiting_task::Kind};
use crate::proto::temporal::common::v1::WorkerVersionCapabilities;
use crate::proto::temporal::query::v1::WorkflowQuery;

fn wrong(what: impl Into<String>) -> Status {
    Status::invalid_argument(what)
}

impl From<&QueueName> for cluster::QueueName {
    fn from(name: &QueueName) -> Self {
        let QueueName { namespace_id, name, queue_type } = name;
        let (namespace_id, name) = (namespace_id.to_string(), name.to_string());
        Self { namespace_id, name, task_queue_type: *queue_type as i32 }
    }
}

/// None if its type is not known here, as a newer node may have more of them: nothing here uses such a queue.
pub fn queue_name(name: cluster::QueueName) -> Option<QueueName> {
    let cluster::QueueName { namespace_id, name, task_queue_type } = name;
    let queue_type = TaskQueueType::of(task_queue_type)?;
    Some(QueueName { namespace_id: namespace_id.into(), name: name.into(), queue_type })
}

impl From<&Polled> for cluster::PolledQueue {
    fn from(polled: &Polled) -> Self {
        let Polled { queue, sticky, waiting, age } = polled;
        Self { queue: Some(queue.into()), sticky: *sticky, waiting: *waiting, age_ms: age.as_millis() as u64 }
    }
}

/// None if the type of the queue is not known here.
pub fn polled(polled: cluster::PolledQueue) -> Result<Option<Polled>, Status> {
    let cluster::PolledQueue { queue, sticky, waiting, age_ms } = polled;
    let queue = queue.ok_or_else(|| wrong("a queue without its name"))?;
    let age = Duration::from_millis(age_ms);
    Ok(queue_name(queue).map(|queue| Polled { queue, sticky, waiting, age }))
}

impl From<PollerSeen> for cluster::PollerSeen {
    fn from(seen: PollerSeen) -> Self {
        let PollerSeen { worker: Worker { identity, capabilities }, last_ms } = seen;
        let capabilities = capabilities.map(|capabilities| capabilities.encode_to_vec().into());
        Self { identity, last_ms, capabilities }
    }
}

impl From<cluster::PollerSeen> for PollerSeen {
    fn from(seen: cluster::PollerSeen) -> Self {
        let cluster::PollerSeen { identity, last_ms, capabilities } = seen;
        let capabilities = capabilities.and_then(|bytes| WorkerVersionCapabilities::decode(bytes).ok());
        Self { worker: Worker { identity, capabilities }, last_ms }
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

impl TryFrom<cluster::Item> for Item {
    type Error = Status;

    fn try_from(item: cluster::Item) -> Result<Self, Status> {
        match item.what {
            Some(What::Task(task)) => task.try_into().map(Self::Task),
            Some(What::Query(waiting)) => {
                let query = query(waiting.place, waiting.id, waiting.query)?;
                let (queue, normal_queue) = (waiting.queue.into(), waiting.normal_queue.into());
                Ok(Self::Query(WaitingQuery { query, queue, normal_queue }))
            }
            None => Err(wrong("neither a task nor a query")),
        }
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

impl TryFrom<cluster::WaitingTask> for WaitingTask {
    type Error = Status;

    fn try_from(waiting: cluster::WaitingTask) -> Result<Self, Status> {
        let kind = match Kind::try_from(waiting.kind) {
            Ok(Kind::Workflow) => TaskKind::Workflow,
            Ok(Kind::StickyWorkflow) => TaskKind::StickyWorkflow,
            Ok(Kind::Activity) => TaskKind::Activity,
            Err(_) => return Err(wrong(format!("tasks of kind {} are not known here", waiting.kind))),
        };
        let (origin, scheduled_event_id) = origin(waiting.place)?;
        let task = Task {
            kind,
            queue: waiting.task_queue,
            scheduled_event_id,
            attempt: waiting.attempt,
            scheduled_ms: waiting.scheduled_ms,
            not_before_ms: 0,
        };
        let (queue, normal_queue) = (waiting.queue.into(), waiting.normal_queue.into());
        Ok(Self { origin, task, queue, normal_queue })
    }
}

pub fn place(origin: &TaskOrigin, scheduled_event_id: i64) -> TaskPlace {
    TaskPlace {
        partition: origin.partition,
        kind: origin.entity.kind as u32,
        namespace_id: origin.entity.namespace_id.to_string(),
        id: origin.entity.id.to_string(),
        run_id: origin.run_id.to_string(),
        scheduled_event_id,
    }
}

fn origin(place: Option<TaskPlace>) -> Result<(TaskOrigin, i64), Status> {
    let place = place.ok_or_else(|| wrong("a task without its place"))?;
    let kind = EntityKind::of(place.kind)
        .ok_or_else(|| wrong(format!("entities of kind {} are not known here", place.kind)))?;
    let entity = EntityId::new(kind, &place.namespace_id, &place.id);
    let origin = TaskOrigin { partition: place.partition, entity, run_id: place.run_id.into() };
    Ok((origin, place.scheduled_event_id))
}

pub fn query(place: Option<TaskPlace>, id: u64, query: Bytes) -> Result<Query, Status> {
    let (origin, _) = origin(place)?;
    let query = WorkflowQuery::decode(query).map_err(|error| wrong(format!("not a query: {error}")))?;
    Ok(Query { origin, id, query })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin_of(partition: u32) -> TaskOrigin {
        TaskOrigin { partition, entity: EntityId::workflow("namespace", "id"), run_id: "run".into() }
    }

    #[test]
    fn what_waits_is_read_as_it_was_written() {
        for kind in [TaskKind::Workflow, TaskKind::StickyWorkflow, TaskKind::Activity] {
            let task = Task {
                kind,
                queue: "own".into(),
                scheduled_event_id: 5,
                attempt: 2,
                scheduled_ms: 1_700_000_000_000,
                not_before_ms: 0,
            };
            let (queue, normal_queue) = ("own".into(), "normal".into());
            let task = Item::Task(WaitingTask { origin: origin_of(3), task, queue, normal_queue });
            assert_eq!(Item::try_from(cluster::Item::from(&task)).expect("it can be read"), task);
        }
        let query = WorkflowQuery { query_type: "state".into(), ..WorkflowQuery::default() };
        let query = Query { origin: origin_of(4), id: u64::MAX, query };
        let query = Item::Query(WaitingQuery { query, queue: "sticky".into(), normal_queue: "normal".into() });
        assert_eq!(Item::try_from(cluster::Item::from(&query)).expect("it can be read"), query);
        for queue_type in [TaskQueueType::Workflow, TaskQueueType::Activity] {
            let queue = QueueName { namespace_id: "namespace".into(), name: "queue".into(), queue_type };
            let there = Polled { queue, sticky: true, waiting: false, age: Duration::from_millis(1500) };
            assert_eq!(polled(cluster::PolledQueue::from(&there)).expect("it can be read"), Some(there));
        }
    }

    #[test]
    fn queues_of_types_that_are_not_known_are_ignored() {
        let named =
            |task_queue_type| cluster::QueueName { namespace_id: "n".into(), name: "q".into(), task_queue_type };
        for number in [0, -1, i32::MAX] {
            assert_eq!(queue_name(named(number)), None, "{number}");
            let queue = cluster::PolledQueue { queue: Some(named(number)), ..Default::default() };
            assert_eq!(polled(queue).expect("it can be read"), None, "{number}");
        }
        assert!(polled(cluster::PolledQueue::default()).is_err(), "without a name");
    }

    #[test]
    fn what_this_node_can_not_name_is_refused() {
        let refused = |item: cluster::Item| Item::try_from(item).expect_err("it is refused").message().to_owned();
        assert_eq!(refused(cluster::Item { what: None }), "neither a task nor a query");
        let task =
            |place| cluster::Item { what: Some(What::Task(cluster::WaitingTask { place, ..Default::default() })) };
        assert_eq!(refused(task(None)), "a task without its place");
        let unknown = TaskPlace { kind: 4000, ..place(&origin_of(0), 1) };
        assert_eq!(refused(task(Some(unknown))), "entities of kind 4000 are not known here");
        let unknown = cluster::WaitingTask { kind: 4000, ..Default::default() };
        assert_eq!(refused(cluster::Item { what: Some(What::Task(unknown)) }), "tasks of kind 4000 are not known here");
    }
}
