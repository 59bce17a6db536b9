//! Appends outside transactions: one idempotent producer for all partitions of the process.

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::IntoOpaque;

use super::client::{Clients, Events, unusable};
use super::producer::Polled;
use crate::log::in_order::{InOrder, Ticket};
use crate::log::{Appended, Error, OnAppend, Record, Topic};

pub(super) struct Appender {
    clients: Clients,
    producer: RwLock<Arc<Polled<Deliveries>>>,
}

/// One partition of one topic.
#[derive(Default)]
pub(super) struct Lane {
    /// Held while the records of one append are queued, so that appends don't mix.
    queueing: Mutex<()>,
    callbacks: InOrder,
}

/// One append whose records are on their way.
pub(super) struct Pending {
    lane: Arc<Lane>,
    ticket: Ticket,
    partition: u32,
    progress: Mutex<Progress>,
}

struct Progress {
    outstanding: usize,
    appended: Vec<Appended>,
    failure: Option<Error>,
}

#[derive(Default)]
pub(super) struct Deliveries(Events);

impl Appender {
    pub fn new(clients: Clients) -> Result<Appender, Error> {
        let producer = RwLock::new(Arc::new(open(&clients)?));
        Ok(Appender { clients, producer })
    }

    pub fn append(&self, lane: &Arc<Lane>, topic: (Topic, &str), partition: u32, records: Vec<Record>, done: OnAppend) {
        let queueing = lane.queueing.lock().expect("nothing that panics runs under this lock");
        let ticket = lane.callbacks.enqueue(done);
        let refused = records.iter().find_map(|record| record.check_size(topic.0).err());
        if refused.is_some() || records.is_empty() {
            drop(queueing);
            return lane.callbacks.complete(ticket, refused.map_or(Ok(Vec::new()), Err));
        }
        let progress =
            Progress { outstanding: records.len(), appended: vec![Appended::SOMEWHERE; records.len()], failure: None };
        let pending = Arc::new(Pending { lane: lane.clone(), ticket, partition, progress: Mutex::new(progress) });
        let producer = self.healthy_producer();
        for (index, record) in records.iter().enumerate() {
            let delivery = Box::new((pending.clone(), index));
            if let Err(error) = send(&producer, topic.1, Some(partition), record, delivery) {
                drop(queueing);
                return pending.refuse(index, records.len() - index, &error);
            }
        }
    }

    /// Fetches how many partitions a topic has: librdkafka refuses records for one that it does not know, for minutes.
    pub fn refresh_metadata(&self, topic: &str, wait_max: Duration) {
        let _ = self.healthy_producer().client().fetch_metadata(Some(topic), wait_max);
    }

    /// The producer, or a new one if a fatal error ended it.
    fn healthy_producer(&self) -> Arc<Polled<Deliveries>> {
        let producer = self.producer.read().expect("nothing that panics runs under this lock").clone();
        let Some((code, reason)) = producer.client().fatal_error() else { return producer };
        let mut current = self.producer.write().expect("nothing that panics runs under this lock");
        if Arc::ptr_eq(&current, &producer) {
            tracing::warn!(%code, reason, "the producer for appends is broken, a new one takes over");
            match open(&self.clients) {
                Ok(new) => *current = Arc::new(new),
                Err(error) => tracing::error!(%error, "no new producer can be made"),
            }
        }
        current.clone()
    }
}

fn open(clients: &Clients) -> Result<Polled<Deliveries>, Error> {
    Polled::new(&clients.appender(), Deliveries::default()).map_err(unusable)
}

/// Queues one record; librdkafka copies it. Without a partition it goes to that of its key.
pub(super) fn send<C: ProducerContext + 'static>(
    producer: &BaseProducer<C>,
    topic: &str,
    partition: Option<u32>,
    record: &Record,
    delivery: C::DeliveryOpaque,
) -> Result<(), KafkaError>
where
    C::DeliveryOpaque: IntoOpaque,
{
    let mut message = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, delivery);
    if !record.key.is_empty() {
        message = message.key(&record.key[..]);
    }
    if let Some(partition) = partition {
        message = message.partition(partition as i32);
    }
    if let Some(value) = &record.value {
        message = message.payload(&value[..]);
    }
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        let add = |headers: OwnedHeaders, (name, value): &(String, bytes::Bytes)| {
            headers.insert(Header { key: name, value: Some(&value[..]) })
        };
        message = message.headers(record.headers.iter().fold(headers, add));
    }
    producer.send(message).map_err(|(error, _)| error)
}

impl Pending {
    /// The last `count` records were not queued. Those before, if any, are on their way.
    fn refuse(&self, queued: usize, count: usize, error: &KafkaError) {
        let failure = if queued == 0 {
            Error::Unavailable(format!("Kafka's producer takes no record: {error}"))
        } else {
            self.unknown(error)
        };
        self.advance(count, |progress| progress.failure = Some(failure));
    }

    fn delivered(&self, index: usize, result: &DeliveryResult<'_>) {
        self.advance(1, |progress| match result {
            Ok(message) if message.offset() >= 0 => {
                let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
                progress.appended[index] = Appended { offset: message.offset(), timestamp_ms };
            }
            // Durable, but the broker only acknowledged it as a duplicate.
            Ok(_) => {}
            Err((error, _)) => {
                progress.failure.get_or_insert_with(|| self.failure(error));
            }
        });
    }

    /// Calls back once all records have an outcome.
    fn advance(&self, count: usize, note: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock().expect("nothing that panics runs under this lock");
        note(&mut progress);
        progress.outstanding -= count;
        if progress.outstanding > 0 {
            return;
        }
        let outcome = match progress.failure.take() {
            None => Ok(std::mem::take(&mut progress.appended)),
            Some(failure) => Err(failure),
        };
        drop(progress);
        self.lane.callbacks.complete(self.ticket, outcome);
    }

    fn unknown(&self, error: &KafkaError) -> Error {
        Error::Unknown { partition: self.partition, reason: error.to_string() }
    }

    /// Only what the broker refuses, or what never left the process, has surely not happened.
    fn failure(&self, error: &KafkaError) -> Error {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(
                Code::PurgeQueue
                | Code::QueueFull
                | Code::MessageSizeTooLarge
                | Code::UnknownPartition
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::TopicAuthorizationFailed
                | Code::NotEnoughReplicas
                | Code::InvalidRecord
                | Code::PolicyViolation,
            ) => Error::Unavailable(format!("Kafka refused an append: {error}")),
            _ => self.unknown(error),
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.stats_raw(statistics);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<(Arc<Pending>, usize)>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Self::DeliveryOpaque) {
        let (pending, index) = *delivery;
        pending.delivered(index, result);
    }
}
