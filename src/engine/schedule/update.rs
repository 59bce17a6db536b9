//! UpdateSchedule: puts another plan in the place of a schedule's. What it has counted and what waits stay.

use super::{Event, Schedule, due, patch};
use crate::engine::nothing;
use crate::engine::rejection::Rejection;
use crate::engine::work::{Reply, Work};
use crate::proto::schedule::{Attached, Plan, UpdateSchedule};

pub fn update(work: &mut Work<Schedule>, update: &UpdateSchedule) -> Result<Reply, Rejection> {
    let request = update.request.as_ref().ok_or_else(|| Rejection::InvalidArgument("Request is nil.".into()))?;
    work.run().present(&request.schedule_id)?;
    if patch::is_repeated(work, &request.request_id) {
        return Ok(Reply::Done);
    }
    if !is_current(&request.conflict_token, work.run().head.conflict_token) {
        return Err(Rejection::FailedPrecondition("mismatched conflict token".into()));
    }
    // What was due before the update is taken as it was planned.
    due::take_due(work);
    let schedule = request.schedule.clone().unwrap_or_default();
    work.emit(Event::Updated {
        at_ms: work.now,
        policies: Box::new(schedule.policies.unwrap_or_default()),
        state: Box::new(schedule.state.unwrap_or_default()),
        plan: Box::new(Plan { spec: schedule.spec, action: schedule.action }),
    });
    let before = &work.run().attached;
    let memo = request.memo.clone().or_else(|| before.memo.clone());
    let search_attributes = request.search_attributes.clone().or_else(|| before.search_attributes.clone());
    let attached = Attached {
        memo: nothing::without_in_memo(memo),
        search_attributes: nothing::without_in_attributes(search_attributes),
    };
    if attached != **before {
        work.emit(Event::Attached(Box::new(attached)));
    }
    Ok(Reply::Done)
}

/// Whether a client has seen the schedule as it is. One that names nothing does not mind.
fn is_current(token: &[u8], current: i64) -> bool {
    match token.try_into().map(i64::from_be_bytes) {
        Ok(0) => true,
        Ok(seen) => seen == current,
        Err(_) => token.is_empty(),
    }
}
