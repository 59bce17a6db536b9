//! `Notify`: the outcome of something that the workflow requested of another: a child, a signal, a cancellation.

use prost::Message;

use super::{Reply, Work};
use super::{child, external_request};
use crate::engine::rejection::Rejection;
use crate::proto::commands::{InitiatedToken, Notify, notify::Outcome};
use crate::proto::state::ResetFrom;

pub fn decide(work: &mut Work, command: &Notify) -> Result<Reply, Rejection> {
    let token = InitiatedToken::decode(command.token.clone());
    let token = token.map_err(|error| Rejection::InvalidArgument(format!("a token can't be read: {error}")))?;
    // What was under way when the run began again is now the other's.
    let is_shared = |from: &ResetFrom| from.run_id == token.run_id && token.initiated_event_id <= from.last_event_id;
    let is_from_before = work.head().reset_from.iter().any(is_shared);
    let run = work.open_run(if is_from_before { "" } else { &token.run_id })?;
    let outcome = command.outcome.as_ref();
    let outcome = outcome.ok_or_else(|| Rejection::InvalidArgument("the notification carries no outcome".into()))?;
    // What was pending then was requested again, and may be carried out though it was refused before.
    if is_from_before && matches!(outcome, Outcome::Refused(_)) {
        return Err(Rejection::NotFound("the workflow has requested it again since it was reset".into()));
    }
    let child = run.children.get(&token.initiated_event_id);
    let started = child.and_then(|child| child::started_before(child, command.execution.as_ref(), outcome));
    if let Some(started) = started {
        work.record_external(started);
    }
    let run = work.run();
    let resolved = if let Some(child) = run.children.get(&token.initiated_event_id) {
        child::resolved(child, command.execution.clone(), outcome)?
    } else if let Some(request) = run.externals.get(&token.initiated_event_id) {
        external_request::resolved(request, outcome)
    } else {
        return Err(Rejection::NotFound("the workflow waits for no such notification".into()));
    };
    work.record_external(resolved);
    work.schedule_workflow_task();
    Ok(Reply::Done)
}
