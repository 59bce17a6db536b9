//! One reading of a partition of a topic: a batch is read and sent, waited for, and then the position is committed. After any
//! doubt another reading begins, at the committed position.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::{Feed, translate};
use crate::engine::{EntityId, Rejection};
use crate::log::{Error, Isolation, Reader, Stored};
use crate::metrics;
use crate::partition::{Done, Node};
use crate::proto::commands::Source;
use crate::registry;

/// What the names begin with under which positions are kept. The topic's id follows: a position that is committed late, when
/// the topic was deleted and created again, must not be taken for one in the new topic.
const CONSUMER: &str = "ingress";
/// Records under way at once, per partition of a topic.
const BATCH: usize = 500;
/// How often a topic's id and end are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often the schema registry is asked again what a record is.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a position is committed though it does not advance.
const COMMIT_EVERY: Duration = Duration::from_secs(3600);

pub struct Reading {
    node: Arc<Node>,
    feed: Feed,
    topic_id: String,
    consumer: String,
    /// What its records are numbered under.
    source: String,
    reader: Box<dyn Reader>,
    next: i64,
    /// What this reading sent last to each partition. Nothing yet: what came before the position has been decided.
    sent: BTreeMap<u32, i64>,
    under_way: Option<UnderWay>,
    held: Option<Held>,
    committed: Instant,
    looked: Option<Instant>,
}

/// Records that were read, the first of which could not be decoded yet.
struct Held {
    records: VecDeque<Stored>,
    next_offset: i64,
    /// How often that failed.
    attempts: u32,
}

/// A batch that was sent.
struct UnderWay {
    outcomes: Receiver<Result<(), String>>,
    waiting: usize,
    /// Why records were not decided, and how many.
    failed: BTreeMap<String, usize>,
    /// Where the next batch begins.
    next: i64,
}

impl Reading {
    /// Begins at the committed position. The node must know all namespaces.
    pub fn open(node: &Arc<Node>, feed: &Feed) -> Result<Self, Error> {
        let (log, topic, partition) = (&node.log, feed.topic, feed.partition);
        // A topic that was deleted and created again has other records under the same offsets.
        let topic_id = log.topic_id(topic)?;
        // The name too, as old brokers give no ids.
        let source = format!("{}:{topic_id}/{partition}", topic.name());
        let consumer = if topic_id.is_empty() { CONSUMER.to_owned() } else { format!("{CONSUMER}.{topic_id}") };
        let start = log.start_offset(topic, partition)?;
        // An old position, of a broker that was paused, is harmless: what was decided is refused as a duplicate.
        let mut next = log.committed(&consumer, topic, partition)?.unwrap_or(start).max(start);
        let reader = match log.reader(topic, partition, next, Isolation::ReadCommitted) {
            Err(Error::PastTheEnd { end, .. }) => {
                tracing::warn!(
                    topic = topic.name(),
                    partition,
                    next,
                    end,
                    "the topic ends before the position: it is read from its start"
                );
                next = start;
                log.reader(topic, partition, next, Isolation::ReadCommitted)?
            }
            reader => reader?,
        };
        Ok(Self {
            node: node.clone(),
            feed: feed.clone(),
            topic_id,
            consumer,
            source,
            reader,
            next,
            sent: BTreeMap::new(),
            under_way: None,
            held: None,
            committed: node.now(),
            looked: None,
        })
    }

    /// Reads a batch, waiting at most `wait` for its first record, and sends it. Each record names the one before it, so
    /// that none is decided while an earlier one is still missing. A record that can't be decoded now holds up what comes
    /// after it: see [`pause`](Self::pause).
    pub fn send(&mut self, wait: Duration) -> Result<(), Error> {
        let Held { mut records, next_offset, mut attempts } = match self.held.take() {
            Some(held) => held,
            None => self.read(wait)?,
        };
        if records.is_empty() {
            self.next = next_offset;
            return Ok(());
        }
        let (sender, outcomes) = channel();
        let (mut waiting, mut next) = (0, next_offset);
        while let Some(stored) = records.front() {
            let topic = self.feed.topic.name();
            let done = sender.clone();
            let decided = move |outcome| {
                let _ = done.send(settled(topic, outcome));
            };
            if let Err(error) = self.send_one(stored, Box::new(decided)) {
                next = stored.offset;
                let held = Held { records, next_offset, attempts: attempts + 1 };
                self.hold(held, next, &error);
                break;
            }
            if std::mem::take(&mut attempts) > 0 {
                tracing::info!(topic, partition = self.feed.partition, offset = stored.offset, "the stream goes on");
            }
            waiting += 1;
            records.pop_front();
        }
        if waiting > 0 {
            self.under_way = Some(UnderWay { outcomes, waiting, failed: BTreeMap::new(), next });
        }
        Ok(())
    }

    fn read(&mut self, wait: Duration) -> Result<Held, Error> {
        let read = self.reader.next(BATCH, wait)?;
        if read.next_offset < self.next {
            return Err(Error::Unavailable(format!("it goes on at {} instead of {}", read.next_offset, self.next)));
        }
        Ok(Held { records: read.records.into(), next_offset: read.next_offset, attempts: 0 })
    }

    fn hold(&mut self, held: Held, offset: i64, error: &registry::Error) {
        let (topic, partition) = (self.feed.topic.name(), self.feed.partition);
        metrics::schema_registry_wait(topic, partition);
        self.held = Some(held);
        let again_in_s = self.pause().unwrap_or_default().as_secs_f64();
        tracing::warn!(topic, partition, offset, again_in_s, "the stream waits: {error}");
    }

    /// How long to wait before the next [`send`](Self::send): none, unless the schema registry did not return what the next
    /// record is. Longer each time.
    pub fn pause(&self) -> Option<Duration> {
        let held = self.held.as_ref()?;
        Some(PAUSE_MAX.min(PAUSE_MIN * 2u32.pow(held.attempts.clamp(1, 16) - 1)))
    }

    fn send_one(&mut self, stored: &Stored, decided: Done<Result<(), Rejection>>) -> Result<(), registry::Error> {
        let node = &self.node;
        let source = Source {
            name: self.source.clone(),
            topic: self.feed.topic.name().to_owned(),
            sequence: stored.offset + 1,
            previous: -1,
            ..Source::default()
        };
        let mut command = translate::command(node, &self.feed, stored, source)?;
        let entity = EntityId::of(&command).expect("a request is to an entity of a kind that is known");
        let target = node.partition_of(&entity);
        if let (Some(source), Some(previous)) = (&mut command.source, self.sent.insert(target, stored.offset + 1)) {
            source.previous = previous;
        }
        node.decide_anywhere(target, command, decided);
        Ok(())
    }

    /// Waits until all that was sent has been decided, and commits the position.
    pub fn wait(&mut self) -> Result<(), Error> {
        let Some(under_way) = &mut self.under_way else { return Ok(()) };
        while under_way.waiting > 0 {
            under_way.take(under_way.outcomes.recv().unwrap_or_else(|_| stopped()));
        }
        self.settle()
    }

    /// Takes what has been decided so far, and commits the position if that is all. Whether it is.
    pub fn poll(&mut self) -> Result<bool, Error> {
        let Some(under_way) = &mut self.under_way else { return Ok(true) };
        while under_way.waiting > 0 {
            match under_way.outcomes.try_recv() {
                Ok(outcome) => under_way.take(outcome),
                Err(TryRecvError::Disconnected) => under_way.take(stopped()),
                Err(TryRecvError::Empty) => return Ok(false),
            }
        }
        self.settle().map(|()| true)
    }

    fn settle(&mut self) -> Result<(), Error> {
        let Some(UnderWay { failed, next, .. }) = self.under_way.take() else { return Ok(()) };
        if let Some(reason) = failed.into_keys().next() {
            return Err(Error::Unavailable(reason));
        }
        self.next = next;
        self.node.log.commit_position(&self.consumer, self.feed.topic, self.feed.partition, next)
    }

    /// Looks now and then whether the topic is still the one that it was, and how far its end is away.
    pub fn look(&mut self) -> Result<(), Error> {
        let now = self.node.now();
        if self.looked.is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY) {
            return Ok(());
        }
        self.looked = Some(now);
        let (log, topic, partition) = (&self.node.log, self.feed.topic, self.feed.partition);
        if log.topic_id(topic)? != self.topic_id {
            return Err(Error::Unavailable("it was deleted and created again".into()));
        }
        // Kafka expires positions that are not committed for days.
        if now.duration_since(self.committed) >= COMMIT_EVERY {
            log.commit_position(&self.consumer, topic, partition, self.next)?;
            self.committed = now;
        }
        // For people only: an old end shows less of a lag.
        let end = log.end_at_least(topic, partition, Isolation::ReadCommitted)?;
        metrics::ingress_position(topic.name(), partition, self.next.min(end), end);
        Ok(())
    }
}

impl UnderWay {
    fn take(&mut self, outcome: Result<(), String>) {
        self.waiting -= 1;
        if let Err(reason) = outcome {
            *self.failed.entry(reason).or_default() += 1;
        }
    }
}

fn stopped() -> Result<(), String> {
    Err("the partition has stopped".into())
}

/// Whether a record's command has been decided; if not, why.
fn settled(topic: &'static str, outcome: Result<Result<(), Rejection>, String>) -> Result<(), String> {
    let how = match outcome {
        Err(reason) | Ok(Err(Rejection::OutOfOrder(reason))) => return Err(reason),
        Ok(Ok(())) => "accepted",
        Ok(Err(Rejection::Duplicate)) => "duplicate",
        Ok(Err(_)) => "rejected",
    };
    metrics::request_ingested(topic, how);
    Ok(())
}
