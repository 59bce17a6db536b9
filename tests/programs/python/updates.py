"""A basket that is filled by updates: each is checked before it is accepted, and its sender gets an answer.

A rejected update leaves nothing in the history. The recorded one shows the others: accepted and completed at once, accepted first
and completed once an activity is, and accepted by a basket that is closed before it has answered.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateStage,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play


@activity.defn
async def price_of(item: str) -> int:
    return 10 * len(item)


@workflow.defn(name="Basket")
class BasketWorkflow:
    def __init__(self) -> None:
        self.items: dict[str, int] = {}
        self.open = True

    @workflow.run
    async def run(self) -> dict[str, int]:
        await workflow.wait_condition(lambda: not self.open)
        return self.items

    @workflow.update
    def add(self, item: str, count: int) -> int:
        self.items[item] = self.items.get(item, 0) + count
        return sum(self.items.values())

    @add.validator
    def check_add(self, item: str, count: int) -> None:
        if count < 1:
            raise ApplicationError(f"{count} of {item} can't be added", type="Count")

    @workflow.update
    async def price(self, item: str) -> int:
        return await workflow.execute_activity(price_of, item, start_to_close_timeout=timedelta(seconds=10))

    @workflow.update
    async def remove(self, item: str) -> None:
        if item not in self.items:
            raise ApplicationError(f"there is no {item}", type="Missing")
        del self.items[item]

    @workflow.update
    async def never(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def close(self) -> None:
        self.open = False


async def scenario(run: Scenario) -> None:
    async with Worker(run.client, task_queue=run.task_queue, workflows=[BasketWorkflow], activities=[price_of]):
        handle = await run.start(BasketWorkflow.run, label="basket")
        await run.idle(handle, after="WorkflowTaskCompleted")

        await expect_failure(run, handle, BasketWorkflow.add, "cup", 0, error_type="Count")
        run.say("an update that is not valid is rejected")
        run.expect("the first sum", await handle.execute_update(BasketWorkflow.add, args=["cup", 2], id="two"), 2)
        run.expect("the same again", await handle.execute_update(BasketWorkflow.add, args=["cup", 9], id="two"), 2)
        run.say("an update of the same id is the same update")
        await expect_failure(run, handle, BasketWorkflow.remove, "plate", error_type="Missing")
        run.say("an update that is accepted may fail")

        priced = await handle.start_update(
            BasketWorkflow.price, "cup", wait_for_stage=WorkflowUpdateStage.ACCEPTED, id="price"
        )
        run.expect("the price", await priced.result(), 30)
        await run.idle(handle, after="WorkflowExecutionUpdateCompleted", count=3)
        run.say("an update waits for an activity")

        start = WithStartWorkflowOperation(
            BasketWorkflow.run,
            id=handle.id,
            task_queue=run.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        total = await run.client.execute_update_with_start_workflow(
            BasketWorkflow.add, args=["plate", 3], start_workflow_operation=start, id="three"
        )
        run.expect("the sum with start", total, 5)

        never = await handle.start_update(BasketWorkflow.never, wait_for_stage=WorkflowUpdateStage.ACCEPTED, id="never")
        await run.idle(handle, after="WorkflowExecutionUpdateAccepted", count=5)
        await handle.signal(BasketWorkflow.close)
        run.expect("the basket", await handle.result(), {"cup": 2, "plate": 3})
        await expect_type(run, never.result(), "AcceptedUpdateCompletedWorkflow")
        run.say("an update that was not completed fails with the end of its workflow")

        again = handle.get_update_handle("two", result_type=int)
        run.expect("an outcome after the end", await again.result(), 2)
        try:
            await handle.execute_update(BasketWorkflow.add, args=["cup", 1])
            run.expect("an update of a closed workflow", "accepted", "refused")
        except RPCError as error:
            run.expect("why it is refused", error.status, RPCStatusCode.NOT_FOUND)

        start = WithStartWorkflowOperation(
            BasketWorkflow.run,
            id=run.workflow_id("started"),
            task_queue=run.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
        )
        total = await run.client.execute_update_with_start_workflow(
            BasketWorkflow.add, args=["jug", 1], start_workflow_operation=start, id="first"
        )
        run.expect("the sum of the new basket", total, 1)
        started = await start.workflow_handle()
        run.compare("started", started.id, started.first_execution_run_id or "")
        await started.signal(BasketWorkflow.close)
        run.expect("the new basket", await started.result(), {"jug": 1})
        run.say("an update starts its workflow")


async def expect_failure(run: Scenario, handle: WorkflowHandle, update, *args, error_type: str) -> None:
    await expect_type(run, handle.execute_update(update, args=args), error_type)


async def expect_type(run: Scenario, answer, error_type: str) -> None:
    """An update that is rejected, or fails, reaches its sender as the workflow's error."""
    try:
        run.expect("the answer", await answer, "an error")
    except WorkflowUpdateFailedError as error:
        run.expect("the error's type", getattr(error.cause, "type", None), error_type)


if __name__ == "__main__":
    play("updates", scenario)
