"""Three suppliers asked at once with asyncio.gather; they answer in an order of their own.

Parallel activities complete in any order, and each order is another history. The suppliers here answer one by one, each
when the workflow has dealt with the one before.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play

PRICES = {"Anvil & Sons": 310, "Bolt Brothers": 295, "Cogwheel": 325}
ANSWERING_ORDER = ["Cogwheel", "Anvil & Sons", "Bolt Brothers"]


class Suppliers:
    def __init__(self, run: Scenario) -> None:
        self.run = run
        self.asked = {name: asyncio.Event() for name in PRICES}
        self.may_answer = {name: asyncio.Event() for name in PRICES}

    @activity.defn
    async def ask_price(self, supplier: str) -> int:
        self.asked[supplier].set()
        await self.may_answer[supplier].wait()
        self.run.say(f"  {supplier}: {PRICES[supplier]}")
        return PRICES[supplier]


@workflow.defn(name="BestPrice")
class BestPriceWorkflow:
    @workflow.run
    async def run(self, suppliers: list[str]) -> tuple[str, int]:
        prices = await asyncio.gather(
            *(
                workflow.execute_activity_method(
                    Suppliers.ask_price, supplier, start_to_close_timeout=timedelta(seconds=30)
                )
                for supplier in suppliers
            )
        )
        price, supplier = min(zip(prices, suppliers, strict=True))
        return supplier, price


async def scenario(run: Scenario) -> None:
    suppliers = Suppliers(run)
    async with Worker(
        run.client, task_queue=run.task_queue, workflows=[BestPriceWorkflow], activities=[suppliers.ask_price]
    ):
        handle = await run.start(BestPriceWorkflow.run, list(PRICES), label="best-price")
        await asyncio.gather(*(asked.wait() for asked in suppliers.asked.values()))
        run.say("all three are asked")

        for answered, supplier in enumerate(ANSWERING_ORDER, start=1):
            suppliers.may_answer[supplier].set()
            if answered < len(ANSWERING_ORDER):
                await run.idle(handle, after="ActivityTaskCompleted", count=answered)

        supplier, price = await handle.result()
        run.expect("the best price", (supplier, price), ("Bolt Brothers", 295))
        run.say(f"best: {supplier} with {price}")


if __name__ == "__main__":
    play("gather", scenario)
