//! Schedules: each action happens once, as the overlap policy says, and nothing that is due is forgotten.

use std::collections::BTreeMap;

use millrace::engine::{Kind, SubKey};
use millrace::log::Topic;
use millrace::proto::commands::{Command, command::Body};
use millrace::proto::schedule::{Head, Start};
use millrace::proto::temporal::enums::v1::ScheduleOverlapPolicy as Overlap;
use millrace::proto::temporal::history::v1::history_event::Attributes as A;
use millrace::types::time::millis_of;
use prost::Message as _;

use super::{Findings, Run, Runs, read, records_of};
use crate::broker::Broker;
use crate::schedules::{JITTER_MS, Schedules};
use crate::world::World;

const ONCE: &str = "each action of a schedule happens once";
const TRIGGERED: &str = "an acknowledged trigger of a schedule is there once";
const TAKEN: &str = "all that a schedule has to do is done in the end";
const OVERLAP: &str = "a schedule's workflows overlap as its policy says";
const IN_TIME: &str = "a schedule's action is not taken before its time";
const CAUGHT_UP: &str = "a schedule's action is not taken after its catch-up window";

pub const ALL: [&str; 6] = [ONCE, TRIGGERED, TAKEN, OVERLAP, IN_TIME, CAUGHT_UP];

/// How late an action may be once the world is at rest: one that came early, by the clocks of before, is tried again after a minute.
const LATE_MS_MAX: i64 = 70_000;

/// Triggers and backfills have times before this one.
const MANUAL_BEFORE_MS: i64 = 1_000_000_000_000;

/// The letter of the records of starts.
const START: u8 = b's';

/// A run of a schedule, as it was committed last.
#[derive(Default)]
struct Scheduled {
    head: Head,
    starts: BTreeMap<i64, Start>,
    deleted: bool,
}

/// All runs that ever were, by their ids.
fn scheduled(broker: &Broker) -> BTreeMap<String, Scheduled> {
    let mut runs: BTreeMap<String, Scheduled> = BTreeMap::new();
    for (run_id, sub_key, value) in records_of(broker, Kind::Schedule) {
        let run = runs.entry(run_id).or_default();
        match (sub_key, value) {
            (SubKey::Numbered(START, number), Some(value)) => drop(run.starts.insert(number, read(value))),
            (SubKey::Numbered(START, number), None) => drop(run.starts.remove(&number)),
            (SubKey::Head, Some(value)) => run.head = read(value),
            (SubKey::Head, None) => run.deleted = true,
            _ => {}
        }
    }
    runs
}

/// What happened, and how often.
pub fn seen(broker: &Broker) -> Vec<(&'static str, usize)> {
    let runs = scheduled(broker);
    let count = |of: &dyn Fn(&Head) -> i64| runs.values().map(|run| of(&run.head)).sum::<i64>() as usize;
    let seen = [
        ("a schedule started a workflow", count(&|head| head.action_count)),
        ("a schedule skipped an action that overlapped", count(&|head| head.overlap_skipped)),
        ("a schedule missed an action", count(&|head| head.missed_catchup_window)),
        ("a schedule was deleted", count(&|head| i64::from(head.close_ms > 0))),
    ];
    seen.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// The schedule that has started a run, if one has: not what follows it in its chain.
fn scheduler(run: &Run) -> Option<&str> {
    run.attributes().find_map(|(_, attributes)| match attributes {
        A::WorkflowExecutionStartedEventAttributes(a) if a.first_execution_run_id == run.run_id => {
            a.identity.strip_prefix("temporal-scheduler-")?.split_once('-').map(|(_, id)| id)
        }
        _ => None,
    })
}

pub fn check(world: &World, findings: &mut Findings) {
    if !world.schedules.happen() {
        return;
    }
    let runs = Runs::read(&world.cluster.broker, &mut Findings::default());
    let mut started: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs.0.values().filter(|run| run.reset.is_none()) {
        if let Some(schedule_id) = scheduler(run) {
            started.entry(schedule_id).or_default().push(run);
        }
    }
    let all = scheduled(&world.cluster.broker);
    check_counts(&all, &started, findings);
    check_triggers(world, &started, findings);
    check_catchup(&world.cluster.broker, findings);
    for (schedule_id, runs) in &started {
        check_overlap(world, schedule_id, runs, findings);
    }
    for (run_id, run) in all.iter().filter(|(_, run)| run.head.close_ms == 0 && !run.deleted) {
        let Head { id, state, .. } = &run.head;
        let state = state.clone().unwrap_or_default();
        let waits = run.starts.len();
        findings.expect(TAKEN, waits == 0, || format!("{id}/{run_id}: {:?} wait", run.starts));
        // Some time passes between the end of all actions and this.
        let is_late = run.head.due_ms < world.cluster.broker.clock.true_ms() - LATE_MS_MAX;
        let left = if state.paused || !is_late { 0 } else { state.remaining_actions };
        findings.expect(TAKEN, left == 0, || format!("{id}/{run_id}: {left} actions are left, {:?}", run.head));
    }
}

/// Each workflow is counted by its schedule, and none else.
fn check_counts(all: &BTreeMap<String, Scheduled>, started: &BTreeMap<&str, Vec<&Run>>, findings: &mut Findings) {
    let mut counts: BTreeMap<&str, (i64, bool)> = BTreeMap::new();
    for run in all.values() {
        let (count, whole) = counts.entry(&run.head.id).or_insert((0, true));
        *count += run.head.action_count;
        // One that has ended takes no notice of what it has started.
        *whole &= run.head.close_ms == 0 && !run.deleted;
    }
    for (id, (count, whole)) in counts {
        let begun = started.get(id).map_or(0, Vec::len) as i64;
        let holds = if whole { begun == count } else { begun >= count };
        findings.expect(ONCE, holds, || format!("{id}: {begun} workflows of {count} actions"));
    }
    for (id, runs) in started {
        let mut times: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
        for run in runs {
            times.entry(&run.workflow_id).or_default().push(run);
        }
        for (workflow_id, runs) in times {
            let deletions = all.values().filter(|run| run.head.id == **id).count();
            let holds = runs.len() <= deletions;
            findings.expect(ONCE, holds, || format!("{id}: {workflow_id} was started {} times", runs.len()));
            for run in runs {
                check_time(run, findings);
            }
        }
    }
}

/// When a schedule's workflow was due, by its id: cut to seconds, in milliseconds since the Unix epoch.
fn due_ms(workflow_id: &str) -> Option<i64> {
    let due = workflow_id.get(workflow_id.len().saturating_sub(20)..)?;
    Some(chrono::DateTime::parse_from_rfc3339(due).ok()?.timestamp_millis())
}

/// By the time at which the start was sent: how long it takes to arrive is another matter. What is triggered or filled in has times of its own.
fn check_catchup(broker: &Broker, findings: &mut Findings) {
    let commands = broker.archive(Topic::Commands).into_iter().flat_map(|(_, records)| records);
    let commands = commands.filter_map(|stored| Command::decode(stored.record.value?).ok());
    for Command { sent_ms, body, .. } in commands {
        let Some(Body::StartWorkflow(start)) = body else { continue };
        let request = start.request.unwrap_or_default();
        let scheduler = request.identity.strip_prefix("temporal-scheduler-").and_then(|name| name.split_once('-'));
        let window_ms = scheduler.and_then(|(_, schedule_id)| Schedules::catchup_window_ms(schedule_id));
        let due_ms = due_ms(&request.workflow_id).filter(|due_ms| *due_ms > MANUAL_BEFORE_MS);
        let Some((window_ms, due_ms)) = window_ms.zip(due_ms) else { continue };
        let late_ms = sent_ms - due_ms;
        findings.expect(CAUGHT_UP, late_ms <= window_ms + JITTER_MS + 1000, || {
            format!("{} was started {late_ms} ms after it was due", request.workflow_id)
        });
    }
}

/// The workflow's id has the time that it was due at.
fn check_time(run: &Run, findings: &mut Findings) {
    let Some(due_ms) = due_ms(&run.workflow_id) else { return };
    let started = run.events.first().and_then(|event| event.event_time.as_ref()).map_or(0, millis_of);
    // Another partition's clock may have been ahead.
    let holds = due_ms <= started + crate::world::CLOCK_WRONG_MS_MAX;
    findings.expect(IN_TIME, holds, || format!("{} has started at {started}", run.workflow_id));
}

fn check_triggers(world: &World, started: &BTreeMap<&str, Vec<&Run>>, findings: &mut Findings) {
    for asked in &world.schedules.requests.asked {
        let Body::PatchSchedule(patch) = &asked.body else { continue };
        let patch = patch.request.as_ref().and_then(|request| request.patch.as_ref());
        let Some(trigger) = patch.and_then(|patch| patch.trigger_immediately.as_ref()) else { continue };
        let at = chrono::DateTime::from_timestamp(trigger.scheduled_time.as_ref().map_or(0, |time| time.seconds), 0);
        let due = at.unwrap_or_default().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let of = started.get(&*asked.entity.id).into_iter().flatten();
        let count = of.filter(|run| run.workflow_id.ends_with(&due)).count();
        findings.expect(TRIGGERED, count <= 1, || {
            format!("{}: {due} was started {count} times after {} attempts", asked.entity.id, asked.attempts)
        });
        let is_deleted = world
            .schedules
            .requests
            .asked
            .iter()
            .any(|other| other.entity == asked.entity && matches!(other.body, Body::DeleteSchedule(_)));
        let must = matches!(asked.outcome, Some(Ok(_))) && trigger.overlap_policy() == Overlap::AllowAll && !is_deleted;
        findings.expect(TRIGGERED, !must || count == 1, || format!("{}: {due} was not started", asked.entity.id));
    }
}

/// Of a schedule whose workflows follow each other, none begins before the one before has ended: partitions have clocks of their own,
/// so they are compared by what one has been given of the other.
fn check_overlap(world: &World, schedule_id: &str, runs: &[&Run], findings: &mut Findings) {
    let jumped = {
        let seen = world.cluster.network.seen.lock().expect("no code panics while it counts");
        seen.contains_key("the broker's clock jumped")
    };
    let deleted = world
        .schedules
        .requests
        .asked
        .iter()
        .any(|asked| &*asked.entity.id == schedule_id && matches!(asked.body, Body::DeleteSchedule(_)));
    if Schedules::overlap(schedule_id) == Overlap::AllowAll || jumped || deleted {
        return;
    }
    let time = |event: Option<&millrace::proto::temporal::history::v1::HistoryEvent>| {
        event.and_then(|event| event.event_time.as_ref()).map_or(0, millis_of)
    };
    let mut spans: Vec<_> = runs
        .iter()
        .filter(|run| !run.deleted)
        .map(|run| (time(run.events.first()), time(run.events.last()), &run.workflow_id))
        .collect();
    spans.sort();
    for pair in spans.windows(2) {
        let [(_, end, before), (begin, _, after)] = pair else { continue };
        findings.expect(OVERLAP, end <= begin, || format!("{after} began at {begin}, {before} ended at {end}"));
    }
}
