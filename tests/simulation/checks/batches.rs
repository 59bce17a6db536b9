//! Batches: an operation reaches each of its workflows once, no faster than it may, and the batch knows what has become of it.

use std::collections::{BTreeMap, BTreeSet};

use millrace::engine::{EntityId, Kind, Rejection, SubKey};
use millrace::log::Topic;
use millrace::partition::Failure;
use millrace::proto::batch::{Head, StartBatch, Target, TargetToken};
use millrace::proto::commands::{Command, command::Body, notify::Outcome};
use millrace::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;
use millrace::proto::temporal::history::v1::history_event::Attributes as A;
use millrace::proto::temporal::workflowservice::v1::start_batch_operation_request::Operation;
use prost::Message as _;

use super::{Findings, Runs, read, records_of};
use crate::batches::executions;
use crate::broker::Broker;
use crate::world::World;

const STARTED: &str = "an acknowledged start of a batch is one batch";
const STOPPED: &str = "a batch ends as it was requested";
const ONCE: &str = "a batch's operation reaches each workflow once";
const DONE: &str = "a batch is done in the end, and keeps nothing";
const COUNTED: &str = "a batch counts what has become of its operations";
const PACE: &str = "a batch is no faster than it may be";

pub const ALL: [&str; 6] = [STARTED, STOPPED, ONCE, DONE, COUNTED, PACE];

/// The letter of the records of the workflows that the operation is under way to.
const TARGET: u8 = b't';

/// A run of a batch.
#[derive(Default)]
struct Batched {
    /// As they were committed, one after the other.
    heads: Vec<Head>,
    /// What is left of them.
    targets: BTreeMap<i64, Target>,
    deleted: bool,
    /// The workflows to which the operation was sent, by number.
    sent: BTreeMap<i64, BTreeSet<String>>,
    /// Those of the operations that are deletions.
    deletions: BTreeSet<i64>,
    /// What has become of it, as the batch was notified.
    outcomes: BTreeMap<i64, Outcome>,
}

impl Batched {
    /// As it was committed last.
    fn head(&self) -> &Head {
        self.heads.last().expect("only those are kept that have one")
    }
}

/// All runs that ever were, by their ids.
fn batched(broker: &Broker) -> BTreeMap<String, Batched> {
    let mut runs: BTreeMap<String, Batched> = BTreeMap::new();
    for (run_id, sub_key, value) in records_of(broker, Kind::Batch) {
        let run = runs.entry(run_id).or_default();
        match (sub_key, value) {
            (SubKey::Numbered(TARGET, number), Some(value)) => drop(run.targets.insert(number, read(value))),
            (SubKey::Numbered(TARGET, number), None) => drop(run.targets.remove(&number)),
            (SubKey::Head, Some(value)) => run.heads.push(read(value)),
            (SubKey::Head, None) => run.deleted = true,
            _ => {}
        }
    }
    runs.retain(|_, run| !run.heads.is_empty());
    for stored in broker.archive(Topic::Commands).into_iter().flat_map(|(_, records)| records) {
        let Some(Ok(command)) = stored.record.value.map(Command::decode) else { continue };
        if let Some(callback) = command.callback.filter(|callback| callback.kind == Kind::Batch as u32) {
            let token: TargetToken = read(callback.token);
            if let Some(run) = runs.get_mut(&token.run_id) {
                run.sent.entry(token.number).or_default().insert(command.id.clone());
                if matches!(command.body, Some(Body::DeleteRun(_))) {
                    run.deletions.insert(token.number);
                }
            }
        }
        if let Some(Body::Notify(notify)) = command.body
            && command.kind == Kind::Batch as u32
        {
            let token: TargetToken = read(notify.token);
            if let (Some(run), Some(outcome)) = (runs.get_mut(&token.run_id), notify.outcome) {
                run.outcomes.insert(token.number, outcome);
            }
        }
    }
    runs
}

/// What happened, and how often.
pub fn seen(broker: &Broker) -> Vec<(&'static str, usize)> {
    let runs = batched(broker);
    let count = |is: &dyn Fn(&Head) -> bool| runs.values().filter(|run| is(run.head())).count();
    let outcomes = |is: &dyn Fn(&Outcome) -> bool| {
        runs.values().flat_map(|run| run.outcomes.values()).filter(|outcome| is(outcome)).count()
    };
    let deleted = |run: &Batched| {
        let is_done = |number: &&i64| matches!(run.outcomes.get(*number), Some(Outcome::Done(_)));
        run.deletions.iter().filter(is_done).count()
    };
    let has_waited = |run: &&Batched| {
        let begun = run.heads.iter().map(|head| head.interval_from_ms).filter(|from_ms| *from_ms > 0);
        begun.collect::<BTreeSet<_>>().len() > 1
    };
    let seen = [
        ("a batch completed", count(&|head| head.status() == Status::Completed)),
        ("a batch failed", count(&|head| head.status() == Status::Failed)),
        ("a batch was stopped", count(&|head| head.status() == Status::Terminated)),
        ("a batch was listed in several pages", count(&|head| head.pages > 1)),
        ("an operation of a batch was carried out", outcomes(&|outcome| matches!(outcome, Outcome::Done(_)))),
        ("an operation of a batch was refused", outcomes(&|outcome| matches!(outcome, Outcome::Refused(_)))),
        ("an operation of a batch could not be applied", runs.values().map(|run| run.head().failed as usize).sum()),
        ("a batch deleted a workflow", runs.values().map(deleted).sum()),
        ("a batch took several intervals", runs.values().filter(|run| has_waited(run)).count()),
    ];
    seen.into_iter().filter(|(_, count)| *count > 0).collect()
}

pub fn check(world: &World, runs: &Runs, findings: &mut Findings) {
    if !world.batches.happen() {
        return;
    }
    let all = batched(&world.cluster.broker);
    let mut by_job: BTreeMap<&str, Vec<&Batched>> = BTreeMap::new();
    for run in all.values() {
        by_job.entry(&run.head().id).or_default().push(run);
    }
    check_requests(world, &by_job, findings);
    for (job_id, batches) in by_job {
        let Some(start) = world.batches.start_of(job_id) else {
            findings.add(STARTED, format!("nobody has started {job_id}"));
            continue;
        };
        for run in &batches {
            check_end(world, run, findings);
            check_sent(run, start, findings);
            check_counts(run, start, findings);
            check_pace(run, start, findings);
        }
        check_marks(job_id, start, &batches, runs, findings);
    }
}

/// What was acknowledged to clients is there. A job id is used again only once nothing is left of its run.
fn check_requests(world: &World, by_job: &BTreeMap<&str, Vec<&Batched>>, findings: &mut Findings) {
    for asked in &world.batches.requests.asked {
        let job_id = &*asked.entity.id;
        let batches = by_job.get(job_id).map_or(&[][..], |batches| batches);
        let what =
            || format!("{job_id}: {} batches, {:?} after {} attempts", batches.len(), asked.outcome, asked.attempts);
        match &asked.body {
            Body::StartBatch(_) => {
                let deleted = batches.iter().filter(|run| run.deleted).count();
                findings.expect(STARTED, (1..=deleted + 1).contains(&batches.len()), what);
                let known =
                    matches!(asked.outcome, Some(Ok(_) | Err(Failure::Rejected(Rejection::AlreadyStarted { .. }))));
                findings.expect(STARTED, known, what);
            }
            Body::StopBatch(_) => {
                let stopped = batches.iter().any(|run| run.head().status() == Status::Terminated);
                findings.expect(STOPPED, stopped || !matches!(asked.outcome, Some(Ok(_))), what);
            }
            _ => {}
        }
    }
}

fn name(run: &Batched) -> String {
    let head = run.head();
    format!("{}/{}, {:?}", head.id, head.run_id, head.status())
}

/// It is over, for a reason that there is.
fn check_end(world: &World, run: &Batched, findings: &mut Findings) {
    let head = run.head();
    let over = run.deleted || head.close_ms > 0;
    findings.expect(DONE, over, || format!("{}: {head:?}", name(run)));
    findings.expect(DONE, run.targets.is_empty(), || format!("{}: {:?} are left", name(run), run.targets));
    let is_of = |entity: &EntityId| *entity.id == *head.id;
    let mut requests = world.batches.requests.asked.iter().filter(|asked| is_of(&asked.entity));
    let mut pages = world.batches.pages.asked.iter().filter(|asked| is_of(&asked.entity));
    let holds = match head.status() {
        Status::Terminated => requests.any(|asked| matches!(asked.body, Body::StopBatch(_))),
        Status::Failed => {
            pages.any(|asked| matches!(&asked.body, Body::AddBatchPage(page) if !page.problem.is_empty()))
        }
        _ => true,
    };
    findings.expect(STOPPED, holds, || name(run));
}

/// The operation goes to workflows that the request names, once to each.
fn check_sent(run: &Batched, start: &StartBatch, findings: &mut Findings) {
    let named: BTreeSet<&str> = executions(start).iter().map(|execution| &*execution.business_id).collect();
    let sent: Vec<&str> = run.sent.values().flatten().map(String::as_str).collect();
    let distinct: BTreeSet<&str> = sent.iter().copied().collect();
    let holds = distinct.len() == sent.len() && distinct.is_subset(&named);
    findings.expect(ONCE, holds, || format!("{}: it was sent to {:?} of {named:?}", name(run), run.sent));
    // Of one that is deleted, the last that was decided need not have been committed by itself.
    let numbers: Vec<i64> = run.sent.keys().copied().collect();
    let holds = run.deleted || numbers == (1..=run.head().sent_number).collect::<Vec<_>>();
    findings.expect(ONCE, holds, || format!("{}: {numbers:?} of {} were sent", name(run), run.head().sent_number));
}

/// A batch that is completed has been notified of each operation, and counts it.
fn check_counts(run: &Batched, start: &StartBatch, findings: &mut Findings) {
    let head = run.head();
    if run.deleted || head.status() != Status::Completed {
        return;
    }
    let count = executions(start).len() as i64;
    let needs_nothing = |outcome: &&Outcome| match outcome {
        Outcome::Refused(refused) => refused.code == "NOT_FOUND",
        _ => true,
    };
    let succeeded = run.outcomes.values().filter(needs_nothing).count() as i64;
    let holds = head.succeeded + head.failed == count && head.succeeded == succeeded && head.last_number <= count;
    findings.expect(COUNTED, holds, || {
        format!("{}: {} and {} of {count}, by {:?}", name(run), head.succeeded, head.failed, run.outcomes)
    });
}

/// As its client has requested: the operations of an interval, and the intervals until then.
fn check_pace(run: &Batched, start: &StartBatch, findings: &mut Findings) {
    let StartBatch { operations_per_interval: most, interval_ms, .. } = *start;
    for head in &run.heads {
        let intervals =
            if head.interval_from_ms == 0 { 0 } else { (head.interval_from_ms - head.start_ms) / interval_ms + 1 };
        let holds = head.sent_in_interval <= most && head.sent_number <= most * intervals;
        findings.expect(PACE, holds, || format!("{}: {most} in {interval_ms} ms, and {head:?}", name(run)));
    }
    for pair in run.heads.windows(2) {
        let [before, after] = pair else { continue };
        let passed = after.interval_from_ms - before.interval_from_ms;
        let sent = after.sent_number - before.sent_number;
        let holds = match passed {
            0 => sent == after.sent_in_interval - before.sent_in_interval,
            _ => passed >= interval_ms && sent >= after.sent_in_interval,
        };
        findings.expect(PACE, holds, || {
            format!("{}: {most} in {interval_ms} ms, and {before:?}, and then {after:?}", name(run))
        });
    }
}

/// What the histories have of it: in each workflow once, and where the batch was notified that it was done.
fn check_marks(job_id: &str, start: &StartBatch, batches: &[&Batched], runs: &Runs, findings: &mut Findings) {
    let is_of = |attributes: &A| match attributes {
        A::WorkflowExecutionSignaledEventAttributes(a) => a.signal_name == job_id,
        A::WorkflowExecutionCancelRequestedEventAttributes(a) => a.identity == job_id,
        A::WorkflowExecutionTerminatedEventAttributes(a) => a.identity == job_id,
        _ => false,
    };
    let mut marked: BTreeMap<&str, usize> = BTreeMap::new();
    for run in runs.0.values() {
        let count = run.own().filter(|(_, attributes)| is_of(attributes)).count();
        if count > 0 {
            *marked.entry(&run.workflow_id).or_default() += count;
        }
    }
    for (workflow_id, count) in &marked {
        findings.expect(ONCE, *count <= batches.len(), || format!("{job_id}: {workflow_id} has it {count} times"));
    }
    let [batch] = batches else { return };
    let is_done = |(number, outcome): (&i64, &Outcome)| matches!(outcome, Outcome::Done(_)).then_some(*number);
    let done: BTreeSet<&str> = batch
        .outcomes
        .iter()
        .filter_map(is_done)
        .flat_map(|number| batch.sent.get(&number).into_iter().flatten())
        .map(String::as_str)
        .collect();
    let marked: BTreeSet<&str> = marked.into_keys().collect();
    let holds = match start.request.as_ref().and_then(|request| request.operation.as_ref()) {
        Some(Operation::SignalOperation(_) | Operation::TerminationOperation(_)) => done == marked,
        Some(Operation::DeletionOperation(_)) => {
            let deleted = runs.0.values().filter(|run| run.deleted).map(|run| &*run.workflow_id);
            done.is_subset(&deleted.collect())
        }
        // A run that was asked to cancel before does not note it again.
        _ => true,
    };
    findings.expect(COUNTED, holds, || format!("{}: it was done to {done:?}, and {marked:?} have it", name(batch)));
}
