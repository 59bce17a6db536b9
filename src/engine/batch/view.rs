//! What clients see of a batch.

use prost::Message;

use super::{Batch, Status};
use crate::engine::Kind;
use crate::engine::payload;
use crate::engine::row::{DIVISION, Row};
use crate::proto::batch::StartBatch;
use crate::proto::temporal::batch::v1::BatchOperationInfo;
use crate::proto::temporal::common::v1::{Execution, Memo, SearchAttributes};
use crate::proto::temporal::enums::v1::{BatchOperationState as State, BatchOperationType as Type, ExecutionType};
use crate::proto::temporal::workflowservice::v1::DescribeBatchOperationResponse;
use crate::types::time::{timestamp, timestamp_or_none};

/// The value of [`DIVISION`] of batches.
pub const BATCHER: &str = "TemporalBatcher";
/// The type of the workflow that a batch is there.
const WORKFLOW_TYPE: &str = "temporal-sys-batch-workflow-protobuf";

impl Batch {
    /// As DescribeBatchOperation answers; none: there is no such batch.
    pub fn describe(&self) -> Option<DescribeBatchOperationResponse> {
        let head = &self.head;
        if head.run_id.is_empty() {
            return None;
        }
        let request = self.plan.request.clone().unwrap_or_default();
        let of_workflow = |workflow_id: String, run_id: String| Execution {
            r#type: ExecutionType::Workflow as i32,
            business_id: workflow_id,
            run_id,
        };
        let old = request.executions.into_iter().map(|execution| of_workflow(execution.workflow_id, execution.run_id));
        // Temporal's server knows the sum of what is done once all is done, and an estimate before.
        let done = head.succeeded + head.failed;
        Some(DescribeBatchOperationResponse {
            operation_type: self.plan.operation_type,
            job_id: head.id.clone(),
            state: self.state() as i32,
            start_time: Some(timestamp(head.start_ms)),
            close_time: timestamp_or_none(head.close_ms),
            total_operation_count: if self.is_open() { head.total.max(done) } else { done },
            complete_operation_count: head.succeeded,
            failure_operation_count: head.failed,
            identity: self.plan.identity.clone(),
            reason: request.reason,
            query: request.visibility_query,
            executions: request.target_executions.into_iter().chain(old).collect(),
        })
    }

    fn state(&self) -> State {
        match self.head.status() {
            Status::Running => State::Running,
            Status::Completed => State::Completed,
            _ => State::Failed,
        }
    }

    pub(super) fn to_row(&self) -> Row {
        let head = &self.head;
        let StartBatch { request, operation_type, identity, .. } = &*self.plan;
        let reason = request.as_ref().map_or("", |request| request.reason.as_str());
        let info = BatchOperationInfo {
            job_id: head.id.clone(),
            state: self.state() as i32,
            start_time: Some(timestamp(head.start_ms)),
            close_time: timestamp_or_none(head.close_ms),
            operation_type: *operation_type,
        };
        let text = |text: &str| payload::json_text(text).payloads.remove(0);
        let memo = [
            ("batch_operation_type".to_owned(), text(memo_of(*operation_type))),
            ("batch_operation_reason".to_owned(), text(reason)),
        ];
        let attributes = [("BatcherUser", payload::keyword(identity)), (DIVISION, payload::keyword(BATCHER))];
        let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Row {
            kind: Kind::Batch as u32,
            namespace_id: head.namespace_id.clone(),
            workflow_id: head.id.clone(),
            run_id: head.run_id.clone(),
            workflow_type: WORKFLOW_TYPE.into(),
            status: head.status,
            start_time_ms: head.start_ms,
            execution_time_ms: head.start_ms,
            close_time_ms: (head.close_ms > 0).then_some(head.close_ms),
            memo: Memo { fields: memo.into() }.encode_to_vec().into(),
            search_attributes: SearchAttributes { indexed_fields: attributes }.encode_to_vec().into(),
            info: info.encode_to_vec().into(),
            ..Row::default()
        }
    }
}

/// The type of an operation, as Temporal's server writes it into the memo of its workflow.
fn memo_of(operation_type: i32) -> &'static str {
    match Type::try_from(operation_type) {
        Ok(Type::TerminateWorkflow) => "terminate",
        Ok(Type::CancelWorkflow) => "cancel",
        Ok(Type::SignalWorkflow) => "signal",
        Ok(Type::DeleteWorkflow) => "delete",
        Ok(Type::ResetWorkflow) => "reset",
        Ok(Type::UpdateWorkflowExecutionOptions) => "update_options",
        Ok(Type::UnpauseActivity) => "unpause_activities",
        Ok(Type::ResetActivity) => "reset_activities",
        Ok(Type::UpdateActivityOptions) => "update_activity_options",
        _ => "",
    }
}
