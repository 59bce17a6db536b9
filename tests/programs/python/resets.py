"""A draft whose reviews begin again: runs are reset to points of their histories.

Each recorded history is that of a run that began again: of one that had ended, of one that was at work with signals and updates, of
one whose signals are left out, of one with a child, of a run before the newest, and of one that had begun again already.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyExcludeType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play


@activity.defn
async def review(text: str) -> str:
    return f"{text}, reviewed"


@workflow.defn(name="Draft")
class DraftWorkflow:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done = False

    @workflow.run
    async def run(self, text: str) -> list[str]:
        reviewed = await workflow.execute_activity(review, text, start_to_close_timeout=timedelta(seconds=10))
        await workflow.wait_condition(lambda: self.done)
        return [reviewed, *self.notes]

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)

    @workflow.signal
    def finish(self) -> None:
        self.done = True

    @workflow.update
    def amend(self, text: str) -> int:
        self.notes.append(f"amended: {text}")
        return len(self.notes)


@workflow.defn(name="Print")
class PrintWorkflow:
    def __init__(self) -> None:
        self.dry = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.dry)
        return "printed"

    @workflow.signal
    def dries(self) -> None:
        self.dry = True


@workflow.defn(name="Publish")
class PublishWorkflow:
    """Has a child, and waits for it once it may."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.run
    async def run(self, child_id: str) -> list[str]:
        child = await workflow.start_child_workflow(PrintWorkflow.run, id=child_id)
        await workflow.wait_condition(lambda: len(self.notes) > 0)
        return [await child, *self.notes]

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)


@workflow.defn(name="Edition")
class EditionWorkflow:
    """Continues as new once, and ends with the second run's notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.run
    async def run(self, number: int) -> list[str]:
        await workflow.wait_condition(lambda: len(self.notes) > 0)
        if number == 1:
            workflow.continue_as_new(2)
        return self.notes

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)


async def scenario(run: Scenario) -> None:
    workflows = [DraftWorkflow, PublishWorkflow, PrintWorkflow, EditionWorkflow]
    async with Worker(run.client, task_queue=run.task_queue, workflows=workflows, activities=[review]):
        await closed(run)
        await running(run)
        await excluded(run)
        await parent(run)
        await continued(run)


async def reset(run: Scenario, handle: WorkflowHandle, label: str, *, point: int, **options) -> WorkflowHandle:
    """Resets a run to its `point`-th completed workflow task: the new run's handle."""
    history = await handle.fetch_history()
    completed = [each.event_id for each in history.events if each.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
    request = ResetWorkflowExecutionRequest(
        namespace=run.client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.run_id or ""),
        reason=f"for {label}",
        request_id=str(uuid.uuid4()),
        workflow_task_finish_event_id=completed[point - 1],
        **options,
    )
    response = await run.client.workflow_service.reset_workflow_execution(request)
    run.compare(label, handle.id, response.run_id)
    return run.client.get_workflow_handle(handle.id, run_id=response.run_id)


def of_run(run: Scenario, handle: WorkflowHandle) -> WorkflowHandle:
    return run.client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)


async def closed(run: Scenario) -> None:
    handle = of_run(run, await run.start(DraftWorkflow.run, "letter", label="closed"))
    await run.idle(handle, after="ActivityTaskCompleted")
    await handle.signal(DraftWorkflow.note, "first")
    await run.idle(handle, after="WorkflowExecutionSignaled")
    await handle.signal(DraftWorkflow.finish)
    run.expect("the result", await handle.result(), ["letter, reviewed", "first"])

    again = await reset(run, handle, "closed-again", point=2)
    run.expect("the result of the run that began again", await again.result(), ["letter, reviewed", "first"])
    run.say("a run that had ended began again, and had its signals")
    twice = await reset(run, again, "closed-twice", point=1)
    await run.idle(twice, after="ActivityTaskCompleted")
    run.expect("the result of the second", await twice.result(), ["letter, reviewed", "first"])
    run.say("a run that had begun again did so from its beginning")
    await refused(run, handle, 1, "Workflow task finish ID must be > 1 && <= workflow last event ID.")
    await refused(run, handle, 100, "Workflow task finish ID must be > 1 && <= workflow last event ID.")
    at = "Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]: 6"
    await refused(run, handle, 6, at)


async def refused(run: Scenario, handle: WorkflowHandle, finish: int, why: str) -> None:
    request = ResetWorkflowExecutionRequest(
        namespace=run.client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.run_id or ""),
        request_id=str(uuid.uuid4()),
        workflow_task_finish_event_id=finish,
    )
    try:
        await run.client.workflow_service.reset_workflow_execution(request)
        run.expect(f"a reset to event {finish}", "done", "refused")
    except RPCError as error:
        run.expect("why it is refused", (error.status, error.message), (RPCStatusCode.INVALID_ARGUMENT, why))


async def running(run: Scenario) -> None:
    handle = of_run(run, await run.start(DraftWorkflow.run, "poem", label="running"))
    await run.idle(handle, after="ActivityTaskCompleted")
    await handle.signal(DraftWorkflow.note, "first")
    await run.idle(handle, after="WorkflowExecutionSignaled")
    run.expect("the amendment", await handle.execute_update(DraftWorkflow.amend, "a line", id="line"), 2)
    await handle.signal(DraftWorkflow.note, "second")
    await run.idle(handle, after="WorkflowExecutionSignaled", count=2)

    again = await reset(run, handle, "running-again", point=1)
    await run.idle(again, after="ActivityTaskCompleted")
    run.expect("the amendment's outcome", await again.get_update_handle("line", result_type=int).result(), 2)
    await again.signal(DraftWorkflow.finish)
    notes = ["poem, reviewed", "first", "amended: a line", "second"]
    run.expect("the result", await again.result(), notes)
    run.say("signals and updates are applied again, in their order")


async def excluded(run: Scenario) -> None:
    handle = of_run(run, await run.start(DraftWorkflow.run, "note", label="excluded"))
    await run.idle(handle, after="ActivityTaskCompleted")
    await handle.signal(DraftWorkflow.note, "first")
    await run.idle(handle, after="WorkflowExecutionSignaled")
    without = [ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL]
    again = await reset(run, handle, "excluded-again", point=2, reset_reapply_exclude_types=without)
    await run.idle(again, after="WorkflowTaskCompleted", count=2)
    await again.signal(DraftWorkflow.finish)
    run.expect("the result without signals", await again.result(), ["note, reviewed"])


async def parent(run: Scenario) -> None:
    child_id = run.workflow_id("child")
    handle = of_run(run, await run.start(PublishWorkflow.run, child_id, label="parent"))
    await run.idle(handle, after="ChildWorkflowExecutionStarted")
    child = run.client.get_workflow_handle(child_id)
    await run.idle(child, after="WorkflowTaskCompleted")
    again = await reset(run, handle, "parent-again", point=2)
    await run.idle(again, after="WorkflowTaskCompleted", count=2)
    await child.signal(PrintWorkflow.dries)
    await run.idle(again, after="ChildWorkflowExecutionCompleted")
    await again.signal(PublishWorkflow.note, "out now")
    run.expect("the parent's result", await again.result(), ["printed", "out now"])
    run.say("a child reports to the run that began again")

    twice = await reset(run, again, "parent-twice", point=2)
    run.expect("the result with what became of the child", await twice.result(), ["printed", "out now"])


async def continued(run: Scenario) -> None:
    first = of_run(run, await run.start(EditionWorkflow.run, 1, label="edition"))
    await run.idle(first, after="WorkflowTaskCompleted")
    await first.signal(EditionWorkflow.note, "of the first")
    await run.idle(first, after="WorkflowExecutionContinuedAsNew")
    newest = run.client.get_workflow_handle(first.id)
    await run.idle(newest, after="WorkflowTaskCompleted")
    await newest.signal(EditionWorkflow.note, "of the second")
    run.expect("the result", await newest.result(), ["of the second"])

    again = await reset(run, first, "edition-again", point=1)
    await run.idle(again, after="WorkflowExecutionContinuedAsNew")
    await run.idle(newest, after="WorkflowTaskCompleted")
    await newest.signal(EditionWorkflow.note, "of the last")
    run.expect("the result of the last", await newest.result(), ["of the last"])
    run.say("the signals of the runs that followed are applied again too")


if __name__ == "__main__":
    play("resets", scenario)
