//! Which node answers a call: the owner of the partition that it is about, whichever node it came to.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::service::Service;
use super::validate;
use crate::cluster::{Cluster, Link, moved};
use crate::engine::{EntityId, Kind};
use crate::metrics;
use crate::proto::temporal::common::v1::WorkflowExecution;
use crate::proto::temporal::operatorservice::v1::{
    AddSearchAttributesRequest, ListClustersRequest, ListSearchAttributesRequest, RemoveSearchAttributesRequest,
};
use crate::proto::temporal::workflowservice::v1::execute_multi_operation_request::{
    Operation, operation::Operation as OperationKind,
};
use crate::proto::temporal::workflowservice::v1::*;

/// How long a call waits for its partition to have an owner.
pub const OWNER_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long a call waits for a node that has just started to have read its namespaces, unless its caller gives up before.
const START_WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a call is about.
pub enum Key<'a> {
    /// Nothing that one partition owns, or too malformed to determine: any node answers.
    Any,
    /// An entity other than a namespace, by its id.
    Entity {
        kind: Kind,
        namespace: &'a str,
        id: &'a str,
    },
    /// What the token of a task names.
    Task(&'a [u8]),
    Queue {
        namespace: &'a str,
        queue: &'a str,
    },
    /// Any node that knows the namespace answers.
    Within(&'a str),
    Namespace(&'a str),
    /// Any node that knows the namespace of this id answers.
    NamespaceId(&'a str),
    /// Any node that knows all namespaces answers.
    AllNamespaces,
    /// One that is to be registered.
    NewNamespace(&'a str),
}

pub trait Routed {
    fn key(&self) -> Key<'_>;
}

fn of_execution<'a>(namespace: &'a str, execution: Option<&'a WorkflowExecution>) -> Key<'a> {
    match execution {
        Some(execution) => workflow(namespace, &execution.workflow_id),
        None => Key::Any,
    }
}

fn workflow<'a>(namespace: &'a str, workflow_id: &'a str) -> Key<'a> {
    Key::Entity { kind: Kind::Workflow, namespace, id: workflow_id }
}

fn schedule<'a>(namespace: &'a str, schedule_id: &'a str) -> Key<'a> {
    Key::Entity { kind: Kind::Schedule, namespace, id: schedule_id }
}

fn batch<'a>(namespace: &'a str, job_id: &'a str) -> Key<'a> {
    Key::Entity { kind: Kind::Batch, namespace, id: job_id }
}

fn of_operations<'a>(namespace: &'a str, operations: &'a [Operation]) -> Key<'a> {
    match operations.first().and_then(|first| first.operation.as_ref()) {
        Some(OperationKind::StartWorkflow(start)) => workflow(namespace, &start.workflow_id),
        _ => Key::Any,
    }
}

macro_rules! routed {
    ($($request:ident => |$it:ident| $key:expr;)*) => {
        $(impl Routed for $request {
            fn key(&self) -> Key<'_> {
                let $it = self;
                $key
            }
        })*
    };
}

routed! {
    StartWorkflowExecutionRequest => |r| workflow(&r.namespace, &r.workflow_id);
    SignalWithStartWorkflowExecutionRequest => |r| workflow(&r.namespace, &r.workflow_id);
    SignalWorkflowExecutionRequest => |r| of_execution(&r.namespace, r.workflow_execution.as_ref());
    RequestCancelWorkflowExecutionRequest => |r| of_execution(&r.namespace, r.workflow_execution.as_ref());
    TerminateWorkflowExecutionRequest => |r| of_execution(&r.namespace, r.workflow_execution.as_ref());
    UpdateWorkflowExecutionRequest => |r| of_execution(&r.namespace, r.workflow_execution.as_ref());
    PollWorkflowExecutionUpdateRequest => |r| {
        of_execution(&r.namespace, r.update_ref.as_ref().and_then(|update| update.workflow_execution.as_ref()))
    };
    ExecuteMultiOperationRequest => |r| of_operations(&r.namespace, &r.operations);
    ResetWorkflowExecutionRequest => |r| of_execution(&r.namespace, r.workflow_execution.as_ref());
    PauseWorkflowExecutionRequest => |r| workflow(&r.namespace, &r.workflow_id);
    UnpauseWorkflowExecutionRequest => |r| workflow(&r.namespace, &r.workflow_id);
    UpdateWorkflowExecutionOptionsRequest => |r| of_execution(&r.namespace, r.workflow_execution.as_ref());
    DeleteWorkflowExecutionRequest => |r| of_execution(&r.namespace, r.workflow_execution.as_ref());
    DescribeWorkflowExecutionRequest => |r| of_execution(&r.namespace, r.execution.as_ref());
    GetWorkflowExecutionHistoryRequest => |r| of_execution(&r.namespace, r.execution.as_ref());
    GetWorkflowExecutionHistoryReverseRequest => |r| of_execution(&r.namespace, r.execution.as_ref());
    QueryWorkflowRequest => |r| of_execution(&r.namespace, r.execution.as_ref());
    ResetStickyTaskQueueRequest => |r| of_execution(&r.namespace, r.execution.as_ref());
    RespondQueryTaskCompletedRequest => |r| Key::Task(&r.task_token);
    RespondWorkflowTaskCompletedRequest => |r| Key::Task(&r.task_token);
    RespondWorkflowTaskFailedRequest => |r| Key::Task(&r.task_token);
    RecordActivityTaskHeartbeatRequest => |r| Key::Task(&r.task_token);
    RespondActivityTaskCompletedRequest => |r| Key::Task(&r.task_token);
    RespondActivityTaskFailedRequest => |r| Key::Task(&r.task_token);
    RespondActivityTaskCanceledRequest => |r| Key::Task(&r.task_token);
    RecordActivityTaskHeartbeatByIdRequest => |r| workflow(&r.namespace, &r.workflow_id);
    RespondActivityTaskCompletedByIdRequest => |r| workflow(&r.namespace, &r.workflow_id);
    RespondActivityTaskFailedByIdRequest => |r| workflow(&r.namespace, &r.workflow_id);
    RespondActivityTaskCanceledByIdRequest => |r| workflow(&r.namespace, &r.workflow_id);
    PauseActivityRequest => |r| of_execution(&r.namespace, r.execution.as_ref());
    UnpauseActivityRequest => |r| of_execution(&r.namespace, r.execution.as_ref());
    ResetActivityRequest => |r| of_execution(&r.namespace, r.execution.as_ref());
    UpdateActivityOptionsRequest => |r| of_execution(&r.namespace, r.execution.as_ref());
    PauseActivityExecutionRequest => |r| workflow(&r.namespace, &r.workflow_id);
    UnpauseActivityExecutionRequest => |r| workflow(&r.namespace, &r.workflow_id);
    ResetActivityExecutionRequest => |r| workflow(&r.namespace, &r.workflow_id);
    UpdateActivityExecutionOptionsRequest => |r| workflow(&r.namespace, &r.workflow_id);
    PollWorkflowTaskQueueRequest => |r| Key::Within(&r.namespace);
    PollActivityTaskQueueRequest => |r| Key::Within(&r.namespace);
    DescribeTaskQueueRequest => |r| match &r.task_queue {
        Some(queue) => Key::Queue { namespace: &r.namespace, queue: &queue.name },
        None => Key::Any,
    };
    ShutdownWorkerRequest => |r| Key::Within(&r.namespace);
    CreateScheduleRequest => |r| schedule(&r.namespace, &r.schedule_id);
    DescribeScheduleRequest => |r| schedule(&r.namespace, &r.schedule_id);
    UpdateScheduleRequest => |r| schedule(&r.namespace, &r.schedule_id);
    PatchScheduleRequest => |r| schedule(&r.namespace, &r.schedule_id);
    ListScheduleMatchingTimesRequest => |r| schedule(&r.namespace, &r.schedule_id);
    DeleteScheduleRequest => |r| schedule(&r.namespace, &r.schedule_id);
    StartBatchOperationRequest => |r| batch(&r.namespace, &r.job_id);
    StopBatchOperationRequest => |r| batch(&r.namespace, &r.job_id);
    DescribeBatchOperationRequest => |r| batch(&r.namespace, &r.job_id);
    ListBatchOperationsRequest => |r| Key::Within(&r.namespace);
    ListSchedulesRequest => |r| Key::Within(&r.namespace);
    CountSchedulesRequest => |r| Key::Within(&r.namespace);
    RegisterNamespaceRequest => |r| Key::NewNamespace(&r.namespace);
    DescribeNamespaceRequest => |r| match r.namespace.as_str() {
        "" => Key::NamespaceId(&r.id),
        name => Key::Namespace(name),
    };
    UpdateNamespaceRequest => |r| Key::Namespace(&r.namespace);
    DeprecateNamespaceRequest => |r| Key::Namespace(&r.namespace);
    AddSearchAttributesRequest => |r| Key::Namespace(&r.namespace);
    RemoveSearchAttributesRequest => |r| Key::Namespace(&r.namespace);
    ListSearchAttributesRequest => |r| Key::Namespace(&r.namespace);
    ListClustersRequest => |_r| Key::Any;
    ListTaskQueuePartitionsRequest => |_r| Key::Any;
    PollWorkflowExecutionTimeSkippingRequest => |_r| Key::Any;
    ListWorkflowExecutionsRequest => |r| Key::Within(&r.namespace);
    ScanWorkflowExecutionsRequest => |r| Key::Within(&r.namespace);
    CountWorkflowExecutionsRequest => |r| Key::Within(&r.namespace);
    ListOpenWorkflowExecutionsRequest => |r| Key::Within(&r.namespace);
    ListClosedWorkflowExecutionsRequest => |r| Key::Within(&r.namespace);
    ListArchivedWorkflowExecutionsRequest => |r| Key::Within(&r.namespace);
    GetSearchAttributesRequest => |_r| Key::Any;
    ListNamespacesRequest => |_r| Key::AllNamespaces;
    GetSystemInfoRequest => |_r| Key::Any;
    GetClusterInfoRequest => |_r| Key::Any;
}

/// The node that answers.
enum Answerer<'a> {
    Here,
    There(&'a Cluster, Arc<Link>),
    /// The partition has no owner now, as far as is known.
    NoOwner,
}

impl Service {
    /// The partition of what a call is about; none if any node may answer.
    fn partition_of(&self, key: &Key<'_>) -> Option<u32> {
        let node = &self.node;
        let id = |namespace: &str| node.shared.namespaces.by_name(namespace).map(|namespace| namespace.id.clone());
        match key {
            Key::Any | Key::Within(_) | Key::NamespaceId(_) | Key::AllNamespaces => None,
            Key::Entity { kind, namespace, id: entity } => {
                Some(node.partition_of(&EntityId::new(*kind, &id(namespace)?, entity)))
            }
            Key::Task(token) => {
                let token = validate::token(token).ok()?;
                Some(node.partition_of(&EntityId::of_token(&token)?))
            }
            Key::Queue { queue: "", .. } => None,
            Key::Queue { namespace, queue } => Some(node.partition_of(&EntityId::workflow(&id(namespace)?, queue))),
            Key::Namespace("") | Key::NewNamespace("") => None,
            Key::Namespace(name) | Key::NewNamespace(name) => Some(node.partition_of(&EntityId::namespace(name))),
        }
    }

    fn answerer(&self, partition: u32) -> Answerer<'_> {
        if self.node.position(partition).is_some() {
            return Answerer::Here;
        }
        match &self.cluster {
            Some(cluster) => {
                cluster.owner(partition).map_or(Answerer::NoOwner, |owner| Answerer::There(cluster, owner))
            }
            // There is no other, and this one refuses if it can't.
            None => Answerer::Here,
        }
    }

    /// Answers a call here, or has it answered by the owner of its partition. One that another node has forwarded is answered
    /// here or not at all.
    pub async fn route<Q, R, F>(
        &self,
        method: &'static str,
        forwarded: bool,
        request: Q,
        here: impl FnOnce(Q) -> F,
    ) -> Result<R, Status>
    where
        Q: Routed + Message,
        R: Message + Default,
        F: Future<Output = Result<R, Status>>,
    {
        let begun = tokio::time::Instant::now();
        self.learn_of(&request.key()).await;
        let Some(partition) = self.partition_of(&request.key()) else { return here(request).await };
        loop {
            match self.answerer(partition) {
                Answerer::Here => return here(request).await,
                Answerer::There(_, owner) if forwarded => return Err(moved(&owner)),
                Answerer::There(cluster, owner) => return self.forward(cluster, &owner, method, request).await,
                Answerer::NoOwner if begun.elapsed() >= OWNER_WAIT_MAX => {
                    return Err(Status::unavailable(format!(
                        "partition {partition} has no owner now: a node is about to take it over, so try again"
                    )));
                }
                Answerer::NoOwner => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn forward<Q, R>(
        &self,
        cluster: &Cluster,
        owner: &Link,
        method: &'static str,
        request: Q,
    ) -> Result<R, Status>
    where
        Q: Routed + Message,
        R: Message + Default,
    {
        let answer = cluster.forward(owner, method, request.encode_to_vec().into()).await;
        let answer = answer.and_then(message);
        metrics::grpc_forwarded(method, metrics::code_of(&answer));
        if let (Ok(_), Key::NewNamespace(name)) = (&answer, request.key()) {
            // What was registered through this node is known here before its caller gets the answer.
            self.await_namespace(name).await;
        }
        answer
    }

    /// Makes sure that what a call needs to know of namespaces is known, if it can be.
    async fn learn_of(&self, key: &Key<'_>) {
        match key {
            Key::Entity { namespace, .. } | Key::Queue { namespace, .. } => self.await_namespace(namespace).await,
            Key::Within(namespace) | Key::Namespace(namespace) => self.await_namespace(namespace).await,
            Key::Task(token) => {
                if let Ok(token) = validate::token(token) {
                    self.learn_id(&token.namespace_id).await;
                }
            }
            Key::NamespaceId(id) => self.learn_id(id).await,
            Key::AllNamespaces => self.await_start(|| false).await,
            Key::Any | Key::NewNamespace(_) => {}
        }
    }

    /// Makes sure that a namespace which is not known is not there: another node may have registered it just now, or this one
    /// has begun a moment ago.
    async fn await_namespace(&self, name: &str) {
        self.learn_whether(|| name.is_empty() || self.node.shared.namespaces.by_name(name).is_some()).await;
    }

    async fn learn_id(&self, id: &str) {
        self.learn_whether(|| id.is_empty() || self.node.shared.namespaces.by_id(id).is_some()).await;
    }

    async fn learn_whether(&self, known: impl Fn() -> bool) {
        self.await_start(&known).await;
        if !known() {
            let peers = self.node.peers.clone();
            let _ = tokio::task::spawn_blocking(move || peers.catch_up_with_control()).await;
        }
    }

    /// Waits until this node has read all namespaces, or knows enough.
    async fn await_start(&self, enough: impl Fn() -> bool) {
        let begun = tokio::time::Instant::now();
        while !enough() && !self.knows_namespaces() && begun.elapsed() < START_WAIT_MAX {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A message as another node has sent it.
pub fn message<T: Message + Default>(bytes: Bytes) -> Result<T, Status> {
    T::decode(bytes).map_err(|error| Status::internal(format!("another node sent what can't be read: {error}")))
}
