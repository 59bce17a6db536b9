//! Lists and counts of workflows, over all partitions.

use std::future::Future;
use std::time::{Duration, Instant};

use tonic::{Code, Status};

use super::route::OWNER_WAIT_MAX;
use super::service::Service;
use crate::cluster::lists::{self, Filter};
use crate::engine::Kind;
use crate::proto::state::Namespace;
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus;
use crate::proto::temporal::filter::v1::StartTimeFilter;
use crate::proto::temporal::workflowservice::v1::*;
use crate::visibility::{
    self, Attributes, Count, Page, Query, attributes_of, leave_out_removed, to_count_response, to_execution_info,
};

/// An answer that lacks a partition is asked for again after this long.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

const ARCHIVED_PAGE_SIZE_MAX: i32 = 10_000;

/// Rows in one page by default, and at most.
const PAGE_SIZE: usize = 1000;

async fn page(
    service: &Service,
    namespace: &str,
    query: &str,
    page_size: i32,
    token: bytes::Bytes,
) -> Result<Page, Status> {
    page_of(service, Kind::Workflow, namespace, query, page_size, token).await
}

/// A page of the entities of a kind.
pub async fn page_of(
    service: &Service,
    kind: Kind,
    namespace: &str,
    query: &str,
    page_size: i32,
    token: bytes::Bytes,
) -> Result<Page, Status> {
    once_owned(|| page_now(service, kind, namespace, query, page_size, token.clone(), false)).await
}

/// A page of workflows of which no more than their names and times is wanted. The query is in an order of times.
pub async fn names_of(
    service: &Service,
    namespace: &str,
    query: &str,
    page_size: i32,
    token: bytes::Bytes,
) -> Result<Page, Status> {
    once_owned(|| page_now(service, Kind::Workflow, namespace, query, page_size, token.clone(), true)).await
}

/// Asks until all partitions are owned, as other calls wait for theirs.
async fn once_owned<T, F: Future<Output = Result<T, Status>>>(ask: impl Fn() -> F) -> Result<T, Status> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(status) if status.code() == Code::Unavailable && begun.elapsed() < OWNER_WAIT_MAX => {
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
            answer => return answer,
        }
    }
}

async fn page_now(
    service: &Service,
    kind: Kind,
    namespace: &str,
    query: &str,
    page_size: i32,
    token: bytes::Bytes,
    names_only: bool,
) -> Result<Page, Status> {
    let namespace = service.namespace(namespace)?;
    let text = query;
    let (query, attributes) = parse(service, kind, &namespace, text).await?;
    let query = query.names_only(names_only);
    // Also where this node owns no partition, whose lists would detect it.
    query.check_token(&token)?;
    let size = usize::try_from(page_size).unwrap_or_default().min(PAGE_SIZE);
    let size = if size == 0 { PAGE_SIZE } else { size };
    let filter = Filter { query: &query, namespace_id: &namespace.id, text, attributes: &attributes };
    let mut page = lists::list(&service.node, service.cluster.as_deref(), &filter, size, token).await?;
    page.rows.iter_mut().for_each(|row| leave_out_removed(row, &attributes));
    Ok(page)
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

/// The runs that are open, as a list by a query shows them.
pub async fn list_open(
    service: &Service,
    request: ListOpenWorkflowExecutionsRequest,
) -> Result<ListOpenWorkflowExecutionsResponse, Status> {
    use list_open_workflow_executions_request::Filters;
    let mut query = vec!["ExecutionStatus = 'Running'".to_owned()];
    query.extend(within("StartTime", request.start_time_filter)?);
    query.extend(request.filters.map(|filter| match filter {
        Filters::ExecutionFilter(filter) => equal("WorkflowId", &filter.workflow_id),
        Filters::TypeFilter(filter) => equal("WorkflowType", &filter.name),
    }));
    let query = query.join(" AND ");
    let page = page(service, &request.namespace, &query, request.maximum_page_size, request.next_page_token).await?;
    Ok(ListOpenWorkflowExecutionsResponse {
        executions: page.rows.iter().map(to_execution_info).collect(),
        next_page_token: page.next_page_token,
    })
}

/// The runs that are closed. Their times are those at which they closed, though the field's name is another: so it is with
/// Temporal's server.
pub async fn list_closed(
    service: &Service,
    request: ListClosedWorkflowExecutionsRequest,
) -> Result<ListClosedWorkflowExecutionsResponse, Status> {
    use list_closed_workflow_executions_request::Filters;
    let mut query = vec!["ExecutionStatus != 'Running'".to_owned()];
    query.extend(within("CloseTime", request.start_time_filter)?);
    query.extend(match request.filters {
        None => None,
        Some(Filters::ExecutionFilter(filter)) => Some(equal("WorkflowId", &filter.workflow_id)),
        Some(Filters::TypeFilter(filter)) => Some(equal("WorkflowType", &filter.name)),
        Some(Filters::StatusFilter(filter)) => match filter.status() {
            WorkflowExecutionStatus::Unspecified | WorkflowExecutionStatus::Running => {
                return Err(Status::invalid_argument("StatusFilter must be specified and must be not Running."));
            }
            status => Some(equal("ExecutionStatus", visibility::status_name(status as i32))),
        },
    });
    let query = query.join(" AND ");
    let page = page(service, &request.namespace, &query, request.maximum_page_size, request.next_page_token).await?;
    Ok(ListClosedWorkflowExecutionsResponse {
        executions: page.rows.iter().map(to_execution_info).collect(),
        next_page_token: page.next_page_token,
    })
}

/// There is no archival: refused as by Temporal's server without.
pub async fn list_archived(
    service: &Service,
    request: ListArchivedWorkflowExecutionsRequest,
) -> Result<ListArchivedWorkflowExecutionsResponse, Status> {
    service.namespace(&request.namespace)?;
    if request.page_size > ARCHIVED_PAGE_SIZE_MAX {
        let message = format!("PageSize is larger than allowed {ARCHIVED_PAGE_SIZE_MAX}.");
        return Err(Status::invalid_argument(message));
    }
    Err(Status::invalid_argument("Cluster is not configured for visibility archival."))
}

/// A test of a query, of an attribute against a text.
pub fn equal(attribute: &str, text: &str) -> String {
    format!("{attribute} = '{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A test of a query, of an attribute against what a filter has of times.
fn within(attribute: &str, filter: Option<StartTimeFilter>) -> Result<Option<String>, Status> {
    let StartTimeFilter { earliest_time, latest_time } = filter.unwrap_or_default();
    // What Go's SDK sends for a time that is not set: the first of January of the year 1.
    let is_set = |time: &prost_types::Timestamp| time.seconds != -62_135_596_800 || time.nanos != 0;
    let time = |time: prost_types::Timestamp| {
        let nanos = u32::try_from(time.nanos).ok();
        let time = nanos.and_then(|nanos| chrono::DateTime::from_timestamp(time.seconds, nanos));
        let time = time.ok_or_else(|| Status::invalid_argument("a time in StartTimeFilter is out of range"))?;
        Ok::<_, Status>((time, time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)))
    };
    Ok(match (earliest_time.filter(is_set).map(time).transpose()?, latest_time.filter(is_set).map(time).transpose()?) {
        (Some((earliest, _)), Some((latest, _))) if earliest > latest => {
            let message = "EarliestTime in StartTimeFilter should not be larger than LatestTime.";
            return Err(Status::invalid_argument(message));
        }
        (Some((_, earliest)), Some((_, latest))) => Some(format!("{attribute} BETWEEN '{earliest}' AND '{latest}'")),
        (Some((_, earliest)), None) => Some(format!("{attribute} >= '{earliest}'")),
        (None, Some((_, latest))) => Some(format!("{attribute} <= '{latest}'")),
        (None, None) => None,
    })
}

pub async fn count(
    service: &Service,
    request: CountWorkflowExecutionsRequest,
) -> Result<CountWorkflowExecutionsResponse, Status> {
    let count = count_of(service, Kind::Workflow, &request.namespace, &request.query).await?;
    Ok(to_count_response(&count))
}

/// How many entities of a kind there are.
pub async fn count_of(service: &Service, kind: Kind, namespace: &str, query: &str) -> Result<Count, Status> {
    once_owned(|| count_now(service, kind, namespace, query)).await
}

async fn count_now(service: &Service, kind: Kind, namespace: &str, text: &str) -> Result<Count, Status> {
    let namespace = service.namespace(namespace)?;
    let (query, attributes) = parse(service, kind, &namespace, text).await?;
    let filter = Filter { query: &query, namespace_id: &namespace.id, text, attributes: &attributes };
    lists::count(&service.node, service.cluster.as_deref(), &filter).await
}

/// Whether a query is a condition, and of workflows: it can be made part of another.
pub async fn check_condition(service: &Service, namespace: &Namespace, query: &str) -> Result<(), Status> {
    let check = |attributes: &Attributes| Query::check_condition(Kind::Workflow, query, attributes);
    with_attributes(service, namespace, check).await.map(drop)
}

/// The meaning of a query, and the attributes that it goes by.
async fn parse(
    service: &Service,
    kind: Kind,
    namespace: &Namespace,
    query: &str,
) -> Result<(Query, Attributes), Status> {
    with_attributes(service, namespace, |attributes| Query::parse(kind, &namespace.id, query, attributes)).await
}

async fn with_attributes<T>(
    service: &Service,
    namespace: &Namespace,
    parse: impl Fn(&Attributes) -> Result<T, visibility::Error>,
) -> Result<(T, Attributes), Status> {
    let attributes = attributes_of(namespace);
    match parse(&attributes) {
        Ok(parsed) => Ok((parsed, attributes)),
        // Perhaps an attribute was added a moment ago, through another node.
        Err(error) => match service.newer(namespace).await.map(|newer| attributes_of(&newer)) {
            Some(attributes) => Ok((parse(&attributes)?, attributes)),
            None => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visibility::{Place, Projection, Row};

    #[test]
    fn a_filter_finds_what_it_names_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut lists = Projection::open(&directory.path().join("lists")).expect("the file opens");
        let ids = ["plain", "it's", r"back\slash", r"\'", "' OR WorkflowId != '", "%_\n\""];
        let row = |id: &&str| Row {
            namespace_id: "n".into(),
            run_id: (*id).into(),
            workflow_id: (*id).into(),
            ..Row::default()
        };
        let rows: Vec<Row> = ids.iter().map(row).collect();
        lists.apply(&rows, &[], Place::default()).expect("the file can be written");
        for id in ids {
            let query = Query::parse(Kind::Workflow, "n", &equal("WorkflowId", id), &Attributes::default())
                .expect("the query can be read");
            assert_eq!(workflow_ids(&lists, &query), [id]);
        }
    }

    fn workflow_ids(lists: &Projection, query: &Query) -> Vec<String> {
        let page = lists.list(query, 10, b"").expect("the file can be read");
        page.rows.into_iter().map(|row| row.workflow_id).collect()
    }

    #[test]
    fn times_are_within_what_the_filter_has() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 5 });
        let test = |earliest_time, latest_time| {
            within("StartTime", Some(StartTimeFilter { earliest_time, latest_time }))
                .map_err(|status| status.message().to_owned())
        };
        let (first, second) = ("1970-01-01T00:00:01.000000005Z", "1970-01-01T00:00:02.000000005Z");
        assert_eq!(within("StartTime", None).ok(), Some(None));
        assert_eq!(test(None, None), Ok(None));
        assert_eq!(test(at(1), None), Ok(Some(format!("StartTime >= '{first}'"))));
        assert_eq!(test(None, at(2)), Ok(Some(format!("StartTime <= '{second}'"))));
        assert_eq!(test(at(1), at(2)), Ok(Some(format!("StartTime BETWEEN '{first}' AND '{second}'"))));
        let refused = "EarliestTime in StartTimeFilter should not be larger than LatestTime.";
        assert_eq!(test(at(2), at(1)), Err(refused.to_owned()));
        for text in [test(at(1), None), test(at(1), at(2))].into_iter().flatten().flatten() {
            Query::parse(Kind::Workflow, "n", &text, &Attributes::default()).expect("the query can be read");
        }
    }
}
