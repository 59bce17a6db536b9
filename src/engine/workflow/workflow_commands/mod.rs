//! The commands that workflow code issues, carried out when its workflow task completes. One file per subject.

mod activities;
mod check;
mod children;
mod closing;
mod externals;
mod properties;
mod sizes;
mod timers;

use std::collections::BTreeSet;

pub use activities::start_eagerly;
pub use check::{priority_problem, queue as check_queue};
pub use children::start_again as start_child_again;
pub use externals::{send_cancel as cancel_external, send_signal as signal_external};
pub use sizes::search_attributes_problem;

use super::Work;
use super::event::Event;
use super::history::event;
use super::updates::messages::Incoming;
use crate::engine::rejection::Rejection;
use crate::engine::version::UPDATES;
use crate::proto::temporal::command::v1::{Command, ProtocolMessageCommandAttributes, command::Attributes as A};
use crate::proto::temporal::enums::v1::{CommandType, EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes};
use crate::proto::temporal::sdk::v1::{EventGroupMarker, UserMetadata};

/// The completion whose commands are being carried out.
pub struct Completing<'a> {
    /// The event of the completed workflow task.
    pub completed_id: i64,
    pub identity: &'a str,
    pub task_queue: String,
    /// Activities that are to be started for the worker that completes.
    pub eager: Vec<i64>,
    /// The ids of the children that this completion starts.
    pub children: BTreeSet<String>,
    /// How many of the buffered events are cancellations of activities that this completion requested.
    pub canceled_unstarted: usize,
    /// What the command that is being carried out adds to its event.
    pub user_metadata: Option<UserMetadata>,
    pub event_group_markers: Vec<EventGroupMarker>,
}

impl Completing<'_> {
    /// The event of the command that is being carried out.
    pub fn event(&self, event_type: EventType, attributes: Attributes) -> HistoryEvent {
        HistoryEvent {
            user_metadata: self.user_metadata.clone(),
            event_group_markers: self.event_group_markers.clone(),
            ..event(event_type, attributes)
        }
    }

    /// Takes up another command. Before there were updates not all commands' metadata went on to their events.
    fn take_up(&mut self, command: &Command, version: u32) {
        let kept = matches!(
            type_of(command),
            CommandType::ScheduleActivityTask
                | CommandType::StartTimer
                | CommandType::StartChildWorkflowExecution
                | CommandType::RecordMarker
        );
        let all = version >= UPDATES;
        self.user_metadata = command.user_metadata.clone().filter(|_| all || kept);
        self.event_group_markers = if all { command.event_group_markers.clone() } else { Vec::new() };
    }
}

/// Why a workflow command can't be carried out. It fails the workflow task.
#[derive(Debug)]
pub struct BadCommand {
    pub cause: Cause,
    message: String,
    /// The run is terminated too: the worker would do the same again.
    pub terminates: bool,
}

impl BadCommand {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), terminates: false }
    }

    /// Something is over a limit on sizes. Temporal's server terminates the workflow then.
    pub fn too_large(cause: Cause, message: impl Into<String>) -> Self {
        Self { terminates: true, ..Self::new(cause, message) }
    }

    /// A command that does not fit what the run is doing.
    fn out_of_order(cause: Cause, action: &str, what: String) -> Self {
        Self::new(cause, format!("invalid history builder state for action: {action}, {what}"))
    }

    /// The cause in camel case and what is wrong, as Temporal's server words it.
    pub fn text(&self) -> String {
        let camel = camel_case(self.cause.as_str_name().trim_start_matches("WORKFLOW_TASK_FAILED_CAUSE_"));
        if self.message.is_empty() { camel } else { format!("{camel}: {}", self.message) }
    }
}

/// `SCHEDULE_ACTIVITY_TASK` as `ScheduleActivityTask`, which is how Temporal's server prints a value of an enum.
fn camel_case(name: &str) -> String {
    name.split('_').map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase())).collect()
}

/// Refuses commands behind one that ends the run, and those of no known type. Unlike a bad command, such a completion does
/// not fail its task: the worker has not understood its own workflow.
pub fn check_sequence(commands: &[Command]) -> Result<(), Rejection> {
    let name = |command: &Command| camel_case(type_of(command).as_str_name().trim_start_matches("COMMAND_TYPE_"));
    if let Some(unknown) = commands.iter().find(|command| type_of(command) == CommandType::Unspecified) {
        return Err(Rejection::InvalidArgument(format!("unknown command type: {}", name(unknown))));
    }
    let Some(end) = commands.iter().position(closes).filter(|end| end + 1 < commands.len()) else { return Ok(()) };
    let all: Vec<_> = commands.iter().map(name).collect();
    let message =
        format!("invalid command sequence: [{}], command {} must be the last command.", all.join(", "), all[end]);
    Err(Rejection::InvalidArgument(message))
}

/// The type of a command. One that does not name its type has that of its attributes.
fn type_of(command: &Command) -> CommandType {
    match (command.command_type(), &command.attributes) {
        (CommandType::Unspecified, Some(attributes)) => type_of_attributes(attributes),
        (named, _) => named,
    }
}

fn type_of_attributes(attributes: &A) -> CommandType {
    match attributes {
        A::ScheduleActivityTaskCommandAttributes(_) => CommandType::ScheduleActivityTask,
        A::StartTimerCommandAttributes(_) => CommandType::StartTimer,
        A::CompleteWorkflowExecutionCommandAttributes(_) => CommandType::CompleteWorkflowExecution,
        A::FailWorkflowExecutionCommandAttributes(_) => CommandType::FailWorkflowExecution,
        A::RequestCancelActivityTaskCommandAttributes(_) => CommandType::RequestCancelActivityTask,
        A::CancelTimerCommandAttributes(_) => CommandType::CancelTimer,
        A::CancelWorkflowExecutionCommandAttributes(_) => CommandType::CancelWorkflowExecution,
        A::RequestCancelExternalWorkflowExecutionCommandAttributes(_) => {
            CommandType::RequestCancelExternalWorkflowExecution
        }
        A::RecordMarkerCommandAttributes(_) => CommandType::RecordMarker,
        A::ContinueAsNewWorkflowExecutionCommandAttributes(_) => CommandType::ContinueAsNewWorkflowExecution,
        A::StartChildWorkflowExecutionCommandAttributes(_) => CommandType::StartChildWorkflowExecution,
        A::SignalExternalWorkflowExecutionCommandAttributes(_) => CommandType::SignalExternalWorkflowExecution,
        A::UpsertWorkflowSearchAttributesCommandAttributes(_) => CommandType::UpsertWorkflowSearchAttributes,
        A::ProtocolMessageCommandAttributes(_) => CommandType::ProtocolMessage,
        A::ModifyWorkflowPropertiesCommandAttributes(_) => CommandType::ModifyWorkflowProperties,
        A::ScheduleNexusOperationCommandAttributes(_) => CommandType::ScheduleNexusOperation,
        A::RequestCancelNexusOperationCommandAttributes(_) => CommandType::RequestCancelNexusOperation,
    }
}

/// Whether a command ends the run.
pub fn closes(command: &Command) -> bool {
    matches!(
        type_of(command),
        CommandType::CompleteWorkflowExecution
            | CommandType::FailWorkflowExecution
            | CommandType::CancelWorkflowExecution
            | CommandType::ContinueAsNewWorkflowExecution
    )
}

/// Carries out one command. A workflow can't end over events that wait for its task to end, as it has not seen them: a
/// command that closes the run is refused with the cause UnhandledCommand, whatever else the completion contains. The firing
/// of a timer that a command before it cancels does not count.
pub fn carry_out(work: &mut Work, completing: &mut Completing, command: &Command) -> Result<(), BadCommand> {
    if closes(command) {
        if work.run().buffered.len() > completing.canceled_unstarted {
            return Err(BadCommand::new(Cause::UnhandledCommand, ""));
        }
        if completing.canceled_unstarted > 0 {
            work.emit(Event::BufferFlushed);
        }
    }
    completing.take_up(command, work.version);
    match command.attributes.as_ref().filter(|attributes| type_of_attributes(attributes) == type_of(command)) {
        Some(A::ScheduleActivityTaskCommandAttributes(a)) => activities::schedule(work, completing, a),
        Some(A::RequestCancelActivityTaskCommandAttributes(a)) => {
            activities::request_cancel(work, completing, a.scheduled_event_id)
        }
        Some(A::StartTimerCommandAttributes(a)) => timers::start(work, completing, a),
        Some(A::CancelTimerCommandAttributes(a)) => timers::cancel(work, completing, &a.timer_id),
        Some(A::StartChildWorkflowExecutionCommandAttributes(a)) => children::start(work, completing, a),
        Some(A::RequestCancelExternalWorkflowExecutionCommandAttributes(a)) => {
            externals::request_cancel(work, completing, a)
        }
        Some(A::SignalExternalWorkflowExecutionCommandAttributes(a)) => externals::signal(work, completing, a),
        Some(A::RecordMarkerCommandAttributes(a)) => properties::record_marker(work, completing, a),
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
        None => {
            let name = camel_case(type_of(command).as_str_name().trim_start_matches("COMMAND_TYPE_"));
            Err(BadCommand::new(
                cause_of(type_of(command)),
                format!("{name}CommandAttributes is not set on {name}Command."),
            ))
        }
    }
}

/// Carries out the message that a command names.
pub fn receive_named<'a>(
    work: &mut Work,
    incoming: &mut Incoming<'a>,
    command: &ProtocolMessageCommandAttributes,
    completed_id: i64,
) -> Result<(), BadCommand> {
    let cause = Cause::BadUpdateWorkflowExecutionMessage;
    let id = &command.message_id;
    if id.is_empty() {
        return Err(BadCommand::new(cause, "MessageID is not set on ProtocolMessageCommand."));
    }
    let absent = || BadCommand::new(cause, format!("ProtocolMessageCommand referenced absent message ID {id}"));
    let message = incoming.take(id).ok_or_else(absent)?;
    incoming.receive(work, message, completed_id)
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
