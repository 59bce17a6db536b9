//! How large the state of a run may grow. What one command brings is limited at the edge; this is for what gathers: a memo,
//! failures and heartbeat details of many activities, arguments that are kept for a retry.
//!
//! As Temporal's server does: whatever would make an open run's state larger than the limit is undone, and the run is terminated.

use super::close::Close;
use super::decision::{Outcome, Reply, Working};
use super::rejection::Rejection;
use super::state::{Run, SubKey};
use crate::proto::commands::Command;
use crate::types::limits;

const REASON: &str = "Workflow mutable state size exceeds limit.";

/// Counts what a decision has changed. Costs as much as what has changed.
pub fn count(run: &mut Run, before: Option<&Run>) {
    let before = before.filter(|before| before.head.run_id == run.head.run_id);
    let mut size_bytes = before.map_or(0, |before| before.size_bytes);
    for key in &run.changed {
        size_bytes += size(run, key);
        size_bytes -= before.map_or(0, |before| size(before, key));
    }
    run.size_bytes = size_bytes;
}

fn size(run: &Run, key: &SubKey) -> usize {
    run.record(key).map_or(0, |record| key.id_len() + record.encoded_len())
}

/// Lets an outcome pass, or puts the termination of its workflow in its place.
pub fn limit(
    outcome: Outcome,
    before: Option<&Run>,
    command: &Command,
    now: i64,
    version: u32,
) -> Result<Outcome, Rejection> {
    let too_large = |run: &Run| run.is_open() && run.size_bytes > limits::STATE_SIZE_MAX;
    if !outcome.runs.iter().any(|changed| too_large(&changed.run)) {
        return Ok(outcome);
    }
    let refusal = Rejection::InvalidArgument(REASON.into());
    let mut work = Working::new(before.into(), command, now, version);
    let terminates = before.is_some_and(Run::is_open);
    if terminates {
        work.close(Close::terminated(REASON, None, "history-service"));
    }
    if !super::answer_sender(&mut work, command, &refusal) && !terminates {
        return Err(refusal);
    }
    Ok(Outcome { refusal: Some(refusal), ..work.finish(Reply::Done, before) })
}
