//! `UnpauseWorkflow`: a run that an operator has paused goes on.

use super::event::Event;
use super::history::event;
use super::{Reply, Work, pause_info};
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::proto::commands::UnpauseWorkflow;
use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{WorkflowExecutionUnpausedEventAttributes, history_event::Attributes};

pub fn decide(work: &mut Work, command: &UnpauseWorkflow) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let run = work.open_run(&request.run_id)?;
    if run.head.pause.is_none() {
        return Err(Rejection::FailedPrecondition("workflow is not paused.".into()));
    }
    let attributes = WorkflowExecutionUnpausedEventAttributes {
        identity: request.identity,
        reason: request.reason,
        request_id: request.request_id,
    };
    let mut unpaused =
        event(EventType::WorkflowExecutionUnpaused, Attributes::WorkflowExecutionUnpausedEventAttributes(attributes));
    unpaused.worker_may_ignore = true;
    work.record_external(unpaused);
    work.emit(Event::RunPaused(None));
    let held = work.run().activities.values().filter(|activity| activity.held);
    let held: Vec<i64> = held.map(|activity| activity.scheduled_event_id).collect();
    for scheduled_event_id in held {
        work.attempt(scheduled_event_id, attempts::Event::Released);
    }
    pause_info::refresh(work);
    // Temporal: even one that waits for a delayed start, or for cron.
    work.schedule_workflow_task_at_once();
    Ok(Reply::Done)
}
