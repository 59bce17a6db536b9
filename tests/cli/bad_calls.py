"""Calls that no server should accept: over-long names, too large payloads, unknown names and malformed tokens.

The texts that are expected are parts of what Temporal's server says. Against it these checks pass, too, but for the page
token of a list (it answers UNKNOWN) and the call that is not there yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.batch.v1 import (
    BatchOperationCancelActivities,
    BatchOperationReset,
    BatchOperationResetActivities,
    BatchOperationSignal,
    BatchOperationTermination,
    BatchOperationUnpauseActivities,
    BatchOperationUpdateActivityOptions,
    BatchOperationUpdateWorkflowExecutionOptions,
)
from temporalio.api.common.v1 import Execution, Payload, Payloads, ResetOptions, TimeSkippingConfig, WorkflowExecution, WorkflowType
from temporalio.api.schedule.v1 import Schedule, ScheduleAction, SchedulePatch, ScheduleSpec
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo, WorkflowExecutionOptions
from temporalio.api.workflowservice import v1 as service
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from server import Checks, Failure, expect

INVALID = RPCStatusCode.INVALID_ARGUMENT
NOT_FOUND = RPCStatusCode.NOT_FOUND
CALL_TIMEOUT = timedelta(seconds=10)

ID_LENGTH_MAX = 1000
BLOB_BYTES_MAX = 2 * 1024 * 1024
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

DAY: Any = timedelta(days=1)
LONG = "x" * (ID_LENGTH_MAX + 1)
GARBAGE = b"no token of yours"


@dataclass(frozen=True)
class Case:
    name: str
    method: str
    request: Message
    code: RPCStatusCode
    says: str
    """Part of the error's message, in any case of letters."""
    detail: str = ""
    """The type of the error's detail, which SDKs turn into an exception of their own."""


def cases(namespace: str) -> list[Case]:
    execution = WorkflowExecution(workflow_id="bad-calls-nobody")
    no_time_skipping = "The Time-Skipping feature is not enabled for namespace."

    def start(**changes: Any) -> service.StartWorkflowExecutionRequest:
        fields: dict[str, Any] = {
            "namespace": namespace, "workflow_id": "bad-calls", "workflow_type": WorkflowType(name="Bad"),
            "task_queue": TaskQueue(name="bad-calls"), "request_id": "bad-calls",
        }  # fmt: skip
        return service.StartWorkflowExecutionRequest(**(fields | changes))

    def schedule(spec: Any = None, action: Any = None, request_id: str = "bad-calls") -> service.CreateScheduleRequest:
        if action is None:
            action = NewWorkflowExecutionInfo(workflow_id="w", workflow_type=WorkflowType(name="t"), task_queue=TaskQueue(name="q"))
        planned = Schedule(spec=spec, action=ScheduleAction(start_workflow=action))
        return service.CreateScheduleRequest(namespace=namespace, schedule_id="bad-calls", schedule=planned, request_id=request_id)

    def signal(**changes: Any) -> service.SignalWorkflowExecutionRequest:
        fields: dict[str, Any] = {"namespace": namespace, "workflow_execution": execution, "signal_name": "s"}
        return service.SignalWorkflowExecutionRequest(**(fields | changes))

    def history(**changes: Any) -> service.GetWorkflowExecutionHistoryRequest:
        fields: dict[str, Any] = {"namespace": namespace, "execution": execution}
        return service.GetWorkflowExecutionHistoryRequest(**(fields | changes))

    return [
        Case("a workflow id that is too long", "start_workflow_execution", start(workflow_id=LONG), INVALID, "WorkflowId"),
        Case("no workflow id", "start_workflow_execution", start(workflow_id=""), INVALID, "WorkflowId is not set"),
        Case("a workflow type that is too long", "start_workflow_execution", start(workflow_type=WorkflowType(name=LONG)), INVALID, "WorkflowType"),
        Case("no workflow type", "start_workflow_execution", start(workflow_type=None), INVALID, "WorkflowType is not set"),
        Case("a task queue that is too long", "start_workflow_execution", start(task_queue=TaskQueue(name=LONG)), INVALID, "TaskQueue"),
        Case("no task queue", "start_workflow_execution", start(task_queue=None), INVALID, "TaskQueue"),
        Case("a request id that is too long", "start_workflow_execution", start(request_id=LONG), INVALID, "RequestId"),
        Case("a negative timeout", "start_workflow_execution", start(workflow_run_timeout=timedelta(seconds=-1)), INVALID, "WorkflowRunTimeout"),
        Case("a cron schedule that can't be read", "start_workflow_execution", start(cron_schedule="every day"), INVALID, "cron"),
        Case("an input over the limit", "start_workflow_execution", start(input=blob(BLOB_BYTES_MAX + 1)), INVALID, "exceeds"),
        Case("a message over the limit", "start_workflow_execution", start(input=blob(MESSAGE_BYTES_MAX + 1)), RPCStatusCode.RESOURCE_EXHAUSTED, "larger than"),
        Case("a signal's name that is too long", "signal_workflow_execution", signal(signal_name=LONG), INVALID, "SignalName"),
        Case("no signal name", "signal_workflow_execution", signal(signal_name=""), INVALID, "SignalName is not set"),
        Case("a signal's input over the limit", "signal_workflow_execution", signal(input=blob(BLOB_BYTES_MAX + 1)), INVALID, "exceeds"),
        Case("a signal for nobody", "signal_workflow_execution", signal(), NOT_FOUND, "workflow", "NotFoundFailure"),
        Case("a run id that is none", "signal_workflow_execution", signal(workflow_execution=WorkflowExecution(workflow_id="w", run_id="no run id")), INVALID, "RunId"),
        Case("a start in an unknown namespace", "start_workflow_execution", start(namespace="nowhere"), NOT_FOUND, "nowhere", "NamespaceNotFoundFailure"),
        Case("a poll in an unknown namespace", "poll_workflow_task_queue", service.PollWorkflowTaskQueueRequest(namespace="nowhere", task_queue=TaskQueue(name="q")), NOT_FOUND, "nowhere", "NamespaceNotFoundFailure"),
        Case("a description of an unknown namespace", "describe_namespace", service.DescribeNamespaceRequest(namespace="nowhere"), NOT_FOUND, "nowhere", "NamespaceNotFoundFailure"),
        Case("no namespace", "start_workflow_execution", start(namespace=""), INVALID, "Namespace"),
        Case("a second namespace of the same name", "register_namespace", service.RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=DAY), RPCStatusCode.ALREADY_EXISTS, "already", "NamespaceAlreadyExistsFailure"),
        Case("a namespace without a name", "register_namespace", service.RegisterNamespaceRequest(workflow_execution_retention_period=DAY), INVALID, "Namespace"),
        Case("a description of nobody", "describe_workflow_execution", service.DescribeWorkflowExecutionRequest(namespace=namespace, execution=execution), NOT_FOUND, "workflow", "NotFoundFailure"),
        Case("a history of nobody", "get_workflow_execution_history", history(), NOT_FOUND, "workflow", "NotFoundFailure"),
        Case("a page token of a history that is none", "get_workflow_execution_history", history(next_page_token=GARBAGE), INVALID, "token"),
        Case("a page token of a list that is none", "list_workflow_executions", service.ListWorkflowExecutionsRequest(namespace=namespace, next_page_token=GARBAGE), INVALID, "token"),
        Case("a filter that can't be read", "list_workflow_executions", service.ListWorkflowExecutionsRequest(namespace=namespace, query="Workflow Id = 1"), INVALID, "query"),
        Case("a filter by an unknown field", "count_workflow_executions", service.CountWorkflowExecutionsRequest(namespace=namespace, query="Colour = 'red'"), INVALID, "Colour"),
        *token_cases(namespace),
        Case("a list of what is archived", "list_archived_workflow_executions", service.ListArchivedWorkflowExecutionsRequest(namespace=namespace), INVALID, "Cluster is not configured for visibility archival."),
        Case("a schedule without a request id", "create_schedule", schedule(request_id=""), INVALID, "RequestId is not set on request."),
        Case("a schedule of a time that is none", "create_schedule", schedule(spec=ScheduleSpec(cron_string=["61 * * * *"])), INVALID, "Invalid schedule spec: Minute is not in range [0-59]"),
        Case("a schedule in a time zone that is none", "create_schedule", schedule(spec=ScheduleSpec(timezone_name="Mars/Phobos")), INVALID, "Invalid schedule spec: unknown time zone Mars/Phobos"),
        Case("a schedule of a workflow of no type", "create_schedule", schedule(action=NewWorkflowExecutionInfo(workflow_id="w", task_queue=TaskQueue(name="q"))), INVALID, "WorkflowType is not set on request."),
        Case("a schedule of a cron workflow", "create_schedule", schedule(action=NewWorkflowExecutionInfo(workflow_id="w", workflow_type=WorkflowType(name="t"), task_queue=TaskQueue(name="q"), cron_schedule="* * * * *")), INVALID, "Scheduled workflow must not contain CronSchedule"),
        Case("a schedule that is not there", "describe_schedule", service.DescribeScheduleRequest(namespace=namespace, schedule_id="bad-calls"), NOT_FOUND, "not found"),
        Case("a patch of a schedule that is not there", "patch_schedule", service.PatchScheduleRequest(namespace=namespace, schedule_id="bad-calls", patch=SchedulePatch(pause="p"), request_id="r"), NOT_FOUND, "not found"),
        Case("a patch that is none", "patch_schedule", service.PatchScheduleRequest(namespace=namespace, schedule_id="bad-calls"), INVALID, "Patch is not set on request."),
        Case("notes that are too long", "patch_schedule", service.PatchScheduleRequest(namespace=namespace, schedule_id="bad-calls", patch=SchedulePatch(pause=LONG)), INVALID, "Schedule notes exceeds limit."),
        Case("a list of schedules by what they have not", "list_schedules", service.ListSchedulesRequest(namespace=namespace, query="ExecutionStatus = 'Running'"), INVALID, 'cannot filter on "ExecutionStatus"'),
        *batch_cases(namespace),
        Case("a workflow with a time of its own", "start_workflow_execution", start(time_skipping_config=TimeSkippingConfig(enabled=True)), RPCStatusCode.UNIMPLEMENTED, no_time_skipping),
        Case("a wait for a workflow's time", "poll_workflow_execution_time_skipping", service.PollWorkflowExecutionTimeSkippingRequest(namespace=namespace, workflow_execution=execution), RPCStatusCode.UNIMPLEMENTED, no_time_skipping),
        Case("a wait for the time of no workflow", "poll_workflow_execution_time_skipping", service.PollWorkflowExecutionTimeSkippingRequest(namespace=namespace), INVALID, "Execution is not set on request."),
        Case("a call that is not there yet", "list_worker_deployments", service.ListWorkerDeploymentsRequest(namespace=namespace), RPCStatusCode.UNIMPLEMENTED, "ListWorkerDeployments"),
    ]  # fmt: skip


def batch_cases(namespace: str) -> list[Case]:
    def start(**changes: Any) -> service.StartBatchOperationRequest:
        fields: dict[str, Any] = {
            "namespace": namespace, "job_id": "bad-calls", "reason": "a test", "visibility_query": "WorkflowId = 'nobody'",
            "termination_operation": BatchOperationTermination(),
        }  # fmt: skip
        return service.StartBatchOperationRequest(**{name: value for name, value in (fields | changes).items() if value is not None})

    def other(**operation: Any) -> service.StartBatchOperationRequest:
        return start(termination_operation=None, **operation)

    required = "must provide required parameters: BatchType,Reason,Namespace, AND one of (Query OR Executions OR TargetExecutions)"
    no_selector = "Either activity type must be set, or match all should be set to true"
    options = ActivityOptions(heartbeat_timeout=DAY)
    starts = [
        ("a batch without an operation", start(termination_operation=None), required),
        ("a batch without a reason", start(reason=""), required),
        ("a batch of nothing", start(visibility_query=""), required),
        ("a batch without an id", start(job_id=""), "JobId is not set on request."),
        ("a batch of a query and executions", start(executions=[WorkflowExecution(workflow_id="nobody")]), "visibility query, executions, and target executions are mutually exclusive"),
        ("a batch of a query that can't be read", start(visibility_query="Workflow Id = 1"), "invalid visibility query: "),
        ("a batch of a query that is two", start(visibility_query="WorkflowId = 'a') OR (WorkflowId = 'b'"), "invalid visibility query: "),
        ("a batch of a query in an order", start(visibility_query="WorkflowId = 'a' ORDER BY StartTime"), "invalid visibility query: invalid query: only a condition is allowed here"),
        ("a batch of schedules", start(visibility_query="TemporalNamespaceDivision = 'TemporalScheduler'"), "only workflows are allowed here"),
        ("a batch with a long reason", start(reason=LONG), "Reason exceeds maximum allowed length (1001/1000)"),
        ("a batch with a long identity", other(signal_operation=BatchOperationSignal(signal="s", identity=LONG)), "Identity"),
        ("a batch of executions of another type", start(visibility_query="", target_executions=[Execution(type="EXECUTION_TYPE_ACTIVITY", business_id="a")]),
         "target_executions[0] has type Activity, but operation *workflowservice.StartBatchOperationRequest_TerminationOperation requires Workflow"),
        ("a batch of a signal without a name", other(signal_operation=BatchOperationSignal()), "must provide signal name"),
        ("a batch of resets to nowhere", other(reset_operation=BatchOperationReset(options=ResetOptions())), "batch reset missing target"),
        ("a batch of resets of no type", other(reset_operation=BatchOperationReset()), "unknown batch reset type Unspecified"),
        ("a batch of no options", other(update_workflow_options_operation=BatchOperationUpdateWorkflowExecutionOptions()), "must provide UpdateOptions"),
        ("a batch of options without a mask", other(update_workflow_options_operation=BatchOperationUpdateWorkflowExecutionOptions(workflow_execution_options=WorkflowExecutionOptions())), "must provide UpdateMask"),
        ("a batch that unpauses nothing", other(unpause_activities_operation=BatchOperationUnpauseActivities()), "activity filter must be set"),
        ("a batch that unpauses no type", other(unpause_activities_operation=BatchOperationUnpauseActivities(type="")), no_selector),
        ("a batch that resets nothing", other(reset_activities_operation=BatchOperationResetActivities()), "must provide ActivityType or MatchAll"),
        ("a batch that changes nothing", other(update_activity_options_operation=BatchOperationUpdateActivityOptions(type="t")), "Either activity type must be set, or restore original should be set to true"),
        ("a batch that changes and restores", other(update_activity_options_operation=BatchOperationUpdateActivityOptions(type="t", activity_options=options, restore_original=True)), "cannot set both activity options and restore original"),
        ("a batch that changes no type", other(update_activity_options_operation=BatchOperationUpdateActivityOptions(activity_options=options, type="")), no_selector),
        ("a batch of activities of no workflow", other(cancel_activities_operation=BatchOperationCancelActivities()), "The operation type *workflowservice.StartBatchOperationRequest_CancelActivitiesOperation is not supported for this namespace"),
    ]  # fmt: skip
    return [
        *(Case(name, "start_batch_operation", request, INVALID, says) for name, request, says in starts),
        Case("a stop of a batch without a reason", "stop_batch_operation", service.StopBatchOperationRequest(namespace=namespace, job_id="bad-calls"), INVALID, "Reason is not set on request."),
        Case("a stop of a batch without an id", "stop_batch_operation", service.StopBatchOperationRequest(namespace=namespace, reason="r"), INVALID, "JobId is not set on request."),
        Case("a stop of a batch that is not there", "stop_batch_operation", service.StopBatchOperationRequest(namespace=namespace, job_id="bad-calls", reason="r"), NOT_FOUND, "workflow not found for ID: bad-calls", "NotFoundFailure"),
        Case("a description of a batch without an id", "describe_batch_operation", service.DescribeBatchOperationRequest(namespace=namespace), INVALID, "JobId is not set on request."),
        Case("a description of a batch that is not there", "describe_batch_operation", service.DescribeBatchOperationRequest(namespace=namespace, job_id="bad-calls"), NOT_FOUND, "workflow not found for ID: bad-calls", "NotFoundFailure"),
        Case("a list of batches with a page token that is none", "list_batch_operations", service.ListBatchOperationsRequest(namespace=namespace, next_page_token=GARBAGE), INVALID, "token"),
    ]  # fmt: skip


def token_cases(namespace: str) -> list[Case]:
    calls: dict[str, Message] = {
        "respond_workflow_task_completed": service.RespondWorkflowTaskCompletedRequest(namespace=namespace, task_token=GARBAGE),
        "respond_workflow_task_failed": service.RespondWorkflowTaskFailedRequest(namespace=namespace, task_token=GARBAGE),
        "respond_query_task_completed": service.RespondQueryTaskCompletedRequest(namespace=namespace, task_token=GARBAGE),
        "respond_activity_task_completed": service.RespondActivityTaskCompletedRequest(namespace=namespace, task_token=GARBAGE),
        "respond_activity_task_failed": service.RespondActivityTaskFailedRequest(namespace=namespace, task_token=GARBAGE),
        "respond_activity_task_canceled": service.RespondActivityTaskCanceledRequest(namespace=namespace, task_token=GARBAGE),
        "record_activity_task_heartbeat": service.RecordActivityTaskHeartbeatRequest(namespace=namespace, task_token=GARBAGE),
    }
    malformed = [Case(f"{method} with a token that is none", method, request, INVALID, "token") for method, request in calls.items()]
    missing = Case("an activity's result without a token", "respond_activity_task_completed",
                   service.RespondActivityTaskCompletedRequest(namespace=namespace), INVALID, "token")  # fmt: skip
    return [*malformed, missing]


def blob(size: int) -> Payloads:
    return Payloads(payloads=[Payload(metadata={"encoding": b"binary/plain"}, data=b"x" * size)])


async def run(checks: Checks, client: Client, namespace: str) -> None:
    for case in cases(namespace):
        with checks.check(case.name):
            await expect_refused(client, case)
    with checks.check("the server still serves after all that"):
        await client.workflow_service.describe_namespace(service.DescribeNamespaceRequest(namespace=namespace), timeout=CALL_TIMEOUT)


async def expect_refused(client: Client, case: Case) -> None:
    try:
        answer = await getattr(client.workflow_service, case.method)(case.request, timeout=CALL_TIMEOUT)
    except RPCError as error:
        expect_error(error, case.code, case.says, case.detail)
    else:
        raise Failure(f"Expected {case.code.name}, but it was accepted: {str(answer)[:300]!r}")


def expect_error(error: RPCError, code: RPCStatusCode, says: str, detail: str = "") -> None:
    expect(f"the status of the error {error.message!r}", error.status.name, code.name)
    if says.lower() not in error.message.lower():
        raise Failure(f"Expected the error to speak of {says!r}, but it says {error.message!r}")
    if detail:
        types = [any_detail.type_url.rsplit(".", 1)[-1] for any_detail in error.grpc_status.details]
        expect("the types of the error's details", types, [detail])
