//! Schedules, a kind of entity beside workflows: clients create, trigger, backfill, pause and delete them, and they start workflows.
//!
//! They draw from random numbers of their own, so that worlds without them are what they are without this file.

use millrace::engine::{EntityId, Kind};
use millrace::proto::commands::command::Body;
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
use millrace::types::time::{duration, timestamp};

use crate::machine::namespace;
use crate::random::Rng;
use crate::requests::Requests;
use crate::workers::queue;
use crate::world::World;

/// So many steps lie between two requests, at least.
pub const EVERY: u64 = 40;
const SCHEDULES: usize = 5;
const REQUESTS_MAX: usize = 40;
/// Triggers name times of their own, in milliseconds since the Unix epoch, so that each has a workflow of its own.
const TRIGGERS_FROM_MS: i64 = 946_684_800_000;

/// By how much an action may be put off.
pub const JITTER_MS: i64 = 800;
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

pub struct Schedules {
    happen: bool,
    pub requests: Requests,
}

/// In a fifth of the worlds, none of which has counters.
pub fn happens(seed: u64) -> bool {
    matches!(seed % 10, 1 | 6)
}

impl Schedules {
    pub fn new(seed: u64) -> Self {
        Self { happen: happens(seed), requests: Requests::new(Rng::new(seed.rotate_left(32))) }
    }

    pub fn happen(&self) -> bool {
        self.happen
    }

    /// A schedule's policy, which all requests to it keep to, so that the checks know it.
    pub fn overlap(id: &str) -> Overlap {
        OVERLAPS[Self::number(id) % OVERLAPS.len()]
    }

    /// How late an action of a schedule may be taken, in milliseconds; none: it does not matter.
    pub fn catchup_window_ms(id: &str) -> Option<i64> {
        // The shortest that there is.
        (Self::number(id) % 2 == 1).then_some(10_000)
    }

    fn number(id: &str) -> usize {
        id.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    fn body(&self, id: &str) -> Body {
        let request_id = format!("s{}", self.requests.rng.next());
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
        match self.requests.rng.below(20) {
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
                let scheduled_time = Some(timestamp(TRIGGERS_FROM_MS + 1000 * self.requests.asked.len() as i64));
                let trigger_immediately = Some(TriggerImmediatelyRequest { overlap_policy, scheduled_time });
                patch(SchedulePatch { trigger_immediately, ..SchedulePatch::default() })
            }
            14 => {
                let from = self.requests.rng.between(10, 20_000) * 1000;
                let backfill = BackfillRequest {
                    start_time: Some(timestamp(from)),
                    end_time: Some(timestamp(from + self.requests.rng.between(0, 4000))),
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
        let interval = Some(duration(1000 * self.requests.rng.between(1, 2)));
        let spec = ScheduleSpec {
            interval: vec![IntervalSpec { interval, phase: None }],
            jitter: self.requests.rng.per_mille(300).then(|| duration(JITTER_MS)),
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
                pause_on_failure: self.requests.rng.per_mille(100),
                catchup_window: Self::catchup_window_ms(id).map(duration),
                ..SchedulePolicies::default()
            }),
            state: Some(ScheduleState {
                limited_actions: true,
                remaining_actions: self.requests.rng.between(1, 4),
                ..ScheduleState::default()
            }),
        }
    }
}

impl World {
    /// A client sends a request, or receives its outcome.
    pub fn ask_schedules(&mut self) {
        let Schedules { requests, .. } = &mut self.schedules;
        requests.receive(&self.machines);
        if requests.asked.len() < REQUESTS_MAX {
            let id = format!("schedule-{}", requests.rng.below(SCHEDULES));
            let body = self.schedules.body(&id);
            let entity = EntityId::schedule(&namespace().id, &id);
            self.schedules.requests.ask(&self.machines, entity, body);
        }
    }

    /// How many actions the schedules have left, and workflows that they wait for, as their owners have them.
    pub fn scheduled_actions(&self) -> i64 {
        let left = |head: Head| {
            let state = head.state.clone().unwrap_or_default();
            let waits = head.close_ms > 0 || state.paused || self.is_ahead(&head);
            if waits { 0 } else { state.remaining_actions }
        };
        self.heads_of(Kind::Schedule).map(left).sum()
    }

    /// The log's time may be ahead of the true one, and so are its timers then.
    pub fn is_ahead(&self, head: &Head) -> bool {
        head.due_ms > self.cluster.broker.clock.true_ms() + DUE_WITHIN_MS
    }
}
