//! Ownership is fencing: whoever owned last is the only one that can commit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace::log::{Error, Topic};

use crate::subject::{Subject, record};

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

/// Invariant 5: a new owner replays `state` to the end that it learns after owning. Nothing may come to stand there later.
pub fn the_end_after_owning_is_final_for_the_owner_before(subject: Subject) {
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
            let mut owner = subject.own(0);
            let end = subject.end(Topic::State, 0);
            let replayed = subject.texts(Topic::State, 0);
            std::thread::sleep(Duration::from_millis(30));
            let first = owner.commit(vec![(Topic::State, record(format!("{round} owner")))]).unwrap()[0];
            stop.store(true, Ordering::Relaxed);
            // On Kafka the transaction that `own` ended may have left records of no effect before `end`, but none after.
            assert_eq!(first, end);
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
