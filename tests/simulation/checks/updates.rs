//! Updates: what their callers are answered is what the histories have, and what a worker returned for one is there once.

use millrace::proto::commands::TaskToken;
use millrace::proto::temporal::common::v1::Payloads;
use millrace::proto::temporal::enums::v1::UpdateWorkflowExecutionLifecycleStage as Stage;
use millrace::proto::temporal::failure::v1::{Failure, failure::FailureInfo};
use millrace::proto::temporal::history::v1::history_event::Attributes as A;
use millrace::proto::temporal::protocol::v1::Message;
use millrace::proto::temporal::update::v1::{Outcome, outcome::Value};
use millrace::proto::temporal::workflowservice::v1::{UpdateWorkflowExecutionRequest, UpdateWorkflowExecutionResponse};
use prost::Message as _;

use super::{Findings, Run, Runs};
use crate::calls::{Answer, Call, Op};
use crate::updates::result;
use crate::world::World;

const ANSWERED: &str = "an update's answer is what its history has";
const RETURNED: &str = "what a worker returns for an update is in the history";
const REJECTED: &str = "an update that is rejected or aborted leaves nothing";

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    for op in &world.journal.ops {
        match (&op.call, &op.outcome) {
            (Call::Update(request), Ok(Answer::Updated(response))) => answered(op, request, response, runs, findings),
            (Call::Update(request), Err(_)) => {
                let accepted = op.attempts == 1 && !accepted_in(runs, request).is_empty();
                findings.expect(REJECTED, !accepted, || format!("{}: {:?}", id(request), op.outcome));
            }
            (Call::CompleteWorkflowTask(request), Ok(_)) => {
                let Ok(token) = TaskToken::decode(&request.task_token[..]) else { continue };
                let Some(run) = runs.get(&token.id, &token.run_id) else { continue };
                for message in request.messages.iter().filter(|message| !is_rejection(message)) {
                    let update_id = &message.protocol_instance_id;
                    let there = if message.id.ends_with("/Acceptance") {
                        accepted(run, update_id).is_some()
                    } else {
                        completed(run, update_id).is_some()
                    };
                    // One that no command names comes after a command that ends the run, and so too late.
                    findings.expect(RETURNED, there || is_closed_by(run, &token), || {
                        format!("{}/{}: {}", run.workflow_id, run.run_id, message.id)
                    });
                }
            }
            _ => {}
        }
    }
}

pub fn is_rejection(message: &Message) -> bool {
    message.id.ends_with("/Rejection")
}

/// Whether the completion of a task has ended the run.
fn is_closed_by(run: &Run, token: &TaskToken) -> bool {
    let by = |attributes: &A| matches!(attributes, A::WorkflowTaskCompletedEventAttributes(a) if a.scheduled_event_id == token.scheduled_event_id);
    let last = run
        .attributes()
        .filter(|(_, attributes)| matches!(attributes, A::WorkflowTaskCompletedEventAttributes(_)))
        .last();
    run.close().is_some() && last.is_some_and(|(_, attributes)| by(attributes))
}

fn id(request: &UpdateWorkflowExecutionRequest) -> &str {
    let meta = request.request.as_ref().and_then(|request| request.meta.as_ref());
    meta.map_or("", |meta| &meta.update_id)
}

fn accepted(run: &Run, update_id: &str) -> Option<i64> {
    run.attributes().find_map(|(id, attributes)| match attributes {
        A::WorkflowExecutionUpdateAcceptedEventAttributes(a) if a.protocol_instance_id == update_id => Some(id),
        _ => None,
    })
}

fn completed<'a>(run: &'a Run, update_id: &str) -> Option<&'a Outcome> {
    run.attributes().find_map(|(_, attributes)| match attributes {
        A::WorkflowExecutionUpdateCompletedEventAttributes(a)
            if a.meta.as_ref().is_some_and(|meta| meta.update_id == update_id) =>
        {
            a.outcome.as_ref()
        }
        _ => None,
    })
}

fn accepted_in<'a>(runs: &'a Runs, request: &UpdateWorkflowExecutionRequest) -> Vec<&'a Run> {
    let workflow_id = &request.workflow_execution.clone().unwrap_or_default().workflow_id;
    runs.of(workflow_id).into_iter().filter(|run| accepted(run, id(request)).is_some()).collect()
}

fn answered(
    op: &Op,
    request: &UpdateWorkflowExecutionRequest,
    response: &UpdateWorkflowExecutionResponse,
    runs: &Runs,
    findings: &mut Findings,
) {
    let target = request.workflow_execution.clone().unwrap_or_default();
    let update_id = id(request);
    let run_id = response.update_ref.clone().unwrap_or_default().workflow_execution.unwrap_or_default().run_id;
    let what = || format!("{}/{run_id}, {update_id}: {:?}", target.workflow_id, op.outcome);
    let pinned = target.run_id.is_empty() || target.run_id == run_id;
    findings.expect("a request to a run reaches that run only", pinned, what);
    let Some(run) = runs.get(&target.workflow_id, &run_id) else { return findings.add(ANSWERED, what()) };
    let wanted = request.wait_policy.as_ref().map_or(Stage::Unspecified, |policy| policy.lifecycle_stage());
    let far_enough = match (wanted, response.stage()) {
        (_, Stage::Unspecified) => false,
        (Stage::Unspecified | Stage::Completed, stage) => stage == Stage::Completed,
        (Stage::Accepted, stage) => stage != Stage::Admitted,
        (Stage::Admitted, _) => true,
    };
    findings.expect(ANSWERED, far_enough, what);
    let outcome = response.outcome.as_ref().and_then(|outcome| outcome.value.as_ref());
    let holds = match (response.stage(), outcome) {
        (Stage::Completed, Some(Value::Success(payloads))) => {
            text(payloads) == result(update_id).as_bytes() && completed(run, update_id) == response.outcome.as_ref()
        }
        (Stage::Completed, Some(Value::Failure(failure))) => match type_of(failure) {
            "AcceptedUpdateCompletedWorkflow" => {
                accepted(run, update_id).is_some() && completed(run, update_id).is_none() && run.close().is_some()
            }
            // By the worker, or by the server for a worker that did not answer.
            _ => op.attempts > 1 || accepted_in(runs, request).is_empty(),
        },
        (Stage::Accepted, None) => accepted(run, update_id).is_some(),
        (Stage::Admitted, None) => true,
        _ => false,
    };
    findings.expect(ANSWERED, holds, what);
}

fn text(payloads: &Payloads) -> &[u8] {
    payloads.payloads.first().map_or(&[], |payload| &payload.data)
}

fn type_of(failure: &Failure) -> &str {
    match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => &info.r#type,
        _ => "",
    }
}
