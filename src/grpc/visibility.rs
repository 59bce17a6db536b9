//! Lists and counts of workflows, over all partitions.

use tonic::Status;

use super::service::Service;
use crate::proto::temporal::enums::v1::IndexedValueType;
use crate::proto::temporal::workflowservice::v1::*;
use crate::visibility::{self, Attributes, Count, Page, Query, to_count_response, to_execution_info};

/// Rows in one page if the caller does not say, and at most.
const PAGE_SIZE: usize = 1000;

async fn page(
    service: &Service,
    namespace: &str,
    query: &str,
    page_size: i32,
    token: bytes::Bytes,
) -> Result<Page, Status> {
    let namespace = service.namespace(namespace)?;
    let query = Query::parse(&namespace.id, query, &Attributes::default())?;
    if query.is_grouped() {
        return Err(Status::invalid_argument("invalid query: GROUP BY is for counts only"));
    }
    let size = usize::try_from(page_size).unwrap_or_default().min(PAGE_SIZE);
    let size = if size == 0 { PAGE_SIZE } else { size };
    let sources = service.node.projections.clone();
    blocking(move || visibility::merge::list(&sources, &query, size, &token)).await
}

/// SQLite blocks, so it is not asked on a thread that serves calls.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, visibility::Error> + Send + 'static,
) -> Result<T, Status> {
    let answer = tokio::task::spawn_blocking(ask).await.map_err(|error| Status::internal(error.to_string()))?;
    Ok(answer?)
}

pub async fn list(
    service: &Service,
    request: ListWorkflowExecutionsRequest,
) -> Result<ListWorkflowExecutionsResponse, Status> {
    let page = page(service, &request.namespace, &request.query, request.page_size, request.next_page_token).await?;
    Ok(ListWorkflowExecutionsResponse {
        executions: page.rows.iter().map(to_execution_info).collect(),
        next_page_token: page.next_page_token,
    })
}

pub async fn scan(
    service: &Service,
    request: ScanWorkflowExecutionsRequest,
) -> Result<ScanWorkflowExecutionsResponse, Status> {
    let page = page(service, &request.namespace, &request.query, request.page_size, request.next_page_token).await?;
    Ok(ScanWorkflowExecutionsResponse {
        executions: page.rows.iter().map(to_execution_info).collect(),
        next_page_token: page.next_page_token,
    })
}

pub async fn count(
    service: &Service,
    request: CountWorkflowExecutionsRequest,
) -> Result<CountWorkflowExecutionsResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let query = Query::parse(&namespace.id, &request.query, &Attributes::default())?;
    let sources = service.node.projections.clone();
    let count: Count = blocking(move || visibility::merge::count(&sources, &query)).await?;
    Ok(to_count_response(&count))
}

pub async fn search_attributes(
    _: &Service,
    _: GetSearchAttributesRequest,
) -> Result<GetSearchAttributesResponse, Status> {
    Ok(GetSearchAttributesResponse { keys: system_attributes() })
}

/// The attributes that every workflow has.
pub fn system_attributes() -> std::collections::BTreeMap<String, i32> {
    use IndexedValueType as T;
    [
        ("WorkflowId", T::Keyword),
        ("RunId", T::Keyword),
        ("WorkflowType", T::Keyword),
        ("ExecutionStatus", T::Keyword),
        ("TaskQueue", T::Keyword),
        ("StartTime", T::Datetime),
        ("ExecutionTime", T::Datetime),
        ("CloseTime", T::Datetime),
        ("ExecutionDuration", T::Int),
        ("HistoryLength", T::Int),
        ("HistorySizeBytes", T::Int),
        ("StateTransitionCount", T::Int),
        ("ParentWorkflowId", T::Keyword),
        ("ParentRunId", T::Keyword),
        ("RootWorkflowId", T::Keyword),
        ("RootRunId", T::Keyword),
    ]
    .into_iter()
    .map(|(name, kind)| (name.to_owned(), kind as i32))
    .collect()
}
