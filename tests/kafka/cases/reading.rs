//! Readers, ends and trimming.

use std::time::{Duration, Instant};

use millrace::log::{Error, Isolation, Topic};

use crate::subject::{PATIENCE, Subject, record, text_of};

pub fn a_reader_waits_for_the_first_record(subject: Subject) {
    let mut reader = subject.reader(Topic::Commands, 0, 0);
    // Connects, so that only the waiting is measured below.
    reader.next(10, Duration::from_millis(300)).unwrap();
    std::thread::scope(|scope| {
        let subject = &subject;
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            subject.append(Topic::Commands, 0, vec![record("awaited")]);
        });
        let started = Instant::now();
        let read = reader.next(10, PATIENCE).unwrap();
        assert_eq!(text_of(&read.records[0].record), "awaited");
        assert_eq!(read.next_offset, 1);
        assert!(started.elapsed() < PATIENCE / 2);
    });
}

pub fn a_reader_returns_when_nothing_comes(subject: Subject) {
    subject.append(Topic::Commands, 0, vec![record("old")]);
    let mut reader = subject.reader(Topic::Commands, 0, 1);
    let started = Instant::now();
    for _ in 0..3 {
        let read = reader.next(10, Duration::from_millis(100)).unwrap();
        assert_eq!((read.records.len(), read.next_offset), (0, 1));
    }
    assert!(started.elapsed() >= Duration::from_millis(290));
    assert!(started.elapsed() < PATIENCE / 2);
}

pub fn a_reader_takes_no_more_than_it_is_asked(subject: Subject) {
    subject.append(Topic::Commands, 0, (0..10).map(|number| record(number.to_string())).collect());
    let mut reader = subject.reader(Topic::Commands, 0, 0);
    let (mut texts, started) = (Vec::new(), Instant::now());
    while texts.len() < 10 {
        let read = reader.next(3, Duration::from_secs(1)).unwrap();
        assert!(read.records.len() <= 3);
        texts.extend(read.records.iter().map(|stored| text_of(&stored.record)));
        assert_eq!(read.next_offset, texts.len() as i64);
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(texts, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
}

pub fn a_reader_starts_in_the_middle(subject: Subject) {
    subject.append(Topic::Commands, 0, (0..10).map(|number| record(number.to_string())).collect());
    let mut reader = subject.reader(Topic::Commands, 0, 7);
    let read = reader.next(100, PATIENCE).unwrap();
    assert_eq!(read.records[0].offset, 7);
}

/// The position comes from a store that is ahead of the log, or from another log: going on would skip or repeat records.
pub fn a_reader_past_the_end_is_refused(subject: Subject) {
    subject.append(Topic::Commands, 0, vec![record("only")]);
    let refused = subject.log().reader(Topic::Commands, 0, 2, Isolation::ReadCommitted).err();
    assert!(matches!(refused, Some(Error::PastTheEnd { from: 2, end: 1, .. })), "{refused:?}");
    subject.log().reader(Topic::Commands, 0, 1, Isolation::ReadCommitted).unwrap();
}

pub fn trimmed_records_are_gone(subject: Subject) {
    let log = subject.log();
    subject.append(Topic::Commands, 0, (0..10).map(|number| record(number.to_string())).collect());
    log.trim(Topic::Commands, 0, 4).unwrap();
    assert_eq!((log.start_offset(Topic::Commands, 0).unwrap(), subject.end(Topic::Commands, 0)), (4, 10));
    let mut reader = subject.reader(Topic::Commands, 0, 0);
    assert_eq!(reader.next(1, PATIENCE).unwrap().records[0].offset, 4);
    // Never backwards, and never past the end.
    log.trim(Topic::Commands, 0, 2).unwrap();
    assert_eq!(log.start_offset(Topic::Commands, 0).unwrap(), 4);
    log.trim(Topic::Commands, 0, 100).unwrap();
    assert_eq!(log.start_offset(Topic::Commands, 0).unwrap(), 10);
    assert_eq!(subject.append(Topic::Commands, 0, vec![record("next")])[0].offset, 10);
    assert_eq!(subject.texts(Topic::Commands, 0), ["next"]);
}

pub fn a_reader_goes_on_after_a_trim(subject: Subject) {
    let mut reader = subject.reader(Topic::Commands, 0, 0);
    subject.append(Topic::Commands, 0, (0..10).map(|number| record(number.to_string())).collect());
    subject.log().trim(Topic::Commands, 0, 6).unwrap();
    let (mut last, started) = (-1, Instant::now());
    while last < 9 {
        for stored in reader.next(100, Duration::from_secs(1)).unwrap().records {
            assert!(stored.offset > last);
            last = stored.offset;
        }
        assert!(started.elapsed() < PATIENCE);
    }
}

pub fn compacted_topics_are_not_trimmed(subject: Subject) {
    for topic in [Topic::State, Topic::History, Topic::Control] {
        assert!(matches!(subject.log().trim(topic, 0, 1), Err(Error::Unusable(_))));
    }
}
