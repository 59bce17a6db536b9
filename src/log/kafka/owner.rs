//! Ownership on Kafka: a transactional producer whose id names the partition.
//!
//! A producer that failed once is never used again. librdkafka can't report the outcome of a commit that timed out, but the next
//! producer that initialises the same id ends the transaction one way or the other.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use super::append::send;
use super::client::{CALL_WAIT_MAX, Clients, Events, unavailable, unusable};
use super::producer::Polled;
use crate::log::{self, Abandon, Barrier, Error, Record, Topic};

/// How long a take-over waits: the transaction of the owner before may have to be ended first.
const INITIALISE_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long each half of a commit waits: the acknowledgements of its records, and the transaction's end.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(20);

/// The key of a barrier's records, which nothing else has.
const BARRIER_KEY: &[u8] = b"!barrier";

/// The topics of which each partition is written by its owner alone.
pub(super) const OUTPUTS: [Topic; 6] =
    [Topic::State, Topic::History, Topic::Completions, Topic::ActivityTasks, Topic::Timers, Topic::Rejections];

/// How the transaction of a barrier ends.
///
/// A broker that goes down can acknowledge a transaction and lose the markers that end it. Kafka knows of nothing to end then,
/// and the next marker of this transactional id, whichever it is, ends in a partition what was left open there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BarrierEnd {
    /// Nothing was left open. A barrier that is aborted is not visible, in topics that are public.
    Abort,
    /// The changelog does not have the last transaction, so that nothing may: its commands are decided anew.
    AbortEverywhere,
    /// The changelog has the last transaction, and the history must have it too. Other outputs that were left open are committed
    /// with what comes next in their topics.
    Commit,
}

pub(super) struct Owner {
    transactions: Arc<Transactions>,
    /// To the thread that makes the commits, as librdkafka's calls can't be given up: they take as long as the broker does, which
    /// is 20 seconds and more for one that is paused.
    commits: Sender<Vec<(Topic, Record)>>,
    outcomes: Receiver<Outcome>,
    abandon: Sender<Outcome>,
    /// What ended this producer.
    broken: Option<Error>,
}

enum Outcome {
    Of(Result<Vec<i64>, Error>),
    Abandoned,
}

struct Transactions {
    producer: Polled<Acknowledgements>,
    partition: u32,
    names: BTreeMap<Topic, String>,
}

/// The delivery reports of the transaction in hand.
#[derive(Default)]
pub(super) struct Acknowledgements {
    events: Events,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    outstanding: usize,
    offsets: Vec<i64>,
    failure: Option<KafkaError>,
}

impl Owner {
    pub fn new(clients: &Clients, names: BTreeMap<Topic, String>, partition: u32) -> Result<Owner, Error> {
        let transactions = Arc::new(Transactions::new(clients, names, partition)?);
        let (commits, requested) = channel::<Vec<(Topic, Record)>>();
        let (abandon, outcomes) = channel();
        let (commit, made) = (transactions.clone(), abandon.clone());
        let serve = move || {
            for outputs in requested {
                let _ = made.send(Outcome::Of(commit.commit(&outputs)));
            }
        };
        let thread = Builder::new().name(format!("transactions-{partition}")).spawn(serve);
        thread.map_err(|error| Error::Unusable(format!("no thread can be started: {error}")))?;
        Ok(Owner { transactions, commits, outcomes, abandon, broken: None })
    }

    /// Writes the barrier's records, in a transaction that stays open until [`end_barrier`](Self::end_barrier).
    pub fn begin_barrier(&self) -> Result<Barrier, Error> {
        self.transactions.begin_barrier()
    }

    pub fn end_barrier(&self, end: BarrierEnd) -> Result<(), Error> {
        self.transactions.end_barrier(end)
    }
}

impl Transactions {
    fn new(clients: &Clients, names: BTreeMap<Topic, String>, partition: u32) -> Result<Transactions, Error> {
        let producer = Polled::new(&clients.owner(partition), Acknowledgements::default()).map_err(unusable)?;
        let made = Transactions { producer, partition, names };
        // Without the metadata the initialisation takes ten times as long.
        let client = made.producer.client();
        let fetched = client.fetch_metadata(made.names.get(&Topic::State).map(String::as_str), CALL_WAIT_MAX);
        fetched.map_err(|error| made.not_owned(error))?;
        made.producer.init_transactions(INITIALISE_WAIT_MAX).map_err(|error| made.not_owned(error))?;
        Ok(made)
    }

    fn begin_barrier(&self) -> Result<Barrier, Error> {
        let begin = || {
            self.producer.begin_transaction()?;
            self.put_barrier(&[Topic::State, Topic::History])
        };
        match begin().map_err(|error| self.not_owned(error))?[..] {
            [state, history] => Ok(Barrier { state, history }),
            _ => {
                Err(Error::Unknown { partition: self.partition, reason: "a barrier of two records has others".into() })
            }
        }
    }

    fn end_barrier(&self, end: BarrierEnd) -> Result<(), Error> {
        let partition = self.partition;
        let ended = match end {
            BarrierEnd::Abort => self.producer.abort_transaction(COMMIT_WAIT_MAX),
            BarrierEnd::AbortEverywhere => {
                tracing::warn!(partition, "the log has lost the end of a transaction, which is aborted now");
                let others = OUTPUTS.into_iter().filter(|topic| !matches!(topic, Topic::State | Topic::History));
                let put = self.put_barrier(&others.collect::<Vec<_>>());
                put.and_then(|_| self.producer.abort_transaction(COMMIT_WAIT_MAX))
            }
            BarrierEnd::Commit => {
                tracing::warn!(
                    partition,
                    "the log has lost the end of a transaction in its history, which is committed now"
                );
                self.producer.commit_transaction(COMMIT_WAIT_MAX)
            }
        };
        ended.map_err(|error| self.not_owned(error))
    }

    fn put_barrier(&self, topics: &[Topic]) -> Result<Vec<i64>, KafkaError> {
        // A compacted topic takes no record without a key.
        let nothing = Record { key: Bytes::from_static(BARRIER_KEY), ..Record::default() };
        let acknowledgements = self.producer.client().context();
        acknowledgements.expect(topics.len());
        let deadline = Instant::now() + COMMIT_WAIT_MAX;
        for (index, topic) in topics.iter().enumerate() {
            self.queue((&self.names[topic], Some(self.partition)), index, &nothing, deadline)?;
        }
        acknowledgements.wait(deadline)
    }

    fn not_owned(&self, error: KafkaError) -> Error {
        unavailable(&format!("partition {} can't be owned", self.partition), error)
    }

    fn commit(&self, outputs: &[(Topic, Record)]) -> Result<Vec<i64>, Error> {
        self.try_commit(outputs).map_err(|error| self.judge(error))
    }

    fn try_commit(&self, outputs: &[(Topic, Record)]) -> Result<Vec<i64>, KafkaError> {
        let acknowledgements = self.producer.client().context();
        acknowledgements.expect(outputs.len());
        self.producer.begin_transaction()?;
        let deadline = Instant::now() + COMMIT_WAIT_MAX;
        for (index, (topic, record)) in outputs.iter().enumerate() {
            let partition = (!matches!(topic, Topic::User(_))).then_some(self.partition);
            self.queue((&self.names[topic], partition), index, record, deadline)?;
        }
        // librdkafka would wait for these too, but in steps of 100 ms.
        let offsets = acknowledgements.wait(deadline)?;
        self.producer.commit_transaction(COMMIT_WAIT_MAX)?;
        Ok(offsets)
    }

    fn queue(
        &self,
        (topic, partition): (&str, Option<u32>),
        index: usize,
        record: &Record,
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        loop {
            match send(&self.producer, topic, partition, record, index) {
                Err(error) if is(&error, RDKafkaErrorCode::QueueFull) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                outcome => return outcome,
            }
        }
    }

    /// Classifies a failure. The producer's fatal error, if it has one, is more specific than the failure that followed.
    fn judge(&self, error: KafkaError) -> Error {
        use RDKafkaErrorCode as Code;
        let fatal = self.producer.client().fatal_error();
        let code = fatal.as_ref().map(|(code, _)| *code).or(error.rdkafka_error_code());
        match code {
            // The transaction's coordinator answers the same to an owner whose transaction it gave up on: either way the
            // partition must be owned again.
            Some(Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch) => {
                Error::Fenced { partition: self.partition }
            }
            _ => {
                let reason = fatal.map_or_else(|| error.to_string(), |(_, reason)| reason);
                Error::Unknown { partition: self.partition, reason }
            }
        }
    }
}

impl log::Owner for Owner {
    fn commit(&mut self, outputs: Vec<(Topic, Record)>) -> Result<Vec<i64>, Error> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        if outputs.is_empty() {
            return Ok(Vec::new());
        }
        for (topic, record) in &outputs {
            record.check_size(*topic)?;
        }
        let unknown =
            |reason: &str| Err(Error::Unknown { partition: self.transactions.partition, reason: reason.to_owned() });
        let outcome = match self.commits.send(outputs).map(|()| self.outcomes.recv()) {
            Ok(Ok(Outcome::Of(outcome))) => outcome,
            Ok(Ok(Outcome::Abandoned)) => unknown("the commit was abandoned"),
            Ok(Err(_)) | Err(_) => unknown("the thread that commits has ended"),
        };
        outcome.inspect_err(|error| self.broken = Some(error.clone()))
    }

    fn abandon(&self) -> Abandon {
        let abandon = self.abandon.clone();
        Arc::new(move || {
            let _ = abandon.send(Outcome::Abandoned);
        })
    }
}

fn is(error: &KafkaError, code: RDKafkaErrorCode) -> bool {
    error.rdkafka_error_code() == Some(code)
}

impl Acknowledgements {
    fn expect(&self, outstanding: usize) {
        *self.lock() = Progress { outstanding, offsets: vec![-1; outstanding], failure: None };
    }

    fn wait(&self, deadline: Instant) -> Result<Vec<i64>, KafkaError> {
        let mut progress = self.lock();
        while progress.outstanding > 0 && progress.failure.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
            }
            progress = self.changed.wait_timeout(progress, left).expect("nothing that panics runs under this lock").0;
        }
        match progress.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut progress.offsets)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing that panics runs under this lock")
    }
}

impl ClientContext for Acknowledgements {
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

impl ProducerContext for Acknowledgements {
    /// The index of the output.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut progress = self.lock();
        match result {
            Ok(message) if message.offset() >= 0 => {
                if let Some(offset) = progress.offsets.get_mut(index) {
                    *offset = message.offset();
                }
            }
            // The record is there, but its offset is not known: rather do it all again than commit without knowing.
            Ok(_) => progress.failure = Some(KafkaError::MessageProduction(RDKafkaErrorCode::DuplicateSequenceNumber)),
            Err((error, _)) => progress.failure = Some(error.clone()),
        }
        progress.outstanding = progress.outstanding.saturating_sub(1);
        if progress.outstanding == 0 || progress.failure.is_some() {
            self.changed.notify_all();
        }
    }
}
