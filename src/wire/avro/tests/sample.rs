//! Messages to try things on: any message that the descriptors allow, and a batch as a server writes most of.

use crate::proto::events::HistoryBatch;
use crate::proto::temporal::{
    common::v1 as common, enums::v1 as enums, history::v1 as history, taskqueue::v1 as taskqueue,
};
use crate::wire::avro::cursor::{DELIMITED, FIXED32, FIXED64, put_key, put_varint};
use crate::wire::avro::encode::wire_type;
use crate::wire::avro::plan::{Cardinality, Field, Kind, Plan};
use crate::wire::avro::schema_text::allow_any_name;
use proptest::test_runner::Config;
use prost_types::{Duration, Timestamp};

/// A failing case is printed in full, so nothing is kept on disk.
pub fn cases(count: u32) -> Config {
    Config { failure_persistence: None, ..Config::with_cases(count) }
}

/// Chooses by reading a tape of random bytes, so that a shorter tape is a simpler message; past its end all choices are 0.
pub struct Tape<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Tape<'a> {
    pub fn new(bytes: &'a [u8]) -> Tape<'a> {
        Tape { bytes: bytes.iter() }
    }

    fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    fn below(&mut self, limit: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % limit.max(1)
    }

    fn number(&mut self) -> u64 {
        let len = self.below(9);
        let number = (0..len).fold(0, |number, _| number << 8 | u64::from(self.byte()));
        if self.byte() % 4 == 3 { number.wrapping_neg() } else { number }
    }

    /// The root message in protobuf's wire format, as prost would write it but for the packing of numbers.
    pub fn message(&mut self, plan: &Plan) -> Vec<u8> {
        self.nested(plan, 0, 0)
    }

    fn nested(&mut self, plan: &Plan, index: u16, depth: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let fields = &plan.message(index).fields;
        if fields.is_empty() || depth > 12 {
            return out;
        }
        let mut chosen: Vec<_> = (0..self.below(5)).map(|_| self.below(fields.len())).collect();
        chosen.sort();
        chosen.dedup();
        let mut oneofs = Vec::new();
        chosen.retain(|place| match fields[*place].oneof {
            Some(oneof) if oneofs.contains(&oneof) => false,
            oneof => {
                oneofs.extend(oneof);
                true
            }
        });
        for place in chosen {
            let field = &fields[place];
            let count =
                if matches!(field.cardinality, Cardinality::Repeated | Cardinality::Map) { self.below(4) } else { 1 };
            for item in 0..count {
                self.field(plan, field, item, depth, &mut out);
            }
        }
        out
    }

    fn field(&mut self, plan: &Plan, field: &Field, item: usize, depth: usize, out: &mut Vec<u8>) {
        if field.cardinality != Cardinality::Map {
            return self.value(plan, field.kind, field.tag, depth, out);
        }
        let mut entry = Vec::new();
        put_bytes(1, format!("key {item}").as_bytes(), &mut entry);
        self.value(plan, field.kind, 2, depth, &mut entry);
        put_bytes(field.tag, &entry, out);
    }

    fn value(&mut self, plan: &Plan, kind: Kind, tag: u32, depth: usize, out: &mut Vec<u8>) {
        let bytes = match kind {
            Kind::String => {
                let words = ["", "order-1", "größer", "一二三", "a\u{0}b", "x"];
                words[self.below(words.len())].repeat(self.below(40)).into_bytes()
            }
            Kind::Bytes => (0..self.below(200)).map(|_| self.byte()).collect(),
            Kind::Message(index) => self.nested(plan, index, depth + 1),
            Kind::Timestamp => self.timestamp(),
            _ => {
                let number = self.number();
                put_key(out, tag, wire_type(kind));
                match (kind, wire_type(kind)) {
                    (Kind::Float, _) => out.extend_from_slice(&(number as f32).to_le_bytes()),
                    (Kind::Double, _) => out.extend_from_slice(&(number as f64).to_le_bytes()),
                    (_, FIXED32) => out.extend_from_slice(&(number as u32).to_le_bytes()),
                    (_, FIXED64) => out.extend_from_slice(&number.to_le_bytes()),
                    _ => put_varint(out, number),
                }
                return;
            }
        };
        put_bytes(tag, &bytes, out);
    }

    fn timestamp(&mut self) -> Vec<u8> {
        let nanoseconds = self.number() as i64;
        let mut out = Vec::new();
        put_key(&mut out, 1, 0);
        put_varint(&mut out, nanoseconds.div_euclid(1_000_000_000) as u64);
        put_key(&mut out, 2, 0);
        put_varint(&mut out, nanoseconds.rem_euclid(1_000_000_000) as u64);
        out
    }
}

fn put_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_key(out, tag, DELIMITED);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn json_payload(data: &'static str) -> common::Payload {
    common::Payload {
        metadata: [("encoding".to_owned(), "json/plain".into())].into(),
        data: data.as_bytes().into(),
        ..Default::default()
    }
}

pub fn payloads(data: &'static str) -> Option<common::Payloads> {
    Some(common::Payloads { payloads: vec![json_payload(data)] })
}

pub fn event(
    id: i64,
    event_type: enums::EventType,
    attributes: history::history_event::Attributes,
) -> history::HistoryEvent {
    history::HistoryEvent {
        event_id: id,
        event_time: Some(Timestamp { seconds: 1_760_000_000, nanos: 123_456_789 }),
        event_type: event_type as i32,
        task_id: 1_048_576 + id,
        attributes: Some(attributes),
        ..Default::default()
    }
}

/// A schema as `apache-avro` alone parses it.
pub fn schema(text: &str) -> apache_avro::Schema {
    allow_any_name();
    apache_avro::Schema::parse_str(text).expect(text)
}

/// What a workflow task that scheduled an activity leaves: about 500 bytes of protobuf.
pub fn typical_batch() -> HistoryBatch {
    use history::history_event::Attributes;
    let queue = taskqueue::TaskQueue { name: "orders".to_owned(), kind: 1, ..Default::default() };
    let completed = history::WorkflowTaskCompletedEventAttributes {
        scheduled_event_id: 2,
        started_event_id: 3,
        identity: "31871@worker-7f9c6d".to_owned(),
        worker_deployment_name: "orders-production".to_owned(),
        ..Default::default()
    };
    let scheduled = history::ActivityTaskScheduledEventAttributes {
        activity_id: "5".to_owned(),
        activity_type: Some(common::ActivityType { name: "ChargeCard".to_owned() }),
        task_queue: Some(queue),
        input: payloads(r#"{"order":"order-1","amount":{"value":1299,"currency":"EUR"}}"#),
        start_to_close_timeout: Some(Duration { seconds: 30, nanos: 0 }),
        heartbeat_timeout: Some(Duration { seconds: 5, nanos: 500_000_000 }),
        workflow_task_completed_event_id: 4,
        retry_policy: Some(common::RetryPolicy {
            initial_interval: Some(Duration { seconds: 1, nanos: 0 }),
            backoff_coefficient: 2.0,
            maximum_attempts: 5,
            ..Default::default()
        }),
        ..Default::default()
    };
    let timer = history::TimerStartedEventAttributes {
        timer_id: "6".to_owned(),
        start_to_fire_timeout: Some(Duration { seconds: 3600, nanos: 0 }),
        workflow_task_completed_event_id: 4,
    };
    HistoryBatch {
        namespace: "default".to_owned(),
        namespace_id: "5e2c5c1c-7d3e-4e58-9f8e-0d5d5e3f9a10".to_owned(),
        workflow_id: "order-1".to_owned(),
        run_id: "0199c7a4-3c21-7b5e-8d31-6f1f0a4e2b77".to_owned(),
        workflow_type: "Order".to_owned(),
        events: vec![
            event(
                4,
                enums::EventType::WorkflowTaskCompleted,
                Attributes::WorkflowTaskCompletedEventAttributes(completed),
            ),
            event(
                5,
                enums::EventType::ActivityTaskScheduled,
                Attributes::ActivityTaskScheduledEventAttributes(scheduled),
            ),
            event(6, enums::EventType::TimerStarted, Attributes::TimerStartedEventAttributes(timer)),
        ],
    }
}
