"""New workflow code while old runs are open: `workflow.patched` keeps them on the path that they began.

A run begins under the first release and waits for its approval. Then the second release, which checks the address
before it waits, replaces the first. The open run replays without the check; a new run takes it.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import WorkflowHandle
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play

BRIEFLY = timedelta(seconds=10)


@activity.defn
async def check_name(customer: str) -> str:
    return f"name of {customer} checked"


@activity.defn
async def check_address(customer: str) -> str:
    return f"address of {customer} checked"


@workflow.defn(name="Onboarding")
class FirstRelease:
    def __init__(self) -> None:
        self.approved = False

    @workflow.run
    async def run(self, customer: str) -> list[str]:
        done = [await workflow.execute_activity(check_name, customer, start_to_close_timeout=BRIEFLY)]
        await workflow.wait_condition(lambda: self.approved)
        return done

    @workflow.signal
    def approve(self) -> None:
        self.approved = True


@workflow.defn(name="Onboarding")
class SecondRelease:
    def __init__(self) -> None:
        self.approved = False

    @workflow.run
    async def run(self, customer: str) -> list[str]:
        done = [await workflow.execute_activity(check_name, customer, start_to_close_timeout=BRIEFLY)]
        if workflow.patched("check-address"):
            done.append(await workflow.execute_activity(check_address, customer, start_to_close_timeout=BRIEFLY))
        await workflow.wait_condition(lambda: self.approved)
        return done

    @workflow.signal
    def approve(self) -> None:
        self.approved = True


async def scenario(run: Scenario) -> None:
    def worker(release: type) -> Worker:
        return Worker(
            run.client, task_queue=run.task_queue, workflows=[release], activities=[check_name, check_address]
        )

    async with worker(FirstRelease):
        old = await run.start(FirstRelease.run, "Grace", label="begun-before")
        await run.idle(old, after="ActivityTaskCompleted")
        run.say("first release: a run is begun and waits for its approval")

    async with worker(SecondRelease):
        run.say("second release: the code has changed")
        await expect_result(run, old, ["name of Grace checked"])
        run.say("  the open run was finished on its old path")

        new = await run.start(SecondRelease.run, "Linus", label="begun-after")
        await run.idle(new, after="ActivityTaskCompleted", count=2)
        await expect_result(run, new, ["name of Linus checked", "address of Linus checked"])
        run.say("  a new run took the new path")


async def expect_result(run: Scenario, handle: WorkflowHandle, expected: list[str]) -> None:
    await handle.signal("approve")
    run.expect(f"the result of {handle.id}", await handle.result(), expected)


if __name__ == "__main__":
    play("versioning", scenario)
