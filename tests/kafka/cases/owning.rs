//! Ownership is fencing: whoever owned last is the only one that can commit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millrace::log::{Error, Owned, Topic};

use crate::subject::{PATIENCE, Subject, record, text_of};

pub fn a_new_owner_fences_the_old_one(subject: Subject) {
    let mut zombie = subject.own(0);
    zombie.commit(vec![(Topic::State, record("before"))]).unwrap();
    let mut owner = subject.own(0);
    for _ in 0..2 {
        let refused = zombie.commit(vec![(Topic::State, record("zombie")), (Topic::History, record("zombie"))]);
        assert!(matches!(refused, Err(Error::Fenced { partition: 0 })), "{refused:?}");
    }
    owner.commit(vec![(Topic::State, record("after"))]).unwrap();
    drop(zombie);
    owner.commit(vec![(Topic::State, record("later"))]).unwrap();
    subject.shows(Topic::State, 0, &["before", "after", "later"]);
    assert!(subject.texts(Topic::History, 0).is_empty());
}

/// Invariant 5: a new owner replays `state` up to its barrier. Nothing of the owner before may come to stand behind it.
pub fn all_that_the_owner_before_has_committed_stands_before_the_barrier(subject: Subject) {
    for round in 0..5 {
        let mut zombie = subject.own(0);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = &stop;
            scope.spawn(move || {
                for number in 0.. {
                    let head = (Topic::State, record(format!("{round} {number}")));
                    if zombie.commit(vec![head]).is_err() || stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            std::thread::sleep(Duration::from_millis(30));
            let Owned { mut owner, barrier } = subject.log().own(0).unwrap();
            let replayed = up_to(&subject, Topic::State, barrier.state);
            std::thread::sleep(Duration::from_millis(30));
            let first = owner.commit(vec![(Topic::State, record(format!("{round} owner")))]).unwrap()[0];
            stop.store(true, Ordering::Relaxed);
            // The barrier's record, which nobody sees, and the marker of its transaction.
            assert_eq!(first, barrier.state + 2);
            let mut expected = replayed;
            expected.push(format!("{round} owner"));
            subject.shows(Topic::State, 0, &expected);
        });
    }
}

pub fn owners_of_different_partitions_do_not_meet(subject: Subject) {
    let (mut zero, mut one) = (subject.own(0), subject.own(1));
    for number in 0..3 {
        zero.commit(vec![(Topic::State, record(format!("zero {number}")))]).unwrap();
        one.commit(vec![(Topic::State, record(format!("one {number}")))]).unwrap();
    }
    subject.shows(Topic::State, 0, &["zero 0", "zero 1", "zero 2"]);
    subject.shows(Topic::State, 1, &["one 0", "one 1", "one 2"]);
}

pub fn a_partition_is_handed_to_and_fro(subject: Subject) {
    let mut expected = Vec::new();
    let mut owners: Vec<_> = (0..2).map(|_| subject.own(1)).collect();
    for round in 0..6 {
        let last = format!("round {round}");
        owners[round % 2] = subject.own(1);
        owners[round % 2].commit(vec![(Topic::State, record(last.clone()))]).unwrap();
        assert!(owners[(round + 1) % 2].commit(vec![(Topic::State, record("zombie"))]).is_err());
        expected.push(last);
        subject.shows(Topic::State, 1, &expected);
    }
}

/// The texts that a read_committed reader sees up to a barrier, which it gets to.
fn up_to(subject: &Subject, topic: Topic, barrier: i64) -> Vec<String> {
    let mut reader = subject.reader(topic, 0, 0);
    let (mut texts, mut next) = (Vec::new(), 0);
    let started = Instant::now();
    while next <= barrier {
        assert!(started.elapsed() < PATIENCE, "the barrier is at {barrier}, and the reader at {next}");
        let read = reader.next(1000, Duration::from_millis(500)).unwrap();
        next = read.next_offset;
        texts.extend(read.records.iter().map(|stored| text_of(&stored.record)));
    }
    texts
}

pub fn a_barrier_is_passed_and_seen_by_nobody(subject: Subject) {
    let mut barriers = Vec::new();
    for round in 0..3 {
        let Owned { mut owner, barrier } = subject.log().own(0).unwrap();
        let expected: Vec<String> = (0..round).map(|round| format!("round {round}")).collect();
        assert_eq!(up_to(&subject, Topic::State, barrier.state), expected);
        assert_eq!(up_to(&subject, Topic::History, barrier.history), expected);
        barriers.push(barrier);
        let text = format!("round {round}");
        let outputs = vec![(Topic::History, record(text.clone())), (Topic::State, record(text))];
        assert_eq!(owner.commit(outputs).unwrap(), [barrier.history + 2, barrier.state + 2]);
    }
    // Each is behind the one before, and what that one's owner has committed with its marker.
    for pair in barriers.windows(2) {
        assert_eq!((pair[1].state, pair[1].history), (pair[0].state + 4, pair[0].history + 4));
    }
}
