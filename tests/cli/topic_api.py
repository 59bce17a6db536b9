#!/usr/bin/env python3
"""Drives Millrace by topics: replies, subscriptions, activities whose worker reads and writes topics alone.

On the embedded log, or with --brokers on Kafka, by `millrace produce` and `millrace consume`. The server is killed in the
middle, and what it had answered must stand once. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import workflow
from temporalio.api.workflowservice import v1 as service
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleSpec
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

from server import Checks, Failure, Json, Server, end_on_sigterm, expect, kept_if_failed

WAIT_SECONDS_MAX = 20.0
WAIT = timedelta(seconds=WAIT_SECONDS_MAX)
EMAILS = "emails"


@workflow.defn(sandboxed=False)
class Mailing:
    """Has one activity, whose worker is not a Temporal worker."""

    @workflow.run
    async def run(self, address: str, task_queue: str = EMAILS) -> str:
        try:
            sent: str = await workflow.execute_activity(
                "send_email", address, task_queue=task_queue, start_to_close_timeout=timedelta(seconds=60), result_type=str,
                heartbeat_timeout=timedelta(seconds=40), cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=3, non_retryable_error_types=["NoSuchAddress"]),
            )  # fmt: skip
            return sent
        except Exception as error:
            cause = error.__cause__ or error
            return f"{type(cause).__name__}: {cause}"


@workflow.defn(sandboxed=False)
class Order:
    """Begins with a record of one topic, and ends with a record of another."""

    def __init__(self) -> None:
        self.payment: Json | None = None

    @workflow.run
    async def run(self, order: Json) -> str:
        await workflow.wait_condition(lambda: self.payment is not None)
        assert self.payment
        return f"order {order['id']}: {self.payment['amount']}"

    @workflow.signal
    def paid(self, payment: Json) -> None:
        self.payment = payment


class Story:
    def __init__(self, server: Server, names: dict[str, str]) -> None:
        self.server, self.names = server, names
        self.queue = f"topics-{secrets.token_hex(4)}"

    def request(self, request: Json, **headers: str) -> None:
        [body] = request.values()
        self.server.produce("requests", body.get("workflow_id", "k"), json.dumps(request).encode(), headers)

    def replies(self, count: int) -> list[Json]:
        return self.until("replies", self.names["replies"], lambda replies: len(replies) >= count)

    def reply(self, correlation_id: str) -> Json:
        def of(values: list[Json]) -> list[Json]:
            return [value for value in values if value["correlation_id"] == correlation_id]

        [reply] = of(self.until(f"a reply to {correlation_id}", self.names["replies"], lambda values: bool(of(values))))
        return reply

    def task(self, workflow_id: str, attempt: int) -> Json:
        def of(values: list[Json]) -> list[Json]:
            return [value for value in values if value["workflow_id"] == workflow_id and value.get("attempt", 0) == attempt]

        [task] = of(self.until(f"attempt {attempt} of {workflow_id}", "activity-tasks", lambda values: bool(of(values))))
        return task

    def until(self, what: str, topic: str, enough: Callable[[list[Json]], bool]) -> list[Json]:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not enough(values := self.server.values(topic)):
            if time.monotonic() > deadline:
                raise Failure(f"Expected {what} on {topic} within {WAIT_SECONDS_MAX:g} s, but there is: {json.dumps(values)[-3000:]}")
            time.sleep(0.1)
        return values

    def start(self, workflow_id: str, workflow_type: str, *input: Any, **more: Any) -> Json:
        return {"start": {"workflow_id": workflow_id, "workflow_type": workflow_type, "task_queue": self.queue, "input": list(input), **more}}

    def answers_once(self) -> None:
        """A start that is accepted, one that is refused, a signal for nobody, and garbage are each answered."""
        self.request(self.start("once", "Order", {"id": 7}), **{"reply-topic": self.names["replies"], "correlation-id": "first"})
        first = self.reply("first")
        expect("the first start's code", first["code"], "OK")
        expect("whether it started the run", first["started"], True)
        self.request(self.start("once", "Order", {"id": 7}), **{"reply-topic": self.names["replies"], "correlation-id": "second"})
        second = self.reply("second")
        expect("the second start's code", second["code"], "ALREADY_EXISTS")
        expect("the run that it found", second["run_id"], first["run_id"])
        nobody = {"signal": {"workflow_id": "nobody", "signal_name": "paid"}}
        self.request(nobody, **{"reply-topic": self.names["replies"], "correlation-id": "third"})
        expect("the signal's code", self.reply("third")["code"], "NOT_FOUND")
        self.request({"signal": {"workflow_id": "once"}}, **{"reply-topic": self.names["replies"], "correlation-id": "fourth"})
        expect("the code of a request without a signal's name", self.reply("fourth")["code"], "INVALID_ARGUMENT")

    def operated(self) -> None:
        """A run is paused, unpaused, and reset once it has ended: the run that began again has its signal."""
        started = self.answer("op-start", self.start("operated", "Order", {"id": 9}))
        of = {"workflow_id": "operated", "reason": "a look at it"}
        expect("the pause's code", self.answer("op-pause", {"pause": of})["code"], "OK")
        expect("the code of another", self.answer("op-pause-again", {"pause": of})["code"], "FAILED_PRECONDITION")
        paid = {"signal": {"workflow_id": "operated", "signal_name": "paid", "input": [{"amount": 5}]}}
        expect("the signal's code", self.answer("op-signal", paid)["code"], "OK")
        expect("the completions while it is paused", self.completions_of("operated"), [])
        expect("the unpause's code", self.answer("op-unpause", {"unpause": of})["code"], "OK")
        self.until("its completion", "completions", lambda _: len(self.completions_of("operated")) == 1)
        again = self.answer("op-reset", {"reset": {**of, "to": "first_workflow_task"}})
        expect("the reset's code", again["code"], "OK")
        expect("whether the run is another", again["run_id"] not in ("", started["run_id"]), True)
        self.until("its completion", "completions", lambda _: len(self.completions_of("operated")) == 2)
        results = [(each["run_id"], each["result"]) for each in self.completions_of("operated")]
        expect("the results", results, [(started["run_id"], ["order 9: 5"]), (again["run_id"], ["order 9: 5"])])
        expect("the code for nobody", self.answer("op-nobody", {"reset": {"workflow_id": "nobody"}})["code"], "NOT_FOUND")
        unknown = {"reset": {"workflow_id": "operated", "to": "yesterday"}}
        expect("the code of an unknown point", self.answer("op-unknown", unknown)["code"], "INVALID_ARGUMENT")

    def answer(self, correlation_id: str, request: Json) -> Json:
        self.request(request, **{"reply-topic": self.names["replies"], "correlation-id": correlation_id})
        return self.reply(correlation_id)

    def completions_of(self, workflow_id: str) -> list[Json]:
        return [each for each in self.server.values("completions") if each["workflow_id"] == workflow_id]

    def other_reply_topics_are_refused(self) -> None:
        self.request(self.start("elsewhere", "Order"), **{"reply-topic": "somewhere.else"})
        rejected = self.until("a rejection", "rejections", lambda values: any("somewhere.else" in value["reason"] for value in values))
        [reason] = [value["reason"] for value in rejected if "somewhere.else" in value["reason"]]
        expect("whether the topics that are allowed are named", self.names["replies"] in reason, True)

    def a_topic_that_is_none_is_named(self) -> None:
        try:
            self.server.values("no-such-topic")
        except Failure as failure:
            expect("whether the error names the topic", "no-such-topic" in str(failure), True)
        else:
            raise Failure("Expected a topic that is none to be refused, but it was read")

    def subscribed(self) -> None:
        """Records of the shop's own topics start an order and pay it, and one that does not fit is set aside."""
        self.server.produce(self.names["orders"], "o-1", b'{"id": 1001, "total": 49.90}', {"tenant": "acme"})
        self.server.produce(self.names["orders"], "o-2", b'{"total": 1}', {"tenant": "acme"})
        self.server.produce(self.names["orders"], "o-3", b"no json", {"tenant": "acme"})
        completions = lambda: self.server.values("completions", "--where", "workflow_id=order-acme-1001", "--key", "order-acme-1001")  # noqa: E731
        self.until("the order's history", "history", lambda values: any(value["workflow_id"] == "order-acme-1001" for value in values))
        self.server.produce(self.names["payments"], "p-1", b'{"order": {"id": 1001, "tenant": "acme"}, "amount": 49.90}')
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not completions() and time.monotonic() < deadline:
            time.sleep(0.1)
        [completion] = completions()
        expect("the order's result", completion["result"], ["order 1001: 49.9"])
        rejections = self.until("two rejections", "rejections", lambda values: len(self.of_orders(values)) >= 2)
        reasons = sorted(value["reason"] for value in self.of_orders(rejections))
        expect("why the others are refused", [reason.split(":")[0] for reason in reasons], ["the value is not JSON", "value"])

    def of_orders(self, values: list[Json]) -> list[Json]:
        return [value for value in values if value["topic"] == self.names["orders"]]

    def activity(self, kill: Callable[[], None]) -> None:
        """The first attempt fails, the second beats and completes, by topics alone, though the server is killed in between."""
        self.request(self.start("mail-1", "Mailing", "ada@example.com"))
        first = self.task("mail-1", 1)
        expect("the activity's type", first["activity_type"], "send_email")
        expect("the activity's task queue", first["task_queue"], EMAILS)
        expect("the activity's input", first["input"], ["ada@example.com"])
        self.request({"fail_activity": {"task_token": first["task_token"], "message": "mailbox full", "type": "Full"}})
        second = self.task("mail-1", 2)
        kill()
        beat = {"heartbeat_activity": {"task_token": second["task_token"], "details": [{"sent": 1}]}}
        self.request(beat, **{"reply-topic": self.names["replies"], "correlation-id": "beat"})
        reply = self.reply("beat")
        expect("the heartbeat's code", reply["code"], "OK")
        expect("whether the activity shall cancel", reply.get("cancel_requested", False), False)
        done = {"complete_activity": {"workflow_id": "mail-1", "activity_id": second["activity_id"], "result": ["sent to ada"]}}
        self.request(done, **{"reply-topic": self.names["replies"], "correlation-id": "done"})
        expect("the completion's code", self.reply("done")["code"], "OK")
        self.request(done, **{"reply-topic": self.names["replies"], "correlation-id": "again"})
        expect("the code of a second completion", self.reply("again")["code"], "NOT_FOUND")

    def cancellation(self) -> None:
        """A heartbeat's reply says that the activity shall cancel, and the activity says that it has."""
        self.request(self.start("mail-2", "Mailing", "bob@example.com"))
        task = self.task("mail-2", 1)
        self.request({"cancel": {"workflow_id": "mail-2", "reason": "changed my mind"}})
        for attempt in range(100):
            name = f"beat-{attempt}"
            beat = {"heartbeat_activity": {"task_token": task["task_token"]}}
            self.request(beat, **{"reply-topic": self.names["replies"], "correlation-id": name})
            if self.reply(name).get("cancel_requested"):
                break
            time.sleep(0.1)
        else:
            raise Failure("Expected a heartbeat to hear of the cancellation, but none did")
        self.request({"cancel_activity": {"task_token": task["task_token"]}})

    def not_retried(self) -> None:
        self.request(self.start("mail-3", "Mailing", "nobody@example.com"))
        task = self.task("mail-3", 1)
        failed = {"task_token": task["task_token"], "message": "who is that?", "type": "NoSuchAddress", "details": [1, "x"]}
        self.request({"fail_activity": failed})

    def completed(self, workflow_id: str, part: str) -> None:
        def of(values: list[Json]) -> list[Json]:
            return [value for value in values if value["workflow_id"] == workflow_id]

        [completion] = of(self.until(f"a completion of {workflow_id}", "completions", lambda values: bool(of(values))))
        [payload] = completion["result"]
        expect(f"whether {payload!r} has {part!r}", part in str(payload), True)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the millrace to start")
    parser.add_argument("--brokers", help="run on this Kafka instead of the embedded log")
    parser.add_argument("--java", type=Path, metavar="JAR", help="run the example workers too, the one in Java from here; needs --brokers")
    options = parser.parse_args()
    end_on_sigterm()

    checks = Checks()
    unique = secrets.token_hex(4)
    names = {name: f"shop-{unique}.{name}" for name in ("replies", "orders", "payments")}
    with kept_if_failed(checks, "millrace-topics-") as directory:
        config = directory / "millrace.toml"
        config.write_text(settings(names))
        if options.brokers:
            create(options.brokers, list(names.values()))
        server = Server(options.binary, directory, brokers=options.brokers, topic_prefix=f"test-{unique}.", config=config)
        try:
            await run(checks, server, names)
            if options.java:
                await workers(checks, server, options.java)
            with checks.check("the server ends cleanly"):
                server.stop()
        finally:
            server.kill()
    print(checks.closing_line())
    return 1 if checks.failed else 0


def settings(names: dict[str, str]) -> str:
    return f"""
reply_topics = ["{names["replies"]}"]
activity_task_queues = ["{EMAILS}", "emails-Python", {{ namespace = "default", name = "emails-Java" }}]

[[subscription]]
topic = "{names["orders"]}"
action = "start"
workflow_id = "order-{{header:tenant}}-{{value:id}}"
workflow_type = "Order"
task_queue = "subscribed"

[[subscription]]
topic = "{names["payments"]}"
action = "signal"
workflow_id = "order-{{value:order.tenant}}-{{value:order.id}}"
signal_name = "paid"
"""


async def workers(checks: Checks, server: Server, java_jar: Path) -> None:
    """The example workers that use no SDK: each takes its queue's activities from Kafka, and answers there."""
    assert server.brokers
    root = Path(__file__).resolve().parent.parent.parent
    python = [sys.executable, str(root / "tests/programs/python/kafka_worker.py")]
    java = ["java", "-cp", str(java_jar), "example.millrace.programs.KafkaWorker", server.brokers, server.topic_prefix]
    commands = {
        "Python": [*python, "--brokers", server.brokers, "--topic-prefix", server.topic_prefix, "--task-queue", "emails-Python"],
        "Java": [*java, "emails-Java", str(root / "schemas/activity-tasks.avsc")],
    }
    client = await Client.connect(server.address)
    async with Worker(client, task_queue="mailings", workflows=[Mailing]):
        for language, command in commands.items():
            with (server.directory / f"worker-{language}.log").open("wb") as log:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                with checks.check(f"the example worker in {language} works on activities"):
                    queue = f"emails-{language}"
                    run = client.execute_workflow(Mailing.run, args=["ada@example.com", queue], id=f"good-{language}", task_queue="mailings")
                    expect("the result", await asyncio.wait_for(run, 60), f"sent to ada@example.com by {language}")
                    run = client.execute_workflow(Mailing.run, args=["ada", queue], id=f"bad-{language}", task_queue="mailings")
                    expect("whether the address is named", (await asyncio.wait_for(run, 60)).endswith(": ada is no address"), True)
            finally:
                process.terminate()
                process.wait()


async def scheduled(story: Story, client: Client) -> None:
    action = ScheduleActionStartWorkflow(Order.run, {"id": 7}, id="scheduled", task_queue=story.queue)
    spec = ScheduleSpec(cron_expressions=["0 6 * * *"])
    handle = await client.create_schedule("by-topics", Schedule(action=action, spec=spec))

    async def code(name: str, request: Json) -> str:
        return str((await asyncio.to_thread(story.answer, name, request))["code"])

    of = {"schedule_id": "by-topics"}
    expect("the pause's code", await code("s-pause", {"pause_schedule": {**of, "reason": "a holiday"}}), "OK")
    state = (await handle.describe()).schedule.state
    expect("the state", (state.paused, state.note), (True, "a holiday"))
    expect("the trigger's code", await code("s-trigger", {"trigger_schedule": {**of, "overlap": "allow_all"}}), "OK")
    days = {"start_time_ms": 1767225600000, "end_time_ms": 1767398400000, "overlap": "allow_all"}
    expect("the backfill's code", await code("s-backfill", {"backfill_schedule": {**of, **days}}), "OK")

    async def actions(number: int) -> None:
        while (await handle.describe()).info.num_actions != number:
            await asyncio.sleep(0.05)

    await asyncio.wait_for(actions(3), WAIT_SECONDS_MAX)
    expect("the unpause's code", await code("s-unpause", {"unpause_schedule": of}), "OK")
    state = (await handle.describe()).schedule.state
    expect("the state", (state.paused, state.note), (False, "(no reason provided)"))
    expect("the code for nobody", await code("s-nobody", {"trigger_schedule": {"schedule_id": "nobody"}}), "NOT_FOUND")
    unknown = {"trigger_schedule": {**of, "overlap": "never"}}
    expect("the code of an unknown policy", await code("s-unknown", unknown), "INVALID_ARGUMENT")
    await handle.delete()
    ids = [f"scheduled-2026-01-0{day}T06:00:00Z" for day in (1, 2)]
    for workflow_id in ids:
        await client.get_workflow_handle(workflow_id).terminate()


def large_records(story: Story) -> None:
    """Records near the largest that Kafka takes here are refused, each with its coordinates, and stop nothing."""
    from confluent_kafka import Producer

    assert story.server.brokers
    producer = Producer({"bootstrap.servers": story.server.brokers, "message.max.bytes": 9_000_000})
    reply = ("reply-topic", story.names["replies"].encode())
    start = story.start("large", "Order", {"id": 1})
    large: list[tuple[bytes, bytes, list[tuple[str, bytes]]]] = [
        (b"k", json.dumps(start).encode().ljust(8_350_000), [reply, ("correlation-id", b"spaces")]),
        (b"k" * 4_150_000, b"no request".ljust(4_150_000), [reply, ("correlation-id", b"large key")]),
        (b"k", json.dumps(start).encode(), [reply, ("correlation-id", b"c" * 4_000_000)]),
        (b"k", json.dumps(story.start("x" * 5000, "Order")).encode(), [reply, ("correlation-id", b"long id")]),
        (b"k", json.dumps({"fail_activity": {"task_token": "nonsense", "message": "m" * 4_000_000}}).encode(), [reply, ("correlation-id", b"token")]),
    ]
    for key, value, headers in large:
        producer.produce(f"{story.server.topic_prefix}requests", key=key, value=value, headers=headers)
        if producer.flush(WAIT_SECONDS_MAX):
            raise Failure("Expected Kafka to take a large record, but it did not")
    expect("the code of a start among spaces", story.reply("spaces")["code"], "OK")
    for name in ("large key", "long id", "token"):
        expect(f"the code of {name}", story.reply(name)["code"], "INVALID_ARGUMENT")
    story.until("the rejections", "rejections", lambda values: any("4000000 bytes" in value["reason"] for value in values))


def partitions_are_added(story: Story) -> None:
    """A subscribed topic gains partitions while the server runs: their records are read too."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewPartitions

    assert story.server.brokers
    topic = story.names["orders"]
    client = AdminClient({"bootstrap.servers": story.server.brokers})
    for future in client.create_partitions([NewPartitions(topic, 5)]).values():
        future.result(WAIT_SECONDS_MAX)
    producer = Producer({"bootstrap.servers": story.server.brokers})
    for partition in (3, 4):
        order = json.dumps({"id": 2000 + partition}).encode()
        producer.produce(topic, order, b"o", partition=partition, headers=[("tenant", b"acme")])
    if producer.flush(WAIT_SECONDS_MAX):
        raise Failure("Expected Kafka to take records for the new partitions, but it did not")
    for partition in (3, 4):
        started = f"order-acme-{2000 + partition}"
        story.until("the order's history", "history", lambda values: any(value["workflow_id"] == started for value in values))


def create(brokers: str, topics: list[str]) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    # The client must outlive what it has begun.
    client = AdminClient({"bootstrap.servers": brokers})
    for future in client.create_topics([NewTopic(topic, 3, 1) for topic in topics]).values():
        future.result(WAIT_SECONDS_MAX)


async def called_at_once(server: Server) -> None:
    """It serves before it has read what there is."""
    server.wait_until_listening()
    client = await Client.connect(server.address, lazy=True)
    call = client.workflow_service
    listed = await call.list_namespaces(service.ListNamespacesRequest(), timeout=WAIT)
    expect("the namespaces", [each.namespace_info.name for each in listed.namespaces], ["default"])
    [default] = listed.namespaces
    described = await call.describe_namespace(service.DescribeNamespaceRequest(id=default.namespace_info.id), timeout=WAIT)
    expect("the namespace's name", described.namespace_info.name, "default")
    counted = await call.count_workflow_executions(service.CountWorkflowExecutionsRequest(namespace="default"), timeout=WAIT)
    expect("the number of workflows", counted.count, 0)


async def run(checks: Checks, server: Server, names: dict[str, str]) -> None:
    server.start()
    with checks.check("calls that come while the server starts wait for it"):
        await called_at_once(server)
    server.wait_until_ready()
    story = Story(server, names)

    def kill() -> None:
        server.kill()
        server.start()
        server.wait_until_ready()

    client = await Client.connect(server.address)
    workers = [Worker(client, task_queue=queue, workflows=[Mailing, Order]) for queue in (story.queue, "subscribed")]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        steps: list[tuple[str, Callable[[], None]]] = [
            ("requests are answered on their reply topic, once", story.answers_once),
            ("a run is paused, unpaused and reset by requests", story.operated),
            ("a reply topic that the settings do not allow is refused", story.other_reply_topics_are_refused),
            ("a topic that is none is named", story.a_topic_that_is_none_is_named),
            ("records of subscribed topics start and signal", story.subscribed),
            ("an activity is worked on by topics alone", lambda: story.activity(kill)),
            ("its workflow has its result", lambda: story.completed("mail-1", "sent to ada")),
            ("a heartbeat's reply asks to cancel", story.cancellation),
            ("its workflow hears that it was canceled", lambda: story.completed("mail-2", "CancelledError")),
            ("a failure that is not retried", story.not_retried),
            ("its workflow hears of the failure", lambda: story.completed("mail-3", "who is that?")),
        ]
        for name, step in steps:
            with checks.check(name):
                await asyncio.to_thread(step)
        with checks.check("a schedule is triggered, backfilled, paused and unpaused by requests"):
            await scheduled(story, client)
        if server.brokers:
            with checks.check("large records are refused, and stop nothing"):
                await asyncio.to_thread(large_records, story)
            with checks.check("partitions that a subscribed topic gains are read"):
                await asyncio.to_thread(partitions_are_added, story)
        with checks.check("each request was answered once"):
            ids = [reply["correlation_id"] for reply in server.values(names["replies"])]
            expect("the number of replies", len(ids), len(set(ids)))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


if __name__ == "__main__":
    code = asyncio.run(main())
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    os._exit(code)
