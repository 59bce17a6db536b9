//! What other nodes ask of this one.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::oneshot;
use tonic::Status;

use crate::engine::{self, EntityId, Rejection, Reply, Task, TaskKind, TaskQueueType};
use crate::matching::{self, News, Polled, Query, TaskOrigin};
use crate::partition::{Core, Failure, Node, StartedTask, query_task, started_task};
use crate::proto::cluster::item::What;
use crate::proto::cluster::outcome::Kind;
use crate::proto::cluster::waiting_task::Kind as WaitingKind;
use crate::proto::cluster::*;
use crate::proto::commands::{Command, command::Body};
use crate::proto::temporal::query::v1::WorkflowQuery;
use crate::visibility::{self, Attributes};

pub struct Nodes {
    pub node: Arc<Node>,
}

impl Nodes {
    /// Only the owner answers for a partition.
    fn check_owner(&self, partition: u32) -> Result<(), Status> {
        match self.node.position(partition) {
            Some(_) => Ok(()),
            None => Err(Status::unavailable(format!("partition {partition} is not owned here"))),
        }
    }

    async fn visit<T: Send + 'static>(
        &self,
        partition: u32,
        visit: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (sender, receiver) = oneshot::channel();
        self.node.partition(partition).visit(Box::new(move |core| drop(sender.send(visit(core)))));
        receiver.await.map_err(|_| gone())
    }
}

fn gone() -> Status {
    Status::unavailable("the partition is being taken over")
}

fn command(bytes: bytes::Bytes) -> Result<Command, Status> {
    Command::decode(bytes).map_err(|error| Status::invalid_argument(format!("not a command: {error}")))
}

fn query(bytes: bytes::Bytes) -> Result<WorkflowQuery, Status> {
    WorkflowQuery::decode(bytes).map_err(|error| Status::invalid_argument(format!("not a query: {error}")))
}

fn outcome(decided: Result<Result<Reply, Failure>, oneshot::error::RecvError>) -> Outcome {
    let (kind, reason) = match decided {
        Ok(Ok(_)) => (Kind::Accepted, String::new()),
        Ok(Err(Failure::Rejected(Rejection::Duplicate))) => (Kind::Duplicate, String::new()),
        Ok(Err(Failure::Rejected(Rejection::OutOfOrder(reason)))) => (Kind::OutOfOrder, reason),
        Ok(Err(Failure::Rejected(rejection))) => (Kind::Rejected, rejection.message()),
        Ok(Err(Failure::Unavailable(reason) | Failure::Overloaded(reason))) => (Kind::Unavailable, reason),
        Err(_) => (Kind::Unavailable, gone().message().to_owned()),
    };
    Outcome { kind: kind.into(), reason }
}

fn origin(place: Option<TaskPlace>) -> Result<(TaskOrigin, i64), Status> {
    let place = place.ok_or_else(|| Status::invalid_argument("a task without its place"))?;
    let kind = engine::Kind::of(place.kind)
        .ok_or_else(|| Status::invalid_argument(format!("entities of kind {} are not known here", place.kind)))?;
    let entity = EntityId::new(kind, &place.namespace_id, &place.id);
    let origin = TaskOrigin { partition: place.partition, entity, run_id: place.run_id.into() };
    Ok((origin, place.scheduled_event_id))
}

fn waiting(waiting: WaitingTask) -> Result<matching::WaitingTask, Status> {
    let kind = match WaitingKind::try_from(waiting.kind) {
        Ok(WaitingKind::Workflow) => TaskKind::Workflow,
        Ok(WaitingKind::StickyWorkflow) => TaskKind::StickyWorkflow,
        Ok(WaitingKind::Activity) => TaskKind::Activity,
        Err(_) => return Err(Status::invalid_argument(format!("tasks of kind {} are not known here", waiting.kind))),
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
    Ok(matching::WaitingTask { origin, task, queue, normal_queue })
}

fn item(item: Item) -> Result<matching::Item, Status> {
    match item.what {
        Some(What::Task(task)) => waiting(task).map(matching::Item::Task),
        Some(What::Query(waiting)) => {
            let (origin, _) = origin(waiting.place)?;
            let query = Query { origin, id: waiting.id, query: query(waiting.query)? };
            let (queue, normal_queue) = (waiting.queue.into(), waiting.normal_queue.into());
            Ok(matching::Item::Query(matching::WaitingQuery { query, queue, normal_queue }))
        }
        None => Err(Status::invalid_argument("neither a task nor a query")),
    }
}

/// None if its type is not known here, as a newer node may have more of them: nothing here has to do with such a queue.
fn queue_name(name: QueueName) -> Option<matching::QueueName> {
    let QueueName { namespace_id, name, task_queue_type } = name;
    let queue_type = TaskQueueType::of(task_queue_type)?;
    Some(matching::QueueName { namespace_id: namespace_id.into(), name: name.into(), queue_type })
}

/// None if the type of the queue is not known here.
fn polled(polled: PolledQueue) -> Result<Option<Polled>, Status> {
    let PolledQueue { queue, sticky, waiting, age_ms } = polled;
    let queue = queue.ok_or_else(|| Status::invalid_argument("a queue without its name"))?;
    let age = Duration::from_millis(age_ms);
    Ok(queue_name(queue).map(|queue| Polled { queue, sticky, waiting, age }))
}

impl Nodes {
    pub async fn decide(&self, request: DecideRequest) -> Result<DecideResponse, Status> {
        let mut waiting = Vec::new();
        for AddressedCommand { partition, command } in request.commands {
            let command = match Command::decode(command) {
                Ok(command) => command,
                Err(error) => {
                    waiting
                        .push(Err(Outcome { kind: Kind::Rejected.into(), reason: format!("not a command: {error}") }));
                    continue;
                }
            };
            let (sender, receiver) = oneshot::channel();
            // One that is being taken over would hold up the others: what goes there is sent again.
            if self.node.position(partition).is_some() {
                let decided = move |_: &mut Core, outcome| drop(sender.send(outcome));
                self.node.partition(partition).command(command, Box::new(decided));
            }
            waiting.push(Ok(receiver));
        }
        let mut outcomes = Vec::with_capacity(waiting.len());
        for decided in waiting {
            outcomes.push(match decided {
                Ok(decided) => outcome(decided.await),
                Err(outcome) => outcome,
            });
        }
        Ok(DecideResponse { outcomes })
    }

    pub async fn announce(&self, request: AnnounceRequest) -> Result<AnnounceResponse, Status> {
        let news = News {
            polled: request
                .polled
                .into_iter()
                .filter_map(|queue| polled(queue).transpose())
                .collect::<Result<_, _>>()?,
            withdrawn: request.withdrawn.into_iter().map(waiting).collect::<Result<_, _>>()?,
            items: request.items.into_iter().map(item).collect::<Result<_, _>>()?,
            forgotten: request.forgotten.into_iter().filter_map(queue_name).collect(),
            probe: false,
        };
        let heard = self.node.matching.heard(&request.from.into(), news);
        let answer = heard.map_err(|matching::Closed| Status::unavailable("this node is stopping"))?;
        Ok(AnnounceResponse { kept: answer.kept, stranded: answer.stranded })
    }

    pub async fn start_task(&self, request: StartTaskRequest) -> Result<StartTaskResponse, Status> {
        let StartTaskRequest { partition, command: bytes, sticky } = request;
        let command = command(bytes)?;
        self.check_owner(partition)?;
        let key =
            EntityId::of(&command).ok_or_else(|| Status::invalid_argument(engine::unknown_kind(&command).message()))?;
        let namespace = command.namespace.clone();
        let (sender, receiver) = oneshot::channel();
        let decided = move |core: &mut Core, outcome: Result<Reply, Failure>| {
            let started = match outcome {
                Ok(reply) => started_task(core, &key, sticky, reply),
                Err(Failure::Rejected(_)) => None,
                Err(Failure::Unavailable(_) | Failure::Overloaded(_)) => return,
            };
            let Some((task, back)) = started else { return drop(sender.send(StartTaskResponse::default())) };
            let response = StartTaskResponse {
                response: Some(match task {
                    StartedTask::Workflow(response) => response.encode_to_vec().into(),
                    StartedTask::Activity(response) => response.encode_to_vec().into(),
                }),
                give_back: back.encode_to_vec().into(),
            };
            // Whoever asked has gone: the next poller gets the task.
            if sender.send(response).is_err() {
                core.enqueue(&namespace, &key, Body::ReturnTask(back), None);
            }
        };
        self.node.partition(partition).command(command, Box::new(decided));
        receiver.await.map_err(|_| gone())
    }

    pub async fn take_query(&self, request: TakeQueryRequest) -> Result<TakeQueryResponse, Status> {
        let (origin, _) = origin(request.place)?;
        let (id, sticky, query) = (request.id, request.sticky, query(request.query)?);
        let partition = origin.partition;
        self.check_owner(partition)?;
        let take = move |core: &mut Core| {
            let key = &origin.entity;
            if !core.is_awaited(key, &origin.run_id, id) {
                return None;
            }
            query_task(core, key, &origin.run_id, id, query, sticky).ok().flatten()
        };
        let task = self.visit(partition, take).await?;
        Ok(TakeQueryResponse { response: task.map(|task| task.encode_to_vec().into()) })
    }

    pub async fn list(&self, request: ListRequest) -> Result<ListResponse, Status> {
        let query =
            visibility::Query::parse(&request.namespace_id, &request.query, &decoded(request.search_attributes))?;
        let (partitions, sources) = super::visibility::owned(&self.node).await?;
        let size = request.page_size as usize;
        let page =
            super::visibility::blocking(move || visibility::merge::list(&sources, &query, size, &request.page_token));
        let page = page.await?;
        Ok(ListResponse {
            rows: page.rows.iter().map(|row| row.encode_to_vec().into()).collect(),
            next_page_token: page.next_page_token,
            partitions,
        })
    }

    pub async fn count(&self, request: CountRequest) -> Result<CountResponse, Status> {
        let query =
            visibility::Query::parse(&request.namespace_id, &request.query, &decoded(request.search_attributes))?;
        let (partitions, sources) = super::visibility::owned(&self.node).await?;
        let count = super::visibility::blocking(move || visibility::merge::count(&sources, &query)).await?;
        Ok(CountResponse { total: count.total, groups: count.groups.into_iter().collect(), partitions })
    }

    pub async fn describe_queue(&self, request: DescribeQueueRequest) -> Result<DescribeQueueResponse, Status> {
        // A queue of a type that is not known here has no pollers and no tasks here.
        let Some(name) = request.queue.and_then(queue_name) else { return Ok(DescribeQueueResponse::default()) };
        let stats = self.node.matching.stats(&name, self.node.clock_ms());
        Ok(DescribeQueueResponse {
            pollers: self.node.matching.pollers(&name).into_iter().map(poller_seen).collect(),
            backlog: stats.backlog as u64,
            oldest_age_ms: stats.oldest_age.as_millis() as u64,
        })
    }
}

fn poller_seen(seen: matching::PollerSeen) -> PollerSeen {
    PollerSeen {
        identity: seen.worker.identity,
        last_ms: seen.last_ms,
        capabilities: seen.worker.capabilities.map(|capabilities| capabilities.encode_to_vec().into()),
    }
}

fn decoded(attributes: std::collections::BTreeMap<String, i32>) -> Attributes {
    attributes.into_iter().filter_map(|(name, of)| Some((name, of.try_into().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(task_queue_type: i32) -> QueueName {
        QueueName { namespace_id: "n".into(), name: "q".into(), task_queue_type }
    }

    #[test]
    fn names_of_queues_come_back() {
        for queue_type in [TaskQueueType::Workflow, TaskQueueType::Activity] {
            let name = matching::QueueName { namespace_id: "n".into(), name: "q".into(), queue_type };
            assert_eq!(queue_name(QueueName::from(&name)), Some(name));
        }
    }

    #[test]
    fn queues_of_types_that_are_not_known_are_ignored() {
        for number in [0, -1, i32::MAX] {
            assert_eq!(queue_name(named(number)), None, "{number}");
            let queue = PolledQueue { queue: Some(named(number)), ..PolledQueue::default() };
            assert_eq!(polled(queue).expect("it can be read"), None, "{number}");
        }
        assert!(polled(PolledQueue::default()).is_err(), "without a name");
    }

    #[test]
    fn tasks_come_back_and_those_of_kinds_that_are_not_known_are_refused() {
        let entity = EntityId::workflow("n", "w");
        let origin = TaskOrigin { partition: 1, entity, run_id: "r".into() };
        for kind in [TaskKind::Workflow, TaskKind::StickyWorkflow, TaskKind::Activity] {
            let task =
                Task { kind, queue: "q".into(), scheduled_event_id: 2, attempt: 3, scheduled_ms: 4, not_before_ms: 0 };
            let there = matching::WaitingTask {
                origin: origin.clone(),
                task,
                queue: "q".into(),
                normal_queue: "normal".into(),
            };
            let told = WaitingTask::from(&there);
            assert_eq!(waiting(told.clone()).expect("it can be read"), there);
            assert!(waiting(WaitingTask { kind: i32::MAX, ..told }).is_err());
        }
    }
}
