//! `ResetStickyTaskQueue`: the worker that cached a run is gone. A task that waits for it is scheduled on the normal queue at
//! once, with the events that it would have when its time there is up.

use super::deadlines::TimeoutType;
use super::workflow_task;
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::ResetStickyTaskQueue;

pub fn decide(work: &mut Work, command: &ResetStickyTaskQueue) -> Result<Reply, Rejection> {
    let run = work.open_run(&command.run_id)?;
    if run.head.workflow_task.as_ref().is_some_and(|task| task.sticky && !workflow_task::is_started(task)) {
        workflow_task::time_out(work, TimeoutType::ScheduleToStart);
    } else {
        workflow_task::forget_worker(work);
    }
    Ok(Reply::Done)
}
