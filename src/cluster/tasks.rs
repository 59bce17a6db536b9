//! Tasks and queries of one node for pollers that wait at another: how they are requested, and handed out. A task may carry much
//! of a history, so each is encoded and decoded by its own call, not by the stream.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::Status;

use super::messages::{self, place};
use super::{Link, taken_over};
use crate::engine::{self, EntityId};
use crate::matching::Query;
use crate::partition::{Node, PolledTask, TakeTask};
use crate::proto::cluster::start_task_response::Task;
use crate::proto::cluster::{StartTaskRequest, StartTaskResponse, TakeQueryRequest, TakeQueryResponse};
use crate::proto::commands::Command;
use crate::proto::tasks::{ActivityTask, WorkflowTask};

type Taken = Result<Option<PolledTask>, Status>;

/// Has a task started by the owner of its partition.
pub fn ask_for_task(
    owner: Arc<Link>,
    partition: u32,
    command: &Command,
    sticky: bool,
) -> impl Future<Output = Taken> + Send + use<> {
    let request = StartTaskRequest { partition, command: command.encode_to_vec().into(), sticky };
    async move { read(owner.ask(request).await?.task) }
}

/// Has a query handed out by the owner of its partition.
pub fn ask_for_query(owner: Arc<Link>, query: &Query, sticky: bool) -> impl Future<Output = Taken> + Send + use<> {
    let request = TakeQueryRequest {
        place: Some(place(&query.origin, 0)),
        id: query.id,
        query: query.query.encode_to_vec().into(),
        sticky,
    };
    async move { read(owner.ask(request).await?.task.map(Task::Workflow)) }
}

/// Starts a task of a partition of this node's.
pub async fn start(node: &Arc<Node>, request: StartTaskRequest) -> Result<StartTaskResponse, Status> {
    let StartTaskRequest { partition, command, sticky } = request;
    let command =
        Command::decode(command).map_err(|error| Status::invalid_argument(format!("not a command: {error}")))?;
    check_owner(node, partition)?;
    let entity =
        EntityId::of(&command).ok_or_else(|| Status::invalid_argument(engine::unknown_kind(&command).message()))?;
    let (taker, taken) = taker();
    node.partition(partition).start_task(entity, command, sticky, taker);
    Ok(StartTaskResponse { task: taken.await.map_err(|_| taken_over())?.map(written) })
}

/// Takes a query of a partition of this node's.
pub async fn take_query(node: &Arc<Node>, request: TakeQueryRequest) -> Result<TakeQueryResponse, Status> {
    let query = messages::query(request.place, request.id, request.query)?;
    let partition = query.origin.partition;
    check_owner(node, partition)?;
    let (taker, taken) = taker();
    node.partition(partition).take_query(query, request.sticky, taker);
    let task = taken.await.map_err(|_| taken_over())?.map(written);
    Ok(TakeQueryResponse { task: task.map(|(Task::Workflow(bytes) | Task::Activity(bytes))| bytes) })
}

/// Only the owner answers for a partition.
fn check_owner(node: &Node, partition: u32) -> Result<(), Status> {
    match node.position(partition) {
        Some(_) => Ok(()),
        None => Err(Status::unavailable(format!("partition {partition} is not owned here"))),
    }
}

/// What a partition hands a task to, and where the task is received: nothing, if its outcome is not known.
fn taker() -> (impl TakeTask, oneshot::Receiver<Option<PolledTask>>) {
    let (sender, receiver) = oneshot::channel();
    // The caller may have gone: then the task goes back.
    let take = |task: Result<_, String>| task.ok().and_then(|task| sender.send(task).err().flatten());
    (take, receiver)
}

fn written(task: PolledTask) -> Task {
    match task {
        PolledTask::Workflow(task) => Task::Workflow(task.encode_to_vec().into()),
        PolledTask::Activity(task) => Task::Activity(task.encode_to_vec().into()),
    }
}

fn read(task: Option<Task>) -> Taken {
    fn decoded<M: prost::Message + Default>(bytes: Bytes) -> Result<M, Status> {
        M::decode(bytes).map_err(|error| Status::internal(format!("another node's task can't be read: {error}")))
    }
    task.map(|task| match task {
        Task::Workflow(task) => decoded::<WorkflowTask>(task).map(PolledTask::from),
        Task::Activity(task) => decoded::<ActivityTask>(task).map(PolledTask::from),
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::commands::TaskToken;
    use crate::proto::temporal::history::v1::HistoryEvent;

    #[test]
    fn a_task_is_read_as_it_was_written() {
        let token = Some(TaskToken { run_id: "run".into(), attempt: 2, started_ms: 3, ..TaskToken::default() });
        let events = vec![HistoryEvent { event_id: 7, ..HistoryEvent::default() }];
        let workflow = WorkflowTask { token: token.clone(), events, next_event_id: 8, ..WorkflowTask::default() };
        let activity = ActivityTask { token, namespace: "default".into(), ..ActivityTask::default() };
        for task in [PolledTask::from(workflow), PolledTask::from(activity)] {
            assert_eq!(read(Some(written(task.clone()))).expect("it can be read"), Some(task));
        }
        assert_eq!(read(None).expect("there is none"), None);
        assert!(read(Some(Task::Workflow(Bytes::from_static(b"\xff")))).is_err());
    }
}
