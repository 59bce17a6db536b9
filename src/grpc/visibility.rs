//! Lists and counts of workflows, over all partitions.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use super::fan_out::{self, ask};
use super::route::OWNER_WAIT_MAX;
use super::service::Service;
use crate::partition::{Lists, Node};
use crate::proto::cluster::{CountRequest, ListRequest};
use crate::proto::state::Namespace;
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus;
use crate::proto::temporal::filter::v1::StartTimeFilter;
use crate::proto::temporal::workflowservice::v1::*;
use crate::visibility::{
    self, Attributes, Count, Page, Query, Row, attributes_of, leave_out_removed, to_count_response, to_execution_info,
};

/// An answer that lacks a partition is asked for again after this long.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Rows in one page if the caller does not say, and at most.
const PAGE_SIZE: usize = 1000;
/// How long a call waits for lists that are catching up, if its caller sets no earlier deadline: SDKs give up after ten seconds.
const CATCH_UP_WAIT_MAX: Duration = Duration::from_secs(8);

async fn page(
    service: &Service,
    namespace: &str,
    query: &str,
    page_size: i32,
    token: bytes::Bytes,
) -> Result<Page, Status> {
    once_owned(|| page_now(service, namespace, query, page_size, token.clone())).await
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
    namespace: &str,
    query: &str,
    page_size: i32,
    token: bytes::Bytes,
) -> Result<Page, Status> {
    let namespace = service.namespace(namespace)?;
    let text = query.to_owned();
    let (query, attributes) = parse(service, &namespace, query).await?;
    // Also where this node owns no partition, whose lists would find it out.
    query.check_token(&token)?;
    let size = usize::try_from(page_size).unwrap_or_default().min(PAGE_SIZE);
    let size = if size == 0 { PAGE_SIZE } else { size };
    let request = ListRequest {
        namespace_id: namespace.id.clone(),
        query: text,
        page_size: size as u32,
        page_token: token.clone(),
        search_attributes: encoded(&attributes),
    };
    let asked = ask(fan_out::owners(service), &request);
    let (mut partitions, sources) = owned(&service.node).await?;
    let listed = query.clone();
    let mut pages = vec![blocking(move || visibility::merge::list(&sources, &listed, size, &token)).await?];
    for answer in asked.answers().await? {
        partitions.extend(&answer.partitions);
        let rows = answer.rows.into_iter().map(Row::decode).collect::<Result<_, _>>();
        let rows = rows.map_err(|error| Status::internal(format!("a node's row can't be read: {error}")))?;
        pages.push(Page { rows, next_page_token: answer.next_page_token });
    }
    check_whole(service, &partitions)?;
    let mut page = visibility::merge::pages_of(&query, pages, size);
    page.rows.iter_mut().for_each(|row| leave_out_removed(row, &attributes));
    Ok(page)
}

/// The partitions that this node owns, and their lists. After a take-over lists may have yet to catch up: nobody is shown less
/// than before.
pub async fn owned(node: &Node) -> Result<(Vec<u32>, Vec<Arc<Lists>>), Status> {
    let until = Instant::now() + CATCH_UP_WAIT_MAX;
    let owned = (0..node.partitions()).filter(|partition| node.position(*partition).is_some());
    let (owned, lists): (Vec<u32>, Vec<Arc<Lists>>) =
        owned.map(|partition| (partition, node.lists[partition as usize].clone())).unzip();
    for (partition, lists) in owned.iter().zip(&lists) {
        if !lists.are_current(until.saturating_duration_since(Instant::now())).await {
            return Err(Status::unavailable(format!(
                "partition {partition} was taken over a moment ago, and its lists are still catching up: try again"
            )));
        }
    }
    Ok((owned, lists))
}

/// An answer that lacks a partition is none, nor is one that has a partition twice, of an owner that does not know that it is
/// none.
fn check_whole(service: &Service, partitions: &[u32]) -> Result<(), Status> {
    let answered = |partition: &u32| partitions.iter().filter(|answered| *answered == partition).count();
    match (0..service.node.partitions()).find(|partition| answered(partition) != 1) {
        Some(missing) => Err(Status::unavailable(format!("partition {missing} is being taken over: try again"))),
        None => Ok(()),
    }
}

/// Lists and counts that a node makes at the same time, each of which takes a thread, and memory for what it sorts. A caller who
/// has given up does not end his: the others wait here rather than all at once on the disk.
static AT_ONCE: Semaphore = Semaphore::const_new(8);

/// SQLite blocks, so it is not asked on a thread that serves calls.
pub async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, visibility::Error> + Send + 'static,
) -> Result<T, Status> {
    let permit = AT_ONCE.acquire().await.expect("nobody closes it");
    let ask = move || {
        let _permit = permit;
        ask()
    };
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

/// The runs that are closed. Their times are those at which they closed, though the field says otherwise: so it is with Temporal's
/// server.
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

/// A test of a query, of an attribute against a text.
fn equal(attribute: &str, text: &str) -> String {
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
    once_owned(|| count_now(service, request.clone())).await
}

async fn count_now(
    service: &Service,
    request: CountWorkflowExecutionsRequest,
) -> Result<CountWorkflowExecutionsResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let (query, attributes) = parse(service, &namespace, &request.query).await?;
    let search_attributes = encoded(&attributes);
    let request = CountRequest { namespace_id: namespace.id.clone(), query: request.query, search_attributes };
    let asked = ask(fan_out::owners(service), &request);
    let (mut partitions, sources) = owned(&service.node).await?;
    let mut counts: Vec<Count> = vec![blocking(move || visibility::merge::count(&sources, &query)).await?];
    for answer in asked.answers().await? {
        partitions.extend(&answer.partitions);
        counts.push(Count { total: answer.total, groups: answer.groups.into_iter().collect() });
    }
    check_whole(service, &partitions)?;
    Ok(to_count_response(&visibility::merge::counts_of(counts)))
}

/// The meaning of a query, and the attributes that it goes by.
async fn parse(service: &Service, namespace: &Namespace, query: &str) -> Result<(Query, Attributes), Status> {
    let attributes = attributes_of(namespace);
    match Query::parse(&namespace.id, query, &attributes) {
        Ok(query) => Ok((query, attributes)),
        // Perhaps an attribute was added a moment ago, through another node.
        Err(error) => match service.newer(namespace).await.map(|newer| attributes_of(&newer)) {
            Some(attributes) => Ok((Query::parse(&namespace.id, query, &attributes)?, attributes)),
            None => Err(error.into()),
        },
    }
}

/// As nodes hand them to each other: one that has not heard of an attribute yet lists by it all the same.
fn encoded(attributes: &Attributes) -> BTreeMap<String, i32> {
    attributes.iter().map(|(name, of)| (name.clone(), *of as i32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visibility::{Place, Projection};

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
            let query =
                Query::parse("n", &equal("WorkflowId", id), &Attributes::default()).expect("the query can be read");
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
            Query::parse("n", &text, &Attributes::default()).expect("the query can be read");
        }
    }
}
