//! Logs that other releases have written: this binary decides them again, and comes to the same. What a release decides may
//! change only with the version of the fold, so that its log means the same for ever, as long as the version is known.
//!
//! A recording holds the commands as the log had them, with the times of their appends, and what the release made of them:
//! once in the middle, as a kill left it, and once in the end. Compared are, for each partition,
//!
//! - the state and the history: the last value of each key, to the byte;
//! - completions, timers, rejections and published tasks: all records, to the byte, in their order;
//! - answers: the same, in no order, as several partitions write there;
//! - the head: position, time, version, and the numbers that were taken and given.
//!
//! Sends that were not acknowledged when the server ended are left out: when an acknowledgement comes is no matter of the log's.
//! How the records were gathered into transactions is none either.
//!
//! To record a release:
//!
//! ```text
//! (cd tests/cli && python record_log.py --binary ../../target/release/millrace --directory /tmp/recorded)
//! MILLRACE_RECORDED=/tmp/recorded MILLRACE_RECORDING=0.1.0 cargo test --test simulation -- export --ignored
//! ```

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, read::GzEncoder};
use millrace::engine::{FOLD_VERSION_MAX, FOLD_VERSION_MIN};
use millrace::log::embedded::{Embedded, Options};
use millrace::log::{Isolation, Log, Nulls, Record, Stored, Topic};
use millrace::partition::Settings;
use millrace::proto::commands::{Command, command::Body};
use millrace::proto::state;
use millrace::store::keys;
use prost::Message;

use crate::broker::{Broker, REPLIES};
use crate::callers;
use crate::calls::Call;
use crate::checks::replay::{committed, head, state_of};
use crate::clock::{Clock, Time};
use crate::connection::Network;
use crate::disk::Disk;
use crate::machine::{Binaries, Cluster, Machine, Process, settings};
use crate::random::Rng;
use crate::rest;

/// What a server makes of its commands.
const OUTPUTS: [Topic; 7] =
    [Topic::State, Topic::History, Topic::Completions, Topic::ActivityTasks, Topic::Timers, Topic::Rejections, REPLIES];
/// Those that are compared record by record.
const IN_ORDER: [Topic; 4] = [Topic::Completions, Topic::ActivityTasks, Topic::Timers, Topic::Rejections];
/// Steps of ten milliseconds in which a partition that goes on must have done what it is asked for.
const ROUNDS_MAX: usize = 2000;

#[derive(Clone, PartialEq, Message)]
struct Recording {
    #[prost(uint32, tag = "1")]
    partitions: u32,
    #[prost(message, repeated, tag = "2")]
    commands: Vec<Place>,
    /// As the kill in the middle left it, and in the end.
    #[prost(message, repeated, tag = "3")]
    middle: Vec<Place>,
    #[prost(message, repeated, tag = "4")]
    end: Vec<Place>,
    /// Where the commands ended in the middle, by partition.
    #[prost(int64, repeated, tag = "5")]
    middle_at: Vec<i64>,
}

/// A partition of a topic.
#[derive(Clone, PartialEq, Message)]
struct Place {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(uint32, tag = "2")]
    partition: u32,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Written>,
}

#[derive(Clone, PartialEq, Message)]
struct Written {
    #[prost(int64, tag = "1")]
    offset: i64,
    #[prost(int64, tag = "2")]
    timestamp_ms: i64,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    #[prost(bytes = "bytes", optional, tag = "4")]
    value: Option<Bytes>,
    #[prost(btree_map = "string, bytes", tag = "5")]
    headers: BTreeMap<String, Bytes>,
}

impl Place {
    fn topic(&self) -> Topic {
        let topics = Topic::ALL.into_iter().chain([REPLIES]);
        topics.into_iter().find(|topic| topic.name() == self.topic).expect("a recording has topics of ours")
    }

    fn stored(&self) -> impl Iterator<Item = Stored> {
        self.records.iter().map(|written| Stored {
            offset: written.offset,
            timestamp_ms: written.timestamp_ms,
            record: Record {
                key: written.key.clone(),
                value: written.value.clone(),
                headers: written.headers.clone().into_iter().collect(),
            },
            nulls: Nulls::default(),
        })
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/recorded")
}

fn recordings() -> Vec<(String, Recording)> {
    let files = std::fs::read_dir(directory()).expect("there are recordings");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("it can be listed").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).expect("a recording can be opened");
        GzDecoder::new(file).read_to_end(&mut bytes).expect("a recording is whole");
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name, Recording::decode(&bytes[..]).expect("a recording can be read"))
    };
    let recordings: Vec<_> = paths.into_iter().map(read).collect();
    assert!(!recordings.is_empty());
    recordings
}

/// A machine that takes over all partitions of a log.
struct Successor {
    broker: Arc<Broker>,
    disk: Arc<Disk>,
    process: Process,
    time: Arc<Time>,
}

impl Successor {
    /// `fill`: what the log holds before.
    fn new(recording: &Recording, fill: impl FnOnce(&Broker)) -> Self {
        let rng = Rng::new(1);
        let time = Arc::new(Time::default());
        let clock = Arc::new(Clock::new(time.clone()));
        // Not before what is recorded, or timers would never be due.
        let last = recording.commands.iter().flat_map(|place| &place.records).map(|record| record.timestamp_ms).max();
        clock.skew(last.unwrap_or_default() - clock.true_ms());
        let broker = Arc::new(Broker::new(recording.partitions, clock.clone(), rng.fork()));
        fill(&broker);
        let network = Arc::new(Network::new(&rng));
        network.healed.store(true, Ordering::Relaxed);
        let cluster = Cluster {
            broker: broker.clone(),
            network,
            owners: Arc::default(),
            begun: Instant::now(),
            binaries: Arc::new(Binaries::new(1, FOLD_VERSION_MAX)),
            mutation: None,
        };
        let disk = Arc::new(Disk::default());
        let machine = Machine { number: 0, clock, disk: disk.clone(), process: None };
        // What a decision depends on is as the release has it.
        let Settings { deleted_at_once, copied_at_once, record_bytes_max, .. } = Settings::default();
        let settings = Settings { deleted_at_once, copied_at_once, record_bytes_max, ..settings() };
        let mut process = Process::start_with(settings, &cluster, &machine, &rng);
        for partition in 0..recording.partitions {
            process.take_over(partition).expect("the partition can be taken over");
        }
        Self { broker, disk, process, time }
    }

    fn round(&mut self) {
        for partition in 0..self.broker.partitions {
            while self.process.connection.deliver() {}
            let end = self.process.turn(partition, 512);
            assert!(end.is_none(), "the partition goes on: {end:?}");
            self.process.commit(partition);
            self.process.look(partition);
        }
        self.time.pass(10);
    }

    /// Lets the partitions work until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..ROUNDS_MAX {
            self.round();
            if done(self) {
                return;
            }
        }
        panic!("{what} takes too long");
    }

    /// Everything that was written to a partition, by this machine and before it came.
    fn written(&self, topic: Topic, partition: u32) -> Vec<Record> {
        let of = self.broker.archive(topic).into_iter().filter(|((_, _, of), _)| *of == partition);
        of.flat_map(|(_, records)| records).map(|stored| stored.record).collect()
    }

    /// What was decided is what was recorded.
    fn expect(&self, name: &str, recording: &Recording) {
        let recorded = Broker::new(recording.partitions, self.broker.clock.clone(), Rng::new(0));
        put(&recorded, &recording.end);
        for partition in 0..recording.partitions {
            let kept = self.disk.records(partition);
            let wanted = committed(&recorded, partition).into_iter().collect();
            let (mine, theirs) = (state_of(&kept, false), state_of(&wanted, false));
            for key in mine.keys().chain(theirs.keys()) {
                assert_eq!(mine.get(key), theirs.get(key), "{name}, partition {partition}: {key:?}");
            }
            let past_barriers = |head| past_barriers(head, recording, partition);
            let (mine, theirs) = (past_barriers(head(&kept)), past_barriers(head(&wanted)));
            assert_eq!(mine, theirs, "{name}, partition {partition}: the head");
            for topic in IN_ORDER {
                let (mine, theirs) = (self.written(topic, partition), of(&recording.end, topic, partition));
                assert_eq!(mine.len(), theirs.len(), "{name}, {topic:?}-{partition}: the number of records");
                for (mine, theirs) in mine.iter().zip(&theirs) {
                    assert_eq!(mine, theirs, "{name}, {topic:?}-{partition}");
                }
            }
        }
        let all = |records: &dyn Fn(u32) -> Vec<Record>| {
            let sortable = |record: Record| (record.key, record.value, record.headers);
            let mut all: Vec<_> = (0..recording.partitions).flat_map(records).map(sortable).collect();
            all.sort();
            all
        };
        let mine = all(&|partition| self.written(REPLIES, partition));
        assert_eq!(mine, all(&|partition| of(&recording.end, REPLIES, partition)), "{name}: the answers");
    }
}

/// A head, past the barriers that come next, which make no commit of their own, and before those that came after the recording.
fn past_barriers(mut head: state::Head, recording: &Recording, partition: u32) -> state::Head {
    let mut end = 0;
    for stored in recording.commands.iter().filter(|place| place.partition == partition).flat_map(Place::stored) {
        let body = stored.record.value.and_then(|value| Command::decode(value).ok()).and_then(|command| command.body);
        if stored.offset == head.commands_position && matches!(body, Some(Body::Barrier(_))) {
            head.commands_position += 1;
        }
        end = stored.offset + 1;
    }
    head.commands_position = head.commands_position.min(end);
    head
}

fn of(places: &[Place], topic: Topic, partition: u32) -> Vec<Record> {
    let places = places.iter().filter(|place| place.topic() == topic && place.partition == partition);
    places.flat_map(Place::stored).map(|stored| stored.record).collect()
}

fn put(broker: &Broker, places: &[Place]) {
    for place in places {
        broker.put(place.topic(), place.partition, place.stored());
    }
}

/// The version that a recording's partition was decided by from its first command on: one that was raised says so itself.
fn first_version(recording: &Recording, partition: u32) -> u32 {
    let heads = of(&recording.end, Topic::State, partition).into_iter().filter(|record| record.key == keys::HEAD);
    let head = heads.last().and_then(|record| state::Head::decode(record.value?).ok()).expect("there is a head");
    assert!(
        (FOLD_VERSION_MIN..=FOLD_VERSION_MAX).contains(&head.fold_version),
        "a recording whose time is over: delete it"
    );
    head.fold_version
}

#[test]
fn what_was_decided_is_decided_again() {
    for (name, recording) in recordings() {
        let successor = Successor::new(&recording, |broker| {
            (0..recording.partitions)
                .for_each(|partition| broker.begin(partition, first_version(&recording, partition)));
            put(broker, &recording.commands);
        });
        successor.expect(&name, &recording);
    }
}

#[test]
fn a_millisecond_makes_a_difference() {
    let (name, recording) = recordings().swap_remove(0);
    let successor = Successor::new(&recording, |broker| {
        (0..recording.partitions).for_each(|partition| broker.begin(partition, first_version(&recording, partition)));
        for place in &mut recording.commands.clone() {
            place.records.iter_mut().for_each(|record| record.timestamp_ms += 1);
            put(broker, std::slice::from_ref(place));
        }
    });
    // What is compared is compared indeed.
    let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| successor.expect(&name, &recording)));
    assert!(compared.is_err());
}

#[test]
fn what_a_kill_left_undecided_is_decided_as_it_was_then() {
    for (name, recording) in recordings() {
        let positions = recording.middle.iter().filter(|place| place.topic() == Topic::State);
        let undecided = positions.filter_map(|place| {
            let heads = place.records.iter().filter(|record| record.key == keys::HEAD);
            let head = state::Head::decode(heads.last()?.value.clone()?).ok()?;
            Some(recording.middle_at[place.partition as usize] - head.commands_position)
        });
        assert!(undecided.sum::<i64>() > 0, "{name}: the kill left something undecided");
        // The rest came later, but to the log it is all the same.
        let successor = Successor::new(&recording, |broker| {
            put(broker, &recording.middle);
            put(broker, &recording.commands);
        });
        successor.expect(&name, &recording);
    }
}

#[test]
fn what_was_left_is_gone_on_with() {
    for (name, recording) in recordings() {
        let mut successor = Successor::new(&recording, |broker| {
            put(broker, &recording.end);
            put(broker, &recording.commands);
        });
        successor.expect(&name, &recording);
        // Every binary knows the newest version that there is.
        let is_newest = |successor: &mut Successor| {
            let heads = (0..recording.partitions).map(|partition| head(&successor.disk.records(partition)));
            heads.into_iter().all(|head| head.fold_version == FOLD_VERSION_MAX)
        };
        successor.until("the newest version", is_newest);
        for _ in 0..5 {
            for workflow_id in open(&successor, &recording) {
                let mut called = Call::Terminate(callers::terminate(workflow_id, "the successor".into()))
                    .perform(successor.process.service.clone());
                successor.until("a termination", |_| {
                    matches!(called.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
                });
            }
            (0..20).for_each(|_| successor.round());
        }
        assert_eq!(open(&successor, &recording), Vec::<String>::new(), "{name}: all can be ended");
    }
}

fn open(successor: &Successor, recording: &Recording) -> Vec<String> {
    (0..recording.partitions).flat_map(|partition| rest::open(&successor.disk.records(partition))).collect()
}

/// Makes a recording of what record_log.py left in `MILLRACE_RECORDED`.
#[test]
#[ignore = "for a new release"]
fn export() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (from, name) = (PathBuf::from(variable("MILLRACE_RECORDED")), variable("MILLRACE_RECORDING"));
    let open = |name: &str| {
        let options = Options { user_topics: vec![REPLIES], ..Options::default() };
        Embedded::open(&from.join(name), options).expect("the log opens")
    };
    let (middle, end) = (open("middle"), open("end"));
    let partitions = end.partitions();
    let at = |partition| middle.end_at_least(Topic::Commands, partition, Isolation::ReadUncommitted);
    let recording = Recording {
        partitions,
        commands: read(&end, &[Topic::Commands]),
        middle: read(&middle, &OUTPUTS),
        end: read(&end, &OUTPUTS),
        middle_at: (0..partitions).map(|partition| at(partition).expect("the log has an end")).collect(),
    };
    assert!(recording.commands.iter().all(|place| place.records.first().is_none_or(|first| first.offset == 0)));
    let bytes = recording.encode_to_vec();
    let mut zipped = Vec::new();
    GzEncoder::new(&bytes[..], Compression::best()).read_to_end(&mut zipped).expect("it can be zipped");
    let commands: usize = recording.commands.iter().map(|place| place.records.len()).sum();
    let path = directory().join(format!("{name}.gz"));
    println!("{}: {commands} commands, {} bytes, zipped {}", path.display(), bytes.len(), zipped.len());
    std::fs::write(&path, zipped).expect("it can be written");
}

fn read(log: &Embedded, topics: &[Topic]) -> Vec<Place> {
    let mut places = Vec::new();
    for topic in topics {
        for partition in 0..log.partitions_of(*topic) {
            let start = log.start_offset(*topic, partition).expect("the log has a start");
            let end = log.end_at_least(*topic, partition, Isolation::ReadCommitted).expect("the log has an end");
            let mut reader = log.reader(*topic, partition, start, Isolation::ReadCommitted).expect("it can be read");
            let (mut next, mut records) = (start, Vec::new());
            while next < end {
                let read = reader.next(1000, Duration::from_millis(100)).expect("it can be read");
                next = read.next_offset.max(next);
                records.extend(read.records.into_iter().map(|stored| Written {
                    offset: stored.offset,
                    timestamp_ms: stored.timestamp_ms,
                    key: stored.record.key,
                    value: stored.record.value,
                    headers: stored.record.headers.into_iter().collect(),
                }));
            }
            places.push(Place { topic: topic.name().into(), partition, records });
        }
    }
    places
}
