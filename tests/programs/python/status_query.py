"""A migration that is asked how far it is: while it runs, after it is completed, and with questions it can't answer.

Queries leave no trace in the history: the recorded one shows the signals only.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.client import WorkflowHandle, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.common import QueryRejectCondition
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play


@workflow.defn(name="Migration")
class MigrationWorkflow:
    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    @workflow.run
    async def run(self, tables: list[str]) -> int:
        await workflow.wait_condition(lambda: set(self.rows) == set(tables))
        return sum(self.rows.values())

    @workflow.signal
    def table_done(self, table: str, rows: int) -> None:
        self.rows[table] = rows

    @workflow.query
    def progress(self) -> dict[str, int]:
        return self.rows

    @workflow.query
    def rows_of(self, table: str) -> int:
        if table not in self.rows:
            raise ApplicationError(f"{table} is not migrated yet")
        return self.rows[table]


async def scenario(run: Scenario) -> None:
    async with Worker(run.client, task_queue=run.task_queue, workflows=[MigrationWorkflow]):
        handle = await run.start(MigrationWorkflow.run, ["users", "orders"], label="migration")
        await run.idle(handle, after="WorkflowTaskCompleted")
        run.expect("the progress at first", await handle.query(MigrationWorkflow.progress), {})

        await handle.signal(MigrationWorkflow.table_done, args=["users", 120])
        await run.idle(handle, after="WorkflowExecutionSignaled")
        run.expect("the progress half-way", await handle.query(MigrationWorkflow.progress), {"users": 120})
        run.expect("the rows of a table", await handle.query(MigrationWorkflow.rows_of, "users"), 120)
        run.say("half-way, it says that 120 users are migrated")

        await expect_query_failure(run, handle, "rows_of", "orders", message="orders is not migrated yet")
        await expect_query_failure(run, handle, "weather", message="weather")

        await handle.signal(MigrationWorkflow.table_done, args=["orders", 80])
        run.expect("the result", await handle.result(), 200)
        run.say("completed")

        progress = {"users": 120, "orders": 80}
        run.expect("the progress at the end", await handle.query(MigrationWorkflow.progress), progress)
        await expect_query_failure(run, handle, "rows_of", "invoices", message="invoices is not migrated yet")
        try:
            await handle.query(MigrationWorkflow.progress, reject_condition=QueryRejectCondition.NOT_OPEN)
            run.expect("a query for open workflows only", "answered", "rejected")
        except WorkflowQueryRejectedError:
            run.say("a query for open workflows only is rejected")

    # Another worker has nothing in its cache: to answer, it replays the history.
    async with Worker(run.client, task_queue=run.task_queue, workflows=[MigrationWorkflow]):
        run.expect("the progress after a replay", await handle.query(MigrationWorkflow.progress), progress)
        run.say("a new worker replays the completed workflow to answer")


async def expect_query_failure(run: Scenario, handle: WorkflowHandle, query: str, *args: str, message: str) -> None:
    """A query that fails reaches the caller as an error with the workflow's message, and harms nothing."""
    try:
        answer = await handle.query(query, args=args)
        run.expect(f"the query {query}{args}", answer, "an error")
    except WorkflowQueryFailedError as error:
        run.expect(f"whether the error names the reason ({error.message})", message in error.message, True)
        run.say(f"the query {query}{args} fails: {error.message.splitlines()[0][:80]}")


if __name__ == "__main__":
    play("status_query", scenario)
