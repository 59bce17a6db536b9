use prost::Message as _;

use super::page::TARGETS_MAX;
use super::*;
use crate::engine::kinds::from_records;
use crate::engine::{FOLD_VERSION_MAX, Kind, Outcome as Decided, Send, State, decide};
use crate::proto::batch::{AddBatchPage, StartBatch, StopBatch, TargetToken};
use crate::proto::commands::{Done, FireTimer, Notify, Refused, ResetPoint, notify::Outcome};
use crate::proto::temporal::batch::v1::*;
use crate::proto::temporal::common::v1::{
    Execution, Payload, Payloads, ResetOptions, WorkflowExecution, reset_options,
};
use crate::proto::temporal::enums::v1::{BatchOperationState, BatchOperationType, ResetReapplyType, ResetType};
use crate::proto::temporal::workflowservice::v1::{
    DescribeBatchOperationResponse, StartBatchOperationRequest, StopBatchOperationRequest,
    start_batch_operation_request::Operation,
};

/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600_000;
const PER_INTERVAL: i64 = 300;
const INTERVAL_MS: i64 = 100;

/// A batch, with what it has sent.
struct Scenario {
    state: Option<State>,
    now: i64,
    sent: Vec<Send>,
    /// The most runs that it has known at a time.
    records_max: usize,
}

fn signal() -> Operation {
    Operation::SignalOperation(BatchOperationSignal { signal: "wake".into(), ..BatchOperationSignal::default() })
}

fn start_of(operation: Operation) -> StartBatch {
    let request = StartBatchOperationRequest {
        namespace: "default".into(),
        job_id: "job".into(),
        reason: "a fault".into(),
        visibility_query: "WorkflowType = 'Order'".into(),
        operation: Some(operation),
        ..StartBatchOperationRequest::default()
    };
    StartBatch {
        request: Some(request),
        operation_type: BatchOperationType::SignalWorkflow as i32,
        identity: "operator".into(),
        query: "WorkflowType = 'Order'".into(),
        operations_per_interval: PER_INTERVAL,
        interval_ms: INTERVAL_MS,
    }
}

fn targets(numbers: std::ops::Range<usize>) -> Vec<Target> {
    let target = |number| Target { workflow_id: format!("w{number}"), run_id: format!("r{number}"), reset_event_id: 0 };
    numbers.map(target).collect()
}

fn done() -> Outcome {
    Outcome::Done(Done {})
}

fn refused(code: &str) -> Outcome {
    Outcome::Refused(Refused { code: code.into(), ..Refused::default() })
}

impl Scenario {
    fn new(start: StartBatch) -> Self {
        let mut scenario = Self { state: None, now: START, sent: Vec::new(), records_max: 0 };
        scenario.accept(Body::StartBatch(start));
        scenario
    }

    fn decide(&mut self, body: Body) -> Result<Decided, Rejection> {
        let command = Command {
            kind: Kind::Batch as u32,
            namespace_id: "n".into(),
            namespace: "default".into(),
            id: "job".into(),
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
            self.state = Some(run.run);
            self.records_max = self.records_max.max(self.run().targets.len());
            if self.run().targets.len() < 20 {
                from_records(self.state.as_ref().expect("it was just put there"));
            }
        }
    }

    fn run(&self) -> &Batch {
        let Some(State::Batch(batch)) = &self.state else { panic!("it is a batch: {:?}", self.state) };
        batch
    }

    fn info(&self) -> DescribeBatchOperationResponse {
        self.run().describe().expect("it is there")
    }

    fn page(&self, targets: Vec<Target>, next_page_token: &'static str) -> AddBatchPage {
        let wanted = self.run().wanted_page().expect("it wants a page");
        AddBatchPage {
            run_id: wanted.run_id,
            page: wanted.page,
            targets,
            next_page_token: next_page_token.into(),
            ..AddBatchPage::default()
        }
    }

    fn add(&mut self, targets: Vec<Target>, next_page_token: &'static str) {
        let page = self.page(targets, next_page_token);
        self.accept(Body::AddBatchPage(page));
    }

    fn fire(&mut self) -> Result<Decided, Rejection> {
        let fired = FireTimer { run_id: self.run().head.run_id.clone(), record: SubKey::Head.to_bytes(), due_ms: 0 };
        self.decide(Body::FireTimer(fired))
    }

    /// Goes on to the next moment for which the batch waits.
    fn wait(&mut self) {
        self.now = self.run().head.due_ms;
        assert!(self.now > 0, "it waits for no time");
        let fired = FireTimer { run_id: self.run().head.run_id.clone(), record: SubKey::Head.to_bytes(), due_ms: 0 };
        self.accept(Body::FireTimer(fired));
        assert!(
            !self.run().is_open() || self.run().head.due_ms != self.now,
            "it would be armed for the same time again"
        );
    }

    fn notice(&self, send: &Send, outcome: Outcome) -> Body {
        let token = send.callback.as_ref().expect("it has a callback").token.clone();
        Body::Notify(Notify { token, execution: None, outcome: Some(outcome) })
    }

    /// The first that was sent and not answered yet is answered.
    fn answer(&mut self, outcome: Outcome) {
        let send = self.sent.remove(0);
        let notice = self.notice(&send, outcome);
        self.accept(notice);
    }
}

#[test]
fn the_operation_is_sent_to_each_run_once_and_its_outcomes_are_counted() {
    let mut batch = Scenario::new(start_of(signal()));
    let wanted = batch.run().wanted_page().expect("it wants a page");
    assert_eq!((wanted.page, wanted.token.len()), (0, 0));
    let page = AddBatchPage { total: 4, ..batch.page(targets(0..3), "next") };
    batch.accept(Body::AddBatchPage(page.clone()));
    assert_eq!(batch.decide(Body::AddBatchPage(page)).err(), Some(Rejection::Duplicate));
    assert_eq!(batch.info().total_operation_count, 4);
    let last = batch.page(targets(3..4), "");
    assert_eq!(batch.run().wanted_page().expect("it wants another").token, "next");
    batch.accept(Body::AddBatchPage(AddBatchPage { failed: 1, ..last }));
    assert_eq!(batch.run().wanted_page(), None);
    let to: Vec<_> = batch.sent.iter().map(|send| send.to.id.to_string()).collect();
    assert_eq!(to, ["w0", "w1", "w2", "w3"]);
    let again = batch.notice(&batch.sent[1], done());
    batch.answer(refused("NOT_FOUND"));
    batch.answer(done());
    assert!(matches!(batch.decide(again), Err(Rejection::NotFound(_))), "it is counted once");
    batch.answer(refused("INVALID_ARGUMENT"));
    assert_eq!(batch.info().state, BatchOperationState::Running as i32);
    batch.answer(done());
    let info = batch.info();
    assert_eq!(info.state, BatchOperationState::Completed as i32);
    let counts = (info.total_operation_count, info.complete_operation_count, info.failure_operation_count);
    assert_eq!(counts, (5, 3, 2), "what is not there any more needs nothing");
    assert_eq!((info.identity.as_str(), info.reason.as_str()), ("operator", "a fault"));
    assert!(info.close_time.is_some());
}

#[test]
fn no_more_operations_are_sent_in_an_interval_than_may_be() {
    let mut batch = Scenario::new(start_of(signal()));
    batch.add(targets(0..TARGETS_MAX), "");
    let mut sent = vec![batch.sent.len()];
    while batch.run().pending() > 0 {
        // What is answered meanwhile makes no room in the interval.
        batch.answer(done());
        let before = batch.sent.len();
        let early = batch.now;
        batch.wait();
        assert_eq!(batch.now, early + INTERVAL_MS);
        sent.push(batch.sent.len() - before);
    }
    assert_eq!(sent, [300, 300, 300, 100]);
    assert_eq!(batch.run().head.due_ms, 0, "nothing but notices is waited for");
}

#[test]
fn an_interval_that_begins_late_does_not_delay_the_next() {
    let mut batch = Scenario::new(StartBatch { operations_per_interval: 10, ..start_of(signal()) });
    batch.add(targets(0..TARGETS_MAX), "");
    for (late_ms, next_ms) in [(30, 100), (99, 200), (100, 400)] {
        batch.now = batch.run().head.due_ms + late_ms;
        let fired = batch.fire().expect("it is due");
        let Some(State::Batch(after)) = fired.runs.first().map(|run| &run.run) else { panic!("it goes on") };
        assert_eq!(after.head.due_ms, START + 100 + next_ms, "{late_ms} ms late");
        batch.now = batch.run().head.due_ms;
        batch.wait();
    }
}

#[test]
fn a_large_operation_is_under_way_to_a_few_runs_at_a_time() {
    let large = |bytes: usize| {
        let data = vec![b'a'; bytes].into();
        let input = Payloads { payloads: vec![Payload { data, ..Payload::default() }] };
        Operation::SignalOperation(BatchOperationSignal { input: Some(input), ..BatchOperationSignal::default() })
    };
    for (bytes, expected) in [(100, 300), (1 << 20, 15), (2 << 20, 7)] {
        let mut batch = Scenario::new(start_of(large(bytes)));
        batch.add(targets(0..TARGETS_MAX), "");
        assert_eq!(batch.sent.len(), expected, "{bytes} bytes");
        batch.answer(done());
        let room = usize::from(expected < 300);
        assert_eq!(batch.sent.len(), expected - 1 + room, "what is answered makes room");
    }
}

#[test]
fn a_batch_takes_no_more_than_about_a_page_of_runs() {
    const RUNS: usize = 20 * TARGETS_MAX;
    let mut batch = Scenario::new(StartBatch { operations_per_interval: 1_000_000, ..start_of(signal()) });
    let (mut listed, mut answered) = (0, 0);
    while batch.run().is_open() {
        if batch.run().wanted_page().is_some() {
            let next = listed + TARGETS_MAX;
            batch.add(targets(listed..next), if next < RUNS { "next" } else { "" });
            listed = next;
        }
        assert!(batch.run().in_flight() <= TARGETS_MAX, "so many are under way at a time");
        batch.answer(done());
        answered += 1;
    }
    assert_eq!(answered, RUNS);
    assert!(batch.records_max < 3 * TARGETS_MAX, "{} runs", batch.records_max);
    assert_eq!(batch.run().keys().len(), 2, "nothing of the runs is left");
}

#[test]
fn a_page_that_does_not_come_is_wanted_again() {
    let mut batch = Scenario::new(start_of(signal()));
    let wanted = batch.run().wanted_page();
    batch.now += 100;
    assert!(batch.fire().is_err(), "it is early");
    for _ in 0..3 {
        batch.wait();
        assert_eq!(batch.run().wanted_page(), wanted);
    }
    batch.add(Vec::new(), "");
    assert_eq!(batch.info().state, BatchOperationState::Completed as i32, "a query that finds nothing is a success");
}

#[test]
fn a_batch_is_stopped_and_its_id_is_not_used_again() {
    let stop = |reason: &str| {
        let request = StopBatchOperationRequest {
            reason: reason.into(),
            identity: "another".into(),
            ..StopBatchOperationRequest::default()
        };
        Body::StopBatch(StopBatch { request: Some(request) })
    };
    let mut unknown = Scenario { state: None, now: START, sent: Vec::new(), records_max: 0 };
    let refusal = unknown.decide(stop("a mistake")).err();
    assert_eq!(refusal, Some(Rejection::NotFound("workflow not found for ID: job".into())));
    let mut batch = Scenario::new(start_of(signal()));
    let message = |refusal: Option<Rejection>| refusal.map(|refusal| (refusal.code(), refusal.message()));
    let run_id = batch.run().head.run_id.clone();
    assert_eq!(
        message(batch.decide(Body::StartBatch(start_of(signal()))).err()),
        Some(("ALREADY_EXISTS", format!("Workflow execution is already running. WorkflowId: job, RunId: {run_id}.")))
    );
    batch.add(targets(0..TARGETS_MAX), "next");
    let late = batch.notice(&batch.sent[0], done());
    batch.accept(stop("a mistake"));
    assert_eq!(batch.info().state, BatchOperationState::Failed as i32);
    assert_eq!(batch.run().end.reason, "a mistake");
    assert_eq!(batch.run().keys().len(), 3, "nothing of the runs is left");
    let closed = Some(Rejection::NotFound("workflow execution already completed".into()));
    assert_eq!(batch.decide(late).err(), closed);
    assert_eq!(batch.decide(stop("again")).err(), closed);
    assert!(batch.fire().is_err());
    assert_eq!(
        message(batch.decide(Body::StartBatch(start_of(signal()))).err()),
        Some((
            "ALREADY_EXISTS",
            format!(
                "Workflow execution already finished. WorkflowId: job, RunId: {run_id}. Workflow Id reuse policy: reject duplicate workflow Id."
            )
        ))
    );
}

#[test]
fn a_batch_whose_query_can_t_be_read_fails() {
    let mut batch = Scenario::new(start_of(signal()));
    let page = batch.page(Vec::new(), "");
    batch.accept(Body::AddBatchPage(AddBatchPage { problem: "invalid query".into(), ..page }));
    assert_eq!(batch.info().state, BatchOperationState::Failed as i32);
    assert_eq!(batch.run().end.reason, "invalid query");
}

#[test]
fn executions_that_a_request_names_are_paged() {
    let count = 2 * TARGETS_MAX + 1;
    let mut start = start_of(signal());
    let request = start.request.get_or_insert_default();
    request.visibility_query.clear();
    request.target_executions = (0..count)
        .map(|number| Execution { business_id: format!("w{number}"), run_id: String::new(), ..Execution::default() })
        .collect();
    start.query.clear();
    start.operations_per_interval = 1_000_000;
    let mut batch = Scenario::new(start);
    let mut sizes = Vec::new();
    while batch.run().is_open() {
        if let Some(wanted) = batch.run().wanted_page() {
            let page = wanted.of_executions(TARGETS_MAX);
            sizes.push(page.targets.len());
            batch.accept(Body::AddBatchPage(page));
        }
        if !batch.sent.is_empty() {
            batch.answer(done());
        }
    }
    assert_eq!(sizes, [TARGETS_MAX, TARGETS_MAX, 1]);
    assert_eq!(batch.info().complete_operation_count, count as i64);
    let old = StartBatchOperationRequest {
        executions: vec![WorkflowExecution { workflow_id: "w".into(), run_id: "r".into() }],
        ..StartBatchOperationRequest::default()
    };
    let wanted = WantedPage {
        run_id: String::new(),
        page: 0,
        token: Bytes::new(),
        plan: Arc::new(StartBatch { request: Some(old), ..StartBatch::default() }),
    };
    assert_eq!(
        wanted.of_executions(TARGETS_MAX).targets,
        [Target { workflow_id: "w".into(), run_id: "r".into(), reset_event_id: 0 }]
    );
}

/// What one run is sent.
fn sent_by(operation: Operation) -> Vec<Body> {
    let mut batch = Scenario::new(start_of(operation));
    batch.add(vec![Target { workflow_id: "w".into(), run_id: "r".into(), reset_event_id: 9 }], "");
    let token = TargetToken { run_id: batch.run().head.run_id.clone(), number: 1 };
    let last = batch.sent.last().expect("it has sent something");
    assert_eq!(last.callback.as_ref().map(|callback| &callback.token[..]), Some(&token.encode_to_vec()[..]));
    batch.sent.into_iter().map(|send| send.body).collect()
}

#[test]
fn an_operation_is_the_request_of_a_caller() {
    let run = Some(WorkflowExecution { workflow_id: "w".into(), run_id: "r".into() });
    let identity = || "operator".to_owned();
    let sent =
        sent_by(Operation::TerminationOperation(BatchOperationTermination { details: None, identity: identity() }));
    let [Body::TerminateWorkflow(terminate)] = &sent[..] else { panic!("{sent:?}") };
    let request = terminate.request.as_ref().expect("it has a request");
    assert_eq!((&request.workflow_execution, request.reason.as_str()), (&run, "a fault"));
    let sent = sent_by(Operation::CancellationOperation(BatchOperationCancellation { identity: identity() }));
    let [Body::RequestCancelWorkflow(cancel)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(cancel.request.as_ref().map(|request| &request.workflow_execution), Some(&run));
    let sent = sent_by(Operation::DeletionOperation(BatchOperationDeletion { identity: identity() }));
    let [Body::TerminateWorkflow(_), Body::DeleteRun(delete)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((delete.run_id.as_str(), delete.due), ("r", false));
    let sent = sent_by(signal());
    let [Body::SignalWorkflow(signal)] = &sent[..] else { panic!("{sent:?}") };
    let request = signal.request.as_ref().expect("it has a request");
    assert!(request.signal_name == "wake" && !request.request_id.is_empty());
    let match_all = batch_operation_unpause_activities::Activity::MatchAll(true);
    let sent = sent_by(Operation::UnpauseActivitiesOperation(BatchOperationUnpauseActivities {
        activity: Some(match_all),
        ..BatchOperationUnpauseActivities::default()
    }));
    assert!(
        matches!(&sent[..], [Body::UnpauseActivity(of)] if of.request.as_ref().is_some_and(|r| r.execution == run))
    );
    let sent = sent_by(Operation::ResetActivitiesOperation(BatchOperationResetActivities::default()));
    assert!(matches!(&sent[..], [Body::ResetActivity(of)] if of.request.as_ref().is_some_and(|r| r.execution == run)));
    let sent = sent_by(Operation::UpdateActivityOptionsOperation(BatchOperationUpdateActivityOptions::default()));
    assert!(
        matches!(&sent[..], [Body::UpdateActivityOptions(of)] if of.request.as_ref().is_some_and(|r| r.execution == run))
    );
    let update = BatchOperationUpdateWorkflowExecutionOptions::default();
    let sent = sent_by(Operation::UpdateWorkflowOptionsOperation(update));
    assert!(matches!(&sent[..], [Body::UpdateWorkflowOptions(_)]));
    let sent = sent_by(Operation::DeleteActivitiesOperation(BatchOperationDeleteActivities::default()));
    assert!(matches!(&sent[..], [Body::RejectRequest(_)]), "there is none yet, and the edge refuses it");
}

#[test]
fn a_reset_goes_to_the_point_that_its_options_name() {
    let point = |operation: BatchOperationReset| {
        let sent = sent_by(Operation::ResetOperation(operation));
        let [Body::ResetWorkflow(reset)] = &sent[..] else { panic!("{sent:?}") };
        let request = reset.request.clone().expect("it has a request");
        assert!(!request.request_id.is_empty());
        (reset.point(), request.workflow_task_finish_event_id, request.reset_reapply_type())
    };
    let options = |target| BatchOperationReset {
        options: Some(ResetOptions {
            target: Some(target),
            reset_reapply_type: ResetReapplyType::None as i32,
            ..ResetOptions::default()
        }),
        ..BatchOperationReset::default()
    };
    use reset_options::Target as To;
    let none = ResetReapplyType::None;
    assert_eq!(point(options(To::FirstWorkflowTask(()))), (ResetPoint::FirstWorkflowTask, 0, none));
    assert_eq!(point(options(To::LastWorkflowTask(()))), (ResetPoint::LastWorkflowTask, 0, none));
    assert_eq!(point(options(To::WorkflowTaskId(7))), (ResetPoint::Event, 7, none));
    assert_eq!(point(options(To::BuildId("1.0".into()))), (ResetPoint::Event, 9, none));
    let old = |of_type: ResetType| BatchOperationReset {
        reset_type: of_type as i32,
        reset_reapply_type: ResetReapplyType::Signal as i32,
        ..BatchOperationReset::default()
    };
    let signals = ResetReapplyType::Signal;
    assert_eq!(point(old(ResetType::FirstWorkflowTask)), (ResetPoint::FirstWorkflowTask, 0, signals));
    assert_eq!(point(old(ResetType::LastWorkflowTask)), (ResetPoint::LastWorkflowTask, 0, signals));
}
