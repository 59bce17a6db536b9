//! Requests reach the runs that they are for, and no others; and a retry finds the outcome.

use millrace::proto::temporal::common::v1::{Payloads, WorkflowExecution};
use millrace::proto::temporal::enums::v1::ParentClosePolicy;
use millrace::proto::temporal::history::v1::history_event::Attributes as A;
use tonic::Code;

use super::{Findings, Run, Runs};
use crate::calls::{Answer, Call, Op};
use crate::world::World;

const REACHED: &str = "a request to a run reaches that run only";
const FOUND: &str = "a request that is sent again finds what became of it";
const CHILDREN: &str = "a parent's close cancels its own children only";
const SEEN: &str = "a workflow that ends itself has seen its signals";

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    for op in &world.journal.ops {
        let Some(request) = Request::of(&op.call) else { continue };
        let of = runs.of(&request.target.workflow_id);
        let reached: Vec<_> = of.iter().filter(|run| request.is_in(run)).collect();
        for run in &reached {
            findings.expect(REACHED, request.is_for(run), || {
                format!("{:?}, first run {:?}: it is in run {}", request.target, request.first_run_id, run.run_id)
            });
        }
        // A request without an id is known by nothing; and if there is a newer run by now, that one is called.
        let newest = of.iter().rfind(|run| !run.deleted);
        // One that was refused before the run began may have had an earlier copy that was on its way until after.
        let findable = reached.iter().any(|run| {
            !run.deleted
                && was_known(world, &run.run_id, op.invoked)
                && (request.pins(run) || newest.is_some_and(|newest| newest.run_id == run.run_id))
        });
        findings.expect(FOUND, !(request.has_id && findable && is_lost(op)), || {
            format!("{:?}: {:?} after {} attempts", request.target, op.outcome, op.attempts)
        });
    }
    for run in runs.0.values() {
        canceled_by_parent(run, runs, findings);
        signals_seen(run, findings);
    }
}

/// Whether a run was returned to a caller before a step.
fn was_known(world: &World, run_id: &str, step: u64) -> bool {
    let returned = |op: &Op| match &op.outcome {
        Ok(Answer::Started(response)) => response.run_id == run_id,
        Ok(Answer::SignaledWithStart(response)) => response.run_id == run_id,
        _ => false,
    };
    world.journal.ops.iter().any(|op| op.completed < step && returned(op))
}

fn is_lost(op: &Op) -> bool {
    op.outcome.as_ref().is_err_and(|status| status.code() == Code::NotFound)
}

/// A request to a run, and how it is known in a history.
struct Request<'a> {
    target: &'a WorkflowExecution,
    first_run_id: &'a str,
    mark: Mark<'a>,
    /// The server knows it when it comes again.
    has_id: bool,
}

enum Mark<'a> {
    Signal(&'a Payloads),
    Cancel(&'a str),
    Terminate(&'a str),
}

impl<'a> Request<'a> {
    fn of(call: &'a Call) -> Option<Self> {
        Some(match call {
            Call::Signal(r) => Self {
                target: r.workflow_execution.as_ref()?,
                first_run_id: "",
                mark: Mark::Signal(r.input.as_ref()?),
                has_id: !r.request_id.is_empty(),
            },
            Call::RequestCancel(r) => Self {
                target: r.workflow_execution.as_ref()?,
                first_run_id: &r.first_execution_run_id,
                mark: Mark::Cancel(&r.identity),
                has_id: true,
            },
            Call::Terminate(r) => Self {
                target: r.workflow_execution.as_ref()?,
                first_run_id: &r.first_execution_run_id,
                mark: Mark::Terminate(&r.identity),
                has_id: false,
            },
            _ => return None,
        })
    }

    /// Whether it has had its effect on this run.
    fn is_in(&self, run: &Run) -> bool {
        run.own().any(|(_, attributes)| match (attributes, &self.mark) {
            (A::WorkflowExecutionSignaledEventAttributes(a), Mark::Signal(input)) => a.input.as_ref() == Some(*input),
            (A::WorkflowExecutionCancelRequestedEventAttributes(a), Mark::Cancel(identity)) => a.identity == *identity,
            (A::WorkflowExecutionTerminatedEventAttributes(a), Mark::Terminate(identity)) => a.identity == *identity,
            _ => false,
        })
    }

    /// Whether it names this run, and not the newest.
    fn pins(&self, run: &Run) -> bool {
        self.first_run_id.is_empty() && self.target.run_id == run.run_id
    }

    fn is_for(&self, run: &Run) -> bool {
        if !self.first_run_id.is_empty() {
            return first_run_id(run) == self.first_run_id;
        }
        self.target.run_id.is_empty() || self.target.run_id == run.run_id
    }
}

fn first_run_id(run: &Run) -> &str {
    match run.attributes().next() {
        Some((_, A::WorkflowExecutionStartedEventAttributes(a))) => &a.first_execution_run_id,
        _ => "",
    }
}

/// A cancellation by the server itself, which no workflow has requested, is that of a parent's close policy.
fn canceled_by_parent(run: &Run, runs: &Runs, findings: &mut Findings) {
    let by_parent = run.attributes().any(|(_, attributes)| {
        matches!(attributes, A::WorkflowExecutionCancelRequestedEventAttributes(a)
            if a.identity == "history-service" && a.external_initiated_event_id == 0)
    });
    if !by_parent {
        return;
    }
    let asks_for_it = |parent: &Run, initiated: i64| {
        let event = parent.event(initiated).and_then(|event| event.attributes.as_ref());
        matches!(event, Some(A::StartChildWorkflowExecutionInitiatedEventAttributes(a))
            if a.parent_close_policy() == ParentClosePolicy::RequestCancel)
    };
    let by_right = match run.attributes().next() {
        Some((_, A::WorkflowExecutionStartedEventAttributes(a))) => {
            let parent = a.parent_workflow_execution.clone().unwrap_or_default();
            runs.get(&parent.workflow_id, &parent.run_id)
                .is_some_and(|parent| parent.close().is_some() && asks_for_it(parent, a.parent_initiated_event_id))
        }
        _ => false,
    };
    findings.expect(CHILDREN, by_right, || format!("{}/{} has no such parent", run.workflow_id, run.run_id));
}

/// A worker saw the history up to its task's start: what comes later leads to another task, not to an end over its head.
fn signals_seen(run: &Run, findings: &mut Findings) {
    let by = match run.close().and_then(|close| close.attributes.as_ref()) {
        Some(A::WorkflowExecutionCompletedEventAttributes(a)) => a.workflow_task_completed_event_id,
        Some(A::WorkflowExecutionFailedEventAttributes(a)) => a.workflow_task_completed_event_id,
        Some(A::WorkflowExecutionCanceledEventAttributes(a)) => a.workflow_task_completed_event_id,
        Some(A::WorkflowExecutionContinuedAsNewEventAttributes(a)) => a.workflow_task_completed_event_id,
        _ => return,
    };
    let started = match run.event(by).and_then(|event| event.attributes.as_ref()) {
        Some(A::WorkflowTaskCompletedEventAttributes(a)) => a.started_event_id,
        _ => return,
    };
    let is_signal = |attributes: &A| matches!(attributes, A::WorkflowExecutionSignaledEventAttributes(_));
    let unseen = run.attributes().find(|(id, attributes)| *id > started && is_signal(attributes));
    findings.expect(SEEN, unseen.is_none(), || {
        format!("{}/{}: event {:?} came after {started}", run.workflow_id, run.run_id, unseen.map(|(id, _)| id))
    });
}
