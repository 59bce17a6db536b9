//! What a decision means for the public topics.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TOKEN_TEXT;
use bytes::Bytes;
use prost::Message as _;

use super::avro::{self, Framing, Published};
use crate::proto::events::{ActivityTask, Completion, HistoryBatch, Origin, TimerChange};
use crate::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes as A};
use crate::proto::{state, tasks};
use crate::types::time::{duration_ms, timestamp, timestamp_or_none};

/// A public record's bytes: Avro, framed as the settings have it.
pub fn encode<M: Published>(framing: &Framing, record: &M) -> Bytes {
    encode_for(framing, M::TOPIC, record)
}

/// The same for a topic of another name: a reply's.
pub fn encode_for<M: Published>(framing: &Framing, topic: &str, record: &M) -> Bytes {
    // Only a schema that does not fit its own message could fail this, and a test holds each against its message; or a topic
    // without an id, and the server does not start before each has one.
    let record = M::codec().encode_framed(framing, topic, &record.encode_to_vec());
    record.expect("a record of ours is written by its own schema, for a topic that is known")
}

/// Beside a record of `history` that a registry's id frames: the fingerprint of its schema, little-endian. Stores are rebuilt from
/// these records, and from Kafka alone, even without the registry.
const FINGERPRINT: &str = "schema-fingerprint";

/// The headers of a record of `history`.
pub fn history_headers(framing: &Framing) -> Vec<(String, Bytes)> {
    match framing {
        Framing::SingleObject => Vec::new(),
        Framing::Confluent(_) => {
            let fingerprint = HistoryBatch::codec().fingerprint().to_le_bytes();
            vec![(FINGERPRINT.to_owned(), Bytes::copy_from_slice(&fingerprint))]
        }
    }
}

/// Reads a record of `history`, however it was framed when it was written.
pub fn read_history(value: &[u8], headers: &[(String, Bytes)]) -> Result<HistoryBatch, avro::Error> {
    let header = headers.iter().find(|(name, _)| name == FINGERPRINT);
    let fingerprint = header.and_then(|(_, bytes)| Some(u64::from_le_bytes(bytes[..].try_into().ok()?)));
    HistoryBatch::codec().decode_own(value, fingerprint)
}

/// How a run ended, from its close event.
pub fn completion(head: &state::Run, close: &HistoryEvent, partition: u32, offset: i64) -> Completion {
    let (mut result, mut failure) = (Vec::new(), None);
    match &close.attributes {
        Some(A::WorkflowExecutionCompletedEventAttributes(a)) => result = a.result.clone().unwrap_or_default().payloads,
        Some(A::WorkflowExecutionFailedEventAttributes(a)) => failure = a.failure.clone(),
        Some(A::WorkflowExecutionCanceledEventAttributes(a)) => result = a.details.clone().unwrap_or_default().payloads,
        Some(A::WorkflowExecutionTerminatedEventAttributes(a)) => {
            result = a.details.clone().unwrap_or_default().payloads
        }
        _ => {}
    }
    let status = crate::engine::workflow::close_status(close).map_or("", |status| status.as_str_name());
    let parent = head.parent.clone().unwrap_or_default();
    Completion {
        namespace: head.namespace.clone(),
        workflow_id: head.workflow_id.clone(),
        run_id: head.run_id.clone(),
        workflow_type: head.workflow_type.clone(),
        task_queue: head.task_queue.clone(),
        status: status.trim_start_matches("WORKFLOW_EXECUTION_STATUS_").to_owned(),
        start_time: Some(timestamp(head.start_ms)),
        close_time: close.event_time,
        result,
        failure,
        new_run_id: head.new_run_id.clone(),
        attempt: head.attempt,
        history_length: close.event_id,
        origin: Some(Origin { partition: partition as i32, offset }),
        parent_workflow_id: parent.workflow_id,
        parent_run_id: parent.run_id,
    }
}

/// An event's record of a timer; none if it is about something else.
pub fn timer_change(head: &state::Run, event: &HistoryEvent) -> Option<TimerChange> {
    let (timer_id, change, due) = match &event.attributes {
        Some(A::TimerStartedEventAttributes(a)) => {
            let started = event.event_time.as_ref().map_or(0, crate::types::time::millis_of);
            (
                &a.timer_id,
                "STARTED",
                Some(timestamp(started.saturating_add(duration_ms(a.start_to_fire_timeout.as_ref())))),
            )
        }
        Some(A::TimerFiredEventAttributes(a)) => (&a.timer_id, "FIRED", None),
        Some(A::TimerCanceledEventAttributes(a)) => (&a.timer_id, "CANCELED", None),
        _ => return None,
    };
    Some(TimerChange {
        namespace: head.namespace.clone(),
        workflow_id: head.workflow_id.clone(),
        run_id: head.run_id.clone(),
        timer_id: timer_id.clone(),
        change: change.to_owned(),
        time: event.event_time,
        due,
    })
}

/// The bytes of a task's token, from its text on the public topics.
pub fn token_bytes(text: &str) -> Option<Vec<u8>> {
    TOKEN_TEXT.decode(text).ok()
}

/// The task of an activity, for workers that read it from a topic.
pub fn activity_task(task: tasks::ActivityTask, task_queue: String) -> ActivityTask {
    let (token, scheduled) = (task.token.unwrap_or_default(), task.scheduled.unwrap_or_default());
    ActivityTask {
        task_token: TOKEN_TEXT.encode(token.encode_to_vec()),
        namespace: task.namespace,
        task_queue,
        workflow_id: token.id,
        run_id: token.run_id,
        workflow_type: task.workflow_type,
        activity_id: token.activity_id,
        activity_type: scheduled.activity_type.unwrap_or_default().name,
        attempt: token.attempt,
        input: scheduled.input.unwrap_or_default().payloads,
        header: scheduled.header.unwrap_or_default().fields,
        heartbeat_details: task.heartbeat_details.unwrap_or_default().payloads,
        scheduled_time: timestamp_or_none(task.scheduled_ms),
        started_time: timestamp_or_none(token.started_ms),
        schedule_to_close_timeout_ms: duration_ms(scheduled.schedule_to_close_timeout.as_ref()),
        start_to_close_timeout_ms: duration_ms(scheduled.start_to_close_timeout.as_ref()),
        heartbeat_timeout_ms: duration_ms(scheduled.heartbeat_timeout.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_read_back_without_a_registry_however_it_was_framed() {
        let batch = HistoryBatch { workflow_id: "order-1".into(), ..HistoryBatch::default() };
        let confluent = Framing::Confluent([("history".to_owned(), 7)].into());
        for framing in [Framing::SingleObject, confluent] {
            let (value, headers) = (encode(&framing, &batch), history_headers(&framing));
            assert_eq!(read_history(&value, &headers), Ok(batch.clone()), "{framing:?}");
            assert_eq!(headers.is_empty(), framing == Framing::SingleObject);
        }
        let framed = encode(&Framing::Confluent([("history".to_owned(), 7)].into()), &batch);
        assert_eq!(framed[..5], [0, 0, 0, 0, 7]);
        assert_eq!(read_history(&framed, &[]), Err(avro::Error::NeedsRegistry(7)));
    }
}
