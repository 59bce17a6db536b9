//! How large the state of a run may grow. What one command brings is limited at the edge; this is for what gathers: a memo,
//! failures and heartbeat details of many activities, arguments that are kept for a retry.
//!
//! As Temporal's server does: whatever would make an open run's state larger than the limit is undone, and the run is terminated.

use super::callback;
use super::kinds::Listed;
use super::machine::{Machine, Recorded};
use super::rejection::Rejection;
use super::sub_key::SubKey;
use super::work::{Decision, Loaded, Outcome, Reply, Work};
use crate::proto::commands::Command;
use crate::types::limits;

const REASON: &str = "Workflow mutable state size exceeds limit.";

/// Counts what a decision has changed. Costs as much as what has changed.
pub fn count<M: Machine>(run: &mut M, before: Option<&M>) {
    let before = before.filter(|before| before.header().run_id == run.header().run_id);
    let (mut records, mut size_bytes) =
        before.map_or((0, 0), |before| (before.tally().records, before.tally().size_bytes));
    let mut head_bytes = before.map_or(0, |before| before.tally().head_bytes);
    for key in &run.tally().changed {
        let of_before = match before {
            Some(before) if *key == SubKey::Head => Some(before.tally().head_bytes),
            before => before.and_then(|before| size(before, key)),
        };
        let now = size(run, key);
        if *key == SubKey::Head {
            head_bytes = now.unwrap_or_default();
        }
        if let Some(bytes) = now {
            (records, size_bytes) = (records + 1, size_bytes + bytes);
        }
        if let Some(bytes) = of_before {
            (records, size_bytes) = (records - 1, size_bytes - bytes);
        }
    }
    let tally = run.tally_mut();
    (tally.records, tally.size_bytes, tally.head_bytes) = (records, size_bytes, head_bytes);
}

fn size<M: Machine>(run: &M, key: &SubKey) -> Option<usize> {
    run.record(key).map(|record| key.id_len() + record.encoded_len())
}

/// Lets a decision pass, or puts the end of its entity in its place.
pub fn limit<M: Listed>(
    decision: Decision<M>,
    loaded: &Loaded,
    command: &Command,
    now: i64,
    version: u32,
) -> Result<Outcome, Rejection> {
    let counted = |run: &M| run.tally().size_bytes.saturating_sub(run.uncounted_bytes());
    let too_large = |run: &M| run.header().is_open && counted(run) > limits::STATE_SIZE_MAX;
    if !decision.runs.iter().any(|changed| too_large(&changed.run)) {
        return Ok(decision.outcome());
    }
    let before = loaded.newest.and_then(M::of);
    let refusal = Rejection::InvalidArgument(REASON.into());
    if !before.is_some_and(|run| run.header().is_open) {
        return Err(refusal);
    }
    let mut work = Work::<M>::new(&Loaded::from(loaded.newest), command, now, version);
    M::end_too_large(&mut work, REASON);
    let mut outcome = work.finish(Reply::Done, before).outcome();
    outcome.sends.extend(callback::refused(command, &refusal));
    Ok(Outcome { refusal: Some(refusal), ..outcome })
}
