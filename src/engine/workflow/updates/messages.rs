//! Messages between a workflow task's worker and the updates of its run, in Temporal's update protocol
//! (`temporal.api.update.v1`): requests go out with the task, and acceptances, rejections and responses come back with its completion.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use prost_types::Any;

use super::{Event, Stage, check_total, is_in_history, is_sent};
use crate::engine::rejection::Rejection;
use crate::engine::workflow::Work;
use crate::engine::workflow::history::event;
use crate::engine::workflow::state::Run;
use crate::engine::workflow::workflow_commands::BadCommand;
use crate::proto::state;
use crate::proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    WorkflowExecutionUpdateAcceptedEventAttributes, WorkflowExecutionUpdateCompletedEventAttributes,
    history_event::Attributes,
};
use crate::proto::temporal::protocol::v1::{Message, message::SequencingId};
use crate::proto::temporal::update::v1::{Acceptance, Rejection as Rejected, Request, Response};
use crate::types::limits;

const PROTOCOL: &str = "temporal.api.update.v1";

/// What the worker of the started workflow task is sent beside its history.
pub fn messages(run: &Run) -> Vec<Message> {
    let Some(task) = run.started_task() else { return Vec::new() };
    let sent = task.updates_after + 1..=task.last_update;
    let is_new = |update: &state::Update| sent.contains(&update.number) && !is_in_history(update);
    let updates = run.updates.unanswered().filter(|(_, update)| is_new(update));
    let message = |(id, request): (&String, &Request)| Message {
        id: request_message_id(id),
        protocol_instance_id: id.clone(),
        sequencing_id: Some(SequencingId::EventId(task.started_event_id - 1)),
        body: Some(Any { type_url: format!("type.googleapis.com/{PROTOCOL}.Request"), value: request.encode_to_vec() }),
    };
    updates.filter_map(|(id, update)| Some((id, update.request.as_ref()?))).map(message).collect()
}

/// The id of the message by which a worker is sent an update.
fn request_message_id(id: &str) -> String {
    format!("{id}/request")
}

/// What a worker returns for an update.
enum Body {
    Acceptance(Acceptance),
    Rejection(Rejected),
    Response(Response),
}

impl Body {
    /// How long it is without a copy of the request that the server has itself. Bytes.
    fn len(&self) -> usize {
        match self {
            Self::Acceptance(acceptance) => Acceptance { accepted_request: None, ..acceptance.clone() }.encoded_len(),
            Self::Rejection(rejection) => Rejected { rejected_request: None, ..rejection.clone() }.encoded_len(),
            Self::Response(response) => response.encoded_len(),
        }
    }

    /// As Temporal's server names the type of the message.
    fn name(&self) -> &'static str {
        match self {
            Self::Acceptance(_) => "*update.Acceptance",
            Self::Rejection(_) => "*update.Rejection",
            Self::Response(_) => "*update.Response",
        }
    }
}

/// The messages of a completion, each to be handled once.
pub struct Incoming<'a> {
    messages: Vec<&'a Message>,
    /// The updates that this completion has rejected.
    rejected: BTreeSet<&'a str>,
}

impl<'a> Incoming<'a> {
    /// Refuses messages of no type. Unlike others that are wrong they do not fail the workflow task, as with Temporal's server.
    pub fn new(messages: &'a [Message]) -> Result<Self, Rejection> {
        for message in messages {
            let invalid = |problem: &str| Rejection::InvalidArgument(problem.into());
            let body = message.body.as_ref().ok_or_else(|| invalid("nil message body"))?;
            match type_of(body) {
                "" => return Err(invalid("no message name specified")),
                name if !name.contains('.') => {
                    return Err(invalid(&format!("failed to extract protocol type: no . found in {name:?}")));
                }
                _ => {}
            }
        }
        Ok(Self { messages: messages.iter().collect(), rejected: BTreeSet::new() })
    }

    /// Takes the message that a command names.
    pub fn take(&mut self, id: &str) -> Option<&'a Message> {
        let at = self.messages.iter().position(|message| message.id == id)?;
        Some(self.messages.remove(at))
    }

    /// Takes those that no command has named, in their order.
    pub fn take_rest(&mut self) -> Vec<&'a Message> {
        std::mem::take(&mut self.messages)
    }

    /// Carries out a message. `completed_id`: the event of the task that brings it.
    pub fn receive(&mut self, work: &mut Work, message: &'a Message, completed_id: i64) -> Result<(), BadCommand> {
        let name = message.body.as_ref().map(type_of).unwrap_or_default();
        let protocol = name.rsplit_once('.').map_or("", |(protocol, _)| protocol);
        if protocol != PROTOCOL {
            return Err(bad(format!("unsupported protocol type {protocol}")));
        }
        let id = &*message.protocol_instance_id;
        let body = decoded(message)?;
        if body.len() > limits::BLOB_SIZE_MAX {
            let message = format!("Message type {name} exceeds size limit.");
            return Err(BadCommand::too_large(Cause::BadUpdateWorkflowExecutionMessage, message));
        }
        let was_rejected = self.rejected.contains(id);
        if work.run().updates.get(id).is_none() && !was_rejected {
            resurrect(work, id, &body)?;
        }
        let stage = work.run().updates.stage(id);
        let is_expected = match body {
            Body::Acceptance(_) | Body::Rejection(_) => stage == Some(Stage::Admitted),
            Body::Response(_) => matches!(stage, Some(Stage::Accepted { .. })),
        };
        if !is_expected {
            let state = if was_rejected { "ProvisionallyCompleted" } else { state_name(work.run(), id, completed_id) };
            let what = format!("received {} message while in state {state}", body.name());
            return Err(bad(format!("invalid state transition attempted for Update {id}: {what}")));
        }
        match body {
            Body::Acceptance(acceptance) => accept(work, id, &acceptance),
            Body::Rejection(rejection) => {
                self.rejected.insert(id);
                work.emit_of_update(id, Event::Rejected(Box::new(rejection.failure.unwrap_or_default())));
                Ok(())
            }
            Body::Response(response) => complete(work, id, response),
        }
    }

    /// Carries out what is left of a completion that ends its run: what is rejected is rejected still, and for the rest it is too
    /// late.
    pub fn receive_at_close(&mut self, work: &mut Work, completed_id: i64) -> Result<(), BadCommand> {
        for message in self.take_rest().into_iter().filter(|message| is_rejection(message)) {
            self.receive(work, message, completed_id)?;
        }
        Ok(())
    }
}

fn type_of(body: &Any) -> &str {
    body.type_url.rsplit('/').next().unwrap_or_default()
}

pub fn is_rejection(message: &Message) -> bool {
    message.body.as_ref().is_some_and(|body| type_of(body).strip_prefix(PROTOCOL) == Some(".Rejection"))
}

fn bad(message: String) -> BadCommand {
    BadCommand::new(Cause::BadUpdateWorkflowExecutionMessage, message)
}

fn decoded(message: &Message) -> Result<Body, BadCommand> {
    let any = message.body.clone().unwrap_or_default();
    let (name, value) = (type_of(&any).to_owned(), Bytes::from(any.value));
    let body = match name.rsplit('.').next().unwrap_or_default() {
        "Acceptance" => Acceptance::decode(value).map(Body::Acceptance),
        "Rejection" => Rejected::decode(value).map(Body::Rejection),
        "Response" => Response::decode(value).map(Body::Response),
        other => return Err(bad(format!("Message type *update.{other} not supported"))),
    };
    body.map_err(|error| bad(format!("unable to unmarshal request: {error}")))
}

/// An update that the run does not have any more was sent to the worker before that: the worker has its request still.
fn resurrect(work: &mut Work, id: &str, body: &Body) -> Result<(), BadCommand> {
    let request = match body {
        Body::Acceptance(acceptance) => acceptance.accepted_request.as_ref(),
        Body::Rejection(rejected) => rejected.rejected_request.as_ref(),
        Body::Response(_) => None,
    };
    let Some(request) = request else {
        return Err(bad(format!(
            "update {id} wasn't found on the server. This is most likely a transient error which will be resolved automatically by \
             retries"
        )));
    };
    check_total(work.run()).map_err(|refusal| bad(refusal.message()))?;
    work.add_update(id, request.clone(), false);
    Ok(())
}

/// The state of an update, as Temporal's server names it.
fn state_name(run: &Run, id: &str, completed_id: i64) -> &'static str {
    match run.updates.stage(id) {
        None => "Created",
        Some(Stage::Admitted) if run.updates.get(id).is_some_and(|update| is_sent(&run.head, update)) => "Sent",
        Some(Stage::Admitted) => "Admitted",
        Some(Stage::Accepted { event_id }) if event_id > completed_id => "ProvisionallyAccepted",
        Some(Stage::Accepted { .. }) => "Accepted",
        Some(Stage::Completed { event_id }) if event_id > completed_id => "ProvisionallyCompleted",
        Some(Stage::Completed { .. }) => "Completed",
    }
}

fn accept(work: &mut Work, id: &str, acceptance: &Acceptance) -> Result<(), BadCommand> {
    let not_set = |field| bad(format!("invalid *update.Acceptance: {field} is not set"));
    if acceptance.accepted_request_sequencing_event_id == 0 {
        return Err(not_set("accepted_request_sequencing_event_id"));
    }
    if acceptance.accepted_request_message_id.is_empty() {
        return Err(not_set("accepted_request_message_id"));
    }
    let update = work.run().updates.get(id).filter(|update| !is_in_history(update));
    let request = update.and_then(|update| update.request.clone());
    let attributes = WorkflowExecutionUpdateAcceptedEventAttributes {
        protocol_instance_id: id.to_owned(),
        accepted_request_message_id: request_message_id(id),
        accepted_request_sequencing_event_id: acceptance.accepted_request_sequencing_event_id,
        accepted_request: request,
    };
    work.record(event(
        EventType::WorkflowExecutionUpdateAccepted,
        Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(attributes),
    ));
    Ok(())
}

fn complete(work: &mut Work, id: &str, response: Response) -> Result<(), BadCommand> {
    let invalid = |what: String| bad(format!("invalid *update.Response: {what}"));
    let not_set = |field| invalid(format!("{field} is not set"));
    let meta = response.meta.as_ref().ok_or_else(|| not_set("meta"))?;
    if meta.update_id.is_empty() {
        return Err(not_set("meta.update_id"));
    }
    if meta.update_id != id {
        return Err(invalid(format!("meta.update_id != {id}")));
    }
    if response.outcome.is_none() {
        return Err(not_set("outcome"));
    }
    let accepted_event_id = work.run().updates.get(id).map_or(0, |update| update.accepted_event_id);
    let attributes = WorkflowExecutionUpdateCompletedEventAttributes {
        meta: response.meta,
        outcome: response.outcome,
        accepted_event_id,
    };
    work.record(event(
        EventType::WorkflowExecutionUpdateCompleted,
        Attributes::WorkflowExecutionUpdateCompletedEventAttributes(attributes),
    ));
    Ok(())
}
