//! AddBatchPage: the next runs that the operation is applied to.

use bytes::Bytes;

use super::{Batch, Event, fail};
use crate::engine::rejection::Rejection;
use crate::engine::work::Work;
use crate::proto::batch::{AddBatchPage, StartBatch, Target};
use crate::proto::temporal::workflowservice::v1::StartBatchOperationRequest as Request;

/// So many runs are in a page, at most.
pub const TARGETS_MAX: usize = 1000;

/// A page that a batch waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedPage {
    pub run_id: String,
    pub page: i64,
    /// As the page before had it; empty for the first.
    pub token: Bytes,
    pub start: StartBatch,
}

impl Batch {
    /// The page that is to be listed and added; none: it waits for none.
    pub fn wanted_page(&self) -> Option<WantedPage> {
        let head = &self.head;
        let wanted = self.is_open() && head.page_wanted_ms > 0;
        wanted.then(|| WantedPage {
            run_id: head.run_id.clone(),
            page: head.pages,
            token: head.next_page_token.clone(),
            start: self.plan.start.clone().unwrap_or_default(),
        })
    }
}

impl WantedPage {
    /// The page, if the batch names its executions itself.
    pub fn of_executions(&self) -> AddBatchPage {
        let request = self.start.request.clone().unwrap_or_default();
        let executions = executions(&request);
        let from = self.token.as_ref().try_into().map_or(0, u64::from_be_bytes) as usize;
        let to = executions.len().min(from.saturating_add(TARGETS_MAX));
        let more = to < executions.len();
        AddBatchPage {
            run_id: self.run_id.clone(),
            page: self.page,
            targets: executions.get(from..to).map(<[Target]>::to_vec).unwrap_or_default(),
            next_page_token: if more { Bytes::copy_from_slice(&(to as u64).to_be_bytes()) } else { Bytes::new() },
            total: executions.len() as i64,
            ..AddBatchPage::default()
        }
    }
}

/// The executions that a request names.
fn executions(request: &Request) -> Vec<Target> {
    let target = |workflow_id: &String, run_id: &String| Target {
        workflow_id: workflow_id.clone(),
        run_id: run_id.clone(),
        reset_event_id: 0,
    };
    let old = request.executions.iter().map(|execution| target(&execution.workflow_id, &execution.run_id));
    let new = request.target_executions.iter().map(|execution| target(&execution.business_id, &execution.run_id));
    new.chain(old).collect()
}

/// A page that was added before is not added again: two nodes may have listed it.
pub fn add(work: &mut Work<Batch>, page: &AddBatchPage) -> Result<(), Rejection> {
    let run = work.run().present(&work.entity.id)?;
    if run.head.run_id != page.run_id || run.head.pages != page.page || run.head.is_listed {
        return Err(Rejection::Duplicate);
    }
    if !page.problem.is_empty() {
        fail(work, page.problem.clone());
        return Ok(());
    }
    work.emit(Event::PageAdded {
        targets: page.targets.clone(),
        next_page_token: page.next_page_token.clone(),
        total: page.total,
        failed: page.failed,
    });
    Ok(())
}
