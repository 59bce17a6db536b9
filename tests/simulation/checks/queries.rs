//! A query is answered by the run that was asked, or by one that was the newest, and by its workers once.

use std::collections::BTreeSet;

use millrace::proto::commands::TaskToken;
use prost::Message as _;

use super::{Findings, Runs};
use crate::calls::{Answer, Call, Op};
use crate::world::World;

const RUN: &str = "a query is answered by the run that was asked";
const ONCE: &str = "a query is answered once";

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    for op in &world.journal.ops {
        answered_by(op, world, runs, findings);
    }
    asked_once(world, findings);
}

/// Workers answer a query with the id of the run that they have.
fn answered_by(op: &Op, world: &World, runs: &Runs, findings: &mut Findings) {
    let (Call::Query(request), Ok(Answer::Queried(answer))) = (&op.call, &op.outcome) else { return };
    let asked = request.execution.clone().unwrap_or_default();
    let payloads = answer.query_result.clone().unwrap_or_default().payloads;
    let run_id = payloads.first().map(|payload| String::from_utf8_lossy(&payload.data).into_owned());
    let by = run_id.as_deref().and_then(|run_id| runs.get(&asked.workflow_id, run_id));
    let holds = by.is_some_and(|by| {
        let named = asked.run_id.is_empty() || by.run_id == asked.run_id;
        named && (!asked.run_id.is_empty() || !is_superseded(op, by, world, runs))
    });
    findings.expect(RUN, holds, || format!("{asked:?} at step {}: {run_id:?}", op.invoked));
}

/// Whether another run of its workflow was known to be newer before a call began.
fn is_superseded(op: &Op, run: &super::Run, world: &World, runs: &Runs) -> bool {
    world.journal.ops.iter().filter(|earlier| earlier.completed < op.invoked).any(|earlier| {
        let started = match (&earlier.call, &earlier.outcome) {
            (Call::Start(request), Ok(Answer::Started(started))) => runs.get(&request.workflow_id, &started.run_id),
            _ => None,
        };
        started.is_some_and(|newer| newer.workflow_id == run.workflow_id && newer.offset > run.offset)
    })
}

/// What a worker answered as it completed a workflow task is not asked as a task of its own. An owner of before, which reads
/// that completion in the log only, may ask again: it is not the one that hears the answer.
fn asked_once(world: &World, findings: &mut Findings) {
    let done = || world.journal.ops.iter().filter(|op| op.outcome.is_ok()).map(|op| &op.call);
    let rode = done().flat_map(|call| match call {
        Call::CompleteWorkflowTask(request) => request.query_results.keys().cloned().collect(),
        _ => Vec::new(),
    });
    let rode: BTreeSet<String> = rode.collect();
    for call in done() {
        let Call::AnswerQuery(request) = call else { continue };
        let Ok(token) = TaskToken::decode(&request.task_token[..]) else { continue };
        let id = (token.scheduled_event_id as u64).to_string();
        let what = || format!("{}/{}: query {id}", token.workflow_id, token.run_id);
        findings.expect(ONCE, !rode.contains(&id), what);
    }
}
