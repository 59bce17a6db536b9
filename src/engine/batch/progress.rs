//! How a batch goes on: it wants pages, sends its operation to their runs no faster than it may, and counts what has become of it.

use prost::Message;

use super::{Batch, Event, close, operation};
use crate::engine::EntityId;
use crate::engine::rejection::Rejection;
use crate::engine::work::Work;
use crate::proto::batch::{End, TargetToken};
use crate::proto::commands::{FireTimer, Notify, notify::Outcome};
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;
use crate::proto::temporal::workflowservice::v1::start_batch_operation_request::Operation;

/// The next page is wanted once no more runs than this are left of those before.
const PENDING_MIN: usize = super::page::TARGETS_MAX / 2;
/// A page that has not come is wanted again after this long: the node that was to list it may be gone. Milliseconds.
const PAGE_AGAIN_MS: i64 = 3000;
/// The operation is under way to so many runs at a time, at most,
const IN_FLIGHT_MAX: usize = 1000;
/// and, if it is large, to no more than so many bytes of it go.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// The batch waits for a time, which has come.
pub fn fire(work: &mut Work<Batch>, fired: &FireTimer) -> Result<(), Rejection> {
    let due_ms = work.run().present(&work.entity.id)?.head.due_ms;
    work.expect_due(fired, due_ms)
}

/// A run was, or could not be, what the operation makes it. One that is not there any more needs nothing.
pub fn take_notice(work: &mut Work<Batch>, notify: &Notify) -> Result<(), Rejection> {
    let run = work.run().present(&work.entity.id)?;
    let token = TargetToken::decode(notify.token.clone()).unwrap_or_default();
    let number = token.number;
    let is_known = token.run_id == run.head.run_id && run.targets.contains_key(&number);
    if !is_known || number > run.head.sent_number {
        return Err(Rejection::NotFound("the batch waits for no such run".into()));
    }
    let succeeded = match &notify.outcome {
        Some(Outcome::Refused(refused)) => refused.code == "NOT_FOUND",
        _ => true,
    };
    work.emit(Event::Applied { number, succeeded });
    Ok(())
}

/// Does all that can be done now, and waits for the next moment at which there is something to do.
pub fn go_on(work: &mut Work<Batch>) {
    if !work.run().is_open() {
        return;
    }
    let now = work.now;
    let interval_ms = work.run().interval_ms();
    let ended_ms = work.run().head.interval_from_ms.saturating_add(interval_ms);
    if work.run().pending() > 0 && now >= ended_ms {
        // One interval follows the other, so that a timer that comes a little late does not make all of them later.
        let from_ms = if now < ended_ms.saturating_add(interval_ms) { ended_ms } else { now };
        work.emit(Event::IntervalBegun { from_ms });
    }
    let in_flight_max = work.run().in_flight_max();
    while work.run().may_send(in_flight_max) {
        send_next(work);
    }
    let run = work.run();
    if run.head.is_listed && run.targets.is_empty() {
        close(work, Status::Completed, End::default());
        return;
    }
    if run.wants_page() && run.head.page_wanted_ms.saturating_add(PAGE_AGAIN_MS) <= now {
        work.emit(Event::PageWanted { at_ms: now });
    }
    let run = work.run();
    let page_ms = run.wants_page().then(|| run.head.page_wanted_ms.saturating_add(PAGE_AGAIN_MS));
    let is_paced = run.pending() > 0 && run.in_flight() < in_flight_max;
    let send_ms = is_paced.then(|| run.head.interval_from_ms.saturating_add(interval_ms));
    let due_ms = page_ms.into_iter().chain(send_ms).min().unwrap_or(0);
    if due_ms != run.head.due_ms {
        work.emit(Event::Waits { due_ms });
    }
}

impl Batch {
    fn interval_ms(&self) -> i64 {
        self.plan.interval_ms.max(1)
    }

    /// The operation may be under way to so many runs.
    fn in_flight_max(&self) -> usize {
        let operation = self.plan.request.as_ref().and_then(|request| request.operation.as_ref());
        let bytes = operation.map_or(0, Operation::encoded_len);
        (IN_FLIGHT_BYTES_MAX / bytes.max(1)).clamp(1, IN_FLIGHT_MAX)
    }

    fn may_send(&self, in_flight_max: usize) -> bool {
        let per_interval = self.plan.operations_per_interval.max(1);
        self.pending() > 0 && self.head.sent_in_interval < per_interval && self.in_flight() < in_flight_max
    }

    fn wants_page(&self) -> bool {
        !self.head.is_listed && self.pending() <= PENDING_MIN
    }
}

/// Sends the operation to the next run.
fn send_next(work: &mut Work<Batch>) {
    work.emit(Event::Sent);
    let number = work.run().head.sent_number;
    let Some(target) = work.run().targets.get(&number).cloned() else { return };
    let token = TargetToken { run_id: work.run().head.run_id.clone(), number };
    let callback = work.callback_to_this(token.encode_to_vec());
    let namespace = work.namespace.clone();
    let to = EntityId::workflow(&work.entity.namespace_id, &target.workflow_id);
    let requests = operation::requests(work, &target);
    for before in requests.before {
        work.send(to.clone(), &namespace, before);
    }
    work.send_for(callback, to, &namespace, requests.last);
}
