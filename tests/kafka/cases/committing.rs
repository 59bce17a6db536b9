//! Transactions of one owner.

use std::time::{Duration, Instant};

use millrace::log::{Error, Isolation, RECORD_BYTES_MAX, Record, Topic};

use crate::subject::{PATIENCE, Subject, record, text_of};

const OUTPUTS: [Topic; 6] =
    [Topic::History, Topic::Completions, Topic::ActivityTasks, Topic::Timers, Topic::Rejections, Topic::State];

pub fn a_commit_reaches_every_topic(subject: Subject) {
    let mut owner = subject.own(1);
    let outputs: Vec<_> = OUTPUTS
        .iter()
        .flat_map(|topic| (0..3).map(move |number| (*topic, record(format!("{topic:?} {number}")))))
        .collect();
    let offsets = owner.commit(outputs.clone()).unwrap();
    assert_eq!(offsets.len(), outputs.len());
    for topic in OUTPUTS {
        subject.shows(topic, 1, &(0..3).map(|number| format!("{topic:?} {number}")).collect::<Vec<_>>());
        let told = outputs.iter().zip(&offsets).filter(|(output, _)| output.0 == topic).map(|(_, offset)| *offset);
        let stored = subject.read(topic, 1);
        assert_eq!(told.collect::<Vec<_>>(), stored.iter().map(|stored| stored.offset).collect::<Vec<_>>());
        assert!(subject.texts(topic, 0).is_empty());
    }
}

pub fn a_commit_leaves_one_gap_in_each_topic_that_it_touched(subject: Subject) {
    let mut owner = subject.own(0);
    assert_eq!(owner.commit(vec![(Topic::State, record("a")), (Topic::State, record("b"))]).unwrap(), [2, 3]);
    subject.ends_at(Topic::State, 0, 5);
    let both = vec![(Topic::Timers, record("t")), (Topic::State, record("c"))];
    assert_eq!(owner.commit(both).unwrap(), [0, 5]);
    subject.ends_at(Topic::State, 0, 7);
    subject.ends_at(Topic::Timers, 0, 2);
    // The owner's barrier.
    subject.ends_at(Topic::History, 0, 2);
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        assert_eq!(subject.log().end_at_least(Topic::State, 0, isolation).unwrap(), 7);
    }
    let mut reader = subject.reader(Topic::State, 0, 0);
    let mut seen = Vec::new();
    let started = Instant::now();
    let mut next = 0;
    while next < 7 && started.elapsed() < PATIENCE {
        let read = reader.next(100, Duration::from_secs(1)).unwrap();
        seen.extend(read.records.iter().map(|stored| stored.offset));
        next = read.next_offset;
    }
    assert_eq!((seen, next), (vec![2, 3, 5], 7), "a reader should go on past the markers");
}

pub fn a_commit_is_seen_whole_or_not_at_all(subject: Subject) {
    let mut owner = subject.own(0);
    std::thread::scope(|scope| {
        let subject = &subject;
        let watcher = scope.spawn(move || {
            let mut reader = subject.reader(Topic::State, 0, 0);
            let (mut seen, started) = (0, Instant::now());
            while seen < 50 && started.elapsed() < PATIENCE {
                for stored in reader.next(1000, Duration::from_millis(200)).unwrap().records {
                    let number: usize = text_of(&stored.record).strip_prefix("head ").unwrap().parse().unwrap();
                    assert_eq!(number, seen);
                    seen += 1;
                    // It stands, so all of it does, in every topic.
                    let started = Instant::now();
                    while subject.read(Topic::Completions, 0).len() < seen * 3 {
                        assert!(started.elapsed() < PATIENCE);
                    }
                }
            }
            assert_eq!(seen, 50);
        });
        for number in 0..50 {
            let completion = |part: u32| (Topic::Completions, record(format!("{number} {part}")));
            let head = (Topic::State, record(format!("head {number}")));
            owner.commit(vec![completion(0), completion(1), completion(2), head]).unwrap();
        }
        watcher.join().unwrap();
    });
}

pub fn a_refused_commit_leaves_nothing(subject: Subject) {
    let mut owner = subject.own(0);
    let large = Record { value: Some(vec![0; RECORD_BYTES_MAX + 1].into()), ..Record::default() };
    let refused = owner.commit(vec![(Topic::History, record("lost")), (Topic::State, large)]);
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    owner.commit(vec![(Topic::History, record("kept"))]).unwrap();
    subject.shows(Topic::History, 0, &["kept"]);
    assert!(subject.texts(Topic::State, 0).is_empty());
}

pub fn an_owner_that_never_commits_leaves_nothing(subject: Subject) {
    drop(subject.own(0));
    let mut owner = subject.own(0);
    for topic in OUTPUTS {
        assert!(subject.texts(topic, 0).is_empty());
        let barrier = if matches!(topic, Topic::State | Topic::History) { 2 } else { 0 };
        subject.ends_at(topic, 0, barrier * 2);
    }
    assert_eq!(owner.commit(vec![(Topic::State, record("first"))]).unwrap(), [4]);
}

pub fn an_empty_commit_is_nothing(subject: Subject) {
    let mut owner = subject.own(0);
    assert!(owner.commit(Vec::new()).unwrap().is_empty());
    subject.ends_at(Topic::State, 0, 2);
}
