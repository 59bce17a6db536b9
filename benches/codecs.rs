//! What it costs to turn commands, state and public records into bytes and back. Protobuf is there to compare Avro with.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use millrace::engine::workflow::Record;
use millrace::engine::{FOLD_VERSION_MAX, Machine, Recorded, SubKey, decide};
use millrace::proto::commands::Command;
use millrace::proto::events::HistoryBatch;
use millrace::wire::avro;
use prost::Message;

#[path = "support/workflow.rs"]
mod workflow;

fn codecs(criterion: &mut Criterion) {
    let command = workflow::start();
    let bytes = command.encode_to_vec();
    criterion.bench_function("command, encode", |bencher| bencher.iter(|| black_box(&command).encode_to_vec()));
    criterion.bench_function("command, decode", |bencher| bencher.iter(|| Command::decode(black_box(&bytes[..]))));

    let outcome = decide(None, &command, workflow::START_MS, FOLD_VERSION_MAX).expect("a start is accepted");
    let run = outcome.runs[0].run.workflow().expect("it is a workflow's");
    let record = run.record(&SubKey::Head).expect("a run has a head");
    let bytes = record.encode();
    criterion.bench_function("state of a run, encode", |bencher| bencher.iter(|| black_box(&record).encode()));
    criterion.bench_function("state of a run, decode", |bencher| {
        bencher.iter(|| Record::decode(&SubKey::Head, black_box(bytes.clone())))
    });

    let batch = HistoryBatch {
        namespace: "default".into(),
        namespace_id: "n".into(),
        workflow_id: "w".into(),
        run_id: run.head.run_id.clone(),
        workflow_type: "Order".into(),
        events: outcome.runs[0].history.iter().map(|event| (**event).clone()).collect(),
    };
    let (encoded, protobuf) = (avro::encode(&batch).expect("a batch can be written"), batch.encode_to_vec());
    criterion.bench_function("history batch, encode", |bencher| bencher.iter(|| avro::encode(black_box(&batch))));
    criterion.bench_function("history batch, decode", |bencher| {
        bencher.iter(|| avro::decode::<HistoryBatch>(black_box(&encoded)))
    });
    criterion.bench_function("history batch, encode as protobuf", |bencher| {
        bencher.iter(|| black_box(&batch).encode_to_vec())
    });
    criterion.bench_function("history batch, decode from protobuf", |bencher| {
        bencher.iter(|| HistoryBatch::decode(black_box(&protobuf[..])))
    });
}

criterion_group!(benches, codecs);
criterion_main!(benches);
