//! What only Kafka has: brokers that aren't there or restart, topics with other settings, open transactions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace::log::kafka::{Config, Kafka};
use millrace::log::{Assignee, Barrier, Error, Isolation, Log, Node, Owned, Topic};
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::broker::Broker;
use crate::subject::{PATIENCE, administer, append, create_topic, kafka_config, read, record, text_of};

fn refusal(config: Config) -> Error {
    match Kafka::connect(config) {
        Err(error) => error,
        Ok(_) => panic!("expected a refusal, but the log opened"),
    }
}

/// Another process's owner of partition 0, as far as Kafka can tell, in the middle of a transaction.
fn half_done(config: &Config) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .set("transactional.id", format!("{}0", config.topic_prefix))
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    for topic in ["state", "history"] {
        let name = format!("{}{topic}", config.topic_prefix);
        producer.send(BaseRecord::to(&name).partition(0).key("half").payload("half")).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    producer
}

/// Waits for the markers of the last commit, which Kafka writes after it has answered.
fn settle(log: &Kafka, end: i64) {
    let started = Instant::now();
    while log.end_at_least(Topic::State, 0, Isolation::ReadCommitted).unwrap() < end {
        assert!(started.elapsed() < PATIENCE);
    }
}

fn texts(log: &Kafka, topic: Topic, isolation: Isolation) -> Vec<String> {
    read(log, topic, 0, isolation).iter().map(|stored| text_of(&stored.record)).collect()
}

#[test]
fn a_missing_broker_is_named_soon() {
    let started = Instant::now();
    let error = refusal(Config::new("127.0.0.1:1"));
    let text = error.to_string();
    assert!(text.contains("no Kafka broker answers at 127.0.0.1:1") && text.contains("refused"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(12));
}

#[test]
fn a_wrong_property_is_named() {
    let properties = BTreeMap::from([("sasl.mechansm".to_string(), "PLAIN".to_string())]);
    let text = refusal(Config { properties, ..Config::new("127.0.0.1:1") }).to_string();
    assert!(text.contains("sasl.mechansm"), "{text}");
}

#[test]
fn partitions_that_users_add_to_their_topics_are_found() {
    let config = kafka_config(Broker::shared());
    let topic = Topic::user(&format!("{}shop.orders", config.topic_prefix));
    create_topic(topic.name(), 2, &[]);
    let log = Kafka::connect(Config { user_topics: vec![topic], ..config }).unwrap();
    append(&log, topic, 1, vec![record("one")]).unwrap();
    assert_eq!(log.look_for_partitions(topic).unwrap(), 2);
    assert!(append(&log, topic, 2, vec![record("nowhere")]).unwrap_err().to_string().contains("no partition 2"));
    administer(async |admin| {
        let three = NewPartitions::new(topic.name(), 3);
        admin.create_partitions([&three], &AdminOptions::new().operation_timeout(Some(PATIENCE))).await.unwrap()
    });
    let started = Instant::now();
    while log.look_for_partitions(topic).unwrap() < 3 {
        assert!(started.elapsed() < PATIENCE, "the new partition is not found");
    }
    assert_eq!(log.partitions_of(topic), 3);
    // It may not be led yet.
    while let Err(error) = append(&log, topic, 2, vec![record("two")]) {
        assert!(started.elapsed() < PATIENCE, "{error}");
    }
    let found = read(&log, topic, 2, Isolation::ReadCommitted);
    assert_eq!(found.iter().map(|stored| text_of(&stored.record)).collect::<Vec<_>>(), ["two"]);
    assert_eq!(log.look_for_partitions(Topic::Requests).unwrap(), log.partitions());
}

#[test]
fn topics_are_taken_as_they_are() {
    let config = kafka_config(Broker::shared());
    drop(Kafka::connect(Config { partitions: Some(3), ..config.clone() }).unwrap());
    assert_eq!(Kafka::connect(Config { partitions: None, ..config.clone() }).unwrap().partitions(), 3);
    let text = refusal(config).to_string();
    assert!(text.contains("number of partitions is 3, but should be 2"), "{text}");
}

#[test]
fn wrong_topics_are_named() {
    for (topic, partitions, settings, said) in [
        (
            "commands",
            2,
            [("message.timestamp.type", "CreateTime"), ("max.message.bytes", "9000000")].as_slice(),
            "retention.ms is",
        ),
        (
            "state",
            2,
            &[("cleanup.policy", "delete"), ("max.message.bytes", "9000000")],
            "cleanup.policy is delete, but should be compact",
        ),
        ("timers", 2, &[], "max.message.bytes is 1048588, but should be at least 8388608"),
        ("history", 5, &[("cleanup.policy", "compact")], "number of partitions is 5, but should be 2"),
        ("control", 2, &[("cleanup.policy", "compact")], "number of partitions is 2, but should be 1"),
    ] {
        let config = kafka_config(Broker::shared());
        let name = format!("{}{topic}", config.topic_prefix);
        create_topic(&name, partitions, settings);
        let text = refusal(config).to_string();
        assert!(text.contains(&name) && text.contains(said), "{text}");
    }
}

#[test]
fn topics_are_not_created_where_the_settings_forbid_it() {
    let config = Config { create_topics: false, ..kafka_config(Broker::shared()) };
    let text = refusal(config.clone()).to_string();
    assert!(text.contains(&format!("topic {}requests does not exist", config.topic_prefix)), "{text}");
    drop(Kafka::connect(Config { create_topics: true, ..config.clone() }).unwrap());
    assert!(Kafka::connect(config).is_ok());
}

#[test]
fn a_users_topic_that_is_not_there_is_named() {
    let config = Config { user_topics: vec![Topic::User("no.such.topic")], ..kafka_config(Broker::shared()) };
    let text = refusal(config).to_string();
    assert!(text.contains("topic no.such.topic does not exist"), "{text}");
}

#[test]
fn a_topic_created_again_has_another_id() {
    let config = kafka_config(Broker::shared());
    let topic = Topic::user(&format!("{}again", config.topic_prefix));
    create_topic(topic.name(), 1, &[]);
    let log = Kafka::connect(Config { user_topics: vec![topic], ..config }).unwrap();
    let before = log.topic_id(topic).unwrap();
    assert_eq!(log.topic_id(topic).unwrap(), before);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    administer(async |admin| admin.delete_topics(&[topic.name()], &options).await).unwrap()[0].as_ref().unwrap();
    let started = Instant::now();
    while log.topic_id(topic).is_ok() {
        assert!(started.elapsed() < PATIENCE, "the topic should be gone");
    }
    create_topic(topic.name(), 1, &[]);
    let after = loop {
        match log.topic_id(topic) {
            Ok(id) => break id,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert_ne!(after, before);
}

#[test]
fn more_replicas_than_brokers_are_refused() {
    let config = Config { replication_factor: Some(2), ..kafka_config(Broker::shared()) };
    let text = refusal(config).to_string();
    assert!(text.contains("replication factor of 2, the cluster has 1 brokers"), "{text}");
}

#[test]
fn nodes_may_start_together() {
    let config = kafka_config(Broker::shared());
    std::thread::scope(|scope| {
        let nodes: Vec<_> =
            (0..3).map(|_| scope.spawn(|| Kafka::connect(config.clone()).map(|log| log.partitions()))).collect();
        for node in nodes {
            assert_eq!(node.join().unwrap().unwrap(), 2);
        }
    });
}

struct Indifferent;

impl Assignee for Indifferent {
    fn assigned(&self, _: &[u32]) {}

    fn revoked(&self, _: &[u32]) {}

    fn lost(&self, _: &[u32]) {}

    fn failed(&self, error: Error) {
        panic!("{error}");
    }
}

#[test]
fn the_group_tells_which_nodes_have_joined() {
    let log = Kafka::connect(kafka_config(Broker::shared())).unwrap();
    assert_eq!(log.members().unwrap_or_default(), Vec::<String>::new());
    let join = |id: &str| {
        let node = Node { id: id.to_owned(), session_timeout: Duration::from_secs(6) };
        log.join(&node, Arc::new(Indifferent)).unwrap()
    };
    // An id may be anything.
    let ids = ["a-node-with-hyphens", "0190b2a7-8e4c-7b1e-9c55-0242ac120002"];
    let _members = ids.map(join);
    let started = Instant::now();
    loop {
        // A broker that has just started has no coordinator for it yet.
        let mut members = log.members().unwrap_or_default();
        members.sort();
        if members == ["0190b2a7-8e4c-7b1e-9c55-0242ac120002", "a-node-with-hyphens"] {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "the members are {members:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_open_transaction_is_seen_by_uncommitted_readers_only_and_ends_with_the_next_owner() {
    let config = kafka_config(Broker::shared());
    let log = Kafka::connect(config.clone()).unwrap();
    log.own(0).unwrap().owner.commit(vec![(Topic::State, record("before"))]).unwrap();
    settle(&log, 4);
    let dead = half_done(&config);
    assert_eq!(log.end_at_least(Topic::State, 0, Isolation::ReadCommitted).unwrap(), 4);
    assert_eq!(log.end_at_least(Topic::State, 0, Isolation::ReadUncommitted).unwrap(), 5);
    assert_eq!(texts(&log, Topic::State, Isolation::ReadCommitted), ["before"]);
    assert_eq!(texts(&log, Topic::State, Isolation::ReadUncommitted), ["", "before", "half"], "with the barrier");

    let started = Instant::now();
    let Owned { mut owner, barrier } = log.own(0).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "a take-over should not wait for the transaction's time-out");
    // After the aborted record and its marker: a reader goes past both.
    assert_eq!(barrier, Barrier { state: 6, history: 4 });
    settle(&log, 8);
    assert_eq!(texts(&log, Topic::State, Isolation::ReadCommitted), ["before"]);
    assert!(texts(&log, Topic::History, Isolation::ReadCommitted).is_empty());

    dead.commit_transaction(PATIENCE).unwrap_err();
    assert_eq!(owner.commit(vec![(Topic::State, record("after"))]).unwrap(), [8]);
    settle(&log, 10);
    assert_eq!(texts(&log, Topic::State, Isolation::ReadCommitted), ["before", "after"]);
}

#[test]
fn appends_and_owners_outlive_a_restart_of_the_broker() {
    let broker = Broker::start();
    let log = Kafka::connect(kafka_config(&broker)).unwrap();
    let mut owner = log.own(0).unwrap().owner;
    append(&log, Topic::Commands, 0, vec![record("0")]).unwrap();
    owner.commit(vec![(Topic::State, record("before"))]).unwrap();
    let mut reader = log.reader(Topic::Commands, 0, 0, Isolation::ReadUncommitted).unwrap();
    std::thread::scope(|scope| {
        let log = &log;
        let appends = scope.spawn(move || {
            for number in 1..200 {
                append(log, Topic::Commands, 0, vec![record(number.to_string())]).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        broker.restart();
        appends.join().unwrap();
    });
    let (mut seen, started) = (Vec::new(), Instant::now());
    while seen.len() < 200 && started.elapsed() < PATIENCE {
        // The reader may say that the broker is away: it goes on when it is back.
        if let Ok(read) = reader.next(1000, Duration::from_millis(500)) {
            seen.extend(read.records.iter().map(|stored| text_of(&stored.record)));
        }
    }
    assert_eq!(seen, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
    if owner.commit(vec![(Topic::State, record("after"))]).is_err() {
        // It need not survive, but whoever owns next goes on.
        log.own(0).unwrap().owner.commit(vec![(Topic::State, record("after"))]).unwrap();
    }
    let started = Instant::now();
    while texts(&log, Topic::State, Isolation::ReadCommitted) != ["before", "after"] {
        assert!(started.elapsed() < PATIENCE);
    }
}
