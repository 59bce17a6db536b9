//! Runs that begin again: from the point that was asked for, once, and with what has come since.

use millrace::proto::temporal::enums::v1::ResetReapplyExcludeType;
use millrace::proto::temporal::history::v1::history_event::Attributes as A;
use millrace::proto::temporal::workflowservice::v1::ResetWorkflowExecutionRequest;

use super::runs::Reset;
use super::{Findings, Run, Runs};
use crate::calls::{Answer, Call, Op};
use crate::world::World;

const ONCE: &str = "an acknowledged reset is one run";
const POINT: &str = "a run that begins again has the history up to the point";
const AGAIN: &str = "a run that begins again has the signals that came after the point";
const PAUSED: &str = "an acknowledged pause is there once";

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    for op in &world.journal.ops {
        match &op.call {
            Call::Reset(request) => reset(op, request, runs, findings),
            Call::Pause(request) => {
                let is = |attributes: &A| matches!(attributes, A::WorkflowExecutionPausedEventAttributes(a) if a.request_id == request.request_id);
                paused(op, &request.workflow_id, is, runs, findings);
            }
            Call::Unpause(request) => {
                let is = |attributes: &A| matches!(attributes, A::WorkflowExecutionUnpausedEventAttributes(a) if a.request_id == request.request_id);
                paused(op, &request.workflow_id, is, runs, findings);
            }
            _ => {}
        }
    }
}

fn paused(op: &Op, workflow_id: &str, is: impl Fn(&A) -> bool, runs: &Runs, findings: &mut Findings) {
    let count = runs.of(workflow_id).into_iter().flat_map(Run::own).filter(|(_, attributes)| is(attributes)).count();
    let holds = count <= op.attempts as usize && (op.outcome.is_err() || count >= 1);
    findings.expect(PAUSED, holds, || format!("{workflow_id}: {count} times after {} attempts", op.attempts));
}

fn reset(op: &Op, request: &ResetWorkflowExecutionRequest, runs: &Runs, findings: &mut Findings) {
    let target = request.workflow_execution.clone().unwrap_or_default();
    let by = |run: &&&Run| run.reset.as_ref().is_some_and(|reset| reset.reason == request.reason);
    let of = runs.of(&target.workflow_id);
    let begun: Vec<_> = of.iter().filter(by).collect();
    // One that is sent again is known while its run is the newest.
    let holds = begun.len() <= op.attempts as usize;
    findings.expect(ONCE, holds, || format!("{target:?}: {} runs after {} attempts", begun.len(), op.attempts));
    if let Ok(Answer::Reset(response)) = &op.outcome {
        let there = begun.iter().any(|run| run.run_id == response.run_id);
        findings.expect(ONCE, there, || format!("{target:?}: {} is not there", response.run_id));
    }
    for run in begun {
        let Some(reset) = &run.reset else { continue };
        let name = || format!("{}/{} of {}", run.workflow_id, run.run_id, reset.base_run_id);
        let named = target.run_id.is_empty() || target.run_id == reset.base_run_id;
        findings.expect(POINT, named, || format!("{}, for {target:?}", name()));
        let last = request.workflow_task_finish_event_id - 1;
        // Of a task that failed there, or was not started, the events are new.
        let at_point = reset.copied >= last && (1..=3).contains(&(reset.failed_event_id - last));
        findings.expect(POINT, at_point, || {
            format!("{}: to event {last}, with {} copied, and {}", name(), reset.copied, reset.failed_event_id)
        });
        if let Some(expected) = signals_since(runs, run, reset, last) {
            let excluded = request.reset_reapply_exclude_types.contains(&(ResetReapplyExcludeType::Signal as i32));
            let expected = if excluded { Vec::new() } else { expected };
            let again: Vec<_> = run.applied_again().filter_map(signal).collect();
            findings.expect(AGAIN, again == expected, || format!("{}: {again:?}, not {expected:?}", name()));
        }
    }
}

fn signal(attributes: &A) -> Option<Vec<u8>> {
    match attributes {
        A::WorkflowExecutionSignaledEventAttributes(a) => Some(a.input.as_ref()?.payloads.first()?.data.to_vec()),
        _ => None,
    }
}

/// The signals of the run that another one goes back to, from the point on, and of those that continued it as new. `None`: what was
/// there at the time is not known, as some of it has been deleted since.
fn signals_since(runs: &Runs, run: &Run, reset: &Reset, last: i64) -> Option<Vec<Vec<u8>>> {
    let mut signals = Vec::new();
    let mut next = Some((reset.base_run_id.clone(), last));
    while let Some((run_id, last)) = next.take() {
        let of = runs.get(&run.workflow_id, &run_id).filter(|of| !of.deleted)?;
        for (id, attributes) in of.attributes().filter(|(id, _)| *id > last) {
            signals.extend(signal(attributes));
            if let A::WorkflowExecutionContinuedAsNewEventAttributes(a) = attributes
                && id == of.events.len() as i64
            {
                next = Some((a.new_execution_run_id.clone(), 0));
            }
        }
    }
    Some(signals)
}
