//! Lists show every run that the state has, as it is.

use millrace::engine::SubKey;
use millrace::proto::state;
use millrace::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;
use millrace::store::keys;
use millrace::visibility::{Attributes, Query};
use prost::Message as _;

use super::Findings;
use crate::machine::NAMESPACE_ID;
use crate::world::World;

const CHECK: &str = "lists show every run";

pub fn check(world: &World, findings: &mut Findings) {
    for partition in 0..world.partitions() {
        let machine = &world.machines[world.assigned[partition as usize]];
        let Some(process) = &machine.process else { continue };
        let projection = process.node.projections[partition as usize].lock().expect("no code panics while it holds it");
        let count = |query: &str| {
            let query = Query::parse(NAMESPACE_ID, query, &Attributes::default()).expect("the query can be read");
            projection.count(&query).expect("lists can be read").total
        };
        let listed = (count(""), count("ExecutionStatus = 'Completed'"));
        let records = machine.disk.records(partition);
        let is_head =
            |key| keys::parse(key).and_then(|parsed| parsed.record).is_some_and(|(_, key)| key == SubKey::Head);
        let heads: Vec<_> = records
            .iter()
            .filter(|(key, _)| is_head(key))
            .map(|(_, value)| state::Run::decode(value.clone()).unwrap_or_default())
            .collect();
        let completed = heads.iter().filter(|run| run.status == Status::Completed as i32).count();
        let expected = (heads.len() as i64, completed as i64);
        findings.expect(CHECK, listed == expected, || format!("partition {partition}: {listed:?} of {expected:?}"));
    }
}
