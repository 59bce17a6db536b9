//! Appends outside transactions.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use millrace::log::{Appended, Error, RECORD_BYTES_MAX, Record, Topic};

use crate::subject::{PATIENCE, Subject, append, record, text_of};

pub fn appends_keep_their_order(subject: Subject) {
    let (done, outcomes) = mpsc::channel();
    for number in 0..1000 {
        let done = done.clone();
        let report =
            Box::new(move |outcome: Result<Vec<Appended>, Error>| done.send((number, outcome.unwrap())).unwrap());
        subject.log().append(Topic::Commands, 0, vec![record(number.to_string())], report);
    }
    let reported: Vec<(usize, Appended)> = (0..1000)
        .map(|_| outcomes.recv_timeout(PATIENCE).unwrap())
        .map(|(number, appended)| (number, appended[0]))
        .collect();
    let stored = subject.read(Topic::Commands, 0);
    assert_eq!(stored.len(), 1000);
    for (index, (number, appended)) in reported.into_iter().enumerate() {
        assert_eq!((number, appended.offset), (index, index as i64));
        assert_eq!(text_of(&stored[index].record), index.to_string());
        // The owner takes its own appends from their acknowledgements instead of reading them.
        assert_eq!((stored[index].offset, stored[index].timestamp_ms), (appended.offset, appended.timestamp_ms));
    }
    assert!(stored.is_sorted_by_key(|stored| stored.timestamp_ms));
    assert!(stored[0].timestamp_ms > 1_700_000_000_000);
    assert_eq!(subject.end(Topic::Commands, 0), 1000);
}

pub fn callbacks_of_concurrent_appends_come_in_the_order_of_the_offsets(subject: Subject) {
    let (done, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (done, subject) = (done.clone(), &subject);
            scope.spawn(move || {
                for number in 0..250 {
                    let done = done.clone();
                    let report = Box::new(move |outcome: Result<Vec<Appended>, Error>| {
                        done.send(outcome.unwrap()[0].offset).unwrap();
                    });
                    subject.log().append(Topic::Commands, 1, vec![record(format!("{thread}-{number}"))], report);
                }
            });
        }
    });
    let offsets: Vec<i64> = (0..1000).map(|_| outcomes.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(offsets, (0..1000).collect::<Vec<_>>());
    let texts = subject.texts(Topic::Commands, 1);
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), 1000);
    for thread in 0..4 {
        let of_thread: Vec<_> = texts.iter().filter_map(|text| text.strip_prefix(&format!("{thread}-"))).collect();
        assert_eq!(of_thread, (0..250).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

pub fn a_batch_stays_together(subject: Subject) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let subject = &subject;
            scope.spawn(move || {
                for batch in 0..20 {
                    let records = (0..10).map(|number| record(format!("{thread}-{batch}-{number}"))).collect();
                    let appended = subject.append(Topic::Commands, 0, records);
                    assert_eq!(appended.len(), 10);
                    assert!(appended.windows(2).all(|pair| pair[1].offset == pair[0].offset + 1));
                }
            });
        }
    });
    assert_eq!(subject.texts(Topic::Commands, 0).len(), 800);
    assert_eq!(append(subject.log(), Topic::Commands, 0, Vec::new()).unwrap(), []);
}

pub fn a_callback_may_append(subject: Subject) {
    let log: &'static Subject = Box::leak(Box::new(subject));
    let (done, outcome) = mpsc::channel();
    let again = move |outcome: Result<Vec<Appended>, Error>| {
        outcome.unwrap();
        log.log().append(
            Topic::Commands,
            0,
            vec![record("second")],
            Box::new(move |outcome| done.send(outcome).unwrap()),
        );
    };
    log.log().append(Topic::Commands, 0, vec![record("first")], Box::new(again));
    assert_eq!(outcome.recv_timeout(PATIENCE).unwrap().unwrap()[0].offset, 1);
}

pub fn records_come_back_whole(subject: Subject) {
    let header = |name: &str, value: &'static [u8]| (name.to_string(), Bytes::from_static(value));
    let records = vec![
        Record {
            key: Bytes::from_static(b"\x00key\xff"),
            value: Some(Bytes::from_static(b"\x00value\xff")),
            headers: vec![header("one", b"\x01"), header("one", b""), header("two", b"2")],
        },
        Record { key: Bytes::from_static(b"empty"), value: Some(Bytes::new()), headers: Vec::new() },
        Record { key: Bytes::from_static(b"tombstone"), value: None, headers: Vec::new() },
        Record { key: Bytes::new(), value: Some(Bytes::from_static(b"no key")), headers: Vec::new() },
    ];
    subject.append(Topic::Requests, 1, records.clone());
    let stored = subject.read(Topic::Requests, 1);
    let null_keys: Vec<bool> = stored.iter().map(|stored| stored.nulls.key).collect();
    assert_eq!(null_keys, [false, false, false, true]);
    let stored: Vec<Record> = stored.into_iter().map(|stored| stored.record).collect();
    assert_eq!(stored, records);
}

pub fn partitions_are_apart(subject: Subject) {
    assert_eq!(subject.log().partitions(), 2);
    subject.append(Topic::Commands, 0, vec![record("zero")]);
    subject.append(Topic::Commands, 1, vec![record("one")]);
    subject.append(Topic::Requests, 1, vec![record("other")]);
    subject.append(Topic::Control, 0, vec![record("control")]);
    assert_eq!(subject.texts(Topic::Commands, 0), ["zero"]);
    assert_eq!(subject.texts(Topic::Commands, 1), ["one"]);
    assert_eq!(subject.texts(Topic::Requests, 1), ["other"]);
    assert_eq!(subject.texts(Topic::Control, 0), ["control"]);
    assert_eq!(subject.end(Topic::Requests, 0), 0);
}

pub fn an_unknown_partition_is_refused(subject: Subject) {
    let log = subject.log();
    for (topic, partition) in [(Topic::Commands, 2), (Topic::Control, 1)] {
        let refused = append(log, topic, partition, vec![record("lost")]);
        assert!(matches!(refused, Err(Error::Unusable(_))), "{refused:?}");
        assert!(matches!(log.start_offset(topic, partition), Err(Error::Unusable(_))));
    }
    assert!(matches!(log.own(2).err(), Some(Error::Unusable(_))));
}

pub fn large_records_fit_up_to_the_limit(subject: Subject) {
    let large = |bytes: usize| Record {
        key: Bytes::from_static(b"large"),
        value: Some(Bytes::from(vec![7; bytes - 5])),
        headers: Vec::new(),
    };
    let mut owner = subject.own(0);
    for bytes in [5 << 20, RECORD_BYTES_MAX] {
        subject.append(Topic::Commands, 0, vec![large(bytes)]);
        owner.commit(vec![(Topic::Completions, large(bytes)), (Topic::State, record("head"))]).unwrap();
    }
    subject.ends_at(Topic::Completions, 0, 4);
    for topic in [Topic::Commands, Topic::Completions] {
        let sizes: Vec<usize> = subject.read(topic, 0).iter().map(|stored| stored.record.size()).collect();
        assert_eq!(sizes, [5 << 20, RECORD_BYTES_MAX]);
    }
    let is_too_large = |error: Error| {
        let limit = RECORD_BYTES_MAX;
        assert!(
            matches!(error, Error::TooLarge { size, limit: told, .. } if size == limit + 1 && told == limit),
            "{error}"
        );
    };
    is_too_large(
        append(subject.log(), Topic::Commands, 0, vec![record("small"), large(RECORD_BYTES_MAX + 1)]).unwrap_err(),
    );
    is_too_large(owner.commit(vec![(Topic::State, large(RECORD_BYTES_MAX + 1))]).unwrap_err());
    // Neither did harm.
    subject.append(Topic::Commands, 0, vec![record("next")]);
    owner.commit(vec![(Topic::Completions, record("next"))]).unwrap();
    subject.ends_at(Topic::Completions, 0, 6);
    assert_eq!(subject.read(Topic::Commands, 0).len(), 3);
    assert_eq!(subject.read(Topic::Completions, 0).len(), 3);
}

/// Invariant 12: what was acknowledged to anybody before stands before what is acknowledged now.
pub fn what_is_waited_for_stands_behind_what_was_acknowledged_before(subject: Subject) {
    let acknowledged = AtomicI64::new(-1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (subject, acknowledged, stop) = (&subject, &acknowledged, &stop);
        for writer in 0..2 {
            scope.spawn(move || {
                for number in 0.. {
                    let text = format!("{writer} {number}");
                    let appended = subject.append(Topic::Commands, 0, vec![record(text)]);
                    acknowledged.fetch_max(appended[0].offset, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
        }
        for number in 0..50 {
            let before = acknowledged.load(Ordering::SeqCst);
            let barrier = vec![record(format!("barrier {number}"))];
            let at = subject.log().append_and_wait(Topic::Commands, 0, barrier).unwrap();
            assert_eq!(at.len(), 1);
            assert!(at[0].offset > before, "{} should stand behind {before}", at[0].offset);
            assert!(subject.end(Topic::Commands, 0) > at[0].offset);
        }
        stop.store(true, Ordering::SeqCst);
    });
    let refused = subject.log().append_and_wait(Topic::Commands, 9, vec![record("nowhere")]);
    assert!(matches!(refused, Err(Error::Unusable(_))), "{refused:?}");
}
