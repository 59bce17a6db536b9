//! Lists what batches are to be applied to: the pages that those of this node's partitions want, one after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use super::service::Service;
use super::{batches, visibility};
use crate::engine::batch::WantedPage;
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

/// A page that takes longer is given up, and wanted again by its batch.
const ADDED_WITHIN: Duration = Duration::from_secs(30);
/// Runs that are described at a time, to find where a build began.
const DESCRIBED_AT_ONCE: usize = 16;

/// Lists and adds pages until it is dropped. What fails is wanted again by its batch.
pub async fn serve(service: Service) {
    loop {
        let batch = service.node.wanted_pages.next().await;
        let (service, id) = (service.clone(), batch.id.clone());
        // A task of its own, so that one that panics does not end the others.
        let mut adding = tokio::spawn(async move { add_page(&service, &batch).await });
        let failed = match tokio::time::timeout(ADDED_WITHIN, &mut adding).await {
            Ok(Ok(added)) => added.err().map(|status| status.message().to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => {
                adding.abort();
                Some(format!("it took more than {} s", ADDED_WITHIN.as_secs()))
            }
        };
        if let Some(failed) = failed {
            tracing::warn!(%id, "a page of a batch could not be added, and is listed again: {failed}");
        }
    }
}

async fn add_page(service: &Service, batch: &EntityId) -> Result<(), Status> {
    let namespace = service.namespace_by_id(&batch.namespace_id)?;
    let wanted = service.read_entity(batch.clone(), |core, key| Ok(batches::found(core, key)?.wanted_page())).await?;
    let Some(wanted) = wanted else { return Ok(()) };
    let mut page = match listed(service, &namespace, &wanted).await {
        Err(status) if status.code() == Code::InvalidArgument => AddBatchPage {
            run_id: wanted.run_id.clone(),
            page: wanted.page,
            problem: status.message().to_owned(),
            ..AddBatchPage::default()
        },
        listed => listed?,
    };
    find_build(service, &namespace, &wanted, &mut page).await?;
    service.to_entity(&namespace, batch.clone(), Body::AddBatchPage(page), |_, _, _| Ok(())).await
}

/// INVALID_ARGUMENT: the query can't be read.
async fn listed(service: &Service, namespace: &Namespace, wanted: &WantedPage) -> Result<AddBatchPage, Status> {
    let query = &wanted.plan.query;
    if query.is_empty() {
        return Ok(wanted.of_executions());
    }
    let (name, token) = (&namespace.name, wanted.token.clone());
    let total = match wanted.page {
        0 => visibility::count_of(service, Kind::Workflow, name, query).await?.total,
        _ => 0,
    };
    let page = visibility::page_of(service, Kind::Workflow, name, query, 0, token).await?;
    let target =
        |row: crate::visibility::Row| Target { workflow_id: row.workflow_id, run_id: row.run_id, reset_event_id: 0 };
    Ok(AddBatchPage {
        run_id: wanted.run_id.clone(),
        page: wanted.page,
        targets: page.rows.into_iter().map(target).collect(),
        next_page_token: page.next_page_token,
        total,
        ..AddBatchPage::default()
    })
}

/// Of a reset to where a build began: where that was, of each run. Those that know of no such point count as failed.
async fn find_build(
    service: &Service,
    namespace: &Namespace,
    wanted: &WantedPage,
    page: &mut AddBatchPage,
) -> Result<(), Status> {
    let Some(Operation::ResetOperation(reset)) = wanted.plan.request.as_ref().and_then(|r| r.operation.as_ref()) else {
        return Ok(());
    };
    let options = reset.options.clone().unwrap_or_default();
    let Some(reset_options::Target::BuildId(build_id)) = options.target else { return Ok(()) };
    let at_once = Arc::new(Semaphore::new(DESCRIBED_AT_ONCE));
    let mut found = JoinSet::new();
    let count = page.targets.len();
    for (place, target) in std::mem::take(&mut page.targets).into_iter().enumerate() {
        let (service, at_once) = (service.clone(), at_once.clone());
        let (namespace, build_id, current_run_only) =
            (namespace.name.clone(), build_id.clone(), options.current_run_only);
        found.spawn(async move {
            let _permit = at_once.acquire().await;
            (place, point_of(&service, namespace, target, &build_id, current_run_only).await)
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

async fn point_of(
    service: &Service,
    namespace: String,
    target: Target,
    build_id: &str,
    current_run_only: bool,
) -> Result<Option<Target>, Status> {
    let execution = WorkflowExecution { workflow_id: target.workflow_id.clone(), run_id: target.run_id.clone() };
    let describe = DescribeWorkflowExecutionRequest { namespace, execution: Some(execution) };
    let described = match service.describe_workflow_execution(Request::new(describe)).await {
        // What is gone needs nothing: the reset finds nothing either.
        Err(status) if status.code() == Code::NotFound => return Ok(Some(target)),
        described => described?.into_inner().workflow_execution_info.unwrap_or_default(),
    };
    let run_id = described.execution.map(|execution| execution.run_id).unwrap_or_default();
    let now = service.node.clock_ms();
    let mut points = described.auto_reset_points.into_iter().flat_map(|points| points.points);
    let point = points.find(|point| point.build_id == build_id).filter(|point| {
        let has_expired = point.expire_time.as_ref().is_some_and(|time| millis_of(time) < now);
        point.resettable && !has_expired && (point.run_id == run_id || !current_run_only)
    });
    Ok(point.map(|point| Target {
        workflow_id: target.workflow_id,
        run_id: point.run_id,
        reset_event_id: point.first_workflow_task_completed_id,
    }))
}
