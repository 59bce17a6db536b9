//! The search attribute `TemporalPauseInfo`: what of a run an operator has paused. The server sets it, and no event has it.

use std::collections::BTreeSet;

use super::Work;
use super::event::Event;
use crate::engine::payload::keyword_list;
use crate::proto::state;
use crate::proto::temporal::common::v1::Payload;

pub const NAME: &str = "TemporalPauseInfo";

/// The attribute's value; none: nothing is paused.
pub fn of(head: &state::Run) -> Option<Payload> {
    (!head.paused.is_empty()).then(|| keyword_list(&head.paused))
}

/// Notes what is paused now. Temporal: an activity that closes while it is paused stays in the attribute until the next change.
pub fn refresh(work: &mut Work) {
    let head = work.head();
    let run = head.pause.iter().flat_map(|pause| {
        let reason = (!pause.reason.is_empty()).then(|| format!("Reason:{}", pause.reason));
        [Some(format!("Workflow:{}", head.workflow_id)), reason]
    });
    let paused = work.run().activities.values().filter(|activity| activity.pause.is_some());
    let types: BTreeSet<_> =
        paused.map(|activity| format!("property:activityType={}", activity.activity_type)).collect();
    let paused: Vec<String> = run.flatten().chain(types).collect();
    if work.head().paused != paused {
        work.emit(Event::PausedChanged { paused });
    }
}
