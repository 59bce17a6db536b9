//! `ResetActivity`: an operator lets activities begin anew. An attempt that is under way is asked to end.

use super::activity::{self, Selector};
use super::{Reply, Work, pause_info};
use crate::engine::attempts::{self, Reset};
use crate::engine::rejection::Rejection;
use crate::proto::commands::ResetActivity;
use crate::proto::temporal::workflowservice::v1::reset_activity_request::Activity;

pub fn decide(work: &mut Work, command: &ResetActivity) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let selector = match &request.activity {
        Some(Activity::Id(id)) => Selector::Id(id),
        Some(Activity::Type(name)) => Selector::Type(name),
        Some(Activity::MatchAll(_)) => Selector::All,
        None => return Err(activity::without_selector()),
    };
    for pending in activity::selected(work, request.execution.as_ref(), &selector)? {
        let reset = Reset {
            at_ms: work.at_random_within(request.jitter.as_ref()),
            heartbeat: request.reset_heartbeat,
            keep_paused: request.keep_paused,
            restore_options: request.restore_original_options,
        };
        for event in attempts::reset(&pending, &reset) {
            work.attempt(pending.scheduled_event_id, event);
        }
    }
    pause_info::refresh(work);
    Ok(Reply::Done)
}
