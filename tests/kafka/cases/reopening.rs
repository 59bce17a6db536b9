//! What the next process finds.

use millrace::log::{Error, Topic};

use crate::subject::{Subject, record};

pub fn positions_are_remembered(mut subject: Subject) {
    let position = |subject: &Subject, consumer: &str| subject.log().committed(consumer, Topic::Requests, 1).unwrap();
    subject.append(Topic::Requests, 1, (0..10).map(|number| record(number.to_string())).collect());
    assert_eq!(position(&subject, "ingress"), None);
    subject.log().commit_position("ingress", Topic::Requests, 1, 5).unwrap();
    subject.log().commit_position("ingress", Topic::Requests, 1, 7).unwrap();
    subject.log().commit_position("other", Topic::Requests, 1, 0).unwrap();
    assert_eq!((position(&subject, "ingress"), position(&subject, "other")), (Some(7), Some(0)));
    assert_eq!(subject.log().committed("ingress", Topic::Requests, 0).unwrap(), None);
    subject.reopen();
    assert_eq!((position(&subject, "ingress"), position(&subject, "other")), (Some(7), Some(0)));
}

pub fn everything_is_there_after_a_restart(mut subject: Subject) {
    let mut owner = subject.own(0);
    owner.commit(vec![(Topic::State, record("state")), (Topic::History, record("history"))]).unwrap();
    drop(owner);
    subject.append(Topic::Commands, 0, (0..5).map(|number| record(number.to_string())).collect());
    subject.append(Topic::Commands, 1, vec![record("trimmed")]);
    subject.log().trim(Topic::Commands, 0, 3).unwrap();
    subject.log().trim(Topic::Commands, 1, 1).unwrap();
    let before = subject.read(Topic::Commands, 0);
    subject.reopen();
    assert_eq!(subject.read(Topic::Commands, 0), before);
    subject.shows(Topic::State, 0, &["state"]);
    subject.shows(Topic::History, 0, &["history"]);
    subject.ends_at(Topic::State, 0, 4);
    subject.ends_at(Topic::Commands, 0, 5);
    assert_eq!(subject.log().start_offset(Topic::Commands, 0).unwrap(), 3);
    let next = subject.append(Topic::Commands, 0, vec![record("next")])[0];
    assert_eq!(next.offset, 5);
    assert!(next.timestamp_ms >= before[0].timestamp_ms);
    // The marker of a transaction and a trimmed record have their offsets for ever.
    assert_eq!(subject.append(Topic::Commands, 1, vec![record("next")])[0].offset, 1);
    assert_eq!(subject.own(0).commit(vec![(Topic::State, record("next"))]).unwrap(), [6]);
}

pub fn an_owner_of_the_process_before_is_fenced(mut subject: Subject) {
    let mut zombie = subject.own(0);
    zombie.commit(vec![(Topic::State, record("before"))]).unwrap();
    if subject.exclusive() {
        // No two processes have the directory open at once, so there is no zombie: but the epoch goes on.
        drop(zombie);
        subject.reopen();
        subject.own(0).commit(vec![(Topic::State, record("after"))]).unwrap();
    } else {
        subject.reopen();
        let mut owner = subject.own(0);
        assert!(matches!(zombie.commit(vec![(Topic::State, record("zombie"))]), Err(Error::Fenced { partition: 0 })));
        owner.commit(vec![(Topic::State, record("after"))]).unwrap();
    }
    subject.shows(Topic::State, 0, &["before", "after"]);
}
