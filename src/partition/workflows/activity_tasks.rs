//! Tasks of activities whose workers read them from the topic `activity-tasks`, and do not poll: the partition starts them.

use super::public::of_workflow;
use crate::engine::{EntityId, Task};
use crate::log::Topic;
use crate::matching::TaskOrigin;
use crate::partition::Core;
use crate::proto::commands::{StartActivityTask, command::Body};
use crate::store;
use crate::wire::outputs;

/// The identity that starts the activities whose tasks are published, in histories.
const IDENTITY: &str = "millrace-activity-tasks";

impl Core {
    /// Whether the workers of a task queue read `activity-tasks`.
    pub(in crate::partition) fn is_published(&self, namespace: &str, queue: &str) -> bool {
        let queues = &self.node.settings.published_queues;
        !queues.is_empty() && queues.contains(&(namespace.to_owned(), queue.to_owned()))
    }

    /// Starts an attempt on behalf of the worker that will read its task.
    pub(in crate::partition) fn start_published(&mut self, origin: &TaskOrigin, namespace: &str, task: &Task) {
        let start = StartActivityTask {
            run_id: origin.run_id.to_string(),
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
            identity: IDENTITY.into(),
            request_id: self.node.new_id(),
            publish: true,
        };
        self.enqueue(namespace, &origin.entity, Body::StartActivityTask(start), None);
    }

    /// The task of an attempt that has just been started.
    pub(in crate::partition) fn publish_task(
        &mut self,
        key: &EntityId,
        start: &StartActivityTask,
    ) -> Result<(), store::Error> {
        let Some(run) = self.run(key, &start.run_id)? else { return Ok(()) };
        let queue = run.activities.get(&start.scheduled_event_id).map(|activity| activity.task_queue.clone());
        if let Some(task) = super::tasks::activity_task(self, key, &run, start.scheduled_event_id)? {
            let task = outputs::activity_task(task, queue.unwrap_or_default());
            let record = of_workflow(&self.node.settings.framing, key, &task);
            self.commits.pending.public.push((Topic::ActivityTasks, record));
        }
        Ok(())
    }
}
