"""A large file read line by line: the process that reads it is killed, and the next one goes on where it was.

The activity reports each line in a heartbeat. After the kill nothing is heard of it, so its heartbeat time-out passes
and the server tries again; the new attempt is given the details of the last heartbeat and starts behind them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play

FILE = "readings.csv"
LINES = 100
STALLED_AT = 40
HEARTBEAT_TIMEOUT = timedelta(seconds=2)


@dataclass
class Report:
    total: int
    lines_skipped: int
    attempt: int


@dataclass
class Files:
    """Reads files of a directory. The disk may stall at a line for ever, which is when the process gets killed."""

    directory: Path
    stall_at: int = 0

    @activity.defn
    async def sum_up(self, name: str) -> Report:
        done, total = activity.info().heartbeat_details or (0, 0)
        skipped = done
        for number, line in enumerate((self.directory / name).read_text().splitlines(), start=1):
            if number <= skipped:
                continue
            total += int(line)
            activity.heartbeat(number, total)
            await asyncio.sleep(0.005)
            if number == self.stall_at:
                await asyncio.sleep(60 * 60)
        return Report(total, lines_skipped=skipped, attempt=activity.info().attempt)


@workflow.defn(name="LargeFile")
class LargeFileWorkflow:
    @workflow.run
    async def run(self, name: str, file_queue: str) -> Report:
        return await workflow.execute_activity_method(
            Files.sum_up,
            name,
            task_queue=file_queue,
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100)),
        )


async def scenario(run: Scenario) -> None:
    if run.options.read_files_in:
        await read_files(run)
        return
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, FILE).write_text("".join(f"{number}\n" for number in range(1, LINES + 1)))
        async with Worker(run.client, task_queue=run.task_queue, workflows=[LargeFileWorkflow]):
            handle = await run.start(LargeFileWorkflow.run, FILE, file_queue(run), label="large-file")

            async with file_reader(run, directory, stall_at=STALLED_AT) as process:
                await heartbeat_of(run, handle, [STALLED_AT, sum(range(STALLED_AT + 1))])
                run.say(f"  process {process.pid} has read {STALLED_AT} of {LINES} lines: killing it")
                process.kill()
                await process.wait()

            run.say(f"  nothing is heard of it: the heartbeat time-out passes in {HEARTBEAT_TIMEOUT.seconds} s")
            async with file_reader(run, directory) as process:
                report = await handle.result()
                run.say(f"  process {process.pid} skipped {report.lines_skipped} lines and finished")

    run.expect("the report", report, Report(sum(range(LINES + 1)), lines_skipped=STALLED_AT, attempt=2))


async def heartbeat_of(run: Scenario, handle: WorkflowHandle, expected: list[int]) -> None:
    """Waits until the server has the heartbeat of the last line that the stalled process reads."""

    async def arrived() -> bool:
        pending = (await handle.describe()).raw_description.pending_activities
        if not pending or not pending[0].HasField("heartbeat_details"):
            return False
        details = await run.client.data_converter.decode(pending[0].heartbeat_details.payloads)
        return details == expected

    await run.until(f"the heartbeat {expected}", arrived)


@contextlib.asynccontextmanager
async def file_reader(run: Scenario, directory: str, stall_at: int = 0) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of its own with a worker for the activity only."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__,
        "--address", run.options.address, "--namespace", run.options.namespace, "--id-prefix", run.options.id_prefix,
        "--read-files-in", directory, "--stall-at", str(stall_at),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def read_files(run: Scenario) -> None:
    """What the process of `file_reader` does, until it is killed."""
    files = Files(Path(run.options.read_files_in), run.options.stall_at)
    await Worker(
        run.client,
        task_queue=file_queue(run),
        activities=[files.sum_up],
        # The server should know of every line soon, so send heartbeats more often than the time-out asks for.
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    ).run()


def file_queue(run: Scenario) -> str:
    return f"{run.task_queue}-files"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--read-files-in", metavar="DIRECTORY", help=argparse.SUPPRESS)
    parser.add_argument("--stall-at", type=int, default=0, help=argparse.SUPPRESS)


if __name__ == "__main__":
    play("large_file", scenario, add_flags=add_flags)
