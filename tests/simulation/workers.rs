//! Workers: they poll, and answer what they are handed with whatever comes to their minds, late or never.

// Temporal has deprecated fields that its SDKs go on writing.
#![allow(deprecated)]

use millrace::proto::temporal::command::v1::{self as commands, Command, command::Attributes as Do};
use millrace::proto::temporal::common::v1::{
    ActivityType, Payload, Payloads, RetryPolicy, WorkflowExecution, WorkflowType,
};
use millrace::proto::temporal::enums::v1::{EventType, QueryResultType};
use millrace::proto::temporal::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use millrace::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes};
use millrace::proto::temporal::query::v1::WorkflowQueryResult;
use millrace::proto::temporal::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use millrace::proto::temporal::workflowservice::v1::respond_workflow_task_completed_request::Capabilities;
use millrace::proto::temporal::workflowservice::v1::*;
use millrace::types::time::duration;

use crate::calls::{Call, Task};
use crate::large;
use crate::random::Rng;
use crate::updates;

pub const NAMESPACE: &str = "default";
pub const QUEUE: &str = "queue";
pub const WORKERS: usize = 3;
/// Workflows that clients, and other workflows, know.
pub const WORKFLOWS: usize = 6;

pub fn identity(worker: usize) -> String {
    format!("worker-{worker}")
}

fn sticky_queue(worker: usize) -> TaskQueue {
    TaskQueue { name: format!("sticky-{worker}"), kind: 2, normal_name: QUEUE.into() }
}

pub fn queue() -> TaskQueue {
    TaskQueue { name: QUEUE.into(), kind: 1, ..TaskQueue::default() }
}

pub fn workflow_id(number: usize) -> String {
    format!("w{number}")
}

pub fn child_id(number: usize) -> String {
    format!("c{number}")
}

pub fn payloads(text: String) -> Payloads {
    Payloads { payloads: vec![Payload { data: text.into(), ..Payload::default() }] }
}

/// What a worker polls next.
pub fn poll(rng: &Rng, worker: usize) -> Call {
    let (namespace, identity) = (NAMESPACE.to_owned(), identity(worker));
    match rng.below(5) {
        0 | 1 => {
            let task_queue = Some(queue());
            Call::PollWorkflowTask(PollWorkflowTaskQueueRequest {
                namespace,
                identity,
                task_queue,
                ..Default::default()
            })
        }
        2 => {
            let task_queue = Some(sticky_queue(worker));
            Call::PollWorkflowTask(PollWorkflowTaskQueueRequest {
                namespace,
                identity,
                task_queue,
                ..Default::default()
            })
        }
        _ => {
            let task_queue = Some(queue());
            Call::PollActivityTask(PollActivityTaskQueueRequest {
                namespace,
                identity,
                task_queue,
                ..Default::default()
            })
        }
    }
}

/// How a worker thinks of what it does next.
pub struct Mind<'a> {
    pub rng: &'a Rng,
    pub worker: usize,
    /// Workflows are brought to their ends.
    pub finish: bool,
    /// Workflows note much about themselves.
    pub large: bool,
}

impl Mind<'_> {
    /// What the worker answers, if it does.
    pub fn answer(&self, task: &Task) -> Option<Call> {
        if !self.finish && self.rng.per_mille(60) {
            return None;
        }
        match task {
            Task::Workflow(task) => Some(self.workflow_task(task)),
            Task::Activity(task) => Some(self.activity_task(task)),
        }
    }

    fn workflow_task(&self, task: &PollWorkflowTaskQueueResponse) -> Call {
        let (task_token, identity) = (task.task_token.clone(), identity(self.worker));
        // A query is answered with the run that answers it.
        let asked = || Some(payloads(task.workflow_execution.clone().unwrap_or_default().run_id));
        if task.query.is_some() {
            return Call::AnswerQuery(RespondQueryTaskCompletedRequest {
                task_token,
                completed_type: QueryResultType::Answered as i32,
                query_result: asked(),
                namespace: NAMESPACE.into(),
                ..Default::default()
            });
        }
        if !self.finish && self.rng.per_mille(50) {
            return Call::FailWorkflowTask(RespondWorkflowTaskFailedRequest {
                task_token,
                failure: Some(failure("Worker", false)),
                identity,
                namespace: NAMESPACE.into(),
                ..Default::default()
            });
        }
        let answered = |_| WorkflowQueryResult {
            result_type: QueryResultType::Answered as i32,
            answer: asked(),
            ..WorkflowQueryResult::default()
        };
        let sticky = (!self.finish && self.rng.per_mille(500)).then(|| StickyExecutionAttributes {
            worker_task_queue: Some(sticky_queue(self.worker)),
            schedule_to_start_timeout: Some(duration(2000)),
        });
        let messages = updates::answers(self, task);
        let named = messages.iter().filter(|_| self.rng.per_mille(700)).filter_map(updates::named);
        Call::CompleteWorkflowTask(RespondWorkflowTaskCompletedRequest {
            task_token,
            commands: named.chain(self.commands(task)).map(command).collect(),
            messages,
            capabilities: Some(Capabilities { discard_speculative_workflow_task_with_events: self.worker > 0 }),
            identity,
            sticky_attributes: sticky,
            return_new_workflow_task: self.rng.per_mille(500),
            force_create_new_workflow_task: !self.finish && self.rng.per_mille(50),
            namespace: NAMESPACE.into(),
            query_results: task.queries.keys().map(|id| (id.clone(), answered(id))).collect(),
            ..Default::default()
        })
    }

    fn commands(&self, task: &PollWorkflowTaskQueueResponse) -> Vec<Do> {
        let events = task.history.as_ref().map_or(&[][..], |history| &history.events[..]);
        let length = task.started_event_id;
        if !self.finish && !task.messages.is_empty() && self.rng.per_mille(500) {
            // Nothing but the update: its task may leave no trace.
            return Vec::new();
        }
        if self.finish {
            return vec![self.end(false)];
        }
        let mut commands = Vec::new();
        for _ in 0..self.rng.below(4) {
            commands.push(self.command(events));
        }
        if self.large && self.rng.per_mille(500) {
            commands.push(large::upsert(self.rng));
        }
        if self.rng.per_mille(30 + 6 * length.clamp(0, 80) as u32) {
            commands.push(self.end(true));
        }
        commands
    }

    fn command(&self, events: &[HistoryEvent]) -> Do {
        let rng = self.rng;
        let other = || WorkflowExecution { workflow_id: workflow_id(rng.below(WORKFLOWS)), run_id: String::new() };
        match rng.below(12) {
            0..=3 => {
                let eager = rng.per_mille(300);
                Do::ScheduleActivityTaskCommandAttributes(commands::ScheduleActivityTaskCommandAttributes {
                    activity_id: format!("a{}", rng.below(usize::MAX)),
                    activity_type: Some(ActivityType { name: "Act".into() }),
                    task_queue: Some(queue()),
                    input: Some(payloads("in".into())),
                    start_to_close_timeout: Some(duration(rng.between(1000, 4000))),
                    schedule_to_close_timeout: Some(duration(rng.between(2000, 20_000))),
                    heartbeat_timeout: rng.per_mille(300).then(|| duration(rng.between(500, 1500))),
                    retry_policy: Some(RetryPolicy {
                        initial_interval: Some(duration(rng.between(10, 500))),
                        backoff_coefficient: 2.0,
                        maximum_attempts: rng.below(4) as i32,
                        ..RetryPolicy::default()
                    }),
                    request_eager_execution: eager,
                    ..Default::default()
                })
            }
            4..=5 => self.timer(),
            6 => match events.iter().rev().find_map(|event| match &event.attributes {
                Some(Attributes::TimerStartedEventAttributes(started)) => Some(started.timer_id.clone()),
                _ => None,
            }) {
                Some(timer_id) => Do::CancelTimerCommandAttributes(commands::CancelTimerCommandAttributes { timer_id }),
                None => self.timer(),
            },
            7 => match pending_activity(events) {
                Some(scheduled_event_id) => {
                    let attributes = commands::RequestCancelActivityTaskCommandAttributes { scheduled_event_id };
                    Do::RequestCancelActivityTaskCommandAttributes(attributes)
                }
                None => self.timer(),
            },
            8..=9 => Do::SignalExternalWorkflowExecutionCommandAttributes(
                commands::SignalExternalWorkflowExecutionCommandAttributes {
                    namespace: NAMESPACE.into(),
                    execution: Some(other()),
                    signal_name: "from-workflow".into(),
                    input: Some(payloads(format!("x{}", rng.next()))),
                    ..Default::default()
                },
            ),
            10 => Do::RequestCancelExternalWorkflowExecutionCommandAttributes(
                commands::RequestCancelExternalWorkflowExecutionCommandAttributes {
                    namespace: NAMESPACE.into(),
                    workflow_id: other().workflow_id,
                    ..Default::default()
                },
            ),
            _ => Do::StartChildWorkflowExecutionCommandAttributes(
                commands::StartChildWorkflowExecutionCommandAttributes {
                    namespace: NAMESPACE.into(),
                    workflow_id: child_id(rng.below(WORKFLOWS)),
                    workflow_type: Some(WorkflowType { name: "Child".into() }),
                    task_queue: Some(queue()),
                    parent_close_policy: 1 + rng.below(3) as i32,
                    ..Default::default()
                },
            ),
        }
    }

    fn timer(&self) -> Do {
        Do::StartTimerCommandAttributes(commands::StartTimerCommandAttributes {
            timer_id: format!("t{}", self.rng.below(usize::MAX)),
            start_to_fire_timeout: Some(duration(self.rng.between(1, 3000))),
        })
    }

    fn end(&self, go_on: bool) -> Do {
        match self.rng.below(if go_on { 6 } else { 3 }) {
            0 => Do::FailWorkflowExecutionCommandAttributes(commands::FailWorkflowExecutionCommandAttributes {
                failure: Some(failure("Workflow", false)),
            }),
            1 => Do::CancelWorkflowExecutionCommandAttributes(Default::default()),
            2 | 3 => {
                Do::CompleteWorkflowExecutionCommandAttributes(commands::CompleteWorkflowExecutionCommandAttributes {
                    result: Some(payloads("out".into())),
                })
            }
            _ => Do::ContinueAsNewWorkflowExecutionCommandAttributes(
                commands::ContinueAsNewWorkflowExecutionCommandAttributes {
                    workflow_type: Some(WorkflowType { name: "Type".into() }),
                    task_queue: Some(queue()),
                    ..Default::default()
                },
            ),
        }
    }

    fn activity_task(&self, task: &PollActivityTaskQueueResponse) -> Call {
        let (task_token, identity, namespace) = (task.task_token.clone(), identity(self.worker), NAMESPACE.to_owned());
        match if self.finish { 0 } else { self.rng.below(8) } {
            0..=3 => Call::CompleteActivity(RespondActivityTaskCompletedRequest {
                task_token,
                identity,
                namespace,
                result: Some(payloads("result".into())),
                ..Default::default()
            }),
            4 => Call::CancelActivity(RespondActivityTaskCanceledRequest {
                task_token,
                identity,
                namespace,
                ..Default::default()
            }),
            5 => Call::Heartbeat(RecordActivityTaskHeartbeatRequest {
                task_token,
                identity,
                namespace,
                details: Some(payloads("beat".into())),
                ..Default::default()
            }),
            _ => Call::FailActivity(RespondActivityTaskFailedRequest {
                task_token,
                identity,
                namespace,
                failure: Some(failure("Activity", self.rng.per_mille(700))),
                ..Default::default()
            }),
        }
    }
}

/// The last activity that these events leave open, and that nobody has asked to cancel: the server refuses to cancel others.
fn pending_activity(events: &[HistoryEvent]) -> Option<i64> {
    let ends = |event: &HistoryEvent| match event.attributes.as_ref()? {
        Attributes::ActivityTaskCompletedEventAttributes(a) => Some(a.scheduled_event_id),
        Attributes::ActivityTaskFailedEventAttributes(a) => Some(a.scheduled_event_id),
        Attributes::ActivityTaskTimedOutEventAttributes(a) => Some(a.scheduled_event_id),
        Attributes::ActivityTaskCanceledEventAttributes(a) => Some(a.scheduled_event_id),
        Attributes::ActivityTaskCancelRequestedEventAttributes(a) => Some(a.scheduled_event_id),
        _ => None,
    };
    let ended: Vec<i64> = events.iter().filter_map(ends).collect();
    let scheduled = events.iter().filter(|event| event.event_type() == EventType::ActivityTaskScheduled);
    scheduled.map(|event| event.event_id).rfind(|id| !ended.contains(id))
}

fn command(attributes: Do) -> Command {
    Command { attributes: Some(attributes), ..Command::default() }
}

pub fn failure(error_type: &str, retryable: bool) -> Failure {
    let info = ApplicationFailureInfo {
        r#type: error_type.into(),
        non_retryable: !retryable,
        ..ApplicationFailureInfo::default()
    };
    Failure {
        message: "it failed".into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
        ..Failure::default()
    }
}
