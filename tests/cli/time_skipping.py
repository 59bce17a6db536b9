#!/usr/bin/env python3
"""Tests workflows as users do with the Python SDK's time-skipping environment, on a server that the SDK starts by its path.

The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    WorkflowFailureError,
)
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, TimeoutError as TemporalTimeout
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from server import Checks, expect

ATTEMPTS: list[int] = []


@activity.defn
async def remind(name: str) -> str:
    await asyncio.sleep(1)
    return f"{name} was reminded"


@activity.defn
async def knock() -> int:
    ATTEMPTS.append(1)
    if len(ATTEMPTS) < 4:
        raise ApplicationError("nobody is at home")
    return len(ATTEMPTS)


@activity.defn
async def hang() -> None:
    await asyncio.sleep(3600)


@workflow.defn(sandboxed=False)
class Reminder:
    """Sleeps for a year, and then does something that takes time."""

    @workflow.run
    async def run(self, name: str) -> str:
        await asyncio.sleep(365 * 24 * 3600)
        return await workflow.execute_activity(remind, name, start_to_close_timeout=timedelta(minutes=1))


@workflow.defn(sandboxed=False)
class Visit:
    """Tries again in a day, and in two, and in four."""

    @workflow.run
    async def run(self) -> int:
        policy = RetryPolicy(initial_interval=timedelta(days=1), maximum_interval=timedelta(days=30))
        return await workflow.execute_activity(knock, start_to_close_timeout=timedelta(minutes=1), retry_policy=policy)


@workflow.defn(sandboxed=False)
class Order:
    """Waits for its payment for a week."""

    def __init__(self) -> None:
        self.paid = False

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.wait_condition(lambda: self.paid, timeout=timedelta(days=7))
        except asyncio.TimeoutError:
            return f"cancelled on {workflow.now():%A}"
        return f"paid on {workflow.now():%A}"

    @workflow.signal
    def pay(self) -> None:
        self.paid = True


@workflow.defn(sandboxed=False)
class Stuck:
    @workflow.run
    async def run(self) -> None:
        policy = RetryPolicy(maximum_attempts=1)
        await workflow.execute_activity(hang, start_to_close_timeout=timedelta(seconds=2), retry_policy=policy)


@workflow.defn(sandboxed=False)
class Parent:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_child_workflow(Reminder.run, "the child", id=f"{workflow.info().workflow_id}-child")


@workflow.defn(sandboxed=False)
class Tick:
    @workflow.run
    async def run(self) -> str:
        await asyncio.sleep(60)
        return str(workflow.now())


class Story:
    def __init__(self, environment: WorkflowEnvironment, task_queue: str) -> None:
        self.environment = environment
        self.client: Client = environment.client
        self.task_queue = task_queue

    def id(self, name: str) -> str:
        return f"{self.task_queue}-{name}"

    async def a_year_of_sleep(self) -> None:
        before = await self.environment.get_current_time()
        result = await self.client.execute_workflow(Reminder.run, "Ada", id=self.id("year"), task_queue=self.task_queue)
        expect("the result", result, "Ada was reminded")
        passed = await self.environment.get_current_time() - before
        expect("whether a year has passed", timedelta(days=365) <= passed < timedelta(days=366), True)

    async def retries_after_days(self) -> None:
        before = await self.environment.get_current_time()
        expect("the attempts", await self.client.execute_workflow(Visit.run, id=self.id("visit"), task_queue=self.task_queue), 4)
        days = (await self.environment.get_current_time() - before).days
        expect("the days that have passed", days, 7)

    async def a_timeout_and_a_signal(self) -> None:
        late = await self.client.execute_workflow(Order.run, id=self.id("late"), task_queue=self.task_queue)
        expect("the result", late.startswith("cancelled"), True)
        handle = await self.client.start_workflow(Order.run, id=self.id("in-time"), task_queue=self.task_queue)
        before = await self.environment.get_current_time()
        await self.environment.sleep(timedelta(days=3))
        passed = await self.environment.get_current_time() - before
        expect("whether three days have passed", timedelta(days=3) <= passed < timedelta(days=3, seconds=5), True)
        await handle.signal(Order.pay)
        expect("the result", (await handle.result()).startswith("paid"), True)

    async def children(self) -> None:
        result = await self.client.execute_workflow(Parent.run, id=self.id("parent"), task_queue=self.task_queue)
        expect("the result", result, "the child was reminded")

    async def time_is_locked_while_an_activity_runs(self) -> None:
        begun = time.monotonic()
        try:
            await self.client.execute_workflow(Stuck.run, id=self.id("stuck"), task_queue=self.task_queue)
            raise AssertionError("the activity did not time out")
        except WorkflowFailureError as error:
            expect("the cause", type(error.cause.__cause__), TemporalTimeout)
        expect("whether its timeout took real time", time.monotonic() - begun > 1.5, True)

    async def time_stands_where_nobody_waits(self) -> None:
        handle = await self.client.start_workflow(Reminder.run, "Bob", id=self.id("nobody"), task_queue=self.task_queue)
        before = await self.environment.get_current_time()
        await asyncio.sleep(1)
        passed = await self.environment.get_current_time() - before
        expect("the seconds that have passed", passed.total_seconds() < 3, True)
        with self.environment.auto_time_skipping_disabled():
            try:
                await asyncio.wait_for(handle.result(), 1)
                raise AssertionError("time was skipped")
            except asyncio.TimeoutError:
                pass
        expect("the result", await handle.result(), "Bob was reminded")

    async def a_schedule(self) -> None:
        action = ScheduleActionStartWorkflow(Tick.run, id=self.id("tick"), task_queue=self.task_queue)
        schedule = Schedule(
            action=action,
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=73))]),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
        )
        handle = await self.client.create_schedule(self.id("schedule"), schedule)
        before = await self.environment.get_current_time()
        await self.environment.sleep(timedelta(days=365))
        described = await handle.describe()
        expect("the number of actions", described.info.num_actions, 5)
        expect("the actions that were skipped", described.info.num_actions_skipped_overlap, 0)
        gaps = [b.started_at - a.started_at for a, b in zip(described.info.recent_actions, described.info.recent_actions[1:])]
        expect("whether they are evenly apart", all(abs(gap - timedelta(days=73)) < timedelta(minutes=5) for gap in gaps), True)
        expect("the days that have passed", (await self.environment.get_current_time() - before).days, 365)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True, help="the server's")
    options = parser.parse_args()
    # Activities that fail are a part of the story.
    logging.getLogger("temporalio").setLevel(logging.ERROR)
    checks = Checks()
    task_queue = f"time-{secrets.token_hex(4)}"
    workflows = [Reminder, Visit, Order, Stuck, Parent, Tick]
    async with await WorkflowEnvironment.start_time_skipping(test_server_existing_path=str(options.binary.resolve())) as environment:
        story = Story(environment, task_queue)
        steps: list[Callable[[], Awaitable[None]]] = [
            story.a_year_of_sleep,
            story.retries_after_days,
            story.a_timeout_and_a_signal,
            story.children,
            story.time_is_locked_while_an_activity_runs,
            story.time_stands_where_nobody_waits,
            story.a_schedule,
        ]
        async with Worker(environment.client, task_queue=task_queue, workflows=workflows, activities=[remind, knock, hang]):
            for step in steps:
                with checks.check(f"time skipping: {step.__name__.replace('_', ' ')}"):
                    await asyncio.wait_for(step(), 60)
    print(checks.closing_line())
    return 1 if checks.failed else 0


if __name__ == "__main__":
    code = asyncio.run(main())
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
