//! No attempt of a task is handed out twice, and what workers see of a history is what the log has.

use std::collections::BTreeSet;

use millrace::engine::TaskQueueType;
use millrace::proto::commands::TaskToken;
use prost::Message as _;

use super::{Findings, Runs};
use crate::calls::Task;
use crate::world::World;

const ONCE: &str = "no attempt of a task is handed out twice";
const SAME: &str = "what a worker is handed is in the log";

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    let mut handed = BTreeSet::new();
    for (worker, task) in &world.journal.handed {
        let (token, events, queue_type) = match task {
            Task::Workflow(task) => {
                let events = task.history.clone().unwrap_or_default().events;
                (&task.task_token, events, TaskQueueType::Workflow)
            }
            Task::Activity(task) => (&task.task_token, Vec::new(), TaskQueueType::Activity),
        };
        let Ok(token) = TaskToken::decode(&token[..]) else {
            findings.add(SAME, "a token can't be read");
            continue;
        };
        let query = token.activity_id == "query";
        let name = (token.run_id.clone(), queue_type, token.scheduled_event_id, token.attempt, token.last_update);
        findings.expect(ONCE, query || handed.insert(name), || {
            format!("{}, event {}, attempt {}", token.id, token.scheduled_event_id, token.attempt)
        });
        let Some(run) = runs.get(&token.id, &token.run_id) else {
            findings.add(SAME, format!("worker {worker}: {}/{} is not there", token.id, token.run_id));
            continue;
        };
        // The events of a task that is tried again, or that may have been made for an update, join the history when it is completed.
        let may_be_transient = !query && (token.attempt > 1 || token.last_update > 0);
        let transient = if may_be_transient { token.scheduled_event_id } else { i64::MAX };
        let differs =
            events.iter().find(|event| event.event_id < transient && run.event(event.event_id) != Some(event));
        findings.expect(SAME, differs.is_none(), || {
            let id = differs.map_or(0, |event| event.event_id);
            format!("{}/{}: event {id} is another one in the log", token.id, token.run_id)
        });
    }
}
