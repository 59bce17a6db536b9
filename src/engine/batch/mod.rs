//! Batches: they apply one operation to many workflows, those that a query finds or a request names.
//!
//! The engine can't list: a batch that wants its next page says so ([`Event::PageWanted`]), and a node lists it and adds it by a command.
//! The operation is sent to each run of a page as a command of its own, with a callback: so it is applied once, whatever crashes, and
//! the batch knows what has become of it. A run is forgotten then, so that a batch takes no more than about a page of them.
//!
//! Clients are served as by Temporal's server, where a batch is a workflow of the server's own; here it is none.

mod operation;
mod page;
mod progress;
mod record;
mod start;
mod view;

use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};

pub use self::page::{TARGETS_MAX, WantedPage};
pub use self::record::Record;
use self::record::{END, PLAN, TARGET};
pub use self::view::BATCHER;
use super::machine::{Header, Machine, Tally};
use super::rejection::Rejection;
use super::row::Row;
use super::sub_key::SubKey;
use super::work::{Reply, Work};
use crate::proto::batch::{End, Head, StartBatch, Target};
use crate::proto::commands::{Command, command::Body};
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;

/// One run of a batch: a job id is used once, until the retention of its run is over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    head: Arc<Head>,
    /// What is done, as it was requested.
    plan: Arc<StartBatch>,
    end: Arc<End>,
    /// The runs of which it is not known yet that the operation was applied to them, by number. The operation was sent to those up to
    /// the head's `sent_number`.
    targets: OrdMap<i64, Target>,
    tally: Tally,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Started {
        head: Box<Head>,
        plan: Box<StartBatch>,
    },
    /// The next page is to be listed.
    PageWanted {
        at_ms: i64,
    },
    PageAdded {
        targets: Vec<Target>,
        next_page_token: Bytes,
        total: i64,
        failed: i64,
    },
    /// An interval of the rate limit begins.
    IntervalBegun {
        from_ms: i64,
    },
    /// The operation is sent to the next run.
    Sent,
    Applied {
        number: i64,
        succeeded: bool,
    },
    Waits {
        due_ms: i64,
    },
    Closed {
        status: Status,
        close_ms: i64,
        delete_ms: i64,
        end: Box<End>,
    },
}

impl Machine for Batch {
    type Event = Event;
    type Record = Record;

    fn decide(work: &mut Work<Self>, command: &Command) -> Result<Reply, Rejection> {
        match &command.body {
            Some(Body::StartBatch(start)) => start::start(work, start)?,
            Some(Body::AddBatchPage(page)) => page::add(work, page)?,
            Some(Body::StopBatch(stop)) => {
                let request =
                    stop.request.as_ref().ok_or_else(|| Rejection::InvalidArgument("Request is nil.".into()))?;
                work.run().present(&work.entity.id)?;
                close(
                    work,
                    Status::Terminated,
                    End { reason: request.reason.clone(), identity: request.identity.clone() },
                );
            }
            Some(Body::FireTimer(fired)) => progress::fire(work, fired)?,
            Some(Body::Notify(notify)) => progress::take_notice(work, notify)?,
            _ => return Err(Rejection::InvalidArgument("the command is not one to a batch".into())),
        }
        progress::go_on(work);
        Ok(Reply::Done)
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Started { head, plan } => {
                self.head = Arc::new((**head).clone());
                self.plan = Arc::new((**plan).clone());
                self.tally.changed.extend([SubKey::Head, PLAN]);
            }
            Event::PageWanted { at_ms } => self.head_mut().page_wanted_ms = *at_ms,
            Event::PageAdded { targets, next_page_token, total, failed } => {
                for target in targets {
                    let head = self.head_mut();
                    head.last_number += 1;
                    let number = head.last_number;
                    self.targets.insert(number, target.clone());
                    self.tally.changed.insert(SubKey::Numbered(TARGET, number));
                }
                let head = self.head_mut();
                head.total = if head.pages == 0 { *total } else { head.total };
                head.failed += failed;
                head.pages += 1;
                head.page_wanted_ms = 0;
                head.is_listed = next_page_token.is_empty();
                head.next_page_token.clone_from(next_page_token);
            }
            Event::IntervalBegun { from_ms } => {
                let head = self.head_mut();
                (head.interval_from_ms, head.sent_in_interval) = (*from_ms, 0);
            }
            Event::Sent => {
                let head = self.head_mut();
                head.sent_number += 1;
                head.sent_in_interval += 1;
            }
            Event::Applied { number, succeeded } => {
                self.targets.remove(number);
                self.tally.changed.insert(SubKey::Numbered(TARGET, *number));
                let head = self.head_mut();
                *(if *succeeded { &mut head.succeeded } else { &mut head.failed }) += 1;
            }
            Event::Waits { due_ms } => self.head_mut().due_ms = *due_ms,
            Event::Closed { status, close_ms, delete_ms, end } => {
                self.tally.changed.extend(self.targets.keys().map(|number| SubKey::Numbered(TARGET, *number)));
                self.targets.clear();
                self.end = Arc::new((**end).clone());
                self.tally.changed.insert(END);
                let head = self.head_mut();
                head.set_status(*status);
                (head.close_ms, head.delete_ms, head.due_ms) = (*close_ms, *delete_ms, 0);
            }
        }
    }

    fn end_too_large(work: &mut Work<Self>, reason: &'static str) {
        fail(work, reason.to_owned());
    }

    const ROW: &'static [SubKey] = &[SubKey::Head, PLAN];

    fn row(&self) -> Option<Row> {
        Some(self.to_row())
    }

    /// What it has sent counts where it is kept until it is acknowledged; this is what a node lists.
    fn at_work(&self, _now: i64) -> usize {
        usize::from(self.is_open() && self.head.page_wanted_ms > 0)
    }

    fn has_agenda(key: &SubKey) -> bool {
        *key == SubKey::Head
    }

    fn header(&self) -> Header<'_> {
        Header {
            run_id: &self.head.run_id,
            namespace: &self.head.namespace,
            is_open: self.is_open(),
            task_queue: "",
            delete_ms: self.head.delete_ms,
            deleted_to_event_id: self.head.deleted_to_event_id,
        }
    }

    fn mark_deleted(&mut self, deleted_to_event_id: i64, delete_ms: i64) {
        let head = self.head_mut();
        (head.deleted_to_event_id, head.delete_ms) = (deleted_to_event_id, delete_ms);
    }

    fn record(&self, key: &SubKey) -> Option<Record> {
        Some(match key {
            SubKey::Head => Record::Head(self.head.clone()),
            &PLAN => Record::Plan(self.plan.clone()),
            &END if *self.end != End::default() => Record::End(self.end.clone()),
            SubKey::Numbered(TARGET, number) => Record::Target(self.targets.get(number)?.clone()),
            _ => return None,
        })
    }

    fn restore(&mut self, key: SubKey, record: Record) {
        match (key, record) {
            (_, Record::Head(head)) => self.head = head,
            (_, Record::Plan(plan)) => self.plan = plan,
            (_, Record::End(end)) => self.end = end,
            (SubKey::Numbered(_, number), Record::Target(target)) => drop(self.targets.insert(number, target)),
            (key, record) => unreachable!("a record of another kind stands under {key:?}: {record:?}"),
        }
    }

    fn forget(&mut self, key: &SubKey) {
        match key {
            &PLAN => self.plan = Arc::default(),
            &END => self.end = Arc::default(),
            SubKey::Numbered(TARGET, number) => drop(self.targets.remove(number)),
            _ => {}
        }
    }

    fn keys(&self) -> OrdSet<SubKey> {
        let ones = [SubKey::Head, PLAN, END].into_iter().filter(|key| self.record(key).is_some());
        ones.chain(self.targets.keys().map(|number| SubKey::Numbered(TARGET, *number))).collect()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

impl Batch {
    pub fn is_open(&self) -> bool {
        !self.head.run_id.is_empty() && self.head.close_ms == 0
    }

    /// The run, if it is open.
    fn present(&self, job_id: &str) -> Result<&Self, Rejection> {
        if self.head.run_id.is_empty() {
            return Err(Rejection::workflow_not_found(job_id, ""));
        }
        if self.is_open() { Ok(self) } else { Err(Rejection::workflow_closed()) }
    }

    /// How many runs the operation was not sent to yet, of those that are listed.
    fn pending(&self) -> usize {
        usize::try_from(self.head.last_number - self.head.sent_number).unwrap_or_default()
    }

    /// How many runs it was sent to without their having notified the batch yet.
    fn in_flight(&self) -> usize {
        self.targets.len().saturating_sub(self.pending())
    }

    fn head_mut(&mut self) -> &mut Head {
        self.tally.changed.insert(SubKey::Head);
        Arc::make_mut(&mut self.head)
    }
}

/// Ends the run. What was sent is applied all the same.
fn close(work: &mut Work<Batch>, status: Status, end: End) {
    let (close_ms, delete_ms) = (work.now, work.delete_ms());
    work.emit(Event::Closed { status, close_ms, delete_ms, end: Box::new(end) });
}

fn fail(work: &mut Work<Batch>, reason: String) {
    close(work, Status::Failed, End { reason, identity: String::new() });
}

#[cfg(test)]
mod tests;
