//! Starting and canceling timers.

use super::check::Check;
use super::{BadCommand, Completing};
use crate::engine::workflow::Work;
use crate::engine::workflow::event::Event;
use crate::engine::workflow::history::fires;
use crate::proto::temporal::command::v1::StartTimerCommandAttributes;
use crate::proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    TimerCanceledEventAttributes, TimerStartedEventAttributes, history_event::Attributes,
};
use crate::types::time;

pub fn start(
    work: &mut Work,
    completing: &Completing,
    command: &StartTimerCommandAttributes,
) -> Result<(), BadCommand> {
    let cause = Cause::BadStartTimerAttributes;
    let check = Check { cause, command: "StartTimerCommand", named: String::new() };
    check.required("TimerId", &command.timer_id)?;
    check.length("TimerId", &command.timer_id)?;
    // No time at all is as good as any: the timer fires at once.
    if let Some(problem) = time::problem(command.start_to_fire_timeout.as_ref()) {
        let id = &command.timer_id;
        let message = format!("An invalid StartToFireTimeout is set on StartTimerCommand: {problem}. TimerId={id}");
        return Err(BadCommand::new(cause, message));
    }
    if work.run().timers.contains_key(&command.timer_id) {
        let what = format!("TimerID: {}", command.timer_id);
        return Err(BadCommand::out_of_order(Cause::StartTimerDuplicateId, "add-timer-started-event", what));
    }
    let attributes = TimerStartedEventAttributes {
        timer_id: command.timer_id.clone(),
        start_to_fire_timeout: command.start_to_fire_timeout.map(time::cut),
        workflow_task_completed_event_id: completing.completed_id,
    };
    work.record(completing.event(EventType::TimerStarted, Attributes::TimerStartedEventAttributes(attributes)));
    Ok(())
}

pub fn cancel(work: &mut Work, completing: &Completing, timer_id: &str) -> Result<(), BadCommand> {
    let cause = Cause::BadCancelTimerAttributes;
    let check = Check { cause, command: "CancelTimerCommand", named: String::new() };
    check.required("TimerId", timer_id)?;
    check.length("TimerId", timer_id)?;
    let started_event_id = match work.run().timers.get(timer_id) {
        Some(timer) => timer.started_event_id,
        None => {
            // It fired while the task ran, and the workflow has not received that: it is canceled after all.
            let fired = work.run().buffered.values().find(|event| fires(event, timer_id));
            let Some(Attributes::TimerFiredEventAttributes(fired)) = fired.and_then(|event| event.attributes.clone())
            else {
                let what = format!("TimerID: {timer_id}");
                return Err(BadCommand::out_of_order(cause, "add-timer-canceled-event", what));
            };
            work.emit(Event::BufferedTimerWithdrawn { timer_id: timer_id.to_owned() });
            fired.started_event_id
        }
    };
    let attributes = TimerCanceledEventAttributes {
        timer_id: timer_id.to_owned(),
        started_event_id,
        workflow_task_completed_event_id: completing.completed_id,
        identity: completing.identity.to_owned(),
    };
    work.record(completing.event(EventType::TimerCanceled, Attributes::TimerCanceledEventAttributes(attributes)));
    Ok(())
}
