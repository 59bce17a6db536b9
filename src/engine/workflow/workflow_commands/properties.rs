//! Markers, search attributes and memo: what a workflow notes about itself.

use super::check::Check;
use super::{BadCommand, Completing, sizes};
use crate::engine::workflow::Work;
use crate::engine::workflow::history::merge;
use crate::proto::temporal::command::v1::{
    ModifyWorkflowPropertiesCommandAttributes, RecordMarkerCommandAttributes,
    UpsertWorkflowSearchAttributesCommandAttributes,
};
use crate::proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    MarkerRecordedEventAttributes, UpsertWorkflowSearchAttributesEventAttributes,
    WorkflowPropertiesModifiedEventAttributes, history_event::Attributes,
};

pub fn record_marker(
    work: &mut Work,
    completing: &Completing,
    command: &RecordMarkerCommandAttributes,
) -> Result<(), BadCommand> {
    let check = Check { cause: Cause::BadRecordMarkerAttributes, command: "RecordMarkerCommand", named: String::new() };
    check.required("MarkerName", &command.marker_name)?;
    check.length("MarkerName", &command.marker_name)?;
    let attributes = MarkerRecordedEventAttributes {
        marker_name: command.marker_name.clone(),
        details: command.details.clone(),
        workflow_task_completed_event_id: completing.completed_id,
        header: command.header.clone(),
        failure: command.failure.clone(),
    };
    work.record(completing.event(EventType::MarkerRecorded, Attributes::MarkerRecordedEventAttributes(attributes)));
    Ok(())
}

pub fn upsert_search_attributes(
    work: &mut Work,
    completing: &Completing,
    command: &UpsertWorkflowSearchAttributesCommandAttributes,
) -> Result<(), BadCommand> {
    let missing = match &command.search_attributes {
        None => Some("SearchAttributes"),
        Some(attributes) => attributes.indexed_fields.is_empty().then_some("IndexedFields"),
    };
    if let Some(missing) = missing {
        let message = format!("{missing} is not set on UpsertWorkflowSearchAttributesCommand.");
        return Err(BadCommand::new(Cause::BadSearchAttributes, message));
    }
    let upserted = command.search_attributes.iter().flat_map(|attributes| &attributes.indexed_fields);
    let cause = Cause::BadSearchAttributes;
    sizes::check_update(cause, "UpsertWorkflowSearchAttributesCommandAttributes", upserted.clone())?;
    let mut merged = work.run().properties.search_attributes.clone().unwrap_or_default();
    merge(&mut merged.indexed_fields, upserted.map(|(name, value)| (name.clone(), value.clone())));
    sizes::check_search_attributes(cause, Some(&merged))?;
    let attributes = UpsertWorkflowSearchAttributesEventAttributes {
        workflow_task_completed_event_id: completing.completed_id,
        search_attributes: command.search_attributes.clone(),
    };
    work.record(completing.event(
        EventType::UpsertWorkflowSearchAttributes,
        Attributes::UpsertWorkflowSearchAttributesEventAttributes(attributes),
    ));
    Ok(())
}

pub fn modify_properties(
    work: &mut Work,
    completing: &Completing,
    command: &ModifyWorkflowPropertiesCommandAttributes,
) -> Result<(), BadCommand> {
    let missing = match &command.upserted_memo {
        None => Some("UpsertedMemo"),
        Some(memo) => memo.fields.is_empty().then_some("UpsertedMemo.Fields"),
    };
    if let Some(missing) = missing {
        let message = format!("{missing} is not set on ModifyWorkflowPropertiesCommand.");
        return Err(BadCommand::new(Cause::BadModifyWorkflowPropertiesAttributes, message));
    }
    let upserted = command.upserted_memo.iter().flat_map(|memo| &memo.fields);
    let cause = Cause::BadModifyWorkflowPropertiesAttributes;
    sizes::check_update(cause, "ModifyWorkflowPropertiesCommandAttributes", upserted.clone())?;
    let mut merged = work.run().properties.memo.clone().unwrap_or_default();
    merge(&mut merged.fields, upserted.map(|(name, value)| (name.clone(), value.clone())));
    sizes::check_memo(cause, "ModifyWorkflowPropertiesCommandAttributes. Memo", Some(&merged))?;
    let attributes = WorkflowPropertiesModifiedEventAttributes {
        workflow_task_completed_event_id: completing.completed_id,
        upserted_memo: command.upserted_memo.clone(),
    };
    work.record(completing.event(
        EventType::WorkflowPropertiesModified,
        Attributes::WorkflowPropertiesModifiedEventAttributes(attributes),
    ));
    Ok(())
}
