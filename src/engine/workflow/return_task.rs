//! `ReturnTask`: a task was started for a poller that was gone before the task reached it, so it is offered again without
//! waiting for its timeout.

use super::deadlines::TimeoutType;
use super::workflow_task;
use super::{Reply, Work};
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::engine::task_queue_type::TaskQueueType;
use crate::engine::version::UPDATES;
use crate::proto::commands::ReturnTask;

pub fn decide(work: &mut Work, command: &ReturnTask) -> Result<Reply, Rejection> {
    let number = command.task_queue_type;
    let unknown = || Rejection::Poison(format!("task queues of type {number} are not known"));
    let queue_type = TaskQueueType::of(number).ok_or_else(unknown)?;
    let token = command.token.clone().unwrap_or_default();
    let version = work.version;
    let run = work.open_run(&token.run_id)?;
    match queue_type {
        TaskQueueType::Workflow => {
            run.started_task()
                .filter(|task| match version < UPDATES {
                    true => task.started_event_id == token.started_event_id && task.attempt == token.attempt,
                    false => workflow_task::is_named_by(task, &token),
                })
                .ok_or_else(|| Rejection::NotFound("the task is not started".into()))?;
            workflow_task::time_out(work, TimeoutType::StartToClose);
        }
        TaskQueueType::Activity => {
            let activity = run.activities.get(&token.scheduled_event_id);
            let returned = attempts::give_back(activity.map(|activity| &**activity), &token)?;
            work.attempt(token.scheduled_event_id, returned);
        }
    }
    Ok(Reply::Done)
}
