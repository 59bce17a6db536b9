//! Schedules: they are created, described, changed, deleted and listed.

use std::sync::Arc;

use prost::Message as _;
use tonic::Status;

use super::service::Service;
use super::{executions, search_attributes, validate, visibility};
use crate::engine::schedule::{PAUSED, Schedule, spec};
use crate::engine::{DIVISION, EntityId, Kind, Rejection, Reply, State};
use crate::partition::Core;
use crate::proto::commands::command::Body;
use crate::proto::schedule::{CreateSchedule, DeleteSchedule, PatchSchedule, UpdateSchedule};
use crate::proto::state::Namespace;
use crate::proto::temporal::common::v1::{Memo, SearchAttributes};
use crate::proto::temporal::schedule::v1::schedule_action::Action;
use crate::proto::temporal::schedule::v1::{Schedule as Described, ScheduleListEntry, ScheduleListInfo};
use crate::proto::temporal::workflowservice::v1::*;
use crate::types::limits;
use crate::visibility::Row;

/// So many of the times at which a schedule is due are listed at once.
const MATCHING_TIMES_MAX: usize = 1000;

/// A schedule in a partition's loop; none that has ended.
fn found(core: &mut Core, key: &EntityId) -> Result<Schedule, Status> {
    match core.state(key, "")? {
        Some(State::Schedule(schedule)) if schedule.is_open() => Ok(schedule),
        _ => Err(Rejection::schedule_not_found(&key.id).into()),
    }
}

impl Service {
    /// Appends a command to a schedule and waits for its outcome.
    async fn to_schedule<T: Send + 'static>(
        &self,
        namespace: &Namespace,
        schedule_id: &str,
        body: Body,
        build: impl FnOnce(&mut Core, &EntityId, Reply) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        self.to_entity(namespace, EntityId::schedule(&namespace.id, schedule_id), body, build).await
    }
}

pub async fn create(service: &Service, mut request: CreateScheduleRequest) -> Result<CreateScheduleResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::schedule_id(&request.schedule_id)?;
    validate::required("RequestId", &request.request_id)?;
    if let Some(patch) = &request.initial_patch {
        validate::patch_of_schedule(Some(patch))?;
    }
    let schedule = request.schedule.get_or_insert_default();
    check(service, &namespace, schedule).await?;
    check_attached(service, &namespace, request.memo.as_ref(), request.search_attributes.as_mut()).await?;
    let id = request.schedule_id.clone();
    let body = Body::CreateSchedule(CreateSchedule { request: Some(request) });
    service
        .to_schedule(&namespace, &id, body, |core, key, _| {
            Ok(CreateScheduleResponse { conflict_token: found(core, key)?.conflict_token() })
        })
        .await
}

pub async fn describe(service: &Service, request: DescribeScheduleRequest) -> Result<DescribeScheduleResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    service
        .read_entity(EntityId::schedule(&namespace.id, &request.schedule_id), |core, key| {
            let now = core.node().clock_ms();
            let described = found(core, key)?.describe(now);
            described.ok_or_else(|| Rejection::schedule_not_found(&key.id).into())
        })
        .await
}

pub async fn update(service: &Service, mut request: UpdateScheduleRequest) -> Result<UpdateScheduleResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::length("RequestId", &request.request_id)?;
    let schedule = request.schedule.get_or_insert_default();
    check(service, &namespace, schedule).await?;
    check_attached(service, &namespace, request.memo.as_ref(), request.search_attributes.as_mut()).await?;
    executions::fill_request_id(service, &mut request.request_id);
    let id = request.schedule_id.clone();
    let body = Body::UpdateSchedule(UpdateSchedule { request: Some(request) });
    service.to_schedule(&namespace, &id, body, |_, _, _| Ok(UpdateScheduleResponse::default())).await
}

pub async fn patch(service: &Service, mut request: PatchScheduleRequest) -> Result<PatchScheduleResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::length("RequestId", &request.request_id)?;
    validate::patch_of_schedule(request.patch.as_ref())?;
    executions::fill_request_id(service, &mut request.request_id);
    let id = request.schedule_id.clone();
    let body = Body::PatchSchedule(PatchSchedule { request: Some(request) });
    service.to_schedule(&namespace, &id, body, |_, _, _| Ok(PatchScheduleResponse::default())).await
}

pub async fn delete(service: &Service, request: DeleteScheduleRequest) -> Result<DeleteScheduleResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    validate::identity(&request.identity)?;
    let id = request.schedule_id.clone();
    let body = Body::DeleteSchedule(DeleteSchedule { request: Some(request) });
    service.to_schedule(&namespace, &id, body, |_, _, _| Ok(DeleteScheduleResponse::default())).await
}

pub async fn matching_times(
    service: &Service,
    request: ListScheduleMatchingTimesRequest,
) -> Result<ListScheduleMatchingTimesResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let (Some(from), Some(to)) = (request.start_time, request.end_time) else {
        return Err(Status::invalid_argument("missing or invalid query"));
    };
    // Outside of the loop: a spec that is due seldom takes a while to go through.
    let planned = service.read_entity(EntityId::schedule(&namespace.id, &request.schedule_id), found).await?;
    let times = tokio::task::spawn_blocking(move || planned.matching_times(&from, &to, MATCHING_TIMES_MAX)).await;
    let start_time = times.map_err(|error| Status::internal(error.to_string()))?;
    Ok(ListScheduleMatchingTimesResponse { start_time })
}

pub async fn list(service: &Service, request: ListSchedulesRequest) -> Result<ListSchedulesResponse, Status> {
    let ListSchedulesRequest { namespace, maximum_page_size, next_page_token, query } = request;
    let page =
        visibility::page_of(service, Kind::Schedule, &namespace, &query, maximum_page_size, next_page_token).await?;
    let schedules = page.rows.into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok(ListSchedulesResponse { schedules, next_page_token: page.next_page_token })
}

pub async fn count(service: &Service, request: CountSchedulesRequest) -> Result<CountSchedulesResponse, Status> {
    let count = visibility::count_of(service, Kind::Schedule, &request.namespace, &request.query).await?;
    Ok(CountSchedulesResponse { count: count.total, ..CountSchedulesResponse::default() })
}

fn entry(row: Row) -> Result<ScheduleListEntry, Status> {
    let unreadable = |error: prost::DecodeError| Status::internal(format!("a schedule's row can't be read: {error}"));
    let mut attributes = SearchAttributes::decode(row.search_attributes).map_err(unreadable)?;
    for of_server in [PAUSED, DIVISION] {
        attributes.indexed_fields.remove(of_server);
    }
    let memo = if row.memo.is_empty() { None } else { Some(Memo::decode(row.memo).map_err(unreadable)?) };
    Ok(ScheduleListEntry {
        schedule_id: row.workflow_id,
        memo,
        search_attributes: (!attributes.indexed_fields.is_empty()).then_some(attributes),
        info: Some(ScheduleListInfo::decode(row.info).map_err(unreadable)?),
    })
}

/// Checks what is planned, and brings its spec into its canonical form.
async fn check(service: &Service, namespace: &Arc<Namespace>, schedule: &mut Described) -> Result<(), Status> {
    let given = schedule.spec.take().unwrap_or_default();
    validate::schedule_time(given.start_time)?;
    validate::schedule_time(given.end_time)?;
    let canonical = spec::canonical(given);
    let refused = |why| Status::invalid_argument(format!("Invalid schedule spec: {why}"));
    schedule.spec = Some(canonical.map_err(refused)?);
    let Some(Action::StartWorkflow(action)) = schedule.action.as_mut().and_then(|action| action.action.as_mut()) else {
        return Err(Status::invalid_argument("Only StartWorkflow action is supported for schedules"));
    };
    validate::scheduled_workflow(action)?;
    search_attributes::check(service, namespace, action.search_attributes.as_mut()).await
}

/// Checks what users attach to a schedule.
async fn check_attached(
    service: &Service,
    namespace: &Arc<Namespace>,
    memo: Option<&Memo>,
    attributes: Option<&mut SearchAttributes>,
) -> Result<(), Status> {
    if memo.map_or(0, prost::Message::encoded_len) > limits::MEMO_SIZE_MAX {
        return Err(Status::invalid_argument("Memo size exceeds limit."));
    }
    search_attributes::check(service, namespace, attributes).await
}
