//! What clients see of a schedule.

use prost::Message;

use super::spec::with_defaults;
use super::{Schedule, StartState, Status};
use crate::engine::Kind;
use crate::engine::payload;
use crate::engine::row::{DIVISION, Row};
use crate::proto::temporal::common::v1::{SearchAttributes, WorkflowExecution};
use crate::proto::temporal::schedule::v1 as api;
use crate::proto::temporal::schedule::v1::schedule_action::Action;
use crate::proto::temporal::workflowservice::v1::DescribeScheduleResponse;
use crate::types::time::{duration, timestamp, timestamp_or_none};
use prost_types::Timestamp;

/// So many of the next moments at which it is due are shown.
const FUTURE_MAX: usize = 10;
/// Lists show less: so many of the last actions and of the next moments, and of the calendars and intervals.
const LISTED_ACTIONS: usize = 5;
const LISTED_SPECS: usize = 10;

/// The search attribute by which paused schedules are found.
pub const PAUSED: &str = "TemporalSchedulePaused";
/// The value of [`DIVISION`] of schedules.
pub const SCHEDULER: &str = "TemporalScheduler";

impl Schedule {
    /// As DescribeSchedule answers at `now`, in milliseconds since the Unix epoch; none: there is no such schedule.
    pub fn describe(&self, now: i64) -> Option<DescribeScheduleResponse> {
        if !self.is_open() {
            return None;
        }
        let head = &self.head;
        let mut policies = self.policies();
        policies.overlap_policy = self.overlap_policy(0) as i32;
        policies.catchup_window = Some(duration(self.catchup_window_ms()));
        let running = self.starts_in(StartState::Running).map(|(_, start)| WorkflowExecution {
            workflow_id: start.workflow_id.clone(),
            run_id: start.run_id.clone(),
        });
        let info = api::ScheduleInfo {
            action_count: head.action_count,
            missed_catchup_window: head.missed_catchup_window,
            overlap_skipped: head.overlap_skipped,
            buffer_dropped: head.buffer_dropped,
            buffer_size: self.starts_in(StartState::Pending).count() as i64,
            running_workflows: running.collect(),
            recent_actions: self.recent_actions(usize::MAX),
            future_action_times: self.future(now, FUTURE_MAX),
            create_time: Some(timestamp(head.create_ms)),
            update_time: timestamp_or_none(head.update_ms),
            ..api::ScheduleInfo::default()
        };
        Some(DescribeScheduleResponse {
            schedule: Some(api::Schedule {
                spec: Some(with_defaults(self.plan.spec.clone().unwrap_or_default())),
                action: self.plan.action.clone(),
                policies: Some(policies),
                state: Some(self.state().clone()),
            }),
            info: Some(info),
            memo: self.attached.memo.clone(),
            search_attributes: self.attached.search_attributes.clone(),
            conflict_token: self.conflict_token(),
        })
    }

    /// What a client that changes the schedule hands back, to have changed it as it is now.
    pub fn conflict_token(&self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.head.conflict_token.to_be_bytes())
    }

    /// The moments after `from` and up to `to` at which it is due, at most so many; paused or not.
    pub fn matching_times(&self, from: &Timestamp, to: &Timestamp, at_most: usize) -> Vec<Timestamp> {
        let times = super::spec::matching_times(&self.spec(), from, to, at_most);
        times.into_iter().map(timestamp).collect()
    }

    /// The last actions, oldest first.
    fn recent_actions(&self, at_most: usize) -> Vec<api::ScheduleActionResult> {
        let actions = &self.recent.actions;
        let first = actions.len().saturating_sub(at_most);
        actions[first..].iter().filter_map(|action| action.result.clone()).collect()
    }

    fn future(&self, now: i64, at_most: usize) -> Vec<Timestamp> {
        let state = self.state();
        let left = if state.limited_actions { usize::try_from(state.remaining_actions).unwrap_or(0) } else { at_most };
        let from = now.max(self.head.processed_ms).max(self.head.update_ms);
        self.spec().after(from).take(left.min(at_most)).map(|due| timestamp(due.actual_ms)).collect()
    }

    pub(super) fn to_row(&self) -> Row {
        let head = &self.head;
        let mut spec = self.plan.spec.clone().unwrap_or_default();
        spec.structured_calendar.truncate(LISTED_SPECS);
        spec.exclude_structured_calendar.truncate(LISTED_SPECS);
        spec.interval.truncate(LISTED_SPECS);
        let action = self.plan.action.as_ref().and_then(|action| action.action.as_ref());
        let Some(Action::StartWorkflow(action)) = action.cloned() else { return Row::default() };
        let info = api::ScheduleListInfo {
            spec: Some(with_defaults(spec)),
            workflow_type: action.workflow_type.clone(),
            notes: self.state().notes.clone(),
            paused: self.state().paused,
            recent_actions: self.recent_actions(LISTED_ACTIONS),
            future_action_times: self.future(head.processed_ms, LISTED_ACTIONS),
            ..api::ScheduleListInfo::default()
        };
        let mut attributes = self.attached.search_attributes.clone().unwrap_or_default();
        attributes.indexed_fields.insert(PAUSED.into(), payload::bool(self.state().paused));
        attributes.indexed_fields.insert(DIVISION.into(), payload::keyword(SCHEDULER));
        let status = if head.close_ms == 0 { Status::Running } else { Status::Completed };
        Row {
            kind: Kind::Schedule as u32,
            namespace_id: head.namespace_id.clone(),
            workflow_id: head.id.clone(),
            run_id: head.run_id.clone(),
            workflow_type: action.workflow_type.map(|of| of.name).unwrap_or_default(),
            status: status as i32,
            start_time_ms: head.create_ms,
            execution_time_ms: head.create_ms,
            close_time_ms: (head.close_ms > 0).then_some(head.close_ms),
            memo: self.attached.memo.as_ref().map(|memo| memo.encode_to_vec()).unwrap_or_default().into(),
            search_attributes: SearchAttributes::encode_to_vec(&attributes).into(),
            info: info.encode_to_vec().into(),
            ..Row::default()
        }
    }
}
