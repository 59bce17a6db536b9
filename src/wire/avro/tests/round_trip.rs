use super::sample::{Tape, cases, json_payload, schema, typical_batch};
use crate::proto::events::{Completion, HistoryBatch, Rejected, Request, Start, TimerChange, request};
use crate::wire::avro::cursor::{DELIMITED, put_key, put_varint, put_zigzag};
use crate::wire::avro::plan::Plan;
use crate::wire::avro::{self, Codec, Error, Published};
use apache_avro::types::Value;
use proptest::prelude::*;
use prost::Message;
use prost_types::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn tape() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..3000)
}

fn holds<M: Published + PartialEq + std::fmt::Debug>(tape: &[u8]) {
    let plan = Plan::of(M::MESSAGE).unwrap();
    let message = M::decode(Tape::new(tape).message(&plan).as_slice()).unwrap();
    let record = avro::encode(&message).unwrap();
    assert_eq!(avro::decode::<M>(&record).unwrap(), message);
    assert_eq!(
        M::codec().decode_wire(&record).unwrap(),
        message.encode_to_vec(),
        "the bytes are those that prost writes"
    );
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn every_message_survives(tape in tape()) {
        holds::<HistoryBatch>(&tape);
        holds::<Completion>(&tape);
        holds::<TimerChange>(&tape);
        holds::<Rejected>(&tape);
        holds::<Request>(&tape);
    }

    #[test]
    fn every_history_event_survives(tape in tape()) {
        let codec = Codec::of("temporal.api.history.v1.HistoryEvent");
        let wire = Tape::new(&tape).message(&Plan::of("temporal.api.history.v1.HistoryEvent").unwrap());
        let event = crate::proto::temporal::history::v1::HistoryEvent::decode(wire.as_slice()).unwrap();
        let record = codec.encode(&event).unwrap();
        prop_assert_eq!(codec.decode::<crate::proto::temporal::history::v1::HistoryEvent>(&record).unwrap(), event);
    }

    /// Failures and responses of all kinds of numbers, maps of floats, maps with numbers as keys, wrappers, `Any`.
    #[test]
    fn messages_of_the_rest_of_the_api_survive(tape in tape()) {
        for name in [
            "temporal.api.workflowservice.v1.DescribeTaskQueueResponse",
            "temporal.api.taskqueue.v1.TaskQueueVersionInfo",
            "temporal.api.taskqueue.v1.TaskQueueConfig",
            "temporal.api.protocol.v1.Message",
            "temporal.api.failure.v1.Failure",
        ] {
            let codec = Codec::of(name);
            let wire = Tape::new(&tape).message(&Plan::of(name).unwrap());
            let record = codec.encode_wire(&wire).unwrap();
            let again = codec.encode_wire(&codec.decode_wire(&record).unwrap()).unwrap();
            prop_assert_eq!(again, record);
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn another_implementation_reads_and_writes_the_same(tape in tape()) {
        another_implementation_agrees::<HistoryBatch>(&tape);
        another_implementation_agrees::<Completion>(&tape);
        another_implementation_agrees::<Request>(&tape);
    }
}

fn another_implementation_agrees<M: Published + PartialEq + std::fmt::Debug>(tape: &[u8]) {
    let message = M::decode(Tape::new(tape).message(&Plan::of(M::MESSAGE).unwrap()).as_slice()).unwrap();
    let record = avro::encode(&message).unwrap();
    let schema = schema_of::<M>();
    let value = apache_avro::from_avro_datum(&schema, &mut &record[10..], None).unwrap();
    let body = apache_avro::to_avro_datum(&schema, value).unwrap();
    let theirs = [&record[..10], &body].concat();
    assert_eq!(avro::decode::<M>(&theirs).unwrap(), message);
}

/// Parsed once: the schema of `history` is large.
fn schema_of<M: Published>() -> Arc<apache_avro::Schema> {
    static PARSED: Mutex<BTreeMap<&str, Arc<apache_avro::Schema>>> = Mutex::new(BTreeMap::new());
    let parse = || schema(&M::codec().schema_json());
    PARSED.lock().unwrap().entry(M::TOPIC).or_insert_with(|| Arc::new(parse())).clone()
}

#[test]
fn another_implementation_finds_every_field_by_its_name() {
    let record = avro::encode(&typical_batch()).unwrap();
    let value = apache_avro::from_avro_datum(&schema_of::<HistoryBatch>(), &mut &record[10..], None).unwrap();
    let Value::Record(batch) = value else { panic!("a batch is a record") };
    let field = |name: &str| batch.iter().find(|(field, _)| field == name).unwrap().1.clone();
    assert_eq!(field("workflow_id"), Value::String("order-1".to_owned()));
    let Value::Array(events) = field("events") else { panic!("events are an array") };
    let Value::Record(event) = &events[1] else { panic!("an event is a record") };
    assert!(event.contains(&("event_id".to_owned(), Value::Long(5))));
    assert!(event.contains(&("event_type".to_owned(), Value::Int(10))));
    let time = Value::Union(1, Box::new(Value::Long(1_760_000_000_123_456_789)));
    assert!(event.contains(&("event_time".to_owned(), time)));
}

#[test]
fn fingerprints_are_those_of_another_implementation() {
    fn check<M: Published>() {
        let theirs = schema_of::<M>().fingerprint::<apache_avro::rabin::Rabin>();
        assert_eq!(theirs.bytes, M::codec().fingerprint().to_le_bytes());
        assert_eq!(schema_of::<M>().canonical_form(), M::codec().schema().canonical_form());
    }
    check::<HistoryBatch>();
    check::<Completion>();
    check::<TimerChange>();
    check::<Rejected>();
    check::<Request>();
}

#[test]
fn what_is_set_to_its_default_stays_set_where_that_shows() {
    let empty = Request { request: Some(request::Request::Start(Start::default())) };
    assert_eq!(avro::decode::<Request>(&avro::encode(&empty).unwrap()).unwrap(), empty);
    let epoch = TimerChange { time: Some(Timestamp::default()), ..Default::default() };
    assert_eq!(avro::decode::<TimerChange>(&avro::encode(&epoch).unwrap()).unwrap(), epoch);
}

#[test]
fn times_that_no_long_can_hold_become_the_nearest() {
    let change = |seconds| TimerChange { time: Some(Timestamp { seconds, nanos: 0 }), ..Default::default() };
    let read = |seconds| avro::decode::<TimerChange>(&avro::encode(&change(seconds)).unwrap()).unwrap().time.unwrap();
    assert_eq!(read(-62_135_596_800), Timestamp { seconds: -9_223_372_037, nanos: 145_224_192 });
    assert_eq!(read(253_402_300_799), Timestamp { seconds: 9_223_372_036, nanos: 854_775_807 });
    assert_eq!(read(-1), Timestamp { seconds: -1, nanos: 0 });
}

#[test]
fn fields_in_any_order_mean_what_protobuf_says() {
    let mut wire = Vec::new();
    let mut put = |tag: u32, bytes: &[u8]| {
        put_key(&mut wire, tag, DELIMITED);
        put_varint(&mut wire, bytes.len() as u64);
        wire.extend_from_slice(bytes);
    };
    // A later member of the oneof wins; parts of one message are put together; unknown fields are dropped.
    put(4, b"\x12\x03old");
    put(1, b"\x12\x02w1\x2a\x00");
    put(99, b"from a newer protobuf");
    put(1, b"\x12\x02w2\x1a\x05Order\x2a\x00\x0a\x02ns");
    let read: Request = Request::codec().decode(&Request::codec().encode_wire(&wire).unwrap()).unwrap();
    let start = Start {
        namespace: "ns".to_owned(),
        workflow_id: "w2".to_owned(),
        workflow_type: "Order".to_owned(),
        input: vec![Default::default(), Default::default()],
        ..Default::default()
    };
    assert_eq!(read, Request { request: Some(request::Request::Start(start)) });
    assert_eq!(read, Request::decode(wire.as_slice()).unwrap());
}

/// A producer's own schema: other names, its own order, narrower numbers, unions the other way round, a field of its own.
const PRODUCER: &str = r#"{"type": "record", "name": "Out", "namespace": "shop", "fields": [
    {"name": "trace", "type": ["null", {"type": "record", "name": "Trace", "fields": [
        {"name": "ids", "type": {"type": "map", "values": {"type": "array", "items": "double"}}},
        {"name": "parent", "type": ["null", "Trace"]},
        {"name": "level", "type": {"type": "enum", "name": "Level", "symbols": ["LOW", "HIGH"]}}]}]},
    {"name": "start", "type": [{"type": "record", "name": "Order", "fields": [
        {"name": "workflow_type", "type": "string"},
        {"name": "run_timeout_ms", "type": "int"},
        {"name": "workflow_id", "type": "bytes"},
        {"name": "input", "type": {"type": "array", "items": {"type": "record", "name": "P", "fields": [
            {"name": "data", "type": "string"}]}}}]}, "null"]}]}"#;

#[test]
fn records_of_a_producers_own_schema_are_read_once_it_is_known() {
    let fingerprint = schema(PRODUCER).fingerprint::<apache_avro::rabin::Rabin>().bytes;
    let mut record = [&[0xc3, 0x01][..], &fingerprint].concat();
    let out = &mut record;
    put_zigzag(out, 1);
    // A block with its size, then the end.
    put_zigzag(out, -1);
    put_zigzag(out, 12);
    out.extend_from_slice(b"\x02k\x02\0\0\0\0\0\0\xf0\x3f\0");
    put_zigzag(out, 0);
    put_zigzag(out, 0);
    put_zigzag(out, 1);
    put_zigzag(out, 0);
    out.extend_from_slice(b"\x0aOrder");
    put_zigzag(out, -70_000);
    // The input, two items, in a block with its size.
    out.extend_from_slice(b"\x04w1\x03\x08\x02[\x02]\0");
    let codec = Codec::of("millrace.events.Request");
    assert!(matches!(codec.decode::<Request>(&record), Err(Error::UnknownWriter(_))));
    assert_eq!(codec.learn(PRODUCER).unwrap().to_le_bytes().to_vec(), fingerprint);
    let mut inputs = vec![json_payload("["), json_payload("]")];
    inputs.iter_mut().for_each(|input| input.metadata.clear());
    let start = Start {
        workflow_type: "Order".to_owned(),
        workflow_id: "w1".to_owned(),
        run_timeout_ms: -70_000,
        input: inputs,
        ..Default::default()
    };
    let expected = Request { request: Some(request::Request::Start(start)) };
    assert_eq!(codec.decode::<Request>(&record).unwrap(), expected);
}

#[test]
fn a_schema_that_does_not_fit_says_where() {
    let number = r#"{"type": "record", "name": "R", "fields": [{"name": "cancel", "type":
        {"type": "record", "name": "C", "fields": [{"name": "workflow_id", "type": "long"}]}}]}"#;
    let error = Codec::of("millrace.events.Request").learn(number).unwrap_err().to_string();
    assert!(error.contains("R.cancel: C.workflow_id: Expected what fits string, but found long"), "{error}");
}

/// The field was a string once; its writer lets it be a number, or a record of its own, now.
const WIDENED: &str = r#"{"type": "record", "name": "R", "fields": [
    {"name": "cancel", "type": ["null", {"type": "record", "name": "C", "fields": [
        {"name": "workflow_id", "type": ["string", "long", {"type": "record", "name": "Id", "fields": [
            {"name": "number", "type": "long"}]}]}]},
        {"type": "record", "name": "D", "fields": [{"name": "workflow_id", "type": "long"}]}]}]}"#;

#[test]
fn a_union_that_its_writer_widened_is_read_by_the_branch_in_use() {
    let codec = Codec::of("millrace.events.Request");
    let fingerprint = codec.learn(WIDENED).unwrap().to_le_bytes();
    let read = |body: &[u8]| codec.decode::<Request>(&[&[0xc3, 0x01][..], &fingerprint, body].concat());
    // The second branch of `cancel`, and the first of `workflow_id`.
    let cancel = read(b"\x02\0\x04w1").unwrap();
    let expected = crate::proto::events::Cancel { workflow_id: "w1".into(), ..Default::default() };
    assert_eq!(cancel, Request { request: Some(request::Request::Cancel(expected)) });
    for (body, reason) in [
        (&b"\x02\x02\x0e"[..], "Expected what fits string, but found long"),
        (b"\x02\x04\x0e", "Expected what fits string, but found Id"),
        (b"\x04\x0e", "D.workflow_id: Expected what fits string, but found long"),
    ] {
        let error = read(body).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(read(b"\0").unwrap(), Request::default());
}
