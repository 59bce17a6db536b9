#!/usr/bin/env python3
"""Speaks to Millrace by Kafka alone, with a client and an Avro library that know nothing of it.

Starts a workflow by a JSON record on `requests` and signals it by an Avro one; reads its completion and its history as
read_committed Avro, by the schemas in schemas/; and puts garbage on `requests`. Only the worker uses gRPC. The topics
must be new. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import confluent_kafka
import fastavro

import bad_requests
from server import Checks, Failure, Json, end_on_sigterm, expect
from temporal_cli import worker

SCHEMAS = Path(__file__).resolve().parent.parent.parent / "schemas"
READ_SECONDS_MAX = 20
SINGLE_OBJECT = b"\xc3\x01"


class Topic:
    """One of Millrace's public topics, and its published schema."""

    def __init__(self, brokers: str, prefix: str, name: str) -> None:
        self.brokers, self.topic = brokers, prefix + name
        self.schema = fastavro.schema.load_schema(str(SCHEMAS / f"{name}.avsc"))
        canonical = fastavro.schema.to_parsing_canonical_form(self.schema)
        # Little-endian, as the single-object encoding has it.
        self.header = SINGLE_OBJECT + bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))

    def encode(self, message: Json) -> bytes:
        body = io.BytesIO(self.header)
        body.seek(0, io.SEEK_END)
        fastavro.schemaless_writer(body, self.schema, message)
        return body.getvalue()

    def decode(self, record: bytes) -> Json:
        expect("the frame of a record", record[: len(self.header)].hex(), self.header.hex())
        message: Any = fastavro.schemaless_reader(io.BytesIO(record[len(self.header) :]), self.schema, None)
        return dict(message)

    def produce(self, key: str, record: bytes) -> None:
        failures: list[Any] = []
        producer = confluent_kafka.Producer({"bootstrap.servers": self.brokers, "acks": "all"})
        producer.produce(self.topic, key=key, value=record, on_delivery=lambda error, _: failures.append(error) if error else None)
        if producer.flush(READ_SECONDS_MAX) or failures:
            raise Failure(f"Expected {self.topic} to take a record, but: {failures or 'nothing came back'}")

    def read(self, count: int) -> list[Json]:
        """The first records that are committed, as soon as there are so many."""
        settings = {
            "bootstrap.servers": self.brokers, "group.id": f"test-{secrets.token_hex(4)}", "isolation.level": "read_committed",
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
        }  # fmt: skip
        consumer = confluent_kafka.Consumer(settings)
        messages: list[Json] = []
        try:
            consumer.subscribe([self.topic])
            deadline = time.monotonic() + READ_SECONDS_MAX
            while len(messages) < count:
                if time.monotonic() > deadline:
                    raise Failure(f"Expected {count} records on {self.topic} within {READ_SECONDS_MAX} s, but there are {len(messages)}")
                record = consumer.poll(0.2)
                if record is not None and record.error():
                    raise Failure(f"Expected to read {self.topic}, but: {record.error()}")
                if record is not None and (value := record.value()) is not None:
                    messages.append(self.decode(value))
        finally:
            consumer.close()
        return messages


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True, help="host:port of Millrace, for the worker")
    parser.add_argument("--brokers", required=True, help="host:port of Kafka")
    parser.add_argument("--topic-prefix", default="millrace.", help="default: %(default)s")
    options = parser.parse_args()
    end_on_sigterm()

    checks = Checks()
    topics = {
        name: Topic(options.brokers, options.topic_prefix, name) for name in ("requests", "completions", "history", "rejections")
    }
    # Before the garbage, whose completion would come between.
    bad_requests.run(checks, topics["requests"].produce, lambda name, count: topics[name].read(count), garbage_bytes=True)
    asyncio.run(letter(checks, topics, options.address))
    print(checks.closing_line())
    return 1 if checks.failed else 0


async def letter(checks: Checks, topics: dict[str, Topic], address: str) -> None:
    """A workflow that Kafka alone starts, signals and reports."""
    workflow_id = task_queue = f"kafka-client-{secrets.token_hex(4)}"
    start = {"workflow_id": workflow_id, "workflow_type": "Letter", "task_queue": task_queue, "input": ["Ada"]}
    text = {"metadata": {"encoding": b"json/plain"}, "data": b'"all is well"'}
    signal = {"signal": {"workflow_id": workflow_id, "signal_name": "write", "input": [text]}}
    completion: Json = {}
    async with worker(address, "default", task_queue):
        with checks.check("a start as JSON, a signal as Avro, a completion as Avro"):
            topics["requests"].produce(workflow_id, json.dumps({"start": start}).encode())
            topics["requests"].produce(workflow_id, topics["requests"].encode(signal))
            # The garbage has left one completion before.
            [completion] = [each for each in await asyncio.to_thread(topics["completions"].read, 2) if each["workflow_id"] == workflow_id]
            expect("the status", completion["status"], "COMPLETED")
            expect("the result", [json.loads(payload["data"]) for payload in completion["result"]], ["Dear Ada, all is well"])
            expect("the type", completion["workflow_type"], "Letter")
    with checks.check("the history as Avro"):
        events = [event for batch in history(topics["history"], workflow_id, completion) for event in batch["events"]]
        expect("the event ids", [event["event_id"] for event in events], list(range(1, completion["history_length"] + 1)))
        expect("the started event's type", events[0]["workflow_execution_started_event_attributes"]["workflow_type"]["name"], "Letter")


def history(topic: Topic, workflow_id: str, completion: Json) -> list[Json]:
    """The run's batches, read until its last event has come."""
    if not completion:
        raise Failure("Expected a completion to compare the history with, but there was none")
    count = 1
    while True:
        batches = [batch for batch in topic.read(count) if batch["workflow_id"] == workflow_id]
        if batches and batches[-1]["events"][-1]["event_id"] == completion["history_length"]:
            return batches
        count += 1


if __name__ == "__main__":
    code = main()
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
