//! `WorkflowService`: each method checks its request, makes a command or a read of it, and waits for the outcome.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::codegen::BoxFuture;
use tonic::{Request, Response, Status};

use super::{
    activities, activity_operations, batches, describe, errors, executions, history, namespaces, polls, queries,
    schedules, search_attributes, system, task_queues, updates, visibility, workflow_operations, workflow_tasks,
};
use crate::cluster::{Api, Cluster};
use crate::engine::{EntityId, Reply};
use crate::partition::{Core, Node, Read};
use crate::proto::commands::{Command, command::Body};
use crate::proto::state::Namespace;
use crate::proto::temporal::workflowservice::v1::{workflow_service_server::WorkflowService, *};

/// Serves the API: from this node's partitions, or by asking the nodes that own the others.
#[derive(Clone)]
pub struct Service {
    pub node: Arc<Node>,
    /// The other nodes; none where there can't be any.
    pub cluster: Option<Arc<Cluster>>,
    pub cluster_id: Arc<str>,
    /// Whether the namespaces that the settings name are registered.
    pub ready: Arc<AtomicBool>,
}

impl Service {
    pub fn namespace(&self, name: &str) -> Result<Arc<Namespace>, Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument("Namespace not set on request."));
        }
        self.node.shared.namespaces.by_name(name).ok_or_else(|| self.no_namespace(name))
    }

    pub fn namespace_by_id(&self, id: &str) -> Result<Arc<Namespace>, Status> {
        self.node.shared.namespaces.by_id(id).ok_or_else(|| self.no_namespace(id))
    }

    /// Whether a namespace that is not known does not exist.
    pub fn knows_namespaces(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.node.knows_all_shared()
    }

    fn no_namespace(&self, name: &str) -> Status {
        if self.knows_namespaces() {
            errors::namespace_not_found(name)
        } else {
            Status::unavailable("the server is still reading its namespaces: try again")
        }
    }

    /// The namespace of a task token, whose name the request may leave out.
    pub fn namespace_of(&self, name: &str, id: &str) -> Result<Arc<Namespace>, Status> {
        let namespace = if name.is_empty() { self.namespace_by_id(id)? } else { self.namespace(name)? };
        if namespace.id != id {
            return Err(Status::invalid_argument("Operation requested with a token from a different namespace."));
        }
        Ok(namespace)
    }

    /// Appends a command and waits for its outcome; `build` makes the answer in the partition's loop.
    pub async fn command<T: Send + 'static>(
        &self,
        namespace: &Namespace,
        workflow_id: &str,
        body: Body,
        build: impl FnOnce(&mut Core, &EntityId, Reply) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        self.to_entity(namespace, EntityId::workflow(&namespace.id, workflow_id), body, build).await
    }

    /// The same of a command to any entity of the namespace.
    pub async fn to_entity<T: Send + 'static>(
        &self,
        namespace: &Namespace,
        key: EntityId,
        body: Body,
        build: impl FnOnce(&mut Core, &EntityId, Reply) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        self.decide(command(&self.node, namespace, &key, body), &key, build).await
    }

    /// The same of a command that is made already.
    pub async fn decide<T: Send + 'static>(
        &self,
        command: Command,
        key: &EntityId,
        build: impl FnOnce(&mut Core, &EntityId, Reply) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let (sender, receiver) = oneshot::channel();
        let (key, owner) = (key.clone(), self.node.owner_of(key));
        let decided = move |core: &mut Core, outcome: Result<Reply, crate::partition::Failure>| {
            let answer = outcome.map_err(Status::from).and_then(|reply| build(core, &key, reply));
            let _ = sender.send(answer);
        };
        owner.command(command, Box::new(decided));
        receiver.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Reads of a workflow in the partition's loop, once it knows all that stood in the log when this was called.
    pub async fn read<T: Send + 'static>(
        &self,
        namespace_id: &str,
        workflow_id: &str,
        read: impl FnOnce(&mut Core, &EntityId) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        self.read_entity(EntityId::workflow(namespace_id, workflow_id), read).await
    }

    /// The same of any entity.
    pub async fn read_entity<T: Send + 'static>(
        &self,
        key: EntityId,
        read: impl FnOnce(&mut Core, &EntityId) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let owner = self.node.owner_of(&key);
        let (read, answer) = visitor(key, read);
        owner.read(read);
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Runs something in the partition's loop that depends on nothing in the log.
    pub async fn visit<T: Send + 'static>(
        &self,
        namespace_id: &str,
        workflow_id: &str,
        visit: impl FnOnce(&mut Core, &EntityId) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let key = EntityId::workflow(namespace_id, workflow_id);
        let owner = self.node.owner_of(&key);
        let (visit, answer) = visitor(key, visit);
        owner.visit(visit);
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn visitor<T: Send + 'static>(
    key: EntityId,
    visit: impl FnOnce(&mut Core, &EntityId) -> Result<T, Status> + Send + 'static,
) -> (Read, oneshot::Receiver<Result<T, Status>>) {
    let (sender, receiver) = oneshot::channel();
    let visit = move |core: &mut Core| {
        let answer = visit(core, &key);
        let _ = sender.send(answer);
    };
    (Box::new(visit), receiver)
}

fn stopping() -> Status {
    Status::unavailable(
        "the partition is being taken over, its log does not answer, or the server is stopping: try again",
    )
}

/// A command of this node, with everything that its decision needs.
pub fn command(node: &Node, namespace: &Namespace, entity: &EntityId, body: Body) -> Command {
    Command {
        kind: entity.kind as u32,
        namespace_id: entity.namespace_id.to_string(),
        namespace: namespace.name.clone(),
        id: entity.id.to_string(),
        seed_high: node.random(),
        seed_low: node.random(),
        sent_ms: node.clock_ms(),
        retention_s: (namespace.retention_ms / 1000).max(1),
        history_count_suggest: node.settings.history_count_suggest,
        body: Some(body),
        ..Command::default()
    }
}

/// A method's name: a request's without `Request`.
pub const fn method(request: &'static str) -> &'static str {
    request.split_at(request.len() - "Request".len()).0
}

/// A request with the metadata that its answer depends on: the call may be forwarded to another node.
pub fn taken_in<T: Any>(request: Request<T>) -> T {
    let (metadata, _, mut message) = request.into_parts();
    if let Some(read) = (&mut message as &mut dyn Any).downcast_mut::<GetWorkflowExecutionHistoryRequest>()
        && let Some(Ok(client)) = metadata.get("client-name").map(|name| name.to_str())
    {
        history::note_client(read, client);
    }
    message
}

/// Serves methods of one of the API's services, here or where their partitions are owned; `$forwarded` answers those that have
/// come to another node.
macro_rules! serve {
    ($api:ident as $forwarded:ident: $($method:ident($request:ident) -> $response:ident = $module:ident::$function:ident;)*) => {
        #[tonic::async_trait]
        impl $api for Service {
            $(async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                const METHOD: &str = crate::grpc::service::method(stringify!($request));
                let request = crate::grpc::service::taken_in(request);
                let answer = self.route(METHOD, false, request, |request| $module::$function(self, request));
                answer.await.map(Response::new)
            })*
        }

        /// The methods that are served.
        #[cfg(test)]
        pub const METHODS: &[&str] = &[$(crate::grpc::service::method(stringify!($request))),*];

        impl Service {
            pub fn $forwarded(&self, name: &str, request: &[u8]) -> Option<(&'static str, BoxFuture<Bytes, Status>)> {
                $({
                    const METHOD: &str = crate::grpc::service::method(stringify!($request));
                    if name == METHOD {
                        let service = self.clone();
                        // A copy: what is kept of it must not keep all in memory that came with it.
                        let request = crate::grpc::route::message(Bytes::copy_from_slice(request));
                        let answer = async move {
                            let here = |request| $module::$function(&service, request);
                            Ok(service.route(METHOD, true, request?, here).await?.encode_to_vec().into())
                        };
                        return Some((METHOD, Box::pin(answer)));
                    }
                })*
                None
            }
        }
    };
}

pub(super) use serve;

impl Api for Service {
    fn forwarded(&self, method: &str, request: &[u8]) -> Option<(&'static str, BoxFuture<Bytes, Status>)> {
        self.forwarded_workflow(method, request).or_else(|| self.forwarded_operator(method, request))
    }
}

// Every other method answers UNIMPLEMENTED: the generated stubs do, and a layer adds the name.
serve! { WorkflowService as forwarded_workflow:
    start_workflow_execution(StartWorkflowExecutionRequest) -> StartWorkflowExecutionResponse = executions::start;
    signal_workflow_execution(SignalWorkflowExecutionRequest) -> SignalWorkflowExecutionResponse = executions::signal;
    signal_with_start_workflow_execution(SignalWithStartWorkflowExecutionRequest) -> SignalWithStartWorkflowExecutionResponse = executions::signal_with_start;
    request_cancel_workflow_execution(RequestCancelWorkflowExecutionRequest) -> RequestCancelWorkflowExecutionResponse = executions::request_cancel;
    terminate_workflow_execution(TerminateWorkflowExecutionRequest) -> TerminateWorkflowExecutionResponse = executions::terminate;
    update_workflow_execution(UpdateWorkflowExecutionRequest) -> UpdateWorkflowExecutionResponse = updates::update;
    poll_workflow_execution_update(PollWorkflowExecutionUpdateRequest) -> PollWorkflowExecutionUpdateResponse = updates::poll;
    execute_multi_operation(ExecuteMultiOperationRequest) -> ExecuteMultiOperationResponse = updates::execute_multi_operation;
    reset_workflow_execution(ResetWorkflowExecutionRequest) -> ResetWorkflowExecutionResponse = workflow_operations::reset;
    pause_workflow_execution(PauseWorkflowExecutionRequest) -> PauseWorkflowExecutionResponse = workflow_operations::pause;
    unpause_workflow_execution(UnpauseWorkflowExecutionRequest) -> UnpauseWorkflowExecutionResponse = workflow_operations::unpause;
    update_workflow_execution_options(UpdateWorkflowExecutionOptionsRequest) -> UpdateWorkflowExecutionOptionsResponse = workflow_operations::update_options;
    poll_workflow_execution_time_skipping(PollWorkflowExecutionTimeSkippingRequest) -> PollWorkflowExecutionTimeSkippingResponse = workflow_operations::poll_time_skipping;
    delete_workflow_execution(DeleteWorkflowExecutionRequest) -> DeleteWorkflowExecutionResponse = executions::delete;
    describe_workflow_execution(DescribeWorkflowExecutionRequest) -> DescribeWorkflowExecutionResponse = describe::describe;
    get_workflow_execution_history(GetWorkflowExecutionHistoryRequest) -> GetWorkflowExecutionHistoryResponse = history::get;
    get_workflow_execution_history_reverse(GetWorkflowExecutionHistoryReverseRequest) -> GetWorkflowExecutionHistoryReverseResponse = history::get_reverse;
    query_workflow(QueryWorkflowRequest) -> QueryWorkflowResponse = queries::query;
    respond_query_task_completed(RespondQueryTaskCompletedRequest) -> RespondQueryTaskCompletedResponse = queries::respond;
    poll_workflow_task_queue(PollWorkflowTaskQueueRequest) -> PollWorkflowTaskQueueResponse = polls::workflow_task;
    poll_activity_task_queue(PollActivityTaskQueueRequest) -> PollActivityTaskQueueResponse = polls::activity_task;
    shutdown_worker(ShutdownWorkerRequest) -> ShutdownWorkerResponse = polls::shutdown_worker;
    respond_workflow_task_completed(RespondWorkflowTaskCompletedRequest) -> RespondWorkflowTaskCompletedResponse = workflow_tasks::complete;
    respond_workflow_task_failed(RespondWorkflowTaskFailedRequest) -> RespondWorkflowTaskFailedResponse = workflow_tasks::fail;
    reset_sticky_task_queue(ResetStickyTaskQueueRequest) -> ResetStickyTaskQueueResponse = workflow_tasks::reset_sticky;
    record_activity_task_heartbeat(RecordActivityTaskHeartbeatRequest) -> RecordActivityTaskHeartbeatResponse = activities::heartbeat;
    record_activity_task_heartbeat_by_id(RecordActivityTaskHeartbeatByIdRequest) -> RecordActivityTaskHeartbeatByIdResponse = activities::heartbeat_by_id;
    respond_activity_task_completed(RespondActivityTaskCompletedRequest) -> RespondActivityTaskCompletedResponse = activities::complete;
    respond_activity_task_completed_by_id(RespondActivityTaskCompletedByIdRequest) -> RespondActivityTaskCompletedByIdResponse = activities::complete_by_id;
    respond_activity_task_failed(RespondActivityTaskFailedRequest) -> RespondActivityTaskFailedResponse = activities::fail;
    respond_activity_task_failed_by_id(RespondActivityTaskFailedByIdRequest) -> RespondActivityTaskFailedByIdResponse = activities::fail_by_id;
    respond_activity_task_canceled(RespondActivityTaskCanceledRequest) -> RespondActivityTaskCanceledResponse = activities::cancel;
    respond_activity_task_canceled_by_id(RespondActivityTaskCanceledByIdRequest) -> RespondActivityTaskCanceledByIdResponse = activities::cancel_by_id;
    pause_activity(PauseActivityRequest) -> PauseActivityResponse = activity_operations::pause;
    unpause_activity(UnpauseActivityRequest) -> UnpauseActivityResponse = activity_operations::unpause;
    reset_activity(ResetActivityRequest) -> ResetActivityResponse = activity_operations::reset;
    update_activity_options(UpdateActivityOptionsRequest) -> UpdateActivityOptionsResponse = activity_operations::update_options;
    pause_activity_execution(PauseActivityExecutionRequest) -> PauseActivityExecutionResponse = activity_operations::pause_execution;
    unpause_activity_execution(UnpauseActivityExecutionRequest) -> UnpauseActivityExecutionResponse = activity_operations::unpause_execution;
    reset_activity_execution(ResetActivityExecutionRequest) -> ResetActivityExecutionResponse = activity_operations::reset_execution;
    update_activity_execution_options(UpdateActivityExecutionOptionsRequest) -> UpdateActivityExecutionOptionsResponse = activity_operations::update_execution_options;
    list_workflow_executions(ListWorkflowExecutionsRequest) -> ListWorkflowExecutionsResponse = visibility::list;
    scan_workflow_executions(ScanWorkflowExecutionsRequest) -> ScanWorkflowExecutionsResponse = visibility::scan;
    list_open_workflow_executions(ListOpenWorkflowExecutionsRequest) -> ListOpenWorkflowExecutionsResponse = visibility::list_open;
    list_closed_workflow_executions(ListClosedWorkflowExecutionsRequest) -> ListClosedWorkflowExecutionsResponse = visibility::list_closed;
    list_archived_workflow_executions(ListArchivedWorkflowExecutionsRequest) -> ListArchivedWorkflowExecutionsResponse = visibility::list_archived;
    count_workflow_executions(CountWorkflowExecutionsRequest) -> CountWorkflowExecutionsResponse = visibility::count;
    get_search_attributes(GetSearchAttributesRequest) -> GetSearchAttributesResponse = search_attributes::get;
    describe_task_queue(DescribeTaskQueueRequest) -> DescribeTaskQueueResponse = task_queues::describe;
    list_task_queue_partitions(ListTaskQueuePartitionsRequest) -> ListTaskQueuePartitionsResponse = task_queues::list_partitions;
    register_namespace(RegisterNamespaceRequest) -> RegisterNamespaceResponse = namespaces::register;
    describe_namespace(DescribeNamespaceRequest) -> DescribeNamespaceResponse = namespaces::describe;
    create_schedule(CreateScheduleRequest) -> CreateScheduleResponse = schedules::create;
    describe_schedule(DescribeScheduleRequest) -> DescribeScheduleResponse = schedules::describe;
    update_schedule(UpdateScheduleRequest) -> UpdateScheduleResponse = schedules::update;
    patch_schedule(PatchScheduleRequest) -> PatchScheduleResponse = schedules::patch;
    list_schedule_matching_times(ListScheduleMatchingTimesRequest) -> ListScheduleMatchingTimesResponse = schedules::matching_times;
    delete_schedule(DeleteScheduleRequest) -> DeleteScheduleResponse = schedules::delete;
    list_schedules(ListSchedulesRequest) -> ListSchedulesResponse = schedules::list;
    count_schedules(CountSchedulesRequest) -> CountSchedulesResponse = schedules::count;
    start_batch_operation(StartBatchOperationRequest) -> StartBatchOperationResponse = batches::start;
    stop_batch_operation(StopBatchOperationRequest) -> StopBatchOperationResponse = batches::stop;
    describe_batch_operation(DescribeBatchOperationRequest) -> DescribeBatchOperationResponse = batches::describe;
    list_batch_operations(ListBatchOperationsRequest) -> ListBatchOperationsResponse = batches::list;
    list_namespaces(ListNamespacesRequest) -> ListNamespacesResponse = namespaces::list;
    update_namespace(UpdateNamespaceRequest) -> UpdateNamespaceResponse = namespaces::update;
    deprecate_namespace(DeprecateNamespaceRequest) -> DeprecateNamespaceResponse = namespaces::deprecate;
    get_system_info(GetSystemInfoRequest) -> GetSystemInfoResponse = system::system_info;
    get_cluster_info(GetClusterInfoRequest) -> GetClusterInfoResponse = system::cluster_info;
}

#[cfg(test)]
mod tests {
    use super::METHODS;
    use crate::grpc::layer::known;

    #[test]
    fn the_names_of_methods_are_those_of_the_api() {
        for (service, methods) in [
            ("temporal.api.workflowservice.v1.WorkflowService", METHODS),
            ("temporal.api.operatorservice.v1.OperatorService", crate::grpc::operator::METHODS),
        ] {
            for method in methods {
                assert_eq!(known(&format!("/{service}/{method}")), *method);
            }
        }
    }
}
