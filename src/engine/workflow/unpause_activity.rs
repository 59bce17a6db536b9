//! `UnpauseActivity`: activities that an operator has paused go on.

use super::activity::{self, Selector};
use super::{Reply, Work, pause_info};
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::proto::commands::UnpauseActivity;
use crate::proto::temporal::workflowservice::v1::unpause_activity_request::Activity;

pub fn decide(work: &mut Work, command: &UnpauseActivity) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let selector = match &request.activity {
        Some(Activity::Id(id)) => Selector::Id(id),
        Some(Activity::Type(name)) => Selector::Type(name),
        Some(Activity::UnpauseAll(_)) => Selector::All,
        None => return Err(activity::without_selector()),
    };
    for pending in activity::selected(work, request.execution.as_ref(), &selector)? {
        let at_ms = work.at_random_within(request.jitter.as_ref());
        for event in attempts::unpause(&pending, at_ms, request.reset_attempts, request.reset_heartbeat) {
            work.attempt(pending.scheduled_event_id, event);
        }
    }
    pause_info::refresh(work);
    Ok(Reply::Done)
}
