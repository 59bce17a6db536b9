//! How long appends, commits and reads of the log take: the embedded log in a temporary directory and, with
//! `MILLRACE_BENCH_KAFKA=host:port`, Kafka. Prints percentiles, which a loop that only takes means would hide.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace::log::embedded::{Embedded, Options};
use millrace::log::kafka::{Config, Kafka};
use millrace::log::{Isolation, Log, Record, Topic};

const RECORD_BYTES: usize = 300;

fn main() {
    for fsync in [false, true] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = Options { partitions: Some(4), fsync, ..Options::default() };
        let log = Embedded::open(directory.path(), options).expect("the embedded log opens");
        measure(if fsync { "embedded, fsync" } else { "embedded" }, &log, if fsync { 300 } else { 50_000 });
    }
    if let Ok(brokers) = std::env::var("MILLRACE_BENCH_KAFKA") {
        let started = Instant::now().elapsed().as_nanos() + u128::from(std::process::id());
        let config = Config {
            topic_prefix: format!("bench{started}."),
            partitions: Some(4),
            properties: BTreeMap::new(),
            ..Config::new(&brokers)
        };
        let log = Kafka::connect(config).expect("the broker answers");
        // A cold broker is ten times slower.
        measure("kafka, cold", &log, 500);
        measure("kafka", &log, 5_000);
    }
}

fn measure(name: &str, log: &dyn Log, rounds: u32) {
    report(name, "append, one at a time", times(rounds, |number| append_and_wait(log, number)));
    println!("{name:16} append, 64 in flight: {:.0} per second", appends_per_second(log, rounds * 4, 64));

    let mut owner = log.own(1).expect("the partition can be owned").owner;
    let commits = (rounds / 10).max(100);
    report(
        name,
        "commit of 20 records in 4 topics",
        times(commits, |number| {
            owner.commit(outputs(number)).expect("the commit stands");
        }),
    );
    report(
        name,
        "end_at_least",
        times(commits, |_| {
            log.end_at_least(Topic::Commands, 0, Isolation::ReadUncommitted).expect("the end is known");
        }),
    );

    let end = log.end_at_least(Topic::Commands, 0, Isolation::ReadUncommitted).expect("the end is known");
    let mut reader = log.reader(Topic::Commands, 0, 0, Isolation::ReadUncommitted).expect("a reader opens");
    let (started, mut next) = (Instant::now(), 0);
    while next < end {
        next = reader.next(1000, Duration::from_secs(10)).expect("the records can be read").next_offset;
    }
    println!("{name:16} read: {:.0} per second", end as f64 / started.elapsed().as_secs_f64());
    report(
        name,
        "append to read",
        times(commits, |number| {
            append_and_wait(log, number);
            while reader.next(1000, Duration::from_secs(10)).expect("the record can be read").records.is_empty() {}
        }),
    );
}

fn append_and_wait(log: &dyn Log, number: u32) {
    log.append_and_wait(Topic::Commands, 0, vec![record(number)]).expect("the append stands");
}

fn appends_per_second(log: &dyn Log, total: u32, in_flight: u32) -> f64 {
    let (done, outcomes) = mpsc::channel();
    let started = Instant::now();
    for number in 0..total {
        if number >= in_flight {
            outcomes.recv().expect("an outcome comes");
        }
        let done = done.clone();
        log.append(
            Topic::Commands,
            0,
            vec![record(number)],
            Box::new(move |result| {
                result.expect("the append stands");
                // Nobody waits for the last ones.
                let _ = done.send(());
            }),
        );
    }
    f64::from(total) / started.elapsed().as_secs_f64()
}

fn outputs(number: u32) -> Vec<(Topic, Record)> {
    let topics = [Topic::History, Topic::Completions, Topic::Timers, Topic::State];
    (0..20u32).map(|part| (topics[part as usize % 4], record(number * 20 + part))).collect()
}

/// Of 5,000 keys, so that compaction has something to do.
fn record(number: u32) -> Record {
    let key = format!("0042/default/workflow-{}/activity", number % 5_000);
    Record { key: Bytes::from(key), value: Some(Bytes::from(vec![number as u8; RECORD_BYTES])), headers: Vec::new() }
}

fn times(rounds: u32, mut work: impl FnMut(u32)) -> Vec<Duration> {
    let time = |number| {
        let started = Instant::now();
        work(number);
        started.elapsed()
    };
    (0..rounds).map(time).collect()
}

fn report(name: &str, what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    println!("{name:16} {what}: p50 {:.1} µs, p99 {:.1} µs", at(50), at(99));
}
