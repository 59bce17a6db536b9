//! Reads are never stale: one that began after something was known to have happened shows it, whichever node serves it.

use millrace::proto::commands::TaskToken;
use millrace::proto::temporal::enums::v1::{EventType, WorkflowExecutionStatus as Status};
use millrace::proto::temporal::history::v1::HistoryEvent;
use millrace::proto::temporal::workflowservice::v1::GetWorkflowExecutionHistoryResponse;
use prost::Message as _;
use tonic::Code;

use super::effects::terminated;
use super::runs::status_of;
use super::{Findings, Run, Runs};
use crate::calls::{Answer, Call, Op};
use crate::world::World;

const STALE: &str = "reads are never stale";
const SAME: &str = "what is read is in the log";

/// What is known of a workflow from some step on.
struct Fact<'a> {
    since: u64,
    run: &'a Run,
    /// How long the history is at least, and at most.
    length: i64,
    at_most: i64,
    closed: bool,
}

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    let facts: Vec<_> = world.journal.ops.iter().filter_map(|op| fact(op, runs, oldest)).collect();
    for op in &world.journal.ops {
        let workflow_id = match &op.call {
            Call::Describe(request) => request.execution.clone().unwrap_or_default().workflow_id,
            Call::History(request) => request.execution.clone().unwrap_or_default().workflow_id,
            _ => continue,
        };
        let known = facts.iter().filter(|fact| fact.since < op.invoked && fact.run.workflow_id == workflow_id);
        // What is deleted need not be found.
        if runs.of(&workflow_id).iter().any(|run| run.deleted) {
            continue;
        }
        if let Ok(Answer::History(read)) = &op.outcome
            && let Some(run) = newest(runs_read(runs, &workflow_id, read))
        {
            let differs =
                kept(read).iter().find(|event| run.event(event.event_id).is_some_and(|logged| logged != *event));
            findings.expect(SAME, differs.is_none(), || format!("{workflow_id}/{}: {differs:?}", run.run_id));
        }
        let seen = fact(op, runs, newest);
        for fact in known {
            let what = || {
                let Fact { since, run, length, closed, .. } = fact;
                let outcome = op.outcome.as_ref().map(|_| "").unwrap_or_else(|status| status.message());
                format!(
                    "{workflow_id}: since step {since} {} was known to be at {length}, closed: {closed}; at {} it was at {:?} {outcome}",
                    run.run_id,
                    op.invoked,
                    seen.as_ref().map(|seen| (&seen.run.run_id, seen.length, seen.closed)),
                )
            };
            let holds = match (&seen, &op.outcome) {
                (Some(seen), _) if seen.run.run_id == fact.run.run_id => {
                    seen.at_most >= fact.length && (seen.closed || !fact.closed)
                }
                (Some(seen), _) => seen.run.offset > fact.run.offset,
                (None, Ok(_)) => false,
                (None, Err(status)) => status.code() != Code::NotFound,
            };
            findings.expect(STALE, holds, what);
        }
    }
}

/// The runs that a history may have been read of, the oldest first: its first event is like no other's, but for those of runs that
/// began again.
fn runs_read<'a>(runs: &'a Runs, workflow_id: &str, read: &GetWorkflowExecutionHistoryResponse) -> Vec<&'a Run> {
    let first = read.history.as_ref().and_then(|history| history.events.first());
    let begun: Vec<_> =
        runs.of(workflow_id).into_iter().filter(|run| first.is_some() && run.event(1) == first).collect();
    let has_all = |run: &&&Run| kept(read).iter().all(|event| run.event(event.event_id) == Some(event));
    let whole: Vec<_> = begun.iter().filter(has_all).copied().collect();
    if whole.is_empty() { begun } else { whole }
}

fn oldest(runs: Vec<&Run>) -> Option<&Run> {
    runs.first().copied()
}

fn newest(runs: Vec<&Run>) -> Option<&Run> {
    runs.last().copied()
}

/// What an answered call shows of a workflow. `choose`: of which run a history is taken to be that may be of several.
fn fact<'a>(op: &Op, runs: &'a Runs, choose: fn(Vec<&'a Run>) -> Option<&'a Run>) -> Option<Fact<'a>> {
    let since = op.completed;
    let close_of = |run: &'a Run| run.close().map_or(i64::MAX, |close| close.event_id);
    match (&op.call, op.outcome.as_ref().ok()?) {
        (Call::Describe(_), Answer::Described(described)) => {
            let info = described.workflow_execution_info.as_ref()?;
            let execution = info.execution.as_ref()?;
            let run = runs.get(&execution.workflow_id, &execution.run_id)?;
            let open = [Status::Running as i32, Status::Paused as i32];
            let (length, closed) = (info.history_length, !open.contains(&info.status));
            Some(Fact { since, run, length, at_most: length, closed })
        }
        (Call::History(request), Answer::History(read)) => {
            let run = choose(runs_read(runs, &request.execution.as_ref()?.workflow_id, read))?;
            let (length, at_most) = (kept(read).last()?.event_id, read.history.as_ref()?.events.last()?.event_id);
            Some(Fact { since, run, length, at_most, closed: length >= close_of(run) })
        }
        (Call::Start(request), Answer::Started(started)) => {
            let run = runs.get(&request.workflow_id, &started.run_id)?;
            Some(Fact { since, run, length: 1, at_most: 1, closed: false })
        }
        (Call::Terminate(request), _) => {
            let workflow_id = &request.workflow_execution.as_ref()?.workflow_id;
            let run = *terminated(runs, workflow_id, &request.identity).first()?;
            Some(Fact { since, run, length: close_of(run), at_most: close_of(run), closed: true })
        }
        (Call::CompleteWorkflowTask(request), _) => {
            let token = TaskToken::decode(&request.task_token[..]).ok()?;
            let run = runs.get(&token.id, &token.run_id)?;
            // An attempt after the first leaves nothing if it fails, as it does if a signal came that a closing command ignores.
            // Nor may that which was made for an update.
            let may_leave_nothing = token.attempt > 1 || token.last_update > 0;
            let length = if may_leave_nothing { token.scheduled_event_id - 1 } else { token.started_event_id + 1 };
            // A command may add no event, and another caller close the run right after.
            let closes = run.close().and_then(status_of).is_some_and(|how| !matches!(how, "TERMINATED" | "TIMED_OUT"));
            let closed = closes && length + 1 == close_of(run) && request.commands.len() == 1;
            Some(Fact { since, run, length, at_most: length, closed })
        }
        _ => None,
    }
}

/// What was read of a history, without the events of a workflow task that may close it and stay in it only if the task completes.
fn kept(read: &GetWorkflowExecutionHistoryResponse) -> &[HistoryEvent] {
    let events = read.history.as_ref().map_or(&[][..], |history| &history.events[..]);
    let is = |at: usize, event_type: EventType| events.get(at).is_some_and(|event| event.event_type() == event_type);
    let end = events.len();
    let cut = match end.wrapping_sub(1) {
        last if is(last, EventType::WorkflowTaskScheduled) => last,
        last if is(last, EventType::WorkflowTaskStarted)
            && is(last.wrapping_sub(1), EventType::WorkflowTaskScheduled) =>
        {
            last - 1
        }
        _ => end,
    };
    &events[..cut]
}
