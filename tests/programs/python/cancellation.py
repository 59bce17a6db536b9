"""A cancelled export: the request reaches a child workflow and a heartbeating activity, and both tidy up.

The client cancels the parent. The parent passes the request on and waits until both are done; the child removes its
part of the upload, then the parent removes the archive, each in a `finally`. All of it ends as Canceled, not Failed.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play

BRIEFLY = timedelta(seconds=10)


class Storage:
    def __init__(self, run: Scenario) -> None:
        self.run = run
        self.removed: list[str] = []
        self.compressing = asyncio.Event()
        self.compression_may_stop = asyncio.Event()
        self.upload_may_be_removed = asyncio.Event()

    @activity.defn
    async def compress(self, data_set: str) -> None:
        self.run.say(f"  compressing {data_set}, for hours")
        self.compressing.set()
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            await self.compression_may_stop.wait()
            self.run.say("  the compression learnt from its heartbeat that it is cancelled")
            raise

    @activity.defn
    async def remove(self, what: str) -> None:
        if what == "upload":
            await self.upload_may_be_removed.wait()
        self.run.say(f"  {what} removed")
        self.removed.append(what)


@workflow.defn(name="Upload")
class UploadWorkflow:
    @workflow.run
    async def run(self) -> None:
        try:
            await asyncio.sleep(24 * 60 * 60)
        finally:
            await workflow.execute_activity_method(Storage.remove, "upload", start_to_close_timeout=BRIEFLY)


@workflow.defn(name="Export")
class ExportWorkflow:
    @workflow.run
    async def run(self, data_set: str) -> None:
        upload = await workflow.start_child_workflow(
            UploadWorkflow.run,
            id=f"{workflow.info().workflow_id}-upload",
            cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        compression = workflow.start_activity_method(
            Storage.compress,
            data_set,
            start_to_close_timeout=timedelta(hours=12),
            heartbeat_timeout=timedelta(seconds=10),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        try:
            await asyncio.gather(upload, compression, return_exceptions=True)
        finally:
            await workflow.execute_activity_method(Storage.remove, "archive", start_to_close_timeout=BRIEFLY)


async def scenario(run: Scenario) -> None:
    storage = Storage(run)
    async with Worker(
        run.client,
        task_queue=run.task_queue,
        workflows=[ExportWorkflow, UploadWorkflow],
        activities=[storage.compress, storage.remove],
        # The answer to a heartbeat brings the cancellation, so beat often.
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    ):
        export = await run.start(ExportWorkflow.run, "sales", label="export")
        upload = run.client.get_workflow_handle(f"{export.id}-upload")
        await run.idle(export, after="ActivityTaskScheduled")
        await run.idle(upload, after="TimerStarted")
        await storage.compressing.wait()

        run.say("cancelling the export")
        await export.cancel()
        # The child hears of it at once, and is held back in its `finally` until the parent has seen the delivery.
        await run.idle(upload, after="ActivityTaskScheduled")
        await run.idle(export, after="ExternalWorkflowExecutionCancelRequested")
        storage.upload_may_be_removed.set()
        await run.idle(export, after="ChildWorkflowExecutionCanceled")
        storage.compression_may_stop.set()

        await expect_canceled(run, export)
        await expect_canceled(run, upload)
        run.expect("what was removed", storage.removed, ["upload", "archive"])
    run.compare("upload", upload.id, (await upload.describe()).run_id)


async def expect_canceled(run: Scenario, handle: WorkflowHandle) -> None:
    try:
        await handle.result()
    except WorkflowFailureError as error:
        run.expect(f"the cause for {handle.id}", type(error.cause), CancelledError)
    run.expect(f"the state of {handle.id}", (await handle.describe()).status, WorkflowExecutionStatus.CANCELED)


if __name__ == "__main__":
    play("cancellation", scenario)
