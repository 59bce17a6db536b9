//! Topics of the users' own: answers go there, and records come from there.

use std::collections::BTreeMap;

use millrace::log::{Record, Topic};

use crate::subject::{PARTITIONS, Subject, record, text_of};

fn keyed(key: usize, number: usize) -> Record {
    Record { key: format!("key {key}").into(), ..record(format!("{key}/{number}")) }
}

pub fn a_commit_reaches_a_users_topic_by_key(subject: Subject) {
    for partition in 0..PARTITIONS {
        let records = (0..8).flat_map(|key| (0..5).map(move |number| (key, partition as usize * 5 + number)));
        let mut outputs: Vec<_> = records.map(|(key, number)| (subject.user_topic, keyed(key, number))).collect();
        outputs.push((Topic::State, record("state")));
        subject.own(partition).commit(outputs).unwrap();
        subject.shows(Topic::State, partition, &["state"]);
    }
    let mut found: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
    let started = std::time::Instant::now();
    while found.values().map(Vec::len).sum::<usize>() < 80 && started.elapsed() < crate::subject::PATIENCE {
        found.clear();
        for partition in 0..PARTITIONS {
            for stored in subject.read(subject.user_topic, partition) {
                let key = String::from_utf8(stored.record.key.to_vec()).unwrap();
                found.entry(key).or_default().push((partition, text_of(&stored.record)));
            }
        }
    }
    for (number, (key, records)) in found.iter().enumerate() {
        let partition = records[0].0;
        let expected: Vec<_> = (0..10).map(|n| (partition, format!("{number}/{n}"))).collect();
        assert_eq!(records, &expected, "a key's records stay together, in order: {key}");
    }
    assert_eq!(found.len(), 8);
}

pub fn a_users_topic_is_there_after_a_restart(mut subject: Subject) {
    let topic = subject.user_topic;
    assert_eq!(subject.log().partitions_of(topic), PARTITIONS);
    assert!(subject.log().topics().contains(&topic));
    let id = subject.log().topic_id(topic).unwrap();
    subject.append(topic, 1, vec![record("one"), record("two")]);
    subject.log().commit_position("ingress", topic, 1, 1).unwrap();
    subject.reopen();
    subject.shows(topic, 1, &["one", "two"]);
    assert_eq!(subject.log().committed("ingress", topic, 1).unwrap(), Some(1));
    assert_eq!(subject.log().topic_id(topic).unwrap(), id);
    assert_ne!(subject.log().topic_id(Topic::Requests).unwrap(), id);
}
