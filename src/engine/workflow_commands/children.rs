//! Starting child workflows.

use super::{BadCommand, Completing, check_id};
use crate::engine::decision::{Working, normal_queue};
use crate::engine::history::event;
use crate::engine::{cron, retry};
use crate::proto::commands::{Parent, StartWorkflow, command::Body};
use crate::proto::temporal::command::v1::StartChildWorkflowExecutionCommandAttributes as Start;
use crate::proto::temporal::common::v1::{Priority, WorkflowExecution};
use crate::proto::temporal::enums::v1::{EventType, ParentClosePolicy, WorkflowIdReusePolicy, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{StartChildWorkflowExecutionInitiatedEventAttributes, history_event::Attributes};
use crate::proto::temporal::sdk::v1::UserMetadata;
use crate::proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;
use crate::types::{
    limits,
    time::{duration, duration_ms},
};

pub fn start(work: &mut Working, completing: &Completing, command: &Start, user_metadata: Option<UserMetadata>) -> Result<(), BadCommand> {
    let cause = Cause::BadStartChildExecutionAttributes;
    let name = command.workflow_type.as_ref().map(|t| t.name.as_str()).unwrap_or_default();
    check_id(cause, "WorkflowId", &command.workflow_id)?;
    check_id(cause, "WorkflowType", name)?;
    if let Some(problem) = command.retry_policy.as_ref().and_then(retry::problem) {
        return Err(BadCommand::new(cause, format!("{problem} WorkflowId={}", command.workflow_id)));
    }
    if !command.cron_schedule.is_empty() {
        cron::Schedule::parse(&command.cron_schedule).map_err(|problem| BadCommand::new(cause, problem))?;
    }
    #[allow(deprecated)]
    if !command.namespace.is_empty() && command.namespace != work.namespace {
        return Err(BadCommand::new(cause, "a child of another namespace is not supported by this server"));
    }
    if work.run().children.len() >= limits::PENDING_MAX {
        let message = format!("the number of pending child workflow executions, {0}, has reached the per-workflow limit of {0}", limits::PENDING_MAX);
        return Err(BadCommand::new(Cause::PendingChildWorkflowsLimitExceeded, message));
    }
    let queue = command.task_queue.as_ref().map(|queue| queue.name.clone()).filter(|queue| !queue.is_empty()).unwrap_or_else(|| completing.task_queue.clone());
    let task_timeout_ms = match duration_ms(command.workflow_task_timeout.as_ref()) {
        0 => limits::WORKFLOW_TASK_TIMEOUT_MS_DEFAULT,
        ms => ms.min(limits::WORKFLOW_TASK_TIMEOUT_MS_MAX),
    };
    let policy = if command.parent_close_policy == 0 { ParentClosePolicy::Terminate as i32 } else { command.parent_close_policy };
    let reuse = if command.workflow_id_reuse_policy == 0 { WorkflowIdReusePolicy::AllowDuplicate as i32 } else { command.workflow_id_reuse_policy };
    let execution_ms = duration_ms(command.workflow_execution_timeout.as_ref());
    let run_ms = match duration_ms(command.workflow_run_timeout.as_ref()) {
        run if execution_ms > 0 && (run == 0 || run > execution_ms) => execution_ms,
        run => run,
    };
    let retry_policy = command.retry_policy.clone().map(|policy| retry::with_defaults(Some(policy)));
    let attributes = StartChildWorkflowExecutionInitiatedEventAttributes {
        namespace: work.namespace.clone(),
        namespace_id: work.namespace_id.clone(),
        workflow_id: command.workflow_id.clone(),
        workflow_type: command.workflow_type.clone(),
        task_queue: Some(normal_queue(&queue)),
        input: command.input.clone(),
        workflow_execution_timeout: Some(duration(execution_ms)),
        workflow_run_timeout: Some(duration(run_ms)),
        workflow_task_timeout: Some(duration(task_timeout_ms)),
        parent_close_policy: policy,
        workflow_task_completed_event_id: completing.completed_id,
        workflow_id_reuse_policy: reuse,
        retry_policy: retry_policy.clone(),
        cron_schedule: command.cron_schedule.clone(),
        header: Some(command.header.clone().unwrap_or_default()),
        memo: command.memo.clone(),
        search_attributes: command.search_attributes.clone(),
        priority: Some(command.priority.clone().unwrap_or_else(Priority::default)),
        ..StartChildWorkflowExecutionInitiatedEventAttributes::default()
    };
    let mut initiated = event(EventType::StartChildWorkflowExecutionInitiated, Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(attributes));
    initiated.user_metadata = user_metadata.clone();
    let initiated_event_id = work.record(initiated);
    let execution = WorkflowExecution { workflow_id: work.workflow_id.clone(), run_id: work.head().run_id.clone() };
    let request = StartWorkflowExecutionRequest {
        namespace: work.namespace.clone(),
        workflow_id: command.workflow_id.clone(),
        workflow_type: command.workflow_type.clone(),
        task_queue: Some(normal_queue(&queue)),
        input: command.input.clone(),
        workflow_execution_timeout: command.workflow_execution_timeout,
        workflow_run_timeout: command.workflow_run_timeout,
        workflow_task_timeout: command.workflow_task_timeout,
        request_id: work.ids.uuid(),
        workflow_id_reuse_policy: reuse,
        retry_policy,
        cron_schedule: command.cron_schedule.clone(),
        memo: command.memo.clone(),
        search_attributes: command.search_attributes.clone(),
        header: command.header.clone(),
        priority: command.priority.clone(),
        user_metadata,
        ..StartWorkflowExecutionRequest::default()
    };
    let parent = Parent { namespace_id: work.namespace_id.clone(), namespace: work.namespace.clone(), execution: Some(execution), initiated_event_id };
    let root = work.head().root.clone();
    let (namespace_id, namespace) = (work.namespace_id.clone(), work.namespace.clone());
    work.send(&namespace_id, &namespace, &command.workflow_id, Body::StartWorkflow(StartWorkflow { request: Some(request), parent: Some(parent), root }));
    Ok(())
}
