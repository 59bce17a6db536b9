//! Long polls of workers: a poller waits in a task queue, and what it is offered is started for it.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Status;

use super::service::{Service, command};
use super::validate;
use crate::engine::{Task, TaskQueueType};
use crate::matching::{Offer, Place, Query, QueueName, Take, TaskOrigin, Worker};
use crate::partition::{Node, PolledTask};
use crate::proto::commands::{StartActivityTask, StartWorkflowTask, command::Body};
use crate::proto::state::Namespace;
use crate::proto::temporal::common::v1::WorkerVersionStamp;
use crate::proto::temporal::deployment::v1::WorkerDeploymentOptions;
use crate::proto::temporal::enums::v1::{TaskQueueKind, WorkerVersioningMode};
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflowservice::v1::*;

/// How long a poll waits for a task before it answers with none. Temporal's server has the same.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a poll waits before it returns without a task because nothing will come any more.
const CLOSED_PAUSE: Duration = Duration::from_millis(100);

/// A call's place in its queue, given up when the call ends.
type Seat = Mutex<Option<Place>>;

/// A poller: what it polls, and where its task goes.
struct Poller {
    node: Arc<Node>,
    namespace: Arc<Namespace>,
    queue: QueueName,
    sticky: bool,
    worker: Worker,
    worker_version: Option<WorkerVersionStamp>,
    task: oneshot::Sender<PolledTask>,
    seat: Weak<Seat>,
}

/// The worker's build for the started events; none, if the worker's deployment has it elsewhere.
fn version(worker: &Worker, deployment: Option<&WorkerDeploymentOptions>) -> Option<WorkerVersionStamp> {
    let capabilities = worker.capabilities.as_ref().filter(|capabilities| !capabilities.build_id.is_empty())?;
    let deployed = deployment.is_some_and(|options| {
        options.worker_versioning_mode() == WorkerVersioningMode::Versioned && !options.deployment_name.is_empty()
    });
    if deployed || (capabilities.use_versioning && !capabilities.deployment_series_name.is_empty()) {
        return None;
    }
    Some(WorkerVersionStamp { build_id: capabilities.build_id.clone(), use_versioning: capabilities.use_versioning })
}

/// Takes a place in the queue.
fn wait(poller: Poller) {
    let Some(seat) = poller.seat.upgrade() else { return };
    let (node, queue, worker) = (poller.node.clone(), poller.queue.clone(), poller.worker.clone());
    let sticky = poller.sticky;
    let take: Take = Box::new(move |offer| take(poller, offer));
    let place = node.matching.poll(queue, sticky, &worker, take);
    *seat.lock().expect("no code panics while it holds a seat") = Some(place);
}

/// Waits for a task. `None`: there was none.
async fn poll(
    service: &Service,
    namespace: &str,
    queue: Option<&TaskQueue>,
    worker: Worker,
    deployment: Option<&WorkerDeploymentOptions>,
    queue_type: TaskQueueType,
) -> Result<Option<PolledTask>, Status> {
    let namespace = service.namespace(namespace)?;
    validate::task_queue(queue)?;
    validate::identity(&worker.identity)?;
    if let Some(capabilities) = &worker.capabilities {
        validate::build_id(&capabilities.build_id)?;
        validate::length("DeploymentSeriesName", &capabilities.deployment_series_name)?;
    }
    let worker_version = version(&worker, deployment);
    let queue = queue.cloned().unwrap_or_default();
    let name = QueueName { namespace_id: namespace.id.as_str().into(), name: queue.name.as_str().into(), queue_type };
    let (task, polled) = oneshot::channel();
    let seat = Arc::new(Seat::default());
    let poller = Poller {
        node: service.node.clone(),
        namespace,
        queue: name,
        sticky: queue.kind() == TaskQueueKind::Sticky,
        worker,
        worker_version,
        task,
        seat: Arc::downgrade(&seat),
    };
    wait(poller);
    match tokio::time::timeout(PATIENCE, polled).await {
        Ok(Ok(task)) => Ok(Some(task)),
        Ok(Err(_)) => {
            // The node or the worker shuts down: some workers poll again at once.
            tokio::time::sleep(CLOSED_PAUSE).await;
            Ok(None)
        }
        Err(_) => Ok(None),
    }
}

pub async fn workflow_task(
    service: &Service,
    request: PollWorkflowTaskQueueRequest,
) -> Result<PollWorkflowTaskQueueResponse, Status> {
    let worker = Worker { identity: request.identity, capabilities: request.worker_version_capabilities };
    let deployment = request.deployment_options.as_ref();
    match poll(service, &request.namespace, request.task_queue.as_ref(), worker, deployment, TaskQueueType::Workflow)
        .await?
    {
        Some(PolledTask::Workflow(task)) => Ok((*task).into()),
        Some(PolledTask::Activity(_)) | None => Ok(PollWorkflowTaskQueueResponse::default()),
    }
}

pub async fn activity_task(
    service: &Service,
    request: PollActivityTaskQueueRequest,
) -> Result<PollActivityTaskQueueResponse, Status> {
    let worker = Worker { identity: request.identity, capabilities: request.worker_version_capabilities };
    let deployment = request.deployment_options.as_ref();
    match poll(service, &request.namespace, request.task_queue.as_ref(), worker, deployment, TaskQueueType::Activity)
        .await?
    {
        Some(PolledTask::Activity(task)) => Ok((*task).into()),
        Some(PolledTask::Workflow(_)) | None => Ok(PollActivityTaskQueueResponse::default()),
    }
}

pub async fn shutdown_worker(
    service: &Service,
    request: ShutdownWorkerRequest,
) -> Result<ShutdownWorkerResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    if !request.sticky_task_queue.is_empty() {
        service.node.matching.forget_sticky(&namespace.id, &request.sticky_task_queue);
    }
    Ok(ShutdownWorkerResponse::default())
}

/// Has what is offered started by the partition that it comes from, or waits again if it is no longer available.
fn take(poller: Poller, offer: Offer) {
    match offer {
        Offer::Task { origin, task } => start_task(poller, origin, &task),
        Offer::Query(query) => take_query(poller, query),
    }
}

/// What starts a task for a poller.
fn start_of(poller: &Poller, origin: &TaskOrigin, task: &Task) -> Body {
    let run_id = origin.run_id.to_string();
    let (scheduled_event_id, attempt) = (task.scheduled_event_id, task.attempt);
    let (identity, request_id) = (poller.worker.identity.clone(), poller.node.new_id());
    match poller.queue.queue_type {
        TaskQueueType::Workflow => Body::StartWorkflowTask(StartWorkflowTask {
            run_id,
            scheduled_event_id,
            attempt,
            identity,
            request_id,
            sticky: poller.sticky,
            worker_version: poller.worker_version.clone(),
        }),
        TaskQueueType::Activity => Body::StartActivityTask(StartActivityTask {
            run_id,
            scheduled_event_id,
            attempt,
            identity,
            request_id,
            publish: false,
        }),
    }
}

fn start_task(poller: Poller, origin: TaskOrigin, task: &Task) {
    let TaskOrigin { partition, entity, .. } = &origin;
    let (node, sticky, partition) = (poller.node.clone(), poller.sticky, *partition);
    let start = command(&node, &poller.namespace, entity, start_of(&poller, &origin, task));
    let entity = origin.entity;
    if !node.is_elsewhere(partition) {
        return node.partition(partition).start_task(entity, start, sticky, |task| hand(poller, task));
    }
    let peers = node.peers.clone();
    let done = move |task| {
        let namespace = poller.namespace.clone();
        if let Some(task) = hand(poller, task) {
            let back = command(&node, &namespace, &entity, Body::ReturnTask(task.give_back()));
            node.decide_anywhere(partition, back, Box::new(drop));
        }
    };
    peers.start_task(partition, &start, sticky, Box::new(done));
}

fn take_query(poller: Poller, query: Query) {
    let (node, sticky, partition) = (poller.node.clone(), poller.sticky, query.origin.partition);
    if !node.is_elsewhere(partition) {
        return node.partition(partition).take_query(query, sticky, |task| hand(poller, task));
    }
    // If the poller has gone, the query's caller retries.
    node.peers.take_query(&query, sticky, Box::new(|task| drop(hand(poller, task))));
}

/// Hands a poller its task, or has it wait again if there is none: one that is not started is offered again by its partition.
/// Returns the task if the poller has gone.
fn hand(poller: Poller, task: Result<Option<PolledTask>, String>) -> Option<PolledTask> {
    match task {
        Ok(Some(task)) => poller.task.send(task).err(),
        Ok(None) | Err(_) => {
            wait(poller);
            None
        }
    }
}
