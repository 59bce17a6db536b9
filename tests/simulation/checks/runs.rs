//! The runs, as someone reads them who consumes `history` and `completions`, committed records only.

use std::collections::BTreeMap;

use millrace::engine::EntityId;
use millrace::log::Topic;
use millrace::proto::events::{Completion, HistoryBatch};
use millrace::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes as A};
use millrace::store::keys;
use millrace::types::time::millis_of;
use millrace::wire::avro;

use super::Findings;
use crate::broker::Broker;
use crate::machine::NAMESPACE_ID;

/// One run.
pub struct Run {
    pub workflow_id: String,
    pub run_id: String,
    pub partition: u32,
    /// Where its first batch stands: later runs of a workflow come later.
    pub offset: i64,
    pub events: Vec<HistoryEvent>,
    pub completions: Vec<Completion>,
    /// Its retention is over.
    pub deleted: bool,
    pub reset: Option<Reset>,
}

/// How a run began with the history of another.
#[derive(Clone)]
pub struct Reset {
    pub base_run_id: String,
    pub reason: String,
    /// So many events are the same as the other's.
    pub copied: i64,
    /// The workflow task that failed by it, and what is scheduled after it: between them stands what was applied again.
    pub failed_event_id: i64,
    pub scheduled_event_id: i64,
}

impl Run {
    pub fn event(&self, event_id: i64) -> Option<&HistoryEvent> {
        self.events.get(usize::try_from(event_id - 1).ok()?)
    }

    pub fn attributes(&self) -> impl Iterator<Item = (i64, &A)> {
        self.events.iter().filter_map(|event| Some((event.event_id, event.attributes.as_ref()?)))
    }

    /// What it has not from the run that it goes back to.
    pub fn own(&self) -> impl Iterator<Item = (i64, &A)> {
        self.attributes().filter(|(id, _)| match &self.reset {
            None => true,
            Some(reset) => *id > reset.copied && !(reset.failed_event_id..reset.scheduled_event_id).contains(id),
        })
    }

    /// What was applied again as it began.
    pub fn applied_again(&self) -> impl Iterator<Item = &A> {
        let range = self.reset.as_ref().map_or(0..0, |reset| reset.failed_event_id + 1..reset.scheduled_event_id);
        self.attributes().filter(move |(id, _)| range.contains(id)).map(|(_, attributes)| attributes)
    }

    fn find_reset(&self) -> Option<Reset> {
        let (failed_event_id, base_run_id, reason) =
            self.attributes().find_map(|(id, attributes)| match attributes {
                A::WorkflowTaskFailedEventAttributes(a) if a.new_run_id == self.run_id => {
                    let reason = a.failure.as_ref().map_or("", |failure| &failure.message);
                    Some((id, a.base_run_id.clone(), reason.to_owned()))
                }
                _ => None,
            })?;
        let scheduled = |(id, attributes): &(i64, &A)| {
            *id > failed_event_id && matches!(attributes, A::WorkflowTaskScheduledEventAttributes(_))
        };
        let scheduled_event_id = self.attributes().find(scheduled).map_or(i64::MAX, |(id, _)| id);
        Some(Reset { base_run_id, reason, copied: 0, failed_event_id, scheduled_event_id })
    }

    pub fn close(&self) -> Option<&HistoryEvent> {
        self.events.iter().find(|event| status_of(event).is_some())
    }
}

/// How a run ends with this event, as completions name it.
pub fn status_of(event: &HistoryEvent) -> Option<&'static str> {
    Some(match event.attributes.as_ref()? {
        A::WorkflowExecutionCompletedEventAttributes(_) => "COMPLETED",
        A::WorkflowExecutionFailedEventAttributes(_) => "FAILED",
        A::WorkflowExecutionCanceledEventAttributes(_) => "CANCELED",
        A::WorkflowExecutionTerminatedEventAttributes(_) => "TERMINATED",
        A::WorkflowExecutionTimedOutEventAttributes(_) => "TIMED_OUT",
        A::WorkflowExecutionContinuedAsNewEventAttributes(_) => "CONTINUED_AS_NEW",
        _ => return None,
    })
}

/// All runs, by workflow id and run id.
#[derive(Default)]
pub struct Runs(pub BTreeMap<(String, String), Run>);

impl Runs {
    /// Reads the public topics.
    pub fn read(broker: &Broker, findings: &mut Findings) -> Self {
        let mut runs = Self::default();
        let mut deleted = Vec::new();
        for ((_, _, partition), records) in broker.archive(Topic::History) {
            for stored in records {
                let Some(value) = &stored.record.value else {
                    deleted.push(stored.record.key);
                    continue;
                };
                let batch: HistoryBatch = match avro::decode(value) {
                    Ok(batch) => batch,
                    Err(error) => {
                        findings.add("public records can be read", format!("history-{partition}: {error}"));
                        continue;
                    }
                };
                let run = runs.0.entry((batch.workflow_id.clone(), batch.run_id.clone())).or_insert_with(|| Run {
                    workflow_id: batch.workflow_id,
                    run_id: batch.run_id,
                    partition,
                    offset: stored.offset,
                    events: Vec::new(),
                    completions: Vec::new(),
                    deleted: false,
                    reset: None,
                });
                run.events.extend(batch.events);
            }
        }
        for run in runs.0.values_mut() {
            let prefix = keys::history(&EntityId::workflow(NAMESPACE_ID, &run.workflow_id), &run.run_id);
            run.deleted = deleted.iter().any(|key| key.starts_with(&prefix));
            // What it has from another's history may come behind its own.
            if run.find_reset().is_some() {
                run.events.sort_by_key(|event| event.event_id);
            }
        }
        let found: Vec<_> = runs
            .0
            .values()
            .filter_map(|run| Some((run.workflow_id.clone(), run.run_id.clone(), run.find_reset()?)))
            .collect();
        for (workflow_id, run_id, mut reset) in found {
            let Some(base) = runs.get(&workflow_id, &reset.base_run_id) else { continue };
            let events = &runs.0[&(workflow_id.clone(), run_id.clone())].events;
            reset.copied = events.iter().zip(&base.events).take_while(|(one, other)| one == other).count() as i64;
            if let Some(run) = runs.0.get_mut(&(workflow_id, run_id)) {
                run.reset = Some(reset);
            }
        }
        for (_, records) in broker.archive(Topic::Completions) {
            for stored in records {
                let value = stored.record.value.unwrap_or_default();
                let Ok(completion) = avro::decode::<Completion>(&value) else {
                    findings.add("public records can be read", "a completion");
                    continue;
                };
                match runs.0.get_mut(&(completion.workflow_id.clone(), completion.run_id.clone())) {
                    Some(run) => run.completions.push(completion),
                    None => findings.add("a completion has a run", completion.run_id),
                }
            }
        }
        runs
    }

    /// Every history, an event a line.
    pub fn describe(&self) -> Vec<String> {
        let line = |event: &HistoryEvent| {
            let at = event.event_time.as_ref().map_or(0, millis_of);
            let attributes = format!("{:?}", event.attributes).replace("EventAttributes", "");
            let attributes = &attributes[..attributes.len().min(400)];
            format!("\n    {} at {at}: {} {attributes}", event.event_id, event.event_type().as_str_name())
        };
        let run = |run: &Run| {
            let events: String = run.events.iter().map(line).collect();
            format!("{}/{} in {} at {}{events}", run.workflow_id, run.run_id, run.partition, run.offset)
        };
        self.0.values().map(run).collect()
    }

    pub fn get(&self, workflow_id: &str, run_id: &str) -> Option<&Run> {
        self.0.get(&(workflow_id.to_owned(), run_id.to_owned()))
    }

    /// A workflow's runs, the oldest first.
    pub fn of(&self, workflow_id: &str) -> Vec<&Run> {
        let mut runs: Vec<_> = self.0.values().filter(|run| run.workflow_id == workflow_id).collect();
        runs.sort_by_key(|run| run.offset);
        runs
    }
}
