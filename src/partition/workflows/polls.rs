//! Tasks and queries on their way to pollers.

use super::tasks::{PolledTask, query_task, started_task};
use crate::engine::{EntityId, Reply};
use crate::matching::Query;
use crate::partition::{Core, Failure, Handle};
use crate::proto::commands::{Command, command::Body};

/// Takes a task for a poller: `None`, if it is no longer available; an error, if its outcome is not known. Returns the task of a
/// poller that has gone: the next one gets it.
pub trait TakeTask: FnOnce(Result<Option<PolledTask>, String>) -> Option<PolledTask> + Send + 'static {}

impl<T: FnOnce(Result<Option<PolledTask>, String>) -> Option<PolledTask> + Send + 'static> TakeTask for T {}

impl Handle {
    /// Has the command decided that starts a task of an entity's, for a poller. `sticky`: it has the history up to its last task.
    pub fn start_task(&self, entity: EntityId, start: Command, sticky: bool, take: impl TakeTask) {
        let namespace = start.namespace.clone();
        let decided = move |core: &mut Core, outcome: Result<Reply, Failure>| {
            let task = match outcome {
                Ok(reply) => Ok(started_task(core, &entity, sticky, reply)),
                Err(Failure::Rejected(_)) => Ok(None),
                Err(Failure::Unavailable(reason) | Failure::Overloaded(reason)) => Err(reason),
            };
            if let Some(task) = take(task) {
                core.enqueue(&namespace, &entity, Body::ReturnTask(task.give_back()), None);
            }
        };
        self.command(start, Box::new(decided));
    }

    /// Makes a task of a query, for a poller, unless its caller has gone. `sticky`: it has the history.
    pub fn take_query(&self, query: Query, sticky: bool, take: impl TakeTask) {
        let visit = move |core: &mut Core| {
            let Query { origin, id, query } = query;
            let (entity, run_id) = (&origin.entity, &origin.run_id);
            let task = match core.is_awaited(entity, run_id, id) {
                true => query_task(core, entity, run_id, id, query, sticky).ok().flatten(),
                false => None,
            };
            if take(Ok(task.map(PolledTask::from))).is_some() {
                core.dispatch_again(entity, run_id, id);
            }
        };
        self.visit(Box::new(visit));
    }
}
