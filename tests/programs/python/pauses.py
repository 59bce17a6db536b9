"""Runs that an operator holds back and lets go on.

The recorded histories are those of a run that is paused before its first task and has a signal meanwhile, of one that is paused while
its activity waits for another attempt, and of one that is given other options. Temporal's server pauses runs only with
`frontend.WorkflowPauseEnabled`.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio import activity, workflow
from temporalio.api.common.v1 import Priority, WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    PauseWorkflowExecutionRequest,
    QueryWorkflowRequest,
    UnpauseWorkflowExecutionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.client import WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play

open_again = asyncio.Event()


@activity.defn
async def deliver(item: str) -> str:
    if not open_again.is_set():
        raise ApplicationError("nobody is at home", type="Closed")
    return f"{item} delivered"


@workflow.defn(name="Parcel")
class ParcelWorkflow:
    def __init__(self) -> None:
        self.items: list[str] = []

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: len(self.items) > 0)
        retries = RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=1)
        return await workflow.execute_activity(
            deliver, self.items[0], start_to_close_timeout=timedelta(seconds=10), retry_policy=retries
        )

    @workflow.signal
    def send(self, item: str) -> None:
        self.items.append(item)

    @workflow.update
    def count(self) -> int:
        return len(self.items)


async def scenario(run: Scenario) -> None:
    before_its_first_task = await run.start(ParcelWorkflow.run, label="before-its-first-task")
    await pause(run, before_its_first_task)
    await before_its_first_task.signal(ParcelWorkflow.send, "a book")
    await refused(run, pause(run, before_its_first_task), RPCStatusCode.FAILED_PRECONDITION, "workflow is already paused.")
    why = "Workflow is paused. Cannot update the workflow."
    await refused(run, before_its_first_task.execute_update(ParcelWorkflow.count), RPCStatusCode.FAILED_PRECONDITION, why)
    run.expect("the answer to a query", await query_status(run, before_its_first_task), WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED)
    described = await describe(run, before_its_first_task)
    status = described.workflow_execution_info.status
    run.expect("the status", status, WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED)
    info = described.workflow_extended_info.pause_info
    run.expect("who paused it, and why", (info.identity, info.reason), ("operator", "a look at it"))
    run.say("a paused run takes signals, and neither updates nor queries")

    async with Worker(run.client, task_queue=run.task_queue, workflows=[ParcelWorkflow], activities=[deliver]):
        await unpause(run, before_its_first_task)
        await refused(run, unpause(run, before_its_first_task), RPCStatusCode.FAILED_PRECONDITION, "workflow is not paused.")
        await run.until("an attempt to fail", lambda: attempt(run, before_its_first_task, 2))
        await pause(run, before_its_first_task)
        open_again.set()
        await asyncio.sleep(1.5)
        run.expect("whether no attempt begins", await attempt(run, before_its_first_task, 2), True)
        await unpause(run, before_its_first_task)
        run.expect("the result", await before_its_first_task.result(), "a book delivered")
        run.say("activities wait until their run goes on")

        options = await run.start(ParcelWorkflow.run, label="other-options")
        await run.idle(options, after="WorkflowTaskCompleted")
        priority = Priority(priority_key=2)
        changed = await update_options(run, options, WorkflowExecutionOptions(priority=priority), "priority.priority_key")
        run.expect("the priority", changed.workflow_execution_options.priority.priority_key, 2)
        auto = WorkflowExecutionOptions(versioning_override=VersioningOverride(auto_upgrade=True))
        await update_options(run, options, auto, "versioning_override")
        await update_options(run, options, auto, "versioning_override")
        await update_options(run, options, WorkflowExecutionOptions(), "versioning_override")
        await refused(
            run,
            update_options(run, options, auto, "versioning_override.pinned"),
            RPCStatusCode.INVALID_ARGUMENT,
            "error applying update_options: versioning_override doesn't support partial updates",
        )
        await options.signal(ParcelWorkflow.send, "a vase")
        run.expect("the result with other options", await options.result(), "a vase delivered")


async def pause(run: Scenario, handle: WorkflowHandle) -> None:
    request = PauseWorkflowExecutionRequest(
        namespace=run.client.namespace, workflow_id=handle.id, identity="operator", reason="a look at it", request_id=str(uuid.uuid4())
    )
    await run.client.workflow_service.pause_workflow_execution(request)


async def unpause(run: Scenario, handle: WorkflowHandle) -> None:
    request = UnpauseWorkflowExecutionRequest(
        namespace=run.client.namespace, workflow_id=handle.id, identity="operator", reason="seen", request_id=str(uuid.uuid4())
    )
    await run.client.workflow_service.unpause_workflow_execution(request)


async def update_options(run: Scenario, handle: WorkflowHandle, options: WorkflowExecutionOptions, path: str):
    request = UpdateWorkflowExecutionOptionsRequest(
        namespace=run.client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=handle.id),
        workflow_execution_options=options,
        update_mask=FieldMask(paths=[path]),
    )
    return await run.client.workflow_service.update_workflow_execution_options(request)


async def query_status(run: Scenario, handle: WorkflowHandle) -> int:
    request = QueryWorkflowRequest(
        namespace=run.client.namespace,
        execution=WorkflowExecution(workflow_id=handle.id),
        query=WorkflowQuery(query_type="__stack_trace"),
    )
    answer = await run.client.workflow_service.query_workflow(request)
    return answer.query_rejected.status


async def describe(run: Scenario, handle: WorkflowHandle) -> DescribeWorkflowExecutionResponse:
    """The SDK's own description knows no status of a paused run."""
    execution = WorkflowExecution(workflow_id=handle.id)
    request = DescribeWorkflowExecutionRequest(namespace=run.client.namespace, execution=execution)
    return await run.client.workflow_service.describe_workflow_execution(request)


async def attempt(run: Scenario, handle: WorkflowHandle, number: int) -> bool:
    pending = (await describe(run, handle)).pending_activities
    return len(pending) == 1 and pending[0].attempt == number


async def refused(run: Scenario, call, status: RPCStatusCode, why: str) -> None:
    try:
        await call
        run.expect("what is refused", "accepted", why)
    except RPCError as error:
        run.expect("why it is refused", (error.status, error.message), (status, why))


if __name__ == "__main__":
    play("pauses", scenario)
