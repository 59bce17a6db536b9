use super::sample::{event, json_payload, typical_batch};
use crate::proto::events::{Completion, HistoryBatch, Rejected};
use crate::proto::temporal::{
    common::v1 as common, enums::v1::EventType, failure::v1::Failure, history::v1 as history,
};
use crate::wire::avro::{self, Published};
use prost_types::{Duration, Timestamp};
use serde_json::json;

fn render<M: Published>(message: &M) -> serde_json::Value {
    M::codec().to_json(&avro::encode(message).unwrap()).unwrap()
}

#[test]
fn events_read_like_a_report() {
    let rendered = render(&typical_batch());
    assert_eq!(rendered["workflow_id"], "order-1");
    assert_eq!(rendered["events"].as_array().unwrap().len(), 3);
    assert_eq!(
        rendered["events"][1],
        json!({
            "event_id": 5,
            "event_time": "2025-10-09T08:53:20.123456789Z",
            "event_type": "EVENT_TYPE_ACTIVITY_TASK_SCHEDULED",
            "task_id": 1_048_581,
            "activity_task_scheduled_event_attributes": {
                "activity_id": "5",
                "activity_type": {"name": "ChargeCard"},
                "task_queue": {"name": "orders", "kind": "TASK_QUEUE_KIND_NORMAL"},
                "input": [{"order": "order-1", "amount": {"value": 1299, "currency": "EUR"}}],
                "start_to_close_timeout": "30s",
                "heartbeat_timeout": "5.500s",
                "workflow_task_completed_event_id": 4,
                "retry_policy": {"initial_interval": "1s", "backoff_coefficient": 2.0, "maximum_attempts": 5},
            },
        })
    );
}

#[test]
fn payloads_show_what_they_hold() {
    let with = |encoding: &'static str, data: &'static [u8]| common::Payload {
        metadata: [("encoding".to_owned(), encoding.into())].into(),
        data: data.into(),
        ..Default::default()
    };
    let mut typed = json_payload("[1]");
    typed.metadata.insert("messageType".to_owned(), "shop.Order".into());
    let completion = Completion {
        result: vec![
            json_payload("{\"a\": 1}"),
            with("binary/null", b""),
            with("binary/plain", b"\x00\xff"),
            with("binary/plain", b"text"),
            typed,
            with("json/plain", b"not json"),
        ],
        failure: Some(Failure {
            message: "out".to_owned(),
            cause: Some(Box::new(Failure { message: "in".to_owned(), ..Default::default() })),
            ..Default::default()
        }),
        start_time: Some(Timestamp { seconds: -1, nanos: 500_000_000 }),
        ..Default::default()
    };
    assert_eq!(
        render(&completion),
        json!({
            "result": [
                {"a": 1},
                null,
                {"metadata": {"encoding": "binary/plain"}, "data": {"base64": "AP8="}},
                {"metadata": {"encoding": "binary/plain"}, "data": "text"},
                {"metadata": {"encoding": "json/plain", "messageType": "shop.Order"}, "data": [1]},
                {"metadata": {"encoding": "json/plain"}, "data": "not json"},
            ],
            "failure": {"message": "out", "cause": {"message": "in"}},
            "start_time": "1969-12-31T23:59:59.500Z",
        })
    );
}

#[test]
fn an_unknown_event_type_is_a_number_and_a_marker_keeps_its_map() {
    let attributes = history::MarkerRecordedEventAttributes {
        marker_name: "Version".to_owned(),
        details: [("change-id".to_owned(), common::Payloads { payloads: vec![json_payload("\"x\"")] })].into(),
        ..Default::default()
    };
    let mut marker = event(
        7,
        EventType::MarkerRecorded,
        history::history_event::Attributes::MarkerRecordedEventAttributes(attributes),
    );
    marker.event_type = 9999;
    let rendered = render(&HistoryBatch { events: vec![marker], ..Default::default() });
    assert_eq!(rendered["events"][0]["event_type"], 9999);
    assert_eq!(rendered["events"][0]["marker_recorded_event_attributes"]["details"], json!({"change-id": ["x"]}));
}

#[test]
fn a_rejected_record_shows_its_bytes_as_text_where_they_are() {
    let rejected = Rejected { key: "order-1".into(), value: "{\"start\"".into(), offset: 12, ..Default::default() };
    assert_eq!(render(&rejected), json!({"key": "order-1", "value": "{\"start\"", "offset": 12}));
    let binary = Rejected { value: vec![0, 1].into(), ..Default::default() };
    assert_eq!(render(&binary), json!({"value": {"base64": "AAE="}}));
}

#[test]
fn durations_keep_their_sign() {
    let timer = |seconds, nanos| {
        let attributes = history::TimerStartedEventAttributes {
            start_to_fire_timeout: Some(Duration { seconds, nanos }),
            ..Default::default()
        };
        let started = event(
            1,
            EventType::TimerStarted,
            history::history_event::Attributes::TimerStartedEventAttributes(attributes),
        );
        let rendered = render(&HistoryBatch { events: vec![started], ..Default::default() });
        rendered["events"][0]["timer_started_event_attributes"]["start_to_fire_timeout"].as_str().unwrap().to_owned()
    };
    assert_eq!(timer(0, -250_000_000), "-0.250s");
    assert_eq!(timer(1, 5), "1.000000005s");
    assert_eq!(timer(315_576_000_000, 0), "315576000000s");
}
