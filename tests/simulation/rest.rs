//! The end of a simulation: nothing goes wrong any more, everybody finishes what is under way, and the world comes to rest.

use millrace::engine::SubKey;
use millrace::log::{Isolation, Topic};
use millrace::store::keys;

use crate::callers;
use crate::calls::Call;
use crate::checks::Findings;
use crate::disk::Records;
use crate::world::World;

const CHECK: &str = "the world comes to rest";
/// Rounds of ten milliseconds each, until everything that was requested must have happened.
const ROUNDS_MAX: usize = 1500;
/// Rounds without a change in the log, after which there will be none.
const QUIET: usize = 30;
/// Rounds of terminations after which no schedule has anything left to do.
const SCHEDULED_MAX: usize = 60;
/// So often some time passes, at most, until all batches are done.
const BATCHES_MAX: usize = 60;
/// Longer than an owner waits before it looks whether others have appended to its partition.
const LOOK_MS: i64 = 2100;
/// As long as an owner waits at most before it tries a timer again that came early.
const EARLY_AGAIN_MS_MAX: i64 = 60_000;

/// Brings the world to rest.
pub fn come_to_rest(world: &mut World, findings: &mut Findings) {
    world.heal();
    world.finish = true;
    settle_schedules(world, findings);
    settle_batches(world, findings);
    if !run_until_quiet(world) {
        return findings.add(
            CHECK,
            format!("after {ROUNDS_MAX} rounds there is still something under way: {}", world.under_way()),
        );
    }
    for attempt in 0..5 {
        let open = open_workflows(world);
        if open.is_empty() {
            findings.expect("an update is answered in the end", !world.has_updates(), || world.under_way());
            return settle_counters(world, findings);
        }
        for workflow_id in open {
            let identity = format!("the end {attempt} of {workflow_id}");
            world.client_call(Call::Terminate(callers::terminate(workflow_id, identity)));
        }
        if !run_until_quiet(world) {
            return findings.add(CHECK, "terminations take no effect");
        }
    }
    findings.add(CHECK, format!("{:?} can't be ended", open_workflows(world)));
}

/// Schedules take actions until none is left. Some of their workflows end by themselves, the others are ended, so that what waits for
/// them goes on.
fn settle_schedules(world: &mut World, findings: &mut Findings) {
    if !world.schedules.happen() {
        return;
    }
    for attempt in 0..SCHEDULED_MAX {
        (0..if attempt == 0 { 300 } else { 60 }).for_each(|_| world.round());
        // A timer that came early, by the clocks of before, is tried again after so long.
        world.time.pass(if attempt % 8 == 7 { EARLY_AGAIN_MS_MAX } else { 1000 });
        let open = open_workflows(world);
        if open.is_empty() && !world.has_callers() && world.scheduled_actions() == 0 {
            return;
        }
        for workflow_id in open {
            let identity = format!("the end of {workflow_id} before {attempt}");
            world.client_call(Call::Terminate(callers::terminate(workflow_id, identity)));
        }
    }
    findings.add(CHECK, format!("{} actions of schedules are left", world.scheduled_actions()));
}

/// Batches go on until they are applied to all that they are to be applied to.
fn settle_batches(world: &mut World, findings: &mut Findings) {
    if !world.batches.happen() {
        return;
    }
    for attempt in 0..BATCHES_MAX {
        (0..60).for_each(|_| world.round());
        let open = world.open_batches();
        if open.is_empty() && !world.batches.has_callers() {
            return;
        }
        // The log's time may be ahead of the true one, and so are its timers then.
        let now = world.cluster.broker.clock.true_ms();
        let ahead = open.iter().map(|head| head.due_ms - now).max().unwrap_or_default();
        // A timer that came early, by the clocks of before, is tried again after so long.
        world.time.pass(if attempt % 8 == 7 { EARLY_AGAIN_MS_MAX } else { ahead.max(100) });
    }
    findings.add(CHECK, format!("batches are not done: {:?}", world.open_batches()));
}

/// Counters tick until they are closed. A tick that came early, by the clocks of before, is tried again after a while that is longer
/// than a quiet world lasts.
fn settle_counters(world: &mut World, findings: &mut Findings) {
    if world.counters.happen() {
        world.time.pass(EARLY_AGAIN_MS_MAX);
        if !run_until_quiet(world) {
            findings.add(CHECK, format!("counters do not come to rest: {}", world.under_way()));
        }
    }
}

/// Whether nothing happens any more, and no caller waits.
fn run_until_quiet(world: &mut World) -> bool {
    let (mut quiet, mut before) = (0, Vec::new());
    for _ in 0..ROUNDS_MAX {
        world.round();
        let now = ends(world);
        let waiting = world.has_callers()
            || world.has_requests()
            || world.has_unseen()
            || world.counters.requests.has_callers()
            || world.schedules.requests.has_callers()
            || world.batches.has_callers();
        // A send that was not taken waits longer than a quiet world does.
        quiet = if now == before && !waiting && !has_sends(world) { quiet + 1 } else { 0 };
        before = now;
        match quiet {
            QUIET => return true,
            // What an owner of before has appended may be all that there is left to decide.
            _ if quiet == QUIET / 2 => world.time.pass(LOOK_MS),
            _ => {}
        }
    }
    false
}

/// Where the log ends.
fn ends(world: &World) -> Vec<i64> {
    let end = |topic, partition| world.cluster.broker.end_offset(topic, partition, Isolation::ReadUncommitted);
    let partitions = 0..world.cluster.broker.partitions;
    partitions.flat_map(|partition| [end(Topic::Commands, partition), end(Topic::State, partition)]).collect()
}

/// Whether a send waits for its target, as its owner's store has it.
fn has_sends(world: &World) -> bool {
    let of_owner = |partition| world.machines[world.assigned[partition as usize]].disk.records(partition);
    let outgoing = bytes::Bytes::from_static(keys::OUTGOING);
    (0..world.cluster.broker.partitions).any(|partition| {
        let records = of_owner(partition);
        records.range(outgoing.clone()..).next().is_some_and(|(key, _)| key.starts_with(keys::OUTGOING))
    })
}

/// The workflows that run, as their owners have them.
fn open_workflows(world: &World) -> Vec<String> {
    let of_owner = |partition| world.machines[world.assigned[partition as usize]].disk.records(partition);
    (0..world.cluster.broker.partitions).flat_map(|partition| open(&of_owner(partition))).collect()
}

/// The workflows that run, by a store's records.
pub fn open(records: &Records) -> Vec<String> {
    let mut open = Vec::new();
    for (key, value) in records.range(bytes::Bytes::from_static(keys::STATE)..) {
        let Some(parsed) = keys::parse(key) else { continue };
        let Some((_, SubKey::Head)) = parsed.record else { continue };
        let mut run = parsed.entity.kind.empty();
        run.restore(SubKey::Head, value.clone()).expect("a head can be read");
        if run.workflow().is_some() && run.is_open() {
            open.push(parsed.entity.id.to_string());
        }
    }
    open
}
