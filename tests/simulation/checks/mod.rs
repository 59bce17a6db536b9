//! The checks: what must hold of the log, and of the answers to callers, once everything has come to rest. They know Temporal's
//! rules and the public topics, and call none of the engine's code.

pub mod batches;
mod commits;
pub mod counters;
mod effects;
mod handed;
mod histories;
mod lists;
mod queries;
mod reads;
pub mod replay;
mod requests;
mod resets;
mod runs;
pub mod schedules;
mod targets;
mod updates;

use bytes::Bytes;
use millrace::engine::{Kind, SubKey};
use millrace::log::Topic;
use millrace::store::keys;

use crate::broker::Broker;
use crate::world::World;
pub use runs::{Run, Runs};

/// What does not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The check that found it.
    pub check: &'static str,
    pub what: String,
}

/// What has been found so far.
#[derive(Default)]
pub struct Findings(pub Vec<Violation>);

impl Findings {
    pub fn add(&mut self, check: &'static str, what: impl Into<String>) {
        self.0.push(Violation { check, what: what.into() });
    }

    pub fn expect(&mut self, check: &'static str, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.add(check, what());
        }
    }
}

/// Every record of the runs of one kind, as they were committed, one after the other: the run, what of it, and the value, if it was not
/// deleted.
fn records_of(broker: &Broker, kind: Kind) -> impl Iterator<Item = (String, SubKey, Option<Bytes>)> {
    let records = broker.archive(Topic::State).into_iter().flat_map(|(_, records)| records);
    records.filter_map(move |stored| {
        let keys::Parsed { entity, record: Some((run_id, sub_key)) } = keys::parse(&stored.record.key)? else {
            return None;
        };
        (entity.kind == kind).then_some((run_id, sub_key, stored.record.value))
    })
}

fn read<M: prost::Message + Default>(value: Bytes) -> M {
    M::decode(value).expect("a record can be read")
}

/// Everything that must hold.
pub fn all(world: &World, findings: &mut Findings) {
    let runs = Runs::read(&world.cluster.broker, findings);
    histories::check(&runs, findings);
    effects::check(world, &runs, findings);
    targets::check(world, &runs, findings);
    updates::check(world, &runs, findings);
    resets::check(world, &runs, findings);
    handed::check(world, &runs, findings);
    reads::check(world, &runs, findings);
    queries::check(world, &runs, findings);
    requests::check(world, &runs, findings);
    replay::check(world, findings);
    lists::check(world, findings);
    commits::check(world, findings);
    counters::check(world, findings);
    schedules::check(world, findings);
    batches::check(world, &runs, findings);
}
