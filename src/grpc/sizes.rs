//! What is too large, where it can't simply be refused: a worker would send it again.
//!
//! A workflow's command ends its run, an activity's result ends the activity, and a failure is cut. The words are those of
//! Temporal's server.

use prost::Message;

use crate::engine::failure;
use crate::proto::temporal::command::v1::{Command, command::Attributes as A};
use crate::proto::temporal::common::v1::{Memo, Payload, Payloads, SearchAttributes};
use crate::proto::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use crate::proto::temporal::failure::v1::Failure;
use crate::types::limits;

/// The first of a workflow task's commands that is over a limit: what its run is terminated for.
pub fn command_over_limit(commands: &[Command]) -> Option<(Cause, &'static str)> {
    commands.iter().find_map(over_limit)
}

fn over_limit(command: &Command) -> Option<(Cause, &'static str)> {
    match command.attributes.as_ref()? {
        A::ScheduleActivityTaskCommandAttributes(a) => large(&a.input).then_some((
            Cause::BadScheduleActivityAttributes,
            "ScheduleActivityTaskCommandAttributes.Input exceeds size limit.",
        )),
        // The cause is the server's.
        A::CompleteWorkflowExecutionCommandAttributes(a) => large(&a.result).then_some((
            Cause::BadScheduleActivityAttributes,
            "CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit.",
        )),
        A::FailWorkflowExecutionCommandAttributes(a) => is_large(a.failure.as_ref()).then_some((
            Cause::BadFailWorkflowExecutionAttributes,
            "FailWorkflowExecutionCommandAttributes.Failure exceeds size limit.",
        )),
        A::StartChildWorkflowExecutionCommandAttributes(a) => {
            let what = if large(&a.input) {
                "StartChildWorkflowExecutionCommandAttributes. Input exceeds size limit."
            } else if has_large_memo(a.memo.as_ref()) {
                "StartChildWorkflowExecutionCommandAttributes.Memo exceeds size limit."
            } else {
                search_attributes(a.search_attributes.as_ref())?
            };
            Some((Cause::BadStartChildExecutionAttributes, what))
        }
        A::ContinueAsNewWorkflowExecutionCommandAttributes(a) => {
            let what = if large(&a.input) {
                "ContinueAsNewWorkflowExecutionCommandAttributes. Input exceeds size limit."
            } else if has_large_memo(a.memo.as_ref()) {
                "ContinueAsNewWorkflowExecutionCommandAttributes. Memo exceeds size limit."
            } else {
                search_attributes(a.search_attributes.as_ref())?
            };
            Some((Cause::BadContinueAsNewAttributes, what))
        }
        A::SignalExternalWorkflowExecutionCommandAttributes(a) => large(&a.input).then_some((
            Cause::BadSignalWorkflowExecutionAttributes,
            "SignalExternalWorkflowExecutionCommandAttributes.Input exceeds size limit.",
        )),
        A::RecordMarkerCommandAttributes(a) => {
            let bytes: usize = a.details.iter().map(|(name, details)| name.len() + details.encoded_len()).sum();
            (bytes > limits::BLOB_SIZE_MAX).then_some((
                Cause::BadRecordMarkerAttributes,
                "RecordMarkerCommandAttributes.Details exceeds size limit.",
            ))
        }
        A::UpsertWorkflowSearchAttributesCommandAttributes(a) => {
            let fields = a.search_attributes.iter().flat_map(|attributes| &attributes.indexed_fields);
            (map_size(fields) > limits::BLOB_SIZE_MAX).then_some((
                Cause::BadSearchAttributes,
                "UpsertWorkflowSearchAttributesCommandAttributes exceeds size limit.",
            ))
        }
        A::ModifyWorkflowPropertiesCommandAttributes(a) => {
            let fields = a.upserted_memo.iter().flat_map(|memo| &memo.fields);
            (map_size(fields) > limits::BLOB_SIZE_MAX).then_some((
                Cause::BadModifyWorkflowPropertiesAttributes,
                "ModifyWorkflowPropertiesCommandAttributes exceeds size limit.",
            ))
        }
        _ => None,
    }
}

fn is_large(message: Option<&impl Message>) -> bool {
    message.is_some_and(|message| message.encoded_len() > limits::BLOB_SIZE_MAX)
}

fn large(payloads: &Option<Payloads>) -> bool {
    is_large(payloads.as_ref())
}

fn has_large_memo(memo: Option<&Memo>) -> bool {
    memo.is_some_and(|memo| memo.encoded_len() > limits::MEMO_SIZE_MAX)
}

fn search_attributes(attributes: Option<&SearchAttributes>) -> Option<&'static str> {
    is_large(attributes).then_some("total size of search attributes exceeds size limit.")
}

fn map_size<'a>(fields: impl Iterator<Item = (&'a String, &'a Payload)>) -> usize {
    fields.map(|(name, payload)| name.len() + payload.data.len()).sum()
}

/// What an activity fails with for good if what its worker sent is over the limit.
pub fn activity_failure(payloads: Option<&Payloads>, message: &str) -> Option<Failure> {
    is_large(payloads).then(|| failure::of_server(message, true))
}

/// A worker's failure, cut if it is over the limit: then also what is returned to the worker.
pub fn failure(failure: Option<Failure>) -> (Option<Failure>, Vec<Failure>) {
    let cut = is_large(failure.as_ref());
    let failure = failure.map(|f| failure::within(f, limits::BLOB_SIZE_MAX, limits::FAILURE_CUT_TO, true));
    let returned = failure.iter().filter(|_| cut).cloned().collect();
    (failure, returned)
}
