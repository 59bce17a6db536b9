"""Workflow commands without what they need, sent as no SDK would, in a raw RespondWorkflowTaskCompleted.

Each is refused with its reason, and fails the workflow task with a cause that stays in the history. The workflow itself
goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.api.command import v1 as commands
from temporalio.api.common.v1 import ActivityType, Payload, SearchAttributes, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import CommandType, EventType, WorkflowTaskFailedCause
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice import v1 as service
from temporalio.client import Client
from temporalio.service import RPCError

from bad_calls import CALL_TIMEOUT, INVALID, LONG, expect_error
from server import Checks, Failure, expect

POLL_TIMEOUT = timedelta(seconds=70)
TASK_QUEUE = TaskQueue(name="bad-commands")
SECOND = timedelta(seconds=1)
ACTIVITY = ActivityType(name="Act")
COLOUR = SearchAttributes(indexed_fields={"Colour": Payload(metadata={"encoding": b"json/plain"}, data=b'"red"')})

# What the command lacks, the command, the cause of the workflow task's failure, and what the error speaks of.
Case = tuple[str, commands.Command, str, str]


def command(kind: str, **attributes: Any) -> commands.Command:
    return commands.Command(command_type=CommandType.Value(f"COMMAND_TYPE_{kind}"), **attributes)


def schedule_activity(**fields: Any) -> commands.Command:
    attributes = commands.ScheduleActivityTaskCommandAttributes(**({"task_queue": TASK_QUEUE} | fields))
    return command("SCHEDULE_ACTIVITY_TASK", schedule_activity_task_command_attributes=attributes)


def start_timer(**fields: Any) -> commands.Command:
    return command("START_TIMER", start_timer_command_attributes=commands.StartTimerCommandAttributes(**fields))


CASES: list[Case] = [
    ("an activity without an id", schedule_activity(activity_type=ACTIVITY, start_to_close_timeout=SECOND), "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES", "ActivityId"),
    ("an activity with an id that is too long", schedule_activity(activity_id=LONG, activity_type=ACTIVITY, start_to_close_timeout=SECOND), "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES", "ActivityId"),
    ("an activity without a type", schedule_activity(activity_id="1", start_to_close_timeout=SECOND), "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES", "ActivityType"),
    ("an activity without a timeout", schedule_activity(activity_id="1", activity_type=ACTIVITY), "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES", "StartToClose"),
    ("the cancellation of an activity that is not there", command("REQUEST_CANCEL_ACTIVITY_TASK", request_cancel_activity_task_command_attributes=commands.RequestCancelActivityTaskCommandAttributes(scheduled_event_id=99)), "BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES", "99"),
    ("a timer without an id", start_timer(start_to_fire_timeout=SECOND), "BAD_START_TIMER_ATTRIBUTES", "TimerId"),
    ("a timer with a negative duration", start_timer(timer_id="1", start_to_fire_timeout=-SECOND), "BAD_START_TIMER_ATTRIBUTES", "StartToFireTimeout"),
    ("the cancellation of a timer that is not there", command("CANCEL_TIMER", cancel_timer_command_attributes=commands.CancelTimerCommandAttributes(timer_id="nobody")), "BAD_CANCEL_TIMER_ATTRIBUTES", "nobody"),
    ("a failure without a failure", command("FAIL_WORKFLOW_EXECUTION", fail_workflow_execution_command_attributes=commands.FailWorkflowExecutionCommandAttributes()), "BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES", "Failure"),
    ("a marker without a name", command("RECORD_MARKER", record_marker_command_attributes=commands.RecordMarkerCommandAttributes()), "BAD_RECORD_MARKER_ATTRIBUTES", "MarkerName"),
    ("a child without an id", command("START_CHILD_WORKFLOW_EXECUTION", start_child_workflow_execution_command_attributes=commands.StartChildWorkflowExecutionCommandAttributes(workflow_type=WorkflowType(name="Child"), task_queue=TASK_QUEUE)), "BAD_START_CHILD_EXECUTION_ATTRIBUTES", "WorkflowId"),
    ("a child without a type", command("START_CHILD_WORKFLOW_EXECUTION", start_child_workflow_execution_command_attributes=commands.StartChildWorkflowExecutionCommandAttributes(workflow_id="child", task_queue=TASK_QUEUE)), "BAD_START_CHILD_EXECUTION_ATTRIBUTES", "WorkflowType"),
    ("a signal for a workflow without an id", command("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION", signal_external_workflow_execution_command_attributes=commands.SignalExternalWorkflowExecutionCommandAttributes(signal_name="s")), "BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES", "Execution"),
    ("a signal without a name", command("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION", signal_external_workflow_execution_command_attributes=commands.SignalExternalWorkflowExecutionCommandAttributes(execution=WorkflowExecution(workflow_id="other"))), "BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES", "SignalName"),
    ("the cancellation of a workflow without an id", command("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION", request_cancel_external_workflow_execution_command_attributes=commands.RequestCancelExternalWorkflowExecutionCommandAttributes()), "BAD_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_ATTRIBUTES", "WorkflowId"),
    ("search attributes without any", command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", upsert_workflow_search_attributes_command_attributes=commands.UpsertWorkflowSearchAttributesCommandAttributes()), "BAD_SEARCH_ATTRIBUTES", "SearchAttributes"),
    ("search attributes that the namespace has not", command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", upsert_workflow_search_attributes_command_attributes=commands.UpsertWorkflowSearchAttributesCommandAttributes(search_attributes=COLOUR)), "BAD_SEARCH_ATTRIBUTES", "has no mapping defined for search attribute Colour"),
    ("a child with search attributes that the namespace has not", command("START_CHILD_WORKFLOW_EXECUTION", start_child_workflow_execution_command_attributes=commands.StartChildWorkflowExecutionCommandAttributes(workflow_id="child", workflow_type=WorkflowType(name="Child"), task_queue=TASK_QUEUE, search_attributes=COLOUR)), "BAD_SEARCH_ATTRIBUTES", "has no mapping defined for search attribute Colour"),
    ("a new run with search attributes that the namespace has not", command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", continue_as_new_workflow_execution_command_attributes=commands.ContinueAsNewWorkflowExecutionCommandAttributes(search_attributes=COLOUR)), "BAD_SEARCH_ATTRIBUTES", "has no mapping defined for search attribute Colour"),
    ("a memo without fields", command("MODIFY_WORKFLOW_PROPERTIES", modify_workflow_properties_command_attributes=commands.ModifyWorkflowPropertiesCommandAttributes()), "BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES", "UpsertedMemo"),
    ("a timer command without attributes", command("START_TIMER"), "BAD_START_TIMER_ATTRIBUTES", "StartTimer"),
]  # fmt: skip


async def run(checks: Checks, client: Client, namespace: str) -> None:
    for name, bad, cause, says in CASES:
        with checks.check(f"command: {name}"):
            await expect_refused(client, namespace, bad, cause, says)


async def expect_refused(client: Client, namespace: str, bad: commands.Command, cause: str, says: str) -> None:
    rpc = client.workflow_service
    execution = await start(client, namespace)
    try:
        token = await workflow_task(client, namespace)
        request = service.RespondWorkflowTaskCompletedRequest(namespace=namespace, task_token=token, commands=[bad])
        await refused(rpc.respond_workflow_task_completed, request, says)

        history = await rpc.get_workflow_execution_history(
            service.GetWorkflowExecutionHistoryRequest(namespace=namespace, execution=execution), timeout=CALL_TIMEOUT
        )
        failed = [event for event in history.history.events if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]
        causes = [WorkflowTaskFailedCause.Name(event.workflow_task_failed_event_attributes.cause) for event in failed]
        expect("the causes of failed workflow tasks in the history", causes, [f"WORKFLOW_TASK_FAILED_CAUSE_{cause}"])
    finally:
        await rpc.terminate_workflow_execution(
            service.TerminateWorkflowExecutionRequest(namespace=namespace, workflow_execution=execution), timeout=CALL_TIMEOUT
        )


async def refused(call: Callable[..., Awaitable[Any]], request: Any, says: str) -> None:
    try:
        await call(request, timeout=CALL_TIMEOUT)
    except RPCError as error:
        expect_error(error, INVALID, says)
    else:
        raise Failure("Expected INVALID_ARGUMENT, but the command was accepted")


async def start(client: Client, namespace: str) -> WorkflowExecution:
    workflow_id = f"bad-commands-{secrets.token_hex(4)}"
    request = service.StartWorkflowExecutionRequest(
        namespace=namespace, workflow_id=workflow_id, workflow_type=WorkflowType(name="Bad"), task_queue=TASK_QUEUE,
        request_id=workflow_id,
    )  # fmt: skip
    answer = await client.workflow_service.start_workflow_execution(request, timeout=CALL_TIMEOUT)
    return WorkflowExecution(workflow_id=workflow_id, run_id=answer.run_id)


async def workflow_task(client: Client, namespace: str) -> bytes:
    request = service.PollWorkflowTaskQueueRequest(namespace=namespace, task_queue=TASK_QUEUE, identity="bad-commands")
    answer = await client.workflow_service.poll_workflow_task_queue(request, timeout=POLL_TIMEOUT)
    if not answer.task_token:
        raise Failure("Expected a workflow task, but the poll came back empty")
    return answer.task_token
