//! Lists show every run that the state has, as it is, and no other.

use std::collections::BTreeMap;

use millrace::engine::{Kind, SubKey};
use millrace::store::keys;
use millrace::visibility::{Attributes, Query, Row};

use super::Findings;
use crate::machine::NAMESPACE_ID;
use crate::world::World;

const CHECK: &str = "lists show every run";
const ROWS_MAX: usize = 100_000;

pub fn check(world: &World, findings: &mut Findings) {
    for partition in 0..world.partitions() {
        let machine = &world.machines[world.assigned[partition as usize]];
        let projection = machine.disk.lists(partition);
        let projection = projection.lock().expect("no code panics while it holds it");
        let every =
            Query::parse(Kind::Workflow, NAMESPACE_ID, "", &Attributes::default()).expect("the query can be read");
        let of_kind = |kind| projection.list(&every.clone().of_kind(kind), ROWS_MAX, b"").expect("lists can be read");
        let listed = [Kind::Workflow, Kind::Schedule, Kind::Batch, Kind::Counter].map(|kind| of_kind(kind).rows);
        let listed: BTreeMap<_, _> = listed.into_iter().flatten().map(|row| (row.run_id.clone(), row)).collect();
        let expected: BTreeMap<_, _> = heads(&machine.disk.records(partition)).collect();
        for run_id in listed.keys().chain(expected.keys()) {
            let (listed, expected) = (listed.get(run_id), expected.get(run_id));
            findings.expect(CHECK, listed == expected, || format!("partition {partition}: {listed:?} of {expected:?}"));
        }
    }
}

/// What lists should show of each run.
fn heads(records: &crate::disk::Records) -> impl Iterator<Item = (String, Row)> {
    records.iter().filter_map(move |(key, _)| {
        let keys::Parsed { entity, record: Some((run_id, SubKey::Head)) } = keys::parse(key)? else { return None };
        let mut run = entity.kind.empty();
        for sub_key in entity.kind.row_keys() {
            if let Some(value) = records.get(&keys::record(&entity, &run_id, sub_key)) {
                run.restore(sub_key.clone(), value.clone()).expect("a record of the state can be read");
            }
        }
        // What is being deleted is not listed any more.
        if run.header().deleted_to_event_id != 0 { None } else { Some((run_id, run.row()?)) }
    })
}
