#!/usr/bin/env python3
"""Prints a workflow's history as a table: event id, time since the start, type, and the details that tell the story.

    history_table.py ADDRESS WORKFLOW_ID [RUN_ID]
"""

from __future__ import annotations

import asyncio
import os
import sys

from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

TEXT_LENGTH_MAX = 60


async def main(address: str, workflow_id: str, run_id: str | None = None) -> None:
    client = await Client.connect(address)
    events = (await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()).events
    began = events[0].event_time.ToDatetime()
    print(f"{'event':>5}  {'time':>8}  {'type':<28}  details")
    for event in events:
        seconds = (event.event_time.ToDatetime() - began).total_seconds()
        print(f"{event.event_id:>5}  {seconds:>6.2f} s  {type_name(event):<28}  {details(event)}".rstrip())


def type_name(event: HistoryEvent) -> str:
    return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").title().replace("_", "")


def details(event: HistoryEvent) -> str:
    match event.WhichOneof("attributes"):
        case "workflow_execution_started_event_attributes":
            started = event.workflow_execution_started_event_attributes
            return f"{started.workflow_type.name}({text(started.input)})"
        case "activity_task_scheduled_event_attributes":
            scheduled = event.activity_task_scheduled_event_attributes
            attempts_max = scheduled.retry_policy.maximum_attempts
            return scheduled.activity_type.name + (f", at most {attempts_max} attempts" if attempts_max else "")
        case "activity_task_started_event_attributes":
            begun = event.activity_task_started_event_attributes
            failure = f', after "{begun.last_failure.message}"' if begun.HasField("last_failure") else ""
            return f"attempt {begun.attempt}{failure}"
        case "activity_task_completed_event_attributes":
            return f"→ {text(event.activity_task_completed_event_attributes.result)}"
        case "timer_started_event_attributes":
            timer = event.timer_started_event_attributes
            return f"{timer.start_to_fire_timeout.ToTimedelta().total_seconds():g} s"
        case "workflow_execution_completed_event_attributes":
            return f"→ {text(event.workflow_execution_completed_event_attributes.result)}"
    return ""


def text(payloads: Payloads) -> str:
    whole = ", ".join(payload.data.decode(errors="replace") or "nothing" for payload in payloads.payloads)
    return whole if len(whole) <= TEXT_LENGTH_MAX else f"{whole[: TEXT_LENGTH_MAX - 1]}…"


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    sys.stdout.flush()
    os._exit(0)
