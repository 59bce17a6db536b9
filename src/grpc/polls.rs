//! Long polls of workers: a poller waits in a task queue, and what it is offered is started for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Status;

use super::service::{Service, command};
use super::validate;
use crate::engine::Reply;
use crate::engine::due::Task;
use crate::matching::{Offer, Place, QueueName, Query, Take, TaskOrigin};
use crate::partition::{Core, EntityKey, Failure, Node, activity_task as activity_answer, query_task, token, workflow_task as workflow_answer};
use crate::proto::commands::{ReturnTask, StartActivityTask, StartWorkflowTask, command::Body};
use crate::proto::state::Namespace;
use crate::proto::temporal::enums::v1::TaskQueueKind;
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflowservice::v1::*;

/// How long a poll waits for a task before it answers with none. Temporal's server has the same.
const PATIENCE: Duration = Duration::from_secs(60);

/// A poller: what it polls, and where its answer goes.
struct Poller<R> {
    node: Arc<Node>,
    namespace: Arc<Namespace>,
    queue: QueueName,
    sticky: bool,
    identity: String,
    answer: oneshot::Sender<Result<R, Status>>,
    /// The place in the queue, given up when the call ends.
    place: oneshot::Sender<Place>,
}

trait Answer: Sized + Send + 'static {
    fn take(poller: Poller<Self>, offer: Offer);
}

fn wait<R: Answer>(poller: Poller<R>) {
    let (node, queue, identity) = (poller.node.clone(), poller.queue.clone(), poller.identity.clone());
    let (place, given) = oneshot::channel();
    let poller = Poller { place, ..poller };
    drop(given);
    let take: Take = Box::new(move |offer| R::take(poller, offer));
    // The place is held by the call, which may be gone by now.
    let held = node.matching.poll(queue, &identity, crate::partition::clock_ms(), take);
    std::mem::forget(held);
}

async fn poll<R: Answer + Default>(service: &Service, namespace: &str, queue: Option<&TaskQueue>, identity: &str, activity: bool) -> Result<R, Status> {
    let namespace = service.namespace(namespace)?;
    validate::task_queue(queue)?;
    validate::length("Identity", identity)?;
    let queue = queue.cloned().unwrap_or_default();
    let name = QueueName { namespace_id: namespace.id.as_str().into(), name: queue.name.as_str().into(), activity };
    let (answer, answered) = oneshot::channel();
    let poller = Poller {
        node: service.node.clone(),
        namespace,
        queue: name,
        sticky: queue.kind() == TaskQueueKind::Sticky,
        identity: identity.to_owned(),
        answer,
        place: oneshot::channel().0,
    };
    wait(poller);
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) | Err(_) => Ok(R::default()),
    }
}

pub async fn workflow_task(service: &Service, request: PollWorkflowTaskQueueRequest) -> Result<PollWorkflowTaskQueueResponse, Status> {
    poll(service, &request.namespace, request.task_queue.as_ref(), &request.identity, false).await
}

pub async fn activity_task(service: &Service, request: PollActivityTaskQueueRequest) -> Result<PollActivityTaskQueueResponse, Status> {
    poll(service, &request.namespace, request.task_queue.as_ref(), &request.identity, true).await
}
