//! Updates of workflows, and starts with an update.

use std::time::Duration;

use tonic::{Code, Status};

use super::executions::{fill_request_id, first_run_id};
use super::link::LinkTo;
use super::service::Service;
use super::{errors, search_attributes, validate};
use crate::engine::workflow::{Run, UPDATE_ABORTED_BY_CLOSE, id_of_update};
use crate::engine::{EntityId, Rejection, Reply};
use crate::partition::{Awaited, Core, UpdateStatus};
use crate::proto::commands::{UpdateWithStartWorkflow, UpdateWorkflow, command::Body};
use crate::proto::state::Namespace;
use crate::proto::temporal::common::v1::{Link, WorkflowExecution};
use crate::proto::temporal::enums::v1::{
    EventType, UpdateWorkflowExecutionLifecycleStage as Stage, WorkflowExecutionStatus,
};
use crate::proto::temporal::update::v1::{UpdateRef, outcome::Value};
use crate::proto::temporal::workflowservice::v1::execute_multi_operation_request::operation::Operation as Requested;
use crate::proto::temporal::workflowservice::v1::execute_multi_operation_response::{Response, response};
use crate::proto::temporal::workflowservice::v1::*;

/// How long a caller waits for a stage before the answer is the one that is reached, and it asks again. Temporal:
/// `history.longPollExpirationInterval`.
const PATIENCE: Duration = Duration::from_secs(20);

/// The stage that a caller waits for. Temporal's server refuses `ADMITTED`, as its admitted updates can be lost.
fn wanted(request: &UpdateWorkflowExecutionRequest) -> Stage {
    match request.wait_policy.as_ref().map_or(Stage::Unspecified, |policy| policy.lifecycle_stage()) {
        Stage::Unspecified => Stage::Completed,
        stage => stage,
    }
}

/// An update as it is answered.
struct Answer {
    status: UpdateStatus,
    /// None: there was no answer in time, and this is how far the update has come.
    key: EntityId,
}

pub async fn update(
    service: &Service,
    mut request: UpdateWorkflowExecutionRequest,
) -> Result<UpdateWorkflowExecutionResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = prepare(service, &mut request)?;
    let (id, wanted) = (update_id(&request), wanted(&request));
    let link = link_to(&namespace, &request);
    let body = Body::UpdateWorkflow(UpdateWorkflow { request: Some(request) });
    let update_id = id.clone();
    let awaited = service
        .command(&namespace, &execution.workflow_id, body, move |core, key, reply| {
            let Reply::Updated { run_id } = reply else {
                return Err(Status::internal("an update was answered with something else"));
            };
            await_update(core, key, &run_id, &update_id, wanted)
        })
        .await?;
    let answer = answer(service, &namespace, &execution.workflow_id, &id, awaited).await?;
    Ok(response(answer, id, Some(link)))
}

/// Checks an update, and gives it an id if it has none. Returns what it is for.
fn prepare(service: &Service, request: &mut UpdateWorkflowExecutionRequest) -> Result<WorkflowExecution, Status> {
    let execution = validate::update(request)?;
    if let Some(meta) = request.request.as_mut().and_then(|request| request.meta.as_mut())
        && meta.update_id.is_empty()
    {
        meta.update_id = service.node.new_id();
    }
    Ok(execution)
}

fn update_id(request: &UpdateWorkflowExecutionRequest) -> String {
    request.request.as_ref().map(|request| id_of_update(request).to_owned()).unwrap_or_default()
}

fn link_to(namespace: &Namespace, request: &UpdateWorkflowExecutionRequest) -> LinkTo {
    let request_id = request.request.as_ref().map(|request| request.request_id.clone()).unwrap_or_default();
    LinkTo { namespace: namespace.name.clone(), request_id }
}

/// In the partition's loop: how far the update has come, or the wait for it. One that its run had not answered before it went on as
/// another run has gone on with it.
fn await_update(core: &mut Core, key: &EntityId, run_id: &str, id: &str, wanted: Stage) -> Result<Awaited, Status> {
    let run = run_with(core, key, run_id, id)?;
    core.await_update(key, &run, id, wanted)?.ok_or_else(|| update_not_found(id))
}

fn run_with(core: &mut Core, key: &EntityId, run_id: &str, id: &str) -> Result<Run, Status> {
    let mut run = core.run(key, run_id)?.ok_or_else(|| Rejection::workflow_not_found(&key.id, run_id))?;
    while run.updates.get(id).is_none() && !run.head.new_run_id.is_empty() {
        run = core.run(key, &run.head.new_run_id)?.ok_or_else(|| update_not_found(id))?;
    }
    Ok(run)
}

fn update_not_found(id: &str) -> Status {
    errors::not_found(format!("update {id:?} not found"))
}

/// What a caller gets: the stage that it waits for, or else the one that is reached when its patience ends. `run_id`: of the run that
/// had the update when the wait began.
async fn answer(
    service: &Service,
    namespace: &Namespace,
    workflow_id: &str,
    id: &str,
    awaited: Awaited,
) -> Result<Answer, Status> {
    let key = EntityId::workflow(&namespace.id, workflow_id);
    let (run_id, mut answered) = match awaited {
        Awaited::Now(status) => return Ok(Answer { status: *status, key }),
        Awaited::Later { run_id, answered } => (run_id, answered),
    };
    let moved = || Status::unavailable("the partition of the workflow is being taken over: try again");
    let status = match tokio::time::timeout(PATIENCE, &mut answered).await {
        Ok(answer) => answer.map_err(|_| moved())??,
        Err(_) => {
            let update_id = id.to_owned();
            let now = move |core: &mut Core, key: &EntityId| {
                let run = run_with(core, key, &run_id, &update_id)?;
                core.update_status(key, &run, &update_id)?.ok_or_else(|| update_not_found(&update_id))
            };
            match service.visit(&namespace.id, workflow_id, now).await {
                Ok(status) => status,
                // It was answered just now.
                Err(status) => answered.try_recv().map_err(|_| status)??,
            }
        }
    };
    Ok(Answer { status, key })
}

fn response(answer: Answer, update_id: String, to: Option<LinkTo>) -> UpdateWorkflowExecutionResponse {
    let Answer { status, key } = answer;
    let link = to.and_then(|to| link(&status, &key, to));
    let UpdateStatus { run_id, stage, outcome } = status;
    let workflow_execution = Some(WorkflowExecution { workflow_id: key.id.to_string(), run_id });
    let update_ref = Some(UpdateRef { workflow_execution, update_id });
    UpdateWorkflowExecutionResponse { update_ref, outcome, stage: stage as i32, link }
}

/// Temporal: of an update that failed, as of one that was rejected, to the run.
fn link(status: &UpdateStatus, key: &EntityId, to: LinkTo) -> Option<Link> {
    let failed = matches!(status.outcome.as_ref().and_then(|outcome| outcome.value.as_ref()), Some(Value::Failure(_)));
    match status.stage {
        Stage::Completed if failed => Some(to.run(key, &status.run_id, "Update rejected")),
        Stage::Completed | Stage::Accepted => {
            Some(to.request(key, &status.run_id, EventType::WorkflowExecutionUpdateAccepted))
        }
        Stage::Admitted | Stage::Unspecified => None,
    }
}

pub async fn poll(
    service: &Service,
    request: PollWorkflowExecutionUpdateRequest,
) -> Result<PollWorkflowExecutionUpdateResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let update_ref = request.update_ref.ok_or_else(|| Status::invalid_argument("UpdateRef is not set on request."))?;
    let execution = validate::execution(update_ref.workflow_execution.as_ref())?;
    let wanted = request.wait_policy.map_or(Stage::Unspecified, |policy| policy.lifecycle_stage());
    let (id, run_id) = (update_ref.update_id, execution.run_id);
    let update_id = id.clone();
    let awaited = service
        .read(&namespace.id, &execution.workflow_id, move |core, key| {
            await_update(core, key, &run_id, &update_id, wanted)
        })
        .await?;
    let Answer { status, key } = answer(service, &namespace, &execution.workflow_id, &id, awaited).await?;
    let workflow_execution = Some(WorkflowExecution { workflow_id: key.id.to_string(), run_id: status.run_id });
    Ok(PollWorkflowExecutionUpdateResponse {
        outcome: status.outcome,
        stage: status.stage as i32,
        update_ref: Some(UpdateRef { workflow_execution, update_id: id }),
    })
}

/// A start with an update, both or neither: nothing else is known to be executed together.
pub async fn execute_multi_operation(
    service: &Service,
    request: ExecuteMultiOperationRequest,
) -> Result<ExecuteMultiOperationResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let mut operations = request.operations.into_iter().map(|operation| operation.operation);
    let (Some(Some(Requested::StartWorkflow(mut start))), Some(Some(Requested::UpdateWorkflow(mut update))), None) =
        (operations.next(), operations.next(), operations.next())
    else {
        return Err(Status::invalid_argument("Operations have to be exactly [Start, Update]."));
    };
    check_operations(service, &namespace, &mut start, &mut update).await?;
    fill_request_id(service, &mut start.request_id);
    let mut once = execute(service, &namespace, &start, &update).await;
    // As with Temporal's server: where the workflow ends before its worker has seen the update, another can be started.
    if once.as_ref().is_err_and(|failed| failed.by_close) {
        once = execute(service, &namespace, &start, &update).await;
        if let Err(Failed { update: Err(status), by_close: true, .. }) = &mut once {
            *status = Status::aborted(status.message());
        }
    }
    let (start, update) = once.map_err(|failed| failed.into_status())?;
    let responses = [response::Response::StartWorkflow(start), response::Response::UpdateWorkflow(update)];
    let responses = responses.map(|response| Response { response: Some(response) }).into();
    Ok(ExecuteMultiOperationResponse { responses })
}

/// Why a start with an update was not carried out, by operation.
struct Failed {
    start: Result<(), Status>,
    update: Result<(), Status>,
    /// The update was aborted, as the workflow, which was not started for it, has ended.
    by_close: bool,
    /// The whole call failed before anything was decided.
    whole: Option<Status>,
}

impl Failed {
    fn start(status: Status) -> Self {
        Self { start: Err(status), update: Err(errors::operation_aborted()), by_close: false, whole: None }
    }

    fn update(status: Status, started: bool) -> Self {
        let by_close = !started && status.message() == UPDATE_ABORTED_BY_CLOSE;
        let start = if started { Ok(()) } else { Err(errors::operation_aborted()) };
        Self { start, update: Err(status), by_close, whole: None }
    }

    fn whole(status: Status) -> Self {
        Self { whole: Some(status), ..Self::start(errors::operation_aborted()) }
    }

    /// What was refused by a decision of both.
    fn of(status: Status) -> Self {
        match status.code() {
            Code::AlreadyExists | Code::InvalidArgument => Self::start(status),
            Code::NotFound | Code::FailedPrecondition => Self::update(status, false),
            Code::ResourceExhausted if !errors::is_overload(&status) => Self::update(status, false),
            _ => Self::whole(status),
        }
    }

    fn into_status(self) -> Status {
        self.whole.unwrap_or_else(|| errors::multi_operation(vec![self.start, self.update]))
    }
}

async fn check_operations(
    service: &Service,
    namespace: &Namespace,
    start: &mut StartWorkflowExecutionRequest,
    update: &mut UpdateWorkflowExecutionRequest,
) -> Result<(), Status> {
    let checked = check_start(service, namespace, start).await;
    let mut updates = check_update(service, namespace, update);
    let workflow_id = update.workflow_execution.as_ref().map_or("", |execution| execution.workflow_id.as_str());
    if checked.is_ok() && updates.is_ok() && start.workflow_id != workflow_id {
        updates = Err(Status::invalid_argument("WorkflowId is not consistent with previous operation(s)."));
    }
    if checked.is_ok() && updates.is_ok() {
        return Ok(());
    }
    let or_aborted = |checked: Result<(), Status>| Err(checked.err().unwrap_or_else(errors::operation_aborted));
    Err(errors::multi_operation(vec![or_aborted(checked), or_aborted(updates)]))
}

fn same_namespace(namespace: &Namespace, named: &str) -> Result<(), Status> {
    if !named.is_empty() && named != namespace.name {
        return Err(Status::invalid_argument("Operation namespace did not match request's namespace."));
    }
    Ok(())
}

async fn check_start(
    service: &Service,
    namespace: &Namespace,
    start: &mut StartWorkflowExecutionRequest,
) -> Result<(), Status> {
    same_namespace(namespace, &start.namespace)?;
    validate::start(start)?;
    search_attributes::check(service, namespace, start.search_attributes.as_mut()).await?;
    let delay_ms = crate::types::time::duration_ms(start.workflow_start_delay.as_ref());
    let problem = if !start.cron_schedule.is_empty() {
        "CronSchedule is not allowed."
    } else if start.request_eager_execution {
        "RequestEagerExecution is not supported."
    } else if delay_ms > 0 {
        "WorkflowStartDelay is not supported."
    } else {
        return Ok(());
    };
    Err(Status::invalid_argument(problem))
}

fn check_update(
    service: &Service,
    namespace: &Namespace,
    update: &mut UpdateWorkflowExecutionRequest,
) -> Result<(), Status> {
    same_namespace(namespace, &update.namespace)?;
    let execution = prepare(service, update)?;
    if !update.first_execution_run_id.is_empty() {
        return Err(Status::invalid_argument("FirstExecutionRunId is not allowed."));
    }
    if !execution.run_id.is_empty() {
        return Err(Status::invalid_argument("RunId is not allowed."));
    }
    Ok(())
}

async fn execute(
    service: &Service,
    namespace: &Namespace,
    start: &StartWorkflowExecutionRequest,
    update: &UpdateWorkflowExecutionRequest,
) -> Result<(StartWorkflowExecutionResponse, UpdateWorkflowExecutionResponse), Failed> {
    let (id, wanted) = (update_id(update), wanted(update));
    let body = Body::UpdateWithStartWorkflow(UpdateWithStartWorkflow {
        start: Some(start.clone()),
        update: Some(update.clone()),
    });
    let (update_id, name) = (id.clone(), namespace.name.clone());
    let (started, awaited) = service
        .command(namespace, &start.workflow_id, body, move |core, key, reply| {
            let Reply::UpdatedWithStart { run_id, started } = reply else {
                return Err(Status::internal("a start with an update was answered with something else"));
            };
            let run = core.run(key, &run_id)?;
            let awaited = await_update(core, key, &run_id, &update_id, wanted);
            Ok((start_response(key, run, run_id, started, name), awaited))
        })
        .await
        .map_err(Failed::of)?;
    let is_started = started.started;
    let failed = |status| Failed::update(status, is_started);
    let awaited = awaited.map_err(failed)?;
    // Temporal's server has no links for what it has found completed.
    let was_completed = !is_started && matches!(&awaited, Awaited::Now(status) if status.stage == Stage::Completed);
    let answer = answer(service, namespace, &start.workflow_id, &id, awaited).await.map_err(failed)?;
    let link = (!was_completed).then(|| link_to(namespace, update));
    let link_of_start = started.link.clone().filter(|_| !was_completed);
    Ok((StartWorkflowExecutionResponse { link: link_of_start, ..started }, response(answer, id, link)))
}

/// Temporal's server names the first run of the chain only if it was begun now.
fn start_response(
    key: &EntityId,
    run: Option<Run>,
    run_id: String,
    started: bool,
    namespace: String,
) -> StartWorkflowExecutionResponse {
    let to = LinkTo { namespace, request_id: String::new() };
    StartWorkflowExecutionResponse {
        link: Some(to.start(key, &run_id)),
        status: run.as_ref().map_or(WorkflowExecutionStatus::Running as i32, |run| run.head.status),
        first_execution_run_id: if started { first_run_id(run) } else { String::new() },
        run_id,
        started,
        eager_workflow_task: None,
    }
}
