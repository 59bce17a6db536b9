//! A workflow to measure with.
#![allow(dead_code)]

use millrace::engine::workflow::Run;
use millrace::engine::{FOLD_VERSION_MAX, State, decide};
use millrace::proto::commands::{
    ActivityRef, Command, CompleteActivity, CompleteWorkflowTask, SignalWorkflow, StartActivityTask, StartWorkflow,
    StartWorkflowTask, TaskToken, command::Body,
};
use millrace::proto::temporal::command::v1::{
    Command as WorkflowCommand, RecordMarkerCommandAttributes, ScheduleActivityTaskCommandAttributes,
    command::Attributes,
};
use millrace::proto::temporal::common::v1::{ActivityType, Payload, Payloads, WorkflowType};
use millrace::proto::temporal::taskqueue::v1::TaskQueue;
use millrace::proto::temporal::workflowservice::v1::{
    RespondWorkflowTaskCompletedRequest, SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
};
use millrace::types::time::duration;

pub const START_MS: i64 = 1_700_000_000_000;

pub struct Workflow {
    pub run: Run,
    seed: u64,
}

impl Workflow {
    pub fn started() -> Self {
        let mut workflow = Self { run: Run::default(), seed: 0 };
        workflow.does(None, start());
        workflow
    }

    fn does(&mut self, before: Option<Run>, mut command: Command) {
        self.seed += 1;
        command.seed_low = self.seed;
        let before = before.map(State::Workflow);
        let mut outcome = decide(before.as_ref(), &command, START_MS, FOLD_VERSION_MAX).expect("it is accepted");
        let run = outcome.runs.pop().expect("the run changes").run;
        self.run = run.into_workflow().expect("it is a workflow's");
        self.run.tally.changed.clear();
    }

    pub fn state(&self) -> State {
        State::Workflow(self.run.clone())
    }

    pub fn then(&mut self, body: Body) {
        let before = self.run.clone();
        self.does(Some(before), command("w", body));
    }

    fn complete_task(&mut self, commands: Vec<WorkflowCommand>) {
        if self.run.head.workflow_task.is_none() {
            self.then(signal().body.expect("a signal has a body"));
        }
        let task = self.run.head.workflow_task.clone().expect("a task is pending");
        self.then(Body::StartWorkflowTask(StartWorkflowTask {
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
            request_id: "poll".into(),
            ..Default::default()
        }));
        let task = self.run.started_task().cloned().expect("the task is started");
        let token = TaskToken {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            attempt: task.attempt,
            started_ms: task.started_ms,
            ..Default::default()
        };
        let request = RespondWorkflowTaskCompletedRequest { commands, ..Default::default() };
        self.then(Body::CompleteWorkflowTask(CompleteWorkflowTask {
            token: Some(token),
            request: Some(request),
            ..Default::default()
        }));
    }

    pub fn schedule_activities(&mut self, count: usize) {
        self.complete_task(schedule_activities(count));
    }

    pub fn take_activity(&mut self, number: usize) -> ActivityRef {
        let scheduled_event_id = self.run.activity_ids[&number.to_string()];
        self.then(start_activity("w", scheduled_event_id).body.expect("a start has a body"));
        activity(scheduled_event_id, self.run.activities[&scheduled_event_id].started_ms)
    }

    /// Brings the history to `events`, or a few more.
    pub fn grow(&mut self, events: i64) {
        while self.run.head.next_event_id < events {
            let marker = || {
                Attributes::RecordMarkerCommandAttributes(RecordMarkerCommandAttributes {
                    marker_name: "here".into(),
                    ..Default::default()
                })
            };
            let missing = (events - self.run.head.next_event_id).min(100);
            self.complete_task(
                (0..missing).map(|_| WorkflowCommand { attributes: Some(marker()), ..Default::default() }).collect(),
            );
        }
    }
}

fn schedule_activities(count: usize) -> Vec<WorkflowCommand> {
    let schedule = |number: usize| {
        Attributes::ScheduleActivityTaskCommandAttributes(ScheduleActivityTaskCommandAttributes {
            activity_id: number.to_string(),
            activity_type: Some(ActivityType { name: "Charge".into() }),
            task_queue: Some(TaskQueue { name: "orders".into(), ..TaskQueue::default() }),
            start_to_close_timeout: Some(duration(60_000)),
            ..Default::default()
        })
    };
    (0..count).map(|number| WorkflowCommand { attributes: Some(schedule(number)), ..Default::default() }).collect()
}

/// The event id of the first activity of [`with_activities`].
pub const FIRST_ACTIVITY: i64 = 5;

/// What brings a new workflow to where it waits for its activities.
pub fn with_activities(workflow_id: &str, count: usize) -> [Command; 3] {
    let task = StartWorkflowTask { scheduled_event_id: 2, attempt: 1, request_id: "poll".into(), ..Default::default() };
    let token = TaskToken { scheduled_event_id: 2, started_event_id: 3, attempt: 1, ..Default::default() };
    let request = RespondWorkflowTaskCompletedRequest { commands: schedule_activities(count), ..Default::default() };
    [
        start_of(workflow_id),
        command(workflow_id, Body::StartWorkflowTask(task)),
        command(
            workflow_id,
            Body::CompleteWorkflowTask(CompleteWorkflowTask {
                token: Some(token),
                request: Some(request),
                ..Default::default()
            }),
        ),
    ]
}

pub fn start_activity(workflow_id: &str, scheduled_event_id: i64) -> Command {
    let start = StartActivityTask { scheduled_event_id, attempt: 1, request_id: "poll".into(), ..Default::default() };
    command(workflow_id, Body::StartActivityTask(start))
}

/// The activity, as the token of its first attempt names it.
pub fn activity(scheduled_event_id: i64, started_ms: i64) -> ActivityRef {
    ActivityRef {
        token: Some(TaskToken { scheduled_event_id, attempt: 1, started_ms, ..Default::default() }),
        ..Default::default()
    }
}

pub fn command(workflow_id: &str, body: Body) -> Command {
    Command {
        namespace_id: "n".into(),
        namespace: "default".into(),
        id: workflow_id.into(),
        body: Some(body),
        ..Command::default()
    }
}

pub fn start() -> Command {
    start_of("w")
}

pub fn start_of(workflow_id: &str) -> Command {
    let request = StartWorkflowExecutionRequest {
        workflow_id: workflow_id.into(),
        workflow_type: Some(WorkflowType { name: "Order".into() }),
        task_queue: Some(TaskQueue { name: "orders".into(), ..TaskQueue::default() }),
        input: payloads(),
        request_id: "start".into(),
        ..Default::default()
    };
    command(workflow_id, Body::StartWorkflow(StartWorkflow { request: Some(request), ..Default::default() }))
}

pub fn signal() -> Command {
    signal_of("w")
}

pub fn signal_of(workflow_id: &str) -> Command {
    let request =
        SignalWorkflowExecutionRequest { signal_name: "paid".into(), input: payloads(), ..Default::default() };
    command(workflow_id, Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: None }))
}

pub fn complete_activity(workflow_id: &str, activity: ActivityRef) -> Command {
    command(
        workflow_id,
        Body::CompleteActivity(CompleteActivity { activity: Some(activity), result: payloads(), ..Default::default() }),
    )
}

pub fn payloads() -> Option<Payloads> {
    let metadata = [("encoding".to_owned(), "json/plain".into())].into_iter().collect();
    Some(Payloads {
        payloads: vec![Payload { metadata, data: r#"{"order":1001,"amount":4990}"#.into(), ..Payload::default() }],
    })
}
