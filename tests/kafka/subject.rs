//! A fresh log under test, and short ways to use it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace::log::embedded::{Embedded, Options};
use millrace::log::kafka::{Config, Kafka};
use millrace::log::{Appended, Error, Isolation, Log, Owner, Reader, Record, Stored, Topic};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::metadata::MetadataTopic;

use crate::broker::Broker;

pub const PARTITIONS: u32 = 2;

/// Long enough for a busy machine: a test that waits for so long fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Subject {
    log: Option<Box<dyn Log>>,
    open: Box<dyn Fn() -> Box<dyn Log> + Send + Sync>,
    exclusive: bool,
    /// A topic of the users' own.
    pub user_topic: Topic,
}

impl Subject {
    pub fn embedded() -> Subject {
        Subject::embedded_with(Options { partitions: Some(PARTITIONS), ..Options::default() })
    }

    pub fn embedded_with_fsync() -> Subject {
        Subject::embedded_with(Options { partitions: Some(PARTITIONS), fsync: true, ..Options::default() })
    }

    fn embedded_with(options: Options) -> Subject {
        let directory = tempfile::tempdir().unwrap();
        let user_topic = Topic::User("shop.orders");
        let options = Options { user_topics: vec![user_topic], ..options };
        Subject::new(true, user_topic, move || {
            Box::new(Embedded::open(&directory.path().join("log"), options.clone()).unwrap())
        })
    }

    pub fn kafka() -> Subject {
        let config = kafka_config(Broker::shared());
        let user_topic = Topic::user(&format!("{}shop.orders", config.topic_prefix));
        create_topic(user_topic.name(), PARTITIONS as i32, &[]);
        let config = Config { user_topics: vec![user_topic], ..config };
        Subject::new(false, user_topic, move || Box::new(Kafka::connect(config.clone()).unwrap()))
    }

    fn new(exclusive: bool, user_topic: Topic, open: impl Fn() -> Box<dyn Log> + Send + Sync + 'static) -> Subject {
        Subject { log: Some(open()), open: Box::new(open), exclusive, user_topic }
    }

    /// Closes the log and opens it again, as the next process would.
    pub fn reopen(&mut self) {
        self.log = None;
        self.log = Some((self.open)());
    }

    /// Whether no two processes can have the log open.
    pub fn exclusive(&self) -> bool {
        self.exclusive
    }

    pub fn log(&self) -> &dyn Log {
        self.log.as_deref().unwrap()
    }

    pub fn own(&self, partition: u32) -> Box<dyn Owner> {
        self.log().own(partition).unwrap().owner
    }

    pub fn append(&self, topic: Topic, partition: u32, records: Vec<Record>) -> Vec<Appended> {
        append(self.log(), topic, partition, records).unwrap()
    }

    pub fn reader(&self, topic: Topic, partition: u32, from: i64) -> Box<dyn Reader> {
        self.log().reader(topic, partition, from, Isolation::ReadCommitted).unwrap()
    }

    /// Where read_committed readers end.
    pub fn end(&self, topic: Topic, partition: u32) -> i64 {
        self.log().end_at_least(topic, partition, Isolation::ReadCommitted).unwrap()
    }

    /// Expects the end at `end`, now or when the markers of the last commit are written.
    #[track_caller]
    pub fn ends_at(&self, topic: Topic, partition: u32, end: i64) {
        let started = Instant::now();
        while self.end(topic, partition) < end && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(self.end(topic, partition), end);
    }

    /// Expects read_committed readers to see these texts, now or when the markers of the last commit are written.
    #[track_caller]
    pub fn shows<T: AsRef<str>>(&self, topic: Topic, partition: u32, texts: &[T]) {
        let expected: Vec<&str> = texts.iter().map(T::as_ref).collect();
        let started = Instant::now();
        while self.texts(topic, partition).len() < expected.len() && started.elapsed() < PATIENCE {}
        assert_eq!(self.texts(topic, partition), expected);
    }

    /// All that a read_committed reader sees from the start to where the log ends now.
    pub fn read(&self, topic: Topic, partition: u32) -> Vec<Stored> {
        read(self.log(), topic, partition, Isolation::ReadCommitted)
    }

    /// The texts of [`Subject::read`].
    pub fn texts(&self, topic: Topic, partition: u32) -> Vec<String> {
        self.read(topic, partition).iter().map(|stored| text_of(&stored.record)).collect()
    }
}

/// Talks to the shared broker as its administrator.
pub fn administer<T>(what: impl AsyncFnOnce(&AdminClient<DefaultClientContext>) -> T) -> T {
    let admin = ClientConfig::new().set("bootstrap.servers", &Broker::shared().address).create().unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(what(&admin))
}

pub fn create_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let topic = settings
        .iter()
        .fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |topic, (key, value)| topic.set(key, value));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    administer(async |admin| {
        for result in admin.create_topics([&topic], &options).await.unwrap() {
            result.unwrap();
        }
        // A broker tells of a topic some time after it has created it.
        let begun = Instant::now();
        let led = |topic: &MetadataTopic| topic.partitions().iter().all(|partition| partition.leader() >= 0);
        while !admin
            .inner()
            .fetch_metadata(Some(name), PATIENCE)
            .unwrap()
            .topics()
            .iter()
            .any(|topic| topic.name() == name && topic.partitions().len() == partitions as usize && led(topic))
        {
            assert!(begun.elapsed() < PATIENCE, "the topic {name} is not to be seen");
        }
    });
}

/// Settings with a prefix of their own, so that no test sees another's topics.
pub fn kafka_config(broker: &Broker) -> Config {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let prefix = format!("test{}.", NEXT.fetch_add(1, Ordering::Relaxed));
    Config { topic_prefix: prefix, partitions: Some(PARTITIONS), ..Config::new(&broker.address) }
}

pub fn append(log: &dyn Log, topic: Topic, partition: u32, records: Vec<Record>) -> Result<Vec<Appended>, Error> {
    let (done, outcome) = mpsc::channel();
    log.append(topic, partition, records, Box::new(move |result| done.send(result).unwrap()));
    outcome.recv_timeout(PATIENCE).expect("the append should have had an outcome")
}

pub fn read(log: &dyn Log, topic: Topic, partition: u32, isolation: Isolation) -> Vec<Stored> {
    let end = log.end_at_least(topic, partition, isolation).unwrap();
    let mut reader = log.reader(topic, partition, 0, isolation).unwrap();
    let mut next = log.start_offset(topic, partition).unwrap();
    let mut records = Vec::new();
    let started = Instant::now();
    while next < end {
        match reader.next(1000, Duration::from_millis(500)) {
            Ok(read) => {
                records.extend(read.records);
                next = read.next_offset;
            }
            // A broker may be too busy to answer a new client in time: it is asked again, as the server does.
            Err(Error::Unavailable(_)) => {}
            Err(error) => panic!("{topic:?}-{partition} can't be read: {error}"),
        }
        assert!(started.elapsed() < PATIENCE, "a reader should reach the end at {end}, but is at {next}");
    }
    records
}

/// A record whose key is its text.
pub fn record(text: impl Into<String>) -> Record {
    let text = text.into();
    Record { key: Bytes::from(text.clone()), value: Some(Bytes::from(text)), headers: Vec::new() }
}

pub fn text_of(record: &Record) -> String {
    String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap()
}
