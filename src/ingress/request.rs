//! The bytes of a record of `requests`: JSON or Avro, in either framing, and where its answer goes.

use std::sync::Arc;

use crate::log::{Record, Topic};
use crate::partition::Node;
use crate::proto::commands::ReplyTo;
use crate::proto::events::Request;
use crate::registry;
use crate::wire::avro::framing::{self, Writer};
use crate::wire::avro::{self, Published};
use crate::wire::requests_json;

use super::translate::{Refusal, Unread, invalid};

/// The value's content type, `application/json` or `application/avro`; without it, the first bytes decide.
const CONTENT_TYPE: &str = "content-type";
/// The topic that the answer goes to: one that the settings allow.
const REPLY_TOPIC: &str = "reply-topic";
/// Comes back with the answer.
const CORRELATION_ID: &str = "correlation-id";
/// It stands in an answer more than once. Bytes.
const CORRELATION_ID_MAX: usize = 4096;

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    record.headers.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
}

fn is_json(record: &Record) -> Result<bool, Refusal> {
    let Some(named) = header(record, CONTENT_TYPE) else {
        return Ok(!record.value.as_deref().is_some_and(avro::framing::is_framed));
    };
    let named = String::from_utf8_lossy(named).to_ascii_lowercase();
    match (named.contains("json"), named.contains("avro")) {
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        _ => Err(invalid(format!(
            "the header {CONTENT_TYPE} is {named:?}: expected application/json or application/avro"
        ))),
    }
}

pub fn parse(node: &Node, record: &Record) -> Result<Request, Unread> {
    let value = record.value.as_deref().ok_or_else(|| invalid("the record has no value".into()))?;
    if is_json(record)? {
        return Ok(requests_json::parse(value).map_err(|error| invalid(error.to_string()))?);
    }
    let request: Request = match framing::parse(value).map_err(|error| invalid(error.to_string()))? {
        (Writer::Fingerprint(_), _) => avro::decode(value).map_err(|error| invalid(error.to_string()))?,
        (Writer::Id(id), body) => {
            let request = writer(node, id)?.message(Request::TOPIC, body);
            request.map_err(|reason| invalid(format!("by the schema {id} of the registry: {reason}")))?
        }
    };
    requests_json::validate(&request).map_err(|error| invalid(error.to_string()))?;
    Ok(request)
}

/// The schema that an id stands for in the registry of the settings.
pub fn writer(node: &Node, id: u32) -> Result<Arc<registry::Writer>, Unread> {
    let registry = node.settings.registry.as_ref().ok_or_else(|| {
        invalid(format!(
            "the record is framed with the id {id} of a schema registry, and the server knows none: its settings need a \
             [schema_registry] with the url"
        ))
    })?;
    registry.writer(id).map_err(|error| match error {
        error if error.is_final() => Unread::Refused(invalid(error.to_string())),
        error => Unread::NotNow(error),
    })
}

/// The reply topic that the record names; an error if the settings don't allow that topic.
pub fn reply_to(node: &Node, record: &Record) -> Result<Option<ReplyTo>, Refusal> {
    let Some(topic) = header(record, REPLY_TOPIC) else { return Ok(None) };
    let topic = String::from_utf8_lossy(topic).into_owned();
    if !node.settings.reply_topics.iter().any(|allowed| allowed.name() == topic) {
        let allowed: Vec<_> = node.settings.reply_topics.iter().copied().map(Topic::name).collect();
        let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        return Err(invalid(format!(
            "the header {REPLY_TOPIC} is {topic:?}, and the topics that the settings allow are: {allowed}"
        )));
    }
    let correlation_id = header(record, CORRELATION_ID).unwrap_or_default();
    if correlation_id.len() > CORRELATION_ID_MAX {
        let length = correlation_id.len();
        return Err(invalid(format!(
            "the header {CORRELATION_ID} has {length} bytes, and the limit is {CORRELATION_ID_MAX}"
        )));
    }
    let correlation_id = correlation_id.to_vec().into();
    Ok(Some(ReplyTo { topic, correlation_id, json: is_json(record).unwrap_or(true) }))
}
