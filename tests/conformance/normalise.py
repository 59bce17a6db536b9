"""Takes out of a history what differs from run to run, and nothing else.

Ids, times, names of queues and of processes become placeholders in angle brackets. Timeouts, retry policies, attempts,
payloads, failures, references between events and the SDK's flags stay: a compatible server must get them right.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict
from temporalio.api.history.v1 import HistoryEvent

TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")

# Fields that say when and where, not what. They are dropped: a server may fill them or not.
DROPPED = {"event_time", "task_id", "history_size_bytes"}

# Fields that are replaced whole. Whether they are set at all is part of the comparison.
REPLACED = {
    "request_id": "<request id>",
    "attached_request_id": "<request id>",
    "binary_checksum": "<build>",
    "build_id": "<build>",
    "stack_trace": "<stack trace>",
    "task_token": "<task token>",
    "sdk_version": "<sdk version>",
}

NAMESPACE_FIELDS = {"namespace", "parent_workflow_namespace", "workflow_namespace"}


@dataclass
class Names:
    """The names that one run of a program was given, and what stands for them in its recording."""

    id_prefix: str
    namespace: str
    runs: dict[str, str] = field(default_factory=dict)

    def replace(self, text: str) -> str:
        for run_id, label in self.runs.items():
            text = text.replace(run_id, f"<run of {label}>")
        return UUID.sub("<uuid>", text.replace(self.id_prefix, "<prefix>"))


def normalise(events: list[HistoryEvent], names: Names) -> list[dict[str, Any]]:
    return [_normalise_event(event, names) for event in events]


def _normalise_event(event: HistoryEvent, names: Names) -> dict[str, Any]:
    fields = MessageToDict(event, preserving_proto_field_name=True)
    normalised: dict[str, Any] = {}
    for key, value in fields.items():
        if key == "event_type":
            normalised[key] = value.removeprefix("EVENT_TYPE_")
        elif key.endswith("_event_attributes"):
            normalised["attributes"] = _without_clock(_normalise(value, key, names))
        elif key not in DROPPED:
            normalised[key] = _normalise(value, key, names)
    return normalised


def _normalise(value: Any, key: str, names: Names) -> Any:
    if key in REPLACED and isinstance(value, str):
        return REPLACED[key]
    if key in NAMESPACE_FIELDS and value == names.namespace:
        return "<namespace>"
    if key == "identity":
        # Workers and clients are named after their process; the server names itself without one.
        return "<identity>" if "@" in value else names.replace(value)
    if isinstance(value, list):
        items = [_normalise(item, key, names) for item in value]
        # Flags are a set, and the SDKs send it in any order.
        return sorted(items) if key.endswith("_used_flags") else items
    if isinstance(value, dict):
        if value.get("kind") == "TASK_QUEUE_KIND_STICKY":
            return {**_normalise_fields(value, names), "name": "<sticky queue>"}
        if "encoding" in value.get("metadata", {}):
            return _payload(value, names)
        return _normalise_fields(value, names)
    if isinstance(value, str):
        return "<time>" if TIME.fullmatch(value) else names.replace(value)
    return value


def _without_clock(attributes: dict[str, Any]) -> dict[str, Any]:
    """Replaces back-offs that depend on the time of day or on how long a run took.

    A run that continues another soon after its start is held back for what is left of a second; a cron run, until its
    next time. The back-off of a delayed start, however, is what the client asked for.
    """
    if "backoff_start_interval" in attributes:
        attributes["backoff_start_interval"] = "<back-off>"
    if "continued_execution_run_id" in attributes or "cron_schedule" in attributes:
        attributes["first_workflow_task_backoff"] = "<back-off>"
    return attributes


def _normalise_fields(fields: dict[str, Any], names: Names) -> dict[str, Any]:
    return {names.replace(key): _normalise(value, key, names) for key, value in fields.items() if key not in DROPPED}


def _payload(payload: dict[str, Any], names: Names) -> dict[str, Any]:
    """A payload with its metadata and data as text where they are text."""
    metadata = {key: names.replace(_text(value)) for key, value in sorted(payload["metadata"].items())}
    readable: dict[str, Any] = {"metadata": metadata}
    if "data" in payload:
        readable["data"] = names.replace(_text(payload["data"]))
    return readable


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode()
    except UnicodeDecodeError:
        return f"base64:{encoded}"
