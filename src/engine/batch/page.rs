//! AddBatchPage: the next runs that the operation is applied to.

use std::sync::Arc;

use bytes::Bytes;

use super::{Batch, Event, fail};
use crate::engine::rejection::Rejection;
use crate::engine::work::Work;
use crate::proto::batch::{AddBatchPage, StartBatch, Target};

/// So many runs are in a page, at most.
pub const TARGETS_MAX: usize = 1000;

/// A page that a batch waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedPage {
    pub run_id: String,
    pub page: i64,
    /// As the page before had it; empty for the first.
    pub token: Bytes,
    pub plan: Arc<StartBatch>,
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
            plan: self.plan.clone(),
        })
    }
}

impl WantedPage {
    /// The page, of so many runs at most, if the batch names its executions itself.
    pub fn of_executions(&self, max: usize) -> AddBatchPage {
        let (old, new) = self.plan.request.as_ref().map_or_else(Default::default, |request| {
            (request.executions.as_slice(), request.target_executions.as_slice())
        });
        let old = old.iter().map(|execution| target(&execution.workflow_id, &execution.run_id));
        let new = new.iter().map(|execution| target(&execution.business_id, &execution.run_id));
        let total = new.len() + old.len();
        let from = self.token.as_ref().try_into().map_or(0, u64::from_be_bytes) as usize;
        let to = from.saturating_add(max);
        AddBatchPage {
            run_id: self.run_id.clone(),
            page: self.page,
            targets: new.chain(old).skip(from).take(max).collect(),
            next_page_token: if to < total { Bytes::copy_from_slice(&(to as u64).to_be_bytes()) } else { Bytes::new() },
            total: total as i64,
            ..AddBatchPage::default()
        }
    }
}

fn target(workflow_id: &str, run_id: &str) -> Target {
    Target { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned(), reset_event_id: 0 }
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
