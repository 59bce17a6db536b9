//! Given, when, then: commands go into a [`Scenario`], and what joined the history comes out.
//!
//! Every step also checks what must hold of any decision: folding the events over the run as it was gives the run that was
//! decided; a run that is read back from its records decides the same; and event ids are dense.

mod activities;
mod activity_operations;
mod bad_commands;
mod children;
mod closing;
mod live_equals_replayed;
mod records;
mod requests;
mod resets;
mod signals;
mod sizes;
mod starts;
mod targets;
mod timers;
mod updates;
mod workflow_operations;
mod workflow_tasks;

use std::collections::BTreeMap;

use prost::Message;

use super::{Event, Record, Reply, Run, WorkflowTaskEvent, deadlines, part, workflow_task};
use crate::engine::kinds::from_records;
use crate::engine::{
    Events, FOLD_VERSION_MAX, Histories, Kind, Loaded, Machine, Needed, Outcome as Decided, Recorded, Rejection, Send,
    State, SubKey, TaskKind, TaskQueueType, decide,
};
use crate::proto::commands::notify::Outcome;
use crate::proto::commands::*;
use crate::proto::commands::{Command, command::Body};
use crate::proto::state::WorkflowTaskKind;
use crate::proto::temporal::command::v1::{self as workflow_command, command::Attributes as Do};
use crate::proto::temporal::common::v1::{
    ActivityType, Payload, Payloads, RetryPolicy, WorkflowExecution, WorkflowType,
};
use crate::proto::temporal::enums::v1::{CommandType, EventType, WorkflowExecutionStatus as Status};
use crate::proto::temporal::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use crate::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes};
use crate::proto::temporal::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use crate::proto::temporal::workflowservice::v1::*;
use crate::types::time::duration;

pub const START_MS: i64 = 1_700_000_000_000;

/// One workflow, and the commands that came to it.
#[derive(Default)]
pub struct Scenario {
    pub run: Option<Run>,
    /// The runs before it, the oldest first.
    pub older: Vec<Run>,
    /// How long after the start it is now, in milliseconds.
    pub now: i64,
    /// What the last command added to histories, of all of its runs.
    pub joined: Vec<HistoryEvent>,
    /// What of that is news.
    pub news: Vec<HistoryEvent>,
    /// What became of workflow tasks by the last command.
    pub task_events: Vec<WorkflowTaskEvent>,
    pub sends: Vec<Send>,
    pub reply: Reply,
    /// What all commands so far wrote as records of runs. Bytes.
    pub written_bytes: usize,
    /// From how many events on a task suggests to continue as new; 0: the default.
    pub history_count_suggest: i64,
    pub refusal: Option<Rejection>,
    /// Histories were read for the last command.
    pub was_read: bool,
    /// The history of each run.
    pub histories: BTreeMap<String, Vec<HistoryEvent>>,
    seed: u64,
}

impl Scenario {
    /// A workflow that was started with these changes to a plain request.
    pub fn started(change: impl FnOnce(&mut StartWorkflowExecutionRequest)) -> Self {
        let mut scenario = Self::default();
        scenario.start(change).expect("a first start is accepted");
        scenario
    }

    pub fn start(&mut self, change: impl FnOnce(&mut StartWorkflowExecutionRequest)) -> Result<(), Rejection> {
        let mut request = StartWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_id: "w".into(),
            workflow_type: Some(WorkflowType { name: "Type".into() }),
            task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
            request_id: format!("start {}", self.seed),
            ..StartWorkflowExecutionRequest::default()
        };
        change(&mut request);
        self.when(Body::StartWorkflow(StartWorkflow { request: Some(request), ..StartWorkflow::default() }))
    }

    /// Decides one command, and takes its outcome over.
    pub fn when(&mut self, body: Body) -> Result<(), Rejection> {
        self.when_sent(body, None)
    }

    fn when_sent(&mut self, body: Body, callback: Option<Callback>) -> Result<(), Rejection> {
        self.seed += 1;
        let command = Command {
            namespace_id: "n".into(),
            namespace: "default".into(),
            id: "w".into(),
            seed_high: 7,
            seed_low: self.seed,
            history_count_suggest: self.history_count_suggest,
            callback,
            body: Some(body),
            ..Command::default()
        };
        let now = START_MS + self.now;
        let before = self.run.clone();
        let named = Kind::Workflow
            .named_run(&command)
            .and_then(|named| self.older.iter().find(|run| run.head.run_id == named).cloned().map(State::Workflow));
        let newest = before.clone().map(State::Workflow);
        let needed = newest.as_ref().and_then(|newest| Kind::Workflow.needed_history(newest, named.as_ref(), &command));
        let histories = needed.map(|needed| self.read(needed)).unwrap_or_default();
        self.was_read = histories.next().is_some() || !histories.last_run_id().is_empty();
        let loaded = Loaded { newest: newest.as_ref(), named: named.as_ref(), histories: histories.clone() };
        let decided = decide(loaded, &command, now, FOLD_VERSION_MAX);
        let (restored, named) = (newest.as_ref().map(from_records), named.as_ref().map(from_records));
        let restored = Loaded { newest: restored.as_ref(), named: named.as_ref(), histories };
        match (&decided, decide(restored, &command, now, FOLD_VERSION_MAX)) {
            (Ok(live), Ok(replayed)) => expect_same(live, &replayed),
            (Err(live), Err(replayed)) => assert_eq!(*live, replayed),
            (live, replayed) => panic!("live: {live:?}, replayed: {replayed:?}"),
        }
        let Decided { reply, runs, sends, refusal } = decided?;
        self.joined.clear();
        self.news.clear();
        self.task_events.clear();
        for changed in runs {
            self.news.extend(changed.news().into_iter().cloned());
            let mut run = changed.run.into_workflow().expect("a workflow's commands change workflows");
            let mut folded = before.clone().filter(|before| before.head.run_id == run.head.run_id).unwrap_or_default();
            let mut next_id = folded.head.next_event_id.max(1);
            let Events::Workflow(events) = &changed.events else { panic!("a workflow's commands change workflows") };
            for event in events {
                folded.apply(event);
                if let Event::History(event) = event {
                    assert_eq!(event.event_id, next_id, "event ids are dense");
                    next_id += 1;
                }
            }
            assert_eq!(folded, run, "folding the events gives the run");
            expect_tasks_folded(before.as_ref(), events, &run);
            check(&run);
            self.histories
                .entry(run.head.run_id.clone())
                .or_default()
                .extend(changed.history.iter().map(|event| (**event).clone()));
            self.joined.extend(changed.history.iter().map(|event| (**event).clone()));
            self.task_events.extend(task_events(events).cloned());
            let changed = std::mem::take(&mut run.tally.changed);
            let records = changed.iter().filter_map(|key| run.record(key));
            self.written_bytes += records.map(|record| record.encoded_len()).sum::<usize>();
            let before = self.run.replace(run);
            self.older.extend(before.filter(|before| before.head.run_id != self.run().head.run_id));
        }
        (self.reply, self.sends, self.refusal) = (reply, sends, refusal);
        Ok(())
    }

    fn read(&self, needed: Needed) -> Histories {
        let mut histories = Histories::new(needed);
        while let Some((run_id, from)) = histories.next() {
            let Some(history) = self.histories.get(run_id) else { break };
            histories.begin();
            history.iter().filter(|event| event.event_id >= from).all(|event| histories.take(event));
        }
        histories
    }

    /// Decides a command that must be accepted.
    pub fn then(&mut self, body: Body) -> &mut Self {
        self.when(body).expect("the command is accepted");
        self
    }

    /// A command of another workflow, which waits for its outcome.
    pub fn then_for(&mut self, sender: Callback, body: Body) -> &mut Self {
        self.when_sent(body, Some(sender)).expect("its sender is notified of a refusal");
        self
    }

    pub fn run(&self) -> &Run {
        self.run.as_ref().expect("the workflow was started")
    }

    pub fn status(&self) -> Status {
        self.run().status()
    }

    pub fn joined(&self) -> Vec<&'static str> {
        self.joined.iter().map(|event| event.event_type().as_str_name().trim_start_matches("EVENT_TYPE_")).collect()
    }

    /// The attributes of the event of this type that joined last.
    pub fn attributes(&self, event_type: EventType) -> &Attributes {
        let event = self.joined.iter().rev().find(|event| event.event_type() == event_type);
        event
            .and_then(|event| event.attributes.as_ref())
            .unwrap_or_else(|| panic!("{event_type:?} did not join, but {:?}", self.joined()))
    }

    /// A worker takes the pending workflow task.
    pub fn take_task(&mut self) -> TaskToken {
        let task = self.run().head.workflow_task.clone().expect("a workflow task is pending");
        let start = StartWorkflowTask {
            scheduled_event_id: task.scheduled_event_id,
            attempt: task.attempt,
            identity: "worker".into(),
            request_id: format!("poll {}", self.seed),
            ..StartWorkflowTask::default()
        };
        self.then(Body::StartWorkflowTask(start));
        self.task_token()
    }

    pub fn task_token(&self) -> TaskToken {
        let task = self.run().started_task().expect("a workflow task is started");
        TaskToken {
            run_id: self.run().head.run_id.clone(),
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            attempt: task.attempt,
            started_ms: task.started_ms,
            last_update: task.last_update,
            ..TaskToken::default()
        }
    }

    /// A worker takes the pending workflow task, and answers with these commands.
    pub fn workflow_does(&mut self, commands: impl IntoIterator<Item = Do>) -> &mut Self {
        let token = self.take_task();
        self.completes(token, commands)
    }

    pub fn completes(&mut self, token: TaskToken, commands: impl IntoIterator<Item = Do>) -> &mut Self {
        self.then(completion(token, commands, |_| {}))
    }

    /// A worker takes an activity.
    pub fn take_activity(&mut self, activity_id: &str) -> ActivityRef {
        let activity = self.activity(activity_id);
        let start = StartActivityTask {
            scheduled_event_id: activity.scheduled_event_id,
            attempt: activity.attempt,
            identity: "worker".into(),
            request_id: format!("poll {}", self.seed),
            ..StartActivityTask::default()
        };
        self.then(Body::StartActivityTask(start));
        self.activity_ref(activity_id)
    }

    pub fn activity(&self, activity_id: &str) -> crate::proto::state::Activity {
        let id =
            self.run().activity_ids.get(activity_id).unwrap_or_else(|| panic!("activity {activity_id} is pending"));
        (**self.run().activities.get(id).expect("an id leads to its activity")).clone()
    }

    pub fn activity_ref(&self, activity_id: &str) -> ActivityRef {
        let activity = self.activity(activity_id);
        let token = TaskToken {
            run_id: self.run().head.run_id.clone(),
            scheduled_event_id: activity.scheduled_event_id,
            attempt: activity.attempt,
            started_ms: activity.started_ms,
            ..TaskToken::default()
        };
        ActivityRef { token: Some(token), ..ActivityRef::default() }
    }

    /// Time passes until the record is due, and its timer fires.
    pub fn due(&mut self, record: SubKey) -> Result<(), Rejection> {
        let due =
            self.run().record(&record).as_ref().and_then(deadlines::next_due).expect("the record is due some time");
        self.now = self.now.max(due - START_MS);
        self.fires(record)
    }

    pub fn fires(&mut self, record: SubKey) -> Result<(), Rejection> {
        let run_id = self.run().head.run_id.clone();
        self.when(Body::FireTimer(FireTimer { run_id, record: record.to_bytes(), due_ms: 0 }))
    }

    pub fn signal(&mut self, name: &str) -> &mut Self {
        self.then(signal(name, ""))
    }

    /// What was sent to another workflow, if it is the only thing.
    pub fn sent(&self) -> &Send {
        let [send] = &self.sends[..] else { panic!("one send was expected: {:?}", self.sends) };
        send
    }
}

/// The notification to a parent of a child.
pub fn notice(initiated_event_id: i64, execution: Option<WorkflowExecution>, outcome: Outcome) -> Body {
    let token = InitiatedToken { run_id: String::new(), initiated_event_id }.encode_to_vec().into();
    Body::Notify(Notify { token, execution, outcome: Some(outcome) })
}

/// The callback of another workflow, for what it requested in an event.
pub fn callback_of(workflow_id: &str, initiated_event_id: i64) -> Callback {
    let token = InitiatedToken { run_id: "its run".into(), initiated_event_id };
    Callback {
        kind: Kind::Workflow as u32,
        namespace_id: "n".into(),
        namespace: "default".into(),
        id: workflow_id.into(),
        token: token.encode_to_vec().into(),
    }
}

pub fn token(token: &[u8]) -> InitiatedToken {
    InitiatedToken::decode(token).expect("a workflow's token can be read")
}

/// What a sender is notified of, if that is all that is sent: a refusal.
pub fn refused(scenario: &Scenario) -> (Notify, Refused) {
    let Body::Notify(notice) = &scenario.sent().body else { panic!("{:?}", scenario.sends) };
    let Some(Outcome::Refused(refused)) = &notice.outcome else { panic!("{notice:?}") };
    (notice.clone(), refused.clone())
}

/// The sub-key of an activity, by its scheduled event.
pub fn activity_record(scheduled_event_id: i64) -> SubKey {
    SubKey::Numbered(part::ACTIVITY, scheduled_event_id)
}

pub fn timer_record(timer_id: &str) -> SubKey {
    SubKey::Named(part::TIMER, timer_id.into())
}

fn expect_same(live: &Decided, replayed: &Decided) {
    assert_eq!(live.reply, replayed.reply);
    assert_eq!(live.sends, replayed.sends);
    assert_eq!(live.refusal, replayed.refusal);
    assert_eq!(live.runs.len(), replayed.runs.len());
    for (live, replayed) in live.runs.iter().zip(&replayed.runs) {
        assert_eq!(live.events, replayed.events);
        assert_eq!(live.run, replayed.run);
        assert_eq!(live.run.tally().size_bytes, replayed.run.tally().size_bytes);
    }
}

fn task_events(events: &[Event]) -> impl Iterator<Item = &WorkflowTaskEvent> {
    events.iter().filter_map(|event| match event {
        Event::WorkflowTask(event) => Some(event),
        _ => None,
    })
}

/// What is known of an open run's workflow tasks comes of events about them alone.
fn expect_tasks_folded(before: Option<&Run>, events: &[Event], run: &Run) {
    if !run.is_open() {
        return;
    }
    let created = events.iter().find_map(|event| match event {
        Event::RunCreated(created) => Some(&created.head),
        _ => None,
    });
    let mut head = created.or(before.map(|before| &*before.head)).cloned().expect("a run is created first");
    task_events(events).for_each(|event| workflow_task::apply(&mut head, event));
    let known = |head: &crate::proto::state::Run| {
        let seen = (head.previous_started_event_id, head.most_recent_completed_event_id);
        (head.workflow_task.clone(), head.workflow_task_attempt, seen)
    };
    assert_eq!(known(&head), known(&run.head), "folding the events about workflow tasks gives what is known of them");
}

/// What holds of every run between two commands.
fn check(run: &Run) {
    let head = &run.head;
    if !run.is_open() {
        assert!(head.workflow_task.is_none(), "a closed run has no workflow task");
        assert!(run.buffered.is_empty(), "nothing waits in a closed run");
        assert!(head.delete_ms > 0, "a closed run is deleted one day");
    }
    if head.workflow_task.is_none() {
        assert!(run.buffered.is_empty(), "only a started task holds events up");
    }
    if let Some(task) = &head.workflow_task {
        assert_eq!(task.kind() == WorkflowTaskKind::Transient, task.attempt > 1, "retries are transient: {task:?}");
        assert_eq!(task.attempt, head.workflow_task_attempt);
        let in_history = workflow_task::is_in_history_from_the_start(task.kind());
        let last_id = task.scheduled_event_id.max(task.started_event_id);
        assert!(!in_history || last_id < head.next_event_id, "a normal task is in the history: {task:?}");
        let stands_at_the_end = !workflow_task::transient_events(head).is_empty();
        let may_stand_there = !in_history && task.scheduled_event_id == head.next_event_id;
        assert_eq!(stands_at_the_end, may_stand_there, "{task:?}");
        assert!(task.started_event_id == 0 || in_history || stands_at_the_end, "nothing comes before a started task");
    }
    assert_eq!(run.activities.len(), run.activity_ids.len());
    let size = |key: SubKey| run.record(&key).map_or(0, |record| key.id_len() + record.encoded_len());
    let sizes = run.keys().into_iter().map(size);
    assert_eq!(run.tally.size_bytes, sizes.sum::<usize>(), "the state's size is counted");
    for (id, activity) in &run.activities {
        assert!(*id < head.next_event_id && *id == activity.scheduled_event_id);
    }
}

pub fn completion(
    token: TaskToken,
    commands: impl IntoIterator<Item = Do>,
    change: impl FnOnce(&mut RespondWorkflowTaskCompletedRequest),
) -> Body {
    let commands = commands
        .into_iter()
        .map(|attributes| workflow_command::Command {
            attributes: Some(attributes),
            command_type: CommandType::Unspecified as i32,
            ..Default::default()
        })
        .collect();
    let mut request = RespondWorkflowTaskCompletedRequest { commands, identity: "worker".into(), ..Default::default() };
    change(&mut request);
    Body::CompleteWorkflowTask(CompleteWorkflowTask {
        token: Some(token),
        request: Some(request),
        ..Default::default()
    })
}

pub fn sticky(request: &mut RespondWorkflowTaskCompletedRequest) {
    let worker_task_queue = Some(TaskQueue { name: "own".into(), ..TaskQueue::default() });
    request.sticky_attributes =
        Some(StickyExecutionAttributes { worker_task_queue, schedule_to_start_timeout: Some(duration(5000)) });
}

pub fn activity(id: &str) -> Do {
    activity_with(id, |_| {})
}

pub fn activity_with(
    id: &str,
    change: impl FnOnce(&mut workflow_command::ScheduleActivityTaskCommandAttributes),
) -> Do {
    let mut attributes = workflow_command::ScheduleActivityTaskCommandAttributes {
        activity_id: id.into(),
        activity_type: Some(ActivityType { name: "Act".into() }),
        task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
        start_to_close_timeout: Some(duration(10_000)),
        ..Default::default()
    };
    change(&mut attributes);
    Do::ScheduleActivityTaskCommandAttributes(attributes)
}

pub fn no_retries() -> Option<RetryPolicy> {
    Some(RetryPolicy { maximum_attempts: 1, ..RetryPolicy::default() })
}

pub fn timer(id: &str, ms: i64) -> Do {
    Do::StartTimerCommandAttributes(workflow_command::StartTimerCommandAttributes {
        timer_id: id.into(),
        start_to_fire_timeout: Some(duration(ms)),
    })
}

pub fn complete() -> Do {
    Do::CompleteWorkflowExecutionCommandAttributes(workflow_command::CompleteWorkflowExecutionCommandAttributes {
        result: Some(payloads("done")),
    })
}

pub fn fail() -> Do {
    Do::FailWorkflowExecutionCommandAttributes(workflow_command::FailWorkflowExecutionCommandAttributes {
        failure: Some(failure("Oops")),
    })
}

pub fn child(id: &str) -> Do {
    Do::StartChildWorkflowExecutionCommandAttributes(workflow_command::StartChildWorkflowExecutionCommandAttributes {
        workflow_id: id.into(),
        workflow_type: Some(WorkflowType { name: "Child".into() }),
        ..Default::default()
    })
}

pub fn continue_as_new() -> Do {
    Do::ContinueAsNewWorkflowExecutionCommandAttributes(
        workflow_command::ContinueAsNewWorkflowExecutionCommandAttributes {
            input: Some(payloads("next")),
            ..Default::default()
        },
    )
}

pub fn failure(error_type: &str) -> Failure {
    let info = ApplicationFailureInfo { r#type: error_type.into(), ..ApplicationFailureInfo::default() };
    Failure {
        message: "it failed".into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
        ..Failure::default()
    }
}

pub fn payloads(text: &'static str) -> Payloads {
    Payloads { payloads: vec![Payload { data: text.into(), ..Payload::default() }] }
}

pub fn signal(name: &str, request_id: &str) -> Body {
    let request = SignalWorkflowExecutionRequest {
        signal_name: name.into(),
        request_id: request_id.into(),
        ..Default::default()
    };
    Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: None })
}

pub fn with_start() -> Body {
    let start = StartWorkflowExecutionRequest {
        workflow_type: Some(WorkflowType { name: "Type".into() }),
        task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
        ..Default::default()
    };
    let command = SignalWithStartWorkflow { start: Some(start), signal_name: "s".into(), signal_input: None };
    Body::SignalWithStartWorkflow(command)
}

pub fn terminate() -> Body {
    let request = TerminateWorkflowExecutionRequest { reason: "enough".into(), ..Default::default() };
    Body::TerminateWorkflow(TerminateWorkflow { request: Some(request), ..Default::default() })
}

pub fn request_cancel() -> Body {
    Body::RequestCancelWorkflow(RequestCancelWorkflow {
        request: Some(RequestCancelWorkflowExecutionRequest::default()),
        ..Default::default()
    })
}

pub fn result(activity: ActivityRef) -> Body {
    Body::CompleteActivity(CompleteActivity {
        activity: Some(activity),
        result: Some(payloads("result")),
        ..Default::default()
    })
}

pub fn attempt_failed(activity: ActivityRef, error_type: &str) -> Body {
    Body::FailActivity(FailActivity {
        activity: Some(activity),
        failure: Some(failure(error_type)),
        ..Default::default()
    })
}

/// The poller of a task was gone before the task reached it. `number`: of the type of its queue.
pub fn returned(token: TaskToken, number: i32) -> Body {
    Body::ReturnTask(ReturnTask { token: Some(token), task_queue_type: number })
}

pub fn execution(workflow_id: &str, run_id: &str) -> Option<WorkflowExecution> {
    Some(WorkflowExecution { workflow_id: workflow_id.into(), run_id: run_id.into() })
}
