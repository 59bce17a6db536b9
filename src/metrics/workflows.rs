//! Workflows, workflow tasks and activities.

use std::time::Duration;

use super::family::{Counters, Family, Histograms, families};
use super::{DURATION_S, LATENCY_S};

families! {
    WORKFLOWS_STARTED: Counters<1> = Family::new(
        "millrace_workflows_started_total", "Workflow runs started, continued ones too.", ["namespace"]);
    WORKFLOW_DURATION: Histograms<2> = Family::with_buckets(
        "millrace_workflow_duration_seconds", "How long closed runs had run, by how they ended.", ["namespace", "status"], DURATION_S);
    WORKFLOW_TASK_SCHEDULE_TO_START: Histograms<2> = Family::with_buckets(
        "millrace_workflow_task_schedule_to_start_seconds", "How long workflow tasks waited for a worker.",
        ["namespace", "queue"], LATENCY_S);
    WORKFLOW_TASK_START_TO_COMPLETE: Histograms<1> = Family::with_buckets(
        "millrace_workflow_task_start_to_complete_seconds", "How long workers took for workflow tasks that they completed.",
        ["namespace"], LATENCY_S);
    WORKFLOW_TASKS_FAILED: Counters<2> = Family::new(
        "millrace_workflow_tasks_failed_total", "Workflow tasks that failed or timed out, by reason.", ["namespace", "reason"]);
    UPDATES: Counters<2> = Family::new(
        "millrace_updates_total", "Updates of workflows, by the stage that they have come to.", ["namespace", "stage"]);
    ACTIVITY_SCHEDULE_TO_START: Histograms<2> = Family::with_buckets(
        "millrace_activity_schedule_to_start_seconds", "How long activity tasks waited for a worker, back-off between attempts excluded.",
        ["namespace", "queue"], LATENCY_S);
    ACTIVITY_START_TO_COMPLETE: Histograms<1> = Family::with_buckets(
        "millrace_activity_start_to_complete_seconds", "How long the attempts that completed activities took.", ["namespace"], DURATION_S);
    ACTIVITY_ATTEMPTS_FAILED: Counters<3> = Family::new(
        "millrace_activity_attempts_failed_total", "Attempts of activities that failed, by reason and whether another follows.",
        ["namespace", "reason", "retried"]);
}

/// A run started.
pub fn workflow_started(namespace: &str) {
    WORKFLOWS_STARTED.of([&namespace]).inc();
}

/// A run ended. `status` is `completed`, `failed`, `canceled`, `terminated`, `continued_as_new` or `timed_out`; `duration` the
/// time since the run's start.
pub fn workflow_closed(namespace: &str, status: &str, duration: Duration) {
    WORKFLOW_DURATION.observe([&namespace, &status], duration);
}

/// A worker was handed a workflow task. `queue` is the normal queue even if the task came from a sticky one, of which
/// every worker process has its own.
pub fn workflow_task_started(namespace: &str, queue: &str, schedule_to_start: Duration) {
    WORKFLOW_TASK_SCHEDULE_TO_START.observe([&namespace, &queue], schedule_to_start);
}

pub fn workflow_task_completed(namespace: &str, start_to_complete: Duration) {
    WORKFLOW_TASK_START_TO_COMPLETE.observe([&namespace], start_to_complete);
}

/// A workflow task came to nothing. `reason` is `failed`, or the time-out that passed: `start_to_close`, `schedule_to_start`.
pub fn workflow_task_failed(namespace: &str, reason: &str) {
    WORKFLOW_TASKS_FAILED.of([&namespace, &reason]).inc();
}

/// An update came to a stage: `admitted`, `accepted`, `completed`, `rejected` or `aborted`.
pub fn update(namespace: &str, stage: &str) {
    UPDATES.of([&namespace, &stage]).inc();
}

/// A worker was handed an attempt of an activity, `schedule_to_start` after the attempt could first start.
pub fn activity_started(namespace: &str, queue: &str, schedule_to_start: Duration) {
    ACTIVITY_SCHEDULE_TO_START.observe([&namespace, &queue], schedule_to_start);
}

pub fn activity_completed(namespace: &str, start_to_complete: Duration) {
    ACTIVITY_START_TO_COMPLETE.observe([&namespace], start_to_complete);
}

/// An attempt came to nothing. `reason` is `failed`, `canceled`, or the time-out that passed: `start_to_close`, `heartbeat`,
/// `schedule_to_start`, `schedule_to_close`. `retried`: another attempt follows.
pub fn activity_failed(namespace: &str, reason: &str, retried: bool) {
    ACTIVITY_ATTEMPTS_FAILED.of([&namespace, &reason, &retried]).inc();
}
