"""A trip booked as a saga: when the car can't be had, what was booked before is cancelled in reverse.

The missing car is an error of a type that the retry policy names as not worth retrying, so it fails at once.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play

BRIEFLY = timedelta(seconds=10)
NO_CAR = "NoCarLeft"


class Agency:
    def __init__(self, run: Scenario) -> None:
        self.run = run
        self.ledger: list[str] = []

    def note(self, entry: str) -> None:
        self.run.say(f"  {entry}")
        self.ledger.append(entry)

    @activity.defn
    async def book(self, what: str) -> None:
        if what == "car":
            self.note("no car left")
            raise ApplicationError("no car left in Porto", "compact", type=NO_CAR)
        self.note(f"book {what}")

    @activity.defn
    async def cancel(self, what: str) -> None:
        self.note(f"cancel {what}")


@workflow.defn(name="Trip")
class TripWorkflow:
    @workflow.run
    async def run(self, steps: list[str]) -> None:
        booked: list[str] = []
        try:
            for step in steps:
                await workflow.execute_activity_method(
                    Agency.book,
                    step,
                    start_to_close_timeout=BRIEFLY,
                    retry_policy=RetryPolicy(non_retryable_error_types=[NO_CAR]),
                )
                booked.append(step)
        except ActivityError:
            for step in reversed(booked):
                await workflow.execute_activity_method(Agency.cancel, step, start_to_close_timeout=BRIEFLY)
            raise


async def scenario(run: Scenario) -> None:
    agency = Agency(run)
    async with Worker(
        run.client, task_queue=run.task_queue, workflows=[TripWorkflow], activities=[agency.book, agency.cancel]
    ):
        handle = await run.start(TripWorkflow.run, ["flight", "hotel", "car"], label="trip")
        cause = await root_cause(handle)

    found = cause and (cause.type, cause.message, list(cause.details))
    run.expect("the root cause", found, (NO_CAR, "no car left in Porto", ["compact"]))
    run.expect(
        "the ledger",
        agency.ledger,
        ["book flight", "book hotel", "no car left", "cancel hotel", "cancel flight"],
    )
    run.expect("the execution's state", (await handle.describe()).status, WorkflowExecutionStatus.FAILED)


async def root_cause(handle: WorkflowHandle) -> ApplicationError | None:
    """The activity's own error, for which the workflow failed."""
    try:
        await handle.result()
    except WorkflowFailureError as failure:
        if isinstance(failure.cause, ActivityError) and isinstance(failure.cause.cause, ApplicationError):
            return failure.cause.cause
    return None


if __name__ == "__main__":
    play("saga", scenario)
