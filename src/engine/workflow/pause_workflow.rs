//! `PauseWorkflow`: an operator holds a run back. No workflow task begins, nor do activities that wait for a worker when it is paused, or
//! are scheduled since; what is under way may end, or be tried again if it is an activity, and what comes from outside is in the history
//! once it does.

use super::event::Event;
use super::history::event;
use super::{Reply, Work, pause_info, workflow_task};
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::proto::commands::PauseWorkflow;
use crate::proto::state::Pause;
use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{WorkflowExecutionPausedEventAttributes, history_event::Attributes};

pub fn decide(work: &mut Work, command: &PauseWorkflow) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let run = work.open_run(&request.run_id)?;
    if let Some(present) = &run.head.pause {
        let is_repeated = !request.request_id.is_empty() && request.request_id == present.request_id;
        let again = || Rejection::FailedPrecondition("workflow is already paused.".into());
        return if is_repeated { Ok(Reply::Done) } else { Err(again()) };
    }
    workflow_task::fail_by_pause(work);
    let attributes = WorkflowExecutionPausedEventAttributes {
        identity: request.identity.clone(),
        reason: request.reason.clone(),
        request_id: request.request_id.clone(),
    };
    let mut paused =
        event(EventType::WorkflowExecutionPaused, Attributes::WorkflowExecutionPausedEventAttributes(attributes));
    paused.worker_may_ignore = true;
    work.record_external(paused);
    let pause =
        Pause { time_ms: work.now, identity: request.identity, reason: request.reason, request_id: request.request_id };
    work.emit(Event::RunPaused(Some(Box::new(pause))));
    let waiting = work.run().activities.values().filter(|activity| activity.started_ms == 0);
    let waiting: Vec<i64> = waiting.map(|activity| activity.scheduled_event_id).collect();
    for scheduled_event_id in waiting {
        work.attempt(scheduled_event_id, attempts::Event::Held);
    }
    pause_info::refresh(work);
    Ok(Reply::Done)
}
