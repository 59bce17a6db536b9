//! The kinds of workflow tasks, and what a kind means. Whatever depends on a task's kind is defined here.
//!
//! | kind | its events join the history | when other events come before it is started |
//! |---|---|---|
//! | normal | as they happen | they stand behind its scheduling |
//! | transient | when it completes; until then they stand at the history's end | it becomes normal as it is started |
//! | speculative | when it ends, unless it completes without a trace; until then they stand at the history's end | it becomes normal before them |

use crate::proto::state::{WorkflowTask, WorkflowTaskKind as Kind};

/// The kind of a task that is scheduled for this attempt. An attempt after one that failed or timed out would only repeat in
/// the history what the first one has left there.
pub fn of_attempt(attempt: i32) -> Kind {
    if attempt == 1 { Kind::Normal } else { Kind::Transient }
}

/// The same of one that is scheduled for an update.
pub fn for_update_of_attempt(attempt: i32) -> Kind {
    if attempt == 1 { Kind::Speculative } else { Kind::Transient }
}

/// Whether a task's events join the history as they happen. Those of other tasks join it when the task completes; if it does
/// not, they never do.
pub fn is_in_history_from_the_start(kind: Kind) -> bool {
    match kind {
        Kind::Normal => true,
        Kind::Transient | Kind::Speculative => false,
    }
}

/// Whether a task becomes a normal one before any other event joins the history, or waits for the task to end.
pub fn gives_way(kind: Kind) -> bool {
    match kind {
        Kind::Normal | Kind::Transient => false,
        Kind::Speculative => true,
    }
}

/// Whether a pending task's events stand at the end of a history whose next event is `next_event_id`, though they are not in
/// it: its worker, and other readers of the history, are handed them with it.
pub fn stands_at_the_end(task: &WorkflowTask, next_event_id: i64) -> bool {
    !is_in_history_from_the_start(task.kind()) && task.scheduled_event_id == next_event_id
}

/// Whether a task becomes a normal one as it is started. The ids of its events belong to others that have come since it was
/// scheduled, and its worker sees something new: that it fails again is worth an event of its own.
pub fn becomes_normal(task: &WorkflowTask, next_event_id: i64) -> bool {
    match task.kind() {
        Kind::Normal | Kind::Speculative => false,
        Kind::Transient => !stands_at_the_end(task, next_event_id),
    }
}
