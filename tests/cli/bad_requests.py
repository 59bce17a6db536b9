"""Garbage on the topic `requests`: each record is refused on `rejections`, with its coordinates and the reason, and does not
stop what comes after it."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from typing import Any

from server import Checks, Failure, Json, expect

# What is wrong with the record, the record, the code and what the reason speaks of.
GARBAGE: list[tuple[str, object, str, str]] = [
    ("an unknown kind", {"begin": {}}, "INVALID_ARGUMENT", "begin"),
    ("no kind", {}, "INVALID_ARGUMENT", "start"),
    ("no workflow id", {"start": {"workflow_type": "T", "task_queue": "q"}}, "INVALID_ARGUMENT", "workflow_id"),
    ("a field of the wrong type", {"start": {"workflow_id": 5, "workflow_type": "T", "task_queue": "q"}}, "INVALID_ARGUMENT", "workflow_id"),
    ("an unknown field", {"signal": {"workflow_id": "w", "signal_name": "s", "colour": "red"}}, "INVALID_ARGUMENT", "colour"),
    ("an unknown policy", {"start": {"workflow_id": "w", "workflow_type": "T", "task_queue": "q", "id_reuse_policy": "never"}}, "INVALID_ARGUMENT", "id_reuse_policy"),
    ("a workflow id that is too long", {"start": {"workflow_id": "x" * 1001, "workflow_type": "T", "task_queue": "q"}}, "INVALID_ARGUMENT", "exceeds"),
    ("an unknown namespace", {"start": {"namespace": "nowhere", "workflow_id": "w", "workflow_type": "T", "task_queue": "q"}}, "NOT_FOUND", "nowhere"),
    ("a signal for nobody", {"signal": {"workflow_id": "bad-requests-nobody", "signal_name": "s"}}, "NOT_FOUND", "bad-requests-nobody"),
]  # fmt: skip

# What can't be sent by `millrace produce`, if that checks its input, but by any Kafka client.
GARBAGE_BYTES: list[tuple[str, bytes, str, str]] = [
    ("no JSON", b"not JSON at all", "INVALID_ARGUMENT", "JSON"),
    ("bytes that are no text", bytes(range(256)), "INVALID_ARGUMENT", ""),
    ("nothing", b"", "INVALID_ARGUMENT", ""),
    ("Avro of an unknown schema", b"\xc3\x01" + bytes(8) + b"rest", "INVALID_ARGUMENT", "schema"),
]

Produce = Callable[[str, bytes], None]
"""Puts a record with a key on `requests`."""
Read = Callable[[str, int], list[Json]]
"""Waits until a topic has so many records, and returns their values."""


def run(checks: Checks, produce: Produce, read: Read, *, garbage_bytes: bool) -> None:
    garbage = [(name, json.dumps(record).encode(), code, says) for name, record, code, says in GARBAGE]
    if garbage_bytes:
        garbage += GARBAGE_BYTES
    keys = {name: f"bad-requests-{secrets.token_hex(4)}" for name, *_ in garbage}
    good = f"bad-requests-good-{secrets.token_hex(4)}"
    rejected: dict[str, list[Json]] = {}
    with checks.check("requests: garbage does not stop what comes after it"):
        for name, record, _, _ in garbage:
            produce(keys[name], record)
        produce(good, json.dumps({"start": {"workflow_id": good, "workflow_type": "T", "task_queue": "nobody"}}).encode())
        produce(good, json.dumps({"terminate": {"workflow_id": good, "reason": "the test is over"}}).encode())
        for value in read("rejections", len(garbage)):
            rejected.setdefault(as_text(value["key"]), []).append(value)
        expect("the completions", [(value["workflow_id"], value["status"]) for value in read("completions", 1)], [(good, "TERMINATED")])
    for name, record, code, says in garbage:
        with checks.check(f"requests: {name}"):
            expect_rejection(rejected.get(keys[name], []), record, code, says)


def expect_rejection(rejections: list[Json], record: bytes, code: str, says: str) -> None:
    expect("the number of rejections of this record", len(rejections), 1)
    [rejection] = rejections
    expect("the code", rejection.get("code"), code)
    if says.lower() not in str(rejection.get("reason")).lower():
        raise Failure(f"Expected the reason to speak of {says!r}, but it is {rejection.get('reason')!r}")
    if not str(rejection.get("topic")).endswith("requests"):
        raise Failure(f"Expected the record's topic to be named, but the rejection is {rejection}")
    expect("the bytes that were kept", as_bytes(rejection.get("value", "")), record)


def as_bytes(value: Any) -> bytes:
    """Bytes as they are read from Avro, or as `millrace consume` shows them: text, or base64 of what is none."""
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return value if isinstance(value, bytes) else str(value).encode()


def as_text(value: Any) -> str:
    return as_bytes(value).decode(errors="replace")
