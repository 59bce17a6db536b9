//! Long polls of workers: a poller waits in a task queue, and what it is offered is started for it.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::Status;

use super::service::{Service, command};
use super::validate;
use crate::engine::{Reply, TaskQueueType};
use crate::matching::{Offer, Place, Query, QueueName, Take, TaskOrigin, Worker};
use crate::partition::{Core, Failure, Node, StartedTask, query_task, started_task};
use crate::proto::cluster::StartTaskResponse;
use crate::proto::commands::{ReturnTask, StartActivityTask, StartWorkflowTask, command::Body};
use crate::proto::state::Namespace;
use crate::proto::temporal::common::v1::WorkerVersionStamp;
use crate::proto::temporal::deployment::v1::WorkerDeploymentOptions;
use crate::proto::temporal::enums::v1::{TaskQueueKind, WorkerVersioningMode};
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflowservice::v1::*;

/// How long a poll waits for a task before it answers with none. Temporal's server has the same.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a poll waits before it says that there is no task because nothing will come any more.
const CLOSED_PAUSE: Duration = Duration::from_millis(100);

/// A call's place in its queue, given up when the call ends.
type Seat = Mutex<Option<Place>>;

/// A poller: what it polls, and where its answer goes.
struct Poller<R> {
    node: Arc<Node>,
    namespace: Arc<Namespace>,
    queue: QueueName,
    sticky: bool,
    worker: Worker,
    worker_version: Option<WorkerVersionStamp>,
    answer: oneshot::Sender<Result<R, Status>>,
    seat: Weak<Seat>,
}

trait Answer: prost::Message + Default + 'static {
    /// Of the queue that is polled.
    const QUEUE_TYPE: TaskQueueType;

    /// Starts what is offered, or waits again if it is not to be had any more.
    fn take(poller: Poller<Self>, offer: Offer);

    fn of(started: StartedTask) -> Option<Self>;
}

/// What the started events say of the worker's build; nothing, if the worker's deployment says it elsewhere.
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
fn wait<R: Answer>(poller: Poller<R>) {
    let Some(seat) = poller.seat.upgrade() else { return };
    let (node, queue, worker) = (poller.node.clone(), poller.queue.clone(), poller.worker.clone());
    let sticky = poller.sticky;
    let take: Take = Box::new(move |offer| R::take(poller, offer));
    let place = node.matching.poll(queue, sticky, &worker, take);
    *seat.lock().expect("no code panics while it holds a seat") = Some(place);
}

async fn poll<R: Answer>(
    service: &Service,
    namespace: &str,
    queue: Option<&TaskQueue>,
    worker: Worker,
    deployment: Option<&WorkerDeploymentOptions>,
) -> Result<R, Status> {
    let namespace = service.namespace(namespace)?;
    validate::task_queue(queue)?;
    validate::identity(&worker.identity)?;
    if let Some(capabilities) = &worker.capabilities {
        validate::build_id(&capabilities.build_id)?;
        validate::length("DeploymentSeriesName", &capabilities.deployment_series_name)?;
    }
    let worker_version = version(&worker, deployment);
    let queue = queue.cloned().unwrap_or_default();
    let name = QueueName {
        namespace_id: namespace.id.as_str().into(),
        name: queue.name.as_str().into(),
        queue_type: R::QUEUE_TYPE,
    };
    let (answer, answered) = oneshot::channel();
    let seat = Arc::new(Seat::default());
    let poller = Poller {
        node: service.node.clone(),
        namespace,
        queue: name,
        sticky: queue.kind() == TaskQueueKind::Sticky,
        worker,
        worker_version,
        answer,
        seat: Arc::downgrade(&seat),
    };
    wait(poller);
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            // The node stops, or the worker has said that it does: some poll again at once.
            tokio::time::sleep(CLOSED_PAUSE).await;
            Ok(R::default())
        }
        Err(_) => Ok(R::default()),
    }
}

pub async fn workflow_task(
    service: &Service,
    request: PollWorkflowTaskQueueRequest,
) -> Result<PollWorkflowTaskQueueResponse, Status> {
    let worker = Worker { identity: request.identity, capabilities: request.worker_version_capabilities };
    let deployment = request.deployment_options.as_ref();
    poll(service, &request.namespace, request.task_queue.as_ref(), worker, deployment).await
}

pub async fn activity_task(
    service: &Service,
    request: PollActivityTaskQueueRequest,
) -> Result<PollActivityTaskQueueResponse, Status> {
    let worker = Worker { identity: request.identity, capabilities: request.worker_version_capabilities };
    let deployment = request.deployment_options.as_ref();
    poll(service, &request.namespace, request.task_queue.as_ref(), worker, deployment).await
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

impl Answer for PollWorkflowTaskQueueResponse {
    const QUEUE_TYPE: TaskQueueType = TaskQueueType::Workflow;

    fn take(poller: Poller<Self>, offer: Offer) {
        match offer {
            Offer::Task { origin, task } => {
                let start = StartWorkflowTask {
                    run_id: origin.run_id.to_string(),
                    scheduled_event_id: task.scheduled_event_id,
                    attempt: task.attempt,
                    identity: poller.worker.identity.clone(),
                    request_id: poller.node.new_id(),
                    sticky: poller.sticky,
                    worker_version: poller.worker_version.clone(),
                };
                start_task(poller, &origin, Body::StartWorkflowTask(start));
            }
            Offer::Query(query) => deliver_query(poller, query),
        }
    }

    fn of(started: StartedTask) -> Option<Self> {
        match started {
            StartedTask::Workflow(response) => Some(response),
            StartedTask::Activity(_) => None,
        }
    }
}

impl Answer for PollActivityTaskQueueResponse {
    const QUEUE_TYPE: TaskQueueType = TaskQueueType::Activity;

    fn take(poller: Poller<Self>, offer: Offer) {
        match offer {
            Offer::Task { origin, task } => {
                let start = StartActivityTask {
                    run_id: origin.run_id.to_string(),
                    scheduled_event_id: task.scheduled_event_id,
                    attempt: task.attempt,
                    identity: poller.worker.identity.clone(),
                    request_id: poller.node.new_id(),
                    publish: false,
                };
                start_task(poller, &origin, Body::StartActivityTask(start));
            }
            // A query is never offered to a queue of activities.
            Offer::Query(_) => wait(poller),
        }
    }

    fn of(started: StartedTask) -> Option<Self> {
        match started {
            StartedTask::Activity(response) => Some(response),
            StartedTask::Workflow(_) => None,
        }
    }
}

/// Has the task started by the partition that it comes from. If it is stale, the poller waits again; if the poller has gone,
/// the task goes back.
fn start_task<R: Answer>(poller: Poller<R>, origin: &TaskOrigin, body: Body) {
    let node = poller.node.clone();
    let start = command(&node, &poller.namespace, &origin.entity, body);
    let key = origin.entity.clone();
    let (partition, sticky) = (origin.partition, poller.sticky);
    if node.is_elsewhere(partition) {
        let peers = node.peers.clone();
        let done = move |answer: Result<StartTaskResponse, String>| {
            // What nobody has started is offered again by its partition.
            let Ok(StartTaskResponse { response: Some(response), give_back }) = answer else { return wait(poller) };
            let Ok(response) = R::decode(response) else { return wait(poller) };
            let (namespace, node) = (poller.namespace.clone(), poller.node.clone());
            if poller.answer.send(Ok(response)).is_err()
                && let Ok(back) = ReturnTask::decode(give_back)
            {
                let back = command(&node, &namespace, &key, Body::ReturnTask(back));
                node.decide_anywhere(partition, back, Box::new(drop));
            }
        };
        return peers.start_task(partition, &start, sticky, Box::new(done));
    }
    let decided = move |core: &mut Core, outcome: Result<Reply, Failure>| {
        let started = outcome.ok().and_then(|reply| started_task(core, &key, sticky, reply));
        let Some((response, back)) = started.and_then(|(task, back)| Some((R::of(task)?, back))) else {
            return wait(poller);
        };
        let namespace = poller.namespace.name.clone();
        if poller.answer.send(Ok(response)).is_err() {
            core.enqueue(&namespace, &key, Body::ReturnTask(back), None);
        }
    };
    node.partition(partition).command(start, Box::new(decided));
}

fn deliver_query(poller: Poller<PollWorkflowTaskQueueResponse>, query: Query) {
    let node = poller.node.clone();
    let partition = query.origin.partition;
    if node.is_elsewhere(partition) {
        let sticky = poller.sticky;
        let done = move |answer: Result<Option<Bytes>, String>| {
            let response = answer.ok().flatten().and_then(|bytes| PollWorkflowTaskQueueResponse::decode(bytes).ok());
            match response {
                // If the poller has gone, whoever asked asks again.
                Some(response) => drop(poller.answer.send(Ok(response))),
                None => wait(poller),
            }
        };
        return node.peers.take_query(&query, sticky, Box::new(done));
    }
    node.partition(partition).visit(Box::new(move |core| {
        let Query { origin, id, query } = query;
        let key = &origin.entity;
        if !core.is_awaited(key, &origin.run_id, id) {
            return wait(poller);
        }
        match query_task(core, key, &origin.run_id, id, query.clone(), poller.sticky) {
            Ok(Some(response)) => {
                if poller.answer.send(Ok(response)).is_err() {
                    // The next poller gets it.
                    core.dispatch_again(key, &origin.run_id, id);
                }
            }
            _ => wait(poller),
        }
    }));
}
