//! Each record of `requests` is carried out, or refused, once, and those of one workflow in their order.

use std::collections::BTreeMap;

use millrace::log::Topic;
use millrace::proto::events::{Rejected, Reply};
use millrace::proto::temporal::history::v1::history_event::Attributes as A;
use millrace::wire::{avro, avro::Published};

use super::{Findings, Run, Runs};
use crate::broker::REPLIES;
use crate::world::World;

const ONCE: &str = "each request is carried out or refused once";
const ORDER: &str = "requests of a workflow keep their order";
const ANSWERED: &str = "each request that asks for it is answered once";

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    let broker = &world.cluster.broker;
    let last_generation = broker.generation(Topic::Requests);
    let mut rejected: BTreeMap<(i32, i64, Vec<u8>), usize> = BTreeMap::new();
    for stored in broker.archive(Topic::Rejections).into_iter().flat_map(|(_, records)| records) {
        if let Ok(record) = avro::decode::<Rejected>(&stored.record.value.unwrap_or_default())
            && record.topic == "requests"
        {
            *rejected.entry((record.partition, record.offset, record.value.to_vec())).or_default() += 1;
        }
    }
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for stored in broker.archive(REPLIES).into_iter().flat_map(|(_, records)| records) {
        if let Some(reply) = reply(&stored.record.value.unwrap_or_default()) {
            *answered.entry(reply.correlation_id).or_default() += 1;
        }
    }
    let signals = signals(runs);
    // A topic that was created again is another source.
    let mut before: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    let written = broker.archive(Topic::Requests);
    for produced in &world.produced {
        let name = (produced.partition as i32, produced.offset, value(&written, produced));
        let refused = rejected.get(&name).copied().unwrap_or_default();
        // Of a topic that was deleted, not all need have been read.
        let lost = produced.generation < last_generation;
        if let Some(signal) = &produced.signal {
            let found: Vec<usize> = signals.iter().filter(|(at, _)| at == signal).map(|(_, place)| *place).collect();
            let total = found.len() + refused;
            findings.expect(ONCE, total == 1 || (lost && total == 0), || {
                format!("{signal}: received {} times, refused {refused} times", found.len())
            });
            if let Some(place) = found.first() {
                let last = before.insert((&produced.workflow_id, produced.generation), *place).unwrap_or_default();
                findings.expect(ORDER, last <= *place, || format!("{}: {signal}", produced.workflow_id));
            }
        } else {
            findings.expect(ONCE, refused <= 1, || format!("refused {refused} times"));
        }
        if let Some(id) = &produced.correlation_id {
            let answers = answered.get(id).copied().unwrap_or_default();
            findings.expect(ANSWERED, answers == 1 || (lost && answers == 0), || format!("{id}: {answers} answers"));
        }
    }
}

fn reply(value: &[u8]) -> Option<Reply> {
    let json = value.first() == Some(&b'{');
    if json {
        let wire = Reply::codec().read_json(value).ok()?;
        return prost::Message::decode(&wire[..]).ok();
    }
    avro::decode(value).ok()
}

fn value(
    written: &[(crate::broker::Place, Vec<millrace::log::Stored>)],
    produced: &crate::callers::Produced,
) -> Vec<u8> {
    let place = (Topic::Requests, produced.generation, produced.partition);
    let records = written.iter().find(|(at, _)| *at == place).map(|(_, records)| records);
    let stored = records.and_then(|records| records.iter().find(|stored| stored.offset == produced.offset));
    stored.and_then(|stored| stored.record.value.clone()).unwrap_or_default().to_vec()
}

/// What each signal carries, numbered in the order of each workflow.
fn signals(runs: &Runs) -> Vec<(String, usize)> {
    let mut all: Vec<&Run> = runs.0.values().collect();
    all.sort_by_key(|run| (&run.workflow_id, run.offset));
    let events = all.into_iter().flat_map(Run::own);
    let inputs = events.filter_map(|(_, attributes)| match attributes {
        A::WorkflowExecutionSignaledEventAttributes(a) => {
            let payload = a.input.as_ref()?.payloads.first()?;
            Some(String::from_utf8_lossy(&payload.data).into_owned())
        }
        _ => None,
    });
    inputs.enumerate().map(|(place, input)| (input, place)).collect()
}
