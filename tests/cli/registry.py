#!/usr/bin/env python3
"""Avro with a schema registry: Apicurio, a Kafka broker, and Confluent's own client, which knows nothing of Millrace.

The client writes `requests` and a topic that is subscribed to, and reads completions, history, replies and rejections. The
registry is away for a while, its schemas evolve, and at last it is gone for good. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import decimal
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

from server import Checks, Failure, Json, Server, end_on_sigterm, expect, free_port, kept_if_failed
from topic_api import create

REPOSITORY = Path(__file__).resolve().parent.parent.parent
WAIT_SECONDS_MAX = 30.0
QUEUE = "registry"
OWN_TOPICS = ("activity-tasks", "completions", "history", "rejections", "timers")

START = """{"type": "record", "name": "Request", "namespace": "shop", "fields": [
    {"name": "start", "type": {"type": "record", "name": "Start", "fields": [
        {"name": "workflow_id", "type": "string"}, {"name": "workflow_type", "type": "string"}, {"name": "task_queue", "type": "string"}]}},
    {"name": "trace", "type": ["null", "string"], "default": null}]}"""
ORDER_FIELDS = """
    {"name": "id", "type": "long"},
    {"name": "note", "type": ["null", "string"], "default": null},
    {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "placed", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["GIFT", "OWN"]}}"""


def order_schema(*more: str) -> str:
    """The schema of an order, with as many more fields: a user's schema that evolves."""
    fields = "".join(f', {{"name": "{name}", "type": "string", "default": "none"}}' for name in more)
    return f'{{"type": "record", "name": "Order", "namespace": "shop", "fields": [{ORDER_FIELDS}{fields}]}}'


@workflow.defn(sandboxed=False)
class Order:
    """Ends with what it was started with."""

    @workflow.run
    async def run(self, order: Any = None) -> Any:
        return order


class Registry:
    """A registry whose process comes and goes, while its ids stay."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def start(self) -> None:
        subprocess.run([REPOSITORY / "deploy/registry.sh", "start", self.directory, str(self.port)], check=True, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        subprocess.run([REPOSITORY / "deploy/registry.sh", "stop", self.directory], check=True)

    def signal(self, what: signal.Signals) -> None:
        os.kill(int((self.directory / "pid").read_text()), what)


class Story:
    def __init__(self, options: argparse.Namespace, directory: Path, registry: Registry) -> None:
        self.options, self.directory, self.registry = options, directory, registry
        unique = secrets.token_hex(4)
        self.prefix = f"registry-{unique}."
        self.orders, self.replies = f"shop-{unique}.orders", f"shop-{unique}.replies"
        self.client = SchemaRegistryClient({"url": registry.url})
        self.server = self.make_server("main", self.prefix, self.settings())

    def settings(self, *registry: str, url: str | None = None) -> str:
        table = "\n".join([f'url = "{url or self.registry.url}"', *registry])
        return f"""
reply_topics = ["{self.replies}"]
[schema_registry]
{table}
[[subscription]]
topic = "{self.orders}"
format = "avro"
action = "start"
workflow_id = "order-{{value:id}}"
workflow_type = "Order"
task_queue = "{QUEUE}"
"""

    def make_server(self, name: str, prefix: str, settings: str) -> Server:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        (directory / "millrace.toml").write_text(settings)
        server = Server(self.options.binary, directory, brokers=self.options.brokers, topic_prefix=prefix, config=directory / "millrace.toml")
        server.flags = ["--partitions", "2"]
        return server

    def configure(self, settings: str) -> None:
        (self.directory / "main" / "millrace.toml").write_text(settings)

    def start(self) -> None:
        self.server.start()
        self.server.wait_until_ready()

    # What an independent client writes and reads.

    def avro(self, topic: str, schema: str, value: Json) -> bytes:
        """A record as Confluent's serializer frames it; registers the schema."""
        framed = AvroSerializer(self.client, schema)(value, SerializationContext(topic, MessageField.VALUE))
        assert isinstance(framed, bytes)
        expect("the first byte of a framed record", framed[0], 0)
        return framed

    def order(self, number: int, *more: str) -> bytes:
        placed = datetime.datetime(2026, 11, 22, 13, 14, 15, 123000, tzinfo=datetime.timezone.utc)
        value = {"id": number, "note": None, "total": decimal.Decimal("49.90"), "placed": placed, "kind": "GIFT"}
        return self.avro(self.orders, order_schema(*more), value | {name: f"{name}!" for name in more})

    def produce(self, topic: str, key: str, value: bytes, **headers: str) -> None:
        producer = confluent_kafka.Producer({"bootstrap.servers": self.options.brokers})
        producer.produce(topic, key=key, value=value, headers=[(name.replace("_", "-"), text.encode()) for name, text in headers.items()])
        if producer.flush(WAIT_SECONDS_MAX):
            raise Failure(f"Expected Kafka to take a record for {topic}, but it did not")

    def read(self, topic: str) -> list[tuple[bytes, Json]]:
        """All committed records of a topic: as they are, and as Confluent's deserializer has them."""
        deserialize = AvroDeserializer(self.client)
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.options.brokers, "group.id": f"test-{secrets.token_hex(4)}", "isolation.level": "read_committed",
            "auto.offset.reset": "earliest", "enable.auto.commit": False, "enable.partition.eof": True,
        })  # fmt: skip
        try:
            partitions = consumer.list_topics(topic, WAIT_SECONDS_MAX).topics[topic].partitions
            consumer.assign([confluent_kafka.TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING) for partition in partitions])
            ended, records = 0, []
            while ended < len(partitions):
                record = consumer.poll(WAIT_SECONDS_MAX)
                if record is None:
                    raise Failure(f"Expected to read {topic} to its end, but nothing came")
                if record.error():
                    expect("the error while reading", record.error().code(), confluent_kafka.KafkaError._PARTITION_EOF)
                    ended += 1
                elif (value := record.value()) is not None:
                    records.append((value, deserialize(value, SerializationContext(topic, MessageField.VALUE))))
            return records
        finally:
            consumer.close()

    def until(self, what: str, topic: str, wanted: Callable[[Json], bool]) -> Json:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            values = [value for _, value in self.read(topic)]
            for value in values:
                if wanted(value):
                    return value
            if time.monotonic() > deadline:
                raise Failure(f"Expected {what} on {topic} within {WAIT_SECONDS_MAX:g} s, but there is: {str(values)[-2000:]}\n{self.server.log_tail()}")
            time.sleep(0.2)

    def completed(self, workflow_id: str) -> Any:
        completion = self.until(f"a completion of {workflow_id}", f"{self.prefix}completions", lambda value: bool(value["workflow_id"] == workflow_id))
        expect(f"the status of {workflow_id}", completion["status"], "COMPLETED")
        [result] = completion["result"]
        return json.loads(result["data"]) if result["data"] else None

    def rejected(self, reason: str) -> Json:
        return self.until(f"a rejection for {reason!r}", f"{self.prefix}rejections", lambda value: reason in value["reason"])

    def rejections(self) -> int:
        return len(self.read(f"{self.prefix}rejections"))

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.server.metrics_address}/metrics", timeout=5) as response:
            text = response.read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name}{{"))

    # The checks, in their order.

    def refused(self, name: str, settings: str, says: str, prefix: str = "refused.") -> None:
        server = self.make_server(name, prefix, settings)
        server.expect_refused(says)

    def incompatible(self) -> None:
        subject = "other.history-value"
        self.client.register_schema(subject, Schema('"string"', "AVRO"))
        self.client.set_compatibility(subject, "FULL")
        self.refused("incompatible", self.settings(), rf"refuses the schema of {subject} as incompatible", "other.")

    def registers(self) -> None:
        self.start()
        subjects = set(self.client.get_subjects())
        missing = ({f"{self.prefix}{topic}-value" for topic in OWN_TOPICS} | {f"{self.replies}-value"}) - subjects
        expect("the subjects that are missing", missing, set())
        expect("whether `requests` is left to its producers", f"{self.prefix}requests-value" in subjects, False)

    def requests(self) -> None:
        """A start by a schema of the producer's own, answered in Avro."""
        start = {"start": {"workflow_id": "by-avro", "workflow_type": "Order", "task_queue": QUEUE}, "trace": "t-1"}
        framed = self.avro(f"{self.prefix}requests", START, start)
        self.produce(f"{self.prefix}requests", "by-avro", framed, reply_topic=self.replies, correlation_id="c-1")
        expect("the result", self.completed("by-avro"), None)
        reply = self.until("a reply", self.replies, lambda value: bool(value["correlation_id"] == "c-1"))
        expect("the reply's code", reply["code"], "OK")
        self.produce(f"{self.prefix}requests", "by-json", json.dumps({"start": start["start"] | {"workflow_id": "by-json"}}).encode())
        expect("the result of what JSON started", self.completed("by-json"), None)

    def history(self) -> None:
        records = self.read(f"{self.prefix}history")
        events = [event["event_id"] for _, batch in records if batch["workflow_id"] == "by-avro" for event in batch["events"]]
        expect("the event ids", events, list(range(1, len(events) + 1)))
        expect("whether they are complete", len(events) >= 5, True)
        ids = {int.from_bytes(value[1:5], "big") for value, _ in records}
        expect("the schemas that history was written by", ids, {self.client.get_latest_version(f"{self.prefix}history-value").schema_id})

    def subscribed(self) -> None:
        expected = {"id": 1, "note": None, "total": "49.90", "placed": "2026-11-22T13:14:15.123Z", "kind": "GIFT"}
        self.produce(self.orders, "o-1", self.order(1))
        expect("the order", self.completed("order-1"), expected)
        self.produce(self.orders, "o-2", self.order(2, "voucher"))
        expect("an order of the second version", self.completed("order-2"), expected | {"id": 2, "voucher": "voucher!"})

    def unknown(self) -> None:
        """What can't be read goes to rejections with its bytes, and the next record is taken."""
        unknown = b"\0" + (999_999).to_bytes(4, "big") + b"body"
        framed = self.order(3)
        for topic in (self.orders, f"{self.prefix}requests"):
            self.produce(topic, "k", unknown)
        self.produce(self.orders, "k", framed[:-6])
        self.produce(self.orders, "k", framed[:5] + b"\x02" * 5_000)
        self.produce(self.orders, "k", b'{"id": 4}')
        self.produce(self.orders, "k", framed)
        self.completed("order-3")
        rejected = self.until("a rejection", f"{self.prefix}rejections", lambda value: bool(value["topic"] == self.orders))
        expect("its bytes", rejected["value"], unknown)
        expect("why", "knows no schema with the id 999999" in rejected["reason"], True)
        self.until("another", f"{self.prefix}rejections", lambda value: bool(value["topic"] == "requests" and value["value"] == unknown))
        self.rejected("ends early")
        self.rejected("the value begins with something else")
        # An order is no request.
        self.produce(f"{self.prefix}requests", "k", framed)
        self.until("a third", f"{self.prefix}rejections", lambda value: bool(value["topic"] == "requests" and value["value"] == framed))

    def paused(self) -> None:
        """A registry that hangs holds up the stream that needs it, and no other."""
        rejections, framed = self.rejections(), self.order(5, "voucher", "gift_wrap")
        later = self.order(6)
        self.registry.signal(signal.SIGSTOP)
        try:
            self.produce(self.orders, "k", framed)
            self.produce(self.orders, "k", later)
            start = {"start": {"workflow_id": "meanwhile", "workflow_type": "Order", "task_queue": QUEUE, "input": [1]}}
            self.produce(f"{self.prefix}requests", "meanwhile", json.dumps(start).encode())
            deadline = time.monotonic() + WAIT_SECONDS_MAX
            while self.metric("millrace_schema_registry_waits_total") < 2:
                if time.monotonic() > deadline:
                    raise Failure("Expected the stream to wait twice, but it did not")
                time.sleep(0.1)
            # Its value can only be shown with the registry; its key is the workflow id.
            done = self.server.values("completions", "--key", "meanwhile")
            expect("the completions of what JSON started meanwhile", len(done), 1)
        finally:
            self.registry.signal(signal.SIGCONT)
        expect("an order of the third version", self.completed("order-5")["gift_wrap"], "gift_wrap!")
        self.completed("order-6")
        expect("the number of rejections", self.rejections(), rejections)

    def gone(self) -> None:
        """The registry stops, and the server while it waits; both come back, and nothing is lost or refused."""
        rejections, framed = self.rejections(), self.order(7, "voucher", "gift_wrap", "fourth")
        self.registry.stop()
        before = self.metric("millrace_schema_registry_waits_total")
        self.produce(self.orders, "k", framed)
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while self.metric("millrace_schema_registry_waits_total") <= before and time.monotonic() < deadline:
            time.sleep(0.1)
        self.server.stop()
        if "the stream waits: the schema registry" not in self.server.log_tail(50):
            raise Failure(f"Expected the log to say that the stream waits, but it says:\n{self.server.log_tail(50)}")
        self.registry.start()
        # The ids are there now, and looking them up does.
        self.configure(self.settings("auto_register = false"))
        self.start()
        expect("an order of the fourth version", self.completed("order-7")["fourth"], "fourth!")
        expect("the number of rejections", self.rejections(), rejections)

    def command_line(self) -> None:
        registry = ["--schema-registry", self.registry.url]
        [completion] = self.server.values("completions", "--where", "workflow_id=order-1", *registry)
        expect("the status", completion["status"], "COMPLETED")
        expect("the result", completion["result"][0]["total"], "49.90")
        first = self.server.values("completions", "--max", "1")[0]
        expect("whether the flag is named", "--schema-registry" in first["error"], True)
        shown = self.server.values(self.orders, "--where", "id=2", *registry)
        expect("an order as it is shown", (shown[0]["kind"], shown[0]["voucher"]), ("GIFT", "voucher!"))
        order = {"id": 8, "total": "1.00", "placed": "2026-11-22T00:00:00Z", "kind": "OWN", "voucher": "v", "gift_wrap": "g", "fourth": "f"}
        self.server.produce(self.orders, "k", json.dumps(order).encode(), flags=registry)
        expect("an order written by hand", self.completed("order-8"), order | {"note": None, "placed": "2026-11-22T00:00:00.000Z"})
        start = {"start": {"workflow_id": "by-hand", "workflow_type": "Order", "task_queue": QUEUE, "input": [{"n": 1}]}}
        self.server.produce("requests", "by-hand", json.dumps(start).encode(), flags=registry)
        expect("a request written by hand", self.completed("by-hand"), {"n": 1})
        framed = self.server.values("requests", "--where", "start.workflow_id=by-hand", *registry)
        expect("the request as it is shown", framed[0]["start"]["input"], [{"n": 1}])

    async def without(self) -> None:
        """Stores are rebuilt from Kafka alone, though the registry is gone for good."""
        self.server.stop()
        self.registry.stop()
        shutil.rmtree(self.server.data)
        self.configure("")
        self.start()
        client = await Client.connect(self.server.address)
        events = [event.event_id async for event in client.get_workflow_handle("order-1").fetch_history_events()]
        expect("the event ids", events, list(range(1, len(events) + 1)))
        expect("whether they are complete", len(events) >= 5, True)
        self.produce(f"{self.prefix}requests", "k", b"\0\0\0\0\x01body")
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not any("[schema_registry]" in value.get("reason", "") for value in self.server.values("rejections")):
            if time.monotonic() > deadline:
                raise Failure("Expected a framed request to be refused with the setting that is missing, but it was not")
            await asyncio.sleep(0.2)


async def run(checks: Checks, story: Story) -> None:
    empty = story.settings("auto_register = false")
    wrong = story.settings(url=f"http://127.0.0.1:{story.registry.port}/nowhere")
    with checks.check("auto_register = false: a subject that is missing is named"):
        story.refused("missing", empty, r"no subject refused\.\S+-value")
    with checks.check("something else than a registry is told"):
        story.refused("wrong", wrong, "is no schema registry")
    with checks.check("an incompatible schema is told"):
        story.incompatible()
    with checks.check("the schemas of what is written are registered"):
        story.registers()
    client = await Client.connect(story.server.address)
    async with Worker(client, task_queue=QUEUE, workflows=[Order]):
        steps: list[tuple[str, Callable[[], None]]] = [
            ("requests by Confluent's serializer are carried out, and answered in Avro", story.requests),
            ("history by Confluent's deserializer", story.history),
            ("records of a subscribed topic, whose schema evolves", story.subscribed),
            ("what can't be read is refused, and stops nothing", story.unknown),
            ("a registry that hangs is waited for, and nothing else waits", story.paused),
            ("a registry that is gone is waited for, across restarts", story.gone),
            ("millrace consume and produce", story.command_line),
        ]
        for name, step in steps:
            with checks.check(name):
                await asyncio.to_thread(step)
        with checks.check("without the registry, stores are rebuilt from Kafka alone"):
            await story.without()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, metavar="MILLRACE")
    parser.add_argument("--brokers", required=True, help="host:port of Kafka")
    options = parser.parse_args()
    end_on_sigterm()
    checks = Checks()
    with kept_if_failed(checks, "millrace-registry-") as directory:
        registry = Registry(directory / "registry")
        registry.start()
        try:
            story = Story(options, directory, registry)
            create(options.brokers, [story.orders, story.replies])
            try:
                asyncio.run(run(checks, story))
                with checks.check("the server ends cleanly"):
                    story.server.stop()
            finally:
                story.server.kill()
        finally:
            registry.stop()
    print(checks.closing_line())
    return 1 if checks.failed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    os._exit(code)
