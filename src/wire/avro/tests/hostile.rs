//! Nothing that stands on a topic may bring the reader down.

use super::sample::{Tape, cases, event, typical_batch};
use crate::proto::events::{Completion, HistoryBatch, Request};
use crate::proto::temporal::{enums::v1::EventType, failure::v1::Failure, history::v1::history_event::Attributes};
use crate::wire::avro::cursor::DEPTH_MAX;
use crate::wire::avro::plan::Plan;
use crate::wire::avro::{self, Codec, Error, Published};
use proptest::prelude::*;
use prost::Message;

/// Runs everything that reads; its results do not matter.
fn read_all<M: Published>(bytes: &[u8]) {
    let _ = avro::decode::<M>(bytes);
    let _ = M::codec().to_json(bytes);
    let framed = [&avro::encode(&M::default()).unwrap()[..10], bytes].concat();
    let _ = avro::decode::<M>(&framed);
    let _ = M::codec().encode_wire(bytes);
    let _ = M::codec().wire_to_json(bytes);
}

#[test]
fn a_record_cut_short_anywhere_is_refused() {
    let record = avro::encode(&typical_batch()).unwrap();
    for len in 0..record.len() {
        assert!(avro::decode::<HistoryBatch>(&record[..len]).is_err(), "cut to {len} bytes");
        read_all::<HistoryBatch>(&record[..len]);
    }
    let longer = [&record[..], &[0]].concat();
    assert!(matches!(
        avro::decode::<HistoryBatch>(&longer),
        Err(Error::Invalid { expected: "the end of the record", .. })
    ));
    let wire = typical_batch().encode_to_vec();
    (0..wire.len()).for_each(|len| read_all::<HistoryBatch>(&wire[..len]));
}

#[test]
fn any_byte_may_be_wrong() {
    for original in [avro::encode(&typical_batch()).unwrap().to_vec(), typical_batch().encode_to_vec()] {
        for at in 0..original.len() {
            for wrong in [0, 1, 2, 0x7f, 0x80, 0xff, original[at] ^ 0x10, original[at].wrapping_add(1)] {
                let mut bytes = original.clone();
                bytes[at] = wrong;
                read_all::<HistoryBatch>(&bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn garbage_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read_all::<HistoryBatch>(&bytes);
        read_all::<Completion>(&bytes);
        read_all::<Request>(&bytes);
    }

    #[test]
    fn parts_of_real_messages_in_any_order_are_read_without_harm(
        tape in proptest::collection::vec(any::<u8>(), 0..2000),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
    ) {
        let mut bytes = Tape::new(&tape).message(&Plan::of(Completion::MESSAGE).unwrap());
        for (one, other) in cuts.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
            let (one, other) = (one.index(bytes.len()), other.index(bytes.len()));
            bytes.swap(one, other);
        }
        read_all::<Completion>(&bytes);
        // Twice the same fields: legal, and the same to prost as to us.
        let twice = [&bytes[..], &bytes[..]].concat();
        if let (Ok(expected), Ok(record)) = (Completion::decode(&twice[..]), Completion::codec().encode_wire(&twice)) {
            prop_assert_eq!(avro::decode::<Completion>(&record).unwrap(), clamped(expected));
        }
    }
}

/// Times as a long of nanoseconds holds them.
fn clamped(completion: Completion) -> Completion {
    avro::decode(&avro::encode(&completion).unwrap()).unwrap()
}

#[test]
fn failures_may_nest_as_deep_as_any_client_can_send_but_not_without_end() {
    let nested = |depth: usize| {
        let failure = (0..depth)
            .fold(Failure::default(), |cause, _| Failure { cause: Some(Box::new(cause)), ..Default::default() });
        let attributes = crate::proto::temporal::history::v1::WorkflowExecutionFailedEventAttributes {
            failure: Some(failure),
            ..Default::default()
        };
        let failed = event(
            9,
            EventType::WorkflowExecutionFailed,
            Attributes::WorkflowExecutionFailedEventAttributes(attributes),
        );
        HistoryBatch { events: vec![failed], ..Default::default() }
    };
    let deep = nested(95);
    assert_eq!(avro::decode::<HistoryBatch>(&avro::encode(&deep).unwrap()).unwrap(), deep);
    // What prost no longer decodes is carried still.
    let deeper = nested(150);
    let record = avro::encode(&deeper).unwrap();
    assert_eq!(HistoryBatch::codec().decode_wire(&record).unwrap(), deeper.encode_to_vec());
    assert!(matches!(avro::decode::<HistoryBatch>(&record), Err(Error::Message(_))));
    assert_eq!(avro::encode(&nested(DEPTH_MAX as usize)), Err(Error::TooDeep));
    // A body that goes on nesting: each level is the union's second branch, then nothing but the next cause.
    let failure = Codec::of("temporal.api.failure.v1.Failure");
    let body: Vec<u8> = (0..100_000).flat_map(|_| [0, 0, 0, 2]).collect();
    let record = [&failure.encode(&Failure::default()).unwrap()[..10], &body].concat();
    assert_eq!(failure.decode_wire(&record), Err(Error::TooDeep));
}

#[test]
fn a_count_of_items_that_take_no_bytes_is_bounded() {
    let schema = r#"{"type": "record", "name": "R", "fields": [{"name": "padding", "type": {"type": "array", "items": "null"}}]}"#;
    let codec = Codec::of("millrace.events.Request");
    let fingerprint = codec.learn(schema).unwrap();
    let huge =
        [&[0xc3, 0x01][..], &fingerprint.to_le_bytes(), &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]].concat();
    assert!(matches!(codec.decode_wire(&huge), Err(Error::Invalid { .. })));
}

#[test]
fn schemas_that_are_none_are_refused() {
    let codec = Codec::of("millrace.events.Request");
    let deep = format!("{}\"null\"{}", "[".repeat(5000), "]".repeat(5000));
    for text in
        ["", "{}", "3", "\"string\"", "\"Unknown\"", r#"{"type":"record","name":"R"}"#, r#"{"type":"array"}"#, &deep]
    {
        assert!(matches!(codec.learn(text), Err(Error::Schema(_))), "{text}");
    }
}
