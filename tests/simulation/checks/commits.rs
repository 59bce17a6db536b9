//! How much commits take, and how often what is not due is appended.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millrace::engine::Kind;
use millrace::log::Topic;
use millrace::proto::commands::{Command, command::Body};
use millrace::proto::state::Head;
use millrace::store::keys;
use prost::Message as _;

use super::Findings;
use crate::broker::Broker;
use crate::slow::COMMIT_COMMANDS_MAX;
use crate::world::World;

const BOUNDED: &str = "a commit takes no more than it may";
const SELDOM: &str = "a timer that is not due is not appended again and again";

/// Four commits may be under way; as much again may have been appended by an owner before, and some commands are taken on
/// whatever is under way.
const COMMANDS_MAX: usize = 5 * COMMIT_COMMANDS_MAX;
/// A node whose clock is ahead tries a timer once a minute at most, and an activity has a timer for each of its attempts.
const FIRED_MAX: usize = 200;

pub fn check(world: &World, findings: &mut Findings) {
    let broker = &world.cluster.broker;
    check_each(broker, COMMANDS_MAX, findings);
    let mut fired: BTreeMap<String, usize> = BTreeMap::new();
    for stored in broker.archive(Topic::Commands).into_iter().flat_map(|(_, records)| records) {
        let Some(Ok(command)) = stored.record.value.map(Command::decode) else { continue };
        // A schedule's timer comes as often as it is due.
        if let Some(Body::FireTimer(timer)) = command.body
            && command.kind != Kind::Schedule as u32
        {
            *fired.entry(format!("{} {:?}", timer.run_id, timer.record)).or_default() += 1;
        }
    }
    for (timer, times) in fired {
        findings.expect(SELDOM, times <= FIRED_MAX, || format!("{timer}: {times} times"));
    }
}

/// Nothing goes wrong while a partition is taken over here: its commands are decided again in pieces.
pub fn check_replay(broker: &Broker, findings: &mut Findings) {
    check_each(broker, COMMIT_COMMANDS_MAX, findings);
}

fn check_each(broker: &Broker, commands_max: usize, findings: &mut Findings) {
    let commands = commands(broker);
    for ((_, _, partition), records) in broker.archive(Topic::State) {
        let Some(commands) = commands.get(&partition) else { continue };
        let heads = records.iter().filter(|stored| stored.record.key == keys::HEAD);
        let heads = heads.filter_map(|stored| Head::decode(stored.record.value.clone()?).ok());
        let positions: Vec<i64> = heads.map(|head| head.commands_position).collect();
        for two in positions.windows(2).filter(|two| two[0] < two[1]) {
            let taken = commands.range(two[0]..two[1]).count();
            findings.expect(BOUNDED, taken <= commands_max, || {
                format!("one of partition {partition} takes {taken}, from {} to {}", two[0], two[1])
            });
        }
    }
}

/// Where commands stand in each partition that are more than barriers.
fn commands(broker: &Broker) -> BTreeMap<u32, BTreeSet<i64>> {
    let mut commands: BTreeMap<u32, BTreeSet<i64>> = BTreeMap::new();
    for ((_, _, partition), records) in broker.archive(Topic::Commands) {
        let barrier = |command: Command| matches!(command.body, Some(Body::Barrier(_)));
        let is_barrier =
            |value: Option<Bytes>| value.and_then(|value| Command::decode(value).ok()).is_some_and(barrier);
        let others = records.into_iter().filter(|stored| !is_barrier(stored.record.value.clone()));
        commands.entry(partition).or_default().extend(others.map(|stored| stored.offset));
    }
    commands
}
