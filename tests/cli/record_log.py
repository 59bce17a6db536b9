#!/usr/bin/env python3
"""Records the log of one release, for later ones to decide again: a story with something of everything, told to a server on an
embedded log that is killed in the middle.

    record_log.py --binary millrace --directory DIRECTORY [--programs-go BINARY]

The log as the kill left it stands in DIRECTORY/middle then, and as it was in the end in DIRECTORY/end. What becomes of them:
tests/simulation/recorded.rs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker

from server import Failure, Server, end_on_sigterm
from topic_api import Mailing, Order, Story, settings

HERE = Path(__file__).resolve().parent
NAMES = {name: name for name in ("replies", "orders", "payments")}
QUEUE = "everything"
QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=4)
ONCE = RetryPolicy(maximum_attempts=1)


@activity.defn
async def flaky(text: str) -> str:
    if activity.info().attempt < 3:
        raise ApplicationError(f"attempt {activity.info().attempt}", {"of": text}, type="Flaky")
    return text.upper()


@activity.defn
async def beats() -> str:
    while True:
        activity.heartbeat("still here")
        await asyncio.sleep(0.1)


@activity.defn
async def stuck() -> None:
    await asyncio.sleep(30)


@workflow.defn(sandboxed=False)
class Child:
    @workflow.run
    async def run(self, how: str) -> str:
        if how == "fails":
            raise ApplicationError("as it was told to", type="Told")
        if how == "waits":
            await workflow.wait_condition(lambda: False)
        return how


@workflow.defn(sandboxed=False)
class Everything:
    """Activities that are retried, time out and are canceled; timers; children; continue-as-new."""

    @workflow.run
    async def run(self, round: int) -> str:
        said = await workflow.execute_activity(flaky, "hello", start_to_close_timeout=timedelta(seconds=20), retry_policy=QUICK)
        late = workflow.start_activity(stuck, start_to_close_timeout=timedelta(seconds=1), retry_policy=ONCE)
        beating = workflow.start_activity(
            beats, start_to_close_timeout=timedelta(seconds=20), heartbeat_timeout=timedelta(seconds=5),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )  # fmt: skip
        alarm = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0.3)
        alarm.cancel()
        beating.cancel()
        id, close = workflow.info().workflow_id, workflow.ParentClosePolicy
        await workflow.execute_child_workflow(Child.run, "ends", id=f"{id}-ends-{round}")
        for what in (
            workflow.execute_child_workflow(Child.run, "fails", id=f"{id}-fails-{round}"),
            workflow.execute_child_workflow(Child.run, "ends", id="taken"),
            late,
            beating,
        ):
            try:
                await what
            except Exception as error:
                said += f", {type(error).__name__}"
        for policy in (close.TERMINATE, close.REQUEST_CANCEL, close.ABANDON):
            await workflow.start_child_workflow(Child.run, "waits", id=f"{id}-{policy.name}-{round}", parent_close_policy=policy)
        for other in ("waiting", "nobody"):
            try:
                await workflow.get_external_workflow_handle(other).signal("add", f"from {id}")
            except Exception as error:
                said += f", {type(error).__name__}"
        try:
            await workflow.get_external_workflow_handle("to-cancel").cancel()
        except Exception as error:
            said += f", {type(error).__name__}"
        if round < 2:
            workflow.continue_as_new(round + 1)
        return said


@workflow.defn(sandboxed=False)
class Waiting:
    """Receives signals, some of them while its code runs, and one task of it fails."""

    failed = False

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.done = False

    @workflow.run
    async def run(self, name: str) -> list[str]:
        if name == "clumsy" and not Waiting.failed:
            Waiting.failed = True
            raise RuntimeError("this fails the task, not the workflow")
        if name == "busy":
            time.sleep(0.8)
        await workflow.wait_condition(lambda: self.done)
        return self.heard

    @workflow.signal
    def add(self, text: str) -> None:
        self.heard.append(text)

    @workflow.signal
    def finish(self) -> None:
        self.done = True

    @workflow.query
    def count(self) -> int:
        return len(self.heard)


@workflow.defn(sandboxed=False)
class Hopeless:
    @workflow.run
    async def run(self) -> None:
        raise ApplicationError(f"attempt {workflow.info().attempt}")


async def before(client: Client, story: Story, server: Server) -> None:
    """Up to the kill, in the middle of much that is under way."""
    start = client.start_workflow
    await start(Child.run, "waits", id="taken", task_queue=QUEUE)
    await start(Child.run, "waits", id="to-cancel", task_queue=QUEUE)
    await start(Waiting.run, "waiting", id="waiting", task_queue=QUEUE, memo={"a": 1})
    await start(Hopeless.run, id="hopeless", task_queue=QUEUE, retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=3))
    await start(Child.run, "ends", id="cron", task_queue=QUEUE, cron_schedule="@every 1s")
    await start(Child.run, "waits", id="timed-out", task_queue=QUEUE, run_timeout=timedelta(seconds=1))
    await start(Child.run, "ends", id="delayed", task_queue=QUEUE, start_delay=timedelta(seconds=1))
    busy = await start(Waiting.run, "busy", id="busy", task_queue=QUEUE, start_signal="add", start_signal_args=["first"])
    clumsy = await start(Waiting.run, "clumsy", id="clumsy", task_queue=QUEUE)
    await asyncio.sleep(0.3)
    for number in range(5):
        await busy.signal(Waiting.add, f"while it is busy: {number}")
    for handle in (busy, clumsy):
        await handle.signal(Waiting.finish)
        print(await handle.result())
    for number in range(4):
        await start(Everything.run, 1, id=f"everything-{number}", task_queue=QUEUE)
    again = {"id": "taken", "task_queue": QUEUE}
    for refused in (
        start(Child.run, "waits", **again),
        start(Child.run, "ends", id="busy", task_queue=QUEUE, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE),
        client.get_workflow_handle("nobody").signal("add", "x"),
        client.get_workflow_handle("nobody").cancel(),
    ):
        await expect_refusal(refused)
    await client.get_workflow_handle("busy").cancel()
    await start(Child.run, "waits", id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING, **again)
    await client.get_workflow_handle("taken").terminate("enough")
    await asyncio.to_thread(story.answers_once)
    await asyncio.to_thread(story.subscribed)
    await asyncio.sleep(1.5)
    print(f"{await client.get_workflow_handle('waiting').query(Waiting.count)} signals")
    # Busy to the last moment.
    await asyncio.gather(*(start(Everything.run, 1, id=f"late-{number}", task_queue=QUEUE) for number in range(8)))


async def after(client: Client, story: Story) -> None:
    for number in range(4):
        print(await client.get_workflow_handle(f"everything-{number}").result())
    for number in range(8):
        await client.get_workflow_handle(f"late-{number}").result()
    await client.get_workflow_handle("cron").terminate("that is often enough")
    for name in ("hopeless", "timed-out"):
        try:
            await client.get_workflow_handle(name).result()
        except WorkflowFailureError as error:
            print(f"{name}: {error.cause!r}")
    await asyncio.to_thread(story.cancellation)
    await asyncio.to_thread(story.not_retried)
    for garbage in (b"no request", b'{"start": {"workflow_id": "x"}}', b'{"complete_activity": {"task_token": "bm9uZQ=="}}'):
        await asyncio.to_thread(story.server.produce, "requests", "garbage", garbage)
    for name in ("busy", "delayed", "everything-0"):
        execution = WorkflowExecution(workflow_id=name)
        await client.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(namespace="default", workflow_execution=execution)
        )
    await client.start_workflow(Child.run, "ends", id="busy", task_queue=QUEUE)
    await asyncio.sleep(1.5)


async def expect_refusal(refused: Any) -> None:
    try:
        await refused
    except Exception as error:
        print(f"refused: {error}")
    else:
        raise Failure("Expected a refusal")


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the millrace to record")
    parser.add_argument("--directory", required=True, type=Path, help="where its log goes; must not exist yet")
    parser.add_argument("--programs-go", help="play the programs in Go too")
    options = parser.parse_args()
    end_on_sigterm()

    options.directory.mkdir(parents=True)
    config = options.directory / "millrace.toml"
    config.write_text(settings(NAMES))
    server = Server(options.binary, options.directory, config=config)
    log = server.data / "log"
    try:
        server.start()
        server.wait_until_ready()
        story = Story(server, NAMES)
        client = await Client.connect(server.address)

        def workers() -> list[Worker]:
            told = Worker(client, task_queue=QUEUE, workflows=[Everything, Waiting, Child, Hopeless], activities=[flaky, beats, stuck])
            return [told, *(Worker(client, task_queue=queue, workflows=[Mailing, Order]) for queue in (story.queue, "subscribed"))]

        async with asyncio.TaskGroup() as group:
            running = workers()
            tasks = [group.create_task(worker.run()) for worker in running]
            await before(client, story, server)
            server.kill()
            shutil.copytree(log, options.directory / "middle")
            server.start()
            await asyncio.to_thread(server.wait_until_ready)

            def kill() -> None:
                server.kill()
                server.start()
                server.wait_until_ready()

            await asyncio.to_thread(story.activity, kill)
            await after(client, story)
            if options.programs_go:
                for program in ("greeting", "reminders", "kyc"):
                    command = [options.programs_go, program, "--address", server.address]
                    await asyncio.to_thread(subprocess.run, command, check=True)
            for worker in running:
                await worker.shutdown()
            await asyncio.gather(*tasks)
        server.stop()
        shutil.copytree(log, options.directory / "end")
    finally:
        server.kill()
    print(f"{options.directory}/middle and {options.directory}/end are there")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
