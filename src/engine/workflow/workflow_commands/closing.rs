//! The commands that end a run.

use super::check::{self, Check};
use super::{BadCommand, Completing, sizes};
use crate::engine::workflow::close::Close;
use crate::engine::workflow::new_run::{self, NewRun};
use crate::engine::workflow::{Work, queues::normal_queue};
use crate::engine::{nothing, retry};
use crate::proto::temporal::command::v1::{
    CancelWorkflowExecutionCommandAttributes, CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes as Continue, FailWorkflowExecutionCommandAttributes,
};
use crate::proto::temporal::enums::v1::{ContinueAsNewInitiator, EventType, WorkflowTaskFailedCause as Cause};
use crate::proto::temporal::history::v1::{
    WorkflowExecutionCanceledEventAttributes, WorkflowExecutionCompletedEventAttributes,
    WorkflowExecutionContinuedAsNewEventAttributes, WorkflowExecutionFailedEventAttributes,
    WorkflowExecutionStartedEventAttributes, history_event::Attributes,
};
use crate::types::time::{cut, duration, duration_ms};

pub fn complete(
    work: &mut Work,
    completing: &Completing,
    command: &CompleteWorkflowExecutionCommandAttributes,
) -> Result<(), BadCommand> {
    let attributes = WorkflowExecutionCompletedEventAttributes {
        result: command.result.clone(),
        workflow_task_completed_event_id: completing.completed_id,
        new_execution_run_id: String::new(),
    };
    let close = completing.event(
        EventType::WorkflowExecutionCompleted,
        Attributes::WorkflowExecutionCompletedEventAttributes(attributes),
    );
    work.close_completed(close, command.result.clone());
    Ok(())
}

pub fn fail(
    work: &mut Work,
    completing: &Completing,
    command: &FailWorkflowExecutionCommandAttributes,
) -> Result<(), BadCommand> {
    let Some(failure) = command.failure.clone() else {
        return Err(BadCommand::new(
            Cause::BadFailWorkflowExecutionAttributes,
            "Failure is not set on FailWorkflowExecutionCommand.",
        ));
    };
    let attributes = WorkflowExecutionFailedEventAttributes {
        failure: Some(failure.clone()),
        workflow_task_completed_event_id: completing.completed_id,
        ..WorkflowExecutionFailedEventAttributes::default()
    };
    let close = completing
        .event(EventType::WorkflowExecutionFailed, Attributes::WorkflowExecutionFailedEventAttributes(attributes));
    work.close_failed(close, &failure);
    Ok(())
}

pub fn cancel(
    work: &mut Work,
    completing: &Completing,
    command: &CancelWorkflowExecutionCommandAttributes,
) -> Result<(), BadCommand> {
    let attributes = WorkflowExecutionCanceledEventAttributes {
        workflow_task_completed_event_id: completing.completed_id,
        details: command.details.clone(),
    };
    let close = completing
        .event(EventType::WorkflowExecutionCanceled, Attributes::WorkflowExecutionCanceledEventAttributes(attributes));
    work.close(Close::of(close));
    Ok(())
}

pub fn continue_as_new(work: &mut Work, completing: &Completing, command: &Continue) -> Result<(), BadCommand> {
    let queue = check_continue_as_new(work, command)?;
    let head = work.head();
    let workflow_type = command.workflow_type.clone().filter(|t| !t.name.is_empty());
    let workflow_type = workflow_type
        .unwrap_or_else(|| crate::proto::temporal::common::v1::WorkflowType { name: head.workflow_type.clone() });
    let or = |asked: i64, present: i64| if asked > 0 { asked } else { present };
    let run_ms = or(duration_ms(command.workflow_run_timeout.as_ref()), head.run_timeout_ms);
    let run_ms = new_run::run_timeout_ms(run_ms, head.execution_timeout_ms);
    let task_ms = or(duration_ms(command.workflow_task_timeout.as_ref()), head.workflow_task_timeout_ms);
    let task_ms = new_run::task_timeout_ms(task_ms, run_ms);
    let initiator = if command.initiator == 0 { ContinueAsNewInitiator::Workflow as i32 } else { command.initiator };
    let backoff_ms = work.successor_delay_ms(duration_ms(command.backoff_start_interval.as_ref()));
    let priority = head.priority.clone();
    let attempt = if initiator == ContinueAsNewInitiator::Retry as i32 { head.attempt + 1 } else { 1 };
    let links = work.run().start.links.clone();
    let run_id = work.new_run_id();
    let attributes = WorkflowExecutionContinuedAsNewEventAttributes {
        new_execution_run_id: run_id.clone(),
        workflow_type: Some(workflow_type.clone()),
        task_queue: Some(normal_queue(&queue)),
        input: command.input.clone(),
        workflow_run_timeout: Some(duration(run_ms)),
        workflow_task_timeout: Some(duration(task_ms)),
        workflow_task_completed_event_id: completing.completed_id,
        inherit_build_id: command.inherit_build_id,
        last_completion_result: command.last_completion_result.clone(),
        header: command.header.clone(),
        memo: nothing::without_in_memo(command.memo.clone()),
        search_attributes: nothing::without_in_attributes(command.search_attributes.clone()),
        backoff_start_interval: command.backoff_start_interval.map(cut),
        ..WorkflowExecutionContinuedAsNewEventAttributes::default()
    };
    let mut started = work.successor(&WorkflowExecutionStartedEventAttributes {
        workflow_type: Some(workflow_type),
        task_queue: Some(normal_queue(&queue)),
        input: command.input.clone(),
        workflow_run_timeout: Some(duration(run_ms)),
        workflow_task_timeout: Some(duration(task_ms)),
        initiator,
        continued_failure: command.failure_of(),
        last_completion_result: command.last_completion_result.clone(),
        retry_policy: command.retry_policy.clone().map(|policy| retry::with_defaults(Some(policy))),
        attempt,
        cron_schedule: command.cron_schedule.clone(),
        first_workflow_task_backoff: Some(duration(backoff_ms)),
        memo: command.memo.clone(),
        search_attributes: command.search_attributes.clone(),
        header: command.header.clone(),
        priority,
        ..WorkflowExecutionStartedEventAttributes::default()
    });
    new_run::defaults(&mut started, &work.entity.id.clone(), &run_id);
    let close = completing.event(
        EventType::WorkflowExecutionContinuedAsNew,
        Attributes::WorkflowExecutionContinuedAsNewEventAttributes(attributes.into()),
    );
    let create_request_id = work.ids.uuid();
    let callback = work.head().callback.clone();
    work.continue_as_new(close, NewRun { run_id, started, create_request_id, user_metadata: None, links, callback });
    Ok(())
}

/// Checks the command, and returns the queue of the run to come.
fn check_continue_as_new(work: &Work, command: &Continue) -> Result<String, BadCommand> {
    let head = work.head();
    let workflow_type = command.workflow_type.as_ref().map(|t| t.name.as_str()).filter(|name| !name.is_empty());
    let workflow_type = workflow_type.unwrap_or(&head.workflow_type);
    let mut check = Check {
        cause: Cause::BadContinueAsNewAttributes,
        command: "ContinueAsNewWorkflowExecutionCommand",
        named: format!(" WorkflowType={workflow_type}"),
    };
    check.length("WorkflowType", workflow_type)?;
    let queue = check::queue(command.task_queue.as_ref(), &head.task_queue, &head.task_queue);
    let queue = queue.map_err(|problem| {
        check.bad(format!("error validating {} TaskQueue: {problem}.{}", check.command, check.named))
    })?;
    check.named = format!(" WorkflowType={workflow_type} TaskQueue={queue}");
    check.duration("WorkflowRunTimeout", command.workflow_run_timeout.as_ref())?;
    check.duration("WorkflowTaskTimeout", command.workflow_task_timeout.as_ref())?;
    check.duration("BackoffStartInterval", command.backoff_start_interval.as_ref())?;
    check.retry_policy(command.retry_policy.as_ref())?;
    sizes::check_memo(check.cause, "ContinueAsNewWorkflowExecutionCommandAttributes. Memo", command.memo.as_ref())?;
    sizes::check_search_attributes(check.cause, command.search_attributes.as_ref())?;
    Ok(queue)
}

impl Continue {
    fn failure_of(&self) -> Option<crate::proto::temporal::failure::v1::Failure> {
        self.failure.clone()
    }
}
