//! Reading histories: page by page, forwards or backwards, or waiting for what comes next.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};

use super::service::Service;
use super::validate;
use crate::engine::workflow::transient_events;
use crate::engine::{EntityId, Rejection};
use crate::partition::{Core, PAGE_BYTES};
use crate::proto::commands::TaskToken;
use crate::proto::temporal::enums::v1::HistoryEventFilterType as Filter;
use crate::proto::temporal::history::v1::{History, HistoryEvent};
use crate::proto::temporal::workflowservice::v1::*;

/// How long a caller waits for the next event before it gets an empty page and asks again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names a page of history that is still to be read: `next event id`, of which run.
pub fn page_token(run_id: &str, next_event_id: i64, last_event_id: i64, transient: bool) -> Bytes {
    let token = TaskToken {
        run_id: run_id.to_owned(),
        scheduled_event_id: next_event_id,
        started_event_id: last_event_id,
        attempt: i32::from(transient),
        ..TaskToken::default()
    };
    token.encode_to_vec().into()
}

/// What a caller requests of a run's history.
#[derive(Clone)]
struct Page {
    /// Empty: the newest.
    run_id: String,
    next_event_id: i64,
    /// Whether a workflow task's events that are not in the history unless it completes close the last page.
    transient: bool,
    /// The history's end when reading began; 0: none.
    end: i64,
    /// Only the event that closes the run.
    close_only: bool,
    /// Until there is something to see.
    wait: bool,
}

impl Page {
    fn new(token: &[u8], run_id: &str) -> Result<Self, Status> {
        let mut page = Self {
            run_id: run_id.to_owned(),
            next_event_id: 1,
            transient: true,
            end: 0,
            close_only: false,
            wait: false,
        };
        if token.is_empty() {
            return Ok(page);
        }
        let token = TaskToken::decode(token).ok();
        let token = token.filter(|token| token.scheduled_event_id > 0).ok_or_else(|| {
            Status::invalid_argument("Invalid NextPageToken: hand back the token as it was received.")
        })?;
        if !run_id.is_empty() && !token.run_id.is_empty() && token.run_id != run_id {
            return Err(Status::invalid_argument("RunId in the request does not match the NextPageToken."));
        }
        if !token.run_id.is_empty() {
            page.run_id = token.run_id;
        }
        page.next_event_id = token.scheduled_event_id;
        (page.transient, page.end) = (token.attempt != 0, token.started_event_id);
        Ok(page)
    }

    fn look(&self, core: &mut Core, key: &EntityId) -> Result<Found, Status> {
        let run = core.run(key, &self.run_id)?.ok_or_else(|| Rejection::workflow_not_found(&key.id, &self.run_id))?;
        let head = &run.head;
        let end = if self.end > 0 { self.end.min(head.next_event_id) } else { head.next_event_id };
        let change = (self.wait && run.is_open()).then(|| core.watch(key));
        let from = match self.close_only {
            // There is none yet.
            true if run.is_open() => head.next_event_id,
            true => head.close_event_id,
            false => self.next_event_id,
        };
        let events = core.history(key, &head.run_id, from, end, PAGE_BYTES)?;
        let next_event_id = events.last().map_or(from, |event| event.event_id + 1);
        let last = !events.is_empty() && next_event_id == head.next_event_id;
        let transient = if self.transient && !self.close_only && last { transient_events(head) } else { Vec::new() };
        let (run_id, open) = (head.run_id.clone(), run.is_open());
        Ok(Found { run_id, open, events, transient, next_event_id, end, change })
    }

    /// A caller that waits for the end of a run gets that end only, which nothing later can make untrue. What stands in the log
    /// since the call came need not be known for that, unless the run is not.
    fn is_final(&self) -> bool {
        self.wait && self.close_only && !self.run_id.is_empty()
    }
}

/// What one look at a run found.
struct Found {
    run_id: String,
    open: bool,
    events: Vec<HistoryEvent>,
    /// What closes the last page beyond the history's end.
    transient: Vec<HistoryEvent>,
    next_event_id: i64,
    /// The history's end now.
    end: i64,
    change: Option<tokio::sync::oneshot::Receiver<()>>,
}

/// Clients that do not get what may never join a history, as with Temporal's server: people look at what they show.
const FOR_PEOPLE: [&str; 2] = ["temporal-cli", "temporal-ui"];

/// Notes in a request which client makes it: a page token contains whether transient events are requested.
pub fn note_client(request: &mut GetWorkflowExecutionHistoryRequest, client: &str) {
    if request.next_page_token.is_empty() && FOR_PEOPLE.contains(&client) {
        request.next_page_token = page_token("", 1, 0, false);
    }
}

pub async fn get(
    service: &Service,
    request: GetWorkflowExecutionHistoryRequest,
) -> Result<GetWorkflowExecutionHistoryResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::execution(request.execution.as_ref())?;
    let mut page = Page::new(&request.next_page_token, &execution.run_id)?;
    page.close_only = request.history_event_filter_type() == Filter::CloseEvent;
    page.wait = request.wait_new_event;
    let size = usize::try_from(request.maximum_page_size).unwrap_or_default();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = look(service, &namespace.id, &execution.workflow_id, page.clone()).await?;
        page.run_id.clone_from(&found.run_id);
        let ready = !page.wait || !found.open || (!page.close_only && !found.events.is_empty());
        if ready {
            return Ok(answer(found, size, &page));
        }
        let Some(change) = found.change else {
            return Err(Status::internal("a reader that waits was given nothing to wait for"));
        };
        if tokio::time::timeout_at(deadline, change).await.is_err() {
            // Nothing yet: the caller goes on from the same place.
            let next_page_token = page_token(&page.run_id, page.next_event_id, 0, page.transient);
            return Ok(GetWorkflowExecutionHistoryResponse {
                history: Some(History::default()),
                next_page_token,
                ..GetWorkflowExecutionHistoryResponse::default()
            });
        }
    }
}

async fn look(service: &Service, namespace_id: &str, workflow_id: &str, page: Page) -> Result<Found, Status> {
    if page.is_final() {
        let page = page.clone();
        let found = service.visit(namespace_id, workflow_id, move |core, key| page.look(core, key)).await;
        if !found.as_ref().is_err_and(|status| status.code() == Code::NotFound) {
            return found;
        }
    }
    service.read(namespace_id, workflow_id, move |core, key| page.look(core, key)).await
}

fn answer(mut found: Found, size: usize, page: &Page) -> GetWorkflowExecutionHistoryResponse {
    if size > 0 && found.events.len() > size {
        found.events.truncate(size);
        found.next_event_id = found.events.last().map_or(found.next_event_id, |event| event.event_id + 1);
    }
    let more = found.next_event_id < found.end;
    if !more {
        found.events.append(&mut found.transient);
    }
    let next_page_token = if more || (page.wait && found.open) {
        let end = if page.wait { 0 } else { found.end };
        page_token(&found.run_id, found.next_event_id, end, page.transient)
    } else {
        Bytes::new()
    };
    GetWorkflowExecutionHistoryResponse {
        history: Some(History { events: found.events }),
        next_page_token,
        ..GetWorkflowExecutionHistoryResponse::default()
    }
}

pub async fn get_reverse(
    service: &Service,
    request: GetWorkflowExecutionHistoryReverseRequest,
) -> Result<GetWorkflowExecutionHistoryReverseResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::execution(request.execution.as_ref())?;
    let page = Page::new(&request.next_page_token, &execution.run_id)?;
    let begun = !request.next_page_token.is_empty();
    let size = usize::try_from(request.maximum_page_size).ok().filter(|size| *size > 0).unwrap_or(usize::MAX);
    let (run_id, events) = service
        .read(&namespace.id, &execution.workflow_id, move |core, key| {
            let run =
                core.run(key, &page.run_id)?.ok_or_else(|| Rejection::workflow_not_found(&key.id, &page.run_id))?;
            let end = if begun { page.next_event_id } else { run.head.next_event_id };
            let events = core.history_before(key, &run.head.run_id, end, size, PAGE_BYTES)?;
            Ok((run.head.run_id.clone(), events))
        })
        .await?;
    let first = events.last().map_or(1, |event| event.event_id);
    let next_page_token = if first > 1 { page_token(&run_id, first, 0, false) } else { Bytes::new() };
    Ok(GetWorkflowExecutionHistoryReverseResponse { history: Some(History { events }), next_page_token })
}
