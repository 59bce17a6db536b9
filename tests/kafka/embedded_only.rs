//! What only the embedded log has: a directory, its own compaction and expiry.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use millrace::log::embedded::{Embedded, Options};
use millrace::log::{Error, Isolation, Log, Record, Topic};

use crate::subject::{append, read, record, text_of};

fn open(directory: &Path) -> Embedded {
    Embedded::open(directory, Options { partitions: Some(2), ..Options::default() }).unwrap()
}

fn refusal(directory: &Path, options: Options) -> String {
    match Embedded::open(directory, options) {
        Err(Error::Unusable(text)) => text,
        Err(other) => panic!("expected a refusal that a person can act on, but it was {other:?}"),
        Ok(_) => panic!("expected a refusal, but the log opened"),
    }
}

fn keyed(key: &str, value: Option<&str>) -> Record {
    let value = value.map(|value| Bytes::from(value.to_string()));
    Record { key: Bytes::from(key.to_string()), value, headers: Vec::new() }
}

fn state(log: &Embedded) -> Vec<(i64, String)> {
    let stored = read(log, Topic::State, 0, Isolation::ReadCommitted);
    stored.iter().map(|stored| (stored.offset, text_of(&stored.record))).collect()
}

#[test]
fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let text = refusal(directory.path(), Options::default());
    assert!(text.contains("in use by another process") && text.contains(directory.path().to_str().unwrap()), "{text}");
    drop(log);
    open(directory.path());
}

#[test]
fn a_directory_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    std::fs::write(directory.path().join("MILLRACE-LOG"), "version 99\npartitions 2\n").unwrap();
    let text = refusal(directory.path(), Options::default());
    assert!(
        text.contains("version 99") && text.contains("reads version 1") && text.contains("another directory"),
        "{text}"
    );
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("photo.jpg"), "…").unwrap();
    assert!(refusal(directory.path(), Options::default()).contains("is not empty"));
}

#[test]
fn the_number_of_partitions_is_the_directorys() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    assert_eq!(Embedded::open(directory.path(), Options::default()).unwrap().partitions(), 2);
    let text = refusal(directory.path(), Options { partitions: Some(8), ..Options::default() });
    assert!(text.contains("has 2 partitions") && text.contains("ask for 8"), "{text}");
}

#[test]
fn only_the_last_record_of_a_key_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path());
    for round in 0..3 {
        let mut owner = log.own(0).unwrap().owner;
        let outputs = vec![
            (Topic::State, keyed("a", Some(&format!("a{round}")))),
            (Topic::State, keyed("b", Some("twice"))),
            (Topic::State, keyed("b", Some(&format!("b{round}")))),
            (Topic::State, keyed(&format!("once {round}"), Some("once"))),
        ];
        assert_eq!(owner.commit(outputs).unwrap(), [2, 3, 4, 5].map(|offset| offset + round * 7));
        drop(owner);
        drop(log);
        log = open(directory.path());
    }
    let text = |text: &str| text.to_string();
    let once = |round: i64| (round * 7 + 5, text("once"));
    assert_eq!(state(&log), [once(0), once(1), (16, text("a2")), (18, text("b2")), once(2)]);
    assert_eq!(log.end_at_least(Topic::State, 0, Isolation::ReadCommitted).unwrap(), 21);
}

#[test]
fn old_tombstones_and_records_expire_but_commands_never() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let outputs =
        [("a", Some("a")), ("b", Some("b")), ("a", None)].map(|(key, value)| (Topic::State, keyed(key, value)));
    log.own(0).unwrap().owner.commit(outputs.to_vec()).unwrap();
    append(&log, Topic::Commands, 0, vec![record("command")]).unwrap();
    append(&log, Topic::Requests, 0, (0..5000).map(|number| record(number.to_string())).collect()).unwrap();
    assert_eq!(state(&log), [(3, "b".to_string()), (4, String::new())]);
    drop(log);
    std::thread::sleep(Duration::from_millis(5));
    let options = Options { records_kept: Duration::ZERO, tombstones_kept: Duration::ZERO, ..Options::default() };
    let log = Embedded::open(directory.path(), options).unwrap();
    let deadline = std::time::Instant::now() + crate::subject::PATIENCE;
    while log.start_offset(Topic::Requests, 0).unwrap() < 5000 || state(&log).len() > 1 {
        assert!(std::time::Instant::now() < deadline, "what is old should have gone");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(state(&log), [(3, "b".to_string())]);
    assert_eq!(log.start_offset(Topic::Commands, 0).unwrap(), 0);
    // The key's next record finds nothing to supersede.
    log.own(0).unwrap().owner.commit(vec![(Topic::State, keyed("a", Some("new")))]).unwrap();
    assert_eq!(state(&log), [(3, "b".to_string()), (8, "new".to_string())]);
}

/// This test runs itself as a child, which dies without closing anything.
#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    const DIRECTORY: &str = "MILLRACE_TEST_DIRECTORY_OF_THE_KILLED";
    if let Ok(directory) = std::env::var(DIRECTORY) {
        let log = open(Path::new(&directory));
        let mut owner = log.own(0).unwrap().owner;
        for number in 0..100 {
            append(&log, Topic::Commands, 0, vec![record(number.to_string())]).unwrap();
            owner.commit(vec![(Topic::State, record(number.to_string())), (Topic::Timers, record("t"))]).unwrap();
        }
        std::process::abort();
    }
    let directory = tempfile::tempdir().unwrap();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded_only::a_killed_process_loses_nothing_that_was_acknowledged"])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    assert!(!ended.status.success());
    let log = open(directory.path());
    let ends = [Topic::Commands, Topic::State, Topic::Timers]
        .map(|topic| log.end_at_least(topic, 0, Isolation::ReadCommitted).unwrap());
    assert_eq!(ends, [100, 202, 200]);
    assert_eq!(read(&log, Topic::Commands, 0, Isolation::ReadCommitted).len(), 100);
    assert_eq!(state(&log).last().unwrap().1, "99");
}
