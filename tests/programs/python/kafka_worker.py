#!/usr/bin/env python3
"""An activity worker without an SDK: takes tasks from `activity-tasks`, and answers on `requests`.

It sends an e-mail (that is, it says so) for every activity `send_email` of its task queue. The mail server is busy at the first
attempt of each, so that the server tries again. The task queue must be among the server's `activity_task_queues`.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import confluent_kafka
import fastavro

SCHEMAS = Path(__file__).resolve().parent.parent.parent.parent / "schemas"
SINGLE_OBJECT_HEADER_BYTES = 10  # C3 01, and the schema's fingerprint

Json = dict[str, Any]


class Retry(Exception):
    """Another attempt may succeed."""


def send_email(task: Json) -> str:
    [address] = [json.loads(payload["data"]) for payload in task["input"]]
    if "@" not in address:
        raise ValueError(f"{address} is no address")
    if task["attempt"] == 1:
        raise Retry("the mail server is busy")
    return f"sent to {address} by Python"


class Worker:
    def __init__(self, brokers: str, prefix: str, task_queue: str) -> None:
        self.task_queue, self.requests = task_queue, f"{prefix}requests"
        self.schema = fastavro.schema.load_schema(str(SCHEMAS / "activity-tasks.avsc"))
        self.producer = confluent_kafka.Producer({"bootstrap.servers": brokers, "acks": "all", "enable.idempotence": True})
        # Tasks are published in transactions; one that was aborted must not be worked on.
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": brokers, "group.id": f"{task_queue}-python", "isolation.level": "read_committed",
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
        })  # fmt: skip
        self.consumer.subscribe([f"{prefix}activity-tasks"])
        self.stopping = False

    def run(self) -> None:
        try:
            while not self.stopping:
                record = self.consumer.poll(0.2)
                if record is None or record.error() or (value := record.value()) is None:
                    continue
                task: Any = fastavro.schemaless_reader(io.BytesIO(value[SINGLE_OBJECT_HEADER_BYTES:]), self.schema, None)
                if task["task_queue"] == self.task_queue:
                    self.work(task)
                # Only now: a worker that dies before leaves the task to the next one.
                self.consumer.commit(record, asynchronous=False)
        finally:
            self.consumer.close()

    def work(self, task: Json) -> None:
        token = {"task_token": task["task_token"], "identity": "kafka_worker.py"}
        self.answer(task, {"heartbeat_activity": {**token, "details": [{"connected": True}]}})
        try:
            self.answer(task, {"complete_activity": {**token, "result": [send_email(task)]}})
        except Retry as error:
            self.answer(task, {"fail_activity": {**token, "message": str(error), "type": "Retry"}})
        except Exception as error:
            failed = {**token, "message": str(error), "type": type(error).__name__, "non_retryable": True}
            self.answer(task, {"fail_activity": failed})
        if self.producer.flush(10):
            raise SystemExit("Kafka does not take the answers")

    def answer(self, task: Json, request: Json) -> None:
        # One key for all of an activity's answers keeps their order.
        self.producer.produce(self.requests, key=task["workflow_id"], value=json.dumps(request).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True, help="host:port of Kafka")
    parser.add_argument("--topic-prefix", default="millrace.", help="default: %(default)s")
    parser.add_argument("--task-queue", default="emails", help="default: %(default)s")
    options = parser.parse_args()
    worker = Worker(options.brokers, options.topic_prefix, options.task_queue)

    def stop(*_: Any) -> None:
        worker.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"working on {options.task_queue}", file=sys.stderr)
    worker.run()


if __name__ == "__main__":
    main()
