//! Calls of clients and workers, as the server's gRPC services take them, and the journal of what came of them.

use std::future::Future;
use std::pin::Pin;

use millrace::grpc::Service;
use millrace::proto::temporal::workflowservice::v1::{workflow_service_server::WorkflowService as _, *};
use tonic::{Code, Request, Status};

// There are a few at a time.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Call {
    Start(StartWorkflowExecutionRequest),
    Signal(SignalWorkflowExecutionRequest),
    SignalWithStart(SignalWithStartWorkflowExecutionRequest),
    RequestCancel(RequestCancelWorkflowExecutionRequest),
    Terminate(TerminateWorkflowExecutionRequest),
    Describe(DescribeWorkflowExecutionRequest),
    History(GetWorkflowExecutionHistoryRequest),
    Update(UpdateWorkflowExecutionRequest),
    Reset(ResetWorkflowExecutionRequest),
    Pause(PauseWorkflowExecutionRequest),
    Unpause(UnpauseWorkflowExecutionRequest),
    Query(QueryWorkflowRequest),
    AnswerQuery(RespondQueryTaskCompletedRequest),
    PollWorkflowTask(PollWorkflowTaskQueueRequest),
    PollActivityTask(PollActivityTaskQueueRequest),
    CompleteWorkflowTask(RespondWorkflowTaskCompletedRequest),
    FailWorkflowTask(RespondWorkflowTaskFailedRequest),
    CompleteActivity(RespondActivityTaskCompletedRequest),
    FailActivity(RespondActivityTaskFailedRequest),
    CancelActivity(RespondActivityTaskCanceledRequest),
    Heartbeat(RecordActivityTaskHeartbeatRequest),
}

#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Answer {
    Started(StartWorkflowExecutionResponse),
    SignaledWithStart(SignalWithStartWorkflowExecutionResponse),
    Described(Box<DescribeWorkflowExecutionResponse>),
    History(GetWorkflowExecutionHistoryResponse),
    WorkflowTask(Box<PollWorkflowTaskQueueResponse>),
    ActivityTask(Box<PollActivityTaskQueueResponse>),
    TaskCompleted(Box<RespondWorkflowTaskCompletedResponse>),
    Updated(Box<UpdateWorkflowExecutionResponse>),
    Reset(ResetWorkflowExecutionResponse),
    Queried(QueryWorkflowResponse),
    Done,
}

pub type Performed = Pin<Box<dyn Future<Output = Result<Answer, Status>>>>;

impl Call {
    pub fn is_poll(&self) -> bool {
        matches!(self, Call::PollWorkflowTask(_) | Call::PollActivityTask(_))
    }

    /// Calls the server, as its gRPC edge would.
    pub fn perform(self, service: Service) -> Performed {
        macro_rules! call {
            ($method:ident($request:ident) -> $answer:expr) => {
                Box::pin(async move { service.$method(Request::new($request)).await.map(|r| $answer(r.into_inner())) })
            };
        }
        fn done<T>(_: T) -> Answer {
            Answer::Done
        }
        let boxed = |response| Answer::WorkflowTask(Box::new(response));
        match self {
            Call::Start(r) => call!(start_workflow_execution(r) -> Answer::Started),
            Call::Signal(r) => call!(signal_workflow_execution(r) -> done),
            Call::SignalWithStart(r) => call!(signal_with_start_workflow_execution(r) -> Answer::SignaledWithStart),
            Call::RequestCancel(r) => call!(request_cancel_workflow_execution(r) -> done),
            Call::Terminate(r) => call!(terminate_workflow_execution(r) -> done),
            Call::Describe(r) => call!(describe_workflow_execution(r) -> |r| Answer::Described(Box::new(r))),
            Call::History(r) => call!(get_workflow_execution_history(r) -> Answer::History),
            Call::Update(r) => call!(update_workflow_execution(r) -> |r| Answer::Updated(Box::new(r))),
            Call::Reset(r) => call!(reset_workflow_execution(r) -> Answer::Reset),
            Call::Pause(r) => call!(pause_workflow_execution(r) -> done),
            Call::Unpause(r) => call!(unpause_workflow_execution(r) -> done),
            Call::Query(r) => call!(query_workflow(r) -> Answer::Queried),
            Call::AnswerQuery(r) => call!(respond_query_task_completed(r) -> done),
            Call::PollWorkflowTask(r) => call!(poll_workflow_task_queue(r) -> boxed),
            Call::PollActivityTask(r) => call!(poll_activity_task_queue(r) -> |r| Answer::ActivityTask(Box::new(r))),
            Call::CompleteWorkflowTask(r) => {
                call!(respond_workflow_task_completed(r) -> |r| Answer::TaskCompleted(Box::new(r)))
            }
            Call::FailWorkflowTask(r) => call!(respond_workflow_task_failed(r) -> done),
            Call::CompleteActivity(r) => call!(respond_activity_task_completed(r) -> done),
            Call::FailActivity(r) => call!(respond_activity_task_failed(r) -> done),
            Call::CancelActivity(r) => call!(respond_activity_task_canceled(r) -> done),
            Call::Heartbeat(r) => call!(record_activity_task_heartbeat(r) -> done),
        }
    }
}

/// Whether the caller does not know what came of it, and asks again.
pub fn is_doubtful(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)
}

/// What was called, and what came of it. Polls are not in it: what they brought is.
pub struct Op {
    pub call: Call,
    /// Steps of the simulation: when the last attempt began, and when its answer came.
    pub invoked: u64,
    pub completed: u64,
    pub attempts: u32,
    pub outcome: Result<Answer, Status>,
}

/// A task, as a worker was handed it.
#[derive(Clone, Debug)]
pub enum Task {
    Workflow(Box<PollWorkflowTaskQueueResponse>),
    Activity(Box<PollActivityTaskQueueResponse>),
}

#[derive(Default)]
pub struct Journal {
    pub ops: Vec<Op>,
    /// With the worker's number.
    pub handed: Vec<(usize, Task)>,
}
