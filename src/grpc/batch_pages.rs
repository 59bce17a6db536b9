//! Lists what batches are to be applied to: the pages that those of this node's partitions want.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use super::service::Service;
use super::{batches, visibility};
use crate::engine::batch::{TARGETS_MAX, WantedPage};
use crate::engine::{EntityId, Kind};
use crate::proto::batch::{AddBatchPage, Target};
use crate::proto::commands::command::Body;
use crate::proto::state::Namespace;
use crate::proto::temporal::common::v1::{WorkflowExecution, reset_options};
use crate::proto::temporal::workflowservice::v1::workflow_service_server::WorkflowService as _;
use crate::proto::temporal::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, start_batch_operation_request::Operation,
};
use crate::types::time::millis_of;
use crate::visibility::Row;

/// A page that takes longer is given up, and wanted again by its batch. What lists it goes on meanwhile, so that this is for what
/// hangs, not for what is slow.
const ADDED_WITHIN: Duration = Duration::from_secs(300);
/// Batches whose pages are listed at a time.
const PAGES_AT_ONCE: usize = 4;
/// Runs that are described at a time.
const DESCRIBED_AT_ONCE: usize = 16;
/// Runs in a page whose runs are described one by one.
const DESCRIBED_TARGETS_MAX: usize = 100;

/// Lists and adds pages until it is dropped. What fails is wanted again by its batch.
pub async fn serve(service: Service) {
    // Those under way end with it, and one that panics does not end the others.
    let mut adding = JoinSet::new();
    loop {
        while adding.len() >= PAGES_AT_ONCE {
            adding.join_next().await;
        }
        let batch = service.node.wanted_pages.next().await;
        while adding.try_join_next().is_some() {}
        let service = service.clone();
        adding.spawn(async move {
            let failed = match tokio::time::timeout(ADDED_WITHIN, add_page(&service, &batch)).await {
                Ok(Ok(())) => return,
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => format!("it took more than {} s", ADDED_WITHIN.as_secs()),
            };
            tracing::warn!(id = %batch.id, "a page of a batch could not be added, and is listed again: {failed}");
        });
    }
}

async fn add_page(service: &Service, batch: &EntityId) -> Result<(), Status> {
    let namespace = service.namespace_by_id(&batch.namespace_id)?;
    let wanted = service.read_entity(batch.clone(), |core, key| Ok(batches::found(core, key)?.wanted_page())).await?;
    let Some(wanted) = wanted else { return Ok(()) };
    let page = match listed(service, &namespace, &wanted).await {
        Err(status) if status.code() == Code::InvalidArgument => AddBatchPage {
            run_id: wanted.run_id.clone(),
            page: wanted.page,
            problem: status.message().to_owned(),
            ..AddBatchPage::default()
        },
        listed => listed?,
    };
    service.to_entity(&namespace, batch.clone(), Body::AddBatchPage(page), |_, _, _| Ok(())).await
}

/// INVALID_ARGUMENT: the query can't be read.
async fn listed(service: &Service, namespace: &Namespace, wanted: &WantedPage) -> Result<AddBatchPage, Status> {
    let missing = Missing::of(wanted);
    let max = if missing.is_some() { DESCRIBED_TARGETS_MAX } else { TARGETS_MAX };
    let query = &wanted.plan.query;
    let mut page = if query.is_empty() {
        wanted.of_executions(max)
    } else {
        let name = &namespace.name;
        let rows = visibility::names_of(service, name, query, max as i32, wanted.token.clone()).await?;
        let total = match wanted.page {
            0 => visibility::count_of(service, Kind::Workflow, name, query).await?.total,
            _ => 0,
        };
        let target = |row: Row| Target { workflow_id: row.workflow_id, run_id: row.run_id, reset_event_id: 0 };
        AddBatchPage {
            run_id: wanted.run_id.clone(),
            page: wanted.page,
            targets: rows.rows.into_iter().map(target).collect(),
            next_page_token: rows.next_page_token,
            total,
            ..AddBatchPage::default()
        }
    };
    if let Some(missing) = missing {
        complete(service, namespace, missing, &mut page).await?;
    }
    Ok(page)
}

/// What an operation must know of a run that no list has.
#[derive(Clone)]
enum Missing {
    /// Of a reset to where a build began: where that was.
    BuildStart { build_id: String, current_run_only: bool },
    /// Of a deletion that names no run: which one is the newest. It is two requests, which must be to the same run.
    RunId,
}

impl Missing {
    fn of(wanted: &WantedPage) -> Option<Self> {
        match wanted.plan.request.as_ref()?.operation.as_ref()? {
            Operation::ResetOperation(reset) => {
                let options = reset.options.as_ref()?;
                let Some(reset_options::Target::BuildId(build_id)) = &options.target else { return None };
                Some(Self::BuildStart { build_id: build_id.clone(), current_run_only: options.current_run_only })
            }
            Operation::DeletionOperation(_) if wanted.plan.query.is_empty() => Some(Self::RunId),
            _ => None,
        }
    }
}

/// Adds to the page's runs what is missing. Those that it can't be found of count as failed.
async fn complete(
    service: &Service,
    namespace: &Namespace,
    missing: Missing,
    page: &mut AddBatchPage,
) -> Result<(), Status> {
    let at_once = Arc::new(Semaphore::new(DESCRIBED_AT_ONCE));
    let mut found = JoinSet::new();
    let count = page.targets.len();
    for (place, target) in std::mem::take(&mut page.targets).into_iter().enumerate() {
        let (service, at_once, namespace, missing) =
            (service.clone(), at_once.clone(), namespace.name.clone(), missing.clone());
        found.spawn(async move {
            let _permit = at_once.acquire().await;
            (place, completed(&service, namespace, target, &missing).await)
        });
    }
    let mut targets = vec![None; count];
    while let Some(found) = found.join_next().await {
        let (place, target) = found.map_err(|error| Status::internal(error.to_string()))?;
        targets[place] = target?;
    }
    page.targets = targets.into_iter().flatten().collect();
    page.failed = (count - page.targets.len()) as i64;
    Ok(())
}

/// `Err`: it can't be known now.
async fn completed(
    service: &Service,
    namespace: String,
    target: Target,
    missing: &Missing,
) -> Result<Option<Target>, Status> {
    if matches!(missing, Missing::RunId) && !target.run_id.is_empty() {
        return Ok(Some(target));
    }
    let execution = WorkflowExecution { workflow_id: target.workflow_id.clone(), run_id: target.run_id.clone() };
    let describe = DescribeWorkflowExecutionRequest { namespace, execution: Some(execution) };
    let described = match service.describe_workflow_execution(Request::new(describe)).await {
        Ok(described) => described.into_inner().workflow_execution_info.unwrap_or_default(),
        // What is gone needs nothing: the operation finds nothing either.
        Err(status) if status.code() == Code::NotFound => return Ok(Some(target)),
        Err(status) if passes(status.code()) => return Err(status),
        Err(status) => {
            let Target { workflow_id, run_id, .. } = target;
            tracing::warn!(workflow_id, run_id, "a batch can't be applied to a run: {}", status.message());
            return Ok(None);
        }
    };
    let run_id = described.execution.map(|execution| execution.run_id).unwrap_or_default();
    let Missing::BuildStart { build_id, current_run_only } = missing else {
        return Ok(Some(Target { run_id, ..target }));
    };
    let now = service.node.clock_ms();
    let mut points = described.auto_reset_points.into_iter().flat_map(|points| points.points);
    let point = points.find(|point| point.build_id == *build_id).filter(|point| {
        let has_expired = point.expire_time.as_ref().is_some_and(|time| millis_of(time) < now);
        point.resettable && !has_expired && (point.run_id == run_id || !current_run_only)
    });
    Ok(point.map(|point| Target {
        workflow_id: target.workflow_id,
        run_id: point.run_id,
        reset_event_id: point.first_workflow_task_completed_id,
    }))
}

/// Whether a call that was answered so may be answered otherwise a little later.
fn passes(code: Code) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable};
    matches!(code, Aborted | Cancelled | DeadlineExceeded | ResourceExhausted | Unavailable)
}
