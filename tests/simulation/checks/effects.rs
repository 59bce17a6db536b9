//! What was acknowledged to callers stands in the log, once; and what workflows sent each other arrived once.

use std::collections::{BTreeMap, BTreeSet};

use millrace::proto::commands::TaskToken;
use millrace::proto::temporal::common::v1::Payloads;
use millrace::proto::temporal::history::v1::history_event::Attributes as A;
use prost::Message as _;

use super::updates::is_rejection;
use super::{Findings, Run, Runs};
use crate::calls::{Answer, Call, Op};
use crate::world::World;

const STARTS: &str = "an acknowledged start is one run";
const SIGNALS: &str = "an acknowledged signal is there once";
const ANSWERS: &str = "an acknowledged answer of a worker is there once";
const SENT: &str = "what a workflow sent arrives once";

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    let mut answered = BTreeSet::new();
    for op in &world.journal.ops {
        match &op.call {
            Call::Start(request) => start(op, &request.workflow_id, &request.request_id, runs, findings),
            Call::SignalWithStart(request) => {
                start(op, &request.workflow_id, &request.request_id, runs, findings);
                signal(op, &request.workflow_id, request.signal_input.as_ref(), true, runs, findings);
            }
            Call::Signal(request) => {
                let execution = request.workflow_execution.clone().unwrap_or_default();
                let named = !request.request_id.is_empty();
                signal(op, &execution.workflow_id, request.input.as_ref(), named, runs, findings);
            }
            Call::Terminate(request) => {
                let execution = request.workflow_execution.clone().unwrap_or_default();
                let ended = terminated(runs, &execution.workflow_id, &request.identity);
                // A retry may end the next run too.
                let holds = ended.len() <= op.attempts as usize && (op.outcome.is_err() || !ended.is_empty());
                findings.expect("an acknowledged termination is there", holds, || {
                    format!("{}: {} runs were ended", execution.workflow_id, ended.len())
                });
            }
            _ => worker(op, runs, findings, &mut answered),
        }
    }
    sent(runs, findings);
}

/// The runs that a termination has ended.
pub fn terminated<'a>(runs: &'a Runs, workflow_id: &str, identity: &str) -> Vec<&'a Run> {
    let by = |attributes: &A| matches!(attributes, A::WorkflowExecutionTerminatedEventAttributes(a) if a.identity == identity);
    let ended = |run: &&Run| run.attributes().any(|(_, attributes)| by(attributes));
    runs.of(workflow_id).into_iter().filter(ended).collect()
}

fn start(op: &Op, workflow_id: &str, request_id: &str, runs: &Runs, findings: &mut Findings) {
    let by = |run: &Run| {
        matches!(run.attributes().next(), Some((_, A::WorkflowExecutionStartedEventAttributes(a)))
            if a.identity == request_id && a.continued_execution_run_id.is_empty() && run.reset.is_none())
    };
    let of = runs.of(workflow_id);
    let begun: Vec<_> = (0..of.len()).filter(|index| by(of[*index])).collect();
    // A retried one is known while its run is the newest.
    let apart = op.attempts > 1 && begun.windows(2).all(|pair| pair[1] > pair[0] + 1 || of[pair[0]].deleted);
    findings.expect(STARTS, begun.len() <= 1 || apart, || format!("{workflow_id}: {} runs", begun.len()));
    let started = match &op.outcome {
        Ok(Answer::Started(started)) => Some((&started.run_id, started.started)),
        Ok(Answer::SignaledWithStart(started)) => Some((&started.run_id, started.started)),
        _ => None,
    };
    if let Some((run_id, started)) = started {
        let there = of.iter().any(|run| run.run_id == *run_id && (!started || by(run) || run.reset.is_some()));
        findings.expect(STARTS, there, || format!("{workflow_id}/{run_id} is not there"));
    }
}

fn text(input: Option<&Payloads>) -> Option<&[u8]> {
    Some(&input?.payloads.first()?.data)
}

/// `named`: it has a request id, by which one that is sent again is known.
fn signal(op: &Op, workflow_id: &str, input: Option<&Payloads>, named: bool, runs: &Runs, findings: &mut Findings) {
    let is = |attributes: &A| matches!(attributes, A::WorkflowExecutionSignaledEventAttributes(a) if text(a.input.as_ref()) == text(input));
    let count = |run: &Run| run.own().filter(|(_, attributes)| is(attributes)).count();
    let received: Vec<usize> = runs.of(workflow_id).into_iter().map(count).collect();
    let total: usize = received.iter().sum();
    let once = if op.attempts == 1 { total <= 1 } else { !named || received.iter().all(|count| *count <= 1) };
    findings.expect(SIGNALS, once && (op.outcome.is_err() || total >= 1), || {
        let input = text(input).unwrap_or_default();
        format!("{workflow_id}: {}: {received:?} after {} attempts", String::from_utf8_lossy(input), op.attempts)
    });
}

/// The run that a task belongs to, if the answer to it was accepted.
fn task_of<'a>(runs: &'a Runs, token: &[u8]) -> Option<(TaskToken, &'a Run)> {
    let token = TaskToken::decode(token).ok()?;
    let run = runs.get(&token.id, &token.run_id)?;
    Some((token, run))
}

fn worker(op: &Op, runs: &Runs, findings: &mut Findings, answered: &mut BTreeSet<Vec<u8>>) {
    if op.outcome.is_err() {
        return;
    }
    type Is = fn(&A, &TaskToken) -> bool;
    let (token, is): (_, Option<Is>) = match &op.call {
        Call::CompleteWorkflowTask(r) => (&r.task_token, Some(completes_task)),
        Call::FailWorkflowTask(r) => (&r.task_token, None),
        Call::CompleteActivity(r) => (&r.task_token, Some(completes_activity)),
        Call::CancelActivity(r) => (&r.task_token, None),
        _ => return,
    };
    findings.expect(ANSWERS, answered.insert(token.to_vec()), || "a second answer to a task was accepted".into());
    let Some((token, run)) = task_of(runs, token) else {
        return findings.add(ANSWERS, "the run of the task is not there");
    };
    let found = run.attributes().filter(|(_, attributes)| is.is_none_or(|is| is(attributes, &token))).count();
    // The task of an update that is rejected may leave no trace.
    let traceless = token.last_update > 0
        && matches!(&op.call, Call::CompleteWorkflowTask(r) if r.commands.is_empty() && r.messages.iter().all(is_rejection));
    findings.expect(ANSWERS, (found >= 1 || traceless) && (is.is_none() || found <= 1), || {
        format!("{}/{}: {found} times, for event {}", run.workflow_id, run.run_id, token.scheduled_event_id)
    });
}

/// A completion that was acknowledged completed its task: one that was refused, as the workflow would have ended over what it
/// had not seen, is not acknowledged, so that the worker does not go on from there.
fn completes_task(attributes: &A, token: &TaskToken) -> bool {
    matches!(attributes, A::WorkflowTaskCompletedEventAttributes(a) if a.scheduled_event_id == token.scheduled_event_id)
}

fn completes_activity(attributes: &A, token: &TaskToken) -> bool {
    matches!(attributes, A::ActivityTaskCompletedEventAttributes(a) if a.scheduled_event_id == token.scheduled_event_id)
}

/// Signals from workflow to workflow: the target has what the sender recorded.
fn sent(runs: &Runs, findings: &mut Findings) {
    let mut received: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (_, attributes) in runs.0.values().flat_map(Run::own) {
        if let A::WorkflowExecutionSignaledEventAttributes(a) = attributes
            && let Some(input) = text(a.input.as_ref())
        {
            *received.entry(input).or_default() += 1;
        }
    }
    for run in runs.0.values() {
        for (id, attributes) in run.attributes() {
            let A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a) = attributes else { continue };
            let Some(input) = text(a.input.as_ref()) else { continue };
            let count = received.get(input).copied().unwrap_or_default();
            let answer = run.attributes().find_map(|(_, attributes)| match attributes {
                A::ExternalWorkflowExecutionSignaledEventAttributes(a) if a.initiated_event_id == id => Some(1),
                A::SignalExternalWorkflowExecutionFailedEventAttributes(a) if a.initiated_event_id == id => Some(0),
                _ => None,
            });
            let open = run.close().is_none();
            let holds = answer.map_or(count <= 1 && !open, |expected| count == expected);
            findings.expect(SENT, holds, || {
                format!("{}/{}, event {id}: {count} times, and the answer is {answer:?}", run.workflow_id, run.run_id)
            });
        }
    }
}
