#!/usr/bin/env python3
"""Applies a batch to many workflows while its server is killed again and again: each is signaled once, and the batch goes on where it was.

The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path

from temporalio.api.batch.v1 import BatchOperationDeletion, BatchOperationSignal, BatchOperationTermination
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import BatchOperationState, EventType
from temporalio.api.workflowservice import v1 as service
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from server import Checks, Failure, Server, end_on_sigterm, expect, kept_if_failed, wait_until

WORKFLOWS = 1500
PER_SECOND = 300
"""So that the batch takes some seconds, in which the server is killed."""
KILLED_AFTER_SECONDS = (0.3, 1.2, 0.8)
AT_ONCE = 50
NAMESPACE = "default"
WAIT_SECONDS_MAX = 90.0
until = partial(wait_until, WAIT_SECONDS_MAX)


class Batches:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.prefix = f"batch-{secrets.token_hex(4)}-"
        self.ids = [f"{self.prefix}{number}" for number in range(WORKFLOWS)]
        self.query = f'WorkflowId STARTS_WITH "{self.prefix}"'

    async def client(self) -> Client:
        return await Client.connect(self.server.address, namespace=NAMESPACE)

    async def start_workflows(self) -> None:
        client = await self.client()
        await each(self.ids, lambda workflow_id: client.start_workflow("Waits", id=workflow_id, task_queue="nobody-polls-it"))

        async def listed() -> bool:
            return (await client.count_workflows(self.query)).count == WORKFLOWS

        await until("all workflows to be listed", listed)

    async def describe(self, job_id: str) -> service.DescribeBatchOperationResponse:
        request = service.DescribeBatchOperationRequest(namespace=NAMESPACE, job_id=job_id)
        client = await self.client()
        return await client.workflow_service.describe_batch_operation(request)

    async def start(self, request: service.StartBatchOperationRequest) -> None:
        client = await self.client()

        async def started() -> bool:
            try:
                await client.workflow_service.start_batch_operation(request)
            except RPCError as error:
                # A new cluster has batches once its nodes have announced that they know them, and runs one at a time.
                if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.RESOURCE_EXHAUSTED):
                    return False
                raise
            return True

        await until("the batch to be started", started)

    async def completed(self, job_id: str) -> service.DescribeBatchOperationResponse:
        async def closed() -> bool:
            return (await self.describe(job_id)).state != BatchOperationState.BATCH_OPERATION_STATE_RUNNING

        await until("the batch to end", closed)
        described = await self.describe(job_id)
        expect("its state", BatchOperationState.Name(described.state), "BATCH_OPERATION_STATE_COMPLETED")
        return described

    async def signals_through_crashes(self) -> None:
        request = service.StartBatchOperationRequest(
            namespace=NAMESPACE, job_id=f"{self.prefix}signals", reason="a test", visibility_query=self.query,
            max_operations_per_second=PER_SECOND, signal_operation=BatchOperationSignal(signal="wake", identity="batches"),
        )  # fmt: skip
        await self.start(request)
        before = 0
        for seconds in KILLED_AFTER_SECONDS:
            await asyncio.sleep(seconds)
            self.server.kill()
            self.server.start()
            self.server.wait_until_ready()
            described = await self.describe(request.job_id)
            expect("whether what was done is known", described.complete_operation_count >= before, True)
            before = described.complete_operation_count
        if before == WORKFLOWS:
            raise Failure("The batch was done before the server was killed for the last time")
        described = await self.completed(request.job_id)
        counts = (described.total_operation_count, described.complete_operation_count, described.failure_operation_count)
        expect("the counts", counts, (WORKFLOWS, WORKFLOWS, 0))
        client = await self.client()
        signals: Counter[int] = Counter()

        async def count(workflow_id: str) -> None:
            history = await client.get_workflow_handle(workflow_id).fetch_history()
            signals[sum(event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED for event in history.events)] += 1

        await each(self.ids, count)
        expect("how many workflows have how many signals", dict(signals), {1: WORKFLOWS})

    async def named_executions(self) -> None:
        client = await self.client()
        closed, nobody = self.ids[0], f"{self.prefix}nobody"
        await client.get_workflow_handle(closed).terminate()
        request = service.StartBatchOperationRequest(
            namespace=NAMESPACE, job_id=f"{self.prefix}ends", reason="enough", termination_operation=BatchOperationTermination(identity="batches"),
            executions=[WorkflowExecution(workflow_id=workflow_id) for workflow_id in [*self.ids, nobody]],
        )  # fmt: skip
        await self.start(request)
        described = await self.completed(request.job_id)
        counts = (described.total_operation_count, described.complete_operation_count, described.failure_operation_count)
        expect("the counts, of which what is not there needs nothing", counts, (WORKFLOWS + 1, WORKFLOWS + 1, 0))
        expect("the executions", len(described.executions), WORKFLOWS + 1)

        async def none_runs() -> bool:
            return (await client.count_workflows(f'{self.query} AND ExecutionStatus = "Running"')).count == 0

        await until("no workflow to run", none_runs)

        async def taken() -> bool:
            try:
                await client.workflow_service.start_batch_operation(request)
            except RPCError as error:
                # The list that tells how many batches run may be a moment behind.
                if error.status == RPCStatusCode.RESOURCE_EXHAUSTED:
                    return False
                expect("the status of a second batch of one id", error.status, RPCStatusCode.ALREADY_EXISTS)
                return True
            raise Failure("Expected a second batch of one id to be refused")

        await until("the end of the batch to be listed", taken)


    async def deletes(self) -> None:
        """Runs that are open move in lists as they are closed, which they are before they are deleted."""
        client = await self.client()
        prefix = f"{self.prefix}again-"
        ids = [f"{prefix}{number}" for number in range(WORKFLOWS)]
        await each(ids, lambda workflow_id: client.start_workflow("Waits", id=workflow_id, task_queue="nobody-polls-it"))
        query = f'WorkflowId STARTS_WITH "{prefix}"'

        async def left(count: int) -> bool:
            return (await client.count_workflows(query)).count == count

        await until("all workflows to be listed", lambda: left(WORKFLOWS))
        request = service.StartBatchOperationRequest(
            namespace=NAMESPACE, job_id=f"{self.prefix}deletes", reason="a test", visibility_query=query,
            deletion_operation=BatchOperationDeletion(identity="batches"),
        )  # fmt: skip
        await self.start(request)
        described = await self.completed(request.job_id)
        expect("the number of those that were deleted", described.complete_operation_count, WORKFLOWS)
        await until("no workflow to be left", lambda: left(0))

    async def stopped(self) -> None:
        client = await self.client()
        named = [WorkflowExecution(workflow_id=workflow_id) for workflow_id in self.ids[:3]]

        def slow(job: str) -> service.StartBatchOperationRequest:
            return service.StartBatchOperationRequest(
                namespace=NAMESPACE, job_id=f"{self.prefix}{job}", reason="slow", executions=named,
                max_operations_per_second=0.01, termination_operation=BatchOperationTermination(),
            )  # fmt: skip

        await self.start(slow("slow"))

        async def is_listed() -> bool:
            listed = await client.workflow_service.list_batch_operations(service.ListBatchOperationsRequest(namespace=NAMESPACE))
            states = {info.job_id: info.state for info in listed.operation_info}
            return states.get(f"{self.prefix}slow") == BatchOperationState.BATCH_OPERATION_STATE_RUNNING

        await until("the batch to be listed", is_listed)
        await refused(RPCStatusCode.RESOURCE_EXHAUSTED, client.workflow_service.start_batch_operation(slow("another")))
        stop = service.StopBatchOperationRequest(namespace=NAMESPACE, job_id=f"{self.prefix}slow", reason="a mistake", identity="batches")
        await client.workflow_service.stop_batch_operation(stop)
        described = await self.describe(stop.job_id)
        expect("its state", BatchOperationState.Name(described.state), "BATCH_OPERATION_STATE_FAILED")
        expect("whether it has done all", described.complete_operation_count < len(named), True)
        await refused(RPCStatusCode.NOT_FOUND, client.workflow_service.stop_batch_operation(stop))


async def refused(status: RPCStatusCode, call: Awaitable[object]) -> None:
    try:
        await call
    except RPCError as error:
        expect(f"the status of {error.message!r}", error.status, status)
    else:
        raise Failure(f"Expected {status.name}, but it was accepted")


async def each(ids: Iterable[str], call: Callable[[str], Awaitable[object]]) -> None:
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(workflow_id: str) -> None:
        async with at_once:
            await call(workflow_id)

    await asyncio.gather(*(one(workflow_id) for workflow_id in ids))


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the millrace to start")
    parser.add_argument("--brokers", help="run on this Kafka instead of the embedded log")
    options = parser.parse_args()
    end_on_sigterm()
    checks = Checks()
    with kept_if_failed(checks, "millrace-batches-") as directory:
        server = Server(options.binary, Path(directory), brokers=options.brokers, topic_prefix=f"test-{secrets.token_hex(4)}.")
        try:
            server.start()
            server.wait_until_ready()
            batches = Batches(server)
            with checks.check("workflows are started and listed"):
                await batches.start_workflows()
            with checks.check("a batch signals each workflow once, though its server is killed"):
                await batches.signals_through_crashes()
            with checks.check("a batch of named executions, of which some are closed or not there"):
                await batches.named_executions()
            with checks.check("a batch deletes each workflow once"):
                await batches.deletes()
            with checks.check("a batch is stopped, and no other runs meanwhile"):
                await batches.stopped()
            with checks.check("the server ends cleanly"):
                server.stop()
        finally:
            server.kill()
    print(checks.closing_line())
    return 1 if checks.failed else 0


if __name__ == "__main__":
    code = asyncio.run(main())
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
