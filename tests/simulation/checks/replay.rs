//! The log is all there is: the stores hold what it holds, to the byte, and deciding all commands again gives the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millrace::engine::FOLD_VERSION_MAX;
use millrace::log::{self, Topic};
use millrace::proto::events::HistoryBatch;
use millrace::proto::state;
use millrace::proto::temporal::history::v1::History;
use millrace::store::{index::Entries, keys};
use millrace::wire::avro;
use prost::Message as _;

use super::{Findings, commits};
use crate::broker::Broker;
use crate::connection::{Network, is_barrier};
use crate::disk::{Disk, Records};
use crate::machine::{Binaries, Cluster, Machine, Process};
use crate::random::Rng;
use crate::world::World;

const OWNER: &str = "the owner's store is what the log holds";
const RESTORED: &str = "a lost store is restored to the byte";
const DECIDED: &str = "deciding the commands again gives the same bytes";
const DELIVERED: &str = "what is sent between workflows is delivered in the end";

pub fn check(world: &World, findings: &mut Findings) {
    let broker = &world.cluster.broker;
    let restored = restore(world, broker.clone());
    let again = Broker::new(broker.partitions, broker.clock.clone(), Rng::new(0));
    (0..broker.partitions).for_each(|partition| again.begin(partition, first_version(broker, partition)));
    again.write(broker.archive(Topic::Commands));
    let again = Arc::new(again);
    let decided = restore(world, again.clone());
    commits::check_replay(&again, findings);
    for partition in 0..broker.partitions {
        let committed = committed(broker, partition);
        let kept = world.machines[world.assigned[partition as usize]].disk.records(partition);
        same(OWNER, partition, &committed, &state_of(&kept, true), findings);
        match &restored {
            Ok(disk) => {
                same(RESTORED, partition, &state_of(&kept, true), &state_of(&disk.records(partition), true), findings)
            }
            Err(error) => findings.add(RESTORED, error),
        }
        match &decided {
            Ok(disk) => {
                let second = disk.records(partition);
                same(DECIDED, partition, &state_of(&kept, false), &state_of(&second, false), findings);
                // Barriers move the position, and are no reason for a commit.
                let placed = |head| state::Head { commands_position: 0, ..head };
                let (head, same) = (placed(head(&kept)), placed(head(&second)));
                findings.expect(DECIDED, head == same, || format!("{head:?} and {same:?}"));
                expect_whole(DECIDED, &again, partition, &second, findings);
            }
            Err(error) => findings.add(DECIDED, error),
        }
        let (refused, same) = (refusals(broker, partition), refusals(&again, partition));
        findings.expect(DECIDED, decided.is_err() || refused == same, || {
            format!(
                "partition {partition}: {} refusals are on record, and {} the second time",
                refused.len(),
                same.len()
            )
        });
        let waiting = kept.keys().filter(|key| key.starts_with(keys::OUTGOING)).count();
        findings.expect(DELIVERED, waiting == 0, || format!("partition {partition}: {waiting} wait"));
        expect_whole(OWNER, broker, partition, &kept, findings);
    }
}

/// A store stands where the last command that changes something is behind it, and not beyond the commands.
fn expect_whole(rule: &'static str, broker: &Broker, partition: u32, records: &Records, findings: &mut Findings) {
    let position = head(records).commands_position;
    let left = undecided(broker, partition, position);
    findings.expect(rule, left == 0, || format!("partition {partition}: at {position}, with {left} left"));
    let end = broker.next(Topic::Commands, partition);
    findings
        .expect(rule, position <= end, || format!("partition {partition}: at {position}, and commands end at {end}"));
}

/// How many commands from a position on would change something.
fn undecided(broker: &Broker, partition: u32, position: i64) -> usize {
    let commands = broker.archive(Topic::Commands).into_iter().filter(|((_, _, of), _)| *of == partition);
    let left = commands.flat_map(|(_, records)| records).filter(|stored| stored.offset >= position);
    left.filter(|stored| !is_barrier(&stored.record)).count()
}

/// The version of the fold that a partition began with.
fn first_version(broker: &Broker, partition: u32) -> u32 {
    let states = broker.archive(Topic::State).into_iter().filter(|((_, _, of), _)| *of == partition);
    let mut records = states.flat_map(|(_, records)| records).map(|stored| stored.record);
    let first = records.find(|record| record.key == keys::HEAD).and_then(|record| record.value);
    first.and_then(|value| state::Head::decode(value).ok()).map_or(FOLD_VERSION_MAX, |head| head.fold_version)
}

fn refusals(broker: &Broker, partition: u32) -> Vec<log::Record> {
    let refusals = broker.archive(Topic::Rejections).into_iter().filter(|((_, _, of), _)| *of == partition);
    refusals.flat_map(|(_, records)| records).map(|stored| stored.record).collect()
}

/// A disk as it is when a new machine has taken all partitions over.
fn restore(world: &World, broker: Arc<Broker>) -> Result<Disk, String> {
    let rng = Rng::new(1);
    let network = Network::new(&rng);
    network.healed.store(true, std::sync::atomic::Ordering::Relaxed);
    let cluster = Cluster {
        broker,
        network: Arc::new(network),
        owners: Arc::default(),
        begun: world.cluster.begun,
        binaries: Arc::new(Binaries::new(1, FOLD_VERSION_MAX)),
        mutation: None,
    };
    let machine =
        Machine { number: 0, clock: world.machines[0].clock.clone(), disk: Arc::new(Disk::default()), process: None };
    let mut process = Process::start(&cluster, &machine, &rng);
    for partition in 0..cluster.broker.partitions {
        process.take_over(partition)?;
    }
    drop(process);
    Ok(Arc::into_inner(machine.disk).unwrap_or_default())
}

/// What the committed changelog and history come to, with the indexes of it.
pub fn committed(broker: &Broker, partition: u32) -> BTreeMap<Bytes, Bytes> {
    let mut folded = BTreeMap::new();
    for ((_, _, of), records) in broker.archive(Topic::State) {
        for stored in records.into_iter().filter(|_| of == partition) {
            match stored.record.value {
                Some(value) => drop(folded.insert(stored.record.key, value)),
                None => drop(folded.remove(&stored.record.key)),
            }
        }
    }
    let entries = |(key, value): (&Bytes, &Bytes)| {
        let keys::Parsed { entity, record } = keys::parse(key)?;
        let agenda = entity.kind.agenda(&record?.1, value.clone()).expect("a record of the state can be read");
        Some(Entries::of(&entity.namespace_id, key, &agenda).into_keys().map(|key| (key, Bytes::new())))
    };
    let index: Vec<_> = folded.iter().filter_map(entries).flatten().collect();
    folded.extend(index);
    for ((_, _, of), records) in broker.archive(Topic::History) {
        for stored in records.into_iter().filter(|_| of == partition) {
            let batch = stored.record.value.map(|value| avro::decode::<HistoryBatch>(&value).unwrap_or_default());
            match batch {
                Some(batch) => {
                    let history = History { events: batch.events };
                    folded.insert(stored.record.key, history.encode_to_vec().into());
                }
                None => drop(folded.remove(&stored.record.key)),
            }
        }
    }
    folded
}

/// The records of the state, without what a store remembers of itself; with sends and head, or without.
pub fn state_of(records: &Records, all: bool) -> BTreeMap<Bytes, Bytes> {
    let own = |key: &Bytes| key == keys::POSITIONS || key == keys::VERSION;
    let moves = |key: &Bytes| key == keys::HEAD || key.starts_with(keys::OUTGOING);
    let kept = records.iter().filter(|(key, _)| !own(key) && (all || !moves(key)));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub fn head(records: &Records) -> state::Head {
    records.get(keys::HEAD).and_then(|bytes| state::Head::decode(bytes.clone()).ok()).unwrap_or_default()
}

fn same(
    check: &'static str,
    partition: u32,
    one: &BTreeMap<Bytes, Bytes>,
    other: &BTreeMap<Bytes, Bytes>,
    findings: &mut Findings,
) {
    let keys = one.keys().chain(other.keys());
    if let Some(key) = keys.into_iter().find(|key| one.get(*key) != other.get(*key)) {
        let (one, other) = (one.get(key).map(Bytes::len), other.get(key).map(Bytes::len));
        findings.add(check, format!("partition {partition}: {key:?}: {one:?} and {other:?} bytes"));
    }
}
