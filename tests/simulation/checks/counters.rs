//! Counters: each request is added once, timers fire in their time, and the starter of a counter is notified of each outcome,
//! once.

use std::collections::BTreeMap;

use millrace::engine::{EntityId, Kind, SubKey};
use millrace::proto::commands::command::Body;
use millrace::proto::counter::{Add, Head, Request, Tell, tell::What};

use super::{Findings, read, records_of};
use crate::broker::Broker;
use crate::world::World;

const ADDED: &str = "an acknowledged addition is there once";
const SUM: &str = "a counter counts what it was told, and nothing else";
const TICKS: &str = "a counter ticks in its time";
const NOTIFIED: &str = "whoever starts a counter is notified once of what becomes of it";

const PUBLISHED: &str = "every node can know what a counter has come to";

pub const ALL: [&str; 5] = [ADDED, SUM, TICKS, NOTIFIED, PUBLISHED];

/// How late a tick may be once the world is at rest.
const LATE_MS_MAX: i64 = 3000;

/// A run, as it was committed last.
#[derive(Default)]
struct Counted {
    head: Head,
    requests: BTreeMap<String, Request>,
    /// The head is gone. What was decided just before may never have been committed by itself.
    deleted: bool,
}

/// All runs that ever were, by their ids.
fn counted(broker: &Broker) -> BTreeMap<String, Counted> {
    let mut runs: BTreeMap<String, Counted> = BTreeMap::new();
    for (run_id, sub_key, value) in records_of(broker, Kind::Counter) {
        let run = runs.entry(run_id).or_default();
        match (sub_key, value) {
            (SubKey::Named(_, id), Some(value)) => drop(run.requests.insert(id, read(value))),
            (SubKey::Named(..), None) => {}
            (_, Some(value)) => run.head = read(value),
            (_, None) => run.deleted = true,
        }
    }
    runs
}

/// What happened, and how often.
pub fn seen(broker: &Broker) -> Vec<(&'static str, usize)> {
    let runs = counted(broker);
    let count = |of: &dyn Fn(&Head) -> i64| runs.values().map(|run| of(&run.head)).sum::<i64>() as usize;
    let seen = [
        ("a counter closed", count(&|head| i64::from(head.close_ms > 0))),
        ("a counter ticked", count(&|head| head.ticks)),
        ("a counter was refused to its starter", count(&|head| head.children_refused)),
    ];
    seen.into_iter().filter(|(_, count)| *count > 0).collect()
}

pub fn check(world: &World, findings: &mut Findings) {
    let runs = counted(&world.cluster.broker);
    for asked in &world.counters.requests.asked {
        let Body::Counter(Tell { what: Some(What::Add(Add { request_id, .. })) }) = &asked.body else { continue };
        let there = runs.values().filter(|run| run.requests.contains_key(request_id)).count();
        // A retry may find the next run.
        let holds = there <= asked.attempts as usize && (there > 0 || !matches!(asked.outcome, Some(Ok(_))));
        findings
            .expect(ADDED, holds, || format!("{}: in {there} runs after {} attempts", asked.entity.id, asked.attempts));
    }
    let mut newest: BTreeMap<&str, &Counted> = BTreeMap::new();
    for run in runs.values() {
        let newest = newest.entry(&run.head.id).or_insert(run);
        if newest.head.revision < run.head.revision {
            *newest = run;
        }
    }
    let published = world.cluster.owners.published();
    for (id, Counted { head, .. }) in newest.into_iter().filter(|(_, run)| !run.deleted) {
        let found = published.get(&EntityId::new(Kind::Counter, &head.namespace_id, id));
        let found: Option<Head> = found.map(|shared| read(shared.value.clone()));
        let published = found.as_ref().map_or((0, 0), |head| (head.revision, head.count));
        findings.expect(PUBLISHED, published == (head.revision, head.count), || {
            format!("{id}: {published:?} is published of {:?}", (head.revision, head.count))
        });
    }
    for (run_id, run) in &runs {
        let head = &run.head;
        let name = format!("{}/{run_id}", head.id);
        let is_child =
            |child: &&Counted| child.head.callback.as_ref().is_some_and(|callback| callback.token == *run_id);
        let children: Vec<&Counted> = runs.values().filter(is_child).collect();
        let closed: Vec<&&Counted> = children.iter().filter(|child| child.head.close_ms > 0).collect();
        let is_open = head.close_ms == 0 && !run.deleted;

        let requested: i64 = run.requests.values().map(|request| request.by).sum();
        let by_children = head.count - requested - head.ticks;
        let all: i64 = closed.iter().map(|child| child.head.count).sum();
        let holds = match head.children_closed {
            0 => by_children == 0,
            some if some == closed.len() as i64 => by_children == all,
            _ => (1..all).contains(&by_children),
        };
        findings.expect(SUM, holds, || {
            format!(
                "{name}: {} of requests {requested}, {} ticks and children {by_children} of {all}",
                head.count, head.ticks
            )
        });

        if head.tick_ms > 0 && head.close_ms > 0 {
            let most = (head.close_ms - head.start_ms) / head.tick_ms;
            findings.expect(TICKS, head.ticks <= most, || format!("{name}: {} of {most}", head.ticks));
        }
        // The log's time may be ahead of the true one, and its timers then are so too.
        let late_ms = world.cluster.broker.clock.true_ms() - head.due_ms;
        let holds = head.tick_ms == 0 || !is_open || late_ms < LATE_MS_MAX;
        findings.expect(TICKS, holds, || format!("{name} is late for a tick by {late_ms} ms"));

        let (started, refused) = (head.children_started, head.children_refused);
        let (began, ended) = (children.len() as i64, closed.len() as i64);
        let holds = if is_open {
            started == began && started + refused == head.children && head.children_closed == ended
        } else {
            started <= began && started + refused <= head.children && head.children_closed <= ended
        };
        findings.expect(NOTIFIED, holds, || {
            format!(
                "{name}: of {} children {started} of {began} started, {refused} did not, {} of {ended} closed",
                head.children, head.children_closed
            )
        });
    }
}
