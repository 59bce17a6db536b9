//! What decided events of schedules mean for the metrics.

use crate::engine::schedule::Event;
use crate::engine::{Events, RunOutcome};
use crate::metrics;

/// Counts what one decision did to a schedule, if it was one.
pub fn observe(changed: &RunOutcome) {
    let Events::Schedule(events) = &changed.events else { return };
    let namespace = changed.run.header().namespace;
    for event in events {
        match event {
            Event::Started { .. } => metrics::schedule_actions(namespace, "started", 1),
            Event::StartRefused { .. } => metrics::schedule_actions(namespace, "refused", 1),
            Event::StartSkipped { by_policy: true, .. } => metrics::schedule_actions(namespace, "skipped", 1),
            Event::StartMissed { .. } => metrics::schedule_actions(namespace, "missed", 1),
            Event::Processed { missed, dropped, .. } => {
                for (outcome, count) in [("missed", missed), ("dropped", dropped)] {
                    if *count > 0 {
                        metrics::schedule_actions(namespace, outcome, count.unsigned_abs());
                    }
                }
            }
            _ => {}
        }
    }
}
