//! A query is answered by the run that it names, or by one that was the newest, and by its workers once.

use std::collections::BTreeSet;

use millrace::proto::commands::TaskToken;
use millrace::proto::temporal::enums::v1::WorkflowExecutionStatus;
use prost::Message as _;

use super::{Findings, Runs};
use crate::calls::{Answer, Call, Op, Task};
use crate::world::World;

const RUN: &str = "a query is answered by the run that was asked";
const ONCE: &str = "a query that was answered is not asked again";

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    for op in &world.journal.ops {
        answered_by(op, world, runs, findings);
    }
    asked_once(world, findings);
}

/// Workers answer a query with the id of the run that they have.
fn answered_by(op: &Op, world: &World, runs: &Runs, findings: &mut Findings) {
    let (Call::Query(request), Ok(Answer::Queried(answer))) = (&op.call, &op.outcome) else { return };
    if answer.query_rejected.is_some_and(|rejected| rejected.status() == WorkflowExecutionStatus::Paused) {
        return;
    }
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
            (Call::Reset(request), Ok(Answer::Reset(again))) => {
                let of = request.workflow_execution.as_ref().map_or("", |of| &of.workflow_id);
                runs.get(of, &again.run_id)
            }
            _ => None,
        };
        started.is_some_and(|newer| newer.workflow_id == run.workflow_id && newer.offset > run.offset)
    })
}

/// What a worker answered as it completed a workflow task is not sent as a task of its own. With several machines it may be: the
/// owner that was called may not know yet that it was replaced, and read in the log alone that the task was completed.
fn asked_once(world: &World, findings: &mut Findings) {
    if world.machines.len() > 1 {
        return;
    }
    let answered: BTreeSet<String> = world
        .journal
        .ops
        .iter()
        .filter(|op| op.outcome.is_ok())
        .flat_map(|op| match &op.call {
            Call::CompleteWorkflowTask(request) => request.query_results.keys().cloned().collect(),
            _ => Vec::new(),
        })
        .collect();
    for (_, task) in &world.journal.handed {
        let Task::Workflow(task) = task else { continue };
        let Ok(token) = TaskToken::decode(&task.task_token[..]) else { continue };
        let id = (token.scheduled_event_id as u64).to_string();
        let again = task.query.is_some() && answered.contains(&id);
        findings.expect(ONCE, !again, || format!("{}/{}: query {id}", token.id, token.run_id));
    }
}
