//! Batches: they are started, described, stopped and listed.

use prost::Message as _;
use tonic::Status;

use super::service::Service;
use super::{validate, visibility};
use crate::engine::batch::{BATCHER, Batch};
use crate::engine::{DIVISION, EntityId, Kind, Rejection, State};
use crate::partition::Core;
use crate::proto::batch::{StartBatch, StopBatch};
use crate::proto::commands::command::Body;
use crate::proto::temporal::batch::v1::{BatchOperationInfo, batch_operation_unpause_activities};
use crate::proto::temporal::enums::v1::BatchOperationType as Type;
use crate::proto::temporal::workflowservice::v1::{start_batch_operation_request::Operation, *};
use crate::types::limits;

/// Operations that can't do anything to what is closed are not sent to it.
const OPEN: &str = "ExecutionStatus = 'Running' OR ExecutionStatus = 'Paused'";
/// What the operation does to runs must not move them to a page that is yet to be listed, as the default order would those that it closes.
const ORDER: &str = "ORDER BY StartTime DESC";
/// The operations of a second are spread over intervals of this length. Milliseconds.
const INTERVAL_MS: i64 = 100;

/// A batch in a partition's loop.
pub fn found(core: &mut Core, key: &EntityId) -> Result<Batch, Status> {
    match core.state(key, "")? {
        Some(State::Batch(batch)) => Ok(batch),
        _ => Err(Rejection::workflow_not_found(&key.id, "").into()),
    }
}

pub async fn start(
    service: &Service,
    request: StartBatchOperationRequest,
) -> Result<StartBatchOperationResponse, Status> {
    validate::batch(&request)?;
    let namespace = service.namespace(&request.namespace)?;
    let (operation_type, identity) = type_of(request.operation.as_ref());
    validate::identity(&identity)?;
    if !request.visibility_query.is_empty() {
        let refused =
            |status: Status| Status::invalid_argument(format!("invalid visibility query: {}", status.message()));
        visibility::check_condition(service, &namespace, &request.visibility_query).await.map_err(refused)?;
    }
    let query = narrowed(&request);
    let running = format!("{} AND ExecutionStatus = 'Running'", division());
    let running = visibility::count_of(service, Kind::Workflow, &namespace.name, &running).await?;
    if running.total >= limits::BATCHES_MAX {
        return Err(Rejection::TooManyConcurrent("Max concurrent batch operations is reached".into()).into());
    }
    let (operations_per_interval, interval_ms) = pace(request.max_operations_per_second);
    let key = EntityId::batch(&namespace.id, &request.job_id);
    let start = StartBatch {
        request: Some(request),
        operation_type: operation_type as i32,
        identity,
        query,
        operations_per_interval,
        interval_ms,
    };
    let answer = |_: &mut Core, _: &EntityId, _| Ok(StartBatchOperationResponse::default());
    service.to_entity(&namespace, key, Body::StartBatch(start), answer).await
}

pub async fn stop(service: &Service, request: StopBatchOperationRequest) -> Result<StopBatchOperationResponse, Status> {
    validate::job_id(&request.job_id)?;
    let namespace = service.namespace(&request.namespace)?;
    validate::reason_of_batch(&request.reason)?;
    validate::identity(&request.identity)?;
    let key = EntityId::batch(&namespace.id, &request.job_id);
    let body = Body::StopBatch(StopBatch { request: Some(request) });
    service.to_entity(&namespace, key, body, |_, _, _| Ok(StopBatchOperationResponse::default())).await
}

pub async fn describe(
    service: &Service,
    request: DescribeBatchOperationRequest,
) -> Result<DescribeBatchOperationResponse, Status> {
    validate::job_id(&request.job_id)?;
    let namespace = service.namespace(&request.namespace)?;
    service
        .read_entity(EntityId::batch(&namespace.id, &request.job_id), |core, key| {
            let described = found(core, key)?.describe();
            described.ok_or_else(|| Rejection::workflow_not_found(&key.id, "").into())
        })
        .await
}

pub async fn list(
    service: &Service,
    request: ListBatchOperationsRequest,
) -> Result<ListBatchOperationsResponse, Status> {
    let ListBatchOperationsRequest { namespace, page_size, next_page_token } = request;
    let page =
        visibility::page_of(service, Kind::Workflow, &namespace, &division(), page_size, next_page_token).await?;
    let unreadable = |error: prost::DecodeError| Status::internal(format!("a batch's row can't be read: {error}"));
    let infos = page.rows.into_iter().map(|row| BatchOperationInfo::decode(row.info).map_err(unreadable));
    Ok(ListBatchOperationsResponse {
        operation_info: infos.collect::<Result<_, _>>()?,
        next_page_token: page.next_page_token,
    })
}

/// The query that finds batches.
fn division() -> String {
    visibility::equal(DIVISION, BATCHER)
}

/// The type of an operation, and whose it is.
fn type_of(operation: Option<&Operation>) -> (Type, String) {
    let (of_type, identity) = match operation {
        Some(Operation::TerminationOperation(of)) => (Type::TerminateWorkflow, &of.identity),
        Some(Operation::SignalOperation(of)) => (Type::SignalWorkflow, &of.identity),
        Some(Operation::CancellationOperation(of)) => (Type::CancelWorkflow, &of.identity),
        Some(Operation::DeletionOperation(of)) => (Type::DeleteWorkflow, &of.identity),
        Some(Operation::ResetOperation(of)) => (Type::ResetWorkflow, &of.identity),
        Some(Operation::UpdateWorkflowOptionsOperation(of)) => (Type::UpdateWorkflowExecutionOptions, &of.identity),
        Some(Operation::UnpauseActivitiesOperation(of)) => (Type::UnpauseActivity, &of.identity),
        Some(Operation::ResetActivitiesOperation(of)) => (Type::ResetActivity, &of.identity),
        Some(Operation::UpdateActivityOptionsOperation(of)) => (Type::UpdateActivityOptions, &of.identity),
        Some(
            Operation::CancelActivitiesOperation(_)
            | Operation::TerminateActivitiesOperation(_)
            | Operation::DeleteActivitiesOperation(_),
        )
        | None => return (Type::Unspecified, String::new()),
    };
    (of_type, identity.clone())
}

/// The request's query, which is a condition, narrowed to the runs that its operation can be applied to, in an order that lasts. Open
/// runs keep their places in the default one.
fn narrowed(request: &StartBatchOperationRequest) -> String {
    if request.visibility_query.is_empty() {
        return String::new();
    }
    let mut query = request.visibility_query.clone();
    if let Some(Operation::UnpauseActivitiesOperation(of)) = &request.operation
        && let Some(batch_operation_unpause_activities::Activity::Type(name)) = &of.activity
    {
        let is_paused = visibility::equal("TemporalPauseInfo", &format!("property:activityType={name}"));
        query = format!("{is_paused} AND ({query})");
    }
    match request.operation {
        Some(Operation::DeletionOperation(_) | Operation::ResetOperation(_)) => format!("({query}) {ORDER}"),
        _ => format!("({query}) AND ({OPEN})"),
    }
}

/// How many operations may begin in an interval of how many milliseconds, at a rate per second. One that is not positive is none.
fn pace(per_second: f32) -> (i64, i64) {
    let max = limits::BATCH_OPERATIONS_PER_S as f32;
    let per_second = if per_second > 0.0 && per_second < max { per_second } else { max };
    // Of whole operations, so that the interval is a little longer.
    let per_interval = (per_second * INTERVAL_MS as f32 / 1000.0).ceil();
    (per_interval as i64, (per_interval * 1000.0 / per_second).ceil() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::temporal::batch::v1::{BatchOperationSignal, BatchOperationUnpauseActivities};

    #[test]
    fn operations_are_spread_over_a_second() {
        let max = limits::BATCH_OPERATIONS_PER_S;
        for (per_second, expected) in [
            (0.0, (max / 10, 100)),
            (-1.0, (max / 10, 100)),
            (f32::NAN, (max / 10, 100)),
            (f32::INFINITY, (max / 10, 100)),
            (50.0, (5, 100)),
            (19.0, (2, 106)),
            (999.0, (100, 101)),
            (10.0, (1, 100)),
            (3.0, (1, 334)),
            (0.5, (1, 2000)),
            (0.001, (1, 1_000_000)),
            (1e-30, (1, i64::MAX)),
        ] {
            assert_eq!(pace(per_second), expected, "{per_second}");
        }
    }

    #[test]
    fn a_query_is_narrowed_to_what_the_operation_can_be_applied_to() {
        let of = |operation| {
            let query = "a = 'b' OR c = 'd'".to_owned();
            narrowed(&StartBatchOperationRequest {
                visibility_query: query,
                operation: Some(operation),
                ..StartBatchOperationRequest::default()
            })
        };
        assert_eq!(of(Operation::DeletionOperation(Default::default())), format!("(a = 'b' OR c = 'd') {ORDER}"));
        let signal = Operation::SignalOperation(BatchOperationSignal::default());
        assert_eq!(of(signal), format!("(a = 'b' OR c = 'd') AND ({OPEN})"));
        let unpause = Operation::UnpauseActivitiesOperation(BatchOperationUnpauseActivities {
            activity: Some(batch_operation_unpause_activities::Activity::Type("it's".into())),
            ..BatchOperationUnpauseActivities::default()
        });
        assert_eq!(
            of(unpause),
            format!(r"(TemporalPauseInfo = 'property:activityType=it\'s' AND (a = 'b' OR c = 'd')) AND ({OPEN})")
        );
    }
}
