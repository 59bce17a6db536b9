//! The commands that workflow code issues, carried out when its workflow task completes. One file per subject.

mod activities;
mod children;
mod closing;
mod externals;
mod properties;
mod timers;

use super::decision::Working;
use crate::proto::temporal::command::v1::{Command, command::Attributes as A};
use crate::proto::temporal::enums::v1::{CommandType, WorkflowTaskFailedCause as Cause};
use crate::types::limits;

/// The completion whose commands are being carried out.
pub struct Completing<'a> {
    /// The event of the completed workflow task.
    pub completed_id: i64,
    pub identity: &'a str,
    pub task_queue: String,
    /// Activities started for the worker that completes.
    pub eager: Vec<i64>,
    /// Something happened that the workflow must hear of: another workflow task follows.
    pub news: bool,
}

/// Why a workflow command can't be carried out. It fails the workflow task.
#[derive(Debug)]
pub struct BadCommand {
    pub cause: Cause,
    message: String,
}

impl BadCommand {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }

    /// The cause in camel case and what is wrong, as Temporal's server words it.
    pub fn text(&self) -> String {
        let name = self.cause.as_str_name().trim_start_matches("WORKFLOW_TASK_FAILED_CAUSE_");
        let camel: String = name.split('_').map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase())).collect();
        if self.message.is_empty() { camel } else { format!("{camel}: {}", self.message) }
    }
}

/// Whether a command ends the run.
pub fn closes(command: &Command) -> bool {
    matches!(
        command.attributes,
        Some(
            A::CompleteWorkflowExecutionCommandAttributes(_)
                | A::FailWorkflowExecutionCommandAttributes(_)
                | A::CancelWorkflowExecutionCommandAttributes(_)
                | A::ContinueAsNewWorkflowExecutionCommandAttributes(_)
        )
    )
}

pub fn carry_out(work: &mut Working, completing: &mut Completing, command: &Command) -> Result<(), BadCommand> {
    let metadata = command.user_metadata.clone();
    match command.attributes.as_ref() {
        Some(A::ScheduleActivityTaskCommandAttributes(a)) => activities::schedule(work, completing, a, metadata),
        Some(A::RequestCancelActivityTaskCommandAttributes(a)) => {
            activities::request_cancel(work, completing, a.scheduled_event_id)
        }
        Some(A::StartTimerCommandAttributes(a)) => timers::start(work, completing, a, metadata),
        Some(A::CancelTimerCommandAttributes(a)) => timers::cancel(work, completing, &a.timer_id),
        Some(A::StartChildWorkflowExecutionCommandAttributes(a)) => children::start(work, completing, a, metadata),
        Some(A::RequestCancelExternalWorkflowExecutionCommandAttributes(a)) => {
            externals::request_cancel(work, completing, a)
        }
        Some(A::SignalExternalWorkflowExecutionCommandAttributes(a)) => externals::signal(work, completing, a),
        Some(A::RecordMarkerCommandAttributes(a)) => properties::record_marker(work, completing, a, metadata),
        Some(A::UpsertWorkflowSearchAttributesCommandAttributes(a)) => {
            properties::upsert_search_attributes(work, completing, a)
        }
        Some(A::ModifyWorkflowPropertiesCommandAttributes(a)) => properties::modify_properties(work, completing, a),
        Some(A::CompleteWorkflowExecutionCommandAttributes(a)) => closing::complete(work, completing, a),
        Some(A::FailWorkflowExecutionCommandAttributes(a)) => closing::fail(work, completing, a),
        Some(A::CancelWorkflowExecutionCommandAttributes(a)) => closing::cancel(work, completing, a),
        Some(A::ContinueAsNewWorkflowExecutionCommandAttributes(a)) => closing::continue_as_new(work, completing, a),
        Some(A::ProtocolMessageCommandAttributes(_)) => Err(BadCommand::new(
            Cause::BadUpdateWorkflowExecutionMessage,
            "workflow updates are not supported by this server",
        )),
        Some(A::ScheduleNexusOperationCommandAttributes(_)) => {
            Err(BadCommand::new(Cause::FeatureDisabled, "Nexus operations are not supported by this server"))
        }
        Some(A::RequestCancelNexusOperationCommandAttributes(_)) => {
            Err(BadCommand::new(Cause::FeatureDisabled, "Nexus operations are not supported by this server"))
        }
        None => Err(BadCommand::new(
            cause_of(command.command_type()),
            format!("a command of type {} carries no attributes", command.command_type().as_str_name()),
        )),
    }
}

/// How a bad command of this type is classed.
fn cause_of(command_type: CommandType) -> Cause {
    match command_type {
        CommandType::ScheduleActivityTask => Cause::BadScheduleActivityAttributes,
        CommandType::RequestCancelActivityTask => Cause::BadRequestCancelActivityAttributes,
        CommandType::StartTimer => Cause::BadStartTimerAttributes,
        CommandType::CancelTimer => Cause::BadCancelTimerAttributes,
        CommandType::CompleteWorkflowExecution => Cause::BadCompleteWorkflowExecutionAttributes,
        CommandType::FailWorkflowExecution => Cause::BadFailWorkflowExecutionAttributes,
        CommandType::CancelWorkflowExecution => Cause::BadCancelWorkflowExecutionAttributes,
        CommandType::ContinueAsNewWorkflowExecution => Cause::BadContinueAsNewAttributes,
        CommandType::StartChildWorkflowExecution => Cause::BadStartChildExecutionAttributes,
        CommandType::SignalExternalWorkflowExecution => Cause::BadSignalWorkflowExecutionAttributes,
        CommandType::RequestCancelExternalWorkflowExecution => {
            Cause::BadRequestCancelExternalWorkflowExecutionAttributes
        }
        CommandType::RecordMarker => Cause::BadRecordMarkerAttributes,
        CommandType::UpsertWorkflowSearchAttributes => Cause::BadSearchAttributes,
        CommandType::ModifyWorkflowProperties => Cause::BadModifyWorkflowPropertiesAttributes,
        CommandType::ProtocolMessage => Cause::BadUpdateWorkflowExecutionMessage,
        CommandType::ScheduleNexusOperation => Cause::BadScheduleNexusOperationAttributes,
        CommandType::RequestCancelNexusOperation => Cause::BadRequestCancelNexusOperationAttributes,
        CommandType::Unspecified => Cause::FeatureDisabled,
    }
}

/// Refuses an id or a name that is missing or too long.
fn check_id(cause: Cause, what: &str, id: &str) -> Result<(), BadCommand> {
    if id.is_empty() {
        return Err(BadCommand::new(cause, format!("{what} is not set on command.")));
    }
    check_length(cause, what, id)
}

fn check_length(cause: Cause, what: &str, id: &str) -> Result<(), BadCommand> {
    if limits::is_too_long(id) {
        return Err(BadCommand::new(
            cause,
            format!("{what} exceeds the limit of {} characters.", limits::ID_LENGTH_MAX),
        ));
    }
    Ok(())
}
