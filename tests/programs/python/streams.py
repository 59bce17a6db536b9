"""A news feed that its workflow publishes and anyone may follow: the SDK's workflow streams, which are built on signals and updates.

A subscriber polls by updates that wait until there is something new, also while the workflow goes on as another run.
"""

from __future__ import annotations

from dataclasses import dataclass

from temporalio import workflow
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.contrib.workflow_streams import WorkflowStream, WorkflowStreamClient, WorkflowStreamState
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play


@dataclass
class Feed:
    published: int = 0
    stream: WorkflowStreamState | None = None


@workflow.defn(name="Feed")
class FeedWorkflow:
    @workflow.init
    def __init__(self, feed: Feed) -> None:
        self.stream = WorkflowStream(prior_state=feed.stream)
        self.published = feed.published
        self.next: list[str] = []
        self.closed = False

    @workflow.run
    async def run(self, feed: Feed) -> int:
        news = self.stream.topic("news", type=str)
        while True:
            await workflow.wait_condition(lambda: bool(self.next) or self.closed)
            if not self.next:
                return self.published
            news.publish(self.next.pop(0))
            self.published += 1
            if self.published == 2:
                await self.stream.continue_as_new(lambda state: [Feed(self.published, state)])

    @workflow.signal
    def write(self, text: str) -> None:
        self.next.append(text)

    @workflow.signal
    def close(self) -> None:
        self.closed = True


async def scenario(run: Scenario) -> None:
    async with Worker(run.client, task_queue=run.task_queue, workflows=[FeedWorkflow]):
        # Not compared: when a subscriber asks again depends on the time.
        workflow_id = run.workflow_id("feed")
        await run.client.start_workflow(
            FeedWorkflow.run,
            Feed(),
            id=workflow_id,
            task_queue=run.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
        )
        current = run.client.get_workflow_handle_for(FeedWorkflow.run, workflow_id)
        follower = WorkflowStreamClient.create(run.client, workflow_id).topic("news", type=str)
        news = ["rain", "sun", "snow"]
        received: list[str] = []
        await current.signal(FeedWorkflow.write, news[0])
        async for item in follower.subscribe():
            received.append(item.data)
            run.say(f"received {item.data}")
            if len(received) == len(news):
                break
            await current.signal(FeedWorkflow.write, news[len(received)])
        run.expect("the news", received, news)
        await current.signal(FeedWorkflow.close)
        run.expect("how much was published", await current.result(), len(news))


if __name__ == "__main__":
    play("streams", scenario)
