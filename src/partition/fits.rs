//! Whether everything that a decision leads to fits into records of the log. One that does not would fail every commit from then
//! on, and every replay: so it is refused before it is taken over, and its command is set aside.
//!
//! The engine limits what gathers in a workflow's state, and the edges what one request brings; what is refused here is a
//! combination that neither foresees.

use prost::Message as _;

use super::core::Core;
use super::entities::Batch;
use super::workflows;
use crate::engine::{EntityId, Outcome, RunOutcome, Send};
use crate::log::{Record, Topic};
use crate::wire::avro::Framing;

/// Room for a record's key and headers, and for what a send is wrapped in. Bytes.
const AROUND: usize = 32 * 1024;

/// A batch of history may take so many times as much in Avro as in protobuf: each field that is not set takes a byte there.
const AVRO_EXPANSION_MAX: usize = 16;

impl Core {
    /// What of an outcome does not fit, as a message for people.
    pub(super) fn too_large(&self, key: &EntityId, outcome: &Outcome) -> Option<String> {
        let limit = self.node.settings.record_bytes_max;
        let max = limit.saturating_sub(AROUND.min(limit / 4));
        let too_large = |what: String, size: usize| format!("{what} comes to {size} bytes, and the limit is {max}");
        for changed in &outcome.runs {
            for sub_key in &changed.run.tally().changed {
                let size = changed.run.encoded_len(sub_key);
                if size > max {
                    return Some(too_large(format!("the record {sub_key:?} of run {}", changed.run.run_id()), size));
                }
            }
            let size = history_len(key, changed, max);
            if size > max {
                return Some(too_large(format!("what joins the history of run {}", changed.run.run_id()), size));
            }
        }
        let send = outcome.sends.iter().map(|send| (send, send.body.encoded_len())).find(|(_, size)| *size > max);
        send.map(|(Send { to, .. }, size)| too_large(format!("a command to {}", to.id), size))
    }
}

impl Core {
    /// Whether a record fits that is for the public only: the state does not depend on it, and without it the partition goes on.
    pub(super) fn fits(&self, topic: Topic, record: &Record) -> bool {
        let (size, limit) = (record.size(), self.node.settings.record_bytes_max);
        if size > limit {
            tracing::error!(
                partition = self.partition,
                topic = topic.name(),
                "a record is left out, as it comes to {size} bytes, and the limit is {limit}: its key is {:?}",
                String::from_utf8_lossy(&record.key)
            );
        }
        size <= limit
    }
}

/// The size of the largest record of what has joined a run's history, if it may be over `max`; else something below.
fn history_len(key: &EntityId, changed: &RunOutcome, max: usize) -> usize {
    // What it has from another's history stands in batches as large already.
    let news = &changed.history[changed.copied().map_or(0, |(_, count)| count)..];
    let size: usize = news.iter().map(|event| event.encoded_len()).sum();
    if size.saturating_mul(AVRO_EXPANSION_MAX) <= max {
        return size;
    }
    // The same for all framings, as it decides something.
    let size = |batch: &Batch| {
        workflows::history(&Framing::SingleObject, key, changed.run.run_id(), Some(&changed.run), batch).size()
    };
    Batch::split(news.to_vec(), changed.repeated > 0).iter().map(size).max().unwrap_or_default()
}
