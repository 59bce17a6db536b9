//! What is due: by the spec, by backfills, and what the schedule does next.

use super::spec::Due;
use super::{Event, Schedule, buffer, close};
use crate::engine::payload::rfc3339;
use crate::engine::rejection::Rejection;
use crate::engine::work::{Reply, Work};
use crate::proto::commands::FireTimer;
use crate::proto::schedule::{Start, StartState};
use crate::proto::temporal::schedule::v1::schedule_action::Action;

/// So many starts may wait: what is due beyond is dropped, and counted.
pub const BUFFER_MAX: usize = 1000;
/// Backfills leave room for what is due by the spec.
const BACKFILL_BUFFER_MAX: usize = 500;
/// So many moments are gone through in one decision, and the rest in further ones.
const AT_ONCE: usize = 1000;
const BACKFILL_AT_ONCE: usize = 100;
/// What was to come before an update, and was put off by less than this until after it, is still taken. Milliseconds.
const JITTER_BACK_MS_MAX: i64 = 3_600_000;
/// A schedule that has nothing more to do ends after this long. Milliseconds.
const IDLE_MS: i64 = 7 * 24 * 3_600_000;

/// The schedule waits for a time, which has come.
pub fn fire(work: &mut Work<Schedule>, fired: &FireTimer) -> Result<Reply, Rejection> {
    let due_ms = work.run().present(&work.entity.id)?.head.due_ms;
    work.expect_due(fired, due_ms).map(|()| Reply::Done)
}

/// Does all that can be done now, and waits for the next moment at which there is something to do.
pub fn go_on(work: &mut Work<Schedule>) {
    if !work.run().is_open() {
        return;
    }
    let all_taken = take_due(work);
    let all_filled = backfill(work);
    buffer::go_through(work);
    let run = work.run();
    let goes_on = !all_taken || (!all_filled && run.has_room_for_backfills());
    let due_ms = if goes_on {
        run.due_again_ms(work.now)
    } else if let Some(due) = run.next_due() {
        due.actual_ms
    } else if run.state().paused || !run.starts.is_empty() || !run.backfills.is_empty() {
        0
    } else {
        run.head.last_event_ms.saturating_add(IDLE_MS)
    };
    if !goes_on && due_ms > 0 && due_ms <= work.now && work.run().is_idle() {
        close(work);
    } else if due_ms != work.run().head.due_ms {
        work.emit(Event::Waits { due_ms });
    }
}

impl Schedule {
    /// When it is due for what is left to do: at once, but not when it was due before, as the partition arms a record only if that
    /// time changes.
    pub(super) fn due_again_ms(&self, now: i64) -> i64 {
        now.max(self.head.due_ms) + 1
    }

    /// From when on it is gone through: what a change of the plan found due before it is not due by the new one.
    fn taken_ms(&self, jitter_max_ms: i64) -> i64 {
        let back_ms = jitter_max_ms.min(JITTER_BACK_MS_MAX);
        self.head.processed_ms.max(self.head.update_ms.saturating_sub(back_ms))
    }

    /// The next action by the spec, if one may be taken.
    fn next_due(&self) -> Option<Due> {
        if !self.takes_actions() {
            return None;
        }
        let spec = self.spec();
        spec.after(self.taken_ms(spec.jitter_max_ms())).find(|due| due.actual_ms >= self.head.update_ms)
    }

    fn has_room_for_backfills(&self) -> bool {
        self.starts_in(StartState::Pending).count() < BACKFILL_BUFFER_MAX
    }

    fn is_idle(&self) -> bool {
        !self.state().paused && self.starts.is_empty() && self.backfills.is_empty() && self.next_due().is_none()
    }
}

/// Buffers what has become due by the spec. Returns whether that was all.
pub fn take_due(work: &mut Work<Schedule>) -> bool {
    if !work.run().takes_actions() {
        return true;
    }
    let (now, run) = (work.now, work.run());
    let (spec, window_ms, update_ms) = (run.spec(), run.catchup_window_ms(), run.head.update_ms);
    let mut waiting = run.starts_in(StartState::Pending).count();
    let (mut missed, mut dropped, mut to_ms) = (0, 0, 0);
    let mut due = spec.after(run.taken_ms(spec.jitter_max_ms())).take_while(|due| due.actual_ms <= now).peekable();
    for due in due.by_ref().take(AT_ONCE) {
        to_ms = due.actual_ms;
        if due.actual_ms < update_ms {
            continue;
        }
        if now - due.actual_ms > window_ms {
            missed += 1;
        } else if waiting == BUFFER_MAX {
            dropped += 1;
        } else {
            waiting += 1;
            buffer(work, due, None);
        }
    }
    if to_ms > 0 {
        work.emit(Event::Processed { to_ms, missed, dropped });
    }
    due.peek().is_none()
}

/// Buffers what the backfills find due, one after the other, while there is room. Returns whether that was all.
fn backfill(work: &mut Work<Schedule>) -> bool {
    if work.run().backfills.is_empty() {
        return true;
    }
    let spec = work.run().spec();
    let mut left = BACKFILL_AT_ONCE;
    let backfills: Vec<_> = work.run().backfills.iter().map(|(number, backfill)| (*number, *backfill)).collect();
    for (number, backfill) in backfills {
        let room = BACKFILL_BUFFER_MAX.saturating_sub(work.run().starts_in(StartState::Pending).count());
        let mut due = spec.after(backfill.processed_ms).take_while(|due| due.actual_ms <= backfill.end_ms).peekable();
        let mut to_ms = None;
        for due in due.by_ref().take(left.min(room)) {
            left -= 1;
            to_ms = Some(due.actual_ms);
            buffer(work, due, Some(backfill.overlap_policy));
        }
        if due.peek().is_none() {
            work.emit(Event::BackfillEnded { number });
        } else {
            if let Some(to_ms) = to_ms {
                work.emit(Event::BackfillProcessed { number, to_ms });
            }
            return false;
        }
    }
    true
}

/// Buffers one start: by the spec, or, with an overlap policy of its own, by a request.
pub fn buffer(work: &mut Work<Schedule>, due: Due, manual: Option<i32>) {
    let action = work.run().plan.action.as_ref().and_then(|action| action.action.as_ref());
    let base = action.map_or("", |Action::StartWorkflow(start)| &start.workflow_id);
    let start = Start {
        nominal_ms: due.nominal_ms,
        actual_ms: due.actual_ms,
        overlap_policy: manual.unwrap_or_default(),
        manual: manual.is_some(),
        workflow_id: format!("{base}-{}", rfc3339(due.nominal_ms.div_euclid(1000))),
        request_id: work.ids.uuid(),
        ..Start::default()
    };
    work.emit(Event::StartBuffered(Box::new(start)));
}
