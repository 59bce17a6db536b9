"""The frame around every program: flags, connection, narration, checks, and the closing line of JSON.

A program is a module with workflows, activities and one `async def scenario(run: Scenario)`. It starts its own workers,
so it needs nothing but the address of a server. What it prints on stderr is for people; the last line on stdout names
the executions whose histories can be compared with a recording.

A program never sleeps to be lucky. Wherever two things could happen in either order, it waits with `Scenario.idle`
until the server shows that the first one is done, so that exactly one history is legal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

LANGUAGE = "python"
POLL_INTERVAL_SECONDS = 0.02


class Unexpected(Exception):
    """What the server did is not what the program expects."""


class Scenario:
    """One run of a program: its connection, its names and the executions that it has started."""

    def __init__(self, name: str, client: Client, options: argparse.Namespace) -> None:
        self.name = name
        self.client = client
        self.options = options
        self.task_queue = options.id_prefix
        self.waiting_for = ""
        self._executions: list[dict[str, str]] = []
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Tells the user what is happening."""
        print(f"{time.monotonic() - self._began:6.2f} s  {text}", file=sys.stderr, flush=True)

    def workflow_id(self, suffix: str) -> str:
        return f"{self.options.id_prefix}-{suffix}"

    async def start(self, workflow: Any, *args: Any, label: str, **options: Any) -> WorkflowHandle[Any, Any]:
        """Starts a workflow on the program's task queue, replacing what an interrupted run may have left behind."""
        handle = await self.client.start_workflow(
            workflow,
            args=args,
            id=self.workflow_id(label),
            task_queue=self.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
            **options,
        )
        assert handle.first_execution_run_id, "a started workflow has a run id"
        self.compare(label, handle.id, handle.first_execution_run_id)
        return handle

    def compare(self, label: str, workflow_id: str, run_id: str) -> None:
        """Adds an execution to those whose histories are compared."""
        self._executions.append({"label": label, "workflow_id": workflow_id, "run_id": run_id})

    def expect(self, what: str, actual: Any, expected: Any) -> None:
        if actual != expected:
            raise Unexpected(f"Expected {what} to be {expected!r}, but it is {actual!r}")

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        """Polls until the condition holds. Only the program's overall time-out ends the wait."""
        self.waiting_for = what
        while not await condition():
            await asyncio.sleep(POLL_INTERVAL_SECONDS)
        self.waiting_for = ""

    async def idle(self, handle: WorkflowHandle[Any, Any], *, after: str, count: int = 1) -> None:
        """Waits until the history holds `count` events of type `after` and no workflow task is pending.

        The order of the two reads matters: an event is written together with the workflow task that it causes, so a
        description taken after the event was seen shows no pending task only if that task is completed.
        """
        event_type = EventType.Value(_event_type_name(after))

        async def condition() -> bool:
            history = await handle.fetch_history()
            if sum(event.event_type == event_type for event in history.events) < count:
                return False
            description = await handle.describe()
            return not description.raw_description.HasField("pending_workflow_task")

        await self.until(f"{handle.id} to be idle after {count} × {after}", condition)

    def closing_line(self) -> str:
        return json.dumps({"program": f"{LANGUAGE}/{self.name}", "executions": self._executions})


def play(
    name: str,
    scenario: Callable[[Scenario], Awaitable[None]],
    *,
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda _: None,
    timeout_seconds: Callable[[argparse.Namespace], float] = lambda _: 60.0,
) -> None:
    """Runs a program from its command line and exits: 0 if everything was as expected."""
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=sys.modules["__main__"].__doc__)
    parser.add_argument("--address", default="127.0.0.1:7233", help="host:port of the server (default: %(default)s)")
    parser.add_argument("--namespace", default="default", help="default: %(default)s")
    parser.add_argument(
        "--id-prefix",
        default=f"{LANGUAGE}-{name.replace('_', '-')}",
        help="workflow ids begin with it, and it names the task queue (default: %(default)s)",
    )
    add_flags(parser)
    options = parser.parse_args()
    # Failing activities are part of the story here: the narration tells of them, not the SDK's log.
    logging.getLogger("temporalio").setLevel(logging.ERROR)
    code = asyncio.run(_play(name, scenario, options, timeout_seconds(options)))
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _play(
    name: str, scenario: Callable[[Scenario], Awaitable[None]], options: argparse.Namespace, timeout_seconds: float
) -> int:
    try:
        client = await asyncio.wait_for(Client.connect(options.address, namespace=options.namespace), 10)
    except (RuntimeError, TimeoutError) as error:
        print(f"Expected a server at {options.address}, but could not connect: {error}", file=sys.stderr)
        return 2
    run = Scenario(name, client, options)
    try:
        await asyncio.wait_for(scenario(run), timeout_seconds)
    except Unexpected as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except TimeoutError:
        waiting_for = f", waiting for {run.waiting_for}" if run.waiting_for else ""
        print(f"{name}: Expected to be done in {timeout_seconds:.0f} s, but is not{waiting_for}", file=sys.stderr)
        return 1
    except (Exception, asyncio.CancelledError):
        # A worker that fails cancels the scenario, so what is to blame may be further up in the traceback.
        traceback.print_exc()
        print(f"{name}: Expected no such error", file=sys.stderr)
        return 1
    run.say("done, all as expected")
    print(run.closing_line(), flush=True)
    return 0


def _event_type_name(camel_case: str) -> str:
    words = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in camel_case)
    return f"EVENT_TYPE{words}"
