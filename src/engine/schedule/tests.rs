use prost::Message as _;
use prost_types::{Duration, Timestamp};

use super::*;
use crate::engine::kinds::from_records;
use crate::engine::{FOLD_VERSION_MAX, Kind, Outcome as Decided, Send, State, decide};
use crate::proto::commands::{
    Callback, Closed, FireTimer, Notify, Refused, StartWorkflow, Started, notify::Outcome as Noticed,
};
use crate::proto::schedule::{CreateSchedule, DeleteSchedule, PatchSchedule, UpdateSchedule};
use crate::proto::temporal::common::v1::{Memo, Payload, Payloads, WorkflowType};
use crate::proto::temporal::failure::v1::Failure;
use crate::proto::temporal::history::v1::{
    HistoryEvent, WorkflowExecutionCompletedEventAttributes, WorkflowExecutionFailedEventAttributes,
    WorkflowExecutionTimedOutEventAttributes, history_event::Attributes as A,
};
use crate::proto::temporal::schedule::v1::schedule_action::Action;
use crate::proto::temporal::schedule::v1::{
    BackfillRequest, IntervalSpec, Schedule as Described, ScheduleAction, SchedulePatch, ScheduleSpec,
    TriggerImmediatelyRequest,
};
use crate::proto::temporal::workflow::v1::NewWorkflowExecutionInfo;
use crate::proto::temporal::workflowservice::v1::{
    CreateScheduleRequest, DescribeScheduleResponse, PatchScheduleRequest, StartWorkflowExecutionRequest,
    UpdateScheduleRequest,
};
use crate::types::time::millis_of;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600_000;

/// A schedule, with what it has sent and not been answered yet.
struct Scenario {
    state: Option<State>,
    now: i64,
    sent: Vec<Send>,
}

/// One that is due each minute.
fn minutely(overlap: Overlap) -> Described {
    let interval = Some(Duration { seconds: 60, nanos: 0 });
    Described {
        spec: Some(ScheduleSpec { interval: vec![IntervalSpec { interval, phase: None }], ..ScheduleSpec::default() }),
        action: Some(ScheduleAction {
            action: Some(Action::StartWorkflow(NewWorkflowExecutionInfo {
                workflow_id: "report".into(),
                workflow_type: Some(WorkflowType { name: "Report".into() }),
                ..NewWorkflowExecutionInfo::default()
            })),
        }),
        policies: Some(SchedulePolicies { overlap_policy: overlap as i32, ..SchedulePolicies::default() }),
        state: None,
    }
}

fn create_of(schedule: Described, request_id: &str) -> Body {
    let request = CreateScheduleRequest {
        schedule_id: "nightly".into(),
        schedule: Some(schedule),
        request_id: request_id.into(),
        ..CreateScheduleRequest::default()
    };
    Body::CreateSchedule(CreateSchedule { request: Some(request) })
}

fn payloads(text: &str) -> Option<Payloads> {
    Some(Payloads { payloads: vec![Payload { data: text.to_owned().into(), ..Payload::default() }] })
}

fn completed(result: &str) -> A {
    let attributes = WorkflowExecutionCompletedEventAttributes { result: payloads(result), ..Default::default() };
    A::WorkflowExecutionCompletedEventAttributes(attributes)
}

fn failed(message: &str) -> A {
    let failure = Some(Failure { message: message.into(), ..Failure::default() });
    A::WorkflowExecutionFailedEventAttributes(WorkflowExecutionFailedEventAttributes { failure, ..Default::default() })
}

impl Scenario {
    fn new(schedule: Described) -> Self {
        let mut scenario = Self { state: None, now: START, sent: Vec::new() };
        scenario.accept(create_of(schedule, "create"));
        scenario
    }

    fn decide(&mut self, body: Body) -> Result<Decided, Rejection> {
        let command = Command {
            kind: Kind::Schedule as u32,
            namespace_id: "n".into(),
            namespace: "default".into(),
            id: "nightly".into(),
            seed_low: self.now as u64,
            seed_high: self.sent.len() as u64,
            body: Some(body),
            ..Command::default()
        };
        decide(self.state.as_ref(), &command, self.now, FOLD_VERSION_MAX)
    }

    fn accept(&mut self, body: Body) {
        let mut decided = self.decide(body).expect("it is accepted");
        self.sent.append(&mut decided.sends);
        if let Some(mut run) = decided.runs.pop() {
            // As the shell does.
            run.run.tally_mut().changed.clear();
            if run.run.keys().len() < 100 {
                from_records(&run.run);
            }
            self.state = Some(run.run);
        }
    }

    fn run(&self) -> &Schedule {
        let Some(State::Schedule(schedule)) = &self.state else { panic!("it is a schedule: {:?}", self.state) };
        schedule
    }

    fn info(&self) -> DescribeScheduleResponse {
        self.run().describe(self.now).expect("it is open")
    }

    /// Fires what is due until a time, as the shell does.
    fn until(&mut self, now: i64) {
        loop {
            let due_ms = self.run().head.due_ms;
            if due_ms == 0 || due_ms > now || !self.run().is_open() {
                break;
            }
            self.now = self.now.max(due_ms);
            self.fire().expect("it is due");
        }
        self.now = now;
    }

    fn fire(&mut self) -> Result<(), Rejection> {
        let run_id = self.run().head.run_id.clone();
        let body = Body::FireTimer(FireTimer { run_id, record: SubKey::Head.to_bytes(), due_ms: 0 });
        self.decide(body.clone())?;
        self.accept(body);
        Ok(())
    }

    fn update(&mut self, schedule: Described) {
        let request = UpdateScheduleRequest { schedule: Some(schedule), request_id: "".into(), ..Default::default() };
        self.accept(Body::UpdateSchedule(UpdateSchedule { request: Some(request) }));
    }

    fn patch(&mut self, patch: SchedulePatch, request_id: &str) {
        let request = PatchScheduleRequest { patch: Some(patch), request_id: request_id.into(), ..Default::default() };
        self.accept(Body::PatchSchedule(PatchSchedule { request: Some(request) }));
    }

    fn pause(&mut self, notes: &str) {
        self.patch(SchedulePatch { pause: notes.into(), ..SchedulePatch::default() }, "");
    }

    fn unpause(&mut self, notes: &str) {
        self.patch(SchedulePatch { unpause: notes.into(), ..SchedulePatch::default() }, "");
    }

    fn trigger(&mut self, overlap: Overlap, request_id: &str) {
        let trigger_immediately =
            Some(TriggerImmediatelyRequest { overlap_policy: overlap as i32, scheduled_time: None });
        self.patch(SchedulePatch { trigger_immediately, ..SchedulePatch::default() }, request_id);
    }

    fn backfill(&mut self, from: i64, to: i64, overlap: Overlap) {
        let backfill_request = vec![BackfillRequest {
            start_time: Some(timestamp(from)),
            end_time: Some(timestamp(to)),
            overlap_policy: overlap as i32,
        }];
        self.patch(SchedulePatch { backfill_request, ..SchedulePatch::default() }, "");
    }

    fn notify(&mut self, callback: &Callback, id: &str, outcome: Noticed) {
        let execution = Some(WorkflowExecution { workflow_id: id.into(), run_id: format!("run of {id}") });
        let body = Body::Notify(Notify { token: callback.token.clone(), execution, outcome: Some(outcome) });
        self.accept(body);
    }

    /// The workflows that were started since the last time: all of them run now.
    fn starts(&mut self) -> Vec<(StartWorkflowExecutionRequest, Callback)> {
        let mut starts = Vec::new();
        while let Some(at) = self.sent.iter().position(|send| matches!(send.body, Body::StartWorkflow(_))) {
            let send = self.sent.remove(at);
            let Body::StartWorkflow(StartWorkflow { request: Some(request), .. }) = send.body else { continue };
            let callback = send.callback.expect("it waits for the workflow");
            self.notify(&callback, &request.workflow_id, Noticed::Started(Started::default()));
            starts.push((request, callback));
        }
        starts
    }

    fn started_ids(&mut self) -> Vec<String> {
        self.starts().into_iter().map(|(request, _)| request.workflow_id).collect()
    }

    fn close(&mut self, (request, callback): &(StartWorkflowExecutionRequest, Callback), how: A) {
        let close = HistoryEvent { attributes: Some(how), ..HistoryEvent::default() };
        let closed = Closed { close: Some(close), ..Closed::default() };
        self.notify(callback, &request.workflow_id, Noticed::Closed(closed));
    }

    /// What was canceled and terminated since the last time: workflow ids and first runs.
    fn ended(&mut self) -> Vec<(&'static str, String, String)> {
        let ends = std::mem::take(&mut self.sent).into_iter().map(|send| match send.body {
            Body::RequestCancelWorkflow(cancel) => {
                let request = cancel.request.unwrap();
                ("cancel", request.workflow_execution.unwrap().workflow_id, request.first_execution_run_id)
            }
            Body::TerminateWorkflow(terminate) => {
                let request = terminate.request.unwrap();
                ("terminate", request.workflow_execution.unwrap().workflow_id, request.first_execution_run_id)
            }
            body => panic!("{body:?}"),
        });
        ends.collect()
    }
}

fn id(minute: i64) -> String {
    format!("report-2026-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60)
}

#[test]
fn starts_workflows_when_its_spec_says() {
    let mut scenario = Scenario::new(minutely(Overlap::AllowAll));
    scenario.until(START + 2 * MINUTE + 500);
    let starts = scenario.starts();
    assert_eq!(starts.len(), 2);
    let request = &starts[1].0;
    assert_eq!(request.workflow_id, "report-2026-01-01T00:02:00Z");
    assert_eq!(request.identity, "temporal-scheduler-default-nightly");
    assert_eq!(
        request.workflow_id_reuse_policy(),
        crate::proto::temporal::enums::v1::WorkflowIdReusePolicy::RejectDuplicate
    );
    let attributes = &request.search_attributes.as_ref().unwrap().indexed_fields;
    assert_eq!(&attributes["TemporalScheduledStartTime"].data[..], br#""2026-01-01T00:02:00Z""#);
    assert_eq!(&attributes["TemporalScheduledById"].data[..], br#""nightly""#);
    let info = scenario.info().info.unwrap();
    assert_eq!((info.action_count, info.recent_actions.len(), info.running_workflows.len()), (2, 2, 2));
    assert_eq!(info.recent_actions[0].schedule_time, Some(timestamp(START + MINUTE)));
    assert_eq!(info.future_action_times.len(), 10);
    assert_eq!(info.future_action_times[0], timestamp(START + 3 * MINUTE));
    scenario.close(&starts[0], completed("done"));
    let info = scenario.info().info.unwrap();
    assert_eq!(info.recent_actions[0].start_workflow_status(), Status::Completed);
    assert_eq!(info.running_workflows[0].workflow_id, id(2));
}

#[test]
fn an_action_that_was_not_due_yet_is_not_taken() {
    let mut scenario = Scenario::new(minutely(Overlap::Skip));
    assert!(matches!(scenario.fire(), Err(Rejection::NotFound(_))));
    scenario.now = START + MINUTE;
    scenario.fire().unwrap();
    assert_eq!(scenario.started_ids(), [id(1)]);
    assert!(scenario.fire().is_err(), "it is taken once");
}

#[test]
fn a_schedule_is_created_once() {
    let mut scenario = Scenario::new(minutely(Overlap::Skip));
    let repeated = scenario.decide(create_of(minutely(Overlap::Skip), "create")).unwrap();
    assert!(repeated.runs.is_empty());
    let refused = scenario.decide(create_of(minutely(Overlap::Skip), "another"));
    let Err(Rejection::AlreadyStarted { message, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(message, "schedule \"nightly\" is already registered");
    scenario.accept(Body::DeleteSchedule(DeleteSchedule::default()));
    assert!(scenario.run().describe(scenario.now).is_none());
    let refused = scenario.decide(Body::DeleteSchedule(DeleteSchedule::default()));
    assert!(matches!(refused, Err(Rejection::NotFound(_))), "{refused:?}");
    scenario.accept(create_of(minutely(Overlap::Skip), "another"));
    assert!(scenario.run().is_open());
}

#[test]
fn one_at_a_time_skips_what_overlaps() {
    let mut scenario = Scenario::new(minutely(Overlap::Unspecified));
    scenario.until(START + 3 * MINUTE);
    let starts = scenario.starts();
    assert_eq!(starts.len(), 1);
    assert_eq!(scenario.info().info.unwrap().overlap_skipped, 2);
    scenario.close(&starts[0], completed("1"));
    scenario.until(START + 4 * MINUTE);
    let starts = scenario.starts();
    assert_eq!(starts[0].0.workflow_id, id(4));
    assert_eq!(starts[0].0.last_completion_result, payloads("1"));
}

#[test]
fn buffers_one_or_all_of_what_overlaps() {
    for (overlap, skipped, buffered) in [(Overlap::BufferOne, 2, 1), (Overlap::BufferAll, 0, 3)] {
        let mut scenario = Scenario::new(minutely(overlap));
        scenario.until(START + 4 * MINUTE);
        let starts = scenario.starts();
        assert_eq!(starts[0].0.workflow_id, id(1));
        let info = scenario.info().info.unwrap();
        assert_eq!((info.overlap_skipped, info.buffer_size), (skipped, buffered), "{overlap:?}");
        scenario.close(&starts[0], completed("1"));
        assert_eq!(scenario.started_ids(), [id(2)], "{overlap:?}");
        assert_eq!(scenario.info().info.unwrap().buffer_size, buffered - 1);
    }
}

#[test]
fn has_what_runs_canceled_or_terminated_once() {
    for (overlap, verb) in [(Overlap::CancelOther, "cancel"), (Overlap::TerminateOther, "terminate")] {
        let mut scenario = Scenario::new(minutely(overlap));
        scenario.until(START + MINUTE);
        let starts = scenario.starts();
        scenario.until(START + 3 * MINUTE);
        assert_eq!(scenario.ended(), [(verb, id(1), format!("run of {}", id(1)))]);
        assert_eq!(scenario.info().info.unwrap().buffer_size, 2);
        scenario.close(&starts[0], completed("1"));
        // The last takes the place of the one that waits before it.
        assert_eq!(scenario.started_ids(), [id(3)]);
    }
}

#[test]
fn what_is_only_just_being_started_is_canceled_once_its_run_is_known() {
    let mut scenario = Scenario::new(minutely(Overlap::CancelOther));
    scenario.until(START + 2 * MINUTE);
    assert_eq!(scenario.sent.len(), 1, "the start alone");
    scenario.starts();
    assert_eq!(scenario.ended(), [("cancel", id(1), format!("run of {}", id(1)))]);
}

#[test]
fn a_start_that_is_refused_leaves_its_place() {
    let mut scenario = Scenario::new(minutely(Overlap::BufferAll));
    scenario.until(START + 2 * MINUTE);
    let send = scenario.sent.remove(0);
    let refused = Refused { code: "ALREADY_EXISTS".into(), ..Refused::default() };
    scenario.notify(&send.callback.unwrap(), &id(1), Noticed::Refused(refused));
    assert_eq!(scenario.started_ids(), [id(2)]);
    assert_eq!(scenario.info().info.unwrap().action_count, 1);
}

#[test]
fn what_was_due_while_no_node_ran_is_caught_up_with_within_the_window() {
    let mut schedule = minutely(Overlap::AllowAll);
    schedule.policies.as_mut().unwrap().catchup_window = Some(Duration { seconds: 150, nanos: 0 });
    let mut scenario = Scenario::new(schedule);
    scenario.now = START + DAY;
    while scenario.run().head.due_ms <= scenario.now + 10 {
        scenario.now = scenario.now.max(scenario.run().head.due_ms);
        scenario.fire().unwrap();
    }
    let starts = scenario.starts();
    let info = scenario.info().info.unwrap();
    // Due at 23:58, 23:59 and 24:00.
    assert_eq!((starts.len(), info.missed_catchup_window), (3, 24 * 60 - 3));
    assert_eq!(scenario.run().head.due_ms, START + DAY + MINUTE);
}

#[test]
fn a_window_that_is_not_set_is_a_year() {
    let scenario = Scenario::new(minutely(Overlap::Skip));
    let policies = scenario.info().schedule.unwrap().policies.unwrap();
    assert_eq!(policies.catchup_window, Some(Duration { seconds: 365 * 24 * 3600, nanos: 0 }));
    assert_eq!(policies.overlap_policy(), Overlap::Skip);
}

#[test]
fn a_start_that_waits_too_long_is_missed() {
    let mut schedule = minutely(Overlap::BufferAll);
    schedule.policies.as_mut().unwrap().catchup_window = Some(Duration { seconds: 90, nanos: 0 });
    let mut scenario = Scenario::new(schedule);
    scenario.until(START + 2 * MINUTE);
    let starts = scenario.starts();
    scenario.until(START + 4 * MINUTE);
    scenario.close(&starts[0], completed("1"));
    assert_eq!(scenario.started_ids(), [id(3)], "the second is two minutes late");
    assert_eq!(scenario.info().info.unwrap().missed_catchup_window, 1);
}

#[test]
fn takes_no_actions_while_it_is_paused() {
    let mut scenario = Scenario::new(minutely(Overlap::AllowAll));
    let token = scenario.info().conflict_token;
    scenario.until(START + MINUTE);
    scenario.pause("a holiday");
    assert_ne!(scenario.info().conflict_token, token);
    assert_eq!(scenario.run().head.due_ms, 0, "a paused schedule costs nothing");
    scenario.until(START + 5 * MINUTE);
    scenario.trigger(Overlap::Unspecified, "");
    scenario.unpause("back");
    scenario.until(START + 6 * MINUTE);
    assert_eq!(scenario.started_ids(), [id(1), id(5), id(6)]);
    let state = scenario.info().schedule.unwrap().state.unwrap();
    assert_eq!((state.paused, state.notes.as_str()), (false, "back"));
    assert_eq!(scenario.info().info.unwrap().missed_catchup_window, 0);
}

#[test]
fn pauses_after_a_failure_if_it_is_to() {
    let timed_out = A::WorkflowExecutionTimedOutEventAttributes(WorkflowExecutionTimedOutEventAttributes::default());
    for (how, notes) in [
        (failed("no disk"), "paused due to workflow failure: report-2026-01-01T00:01:00Z: no disk"),
        (timed_out, "paused due to workflow timeout: report-2026-01-01T00:01:00Z"),
    ] {
        let mut schedule = minutely(Overlap::Skip);
        schedule.policies.as_mut().unwrap().pause_on_failure = true;
        let mut scenario = Scenario::new(schedule);
        scenario.until(START + MINUTE);
        let starts = scenario.starts();
        scenario.close(&starts[0], how);
        let state = scenario.info().schedule.unwrap().state.unwrap();
        assert_eq!((state.paused, state.notes.as_str()), (true, notes));
    }
}

#[test]
fn the_next_run_is_given_the_last_result_and_failure() {
    let mut scenario = Scenario::new(minutely(Overlap::Skip));
    let last = |scenario: &mut Scenario, minute, how| {
        scenario.until(START + minute * MINUTE);
        let starts = scenario.starts();
        scenario.close(&starts[0], how);
        let request = &starts[0].0;
        let failure = request.continued_failure.as_ref().map(|failure| failure.message.clone());
        (request.last_completion_result.clone(), failure)
    };
    assert_eq!(last(&mut scenario, 1, completed("first")), (None, None));
    assert_eq!(last(&mut scenario, 2, failed("no disk")), (payloads("first"), None));
    assert_eq!(last(&mut scenario, 3, completed("third")), (payloads("first"), Some("no disk".into())));
    assert_eq!(last(&mut scenario, 4, completed("fourth")), (payloads("third"), None));
}

#[test]
fn takes_so_many_actions_and_ends_a_week_after_the_last() {
    let mut schedule = minutely(Overlap::AllowAll);
    schedule.state = Some(ScheduleState { limited_actions: true, remaining_actions: 2, ..ScheduleState::default() });
    let mut scenario = Scenario::new(schedule);
    assert_eq!(scenario.info().info.unwrap().future_action_times.len(), 2);
    scenario.until(START + 5 * MINUTE);
    let starts = scenario.starts();
    assert_eq!(starts.len(), 2);
    assert_eq!(scenario.info().schedule.unwrap().state.unwrap().remaining_actions, 0);
    assert!(scenario.info().info.unwrap().future_action_times.is_empty());
    scenario.until(START + 6 * MINUTE);
    assert!(scenario.run().head.due_ms == 0, "its workflows run");
    starts.iter().for_each(|start| scenario.close(start, completed("")));
    scenario.until(START + 7 * DAY - MINUTE);
    assert!(scenario.run().is_open());
    // A trigger takes none of them, and puts the end off.
    scenario.trigger(Overlap::Unspecified, "");
    let starts = scenario.starts();
    scenario.close(&starts[0], completed(""));
    scenario.until(START + 14 * DAY - 2 * MINUTE);
    assert!(scenario.run().is_open());
    scenario.until(START + 14 * DAY);
    assert!(!scenario.run().is_open());
}

#[test]
fn a_request_that_comes_again_is_carried_out_once() {
    let mut scenario = Scenario::new(minutely(Overlap::AllowAll));
    scenario.trigger(Overlap::Unspecified, "a");
    scenario.now += 1000;
    scenario.trigger(Overlap::Unspecified, "a");
    scenario.trigger(Overlap::Unspecified, "b");
    assert_eq!(scenario.started_ids(), [id(0), "report-2026-01-01T00:00:01Z".into()]);
    for request in 0..500 {
        scenario.trigger(Overlap::Skip, &request.to_string());
    }
    assert_eq!(scenario.run().requests.ids.len(), REQUESTS_MAX);
}

#[test]
fn goes_through_a_range_of_time_again() {
    let mut scenario = Scenario::new(minutely(Overlap::Skip));
    // Both ends are a part of it.
    scenario.backfill(START - 3 * MINUTE, START - MINUTE, Overlap::BufferAll);
    let mut ids = Vec::new();
    loop {
        let starts = scenario.starts();
        let Some(start) = starts.first() else { break };
        assert_eq!(starts.len(), 1, "one at a time");
        ids.push(start.0.workflow_id.clone());
        scenario.close(start, completed(""));
    }
    let expected = ["57", "58", "59"].map(|minute| format!("report-2025-12-31T23:{minute}:00Z"));
    assert_eq!(ids, expected);
    assert!(scenario.run().backfills.is_empty());
}

#[test]
fn a_long_backfill_goes_on_as_there_is_room_and_leaves_nothing_out() {
    let mut scenario = Scenario::new(minutely(Overlap::BufferAll));
    scenario.pause("only the backfill");
    scenario.backfill(START - 2000 * MINUTE, START - MINUTE, Overlap::BufferAll);
    let mut count = 0;
    loop {
        scenario.until(scenario.now + 10);
        assert!(scenario.info().info.unwrap().buffer_size <= 500);
        let starts = scenario.starts();
        let Some(start) = starts.first() else { break };
        count += 1;
        scenario.close(start, completed(""));
    }
    assert_eq!(count, 2000);
    scenario.backfill(START - 2000 * MINUTE, START - MINUTE, Overlap::AllowAll);
    scenario.until(scenario.now + 100);
    assert_eq!(scenario.starts().len(), 2000);
}

#[test]
fn an_update_counts_from_then_on() {
    let mut scenario = Scenario::new(minutely(Overlap::AllowAll));
    scenario.until(START + 10 * MINUTE + 500);
    let mut schedule = minutely(Overlap::AllowAll);
    schedule.spec.as_mut().unwrap().interval[0].interval = Some(Duration { seconds: 1, nanos: 0 });
    scenario.update(schedule);
    scenario.until(START + 10 * MINUTE + 2500);
    let ids = scenario.started_ids();
    assert_eq!(ids.len(), 12);
    assert_eq!(ids[10..], ["report-2026-01-01T00:10:01Z", "report-2026-01-01T00:10:02Z"]);
    assert_eq!(scenario.info().info.unwrap().update_time, Some(timestamp(START + 10 * MINUTE + 500)));
}

#[test]
fn an_update_of_what_has_changed_meanwhile_is_refused() {
    let mut scenario = Scenario::new(minutely(Overlap::Skip));
    let seen = scenario.info().conflict_token;
    let update = |conflict_token: bytes::Bytes| {
        let schedule = Some(minutely(Overlap::AllowAll));
        let request = UpdateScheduleRequest { schedule, conflict_token, ..UpdateScheduleRequest::default() };
        Body::UpdateSchedule(UpdateSchedule { request: Some(request) })
    };
    scenario.accept(update(seen.clone()));
    let refused = scenario.decide(update(seen));
    assert!(matches!(refused, Err(Rejection::FailedPrecondition(_))), "{refused:?}");
    scenario.accept(update(bytes::Bytes::new()));
    scenario.accept(update(scenario.info().conflict_token));
}

#[test]
fn memo_and_search_attributes_are_replaced_if_an_update_has_them() {
    let mut scenario = Scenario::new(minutely(Overlap::Skip));
    let payload = Payload { data: "1".into(), ..Payload::default() };
    let memo = Some(Memo { fields: [("owner".to_owned(), payload)].into() });
    let update = |memo| {
        let schedule = Some(minutely(Overlap::Skip));
        let request = UpdateScheduleRequest { schedule, memo, ..UpdateScheduleRequest::default() };
        Body::UpdateSchedule(UpdateSchedule { request: Some(request) })
    };
    scenario.accept(update(memo.clone()));
    assert_eq!(scenario.info().memo, memo);
    scenario.accept(update(None));
    assert_eq!(scenario.info().memo, memo);
    scenario.accept(update(Some(Memo::default())));
    assert_eq!(scenario.info().memo, None);
}

/// As the shell does: a record that is due at the same time as before is not looked at again.
#[test]
fn what_is_left_to_do_is_due_at_another_time_than_what_was_done() {
    let mut schedule = minutely(Overlap::AllowAll);
    schedule.policies.as_mut().unwrap().catchup_window = Some(Duration { seconds: 10, nanos: 0 });
    schedule.spec.as_mut().unwrap().interval[0].interval = Some(Duration { seconds: 1, nanos: 0 });
    let mut scenario = Scenario::new(schedule);
    scenario.now = START + 3_600_000;
    let mut fired = 0;
    while scenario.run().head.due_ms <= scenario.now + 10 {
        let before = scenario.run().head.due_ms;
        scenario.now = scenario.now.max(before);
        scenario.fire().expect("it is due");
        assert_ne!(scenario.run().head.due_ms, before);
        fired += 1;
    }
    assert!(fired >= 4, "{fired}");
    let due_ms = scenario.run().head.due_ms;
    scenario.accept(Body::DeleteSchedule(DeleteSchedule::default()));
    assert_ne!(scenario.run().head.delete_ms, due_ms);
}

#[test]
fn so_many_workflows_that_overlap_are_kept_track_of() {
    let mut scenario = Scenario::new(minutely(Overlap::AllowAll));
    scenario.now = START + 3000 * MINUTE;
    while scenario.run().head.due_ms <= scenario.now + 10 {
        scenario.now = scenario.now.max(scenario.run().head.due_ms);
        scenario.fire().expect("it is due");
        scenario.starts();
    }
    assert_eq!(scenario.info().info.unwrap().action_count, 3000);
    assert_eq!(scenario.run().starts.len(), TRACKED_MAX);
}

#[test]
fn jitter_puts_actions_off_and_loses_none() {
    let mut schedule = minutely(Overlap::AllowAll);
    schedule.spec.as_mut().unwrap().jitter = Some(Duration { seconds: 60, nanos: 0 });
    let mut scenario = Scenario::new(schedule);
    for second in 1..=600 {
        scenario.until(START + second * 1000);
        // Other commands come between an action's time and the one that it was put off to.
        scenario.trigger(Overlap::Skip, "");
        let _ = scenario.started_ids();
    }
    let waiting = scenario.run().spec().next(scenario.run().head.processed_ms).unwrap();
    let nominal = (waiting.nominal_ms - START) / MINUTE;
    let automatic = scenario.info().info.unwrap().action_count - 1;
    assert_eq!(automatic + scenario.info().info.unwrap().overlap_skipped, nominal - 1 + 599);
}

#[test]
fn the_buffer_is_bounded() {
    let mut scenario = Scenario::new(minutely(Overlap::BufferAll));
    scenario.now = START + 3000 * MINUTE;
    while scenario.run().head.due_ms <= scenario.now + 10 {
        scenario.now = scenario.now.max(scenario.run().head.due_ms);
        scenario.fire().unwrap();
    }
    let info = scenario.info().info.unwrap();
    assert!(info.buffer_size <= 1000, "{}", info.buffer_size);
    assert_eq!(info.buffer_size + info.buffer_dropped + 1, 3000);
    // Nothing grows with time.
    assert!(scenario.run().starts.len() <= 1001);
}

#[test]
fn what_it_keeps_does_not_grow_with_time() {
    let mut schedule = minutely(Overlap::BufferAll);
    schedule.spec.as_mut().unwrap().interval[0].interval = Some(Duration { seconds: 1, nanos: 0 });
    let mut scenario = Scenario::new(schedule);
    let mut sizes = Vec::new();
    for second in 1..=20_000 {
        scenario.until(START + second * 1000);
        let starts = scenario.starts();
        assert_eq!(starts.len(), 1);
        scenario.close(&starts[0], completed("a result"));
        if second % 5000 == 1000 {
            let state = scenario.state.as_ref().unwrap();
            sizes.push(state.keys().iter().map(|key| state.encoded_len(key)).sum::<usize>());
        }
    }
    assert!(sizes.iter().all(|size| size.abs_diff(sizes[0]) < 20), "{sizes:?}");
    assert_eq!(scenario.info().info.unwrap().action_count, 20_000);
}

#[test]
fn what_lists_show_is_made_of_its_records() {
    let mut scenario = Scenario::new(minutely(Overlap::AllowAll));
    scenario.until(START + 9 * MINUTE);
    scenario.starts();
    let state = scenario.state.clone().unwrap();
    let mut of_row = state.kind().empty();
    for key in state.kind().row_keys() {
        if let Some(value) = state.encode(key) {
            of_row.restore(key.clone(), value).unwrap();
        }
    }
    assert_eq!(of_row.row(), state.row());
    let row = state.row().unwrap();
    let info = crate::proto::temporal::schedule::v1::ScheduleListInfo::decode(row.info).unwrap();
    assert_eq!((info.recent_actions.len(), info.future_action_times.len()), (5, 5));
    assert_eq!(millis_of(&info.future_action_times[0]), START + 10 * MINUTE);
    assert_eq!(info.workflow_type.unwrap().name, "Report");
}

#[test]
fn matching_times_are_those_within_the_bounds() {
    let scenario = Scenario::new(minutely(Overlap::Skip));
    let times = |from, to| scenario.run().matching_times(&timestamp(from), &timestamp(to), 1000);
    assert_eq!(times(START, START + 3 * MINUTE), [1, 2, 3].map(|minute| timestamp(START + minute * MINUTE)));
    assert_eq!(times(START, START + DAY * 2).len(), 1000);
    assert_eq!(times(START, START), Vec::<Timestamp>::new());
}
