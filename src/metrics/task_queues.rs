//! Task queues: how much waits in each, and its pollers.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::family::{CHILDREN_MAX, Family, Gauges, families};

families! {
    BACKLOG: Gauges<3> = Family::new(
        "millrace_task_queue_backlog_tasks", "Tasks that wait for a worker.", ["namespace", "queue", "kind"]);
    OLDEST_AGE: Gauges<3> = Family::new(
        "millrace_task_queue_oldest_task_age_seconds", "How long the oldest task that waits has waited.", ["namespace", "queue", "kind"]);
    POLLERS: Gauges<3> = Family::new(
        "millrace_task_queue_pollers", "Workers that polled lately.", ["namespace", "queue", "kind"]);
    WAITING_POLLS: Gauges<3> = Family::new(
        "millrace_task_queue_waiting_polls", "Polls that wait for a task now: none while all workers are busy.",
        ["namespace", "queue", "kind"]);
}

/// What a queue's tasks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueKind {
    Workflow,
    Activity,
    /// Workflow tasks for one worker process. A namespace's sticky queues are shown as one, named [`STICKY`].
    Sticky,
}

impl QueueKind {
    fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Activity => "activity",
            Self::Sticky => "sticky",
        }
    }
}

/// Every worker process has a sticky queue of its own, under a name that never comes again.
const STICKY: &str = "(sticky)";

/// One queue as it is now.
#[derive(Clone, Copy, Debug)]
pub struct TaskQueue<'a> {
    pub namespace: &'a str,
    pub queue: &'a str,
    pub kind: QueueKind,
    pub backlog: usize,
    /// How long the oldest task has waited; zero if none waits.
    pub oldest_age: Duration,
    /// Workers, by identity, that polled in the last 5 minutes or wait now. A busy worker doesn't poll, but is there.
    pub pollers: usize,
    /// Polls that wait now.
    pub waiting_polls: usize,
}

/// All queues as they are now. Those not named any more vanish. Of more than [`CHILDREN_MAX`], those with the largest backlogs are shown.
pub fn task_queues<'a>(queues: impl IntoIterator<Item = TaskQueue<'a>>) {
    let mut merged: BTreeMap<(&str, &str, QueueKind), TaskQueue<'_>> = BTreeMap::new();
    for mut queue in queues {
        if queue.kind == QueueKind::Sticky {
            queue.queue = STICKY;
        }
        merged
            .entry((queue.namespace, queue.queue, queue.kind))
            .and_modify(|sum| {
                sum.backlog += queue.backlog;
                sum.oldest_age = sum.oldest_age.max(queue.oldest_age);
                sum.pollers += queue.pollers;
                sum.waiting_polls += queue.waiting_polls;
            })
            .or_insert(queue);
    }
    let mut queues: Vec<_> = merged.into_values().map(|queue| (queue, queue.kind.name())).collect();
    queues.sort_by_key(|(queue, _)| Reverse(queue.backlog));
    queues.truncate(CHILDREN_MAX);
    let show = |gauges: &Gauges<3>, value: fn(&TaskQueue<'_>) -> f64| {
        gauges.replace(
            queues.iter().map(|(queue, kind)| ([&queue.namespace as &dyn Display, &queue.queue, kind], value(queue))),
        );
    };
    show(&BACKLOG, |queue| queue.backlog as f64);
    show(&OLDEST_AGE, |queue| queue.oldest_age.as_secs_f64());
    show(&POLLERS, |queue| queue.pollers as f64);
    show(&WAITING_POLLS, |queue| queue.waiting_polls as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_replaced_as_a_whole_and_sticky_ones_are_one() {
        let queue = |queue, kind, backlog| TaskQueue {
            namespace: "n",
            queue,
            kind,
            backlog,
            oldest_age: Duration::from_secs(2),
            pollers: 1,
            waiting_polls: 0,
        };
        task_queues([queue("gone", QueueKind::Activity, 1)]);
        task_queues([
            queue("w1", QueueKind::Sticky, 1),
            queue("w2", QueueKind::Sticky, 2),
            queue("orders", QueueKind::Workflow, 7),
        ]);
        let text = crate::metrics::render();
        assert!(
            text.contains(r#"millrace_task_queue_backlog_tasks{namespace="n",queue="orders",kind="workflow"} 7"#),
            "{text}"
        );
        assert!(
            text.contains(r#"millrace_task_queue_backlog_tasks{namespace="n",queue="(sticky)",kind="sticky"} 3"#),
            "{text}"
        );
        assert!(
            text.contains(
                r#"millrace_task_queue_oldest_task_age_seconds{namespace="n",queue="(sticky)",kind="sticky"} 2"#
            ),
            "{text}"
        );
        assert!(!text.contains(r#"queue="gone""#), "{text}");
    }
}
