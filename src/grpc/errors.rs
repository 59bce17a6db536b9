//! The one place where refusals become gRPC statuses, with the details that the SDKs look for. Those of lists, which nodes also
//! return to each other, do so in `cluster`.

use prost::Message;
use prost_types::Any;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::engine::Rejection;
use crate::partition::{Failure, QueryFailure};
use crate::proto::temporal::enums::v1::{ResourceExhaustedCause, ResourceExhaustedScope};
use crate::proto::temporal::errordetails::v1::{
    MultiOperationExecutionFailure, NamespaceAlreadyExistsFailure, NamespaceNotFoundFailure, NotFoundFailure,
    QueryFailedFailure, ResourceExhaustedFailure, WorkflowExecutionAlreadyStartedFailure, WorkflowNotReadyFailure,
    multi_operation_execution_failure::OperationStatus,
};
use crate::proto::temporal::failure::v1::MultiOperationExecutionAborted;

/// `google.rpc.Status`, which gRPC clients read from the trailer `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// How a payload over the limit is refused. SDKs know it by these words, which are those of Temporal's server.
pub const BLOB_TOO_LARGE: &str = "Blob data size exceeds limit.";

/// `google.rpc.RetryInfo`: how long to wait before the request is sent again.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

const CAUSE_HEADER: &str = "x-resource-exhausted-cause";

/// Whether a call was refused because the server takes on no more, and not for what it asks for.
pub fn is_overload(status: &Status) -> bool {
    status.metadata().contains_key(CAUSE_HEADER)
}

/// When to try again what was refused because the log does not keep up. Milliseconds.
const RETRY_OVERLOADED_AFTER_MS: i64 = 1000;

/// A status with one detail message.
pub fn with_detail(code: Code, message: impl Into<String>, name: &str, detail: &impl Message) -> Status {
    with_details(code, message.into(), vec![any(&format!("temporal.api.errordetails.v1.{name}"), detail)])
}

fn any(name: &str, detail: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: detail.encode_to_vec() }
}

fn with_details(code: Code, message: String, details: Vec<Any>) -> Status {
    let status = RpcStatus { code: code as i32, message: message.clone(), details };
    Status::with_details(code, message, status.encode_to_vec().into())
}

pub fn not_found(message: impl Into<String>) -> Status {
    with_detail(Code::NotFound, message, "NotFoundFailure", &NotFoundFailure::default())
}

pub fn namespace_not_found(name: &str) -> Status {
    let message = format!("Namespace {name} is not found.");
    with_detail(
        Code::NotFound,
        message,
        "NamespaceNotFoundFailure",
        &NamespaceNotFoundFailure { namespace: name.to_owned() },
    )
}

impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::NotFound(message) => not_found(message),
            Rejection::AlreadyStarted { message, start_request_id, run_id, first_run_id } => {
                let detail = WorkflowExecutionAlreadyStartedFailure {
                    start_request_id,
                    run_id,
                    first_execution_run_id: first_run_id,
                };
                with_detail(Code::AlreadyExists, message, "WorkflowExecutionAlreadyStartedFailure", &detail)
            }
            Rejection::NamespaceAlreadyExists(message) => with_detail(
                Code::AlreadyExists,
                message,
                "NamespaceAlreadyExistsFailure",
                &NamespaceAlreadyExistsFailure::default(),
            ),
            Rejection::NamespaceNotFound(name) => namespace_not_found(&name),
            Rejection::InvalidArgument(message) => Status::invalid_argument(message),
            Rejection::OutOfOrder(message) => Status::aborted(message),
            Rejection::FailedPrecondition(message) => Status::failed_precondition(message),
            Rejection::ResourceExhausted(message) => exhausted(ResourceExhaustedCause::SystemOverloaded, message),
            Rejection::TooManyConcurrent(message) => exhausted(ResourceExhaustedCause::ConcurrentLimit, message),
            Rejection::NotReady(message) => not_ready(message),
            Rejection::DeadlineExceeded => {
                Status::deadline_exceeded("the request was decided after its deadline, and nothing happened")
            }
            Rejection::Duplicate => Status::already_exists("the request was seen before"),
            Rejection::Poison(message) => Status::internal(message),
        }
    }
}

fn exhausted(cause: ResourceExhaustedCause, message: String) -> Status {
    let detail = ResourceExhaustedFailure { cause: cause as i32, scope: ResourceExhaustedScope::Namespace as i32 };
    with_detail(Code::ResourceExhausted, message, "ResourceExhaustedFailure", &detail)
}

fn not_ready(message: impl Into<String>) -> Status {
    with_detail(Code::FailedPrecondition, message, "WorkflowNotReadyFailure", &WorkflowNotReadyFailure::default())
}

/// An operation of several that was not carried out because another can't be.
pub fn operation_aborted() -> Status {
    let aborted =
        any("temporal.api.failure.v1.MultiOperationExecutionAborted", &MultiOperationExecutionAborted::default());
    with_details(Code::Aborted, "Operation was aborted.".into(), vec![aborted])
}

/// What became of each of several operations that are carried out together. Temporal: the status is that of the first that failed
/// for a reason of its own.
pub fn multi_operation(operations: Vec<Result<(), Status>>) -> Status {
    let aborted = operation_aborted();
    let is_cause = |status: &&Status| status.details() != aborted.details();
    let cause = operations.iter().filter_map(|operation| operation.as_ref().err()).find(is_cause);
    let code = cause.map_or(Code::Aborted, Status::code);
    let statuses = operations.into_iter().map(|operation| match operation {
        Ok(()) => OperationStatus::default(),
        Err(status) => {
            let details = RpcStatus::decode(status.details()).map(|status| status.details).unwrap_or_default();
            OperationStatus { code: status.code() as i32, message: status.message().to_owned(), details }
        }
    });
    let failure = MultiOperationExecutionFailure { statuses: statuses.collect() };
    with_detail(code, "Update-with-Start could not be executed.", "MultiOperationExecutionFailure", &failure)
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) => rejection.into(),
            Failure::Unavailable(message) => Status::unavailable(message),
            Failure::Overloaded(message) => overloaded(message),
        }
    }
}

/// SDKs try again what is refused with RESOURCE_EXHAUSTED, with a back-off of their own. Temporal's server names the cause and
/// the scope in a detail, which must come first for the SDKs, and in headers; the delay is gRPC's own field for when to retry.
fn overloaded(message: String) -> Status {
    let (cause, scope) = (ResourceExhaustedCause::SystemOverloaded, ResourceExhaustedScope::System);
    let exhausted = ResourceExhaustedFailure { cause: cause as i32, scope: scope as i32 };
    let retry = RetryInfo { retry_delay: Some(crate::types::time::duration(RETRY_OVERLOADED_AFTER_MS)) };
    let details = vec![
        any("temporal.api.errordetails.v1.ResourceExhaustedFailure", &exhausted),
        any("google.rpc.RetryInfo", &retry),
    ];
    let mut status = with_details(Code::ResourceExhausted, message, details);
    let headers = status.metadata_mut();
    headers.insert(CAUSE_HEADER, MetadataValue::from_static("SystemOverloaded"));
    headers.insert("x-resource-exhausted-scope", MetadataValue::from_static("System"));
    status
}

impl From<QueryFailure> for Status {
    fn from(failure: QueryFailure) -> Self {
        match failure {
            QueryFailure::NotFound => not_found("workflow execution not found: it has been deleted"),
            QueryFailure::Failed { message, failure } => with_detail(
                Code::InvalidArgument,
                message,
                "QueryFailedFailure",
                &QueryFailedFailure { failure: failure.map(|failure| *failure) },
            ),
            QueryFailure::NotReady(message) => not_ready(message),
            QueryFailure::TooLarge => Status::invalid_argument(BLOB_TOO_LARGE),
        }
    }
}

impl From<crate::store::Error> for Status {
    fn from(error: crate::store::Error) -> Self {
        Status::unavailable(error.to_string())
    }
}
