//! Reads one partition of one topic, without a consumer group.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{Clients, Events, unavailable, unusable};
use crate::log::{self, Error, Isolation, Nulls, Read, Record, Stored, Topic};

/// One read stops after so many bytes, so that large records don't add up.
const READ_BYTES_MAX: usize = 16 << 20;

/// A fetch that brings only markers of transactions returns nothing: look this soon whether the position moved.
const FIRST_LOOK: Duration = Duration::from_millis(20);

pub(super) struct Reader {
    consumer: BaseConsumer<Events>,
    cursor: Cursor,
    /// An error that came after records of the same read: the next read gives it.
    failure: Option<Error>,
}

struct Cursor {
    topic: Topic,
    partition: u32,
    next_offset: i64,
}

impl Reader {
    pub fn new(
        clients: &Clients,
        isolation: Isolation,
        topic: (Topic, &str),
        partition: u32,
        from: i64,
    ) -> Result<Reader, Error> {
        let consumer: BaseConsumer<Events> =
            clients.reader(isolation).create_with_context(Events::default()).map_err(unusable)?;
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic.1, partition as i32, Offset::Offset(from))
            .and_then(|()| consumer.assign(&assignment))
            .map_err(|error| unavailable(&format!("{}-{partition} can't be read", topic.1), error))?;
        let cursor = Cursor { topic: topic.0, partition, next_offset: from };
        Ok(Reader { consumer, cursor, failure: None })
    }

    /// Where librdkafka would go on: past markers and aborted records too.
    fn position(&self) -> i64 {
        let positions = self.consumer.position().ok();
        let raw = positions.and_then(|positions| positions.elements().first()?.offset().to_raw());
        raw.unwrap_or(-1).max(self.cursor.next_offset)
    }
}

impl log::Reader for Reader {
    fn next(&mut self, max_records: usize, wait: Duration) -> Result<Read, Error> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let deadline = Instant::now() + wait;
        let mut records: Vec<Stored> = Vec::new();
        let mut bytes_read = 0;
        let mut step = FIRST_LOOK;
        while records.len() < max_records.max(1) && bytes_read < READ_BYTES_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            let poll_wait = if records.is_empty() { left.min(step) } else { Duration::ZERO };
            let outcome = match self.consumer.poll(poll_wait) {
                Some(Ok(message)) => self.cursor.take(&message).map(Some),
                Some(Err(error)) => self.cursor.check(error, self.consumer.client().context()).map(|()| None),
                None if !records.is_empty() || left <= poll_wait => break,
                None => {
                    step = wait;
                    Ok(None)
                }
            };
            match outcome {
                Ok(Some(stored)) => {
                    bytes_read += stored.record.size();
                    records.push(stored);
                }
                Ok(None) if self.position() > self.cursor.next_offset => break,
                Ok(None) => {}
                Err(failure) if records.is_empty() => return Err(failure),
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        self.cursor.next_offset = self.position();
        Ok(Read { records, next_offset: self.cursor.next_offset })
    }
}

impl Cursor {
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<Stored, Error> {
        let offset = message.offset();
        if offset < self.next_offset {
            return Err(Error::Unusable(format!(
                "{:?}-{} went back from offset {} to {offset}: the topic was created anew, or lost records",
                self.topic, self.partition, self.next_offset
            )));
        }
        self.next_offset = offset + 1;
        Ok(stored(message))
    }

    /// What passes by itself is waited out (the end of the partition is no error at all); the rest ends the read.
    fn check(&self, error: KafkaError, events: &Events) -> Result<(), Error> {
        use RDKafkaErrorCode as Code;
        let named = || format!("{:?}-{} can't be read: {error}", self.topic, self.partition);
        match error.rdkafka_error_code() {
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
                | Code::Authentication
                | Code::SaslAuthenticationFailed,
            ) => Err(Error::Unusable(named())),
            Some(Code::AllBrokersDown | Code::Fatal) => Err(Error::Unavailable(match events.complaint() {
                Some(complaint) => format!("{} ({complaint})", named()),
                None => named(),
            })),
            _ => Ok(()),
        }
    }
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let headers = || {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let owned = |header: Header<'_, &[u8]>| (header.key.to_string(), header.value.map(Bytes::copy_from_slice));
        headers.map(owned).collect()
    };
    // rdkafka panics over a name that is not UTF-8, which Kafka lets pass.
    let headers: Vec<(String, Option<Bytes>)> = catch_unwind(AssertUnwindSafe(headers)).unwrap_or_else(|_| {
        tracing::warn!(
            offset = message.offset(),
            topic = message.topic(),
            "a record's headers can't be read, and are left out"
        );
        Vec::new()
    });
    let null_headers = headers.iter().enumerate().filter(|(_, (_, value))| value.is_none());
    let nulls = Nulls { key: message.key().is_none(), headers: null_headers.map(|(at, _)| at).collect() };
    Stored {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        record: Record {
            key: Bytes::copy_from_slice(message.key().unwrap_or_default()),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: headers.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect(),
        },
        nulls,
    }
}
