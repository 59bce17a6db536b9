"""An order: a payment that fails twice, stock, shipping, a day of sleep, and a follow-up e-mail.

The payment gateway is down at first. Nobody writes a retry loop for it: the activity's retry policy says how the server
tries again, and the workflow just waits for the result. The day between shipping and the e-mail is a durable timer that
--sleep shortens.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play

FAILING_ATTEMPTS = 2
RETRY = RetryPolicy(initial_interval=timedelta(seconds=0.5), backoff_coefficient=2.0, maximum_attempts=10)
BRIEFLY = timedelta(seconds=10)


@dataclass
class Order:
    number: int
    item: str
    cents: int
    email: str
    follow_up_after_seconds: float = 24 * 60 * 60


class Shop:
    """The outside world: a payment gateway that is down at first, a warehouse and a mail server."""

    def __init__(self, run: Scenario) -> None:
        self.run = run
        self.last_attempt_at = 0.0
        self.failed_attempts: asyncio.Queue[int] = asyncio.Queue()

    @activity.defn
    async def charge_card(self, order: Order) -> str:
        attempt = activity.info().attempt
        waited = f" after {time.monotonic() - self.last_attempt_at:.2f} s of back-off" if attempt > 1 else ""
        self.last_attempt_at = time.monotonic()
        if attempt <= FAILING_ATTEMPTS:
            self.run.say(f"  payment, attempt {attempt}{waited}: the gateway is down")
            self.failed_attempts.put_nowait(attempt)
            raise ApplicationError("the payment gateway is down", type="GatewayDown")
        self.run.say(f"  payment, attempt {attempt}{waited}: {order.cents / 100:.2f} charged")
        return f"receipt-{order.number}"

    @activity.defn
    async def reserve_stock(self, order: Order) -> str:
        self.run.say(f"  warehouse: one {order.item} reserved")
        return "shelf 7"

    @activity.defn
    async def ship(self, order: Order, shelf: str) -> str:
        self.run.say(f"  warehouse: {order.item} picked from {shelf} and shipped")
        return f"parcel-{order.number}"

    @activity.defn
    async def send_email(self, address: str, text: str) -> None:
        self.run.say(f"  mail to {address}: {text}")


@workflow.defn(name="Order")
class OrderWorkflow:
    def __init__(self) -> None:
        self.current_status = "received"

    @workflow.run
    async def run(self, order: Order) -> str:
        self.current_status = "charging"
        receipt = await workflow.execute_activity_method(
            Shop.charge_card, order, start_to_close_timeout=BRIEFLY, retry_policy=RETRY
        )
        self.current_status = "preparing"
        shelf = await workflow.execute_activity_method(Shop.reserve_stock, order, start_to_close_timeout=BRIEFLY)
        parcel = await workflow.execute_activity_method(Shop.ship, args=[order, shelf], start_to_close_timeout=BRIEFLY)
        self.current_status = "shipped"
        await asyncio.sleep(order.follow_up_after_seconds)
        await workflow.execute_activity_method(
            Shop.send_email, args=[order.email, f"How do you like your {order.item}?"], start_to_close_timeout=BRIEFLY
        )
        self.current_status = "completed"
        return f"{receipt}, {parcel}"

    @workflow.query
    def status(self) -> str:
        return self.current_status


async def scenario(run: Scenario) -> None:
    shop = Shop(run)
    async with Worker(
        run.client,
        task_queue=run.task_queue,
        workflows=[OrderWorkflow],
        activities=[shop.charge_card, shop.reserve_stock, shop.ship, shop.send_email],
    ):
        order = Order(1001, "kettle", 4990, "ada@example.com", run.options.sleep)
        run.say(f"order {order.number}: one {order.item} for {order.cents / 100:.2f}")
        handle = await run.start(OrderWorkflow.run, order, label="order")

        for attempt in range(1, FAILING_ATTEMPTS + 1):
            run.expect("the failing attempt", await shop.failed_attempts.get(), attempt)
        await expect_pending_retry(run, handle, attempt=FAILING_ATTEMPTS + 1)
        run.expect("the status during the back-off", await handle.query(OrderWorkflow.status), "charging")

        await run.idle(handle, after="TimerStarted")
        run.expect("the status after shipping", await handle.query(OrderWorkflow.status), "shipped")
        run.say(f"  asleep for {order.follow_up_after_seconds:g} s; no process has to stay up for it")

        run.expect("the result", await handle.result(), "receipt-1001, parcel-1001")
        run.expect("the status at the end", await handle.query(OrderWorkflow.status), "completed")
        run.expect("the execution's state", (await handle.describe()).status, WorkflowExecutionStatus.COMPLETED)


async def expect_pending_retry(run: Scenario, handle: WorkflowHandle, attempt: int) -> None:
    """Reads from the server what it is about to do about the failed payment."""

    async def scheduled() -> bool:
        pending = (await handle.describe()).raw_description.pending_activities
        return len(pending) == 1 and pending[0].attempt == attempt

    await run.until(f"attempt {attempt} of the payment", scheduled)
    [pending] = (await handle.describe()).raw_description.pending_activities
    run.expect("the last failure", pending.last_failure.message, "the payment gateway is down")
    backoff_seconds = round(pending.current_retry_interval.ToTimedelta().total_seconds(), 2)
    run.expect("the back-off", backoff_seconds, 1.0)
    run.say(f"  the server says: attempt {attempt} comes after {backoff_seconds} s")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sleep", type=float, default=1.0, metavar="SECONDS",
        help="time between shipping and the follow-up e-mail; a day is 86400 (default: %(default)s)",
    )  # fmt: skip


if __name__ == "__main__":
    play("order", scenario, add_flags=add_flags, timeout_seconds=lambda options: 60 + options.sleep)
