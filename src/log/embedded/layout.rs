//! How the embedded log lays its data out in RocksDB: the only place that knows the bytes.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `records` | partition, offset | timestamp, record |
//! | `latest` (compacted topics) | partition, record key | offset of the key's last record |
//! | `default` | `head` + partition | [`Head`] |
//! | | `epoch` + partition number | producer epoch |
//! | | `topic` + name of a user's topic | its code |
//! | | `position` + partition + consumer | next offset |
//!
//! "partition" is the topic's code (1 byte) and the partition number (4 bytes). All numbers are big-endian, so that keys
//! sort by offset.

use bytes::Bytes;

use crate::log::{Nulls, Record, Stored, Topic};

/// Raised whenever the bytes change their meaning.
pub(super) const FORMAT_VERSION: u32 = 1;

pub(super) const RECORDS: &str = "records";
pub(super) const LATEST: &str = "latest";

pub(super) const PARTITION_BYTES: usize = 5;

/// What is known of a partition of a topic beside its records. Appends don't write it: the next offset and the last
/// timestamp of the store are then those of the last record, if they are later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub start: i64,
    pub next: i64,
    pub timestamp_ms: i64,
    /// Tombstones before this offset are gone.
    pub swept: i64,
}

impl Head {
    pub fn encode(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (index, number) in [self.start, self.next, self.timestamp_ms, self.swept].into_iter().enumerate() {
            bytes[index * 8..][..8].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Head> {
        let number = |index: usize| Some(i64::from_be_bytes(bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?));
        Some(Head { start: number(0)?, next: number(1)?, timestamp_ms: number(2)?, swept: number(3)? })
    }
}

/// The first code of users' topics, which are given one each as they come.
pub(super) const FIRST_USER_CODE: u8 = 32;

/// The codes stand on disk: never change one, never use one twice. A user's topic has none of its own.
pub(super) fn code(topic: Topic) -> Option<u8> {
    Some(match topic {
        Topic::Requests => 1,
        Topic::Commands => 2,
        Topic::History => 3,
        Topic::Completions => 4,
        Topic::ActivityTasks => 5,
        Topic::Timers => 6,
        Topic::Rejections => 7,
        Topic::State => 8,
        Topic::Control => 9,
        Topic::User(_) => return None,
    })
}

pub(super) fn partition_key(code: u8, partition: u32) -> [u8; PARTITION_BYTES] {
    let mut key = [code; PARTITION_BYTES];
    key[1..].copy_from_slice(&partition.to_be_bytes());
    key
}

pub(super) fn record_key(partition: [u8; PARTITION_BYTES], offset: i64) -> [u8; PARTITION_BYTES + 8] {
    let mut key = [0; PARTITION_BYTES + 8];
    key[..PARTITION_BYTES].copy_from_slice(&partition);
    key[PARTITION_BYTES..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// The offset in a record's key.
pub(super) fn offset_of(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.get(PARTITION_BYTES..)?.try_into().ok()?))
}

pub(super) fn latest_key(partition: [u8; PARTITION_BYTES], key: &[u8]) -> Vec<u8> {
    [&partition, key].concat()
}

pub(super) fn head_key(partition: [u8; PARTITION_BYTES]) -> Vec<u8> {
    [b"head".as_slice(), &partition].concat()
}

pub(super) fn epoch_key(partition: u32) -> Vec<u8> {
    [b"epoch".as_slice(), &partition.to_be_bytes()].concat()
}

pub(super) const USER_TOPICS: &[u8] = b"topic";

pub(super) fn user_topic_key(name: &str) -> Vec<u8> {
    [USER_TOPICS, name.as_bytes()].concat()
}

pub(super) fn position_key(partition: [u8; PARTITION_BYTES], consumer: &str) -> Vec<u8> {
    [b"position".as_slice(), &partition, consumer.as_bytes()].concat()
}

pub(super) fn decode_number(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
}

/// The value comes last, so that a reader takes it without copying it twice.
pub(super) fn encode_record(timestamp_ms: i64, record: &Record, to: &mut Vec<u8>) {
    to.clear();
    to.reserve(record.size() + 32);
    to.extend_from_slice(&timestamp_ms.to_be_bytes());
    to.push(record.value.is_some() as u8);
    put_bytes(to, &record.key);
    to.extend_from_slice(&(record.headers.len() as u32).to_be_bytes());
    for (name, value) in &record.headers {
        put_bytes(to, name.as_bytes());
        put_bytes(to, value);
    }
    to.extend_from_slice(record.value.as_deref().unwrap_or_default());
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    to.extend_from_slice(bytes);
}

pub(super) fn timestamp_of(bytes: &[u8]) -> Option<i64> {
    decode_number(bytes.get(..8)?)
}

pub(super) fn is_tombstone(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&0)
}

/// The key of an encoded record.
pub(super) fn key_of(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_be_bytes(bytes.get(9..13)?.try_into().ok()?) as usize;
    bytes.get(13..13 + length)
}

/// `None` means that the bytes are no record.
pub(super) fn decode_record(offset: i64, bytes: &[u8]) -> Option<Stored> {
    let bytes = Bytes::copy_from_slice(bytes);
    let timestamp_ms = timestamp_of(&bytes)?;
    let has_value = !is_tombstone(&bytes);
    let mut at = 9;
    let key = take_bytes(&bytes, &mut at)?;
    let count = take_number(&bytes, &mut at)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = String::from_utf8(take_bytes(&bytes, &mut at)?.into()).ok()?;
        headers.push((name, take_bytes(&bytes, &mut at)?));
    }
    let value = has_value.then(|| bytes.slice(at..));
    let record = Record { key, value, headers };
    Some(Stored { offset, timestamp_ms, nulls: Nulls::of(&record), record })
}

fn take_number(bytes: &Bytes, at: &mut usize) -> Option<usize> {
    let number = u32::from_be_bytes(bytes.get(*at..*at + 4)?.try_into().ok()?);
    *at += 4;
    Some(number as usize)
}

fn take_bytes(bytes: &Bytes, at: &mut usize) -> Option<Bytes> {
    let length = take_number(bytes, at)?;
    if bytes.len() - *at < length {
        return None;
    }
    let taken = bytes.slice(*at..*at + length);
    *at += length;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn record()(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
            headers in proptest::collection::vec((".{0,8}", proptest::collection::vec(any::<u8>(), 0..20)), 0..3),
        ) -> Record {
            let headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
            Record { key: key.into(), value: value.map(Bytes::from), headers }
        }
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were(record in record(), offset in 0i64.., timestamp_ms in 0i64..) {
            let mut bytes = Vec::new();
            encode_record(timestamp_ms, &record, &mut bytes);
            prop_assert_eq!(timestamp_of(&bytes), Some(timestamp_ms));
            prop_assert_eq!(is_tombstone(&bytes), record.value.is_none());
            prop_assert_eq!(key_of(&bytes), Some(&record.key[..]));
            prop_assert_eq!(decode_record(offset, &bytes), Some(Stored { offset, timestamp_ms, nulls: Nulls::of(&record), record }));
        }

        #[test]
        fn heads_come_back_as_they_were(start: i64, next: i64, timestamp_ms: i64, swept: i64) {
            let head = Head { start, next, timestamp_ms, swept };
            prop_assert_eq!(Head::decode(&head.encode()), Some(head));
        }

        #[test]
        fn no_bytes_break_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            decode_record(0, &bytes);
        }
    }

    #[test]
    fn record_keys_sort_by_offset() {
        let partition = partition_key(8, 3);
        assert!(record_key(partition, 255) < record_key(partition, 256));
        assert!(record_key(partition, i64::MAX) < record_key(partition_key(8, 4), 0));
        assert_eq!(offset_of(&record_key(partition, 256)), Some(256));
    }
}
