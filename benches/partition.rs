//! The partition loop on the embedded log: commands go in, and are durable and decided when they come back. Commits and the
//! store's writes go on beside it, as they do in a server.

use std::sync::Arc;
use std::sync::mpsc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millrace::engine::EntityId;
use millrace::log::embedded::{Embedded, Options};
use millrace::partition::{Partitions, Settings};
use millrace::proto::commands::Command;

#[path = "support/workflow.rs"]
mod workflow;

/// Sends all, and waits for all.
fn decide(partitions: &Partitions, commands: impl IntoIterator<Item = Command>) {
    let (sender, receiver) = mpsc::channel();
    let mut sent = 0;
    for command in commands {
        let sender = sender.clone();
        let decided = move |_: &mut _, outcome: Result<_, _>| {
            let _ = sender.send(outcome.is_ok());
        };
        let entity = EntityId::of(&command).expect("it is to a workflow");
        partitions.node.owner_of(&entity).command(command, Box::new(decided));
        sent += 1;
    }
    assert_eq!(receiver.iter().take(sent).filter(|accepted| *accepted).count(), sent, "all are accepted");
}

fn partition_loop(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options { partitions: Some(1), ..Options::default() };
    let log = Embedded::open(&directory.path().join("log"), options).expect("the embedded log opens");
    let partitions = Partitions::start(Arc::new(log), directory.path().join("data"), Settings::default())
        .expect("the partition starts");
    let mut next = 0_u64;
    let mut start = move || {
        next += 1;
        workflow::start_of(&format!("w{next}"))
    };

    let mut group = criterion.benchmark_group("partition loop");
    group.bench_function("one start", |bencher| bencher.iter(|| decide(&partitions, [start()])));
    for pending in [10, 2000] {
        let mut workflows = 0;
        let mut prepare = |started: &mut Option<(String, i64)>| {
            // Another workflow once a tenth of its activities is done.
            let (workflow_id, number) = match started.take() {
                Some((workflow_id, number)) if number < pending / 10 => (workflow_id, number),
                _ => {
                    workflows += 1;
                    let workflow_id = format!("{pending} pending, {workflows}");
                    workflow::with_activities(&workflow_id, pending as usize)
                        .into_iter()
                        .for_each(|command| decide(&partitions, [command]));
                    (workflow_id, 0)
                }
            };
            let scheduled_event_id = workflow::FIRST_ACTIVITY + number;
            decide(&partitions, [workflow::start_activity(&workflow_id, scheduled_event_id)]);
            let completion = workflow::complete_activity(&workflow_id, workflow::activity(scheduled_event_id, 0));
            *started = Some((workflow_id, number + 1));
            completion
        };
        let mut started = None;
        group.bench_function(format!("one activity completion, {pending} pending"), |bencher| {
            bencher.iter_batched(
                || prepare(&mut started),
                |completion| decide(&partitions, [completion]),
                criterion::BatchSize::PerIteration,
            )
        });
    }
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1,000 starts in flight", |bencher| {
        bencher.iter(|| decide(&partitions, (0..1000).map(|_| start())))
    });
    group.bench_function("1,000 signals in flight, to 1,000 workflows", |bencher| {
        // Fresh ones, as a workflow takes 10,000 signals at most.
        let mut workflows = 0;
        bencher.iter_batched(
            || {
                workflows += 1;
                decide(&partitions, (0..1000).map(|number| workflow::start_of(&format!("s{workflows}-{number}"))));
                workflows
            },
            |workflows| {
                decide(&partitions, (0..1000).map(|number| workflow::signal_of(&format!("s{workflows}-{number}"))))
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
    partitions.stop();
}

criterion_group!(benches, partition_loop);
criterion_main!(benches);
