//! What the schedule is notified of: a workflow that it started runs, can't, or has ended.

use prost::Message;

use super::{Event, Overlap, Schedule, TRACKED_MAX, patch};
use crate::engine::rejection::Rejection;
use crate::engine::work::{Reply, Work};
use crate::proto::commands::{Closed, Notify, notify::Outcome};
use crate::proto::schedule::{LastCompletion, Start, StartState, StartToken};
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;
use crate::proto::temporal::history::v1::history_event::Attributes as A;

pub fn take(work: &mut Work<Schedule>, notify: &Notify) -> Result<Reply, Rejection> {
    let run = work.run().present(&work.entity.id)?;
    let token = StartToken::decode(notify.token.clone()).unwrap_or_default();
    let number = token.number;
    let start = run.starts.get(&number).filter(|_| token.run_id == run.head.run_id);
    let start = start.cloned().ok_or_else(|| Rejection::NotFound("the schedule waits for no such workflow".into()))?;
    match &notify.outcome {
        Some(Outcome::Started(_)) if start.state() == StartState::Requested => {
            let run_id = notify.execution.as_ref().map(|execution| execution.run_id.clone()).unwrap_or_default();
            let at_ms = work.now;
            work.emit(Event::Started { number, at_ms, run_id });
            let run = work.run();
            let may_overlap = run.overlap_policy(start.overlap_policy) == Overlap::AllowAll;
            if may_overlap && run.starts_in(StartState::Running).count() > TRACKED_MAX {
                work.emit(Event::Untracked { number });
            }
        }
        Some(Outcome::Refused(_)) if start.state() == StartState::Requested => {
            work.emit(Event::StartRefused { number });
        }
        Some(Outcome::Closed(closed)) => ended(work, number, &start, closed),
        _ => return Err(Rejection::Duplicate),
    }
    Ok(Reply::Done)
}

fn ended(work: &mut Work<Schedule>, number: i64, start: &Start, closed: &Closed) {
    let last = &work.run().last_completion;
    let mut failure_text = None;
    let (status, last_completion) = match closed.close.as_ref().and_then(|close| close.attributes.clone()) {
        Some(A::WorkflowExecutionCompletedEventAttributes(a)) => {
            let last = a.result.map(|result| LastCompletion { result: Some(result), failure: None });
            (Status::Completed, last)
        }
        Some(A::WorkflowExecutionFailedEventAttributes(a)) => {
            let message = a.failure.as_ref().map_or("", |failure| &failure.message);
            failure_text = Some(format!("paused due to workflow failure: {}: {message}", start.workflow_id));
            (Status::Failed, Some(LastCompletion { result: last.result.clone(), failure: a.failure }))
        }
        Some(A::WorkflowExecutionTimedOutEventAttributes(_)) => {
            failure_text = Some(format!("paused due to workflow timeout: {}", start.workflow_id));
            (Status::TimedOut, None)
        }
        Some(A::WorkflowExecutionCanceledEventAttributes(_)) => (Status::Canceled, None),
        _ => (Status::Terminated, None),
    };
    work.emit(Event::Ended { number, status, last_completion: last_completion.map(Box::new) });
    let pauses = work.run().head.policies.as_ref().is_some_and(|policies| policies.pause_on_failure);
    if let Some(notes) = failure_text.filter(|_| pauses && !work.run().state().paused) {
        patch::pause(work, true, notes);
    }
}
