//! Search attributes: which there are, of what type, and what of a run's values is indexed.
//!
//! The values themselves are shown from the run's encoded `SearchAttributes`; what is taken from them here only serves to
//! filter and sort. A value that can't be read is left out of the index, never an error: the edge has validated it, and a
//! projection must not stop over one record.

use super::{Row, order::Part};
use crate::engine;
use crate::proto::state::Namespace;
use crate::proto::temporal::{
    common::v1::{Payload, SearchAttributes},
    enums::v1::{IndexedValueType, WorkflowExecutionStatus},
};
use chrono::{DateTime, FixedOffset};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// The custom search attributes of a namespace, by name.
pub type Attributes = BTreeMap<String, IndexedValueType>;

/// What search attributes a namespace has of its own.
pub fn attributes_of(namespace: &Namespace) -> Attributes {
    let aliases = namespace.custom_search_attribute_aliases.iter();
    aliases.filter_map(|(field, name)| Some((name.clone(), engine::type_of_field(field)?))).collect()
}

/// The attributes that every workflow has or may have, with their types: they need not be registered.
pub fn system_attributes() -> Attributes {
    let system = SYSTEM.iter().map(|system| (system.name, system.kind));
    let predefined = PREDEFINED.iter().map(|(name, kind, _)| (*name, *kind));
    system.chain(predefined).map(|(name, kind)| (name.to_owned(), kind.indexed())).collect()
}

/// Whether a namespace's own search attribute can't have this name.
pub fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 4] = ["NamespaceId", "MemoEncoding", "Memo", "VisibilityTaskKey"];
    system_kind(name).is_some() || RESERVED.contains(&name) || name.starts_with("Temporal")
}

/// The kind of an attribute that is in every namespace.
pub(super) fn system_kind(name: &str) -> Option<Kind> {
    let system = SYSTEM.iter().find(|system| system.name == name).map(|system| system.kind);
    system.or_else(|| PREDEFINED.iter().find(|(each, _, _)| *each == name).map(|(_, kind, _)| *kind))
}

/// The type of an attribute that callers may give a workflow; none if they may not, or there is no such attribute.
pub(super) fn settable_type(name: &str, custom: &Attributes) -> Option<IndexedValueType> {
    if SYSTEM.iter().any(|system| system.name == name) {
        return None;
    }
    let predefined = PREDEFINED.iter().find(|(each, _, _)| *each == name);
    match predefined {
        Some((_, kind, settable)) => settable.then(|| kind.indexed()),
        None => custom.get(name).copied(),
    }
}

/// How the values of an attribute are written, compared and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Keyword,
    Text,
    Int,
    Double,
    Bool,
    /// Stored in nanoseconds, between the years 1678 and 2262; the times that are columns, in milliseconds.
    Datetime,
    KeywordList,
    /// `ExecutionStatus`: written as a name or a number.
    Status,
    /// `ExecutionDuration`: written as nanoseconds, `1h30m` or `hh:mm:ss`; stored in milliseconds.
    Duration,
}

impl Kind {
    /// The type's name as Temporal's errors give it.
    pub fn name(self) -> &'static str {
        engine::search_attribute_type_name(self.indexed())
    }

    fn indexed(self) -> IndexedValueType {
        match self {
            Kind::Keyword | Kind::Status => IndexedValueType::Keyword,
            Kind::Text => IndexedValueType::Text,
            Kind::Int | Kind::Duration => IndexedValueType::Int,
            Kind::Double => IndexedValueType::Double,
            Kind::Bool => IndexedValueType::Bool,
            Kind::Datetime => IndexedValueType::Datetime,
            Kind::KeywordList => IndexedValueType::KeywordList,
        }
    }

    fn of(indexed: IndexedValueType) -> Option<Kind> {
        Some(match indexed {
            IndexedValueType::Unspecified => return None,
            IndexedValueType::Text => Kind::Text,
            IndexedValueType::Keyword => Kind::Keyword,
            IndexedValueType::Int => Kind::Int,
            IndexedValueType::Double => Kind::Double,
            IndexedValueType::Bool => Kind::Bool,
            IndexedValueType::Datetime => Kind::Datetime,
            IndexedValueType::KeywordList => Kind::KeywordList,
        })
    }
}

/// An attribute that is a column of its own.
#[derive(Debug)]
pub(super) struct System {
    pub name: &'static str,
    pub kind: Kind,
    /// Its SQL expression over the table `run r`.
    pub sql: &'static str,
    /// What to sort by: the same, but an empty blob where it is missing.
    pub sort_sql: &'static str,
    /// The same value of a row in memory.
    pub value: fn(&Row) -> Part,
}

pub(super) const WORKFLOW_ID: &System = &SYSTEM[0];
pub(super) const RUN_ID: &System = &SYSTEM[1];
pub(super) const STATUS: &System = &SYSTEM[3];
pub(super) const START_TIME: &System = &SYSTEM[4];
pub(super) const CLOSE_TIME: &System = &SYSTEM[6];

static SYSTEM: [System; 16] = [
    keyword("WorkflowId", "r.workflow_id", |row| text(&row.workflow_id)),
    keyword("RunId", "r.run_id", |row| text(&row.run_id)),
    keyword("WorkflowType", "r.workflow_type", |row| text(&row.workflow_type)),
    System { kind: Kind::Status, ..int("ExecutionStatus", "r.status", |row| Part::Int(row.status.into())) },
    System { kind: Kind::Datetime, ..int("StartTime", "r.start_time", |row| Part::Int(row.start_time_ms)) },
    System { kind: Kind::Datetime, ..int("ExecutionTime", "r.execution_time", |row| Part::Int(row.execution_time_ms)) },
    System {
        kind: Kind::Datetime,
        sort_sql: "r.closed",
        ..int("CloseTime", "r.close_time", |row| row.close_time_ms.map_or(Part::Last, Part::Int))
    },
    // A run that was closed before its first task was due has lasted no time.
    System {
        kind: Kind::Duration,
        sort_sql: "ifnull(max(0, r.close_time - r.execution_time), x'')",
        ..int("ExecutionDuration", "max(0, r.close_time - r.execution_time)", |row| match row.close_time_ms {
            Some(close) => Part::Int(close.saturating_sub(row.execution_time_ms).max(0)),
            None => Part::Last,
        })
    },
    int("HistoryLength", "r.history_length", |row| Part::Int(row.history_length)),
    int("HistorySizeBytes", "r.history_size_bytes", |row| Part::Int(row.history_size_bytes)),
    int("StateTransitionCount", "r.state_transition_count", |row| Part::Int(row.state_transition_count)),
    keyword("TaskQueue", "r.task_queue", |row| text(&row.task_queue)),
    System {
        sort_sql: "ifnull(r.parent_workflow_id, x'')",
        ..keyword("ParentWorkflowId", "r.parent_workflow_id", |row| text_or_none(&row.parent_workflow_id))
    },
    System {
        sort_sql: "ifnull(r.parent_run_id, x'')",
        ..keyword("ParentRunId", "r.parent_run_id", |row| text_or_none(&row.parent_run_id))
    },
    System {
        sort_sql: "ifnull(r.root_workflow_id, x'')",
        ..keyword("RootWorkflowId", "r.root_workflow_id", |row| text_or_none(&row.root_workflow_id))
    },
    System {
        sort_sql: "ifnull(r.root_run_id, x'')",
        ..keyword("RootRunId", "r.root_run_id", |row| text_or_none(&row.root_run_id))
    },
];

const fn keyword(name: &'static str, sql: &'static str, value: fn(&Row) -> Part) -> System {
    System { name, kind: Kind::Keyword, sql, sort_sql: sql, value }
}

const fn int(name: &'static str, sql: &'static str, value: fn(&Row) -> Part) -> System {
    System { name, kind: Kind::Int, sql, sort_sql: sql, value }
}

fn text(value: &str) -> Part {
    Part::Text(value.to_owned())
}

fn text_or_none(value: &str) -> Part {
    if value.is_empty() { Part::Last } else { text(value) }
}

/// Attributes that Temporal sets or defines in every namespace, and whether callers may set them too; stored with the custom ones.
const PREDEFINED: [(&str, Kind, bool); 17] = [
    ("TemporalChangeVersion", Kind::KeywordList, true),
    ("BinaryChecksums", Kind::KeywordList, true),
    ("BuildIds", Kind::KeywordList, true),
    ("BatcherNamespace", Kind::Keyword, true),
    ("BatcherUser", Kind::Keyword, true),
    ("TemporalScheduledStartTime", Kind::Datetime, true),
    ("TemporalScheduledById", Kind::Keyword, true),
    ("TemporalSchedulePaused", Kind::Bool, true),
    ("TemporalNamespaceDivision", Kind::Keyword, true),
    ("TemporalPauseInfo", Kind::KeywordList, true),
    ("TemporalReportedProblems", Kind::KeywordList, true),
    ("TemporalWorkerDeploymentVersion", Kind::Keyword, false),
    ("TemporalWorkflowVersioningBehavior", Kind::Keyword, false),
    ("TemporalWorkerDeployment", Kind::Keyword, false),
    ("TemporalUsedWorkerDeploymentVersions", Kind::KeywordList, false),
    ("TemporalExternalPayloadCount", Kind::Int, false),
    ("TemporalExternalPayloadSizeBytes", Kind::Int, false),
];

/// An attribute that a query names.
#[derive(Clone, Debug)]
pub(super) enum Field {
    System(&'static System),
    /// In the side table.
    Stored {
        name: String,
        kind: Kind,
    },
}

impl Field {
    /// Temporal's order: a system attribute, the namespace's own, a predefined one, and one of these written with a prefix
    /// `Temporal` too many or without its own.
    pub fn resolve(name: &str, custom: &Attributes) -> Option<Field> {
        let defined = |name: &str| {
            if let Some(system) = SYSTEM.iter().find(|system| system.name == name) {
                return Some(Field::System(system));
            }
            system_kind(name).map(|kind| Field::Stored { name: name.to_owned(), kind })
        };
        let own = || Some(Field::Stored { name: name.to_owned(), kind: Kind::of(*custom.get(name)?)? });
        defined(name).or_else(own).or_else(|| match name.strip_prefix("Temporal") {
            Some(stripped) => defined(stripped),
            None => defined(&format!("Temporal{name}")),
        })
    }

    pub fn name(&self) -> &str {
        match self {
            Field::System(system) => system.name,
            Field::Stored { name, .. } => name,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Field::System(system) => system.kind,
            Field::Stored { kind, .. } => *kind,
        }
    }

    /// The value that a row is sorted by.
    pub fn value(&self, row: &Row) -> Part {
        match self {
            Field::System(system) => (system.value)(row),
            Field::Stored { name, kind } => {
                let of_row = decode(&row.search_attributes);
                let mut values = match of_row.indexed_fields.get(name).map(indexed) {
                    Some((of, values)) if of == *kind => values,
                    _ => Vec::new(),
                };
                if values.is_empty() { Part::Last } else { values.swap_remove(0) }
            }
        }
    }
}

/// What the side table has values of an attribute under: one that was removed and came back with another type is another.
pub(super) fn stored_name(name: &str, kind: Kind) -> String {
    format!("{name}:{}", kind.name())
}

/// Every (name in the side table, value) to index of an encoded `SearchAttributes`, without duplicates.
pub(super) fn entries(search_attributes: &[u8]) -> Vec<(String, Part)> {
    let mut entries = Vec::new();
    for (name, payload) in decode(search_attributes).indexed_fields {
        let (kind, values) = indexed(&payload);
        let name = stored_name(&name, kind);
        entries.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    entries
}

fn decode(search_attributes: &[u8]) -> SearchAttributes {
    SearchAttributes::decode(search_attributes).unwrap_or_default()
}

/// The type of one payload, and its values: several for a KeywordList, and the distinct tokens of a Text.
fn indexed(payload: &Payload) -> (Kind, Vec<Part>) {
    let json = serde_json::from_slice(&payload.data).unwrap_or_default();
    let declared = payload.metadata.get("type").and_then(|name| type_named(name)).and_then(Kind::of);
    let kind = declared.unwrap_or(match &json {
        serde_json::Value::Bool(_) => Kind::Bool,
        serde_json::Value::Number(number) if number.is_i64() => Kind::Int,
        serde_json::Value::Number(_) => Kind::Double,
        serde_json::Value::Array(_) => Kind::KeywordList,
        _ => Kind::Keyword,
    });
    let values = match (kind, json) {
        (Kind::KeywordList, serde_json::Value::Array(items)) => {
            let items: BTreeSet<String> = items.into_iter().filter_map(string).collect();
            items.into_iter().map(Part::Text).collect()
        }
        (Kind::Text, serde_json::Value::String(text)) => match tokens(&text) {
            tokens if tokens.is_empty() => vec![Part::Text(String::new())],
            tokens => tokens.into_iter().map(Part::Text).collect(),
        },
        // Temporal takes a list of one for a single value.
        (kind, serde_json::Value::Array(mut items)) if items.len() == 1 => {
            items.pop().and_then(|item| scalar(kind, item)).into_iter().collect()
        }
        (kind, json) => scalar(kind, json).into_iter().collect(),
    };
    (kind, values)
}

fn string(json: serde_json::Value) -> Option<String> {
    match json {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    }
}

fn scalar(kind: Kind, json: serde_json::Value) -> Option<Part> {
    match kind {
        Kind::Keyword | Kind::KeywordList | Kind::Text => string(json).map(Part::Text),
        Kind::Int => json.as_i64().map(Part::Int),
        Kind::Double => json.as_f64().map(Part::Real),
        Kind::Bool => json.as_bool().map(|value| Part::Int(value.into())),
        Kind::Datetime => {
            let time = DateTime::parse_from_rfc3339(json.as_str()?).ok()?;
            Some(Part::Int(saturated(nanoseconds(time))))
        }
        Kind::Status | Kind::Duration => None,
    }
}

/// A type as a payload's metadata names it: SDKs write both forms.
pub(super) fn type_named(name: &[u8]) -> Option<IndexedValueType> {
    let name = std::str::from_utf8(name).ok()?;
    let short = engine::SEARCH_ATTRIBUTE_TYPES.iter().find(|(_, short)| *short == name).map(|(of, _)| *of);
    short.or_else(|| IndexedValueType::from_str_name(name))
}

/// The words of a text, as a Text attribute is searched by: runs of letters and digits, in lower case.
pub(super) fn tokens(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|token| !token.is_empty()).map(str::to_lowercase).collect()
}

/// Nanoseconds since the Unix epoch.
pub(super) fn nanoseconds(time: DateTime<FixedOffset>) -> i128 {
    i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos())
}

/// What a time or duration is in milliseconds, to compare with whole ones: between two of them, it is their middle.
pub(super) fn milliseconds(nanos: i128) -> Part {
    let whole = saturated(nanos.div_euclid(1_000_000));
    if nanos.rem_euclid(1_000_000) == 0 { Part::Int(whole) } else { Part::Real(whole as f64 + 0.5) }
}

pub(super) fn saturated(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// The number of a status by its name, `Running` or `WORKFLOW_EXECUTION_STATUS_RUNNING`; Temporal minds the case.
pub(super) fn status_named(name: &str) -> Option<i32> {
    STATUSES
        .iter()
        .find(|(status, short)| *short == name || status.as_str_name() == name)
        .map(|(status, _)| *status as i32)
}

pub(super) const STATUSES: [(WorkflowExecutionStatus, &str); 9] = [
    (WorkflowExecutionStatus::Unspecified, "Unspecified"),
    (WorkflowExecutionStatus::Running, "Running"),
    (WorkflowExecutionStatus::Completed, "Completed"),
    (WorkflowExecutionStatus::Failed, "Failed"),
    (WorkflowExecutionStatus::Canceled, "Canceled"),
    (WorkflowExecutionStatus::Terminated, "Terminated"),
    (WorkflowExecutionStatus::ContinuedAsNew, "ContinuedAsNew"),
    (WorkflowExecutionStatus::TimedOut, "TimedOut"),
    (WorkflowExecutionStatus::Paused, "Paused"),
];
