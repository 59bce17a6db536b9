//! Workflows whose state grows until it fits into no record of the log. The log of a simulation takes small records, so that this
//! is quickly so.

use millrace::log::RECORD_BYTES_MAX;
use millrace::proto::temporal::command::v1::{ModifyWorkflowPropertiesCommandAttributes, command::Attributes};
use millrace::proto::temporal::common::v1::{Memo, Payload};

use crate::mutations::Mutation;
use crate::random::Rng;

/// The largest record that the log takes. Bytes.
pub const BYTES_MAX: usize = 64 * 1024;
const FIELD_BYTES: usize = 12 * 1024;
const FIELDS: usize = 8;

/// In a tenth of the worlds.
pub fn happens(seed: u64) -> bool {
    seed % 10 == 8
}

/// What nodes believe that the log takes.
pub fn believed(mutation: Option<Mutation>) -> usize {
    if mutation == Some(Mutation::SizesUnchecked) { RECORD_BYTES_MAX } else { BYTES_MAX }
}

/// Adds a field to the memo, or replaces one.
pub fn upsert(rng: &Rng) -> Attributes {
    let value = Payload { data: vec![b'x'; FIELD_BYTES].into(), ..Payload::default() };
    let upserted_memo = Some(Memo { fields: [(format!("f{}", rng.below(FIELDS)), value)].into() });
    Attributes::ModifyWorkflowPropertiesCommandAttributes(ModifyWorkflowPropertiesCommandAttributes { upserted_memo })
}
