//! Tasks and queries of one node for pollers that wait at another: how they are asked for, and handed out.

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::oneshot;
use tonic::Status;

use super::messages;
use crate::engine::{self, EntityId, Reply};
use crate::partition::{Core, Failure, Node, StartedTask, query_task, started_task};
use crate::proto::cluster::{StartTaskRequest, StartTaskResponse, TakeQueryRequest, TakeQueryResponse};
use crate::proto::commands::{Command, command::Body};

/// Only the owner answers for a partition.
fn check_owner(node: &Node, partition: u32) -> Result<(), Status> {
    match node.position(partition) {
        Some(_) => Ok(()),
        None => Err(Status::unavailable(format!("partition {partition} is not owned here"))),
    }
}

pub async fn start(node: &Arc<Node>, request: StartTaskRequest) -> Result<StartTaskResponse, Status> {
    let StartTaskRequest { partition, command, sticky } = request;
    let command =
        Command::decode(command).map_err(|error| Status::invalid_argument(format!("not a command: {error}")))?;
    check_owner(node, partition)?;
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
    node.partition(partition).command(command, Box::new(decided));
    receiver.await.map_err(|_| super::taken_over())
}

pub async fn take_query(node: &Arc<Node>, request: TakeQueryRequest) -> Result<TakeQueryResponse, Status> {
    let query = messages::query(request.place, request.id, request.query)?;
    let (partition, sticky) = (query.origin.partition, request.sticky);
    check_owner(node, partition)?;
    let (sender, receiver) = oneshot::channel();
    let take = move |core: &mut Core| {
        let (key, run_id) = (&query.origin.entity, &query.origin.run_id);
        let task = match core.is_awaited(key, run_id, query.id) {
            true => query_task(core, key, run_id, query.id, query.query, sticky).ok().flatten(),
            false => None,
        };
        drop(sender.send(task));
    };
    node.partition(partition).visit(Box::new(take));
    let task = receiver.await.map_err(|_| super::taken_over())?;
    Ok(TakeQueryResponse { response: task.map(|task| task.encode_to_vec().into()) })
}
