//! Reading histories: page by page, forwards or backwards, or waiting for what comes next.

use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};

use super::service::Service;
use super::{errors, validate};
use crate::partition::{Core, EntityKey, PAGE_BYTES, transient_events};
use crate::proto::commands::TaskToken;
use crate::proto::temporal::enums::v1::HistoryEventFilterType as Filter;
use crate::proto::temporal::history::v1::{History, HistoryEvent};
use crate::proto::temporal::workflowservice::v1::*;

/// How long a caller waits for the next event before it gets an empty page and asks again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a page begins.
struct Page {
    run_id: String,
    next_event_id: i64,
    /// A workflow task's events that are not in the history yet close the last page.
    transient: bool,
    /// The history's end when reading began; 0: none.
    end: i64,
}

fn page(token: &[u8], run_id: &str) -> Result<Page, Status> {
    if token.is_empty() {
        return Ok(Page { run_id: run_id.to_owned(), next_event_id: 1, transient: false, end: 0 });
    }
    let token = TaskToken::decode(token).ok().filter(|token| !token.run_id.is_empty() && token.scheduled_event_id > 0);
    let token = token
        .ok_or_else(|| Status::invalid_argument("Invalid NextPageToken: hand back the token as it was received."))?;
    Ok(Page {
        run_id: token.run_id,
        next_event_id: token.scheduled_event_id,
        transient: token.attempt != 0,
        end: token.started_event_id,
    })
}

/// What one look at a run found.
struct Found {
    run_id: String,
    open: bool,
    events: Vec<HistoryEvent>,
    next_event_id: i64,
    /// The history's end now.
    end: i64,
    change: Option<tokio::sync::oneshot::Receiver<()>>,
}

pub async fn get(
    service: &Service,
    request: GetWorkflowExecutionHistoryRequest,
) -> Result<GetWorkflowExecutionHistoryResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let execution = validate::execution(request.execution.as_ref())?;
    let page = page(&request.next_page_token, &execution.run_id)?;
    let close_only = request.history_event_filter_type() == Filter::CloseEvent;
    let (wait, size) = (request.wait_new_event, usize::try_from(request.maximum_page_size).unwrap_or_default());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (mut run_id, from, transient, end) = (page.run_id.clone(), page.next_event_id, page.transient, page.end);
    loop {
        let asked = run_id.clone();
        let look =
            move |core: &mut Core, key: &EntityKey| look(core, key, &asked, from, end, close_only, wait, transient);
        // Who waits for a run's end is told that end only, which nothing later can make untrue: what stands in the log since this
        // call came need not be known for it, unless the run isn't.
        let found = if wait && close_only && !run_id.is_empty() {
            match service.visit(&namespace.id, &execution.workflow_id, look.clone()).await {
                Err(status) if status.code() == Code::NotFound => {
                    service.read(&namespace.id, &execution.workflow_id, look).await?
                }
                found => found?,
            }
        } else {
            service.read(&namespace.id, &execution.workflow_id, look).await?
        };
        run_id.clone_from(&found.run_id);
        let ready = !wait || !found.open || (!close_only && !found.events.is_empty());
        if ready {
            return Ok(answer(found, size, wait, transient));
        }
        let Some(change) = found.change else {
            return Err(Status::internal("a reader that waits was given nothing to wait for"));
        };
        if tokio::time::timeout_at(deadline, change).await.is_err() {
            // Nothing yet: the caller goes on from the same place.
            let next_page_token = crate::partition::page_token(&run_id, from, 0, false);
            return Ok(GetWorkflowExecutionHistoryResponse {
                history: Some(History::default()),
                next_page_token,
                ..GetWorkflowExecutionHistoryResponse::default()
            });
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn look(
    core: &mut Core,
    key: &EntityKey,
    run_id: &str,
    from: i64,
    end: i64,
    close_only: bool,
    wait: bool,
    transient: bool,
) -> Result<Found, Status> {
    let run = core
        .run(key, run_id)?
        .ok_or_else(|| errors::not_found(format!("workflow not found for ID: {}", key.workflow_id)))?;
    let head = &run.head;
    let end = if end > 0 { end.min(head.next_event_id) } else { head.next_event_id };
    let change = (wait && run.is_open()).then(|| core.watch(key));
    let from = match close_only {
        true if run.is_open() => head.next_event_id - i64::from(!wait),
        true => head.close_event_id,
        false => from,
    };
    let mut events = core.history(key, &head.run_id, from, end, PAGE_BYTES)?;
    let next_event_id = events.last().map_or(from, |event| event.event_id + 1);
    if transient
        && next_event_id >= end
        && let Some(task) = run.started_task()
    {
        events.extend(transient_events(head, task));
    }
    Ok(Found { run_id: head.run_id.clone(), open: run.is_open(), events, next_event_id, end, change })
}

fn answer(mut found: Found, size: usize, wait: bool, transient: bool) -> GetWorkflowExecutionHistoryResponse {
    if size > 0 && found.events.len() > size {
        found.events.truncate(size);
        found.next_event_id = found.events.last().map_or(found.next_event_id, |event| event.event_id + 1);
    }
    let more = found.next_event_id < found.end;
    let next_page_token = if more || (wait && found.open) {
        let end = if wait { 0 } else { found.end };
        crate::partition::page_token(&found.run_id, found.next_event_id, end, transient && more)
    } else {
        bytes::Bytes::new()
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
    let page = page(&request.next_page_token, &execution.run_id)?;
    let begun = !request.next_page_token.is_empty();
    let size = i64::from(if request.maximum_page_size > 0 { request.maximum_page_size.min(1000) } else { 1000 });
    let (run_id, events) = service
        .read(&namespace.id, &execution.workflow_id, move |core, key| {
            let run = core
                .run(key, &page.run_id)?
                .ok_or_else(|| errors::not_found(format!("workflow not found for ID: {}", key.workflow_id)))?;
            let end = if begun { page.next_event_id } else { run.head.next_event_id };
            let mut events = core.history(key, &run.head.run_id, (end - size).max(1), end, usize::MAX)?;
            events.reverse();
            Ok((run.head.run_id.clone(), events))
        })
        .await?;
    let first = events.last().map_or(1, |event| event.event_id);
    let next_page_token =
        if first > 1 { crate::partition::page_token(&run_id, first, 0, false) } else { bytes::Bytes::new() };
    Ok(GetWorkflowExecutionHistoryReverseResponse { history: Some(History { events }), next_page_token })
}
