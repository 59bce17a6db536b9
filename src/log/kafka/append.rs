//! Appends outside transactions: one idempotent producer for all partitions of the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::IntoOpaque;

use super::client::{Clients, Events, unusable};
use super::producer::{POLL, Polled};
use crate::log::in_order::{InOrder, Ticket};
use crate::log::{Appended, Error, Isolation, OnAppend, Record, Topic};

/// A producer that has delivered nothing for so long, though records wait and a broker answers, is replaced: librdkafka's may never
/// recover from a broker's restart. Twice as long as a broker that hangs keeps what was sent to it.
const STUCK_AFTER: Duration = Duration::from_secs(12);
/// How long a broker may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

pub(super) struct Appender {
    clients: Clients,
    producer: RwLock<Arc<Polled<Deliveries>>>,
    stuck_after: Duration,
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

pub(super) struct Deliveries {
    events: Events,
    /// When a record was last delivered, or none waited.
    progress: Mutex<Instant>,
    is_stuck: AtomicBool,
}

/// Finds a producer that is stuck.
struct Watch {
    clients: Clients,
    stuck_after: Duration,
}

impl Appender {
    pub fn new(clients: Clients) -> Result<Appender, Error> {
        Self::with_stuck_after(clients, STUCK_AFTER)
    }

    fn with_stuck_after(clients: Clients, stuck_after: Duration) -> Result<Appender, Error> {
        let producer = RwLock::new(Arc::new(open(&clients, stuck_after)?));
        Ok(Appender { clients, producer, stuck_after })
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

    /// The producer, or a new one if a fatal error ended it, or it is stuck.
    fn healthy_producer(&self) -> Arc<Polled<Deliveries>> {
        let producer = self.producer.read().expect("nothing that panics runs under this lock").clone();
        let fatal = producer.client().fatal_error().map(|(code, reason)| format!("{code}: {reason}"));
        let stuck = || producer.context().is_stuck.load(Ordering::Relaxed).then(|| "it delivers nothing".to_owned());
        let Some(reason) = fatal.or_else(stuck) else { return producer };
        let mut current = self.producer.write().expect("nothing that panics runs under this lock");
        if Arc::ptr_eq(&current, &producer) {
            tracing::warn!(reason, "the producer for appends is broken, a new one takes over");
            match open(&self.clients, self.stuck_after) {
                Ok(new) => *current = Arc::new(new),
                Err(error) => tracing::error!(%error, "no new producer can be made"),
            }
        }
        current.clone()
    }
}

fn open(clients: &Clients, stuck_after: Duration) -> Result<Polled<Deliveries>, Error> {
    let deliveries = Deliveries {
        events: Events::default(),
        progress: Mutex::new(Instant::now()),
        is_stuck: AtomicBool::new(false),
    };
    let watch = Watch { clients: clients.clone(), stuck_after };
    let opened =
        Polled::watched(&clients.appender(), deliveries, POLL.min(stuck_after), move |producer| watch.check(producer));
    opened.map_err(unusable)
}

impl Watch {
    /// Fails what waits in a producer that is stuck: another one takes its place.
    fn check(&self, producer: &BaseProducer<Deliveries>) {
        let deliveries = producer.context();
        if deliveries.is_stuck.load(Ordering::Relaxed) {
            return producer.purge(PurgeConfig::default().queue().inflight());
        }
        if producer.in_flight_count() == 0 {
            return deliveries.note_progress();
        }
        if deliveries.since_progress() < self.stuck_after {
            return;
        }
        // A broker that is gone is asked for again after as long.
        deliveries.note_progress();
        if self.broker_answers() {
            deliveries.is_stuck.store(true, Ordering::Relaxed);
            producer.purge(PurgeConfig::default().queue().inflight());
        }
    }

    /// By a connection of its own: the producer's may be what is stuck.
    fn broker_answers(&self) -> bool {
        let client = self.clients.questions(Isolation::ReadUncommitted).create_with_context(Events::default());
        client.is_ok_and(|client: BaseConsumer<Events>| client.fetch_metadata(None, ANSWER_WAIT_MAX).is_ok())
    }
}

impl Deliveries {
    fn note_progress(&self) {
        *self.progress.lock().expect("nothing that panics runs under this lock") = Instant::now();
    }

    fn since_progress(&self) -> Duration {
        self.progress.lock().expect("nothing that panics runs under this lock").elapsed()
    }
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

    /// Only what the broker refuses, or what never left the process, has surely not happened. What is purged may have been sent before.
    fn failure(&self, error: &KafkaError) -> Error {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(
                Code::QueueFull
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
        self.events.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.events.stats_raw(statistics);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<(Arc<Pending>, usize)>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Self::DeliveryOpaque) {
        if result.is_ok() {
            self.note_progress();
        }
        let (pending, index) = *delivery;
        pending.delivered(index, result);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    const STUCK: Duration = Duration::from_secs(2);

    /// What becomes of one append.
    fn append(appender: &Appender, lane: &Arc<Lane>) -> mpsc::Receiver<Result<Vec<Appended>, Error>> {
        let (outcome, outcomes) = mpsc::channel();
        let record = Record { key: "key".into(), value: Some("value".into()), headers: Vec::new() };
        let done = Box::new(move |appended| drop(outcome.send(appended)));
        appender.append(lane, (Topic::Commands, "commands"), 0, vec![record], done);
        outcomes
    }

    #[test]
    fn a_producer_that_delivers_nothing_is_replaced_if_a_broker_answers() {
        let cluster = MockCluster::new(1).expect("a broker of librdkafka's");
        cluster.create_topic("commands", 1, 1).expect("it makes topics");
        let clients = Clients {
            brokers: cluster.bootstrap_servers(),
            prefix: String::new(),
            properties: [("retry.backoff.ms".to_owned(), "100".to_owned())].into(),
        };
        let appender = Appender::with_stuck_after(clients, STUCK).expect("settings that librdkafka takes");
        let lane = Arc::default();
        let wait = Duration::from_secs(25);
        let delivered = append(&appender, &lane).recv_timeout(wait).expect("an outcome");
        assert!(delivered.is_ok(), "{delivered:?}");
        let first = appender.healthy_producer();

        let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT; 1000];
        cluster.request_errors(RDKafkaApiKey::Produce, &refused);
        let outcome = append(&appender, &lane).recv_timeout(wait).expect("an outcome before a record's time is up");
        assert!(matches!(outcome, Err(Error::Unknown { .. })), "{outcome:?}");
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
        let delivered = append(&appender, &lane).recv_timeout(wait).expect("an outcome");
        assert!(delivered.is_ok(), "{delivered:?}");
        assert!(!Arc::ptr_eq(&first, &appender.healthy_producer()), "another producer delivered it");
    }
}
