//! The values of a run's records.

use std::sync::Arc;

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::engine::{Record, SubKey};

pub fn encode(record: &Record) -> Bytes {
    match record {
        Record::Head(head) => head.encode_to_vec(),
        Record::Activity(activity) => activity.encode_to_vec(),
        Record::Timer(timer) => timer.encode_to_vec(),
        Record::Child(child) => child.encode_to_vec(),
        Record::External(external) => external.encode_to_vec(),
        Record::Request(request) => request.encode_to_vec(),
    }
    .into()
}

pub fn decode(sub_key: &SubKey, value: Bytes) -> Result<Record, DecodeError> {
    Ok(match sub_key {
        SubKey::Head => Record::Head(Arc::new(Message::decode(value)?)),
        SubKey::Activity(_) => Record::Activity(Arc::new(Message::decode(value)?)),
        SubKey::Timer(_) => Record::Timer(Arc::new(Message::decode(value)?)),
        SubKey::Child(_) => Record::Child(Arc::new(Message::decode(value)?)),
        SubKey::External(_) => Record::External(Arc::new(Message::decode(value)?)),
        SubKey::Request(_) => Record::Request(Message::decode(value)?),
    })
}
