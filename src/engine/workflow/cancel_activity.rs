//! `CancelActivity`: a worker carried out a cancellation that was requested.

use super::activity;
use super::history::event;
use super::{Reply, Work};
use crate::engine::rejection::Rejection;
use crate::proto::commands::CancelActivity;
use crate::proto::temporal::enums::v1::EventType;
use crate::proto::temporal::history::v1::{ActivityTaskCanceledEventAttributes, history_event::Attributes};

pub fn decide(work: &mut Work, command: &CancelActivity) -> Result<Reply, Rejection> {
    let pending = activity::started(work, command.activity.as_ref())?;
    if !pending.cancel_requested {
        let message = "the activity can't be canceled: its cancellation was not requested".to_owned();
        return Err(Rejection::InvalidArgument(message));
    }
    activity::close(work, &pending, None, |started_event_id| {
        let attributes = ActivityTaskCanceledEventAttributes {
            details: command.details.clone(),
            latest_cancel_requested_event_id: pending.cancel_requested_event_id,
            scheduled_event_id: pending.scheduled_event_id,
            started_event_id,
            identity: command.identity.clone(),
            ..ActivityTaskCanceledEventAttributes::default()
        };
        event(EventType::ActivityTaskCanceled, Attributes::ActivityTaskCanceledEventAttributes(attributes))
    });
    Ok(Reply::Done)
}
