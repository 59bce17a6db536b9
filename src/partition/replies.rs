//! The outcomes of commands that came from a topic, for the topics: refusals, and answers to requests with a reply topic.

use bytes::Bytes;
use prost::Message as _;

use super::core::Core;
use crate::engine::{Rejection, Reply};
use crate::log::{Appended, Record, Topic};
use crate::metrics;
use crate::proto::commands::{Command, ReplyTo};
use crate::proto::events::{self, Rejected};
use crate::types::time::timestamp;
use crate::wire::avro::{Framing, Published};
use crate::wire::outputs;

/// What is left of a key, or a reason, in an answer: it must fit into a topic with Kafka's default `max.message.bytes`, 1 MiB,
/// or the partition could not commit. Bytes.
const REPLY_TEXT_MAX: usize = 32 * 1024;

impl Core {
    /// A command that came from a topic, or that is poison, leaves a public record of its refusal.
    pub(super) fn note_rejection(&mut self, command: &Command, at: Appended, rejection: &Rejection) {
        if !self.replaying {
            metrics::command_rejected(rejection.code());
        }
        // Seen before, or yet to come in its turn: neither is a refusal.
        if matches!(rejection, Rejection::Duplicate | Rejection::OutOfOrder(_)) {
            return;
        }
        let (code, reason) = (rejection.code(), rejection.message());
        match command.source.as_ref().filter(|source| !source.topic.is_empty()) {
            // With the coordinates that its source names.
            Some(source) => self.reject(Rejected {
                topic: source.topic.clone(),
                partition: source.partition(),
                offset: source.sequence - 1,
                key: source.key.clone(),
                value: source.value.clone(),
                code: code.to_owned(),
                reason,
                time: Some(timestamp(self.position.now_ms)),
            }),
            None if matches!(rejection, Rejection::Poison(_)) => {
                let key = Bytes::copy_from_slice(command.id.as_bytes());
                self.reject_stored(at, key, command.encode_to_vec().into(), code, reason);
            }
            None => {}
        }
    }

    /// The public record of the refusal of what stands at `at` in the commands.
    pub(super) fn reject_stored(&mut self, at: Appended, key: Bytes, value: Bytes, code: &str, reason: String) {
        self.reject(Rejected {
            topic: "commands".into(),
            partition: self.partition as i32,
            offset: at.offset,
            key,
            value,
            code: code.to_owned(),
            reason,
            time: Some(timestamp(self.position.now_ms.max(at.timestamp_ms))),
        });
    }

    fn reject(&mut self, rejected: Rejected) {
        self.commits.pending.touched = true;
        self.commits.pending.rejections.push(rejected);
    }

    /// The answer to a request with a reply topic. A duplicate has been answered before.
    pub(super) fn note_reply(&mut self, command: &Command, outcome: &Result<Reply, Rejection>) {
        let Some(source) = &command.source else { return };
        let Some(to) = &source.reply_to else { return };
        let (mut code, mut reason) = ("OK", String::new());
        let mut answer = events::Reply::default();
        match outcome {
            Ok(Reply::Started { run_id, started, .. }) => {
                (answer.run_id, answer.started) = (run_id.clone(), *started);
            }
            Ok(Reply::Updated { run_id } | Reply::Reset { run_id }) => answer.run_id.clone_from(run_id),
            Ok(Reply::HeartbeatRecorded { cancel_requested, .. }) => answer.cancel_requested = *cancel_requested,
            Ok(_) => {}
            Err(Rejection::Duplicate | Rejection::OutOfOrder(_)) => return,
            Err(rejection) => {
                if let Rejection::AlreadyStarted { run_id, .. } = rejection {
                    answer.run_id.clone_from(run_id);
                }
                (code, reason) = (rejection.code(), rejection.message());
            }
        }
        // The settings may have changed since the request was taken.
        let Some(topic) = self.node.settings.reply_topics.iter().find(|topic| topic.name() == to.topic) else {
            tracing::warn!(topic = to.topic, "an answer is left out, as the settings do not allow its topic any more");
            return;
        };
        let answer = events::Reply {
            code: code.to_owned(),
            reason: reason.chars().take(REPLY_TEXT_MAX / 4).collect(),
            correlation_id: String::from_utf8_lossy(&to.correlation_id).into_owned(),
            topic: source.topic.clone(),
            partition: source.partition(),
            offset: source.sequence - 1,
            time: Some(timestamp(self.position.now_ms)),
            ..answer
        };
        let key = source.key.slice(..source.key.len().min(REPLY_TEXT_MAX));
        let framing = &self.node.settings.framing;
        self.commits.pending.public.push((*topic, reply_record(framing, *topic, &key, to, &answer)));
    }
}

fn reply_record(framing: &Framing, topic: Topic, key: &Bytes, to: &ReplyTo, answer: &events::Reply) -> Record {
    let json = to.json.then(|| events::Reply::codec().wire_to_json(&answer.encode_to_vec()).ok()).flatten();
    let value = match json {
        Some(json) => json.to_string().into(),
        None => outputs::encode_for(framing, topic.name(), answer),
    };
    let content_type: &[u8] = if to.json { b"application/json" } else { b"application/avro" };
    let headers = vec![
        ("content-type".to_owned(), Bytes::copy_from_slice(content_type)),
        ("correlation-id".to_owned(), to.correlation_id.clone()),
    ];
    Record { key: key.clone(), value: Some(value), headers }
}
