//! Lists and counts of the entities of all partitions: each node makes those of the partitions that it owns, and the node that
//! was called merges them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::Status;

use super::{Cluster, fan_out};
use crate::engine::Kind;
use crate::partition::{Lists, Node};
use crate::proto::cluster::{CountRequest, CountResponse, ListRequest, ListResponse};
use crate::visibility::{self, Attributes, Count, Page, Query, Row, merge};

/// How long a call waits for lists that are catching up, if its caller sets no earlier deadline: SDKs give up after ten seconds.
const CATCH_UP_WAIT_MAX: Duration = Duration::from_secs(8);

/// What is listed or counted.
pub struct Filter<'a> {
    pub query: &'a Query,
    /// What it was parsed from, as other nodes parse it too.
    pub namespace_id: &'a str,
    pub text: &'a str,
    pub attributes: &'a Attributes,
}

/// A page of all partitions' entities. UNAVAILABLE: not all partitions have an owner that answers.
pub async fn list(
    node: &Node,
    cluster: Option<&Cluster>,
    filter: &Filter<'_>,
    page_size: usize,
    page_token: Bytes,
) -> Result<Page, Status> {
    let request = ListRequest {
        namespace_id: filter.namespace_id.to_owned(),
        query: filter.text.to_owned(),
        page_size: page_size as u32,
        page_token: page_token.clone(),
        search_attributes: encoded(filter.attributes),
        kind: filter.query.language() as u32,
        names_only: filter.query.is_names_only(),
    };
    let asked = fan_out::ask(fan_out::owners(cluster), &request);
    let (mut partitions, page) = list_here(node, filter.query.clone(), page_size, page_token).await?;
    let mut pages = vec![page];
    for answer in asked.answers().await? {
        partitions.extend(&answer.partitions);
        let rows = answer.rows.into_iter().map(Row::decode).collect::<Result<_, _>>();
        let rows = rows.map_err(|error| Status::internal(format!("a node's row can't be read: {error}")))?;
        pages.push(Page { rows, next_page_token: answer.next_page_token });
    }
    check_whole(node, &partitions)?;
    Ok(merge::pages_of(filter.query, pages, page_size))
}

/// How many entities all partitions have. UNAVAILABLE: not all partitions have an owner that answers.
pub async fn count(node: &Node, cluster: Option<&Cluster>, filter: &Filter<'_>) -> Result<Count, Status> {
    let request = CountRequest {
        namespace_id: filter.namespace_id.to_owned(),
        query: filter.text.to_owned(),
        search_attributes: encoded(filter.attributes),
        kind: filter.query.language() as u32,
    };
    let asked = fan_out::ask(fan_out::owners(cluster), &request);
    let (mut partitions, count) = count_here(node, filter.query.clone()).await?;
    let mut counts = vec![count];
    for answer in asked.answers().await? {
        partitions.extend(&answer.partitions);
        counts.push(Count { total: answer.total, groups: answer.groups.into_iter().collect() });
    }
    check_whole(node, &partitions)?;
    Ok(merge::counts_of(counts))
}

pub async fn answer_list(node: &Arc<Node>, request: ListRequest) -> Result<ListResponse, Status> {
    let attributes = decoded(request.search_attributes);
    let query = Query::parse(kind(request.kind)?, &request.namespace_id, &request.query, &attributes)?;
    let query = query.names_only(request.names_only);
    let (partitions, page) = list_here(node, query, request.page_size as usize, request.page_token).await?;
    Ok(ListResponse {
        rows: page.rows.iter().map(|row| row.encode_to_vec().into()).collect(),
        next_page_token: page.next_page_token,
        partitions,
    })
}

pub async fn answer_count(node: &Arc<Node>, request: CountRequest) -> Result<CountResponse, Status> {
    let attributes = decoded(request.search_attributes);
    let query = Query::parse(kind(request.kind)?, &request.namespace_id, &request.query, &attributes)?;
    let (partitions, count) = count_here(node, query).await?;
    Ok(CountResponse { total: count.total, groups: count.groups.into_iter().collect(), partitions })
}

/// A page of the partitions that this node owns, and which these are.
async fn list_here(node: &Node, query: Query, page_size: usize, page_token: Bytes) -> Result<(Vec<u32>, Page), Status> {
    let (partitions, sources) = owned(node).await?;
    let page = blocking(move || merge::list(&sources, &query, page_size, &page_token)).await?;
    Ok((partitions, page))
}

async fn count_here(node: &Node, query: Query) -> Result<(Vec<u32>, Count), Status> {
    let (partitions, sources) = owned(node).await?;
    let count = blocking(move || merge::count(&sources, &query)).await?;
    Ok((partitions, count))
}

/// The partitions that this node owns, and their lists. After a take-over lists may have yet to catch up: no caller is shown less
/// than before.
async fn owned(node: &Node) -> Result<(Vec<u32>, Vec<Arc<Lists>>), Status> {
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

/// An answer that lacks a partition is refused, as is one that has a partition twice: from an owner that does not know that it
/// was replaced.
fn check_whole(node: &Node, partitions: &[u32]) -> Result<(), Status> {
    let answered = |partition: &u32| partitions.iter().filter(|answered| *answered == partition).count();
    match (0..node.partitions()).find(|partition| answered(partition) != 1) {
        Some(missing) => Err(Status::unavailable(format!("partition {missing} is being taken over: try again"))),
        None => Ok(()),
    }
}

/// Lists and counts that a node makes at the same time, each of which takes a thread, and memory for what it sorts. One goes on
/// when its caller has given up: the others wait here rather than all at once on the disk.
static AT_ONCE: Semaphore = Semaphore::const_new(8);

/// SQLite blocks, so it is not called on a thread that serves calls.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, visibility::Error> + Send + 'static,
) -> Result<T, Status> {
    let permit = AT_ONCE.acquire().await.expect("it is never closed");
    let ask = move || {
        let _permit = permit;
        ask()
    };
    let answer = tokio::task::spawn_blocking(ask).await.map_err(|error| Status::internal(error.to_string()))?;
    Ok(answer?)
}

/// As nodes send them to each other: a node that has not yet read of an attribute lists by it all the same.
fn encoded(attributes: &Attributes) -> BTreeMap<String, i32> {
    attributes.iter().map(|(name, of)| (name.clone(), *of as i32)).collect()
}

fn kind(number: u32) -> Result<Kind, Status> {
    Kind::of(number).ok_or_else(|| Status::unavailable(format!("entities of kind {number} are not known here")))
}

fn decoded(attributes: BTreeMap<String, i32>) -> Attributes {
    attributes.into_iter().filter_map(|(name, of)| Some((name, of.try_into().ok()?))).collect()
}

impl From<visibility::Error> for Status {
    fn from(error: visibility::Error) -> Self {
        if error.is_callers_fault() {
            Status::invalid_argument(error.to_string())
        } else {
            Status::unavailable(error.to_string())
        }
    }
}
