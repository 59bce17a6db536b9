//! One simulation, from its seed to what was found.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use millrace::log::Topic;
use millrace::proto::commands::{Command, command::Body};
use millrace::proto::events::Rejected;
use millrace::wire::avro;
use prost::Message as _;

use crate::broker::{Broker, REPLIES};
use crate::checks::{self, Findings, Runs, Violation};
use crate::mutations::Mutation;
use crate::rest;
use crate::world::World;

#[derive(Debug)]
pub struct Outcome {
    pub findings: Vec<Violation>,
    /// Of all that was ever committed to the log.
    pub hash: u64,
    /// What happened, and what went wrong, and how often.
    pub seen: BTreeMap<&'static str, usize>,
    /// The histories, for people, if something was found.
    pub histories: Vec<String>,
}

/// Calls wait with tokio's timers, which never fire: they are not driven.
static TIMERS: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("the system has a clock")
});

pub fn simulate(seed: u64, mutation: Option<Mutation>) -> Outcome {
    let _timers = TIMERS.enter();
    let mut findings = Findings::default();
    let mut world = World::new(seed, mutation);
    let run = AssertUnwindSafe(|| {
        world.run();
        rest::come_to_rest(&mut world, &mut findings);
        checks::all(&world, &mut findings);
    });
    if let Err(panic) = catch_unwind(run) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        findings.add("nothing panics", text);
    }
    let broker = &world.cluster.broker;
    let histories = if findings.0.is_empty() { Vec::new() } else { Runs::read(broker, &mut findings).describe() };
    Outcome { histories, findings: findings.0, hash: hash(broker), seen: seen(&world) }
}

fn seen(world: &World) -> BTreeMap<&'static str, usize> {
    let broker = &world.cluster.broker;
    let mut seen = world.cluster.network.seen.lock().expect("no code panics while it counts").clone();
    let records: usize = broker.archive(Topic::Commands).iter().map(|(_, records)| records.len()).sum();
    seen.insert("commands", records);
    let commands = broker.archive(Topic::Commands).into_iter().flat_map(|(_, records)| records);
    let commands = commands.filter_map(|stored| Command::decode(stored.record.value?).ok());
    let raised = commands.filter(|command| matches!(command.body, Some(Body::SetFoldVersion(_)))).count();
    if raised > 0 {
        seen.insert("a version of the fold was put in force", raised);
    }
    let rejected = broker.archive(Topic::Rejections).into_iter().flat_map(|(_, records)| records);
    let rejected = rejected.filter_map(|stored| avro::decode::<Rejected>(&stored.record.value?).ok());
    let too_large = rejected.filter(|rejected| rejected.reason.contains("does not fit")).count();
    if too_large > 0 {
        seen.insert("a decision led to more than the log takes", too_large);
    }
    seen.extend(checks::batches::seen(broker));
    seen.extend(checks::counters::seen(broker));
    seen.extend(checks::schedules::seen(broker));
    seen.insert("calls", world.journal.ops.len());
    seen.insert("tasks handed out", world.journal.handed.len());
    for event in Runs::read(broker, &mut Findings::default()).0.values().flat_map(|run| &run.events) {
        *seen.entry(event.event_type().as_str_name()).or_default() += 1;
    }
    seen
}

fn hash(broker: &Broker) -> u64 {
    let mut hasher = DefaultHasher::new();
    for topic in Topic::ALL.into_iter().chain([REPLIES]) {
        for ((_, generation, partition), records) in broker.archive(topic) {
            hasher.write_u32(generation);
            hasher.write_u32(partition);
            for stored in records {
                hasher.write_i64(stored.offset);
                hasher.write_i64(stored.timestamp_ms);
                hasher.write(&stored.record.key);
                hasher.write_u8(u8::from(stored.record.value.is_some()));
                hasher.write(stored.record.value.as_deref().unwrap_or_default());
            }
        }
    }
    hasher.finish()
}
