//! What becomes of starts that wait: the overlap policies.

use super::{Event, Schedule};
use crate::engine::EntityId;
use crate::engine::payload::{datetime, keyword};
use crate::engine::work::Work;
use crate::proto::commands::{RequestCancelWorkflow, StartWorkflow, TerminateWorkflow, command::Body};
use crate::proto::schedule::{Start, StartState, StartToken};
use crate::proto::temporal::common::v1::{SearchAttributes, WorkflowExecution};
use crate::proto::temporal::enums::v1::{
    ScheduleOverlapPolicy as Overlap, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use crate::proto::temporal::schedule::v1::schedule_action::Action;
use crate::proto::temporal::workflow::v1::NewWorkflowExecutionInfo;
use crate::proto::temporal::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};
use prost::Message;

/// What is to be done about the starts that wait.
#[derive(Default)]
struct Pass {
    /// They start, in this order.
    ready: Vec<i64>,
    /// The overlap policy leaves these out.
    skipped: Vec<i64>,
    /// Another has taken the place of these before they were started.
    replaced: Vec<i64>,
    cancels: bool,
    terminates: bool,
}

/// Starts what can start, and leaves out what the overlap policy leaves out.
pub fn go_through(work: &mut Work<Schedule>) {
    loop {
        let pass = Pass::of(work.run());
        for number in pass.skipped {
            work.emit(Event::StartSkipped { number, by_policy: true });
        }
        for number in pass.replaced {
            work.emit(Event::StartSkipped { number, by_policy: false });
        }
        if pass.terminates {
            end_running(work, true);
        } else if pass.cancels {
            end_running(work, false);
        }
        let ready = pass.ready.len();
        let started = pass.ready.into_iter().filter(|number| start(work, *number)).count();
        // One that could not start has left its place to the next.
        if started == ready {
            return;
        }
    }
}

impl Pass {
    fn of(run: &Schedule) -> Self {
        let is_running = run.starts.values().any(|start| start.state() != StartState::Pending);
        let (mut pass, mut overlapping) = (Self::default(), Vec::new());
        let (mut candidate, mut waits) = (None, false);
        for (number, start) in run.starts_in(StartState::Pending) {
            let policy = run.overlap_policy(start.overlap_policy);
            match policy {
                Overlap::AllowAll => overlapping.push(number),
                _ if !is_running && candidate.is_none() => candidate = Some(number),
                Overlap::BufferAll => waits = true,
                Overlap::BufferOne if !waits => waits = true,
                Overlap::CancelOther | Overlap::TerminateOther if is_running => {
                    waits = true;
                    pass.cancels |= policy == Overlap::CancelOther;
                    pass.terminates |= policy == Overlap::TerminateOther;
                }
                Overlap::CancelOther | Overlap::TerminateOther => pass.replaced.extend(candidate.replace(number)),
                Overlap::BufferOne | Overlap::Skip | Overlap::Unspecified => pass.skipped.push(number),
            }
        }
        if !pass.cancels && !pass.terminates {
            pass.ready = overlapping;
            pass.ready.extend(candidate);
        }
        pass
    }
}

/// Starts the workflow of a start that waits, unless it is too late or actions are not taken any more: then it is left out.
fn start(work: &mut Work<Schedule>, number: i64) -> bool {
    let run = work.run();
    let (Some(start), Some(action)) = (run.starts.get(&number).cloned(), run.plan.action.clone()) else { return true };
    if !start.manual && work.now - start.actual_ms > run.catchup_window_ms() {
        work.emit(Event::StartMissed { number });
        return false;
    }
    let (true, Some(Action::StartWorkflow(action))) = (start.manual || run.takes_actions(), action.action) else {
        work.emit(Event::StartSkipped { number, by_policy: false });
        return false;
    };
    let counted = !start.manual && run.state().limited_actions;
    let request = request(run, &start, action);
    let token = StartToken { run_id: run.head.run_id.clone(), number };
    let callback = work.callback_to_this(token.encode_to_vec());
    let namespace = work.namespace.clone();
    let to = EntityId::workflow(&work.entity.namespace_id, &request.workflow_id);
    work.emit(Event::StartRequested { number, counted });
    let body = Body::StartWorkflow(StartWorkflow { request: Some(request), ..StartWorkflow::default() });
    work.send_for(callback, to, &namespace, body);
    true
}

fn request(run: &Schedule, start: &Start, action: NewWorkflowExecutionInfo) -> StartWorkflowExecutionRequest {
    let mut search_attributes = action.search_attributes.unwrap_or_default().indexed_fields;
    let nominal_s = start.nominal_ms.div_euclid(1000);
    search_attributes.insert("TemporalScheduledStartTime".into(), datetime(nominal_s));
    search_attributes.insert("TemporalScheduledById".into(), keyword(&run.head.id));
    let reuse =
        if start.manual { WorkflowIdReusePolicy::AllowDuplicate } else { WorkflowIdReusePolicy::RejectDuplicate };
    // One that may run beside others follows none of them.
    let follows = start.overlap_policy != Overlap::AllowAll as i32;
    let last = &run.last_completion;
    StartWorkflowExecutionRequest {
        namespace: run.head.namespace.clone(),
        workflow_id: start.workflow_id.clone(),
        workflow_type: action.workflow_type,
        task_queue: action.task_queue,
        input: action.input,
        workflow_execution_timeout: action.workflow_execution_timeout,
        workflow_run_timeout: action.workflow_run_timeout,
        workflow_task_timeout: action.workflow_task_timeout,
        identity: run.identity(),
        request_id: start.request_id.clone(),
        workflow_id_reuse_policy: reuse as i32,
        workflow_id_conflict_policy: WorkflowIdConflictPolicy::Fail as i32,
        retry_policy: action.retry_policy,
        memo: action.memo,
        search_attributes: Some(SearchAttributes { indexed_fields: search_attributes }),
        header: action.header,
        continued_failure: last.failure.clone().filter(|_| follows),
        last_completion_result: last.result.clone().filter(|_| follows),
        user_metadata: action.user_metadata,
        priority: action.priority,
        ..StartWorkflowExecutionRequest::default()
    }
}

/// Has all that run canceled or terminated, each once. One that is only just being started is, once its run is known.
fn end_running(work: &mut Work<Schedule>, terminate: bool) {
    let is_meant = |start: &Start| if terminate { !start.terminate_requested } else { !start.cancel_requested };
    let running: Vec<_> = work
        .run()
        .starts_in(StartState::Running)
        .filter(|(_, start)| is_meant(start))
        .map(|(number, start)| (number, start.clone()))
        .collect();
    for (number, start) in running {
        let to = EntityId::workflow(&work.entity.namespace_id, &start.workflow_id);
        let (namespace, identity) = (work.namespace.clone(), work.run().identity());
        // It may have gone on as another run: the first run's id names the chain.
        let execution = Some(WorkflowExecution { workflow_id: start.workflow_id, run_id: String::new() });
        let first_execution_run_id = start.run_id;
        let body = if terminate {
            work.emit(Event::TerminateRequested { number });
            Body::TerminateWorkflow(TerminateWorkflow {
                request: Some(TerminateWorkflowExecutionRequest {
                    namespace: namespace.clone(),
                    workflow_execution: execution,
                    reason: "terminated by schedule overlap policy".into(),
                    identity,
                    first_execution_run_id,
                    ..TerminateWorkflowExecutionRequest::default()
                }),
                ..TerminateWorkflow::default()
            })
        } else {
            work.emit(Event::CancelRequested { number });
            Body::RequestCancelWorkflow(RequestCancelWorkflow {
                request: Some(RequestCancelWorkflowExecutionRequest {
                    namespace: namespace.clone(),
                    workflow_execution: execution,
                    reason: "cancelled by schedule overlap policy".into(),
                    identity,
                    request_id: work.ids.uuid(),
                    first_execution_run_id,
                    ..RequestCancelWorkflowExecutionRequest::default()
                }),
                ..RequestCancelWorkflow::default()
            })
        };
        work.send(to, &namespace, body);
    }
}

impl Schedule {
    fn identity(&self) -> String {
        format!("temporal-scheduler-{}-{}", self.head.namespace, self.head.id)
    }
}
