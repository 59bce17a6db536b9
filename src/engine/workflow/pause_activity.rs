//! `PauseActivity`: an operator holds activities back. No attempt begins, and no timeout counts; an attempt that is under way may end.

use super::activity::{self, Selector};
use super::{Reply, Work, pause_info};
use crate::engine::attempts;
use crate::engine::rejection::Rejection;
use crate::proto::commands::PauseActivity;
use crate::proto::state::Pause;
use crate::proto::temporal::workflowservice::v1::pause_activity_request::Activity;

pub fn decide(work: &mut Work, command: &PauseActivity) -> Result<Reply, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let selector = match &request.activity {
        Some(Activity::Id(id)) => Selector::Id(id),
        Some(Activity::Type(name)) => Selector::Type(name),
        None => return Err(activity::without_selector()),
    };
    for pending in activity::selected(work, request.execution.as_ref(), &selector)? {
        let pause = Pause {
            time_ms: work.now,
            identity: request.identity.clone(),
            reason: request.reason.clone(),
            request_id: request.request_id.clone(),
        };
        if let Some(event) = attempts::pause(&pending, pause)? {
            work.attempt(pending.scheduled_event_id, event);
        }
    }
    pause_info::refresh(work);
    Ok(Reply::Done)
}
