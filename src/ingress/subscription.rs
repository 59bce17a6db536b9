//! A subscription: records of a topic of the users' own start workflows, or signal them. The records' producers need
//! know nothing of it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Feed;
use super::request;
use super::select::{Selector, Source, Template};
use super::translate::{Refusal, Unread, invalid};
use crate::log::{Stored, Topic};
use crate::partition::Node;
use crate::proto::events::{Request, Signal, SignalWithStart, Start, request::Request as Kind};
use crate::proto::temporal::common::v1::Payload;
use crate::wire::avro::framing::{self, Writer};
use crate::wire::requests_json;

/// As in the settings. The texts may have parts of the record in them (see [`Template`]).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    #[serde(deserialize_with = "topic")]
    topic: Topic,
    #[serde(default)]
    format: Format,
    action: Action,
    /// `default`, if it is not set.
    #[serde(default)]
    namespace: Template,
    workflow_id: Template,
    #[serde(default)]
    workflow_type: Template,
    #[serde(default)]
    task_queue: Template,
    #[serde(default)]
    signal_name: Template,
    /// What a workflow is started with: the value, if it is not set.
    input: Option<Vec<Selector>>,
    /// What comes with a signal: the value, if it is not set.
    signal_input: Option<Vec<Selector>>,
    #[serde(default)]
    id_reuse_policy: String,
    #[serde(default)]
    id_conflict_policy: String,
    /// Milliseconds; 0: none.
    #[serde(default)]
    execution_timeout_ms: i64,
    #[serde(default)]
    run_timeout_ms: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Json,
    /// Avro with the id of its schema in a registry, which is taken for the JSON that it stands for.
    Avro,
    /// Bytes, of which nothing is known.
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Start,
    Signal,
    SignalWithStart,
}

fn topic<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Topic, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.is_empty() {
        return Err(serde::de::Error::custom("topic is empty: name the topic to subscribe to"));
    }
    Ok(Topic::user(&name))
}

impl Subscription {
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// Whether its records can't be read without a schema registry.
    pub fn needs_registry(&self) -> bool {
        self.format == Format::Avro
    }

    /// Names what is missing, or does not fit together.
    pub fn check(&self) -> Result<(), String> {
        let (starts, signals) = (self.action != Action::Signal, self.action != Action::Start);
        let needed = [
            (true, "workflow_id", &self.workflow_id),
            (starts, "workflow_type", &self.workflow_type),
            (starts, "task_queue", &self.task_queue),
            (signals, "signal_name", &self.signal_name),
        ];
        for (needed, name, template) in needed {
            match (needed, template.is_empty()) {
                (true, true) => return Err(self.wrong(&format!("{name} is missing, and its action needs it"))),
                (false, false) => return Err(self.wrong(&format!("{name} is set, and its action has no use for it"))),
                _ => {}
            }
        }
        for (used, name, parts) in [(starts, "input", &self.input), (signals, "signal_input", &self.signal_input)] {
            if !used && parts.is_some() {
                return Err(self.wrong(&format!("{name} is set, and its action has no use for it")));
            }
        }
        let reads_fields =
            [&self.namespace, &self.workflow_id, &self.workflow_type, &self.task_queue, &self.signal_name]
                .into_iter()
                .any(Template::needs_json)
                || [&self.input, &self.signal_input].into_iter().flatten().flatten().any(Selector::needs_json);
        if self.format == Format::Raw && reads_fields {
            return Err(self
                .wrong("it names fields of the value, and a raw value has none: format = \"json\", or \"avro\", has"));
        }
        // The rest is checked as the requests are, with placeholders for the records' values.
        let filled = |template: &Template| if template.is_empty() { String::new() } else { "x".to_owned() };
        requests_json::validate(&self.build(filled, Vec::new(), Vec::new()))
            .map_err(|error| self.wrong(&error.to_string()))
    }

    fn wrong(&self, what: &str) -> String {
        format!("the subscription to {}: {what}", self.topic.name())
    }

    /// The request that a record stands for.
    pub(super) fn request(&self, node: &Node, feed: &Feed, stored: &Stored) -> Result<Request, Unread> {
        let value = stored.record.value.as_deref().ok_or_else(|| invalid("the record has no value".into()))?;
        let decoded: String;
        let json: Option<&RawValue> = match self.format {
            Format::Raw => None,
            Format::Json => {
                let parsed = serde_json::from_slice(value);
                Some(parsed.map_err(|error| invalid(format!("the value is not JSON: {error}")))?)
            }
            Format::Avro => {
                decoded = avro_as_json(node, value)?;
                let parsed = serde_json::from_str(&decoded);
                Some(parsed.map_err(|error| invalid(format!("the value is not to be had as JSON: {error}")))?)
            }
        };
        Ok(self.request_from(feed, stored, json)?)
    }

    fn request_from(&self, feed: &Feed, stored: &Stored, json: Option<&RawValue>) -> Result<Request, Refusal> {
        let from = Source { topic: feed.topic, partition: feed.partition, stored, json };
        let whole = [Selector::Value(Vec::new())];
        let payloads = |parts: &Option<Vec<Selector>>| -> Result<Vec<Payload>, Refusal> {
            let parts = parts.as_deref().unwrap_or(&whole);
            parts.iter().map(|part| part.payload(&from).map_err(invalid)).collect()
        };
        let mut refused = None;
        let filled = |template: &Template| match template.fill(&from) {
            Ok(text) => text,
            Err(reason) => {
                refused.get_or_insert(reason);
                String::new()
            }
        };
        let request = self.build(filled, payloads(&self.input)?, payloads(&self.signal_input)?);
        if let Some(reason) = refused {
            return Err(invalid(reason));
        }
        requests_json::validate(&request).map_err(|error| invalid(error.to_string()))?;
        Ok(request)
    }

    fn build(
        &self,
        mut fill: impl FnMut(&Template) -> String,
        input: Vec<Payload>,
        signal_input: Vec<Payload>,
    ) -> Request {
        let namespace = fill(&self.namespace);
        let workflow_id = fill(&self.workflow_id);
        let signal_name = fill(&self.signal_name);
        let mut start = |namespace, workflow_id| Start {
            namespace,
            workflow_id,
            workflow_type: fill(&self.workflow_type),
            task_queue: fill(&self.task_queue),
            input: input.clone(),
            execution_timeout_ms: self.execution_timeout_ms,
            run_timeout_ms: self.run_timeout_ms,
            id_reuse_policy: self.id_reuse_policy.clone(),
            id_conflict_policy: self.id_conflict_policy.clone(),
            ..Start::default()
        };
        let kind = match self.action {
            Action::Start => Kind::Start(start(namespace, workflow_id)),
            Action::Signal => {
                Kind::Signal(Signal { namespace, workflow_id, signal_name, input: signal_input, ..Signal::default() })
            }
            Action::SignalWithStart => Kind::SignalWithStart(SignalWithStart {
                start: Some(start(namespace, workflow_id)),
                signal_name,
                signal_input,
            }),
        };
        Request { request: Some(kind) }
    }
}

/// A value in Confluent's framing as JSON, by the schema that wrote it.
fn avro_as_json(node: &Node, value: &[u8]) -> Result<String, Unread> {
    let (id, body) = match framing::parse(value) {
        Ok((Writer::Id(id), body)) => (id, body),
        _ => {
            let expected =
                "expected Avro with the id of its schema in a registry: a zero byte, four bytes of id, the body";
            return Err(invalid(format!("the value begins with something else: {expected}")).into());
        }
    };
    let writer = request::writer(node, id)?;
    let json = writer.values().and_then(|values| values.to_json(body).map_err(|error| error.to_string()));
    Ok(json
        .map_err(|reason| invalid(format!("by the schema {id} of the registry, the value can't be read: {reason}")))?)
}
