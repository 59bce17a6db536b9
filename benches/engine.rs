//! What deciding and applying a command costs, and that it does not grow with the run: a signal and an activity's completion
//! at 10 and at 2,000 pending activities, and at 10 and 20,000 events of history.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use millrace::engine::{FOLD_VERSION_MAX, State, decide};

#[path = "support/workflow.rs"]
mod workflow;

use workflow::Workflow;

// The server's: what is measured is mostly small copies.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn decide_and_apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide and apply");
    group.bench_function("start", |bencher| {
        bencher.iter(|| decide(None, black_box(&workflow::start()), workflow::START_MS, FOLD_VERSION_MAX))
    });
    let mut of = |name: &str, size: String, run: &State, command| {
        group.bench_function(BenchmarkId::new(name, size), |bencher| {
            bencher.iter(|| {
                decide(black_box(Some(run)), black_box(&command), workflow::START_MS, FOLD_VERSION_MAX)
                    .expect("it is accepted")
            });
        });
    };
    for pending in [10, 2000] {
        let mut workflow = Workflow::started();
        workflow.schedule_activities(pending);
        let activity = workflow.take_activity(pending / 2);
        of("signal", format!("{pending} pending"), &workflow.state(), workflow::signal());
        of(
            "activity completion",
            format!("{pending} pending"),
            &workflow.state(),
            workflow::complete_activity("w", activity),
        );
    }
    for events in [10, 20_000] {
        let mut workflow = Workflow::started();
        workflow.grow(events);
        workflow.schedule_activities(1);
        let activity = workflow.take_activity(0);
        of("signal", format!("{events} events"), &workflow.state(), workflow::signal());
        of(
            "activity completion",
            format!("{events} events"),
            &workflow.state(),
            workflow::complete_activity("w", activity),
        );
    }
}

criterion_group!(benches, decide_and_apply);
criterion_main!(benches);
