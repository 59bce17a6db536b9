//! What workers return for the updates that they are sent.

use millrace::proto::temporal::command::v1::{ProtocolMessageCommandAttributes, command::Attributes as Do};
use millrace::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes as A};
use millrace::proto::temporal::protocol::v1::Message;
use millrace::proto::temporal::update::v1::{Acceptance, Meta, Outcome, Rejection, Request, Response, outcome::Value};
use millrace::proto::temporal::workflowservice::v1::PollWorkflowTaskQueueResponse;
use prost::Message as _;

use crate::workers::{Mind, failure, payloads};

/// What an update comes to: no other has the same.
pub fn result(update_id: &str) -> String {
    format!("result of {update_id}")
}

/// An update is accepted, accepted and completed, rejected or left alone; and one that was accepted before may be completed.
pub fn answers(mind: &Mind, task: &PollWorkflowTaskQueueResponse) -> Vec<Message> {
    let mut answers = Vec::new();
    if mind.finish {
        return answers;
    }
    for message in &task.messages {
        let id = &message.protocol_instance_id;
        let request = message.body.as_ref().and_then(|body| Request::decode(&body.value[..]).ok());
        match mind.rng.below(10) {
            0..=3 => answers.extend([accepted(id, request), completed(id)]),
            4..=5 => answers.push(accepted(id, request)),
            6..=8 => answers.push(rejected(id, request)),
            _ => {}
        }
    }
    let events = task.history.as_ref().map_or(&[][..], |history| &history.events[..]);
    answers.extend(admitted(events).into_iter().map(|id| accepted(&id, None)));
    answers.extend(pending(events).filter(|_| mind.rng.per_mille(500)).map(|id| completed(&id)));
    answers
}

/// The command that names a message, if one has to.
pub fn named(message: &Message) -> Option<Do> {
    let is_rejection = message.body.as_ref().is_some_and(|body| body.type_url.ends_with(".Rejection"));
    let attributes = ProtocolMessageCommandAttributes { message_id: message.id.clone() };
    (!is_rejection).then_some(Do::ProtocolMessageCommandAttributes(attributes))
}

/// The updates whose requests these events have, and not that they were accepted.
fn admitted(events: &[HistoryEvent]) -> Vec<String> {
    let mut admitted = Vec::new();
    for event in events {
        match &event.attributes {
            Some(A::WorkflowExecutionUpdateAdmittedEventAttributes(a)) => {
                admitted.push(a.request.clone().unwrap_or_default().meta.unwrap_or_default().update_id);
            }
            Some(A::WorkflowExecutionUpdateAcceptedEventAttributes(a)) => {
                admitted.retain(|id| *id != a.protocol_instance_id);
            }
            _ => {}
        }
    }
    admitted
}

/// The updates that these events leave accepted and not completed.
fn pending(events: &[HistoryEvent]) -> impl Iterator<Item = String> {
    let completed: Vec<i64> = events
        .iter()
        .filter_map(|event| match &event.attributes {
            Some(A::WorkflowExecutionUpdateCompletedEventAttributes(a)) => Some(a.accepted_event_id),
            _ => None,
        })
        .collect();
    events.iter().filter(move |event| !completed.contains(&event.event_id)).filter_map(|event| {
        match &event.attributes {
            Some(A::WorkflowExecutionUpdateAcceptedEventAttributes(a)) => Some(a.protocol_instance_id.clone()),
            _ => None,
        }
    })
}

fn message(id: &str, what: &str, body: &impl prost::Message) -> Message {
    let type_url = format!("type.googleapis.com/temporal.api.update.v1.{what}");
    Message {
        id: format!("{id}/{what}"),
        protocol_instance_id: id.to_owned(),
        body: Some(prost_types::Any { type_url, value: body.encode_to_vec() }),
        ..Message::default()
    }
}

fn accepted(id: &str, accepted_request: Option<Request>) -> Message {
    let accepted = Acceptance {
        accepted_request_message_id: format!("{id}/request"),
        accepted_request_sequencing_event_id: 1,
        accepted_request,
    };
    message(id, "Acceptance", &accepted)
}

fn rejected(id: &str, rejected_request: Option<Request>) -> Message {
    let failure = Some(failure("Update", false));
    message(id, "Rejection", &Rejection { rejected_request, failure, ..Rejection::default() })
}

fn completed(id: &str) -> Message {
    let meta = Some(Meta { update_id: id.to_owned(), identity: "worker".into() });
    let outcome = Some(Outcome { value: Some(Value::Success(payloads(result(id)))) });
    message(id, "Response", &Response { meta, outcome })
}
