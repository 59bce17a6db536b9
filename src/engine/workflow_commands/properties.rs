//! Markers, search attributes and memo: what a workflow notes about itself.

use super::{BadCommand, Completing, check_id};
use crate::engine::decision::Working;
use crate::engine::history::event;
use crate::proto::temporal::command::v1::{
    ModifyWorkflowPropertiesCommandAttributes, RecordMarkerCommandAttributes,
    UpsertWorkflowSearchAttributesCommandAttributes,
};
use crate::proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    MarkerRecordedEventAttributes, UpsertWorkflowSearchAttributesEventAttributes,
    WorkflowPropertiesModifiedEventAttributes, history_event::Attributes,
};
use crate::proto::temporal::sdk::v1::UserMetadata;

pub fn record_marker(
    work: &mut Working,
    completing: &Completing,
    command: &RecordMarkerCommandAttributes,
    user_metadata: Option<UserMetadata>,
) -> Result<(), BadCommand> {
    check_id(Cause::BadRecordMarkerAttributes, "MarkerName", &command.marker_name)?;
    let attributes = MarkerRecordedEventAttributes {
        marker_name: command.marker_name.clone(),
        details: command.details.clone(),
        workflow_task_completed_event_id: completing.completed_id,
        header: command.header.clone(),
        failure: command.failure.clone(),
    };
    let mut marker = event(EventType::MarkerRecorded, Attributes::MarkerRecordedEventAttributes(attributes));
    marker.user_metadata = user_metadata;
    work.record(marker);
    Ok(())
}

pub fn upsert_search_attributes(
    work: &mut Working,
    completing: &Completing,
    command: &UpsertWorkflowSearchAttributesCommandAttributes,
) -> Result<(), BadCommand> {
    if command.search_attributes.as_ref().is_none_or(|attributes| attributes.indexed_fields.is_empty()) {
        return Err(BadCommand::new(
            Cause::BadSearchAttributes,
            "IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.",
        ));
    }
    let attributes = UpsertWorkflowSearchAttributesEventAttributes {
        workflow_task_completed_event_id: completing.completed_id,
        search_attributes: command.search_attributes.clone(),
    };
    work.record(event(
        EventType::UpsertWorkflowSearchAttributes,
        Attributes::UpsertWorkflowSearchAttributesEventAttributes(attributes),
    ));
    Ok(())
}

pub fn modify_properties(
    work: &mut Working,
    completing: &Completing,
    command: &ModifyWorkflowPropertiesCommandAttributes,
) -> Result<(), BadCommand> {
    if command.upserted_memo.as_ref().is_none_or(|memo| memo.fields.is_empty()) {
        return Err(BadCommand::new(
            Cause::BadModifyWorkflowPropertiesAttributes,
            "UpsertedMemo.Fields is not set on ModifyWorkflowPropertiesCommand.",
        ));
    }
    let attributes = WorkflowPropertiesModifiedEventAttributes {
        workflow_task_completed_event_id: completing.completed_id,
        upserted_memo: command.upserted_memo.clone(),
    };
    work.record(event(
        EventType::WorkflowPropertiesModified,
        Attributes::WorkflowPropertiesModifiedEventAttributes(attributes),
    ));
    Ok(())
}
