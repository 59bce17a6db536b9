//! Schedules, a kind of entity beside workflows: clients create, trigger, backfill, pause and delete them, and they start workflows.
//!
//! They draw from random numbers of their own, so that worlds without them are what they are without this file.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

use millrace::engine::{EntityId, Kind, Reply, SubKey};
use millrace::partition::Failure;
use millrace::proto::commands::{Command, command::Body};
use millrace::proto::schedule::{CreateSchedule, DeleteSchedule, Head, PatchSchedule};
use millrace::proto::temporal::common::v1::WorkflowType;
use millrace::proto::temporal::enums::v1::ScheduleOverlapPolicy as Overlap;
use millrace::proto::temporal::schedule::v1::schedule_action::Action;
use millrace::proto::temporal::schedule::v1::{
    BackfillRequest, IntervalSpec, Schedule, ScheduleAction, SchedulePatch, SchedulePolicies, ScheduleSpec,
    ScheduleState, TriggerImmediatelyRequest,
};
use millrace::proto::temporal::workflow::v1::NewWorkflowExecutionInfo;
use millrace::proto::temporal::workflowservice::v1::{
    CreateScheduleRequest, DeleteScheduleRequest, PatchScheduleRequest,
};
use millrace::store::keys;
use millrace::types::time::{duration, timestamp};
use prost::Message as _;

use crate::machine::namespace;
use crate::random::Rng;
use crate::workers::queue;
use crate::world::World;

/// So many steps lie between two requests, at least.
pub const EVERY: u64 = 40;
const SCHEDULES: usize = 5;
const REQUESTS: usize = 40;
/// Triggers name times of their own, in milliseconds since the Unix epoch, so that each has a workflow of its own.
const TRIGGERS_FROM_MS: i64 = 946_684_800_000;

/// A schedule is due again within its interval and its jitter.
const DUE_WITHIN_MS: i64 = 4000;

const OVERLAPS: [Overlap; 6] = [
    Overlap::Skip,
    Overlap::BufferOne,
    Overlap::BufferAll,
    Overlap::CancelOther,
    Overlap::TerminateOther,
    Overlap::AllowAll,
];

/// What a client has requested of a schedule.
pub struct Asked {
    pub id: String,
    pub body: Body,
    pub attempts: u32,
    pub outcome: Option<Result<Reply, Failure>>,
    answer: Receiver<Result<Reply, Failure>>,
}

pub struct Schedules {
    happen: bool,
    rng: Rng,
    pub asked: Vec<Asked>,
}

/// In a fifth of the worlds, none of which has counters.
pub fn happens(seed: u64) -> bool {
    matches!(seed % 10, 1 | 6)
}

impl Schedules {
    pub fn new(seed: u64) -> Self {
        Self { happen: happens(seed), rng: Rng::new(seed.rotate_left(32)), asked: Vec::new() }
    }

    pub fn happen(&self) -> bool {
        self.happen
    }

    /// Whether a caller waits for an answer.
    pub fn has_callers(&self) -> bool {
        self.asked.iter().any(|asked| asked.outcome.is_none())
    }

    /// A schedule's policy, which all requests to it keep to, so that the checks know it.
    pub fn overlap(id: &str) -> Overlap {
        let number: usize = id.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        OVERLAPS[number % OVERLAPS.len()]
    }

    fn body(&self, id: &str) -> Body {
        let request_id = format!("s{}", self.rng.next());
        let (schedule_id, namespace) = (id.to_owned(), namespace().name);
        let patch = |patch: SchedulePatch| {
            let request = PatchScheduleRequest {
                namespace: namespace.clone(),
                schedule_id: schedule_id.clone(),
                patch: Some(patch),
                request_id: request_id.clone(),
                ..PatchScheduleRequest::default()
            };
            Body::PatchSchedule(PatchSchedule { request: Some(request) })
        };
        let overlap_policy = Self::overlap(id) as i32;
        match self.rng.below(20) {
            0..=8 => Body::CreateSchedule(CreateSchedule {
                request: Some(CreateScheduleRequest {
                    namespace: namespace.clone(),
                    schedule_id: schedule_id.clone(),
                    schedule: Some(self.schedule(id)),
                    request_id,
                    ..CreateScheduleRequest::default()
                }),
            }),
            9..=13 => {
                let scheduled_time = Some(timestamp(TRIGGERS_FROM_MS + 1000 * self.asked.len() as i64));
                let trigger_immediately = Some(TriggerImmediatelyRequest { overlap_policy, scheduled_time });
                patch(SchedulePatch { trigger_immediately, ..SchedulePatch::default() })
            }
            14 => {
                let from = self.rng.between(10, 20_000) * 1000;
                let backfill = BackfillRequest {
                    start_time: Some(timestamp(from)),
                    end_time: Some(timestamp(from + self.rng.between(0, 4000))),
                    overlap_policy,
                };
                patch(SchedulePatch { backfill_request: vec![backfill], ..SchedulePatch::default() })
            }
            15 => patch(SchedulePatch { pause: "a while".into(), ..SchedulePatch::default() }),
            16..=18 => patch(SchedulePatch { unpause: "again".into(), ..SchedulePatch::default() }),
            _ => Body::DeleteSchedule(DeleteSchedule {
                request: Some(DeleteScheduleRequest {
                    namespace: namespace.clone(),
                    schedule_id,
                    ..Default::default()
                }),
            }),
        }
    }

    /// One that comes to an end by itself, so that the world comes to rest.
    fn schedule(&self, id: &str) -> Schedule {
        let interval = Some(duration(1000 * self.rng.between(1, 2)));
        let spec = ScheduleSpec {
            interval: vec![IntervalSpec { interval, phase: None }],
            jitter: self.rng.per_mille(300).then(|| duration(800)),
            ..ScheduleSpec::default()
        };
        let action = Action::StartWorkflow(NewWorkflowExecutionInfo {
            workflow_id: format!("of-{id}"),
            workflow_type: Some(WorkflowType { name: "Type".into() }),
            task_queue: Some(queue()),
            ..NewWorkflowExecutionInfo::default()
        });
        Schedule {
            spec: Some(spec),
            action: Some(ScheduleAction { action: Some(action) }),
            policies: Some(SchedulePolicies {
                overlap_policy: Self::overlap(id) as i32,
                pause_on_failure: self.rng.per_mille(100),
                ..SchedulePolicies::default()
            }),
            state: Some(ScheduleState {
                limited_actions: true,
                remaining_actions: self.rng.between(1, 4),
                ..ScheduleState::default()
            }),
        }
    }
}

impl World {
    /// A client sends a request, or receives its outcome.
    pub fn ask_schedules(&mut self) {
        self.hear_schedules();
        if self.schedules.asked.len() < REQUESTS {
            let id = format!("schedule-{}", self.schedules.rng.below(SCHEDULES));
            let body = self.schedules.body(&id);
            let answer = self.send_to_schedule(&id, &body);
            self.schedules.asked.push(Asked { id, body, attempts: 1, outcome: None, answer });
        }
    }

    /// Takes the answers that have come, and retries requests whose outcome is not known.
    pub fn hear_schedules(&mut self) {
        for index in 0..self.schedules.asked.len() {
            let asked = &self.schedules.asked[index];
            if asked.outcome.is_some() {
                continue;
            }
            let answer = match asked.answer.try_recv() {
                Err(TryRecvError::Empty) => continue,
                Err(TryRecvError::Disconnected) | Ok(Err(Failure::Unavailable(_) | Failure::Overloaded(_))) => None,
                Ok(answer) => Some(answer),
            };
            if answer.is_none() {
                let answer = self.send_to_schedule(&asked.id, &asked.body);
                let asked = &mut self.schedules.asked[index];
                (asked.answer, asked.attempts) = (answer, asked.attempts + 1);
            } else {
                self.schedules.asked[index].outcome = answer;
            }
        }
    }

    /// How many actions the schedules have left, and workflows that they wait for, as their owners have them.
    pub fn scheduled_actions(&self) -> i64 {
        let of_owner = |partition| self.machines[self.assigned[partition as usize]].disk.records(partition);
        let mut left = 0;
        for (key, value) in (0..self.partitions()).flat_map(of_owner) {
            let Some(keys::Parsed { entity, record: Some((_, SubKey::Head)) }) = keys::parse(&key) else { continue };
            if entity.kind == Kind::Schedule {
                let head = Head::decode(value).expect("a head can be read");
                let state = head.state.clone().unwrap_or_default();
                let waits = head.close_ms > 0 || state.paused || self.is_ahead(&head);
                left += if waits { 0 } else { state.remaining_actions };
            }
        }
        left
    }

    /// The log's time may be ahead of the true one, and so are its timers then.
    pub fn is_ahead(&self, head: &Head) -> bool {
        head.due_ms > self.cluster.broker.clock.true_ms() + DUE_WITHIN_MS
    }

    /// Sends a command by some node, which hands it on if it is another's.
    fn send_to_schedule(&self, id: &str, body: &Body) -> Receiver<Result<Reply, Failure>> {
        let (sender, answer) = channel();
        let up: Vec<_> = self.machines.iter().filter_map(|machine| machine.process.as_ref()).collect();
        // There is no owner: the sender is dropped, which notifies the caller.
        if up.is_empty() {
            return answer;
        }
        let node = &self.schedules.rng.pick(&up).node;
        let entity = EntityId::schedule(&namespace().id, id);
        let command = Command {
            kind: entity.kind as u32,
            namespace_id: entity.namespace_id.to_string(),
            namespace: namespace().name,
            id: id.to_owned(),
            seed_high: node.random(),
            seed_low: node.random(),
            sent_ms: node.clock_ms(),
            body: Some(body.clone()),
            ..Command::default()
        };
        node.owner_of(&entity).command(command, Box::new(move |_, outcome| drop(sender.send(outcome))));
        answer
    }
}
