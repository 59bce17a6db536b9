//! Schedules: they start workflows when their spec says, or when they are requested to.
//!
//! An action that is due becomes a *start*, a record of its own. What becomes of it is the overlap policy's: it waits, is left out, or
//! is sent to its workflow, with a callback that notifies the schedule of its start and of its end.
//!
//! Clients are served as by Temporal's server, where a schedule is a workflow of the server's own; here it is none.

mod buffer;
mod create;
mod due;
mod notice;
mod patch;
mod record;
pub mod spec;
mod update;
mod view;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

pub use self::record::Record;
use self::record::{ATTACHED, BACKFILL, LAST_COMPLETION, PLAN, RECENT, REQUESTS, START};
use self::spec::Spec;
pub use self::view::{PAUSED, SCHEDULER};
use super::machine::{Header, Machine, Tally};
use super::rejection::Rejection;
use super::row::Row;
use super::sub_key::SubKey;
use super::work::{Reply, Work};
use crate::proto::commands::{Command, command::Body};
use crate::proto::schedule::{
    Attached, Backfill, Head, LastCompletion, Plan, Recent, RecentAction, Requests, Start, StartState,
};
use crate::proto::temporal::common::v1::WorkflowExecution;
use crate::proto::temporal::enums::v1::{ScheduleOverlapPolicy as Overlap, WorkflowExecutionStatus as Status};
use crate::proto::temporal::schedule::v1::{ScheduleActionResult, SchedulePolicies, ScheduleState};
use crate::types::time::{duration_ms, timestamp};

/// So many of the last actions are shown.
const RECENT_MAX: usize = 10;
/// So many workflows that may overlap are kept track of at a time: those beyond stand among the last actions as running.
const TRACKED_MAX: usize = 1000;
/// So many of the last requests are known again.
const REQUESTS_MAX: usize = 100;

/// One run of a schedule: from its creation to its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    head: Arc<Head>,
    plan: Arc<Plan>,
    attached: Arc<Attached>,
    last_completion: Arc<LastCompletion>,
    recent: Arc<Recent>,
    requests: Arc<Requests>,
    starts: OrdMap<i64, Start>,
    backfills: OrdMap<i64, Backfill>,
    tally: Tally,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Created {
        head: Box<Head>,
        plan: Box<Plan>,
        attached: Box<Attached>,
        request_id: String,
    },
    Updated {
        at_ms: i64,
        policies: Box<SchedulePolicies>,
        state: Box<ScheduleState>,
        plan: Box<Plan>,
    },
    Attached(Box<Attached>),
    Paused {
        is_paused: bool,
        notes: String,
    },
    Requested {
        request_id: String,
    },
    /// What was due until then is taken, or left out.
    Processed {
        to_ms: i64,
        missed: i64,
        dropped: i64,
    },
    BackfillBegun(Box<Backfill>),
    BackfillProcessed {
        number: i64,
        to_ms: i64,
    },
    BackfillEnded {
        number: i64,
    },
    StartBuffered(Box<Start>),
    /// A start that waits is left out.
    StartSkipped {
        number: i64,
        by_policy: bool,
    },
    /// It is too late for a start that waits.
    StartMissed {
        number: i64,
    },
    StartRequested {
        number: i64,
        counted: bool,
    },
    StartRefused {
        number: i64,
    },
    Started {
        number: i64,
        at_ms: i64,
        run_id: String,
    },
    /// So many run that what becomes of this one is not kept track of.
    Untracked {
        number: i64,
    },
    CancelRequested {
        number: i64,
    },
    TerminateRequested {
        number: i64,
    },
    Ended {
        number: i64,
        status: Status,
        last_completion: Option<Box<LastCompletion>>,
    },
    Waits {
        due_ms: i64,
    },
    Closed {
        close_ms: i64,
        delete_ms: i64,
    },
}

impl Machine for Schedule {
    type Event = Event;
    type Record = Record;

    fn decide(work: &mut Work<Self>, command: &Command) -> Result<Reply, Rejection> {
        let reply = match &command.body {
            Some(Body::CreateSchedule(create)) => create::create(work, create)?,
            Some(Body::UpdateSchedule(update)) => update::update(work, update)?,
            Some(Body::PatchSchedule(patch)) => patch::patch(work, patch)?,
            Some(Body::DeleteSchedule(_)) => {
                work.run().present(&work.entity.id)?;
                close(work);
                Reply::Done
            }
            Some(Body::FireTimer(fired)) => due::fire(work, fired)?,
            Some(Body::Notify(notify)) => notice::take(work, notify)?,
            _ => return Err(Rejection::InvalidArgument("the command is not one to a schedule".into())),
        };
        due::go_on(work);
        Ok(reply)
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Created { head, plan, attached, request_id } => {
                self.head = Arc::new((**head).clone());
                self.plan = Arc::new((**plan).clone());
                self.attached = Arc::new((**attached).clone());
                self.requests = Arc::new(Requests { create: request_id.clone(), ids: Vec::new() });
                self.tally.changed.extend([SubKey::Head, PLAN, ATTACHED, REQUESTS]);
            }
            Event::Updated { at_ms, policies, state, plan } => {
                let head = self.head_mut();
                (head.update_ms, head.last_event_ms) = (*at_ms, *at_ms);
                head.conflict_token += 1;
                (head.policies, head.state) = (Some(**policies), Some((**state).clone()));
                self.plan = Arc::new((**plan).clone());
                self.tally.changed.insert(PLAN);
            }
            Event::Attached(attached) => {
                self.attached = Arc::new((**attached).clone());
                self.tally.changed.insert(ATTACHED);
            }
            Event::Paused { is_paused, notes } => {
                let head = self.head_mut();
                head.conflict_token += 1;
                let state = head.state.get_or_insert_default();
                (state.paused, state.notes) = (*is_paused, notes.clone());
            }
            Event::Requested { request_id } => {
                let ids = &mut Arc::make_mut(&mut self.requests).ids;
                ids.push(request_id.clone());
                let more = ids.len().saturating_sub(REQUESTS_MAX);
                ids.drain(..more);
                self.tally.changed.insert(REQUESTS);
            }
            Event::Processed { to_ms, missed, dropped } => {
                let head = self.head_mut();
                head.processed_ms = *to_ms;
                head.missed_catchup_window += missed;
                head.buffer_dropped += dropped;
            }
            Event::BackfillBegun(backfill) => {
                let number = self.next_number();
                self.backfills.insert(number, **backfill);
                self.tally.changed.insert(SubKey::Numbered(BACKFILL, number));
            }
            Event::BackfillProcessed { number, to_ms } => {
                if let Some(backfill) = self.backfills.get_mut(number) {
                    backfill.processed_ms = *to_ms;
                }
                self.tally.changed.insert(SubKey::Numbered(BACKFILL, *number));
            }
            Event::BackfillEnded { number } => {
                self.backfills.remove(number);
                self.tally.changed.insert(SubKey::Numbered(BACKFILL, *number));
            }
            Event::StartBuffered(start) => {
                let number = self.next_number();
                self.starts.insert(number, (**start).clone());
                self.tally.changed.insert(SubKey::Numbered(START, number));
            }
            Event::StartSkipped { number, by_policy } => {
                self.forget_start(*number);
                self.head_mut().overlap_skipped += i64::from(*by_policy);
            }
            Event::StartMissed { number } => {
                self.forget_start(*number);
                self.head_mut().missed_catchup_window += 1;
            }
            Event::StartRequested { number, counted } => {
                self.change_start(*number, |start| start.set_state(StartState::Requested));
                if *counted {
                    let head = self.head_mut();
                    head.conflict_token += 1;
                    head.state.get_or_insert_default().remaining_actions -= 1;
                }
            }
            Event::StartRefused { number } | Event::Untracked { number } => self.forget_start(*number),
            Event::Started { number, at_ms, run_id } => self.started(*number, *at_ms, run_id),
            Event::CancelRequested { number } => self.change_start(*number, |start| start.cancel_requested = true),
            Event::TerminateRequested { number } => {
                self.change_start(*number, |start| start.terminate_requested = true);
            }
            Event::Ended { number, status, last_completion } => {
                self.forget_start(*number);
                let recent = Arc::make_mut(&mut self.recent);
                if let Some(action) = recent.actions.iter_mut().find(|action| action.number == *number) {
                    action.result.get_or_insert_default().set_start_workflow_status(*status);
                    self.tally.changed.insert(RECENT);
                }
                if let Some(last_completion) = last_completion {
                    self.last_completion = Arc::new((**last_completion).clone());
                    self.tally.changed.insert(LAST_COMPLETION);
                }
            }
            Event::Waits { due_ms } => self.head_mut().due_ms = *due_ms,
            Event::Closed { close_ms, delete_ms } => {
                let head = self.head_mut();
                (head.close_ms, head.delete_ms, head.due_ms) = (*close_ms, *delete_ms, 0);
            }
        }
    }

    fn end_too_large(work: &mut Work<Self>, _: &'static str) {
        close(work);
    }

    const ROW: &'static [SubKey] = &[SubKey::Head, PLAN, ATTACHED, RECENT];

    fn row(&self) -> Option<Row> {
        Some(self.to_row())
    }

    fn has_agenda(key: &SubKey) -> bool {
        *key == SubKey::Head
    }

    fn header(&self) -> Header<'_> {
        Header {
            run_id: &self.head.run_id,
            namespace: &self.head.namespace,
            is_open: self.is_open(),
            task_queue: "",
            delete_ms: self.head.delete_ms,
            deleted_to_event_id: self.head.deleted_to_event_id,
        }
    }

    fn mark_deleted(&mut self, deleted_to_event_id: i64, delete_ms: i64) {
        let head = self.head_mut();
        (head.deleted_to_event_id, head.delete_ms) = (deleted_to_event_id, delete_ms);
    }

    fn record(&self, key: &SubKey) -> Option<Record> {
        Some(match key {
            SubKey::Head => Record::Head(self.head.clone()),
            &PLAN => Record::Plan(self.plan.clone()),
            &ATTACHED if *self.attached != Attached::default() => Record::Attached(self.attached.clone()),
            &LAST_COMPLETION if *self.last_completion != LastCompletion::default() => {
                Record::LastCompletion(self.last_completion.clone())
            }
            &RECENT if !self.recent.actions.is_empty() => Record::Recent(self.recent.clone()),
            &REQUESTS if *self.requests != Requests::default() => Record::Requests(self.requests.clone()),
            SubKey::Numbered(START, number) => Record::Start(self.starts.get(number)?.clone()),
            SubKey::Numbered(BACKFILL, number) => Record::Backfill(*self.backfills.get(number)?),
            _ => return None,
        })
    }

    fn restore(&mut self, key: SubKey, record: Record) {
        match (key, record) {
            (_, Record::Head(head)) => self.head = head,
            (_, Record::Plan(plan)) => self.plan = plan,
            (_, Record::Attached(attached)) => self.attached = attached,
            (_, Record::LastCompletion(last)) => self.last_completion = last,
            (_, Record::Recent(recent)) => self.recent = recent,
            (_, Record::Requests(requests)) => self.requests = requests,
            (SubKey::Numbered(_, number), Record::Start(start)) => drop(self.starts.insert(number, start)),
            (SubKey::Numbered(_, number), Record::Backfill(backfill)) => drop(self.backfills.insert(number, backfill)),
            (key, record) => unreachable!("a record of another kind stands under {key:?}: {record:?}"),
        }
    }

    fn forget(&mut self, key: &SubKey) {
        match key {
            &PLAN => self.plan = Arc::default(),
            &ATTACHED => self.attached = Arc::default(),
            &LAST_COMPLETION => self.last_completion = Arc::default(),
            &RECENT => self.recent = Arc::default(),
            &REQUESTS => self.requests = Arc::default(),
            SubKey::Numbered(START, number) => drop(self.starts.remove(number)),
            SubKey::Numbered(BACKFILL, number) => drop(self.backfills.remove(number)),
            _ => {}
        }
    }

    fn keys(&self) -> OrdSet<SubKey> {
        let ones = [SubKey::Head, PLAN, ATTACHED, LAST_COMPLETION, RECENT, REQUESTS];
        let starts = self.starts.keys().map(|number| SubKey::Numbered(START, *number));
        let backfills = self.backfills.keys().map(|number| SubKey::Numbered(BACKFILL, *number));
        ones.into_iter().filter(|key| self.record(key).is_some()).chain(starts).chain(backfills).collect()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// The overlap policy that stands for none.
const OVERLAP_DEFAULT: Overlap = Overlap::Skip;

impl Schedule {
    pub fn is_open(&self) -> bool {
        !self.head.run_id.is_empty() && self.head.close_ms == 0
    }

    /// The run, if it is open.
    fn present(&self, id: &str) -> Result<&Self, Rejection> {
        if self.is_open() {
            return Ok(self);
        }
        Err(Rejection::schedule_not_found(id))
    }

    fn policies(&self) -> SchedulePolicies {
        self.head.policies.unwrap_or_default()
    }

    fn state(&self) -> &ScheduleState {
        static NONE: ScheduleState =
            ScheduleState { notes: String::new(), paused: false, limited_actions: false, remaining_actions: 0 };
        self.head.state.as_ref().unwrap_or(&NONE)
    }

    /// When it is due by its spec. One that could not be read is never due; the edge has checked it.
    fn spec(&self) -> Spec {
        let seed = format!("{}-{}", self.head.namespace_id, self.head.id);
        let spec = self.plan.spec.clone().unwrap_or_default();
        Spec::new(&spec, seed).unwrap_or_default()
    }

    fn overlap_policy(&self, of_start: i32) -> Overlap {
        let policy = |number| Overlap::try_from(number).ok().filter(|policy| *policy != Overlap::Unspecified);
        let of_schedule = self.head.policies.as_ref().map_or(0, |policies| policies.overlap_policy);
        policy(of_start).or_else(|| policy(of_schedule)).unwrap_or(OVERLAP_DEFAULT)
    }

    /// How long after an action was due it may be taken. Milliseconds.
    fn catchup_window_ms(&self) -> i64 {
        const DEFAULT: i64 = 365 * 24 * 3_600_000;
        const MIN: i64 = 10_000;
        let window = self.head.policies.as_ref().and_then(|policies| policies.catchup_window);
        match duration_ms(window.as_ref()) {
            0 => DEFAULT,
            window => window.max(MIN),
        }
    }

    /// Whether actions that are due by the spec are taken now.
    fn takes_actions(&self) -> bool {
        let state = self.state();
        !state.paused && (!state.limited_actions || state.remaining_actions > 0)
    }

    fn starts_in(&self, state: StartState) -> impl Iterator<Item = (i64, &Start)> {
        let starts = self.starts.iter().map(|(number, start)| (*number, start));
        starts.filter(move |(_, start)| start.state() == state)
    }

    fn head_mut(&mut self) -> &mut Head {
        self.tally.changed.insert(SubKey::Head);
        Arc::make_mut(&mut self.head)
    }

    fn next_number(&mut self) -> i64 {
        let head = self.head_mut();
        head.next_number += 1;
        head.next_number
    }

    fn change_start(&mut self, number: i64, change: impl FnOnce(&mut Start)) {
        if let Some(start) = self.starts.get_mut(&number) {
            change(start);
            self.tally.changed.insert(SubKey::Numbered(START, number));
        }
    }

    fn forget_start(&mut self, number: i64) {
        self.starts.remove(&number);
        self.tally.changed.insert(SubKey::Numbered(START, number));
    }

    fn started(&mut self, number: i64, at_ms: i64, run_id: &str) {
        self.change_start(number, |start| {
            start.set_state(StartState::Running);
            start.run_id = run_id.into();
        });
        let Some(start) = self.starts.get(&number) else { return };
        let execution = WorkflowExecution { workflow_id: start.workflow_id.clone(), run_id: run_id.into() };
        let result = ScheduleActionResult {
            schedule_time: Some(timestamp(start.actual_ms)),
            actual_time: Some(timestamp(at_ms)),
            start_workflow_result: Some(execution),
            start_workflow_status: Status::Running as i32,
        };
        let actions = &mut Arc::make_mut(&mut self.recent).actions;
        actions.push(RecentAction { number, result: Some(result) });
        let more = actions.len().saturating_sub(RECENT_MAX);
        actions.drain(..more);
        self.tally.changed.insert(RECENT);
        let head = self.head_mut();
        head.action_count += 1;
        head.last_event_ms = at_ms;
    }
}

/// Ends the run: it is as if it had never been, and its workflows go on.
fn close(work: &mut Work<Schedule>) {
    let close_ms = work.now;
    let delete_ms = work.run().due_again_ms(close_ms);
    work.emit(Event::Closed { close_ms, delete_ms });
}

#[cfg(test)]
mod tests;
