//! Starting child workflows.

use super::check::{self, Check};
use super::{BadCommand, Completing, sizes};
use crate::engine::EntityId;
use crate::engine::workflow::new_run;
use crate::engine::workflow::start_workflow::initiated_here;
use crate::engine::workflow::{Work, queues::normal_queue};
use crate::engine::{cron, nothing, priority, retry};
use crate::proto::commands::{Parent, StartWorkflow, command::Body};
use crate::proto::temporal::command::v1::StartChildWorkflowExecutionCommandAttributes as Start;
use crate::proto::temporal::common::v1::WorkflowExecution;
use crate::proto::temporal::enums::v1::{
    EventType, ParentClosePolicy, WorkflowIdReusePolicy, WorkflowTaskFailedCause as Cause,
};
use crate::proto::temporal::history::v1::{
    HistoryEvent, StartChildWorkflowExecutionInitiatedEventAttributes as Initiated, history_event::Attributes,
};
use crate::proto::temporal::sdk::v1::UserMetadata;
use crate::proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;
use crate::types::{
    limits,
    time::{cut, duration, duration_ms},
};

pub fn start(work: &mut Work, completing: &mut Completing, command: &Start) -> Result<(), BadCommand> {
    let queue = check(work, completing, command)?;
    completing.children.insert(command.workflow_id.clone());
    let initiated = initiated(work, completing, &queue, command);
    let request = request(work, &initiated, completing.user_metadata.clone());
    let event = completing.event(
        EventType::StartChildWorkflowExecutionInitiated,
        Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(initiated.into()),
    );
    let initiated_event_id = work.record(event);
    send(work, initiated_event_id, request, Vec::new());
    Ok(())
}

/// Asks again for a child that may have been asked for before the run began again.
pub fn start_again(work: &mut Work, initiated: &Initiated, event: &HistoryEvent) {
    let request = request(work, initiated, event.user_metadata.clone());
    let shared = work.head().reset_from.iter().filter(|from| event.event_id <= from.last_event_id);
    let reset_from = shared.map(|from| from.run_id.clone()).collect();
    send(work, event.event_id, request, reset_from);
}

fn send(work: &mut Work, initiated_event_id: i64, request: StartWorkflowExecutionRequest, reset_from: Vec<String>) {
    let execution = WorkflowExecution { workflow_id: work.entity.id.to_string(), run_id: work.head().run_id.clone() };
    let (namespace_id, namespace) = (work.entity.namespace_id.to_string(), work.namespace.clone());
    let parent = Parent {
        namespace_id: namespace_id.clone(),
        namespace: namespace.clone(),
        execution: Some(execution),
        initiated_event_id,
        reset_from,
    };
    let child = EntityId::workflow(&namespace_id, &request.workflow_id);
    let start = StartWorkflow { request: Some(request), parent: Some(parent), root: work.head().root.clone() };
    let callback = initiated_here(work, initiated_event_id);
    work.send_for(callback, child, &namespace, Body::StartWorkflow(start));
}

/// Checks the command, and returns the child's queue.
fn check(work: &Work, completing: &Completing, command: &Start) -> Result<String, BadCommand> {
    let name = command.workflow_type.as_ref().map(|t| t.name.as_str()).unwrap_or_default();
    let id = &command.workflow_id;
    let namespace = if command.namespace.is_empty() { &work.namespace } else { &command.namespace };
    let check = Check {
        cause: Cause::BadStartChildExecutionAttributes,
        command: "StartChildWorkflowExecutionCommand",
        named: format!(" WorkflowId={id} WorkflowType={name} Namespace={namespace}"),
    };
    if *namespace != work.namespace {
        return Err(check.bad("a child of another namespace is not supported by this server"));
    }
    check.required("Required field WorkflowId", id)?;
    check.required("Required field WorkflowType", name)?;
    check.length("WorkflowId", id)?;
    check.length("WorkflowType", name)?;
    check.duration("WorkflowExecutionTimeout", command.workflow_execution_timeout.as_ref())?;
    check.duration("WorkflowRunTimeout", command.workflow_run_timeout.as_ref())?;
    check.duration("WorkflowTaskTimeout", command.workflow_task_timeout.as_ref())?;
    check.retry_policy(command.retry_policy.as_ref())?;
    if let Some(problem) = cron::problem(&command.cron_schedule, work.now) {
        return Err(check.bad(format!("invalid CronSchedule on {}: {problem}.{}", check.command, check.named)));
    }
    if let Some(problem) = check::priority_problem(command.priority.as_ref()) {
        return Err(check.bad(problem));
    }
    let queue = check::queue(command.task_queue.as_ref(), &completing.task_queue, &completing.task_queue);
    let queue = queue
        .map_err(|problem| check.bad(format!("invalid TaskQueue on {}: {problem}.{}", check.command, check.named)))?;
    sizes::check_memo(check.cause, "StartChildWorkflowExecutionCommandAttributes.Memo", command.memo.as_ref())?;
    sizes::check_search_attributes(check.cause, command.search_attributes.as_ref())?;
    check_room(work)?;
    Ok(queue)
}

fn check_room(work: &Work) -> Result<(), BadCommand> {
    if work.run().children.len() >= limits::PENDING_MAX {
        let message = format!(
            "the number of pending child workflow executions, {0}, has reached the per-workflow limit of {0}",
            limits::PENDING_MAX
        );
        return Err(BadCommand::new(Cause::PendingChildWorkflowsLimitExceeded, message));
    }
    Ok(())
}

/// The child's initiated event, with what the command leaves to the server filled in.
fn initiated(work: &Work, completing: &Completing, queue: &str, command: &Start) -> Initiated {
    let execution_ms = duration_ms(command.workflow_execution_timeout.as_ref());
    let run_ms = new_run::run_timeout_ms(duration_ms(command.workflow_run_timeout.as_ref()), execution_ms);
    let task_timeout_ms = new_run::task_timeout_ms(duration_ms(command.workflow_task_timeout.as_ref()), run_ms);
    let or_default = |given: i32, default: i32| if given == 0 { default } else { given };
    Initiated {
        namespace: work.namespace.clone(),
        namespace_id: work.entity.namespace_id.to_string(),
        workflow_id: command.workflow_id.clone(),
        workflow_type: command.workflow_type.clone(),
        task_queue: Some(normal_queue(queue)),
        input: command.input.clone(),
        workflow_execution_timeout: command.workflow_execution_timeout.map(cut),
        workflow_run_timeout: Some(duration(run_ms)),
        workflow_task_timeout: Some(duration(task_timeout_ms)),
        parent_close_policy: or_default(command.parent_close_policy, ParentClosePolicy::Terminate as i32),
        workflow_task_completed_event_id: completing.completed_id,
        workflow_id_reuse_policy: or_default(
            command.workflow_id_reuse_policy,
            WorkflowIdReusePolicy::AllowDuplicate as i32,
        ),
        retry_policy: command.retry_policy.clone().map(|policy| retry::with_defaults(Some(policy))),
        cron_schedule: command.cron_schedule.clone(),
        header: command.header.clone(),
        memo: nothing::without_in_memo(command.memo.clone()),
        search_attributes: nothing::without_in_attributes(command.search_attributes.clone()),
        priority: command.priority.clone(),
        inherit_build_id: command.inherit_build_id,
        ..Initiated::default()
    }
}

/// The start that the child's workflow id is sent.
fn request(
    work: &mut Work,
    initiated: &Initiated,
    user_metadata: Option<UserMetadata>,
) -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: initiated.namespace.clone(),
        workflow_id: initiated.workflow_id.clone(),
        workflow_type: initiated.workflow_type.clone(),
        task_queue: initiated.task_queue.clone(),
        input: initiated.input.clone(),
        workflow_execution_timeout: initiated.workflow_execution_timeout,
        workflow_run_timeout: initiated.workflow_run_timeout,
        workflow_task_timeout: initiated.workflow_task_timeout,
        request_id: work.ids.uuid(),
        workflow_id_reuse_policy: initiated.workflow_id_reuse_policy,
        retry_policy: initiated.retry_policy.clone(),
        cron_schedule: initiated.cron_schedule.clone(),
        memo: initiated.memo.clone(),
        search_attributes: initiated.search_attributes.clone(),
        header: initiated.header.clone(),
        priority: priority::inherited(work.head().priority.as_ref(), initiated.priority.as_ref()),
        user_metadata,
        ..StartWorkflowExecutionRequest::default()
    }
}
