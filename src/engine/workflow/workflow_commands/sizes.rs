//! Limits on what a workflow notes about itself, and on what it gives to another. Temporal's server terminates a workflow that
//! goes beyond them, with the failure of the workflow task as the reason.

use prost::Message;

use super::BadCommand;
use crate::proto::temporal::common::v1::{Memo, Payload, SearchAttributes};
use crate::proto::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use crate::types::limits;

/// Refuses a memo that is too large. `what` names it, as the message has it.
pub fn check_memo(cause: Cause, what: &str, memo: Option<&Memo>) -> Result<(), BadCommand> {
    if memo.map_or(0, Message::encoded_len) > limits::MEMO_SIZE_MAX {
        return Err(BadCommand::too_large(cause, format!("{what} exceeds size limit.")));
    }
    Ok(())
}

pub fn check_search_attributes(cause: Cause, attributes: Option<&SearchAttributes>) -> Result<(), BadCommand> {
    let problem = attributes.and_then(search_attributes_problem);
    problem.map_or(Ok(()), |problem| Err(BadCommand::too_large(cause, problem)))
}

/// What of search attributes is too large, if anything, as Temporal's server words it.
pub fn search_attributes_problem(attributes: &SearchAttributes) -> Option<String> {
    let limit = limits::SEARCH_ATTRIBUTE_SIZE_MAX;
    if let Some((name, value)) = attributes.indexed_fields.iter().find(|(_, value)| value.data.len() > limit) {
        let size = value.data.len();
        return Some(format!("search attribute {name} value size {size} exceeds size limit {limit}"));
    }
    let (size, limit) = (attributes.encoded_len(), limits::SEARCH_ATTRIBUTES_SIZE_MAX);
    (size > limit).then(|| format!("total size of search attributes {size} exceeds size limit {limit}"))
}

/// Refuses an update of a map whose keys and values come to more than one payload may have.
pub fn check_update<'a>(
    cause: Cause,
    command: &str,
    fields: impl Iterator<Item = (&'a String, &'a Payload)>,
) -> Result<(), BadCommand> {
    let size: usize = fields.map(|(name, value)| name.len() + value.data.len()).sum();
    if size > limits::BLOB_SIZE_MAX {
        return Err(BadCommand::too_large(cause, format!("{command} exceeds size limit.")));
    }
    Ok(())
}
