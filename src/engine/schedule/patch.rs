//! PatchSchedule: triggers an action, goes through a range of time again, pauses a schedule or lets it go on.

use super::due::BUFFER_MAX;
use super::{Event, Schedule};
use crate::engine::rejection::Rejection;
use crate::engine::work::{Reply, Work};
use crate::proto::schedule::{Backfill, PatchSchedule, StartState};
use crate::proto::temporal::schedule::v1::SchedulePatch;
use crate::types::time::millis_of;

/// So many ranges of time may be gone through at a time.
const BACKFILLS_MAX: usize = 100;

pub fn patch(work: &mut Work<Schedule>, patch: &PatchSchedule) -> Result<Reply, Rejection> {
    let request = patch.request.as_ref().ok_or_else(|| Rejection::InvalidArgument("Request is nil.".into()))?;
    work.run().present(&request.schedule_id)?;
    if !is_repeated(work, &request.request_id) {
        apply(work, request.patch.as_ref().unwrap_or(&SchedulePatch::default()))?;
    }
    Ok(Reply::Done)
}

/// Whether a request was carried out already; else it is known from now on. One without an id is always another.
pub fn is_repeated(work: &mut Work<Schedule>, request_id: &str) -> bool {
    if request_id.is_empty() {
        return false;
    }
    let is_repeated = work.run().requests.ids.iter().any(|id| id == request_id);
    if !is_repeated {
        work.emit(Event::Requested { request_id: request_id.into() });
    }
    is_repeated
}

pub fn apply(work: &mut Work<Schedule>, patch: &SchedulePatch) -> Result<(), Rejection> {
    if work.run().backfills.len() + patch.backfill_request.len() > BACKFILLS_MAX {
        return Err(Rejection::FailedPrecondition("too many concurrent backfillers".into()));
    }
    if let Some(trigger) = &patch.trigger_immediately {
        let at_ms = trigger.scheduled_time.as_ref().map_or(work.now, millis_of);
        if work.run().starts_in(StartState::Pending).count() < BUFFER_MAX {
            let due = super::spec::Due { nominal_ms: at_ms, actual_ms: at_ms };
            super::due::buffer(work, due, Some(trigger.overlap_policy));
        } else {
            let to_ms = work.run().head.processed_ms;
            work.emit(Event::Processed { to_ms, missed: 0, dropped: 1 });
        }
    }
    for request in &patch.backfill_request {
        let of = |time: &Option<prost_types::Timestamp>| time.as_ref().map_or(0, millis_of);
        work.emit(Event::BackfillBegun(Box::new(Backfill {
            // Both ends are a part of the range.
            processed_ms: of(&request.start_time).saturating_sub(1),
            end_ms: of(&request.end_time),
            overlap_policy: request.overlap_policy,
        })));
    }
    for (is_paused, notes) in [(true, &patch.pause), (false, &patch.unpause)] {
        if !notes.is_empty() {
            pause(work, is_paused, notes.clone());
        }
    }
    Ok(())
}

/// Pauses the schedule, or lets it go on: what was due meanwhile is left out.
pub fn pause(work: &mut Work<Schedule>, is_paused: bool, notes: String) {
    let was_paused = work.run().state().paused;
    if !was_paused {
        super::due::take_due(work);
    }
    work.emit(Event::Paused { is_paused, notes });
    if was_paused && !is_paused {
        let to_ms = work.now;
        work.emit(Event::Processed { to_ms, missed: 0, dropped: 0 });
    }
}
