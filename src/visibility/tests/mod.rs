//! Tests over real files: filters by table, then paging, merging and the writer, each by property.

mod filters;
mod paging;
mod writing;

use super::*;
use crate::engine::Kind;
use crate::proto::temporal::{
    common::v1::{Payload, SearchAttributes},
    enums::v1::IndexedValueType as Type,
};
use prost::Message;
use std::path::Path;

const NAMESPACE: &str = "namespace-1";
/// 2024-01-01T00:00:00Z
const NEW_YEAR_MS: i64 = 1_704_067_200_000;

fn custom() -> Attributes {
    [
        ("CustomerId", Type::Keyword),
        ("Note", Type::Text),
        ("Amount", Type::Int),
        ("Score", Type::Double),
        ("Urgent", Type::Bool),
        ("Due", Type::Datetime),
        ("Tags", Type::KeywordList),
        ("with space-dash", Type::Keyword),
        ("dotted.name", Type::Keyword),
        ("Order", Type::Int),
    ]
    .map(|(name, kind)| (name.to_owned(), kind))
    .into()
}

fn query(text: &str) -> Query {
    Query::parse(Kind::Workflow, NAMESPACE, text, &custom()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The place before an offset of the changelog.
fn at(next: i64) -> Place {
    Place { next, ..Place::default() }
}

fn open(directory: &Path) -> Projection {
    Projection::open(&directory.join("visibility.sqlite")).expect("opens")
}

/// A workflow's run that is not listed any more.
fn deleted(run_id: &str) -> Deleted {
    Deleted { kind: crate::engine::Kind::Workflow, namespace_id: NAMESPACE.to_owned(), run_id: run_id.to_owned() }
}

/// An encoded `SearchAttributes` of (name, type, JSON).
fn attributes(entries: &[(&str, &str, &str)]) -> Bytes {
    let payload = |kind: &str, json: &str| Payload {
        metadata: [("encoding", "json/plain"), ("type", kind)]
            .map(|(key, value)| (key.to_owned(), Bytes::copy_from_slice(value.as_bytes())))
            .into(),
        data: Bytes::copy_from_slice(json.as_bytes()),
        ..Default::default()
    };
    let indexed_fields = entries.iter().map(|(name, kind, json)| ((*name).to_owned(), payload(kind, json))).collect();
    SearchAttributes { indexed_fields }.encode_to_vec().into()
}

/// An open run, started `number` minutes into 2024.
fn run(number: i64) -> Row {
    Row {
        namespace_id: NAMESPACE.to_owned(),
        workflow_id: format!("workflow-{number}"),
        run_id: format!("run-{number:04}"),
        workflow_type: "Order".to_owned(),
        task_queue: "queue".to_owned(),
        status: 1,
        start_time_ms: NEW_YEAR_MS + number * 60_000,
        execution_time_ms: NEW_YEAR_MS + number * 60_000,
        history_length: 3,
        history_size_bytes: 512,
        state_transition_count: 2,
        root_workflow_id: format!("workflow-{number}"),
        root_run_id: format!("run-{number:04}"),
        ..Row::default()
    }
}

/// The run, ended after so many milliseconds.
fn closed(status: i32, after_ms: i64, run: Row) -> Row {
    Row { status, close_time_ms: Some(run.start_time_ms + after_ms), ..run }
}

fn workflow_ids(page: &Page) -> Vec<&str> {
    page.rows.iter().map(|row| row.workflow_id.as_str()).collect()
}
