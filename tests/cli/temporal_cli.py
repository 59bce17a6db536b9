#!/usr/bin/env python3
"""Uses a server through the `temporal` CLI as people do, and checks what it prints.

A worker in this process runs the one workflow. Works against any Temporal server. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import activity, workflow
from temporalio.api.enums.v1 import BatchOperationType
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from server import Checks, Failure, expect, wait_until

COMMAND_SECONDS_MAX = 30
VISIBLE_SECONDS_MAX = 20
until = partial(wait_until, VISIBLE_SECONDS_MAX)
IDENTITY = "temporal-cli-test"


@workflow.defn(sandboxed=False)
class Letter:
    """Waits for its text, and can be asked whether it has it."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.signatures: list[str] = []

    @workflow.run
    async def run(self, name: str) -> str:
        await workflow.wait_condition(lambda: self.text is not None)
        return f"Dear {name}, {self.text}"

    @workflow.signal
    def write(self, text: str) -> None:
        self.text = text

    @workflow.query
    def written(self) -> bool:
        return self.text is not None

    @workflow.update
    def sign(self, name: str) -> str:
        self.signatures.append(name)
        return ", ".join(self.signatures)

    @sign.validator
    def check_signature(self, name: str) -> None:
        if not name:
            raise ApplicationError("a signature has a name", type="NoName")


@workflow.defn(sandboxed=False)
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"Hello, {name}"


DELIVERIES = {"open": False}


@activity.defn
async def deliver(name: str) -> str:
    if not DELIVERIES["open"]:
        raise ApplicationError("nobody is at home", type="Closed")
    return f"delivered to {name}, attempt {activity.info().attempt}"


@workflow.defn(sandboxed=False)
class Delivery:
    """Delivers once an hour until somebody is at home."""

    @workflow.run
    async def run(self, name: str) -> str:
        retries = RetryPolicy(initial_interval=timedelta(hours=1))
        return await workflow.execute_activity(
            deliver, name, activity_id="deliver", start_to_close_timeout=timedelta(seconds=30), retry_policy=retries
        )


class Cli:
    """The `temporal` command, pointed at one server and namespace."""

    def __init__(self, binary: str, address: str, namespace: str) -> None:
        self.binary, self.address, self.namespace = binary, address, namespace

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        environment = {**os.environ, "TEMPORAL_ADDRESS": self.address, "TEMPORAL_NAMESPACE": self.namespace}
        process = await asyncio.create_subprocess_exec(
            self.binary, *arguments, env=environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS_MAX)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Failure(f"Expected temporal {' '.join(arguments)} to end within {COMMAND_SECONDS_MAX} s") from None
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def text(self, *arguments: str) -> str:
        code, out, err = await self.run(*arguments)
        if code != 0:
            raise Failure(f"temporal {' '.join(arguments)} ended with exit status {code}: {(err or out).strip()}")
        return out

    async def json(self, *arguments: str) -> Any:
        text = await self.text(*arguments, "--output", "json")
        try:
            return json.loads(text)
        except ValueError:
            raise Failure(f"Expected JSON from temporal {' '.join(arguments)}, but got {text!r}") from None

    async def fails(self, says: str, *arguments: str) -> None:
        code, out, err = await self.run(*arguments)
        if code == 0:
            raise Failure(f"Expected temporal {' '.join(arguments)} to fail, but it printed {out!r}")
        if says.lower() not in (out + err).lower():
            raise Failure(f"Expected temporal {' '.join(arguments)} to speak of {says!r}, but it said {(out + err).strip()!r}")


class Story:
    """The checks, in the order in which they run. Later ones use what earlier ones have started."""

    def __init__(self, cli: Cli, client: Client, task_queue: str) -> None:
        self.cli = cli
        self.client = client
        self.task_queue = task_queue
        self.letter = f"{task_queue}-letter"
        self.run_id = ""

    async def operator_cluster_health(self) -> None:
        expect("the cluster's health", (await self.cli.text("operator", "cluster", "health")).strip(), "SERVING")

    async def health_asked_compressed(self) -> None:
        # As SDKs ask for everything.
        expect("the service's health", await self.client.service_client.check_health(), True)

    async def operator_namespace(self) -> None:
        name = f"{self.task_queue}-namespace"
        create = ("operator", "namespace", "create", "--namespace", name, "--retention", "24h")
        await self.cli.text(*create, "--description", "made by a test")
        [described] = as_list(await self.cli.json("operator", "namespace", "describe", "--namespace", name))
        expect("the namespace's name", described["namespaceInfo"]["name"], name)
        expect("its state", described["namespaceInfo"]["state"], "NAMESPACE_STATE_REGISTERED")
        expect("its description", described["namespaceInfo"]["description"], "made by a test")
        expect("its retention", described["config"]["workflowExecutionRetentionTtl"], "86400s")
        listed = await self.cli.json("operator", "namespace", "list")
        names = [namespace["namespaceInfo"]["name"] for namespace in listed]
        expect("whether the list has it", name in names and self.cli.namespace in names, True)
        await self.cli.fails("already", *create)
        await self.cli.fails("not found", "operator", "namespace", "describe", "--namespace", f"{name}-nowhere")

    async def operator_search_attribute(self) -> None:
        create = ("operator", "search-attribute", "create", "--name", "Shelf", "--type", "Keyword", "--name", "Copies", "--type", "Int")
        await self.cli.text(*create)
        await self.cli.text(*create)
        listed = await self.cli.json("operator", "search-attribute", "list")
        types = {name: listed["customAttributes"].get(name) for name in ("Shelf", "Copies")}
        expect("the attributes' types", types, {"Shelf": "INDEXED_VALUE_TYPE_KEYWORD", "Copies": "INDEXED_VALUE_TYPE_INT"})
        expect("the type of one that is always there", listed["systemAttributes"].get("BuildIds"), "INDEXED_VALUE_TYPE_KEYWORD_LIST")
        await self.cli.fails("reserved", "operator", "search-attribute", "create", "--name", "WorkflowId", "--type", "Int")
        await self.cli.fails("non-custom", "operator", "search-attribute", "remove", "--name", "WorkflowId", "--yes")

    async def search_attributes_of_workflows(self) -> None:
        ids = [f"{self.task_queue}-shelf-{number}" for number in range(3)]
        for number, workflow_id in enumerate(ids):
            await self.start("Letter", workflow_id, "--search-attribute", 'Shelf="upper"', "--search-attribute", f"Copies={2 - number}")
        shown = await self.cli.json("workflow", "show", "--workflow-id", ids[0])
        given = shown["events"][0]["workflowExecutionStartedEventAttributes"]["searchAttributes"]["indexedFields"]
        types = {name: base64.b64decode(payload["metadata"]["type"]).decode() for name, payload in given.items()}
        expect("the types in the history", types, {"Shelf": "Keyword", "Copies": "Int"})

        async def listed() -> bool:
            found = await self.cli.json("workflow", "list", "--query", f'Shelf = "upper" AND Copies < 2 AND TaskQueue = "{self.task_queue}"')
            return sorted(each["execution"]["workflowId"] for each in found) == ids[1:]

        await until("the list to have those with few copies", listed)
        await self.refuses("has no mapping defined for search attribute Colour", "--search-attribute", 'Colour="red"')
        await self.refuses("invalid value for search attribute Copies of type Int: many", "--search-attribute", 'Copies="many"')
        await self.refuses("WorkflowId attribute can't be set in SearchAttributes", "--search-attribute", 'WorkflowId="a"')

        await self.cli.text("operator", "search-attribute", "remove", "--name", "Shelf", "--name", "Copies", "--yes")

        async def gone() -> bool:
            code, out, err = await self.cli.run("workflow", "list", "--query", "Copies < 2")
            return code != 0 and "Copies" in out + err

        await until("removed attributes not to be known", gone)
        for workflow_id in ids:
            await self.cli.text("workflow", "terminate", "--workflow-id", workflow_id)

    async def workflow_start(self) -> None:
        started = await self.start("Letter", self.letter)
        expect("the workflow's id", started["workflowId"], self.letter)
        expect("its type", started["type"], "Letter")
        self.run_id = started["runId"]

    async def workflow_start_of_a_running_one(self) -> None:
        same = await self.start("Letter", self.letter)
        expect("the run that runs already", same["runId"], self.run_id)
        arguments = ("--type", "Letter", "--task-queue", self.task_queue, "--workflow-id", self.letter)
        await self.cli.fails("already", "workflow", "start", *arguments, "--fail-existing")

    async def task_queue_describe(self) -> None:
        async def seen() -> bool:
            described = await self.cli.json("task-queue", "describe", "--task-queue", self.task_queue)
            return IDENTITY in json.dumps(described)

        await until("the task queue to have our poller", seen)

    async def task_queue_describe_by_build_id(self) -> None:
        arguments = ("--task-queue", self.task_queue, "--select-build-id", "unknown", "--select-unversioned")
        described = await self.cli.json("task-queue", "describe", *arguments, "--report-reachability")
        reachable = {of["buildId"]: of["reachability"] for of in described["reachability"]}
        expect("what tasks reach", reachable, {"UNVERSIONED": "reachable", "unknown": "unreachable"})
        expect("the pollers' build", {poller["buildId"] for poller in described["pollers"]}, {"UNVERSIONED"})

    async def workflow_query(self) -> None:
        answer = await self.cli.json("workflow", "query", "--workflow-id", self.letter, "--type", "written")
        expect("the query's answer", answer["queryResult"], [False])
        unknown = ("workflow", "query", "--workflow-id", self.letter, "--type", "colour")
        await self.cli.fails("colour", *unknown)

    async def workflow_describe(self) -> None:
        described = await self.cli.json("workflow", "describe", "--workflow-id", self.letter)
        info = described["workflowExecutionInfo"]
        expect("the status", info["status"], "WORKFLOW_EXECUTION_STATUS_RUNNING")
        expect("the run", info["execution"], {"workflowId": self.letter, "runId": self.run_id})
        expect("the task queue", info["taskQueue"], self.task_queue)
        expect("the history's length", info["historyLength"], "4")
        await self.cli.fails("not found", "workflow", "describe", "--workflow-id", f"{self.letter}-nobody")

    async def workflow_update(self) -> None:
        sign = ("--workflow-id", self.letter, "--name", "sign", "--update-id")
        executed = await self.cli.json("workflow", "update", "execute", *sign, "ada", "--input", '"Ada"')
        expect("the update", (executed["updateId"], executed["result"]), ("ada", "Ada"))
        started = await self.cli.json("workflow", "update", "start", *sign, "bea", "--input", '"Bea"', "--wait-for-stage", "accepted")
        expect("the update's id", started["updateId"], "bea")
        of = ("--workflow-id", self.letter, "--update-id")
        result = await self.cli.json("workflow", "update", "result", *of, "bea")
        expect("its result", result["result"], "Ada, Bea")
        described = await self.cli.json("workflow", "update", "describe", *of, "bea")
        expect("its stage", described["stage"], "Completed")
        await self.cli.fails("a signature has a name", "workflow", "update", "execute", *sign, "nobody", "--input", '""')
        await self.cli.fails("not found", "workflow", "update", "describe", *of, "nobody")

    async def workflow_signal(self) -> None:
        signal = ("workflow", "signal", "--name", "write", "--input", '"all is well"')
        await self.cli.text(*signal, "--workflow-id", self.letter)
        await self.cli.fails("not found", *signal, "--workflow-id", f"{self.letter}-nobody")

    async def workflow_result(self) -> None:
        result = await self.cli.json("workflow", "result", "--workflow-id", self.letter)
        expect("the status", result["status"], "COMPLETED")
        expect("the result", result["result"], "Dear Ada, all is well")

    async def workflow_query_of_a_closed_one(self) -> None:
        answer = await self.cli.json("workflow", "query", "--workflow-id", self.letter, "--type", "written")
        expect("the query's answer", answer["queryResult"], [True])

    async def workflow_show(self) -> None:
        shown = await self.cli.json("workflow", "show", "--workflow-id", self.letter)
        types = [event["eventType"].removeprefix("EVENT_TYPE_") for event in shown["events"]]
        expect("the first event", types[0], "WORKFLOW_EXECUTION_STARTED")
        expect("the last event", types[-1], "WORKFLOW_EXECUTION_COMPLETED")
        expect("the number of signals", types.count("WORKFLOW_EXECUTION_SIGNALED"), 1)
        text = await self.cli.text("workflow", "show", "--workflow-id", self.letter)
        expect("whether the table has the end", "WorkflowExecutionCompleted" in text, True)

    async def workflow_execute(self) -> None:
        workflow_id = f"{self.task_queue}-hello"
        arguments = ("--type", "Hello", "--task-queue", self.task_queue, "--workflow-id", workflow_id, "--input", '"Ada"')
        executed = await self.cli.json("workflow", "execute", *arguments)
        expect("the status", executed["status"], "COMPLETED")
        expect("the result", executed["result"], "Hello, Ada")

    async def workflow_list(self) -> None:
        async def listed() -> bool:
            query = f'TaskQueue = "{self.task_queue}" AND ExecutionStatus = "Completed"'
            found = await self.cli.json("workflow", "list", "--query", query)
            return {(each["execution"]["workflowId"], each["type"]["name"]) for each in found} == {
                (self.letter, "Letter"),
                (f"{self.task_queue}-hello", "Hello"),
            }

        await until("the list to have both workflows", listed)
        everything = await self.cli.json("workflow", "list", "--limit", "1")
        expect("the length of a list limited to 1", len(everything), 1)
        await self.cli.fails("Colour", "workflow", "list", "--query", "Colour = 'red'")

    async def workflow_count(self) -> None:
        async def counted() -> bool:
            count = await self.cli.json("workflow", "count", "--query", f'WorkflowType = "Hello" AND TaskQueue = "{self.task_queue}"')
            return str(count.get("count")) == "1"

        await until("the count to be 1", counted)

    async def workflow_execute_update_with_start(self) -> None:
        workflow_id = f"{self.task_queue}-signed"
        start = ("--workflow-id", workflow_id, "--type", "Letter", "--task-queue", self.task_queue, "--input", '"Ada"')
        update = ("--update-name", "sign", "--update-input", '"Cleo"', "--update-id", "cleo", "--id-conflict-policy", "Fail")
        signed = await self.cli.json("workflow", "execute-update-with-start", *start, *update)
        expect("the update's result", signed["updateResult"], "Cleo")
        await self.cli.text("workflow", "terminate", "--workflow-id", workflow_id)

    async def workflow_reset(self) -> None:
        workflow_id = f"{self.task_queue}-reset"
        started = await self.start("Letter", workflow_id)
        await self.cli.text("workflow", "signal", "--name", "write", "--input", '"again"', "--workflow-id", workflow_id)
        await self.cli.text("workflow", "result", "--workflow-id", workflow_id)
        of = ("--workflow-id", workflow_id, "--reason", "a misprint")
        again = await self.cli.json("workflow", "reset", *of, "--type", "FirstWorkflowTask")
        expect("whether the run is another", again["runId"] != started["runId"], True)
        result = await self.cli.json("workflow", "result", "--workflow-id", workflow_id)
        expect("the result, by the signal of the run before", result["result"], "Dear Ada, again")
        before = await self.cli.json("workflow", "describe", "--workflow-id", workflow_id, "--run-id", started["runId"])
        expect("what the run before says", before["workflowExtendedInfo"]["resetRunId"], again["runId"])
        after = await self.cli.json("workflow", "describe", "--workflow-id", workflow_id)
        extended, info = after["workflowExtendedInfo"], after["workflowExecutionInfo"]
        expect("whether it began later", extended["originalStartTime"] < extended["lastResetTime"] == info["startTime"], True)
        expect("its first run", info["firstRunId"], started["runId"])
        points = [point["runId"] for point in info["autoResetPoints"]["points"]]
        expect("the points to reset it to", points, [again["runId"]])
        await self.cli.text("workflow", "reset", *of, "--event-id", "4", "--run-id", started["runId"], "--reapply-exclude", "All")
        query = await self.cli.json("workflow", "query", "--workflow-id", workflow_id, "--type", "written")
        expect("whether a run without its signals has a text", query["queryResult"], [False])
        await self.cli.fails("must be > 1", "workflow", "reset", *of, "--event-id", "99")
        await self.cli.fails("not found", "workflow", "reset", "--workflow-id", f"{workflow_id}-nobody", "--reason", "none", "--event-id", "4")
        await self.cli.text("workflow", "terminate", "--workflow-id", workflow_id)

    async def workflow_update_options(self) -> None:
        workflow_id = f"{self.task_queue}-options"
        await self.start("Letter", workflow_id)
        change = ("workflow", "update-options", "--workflow-id")
        behavior = "--versioning-override-behavior"
        await self.cli.text(*change, workflow_id, behavior, "auto_upgrade")
        described = await self.cli.json("workflow", "describe", "--workflow-id", workflow_id)
        versioning = described["workflowExecutionInfo"]["versioningInfo"]
        auto_upgrade = {"autoUpgrade": True, "behavior": "VERSIONING_BEHAVIOR_AUTO_UPGRADE"}
        expect("the override", versioning["versioningOverride"], auto_upgrade)
        pinned = (behavior, "pinned", "--versioning-override-deployment-name", "d", "--versioning-override-build-id", "b")
        await self.cli.fails("Pinned version 'd:b' is not present in task queue", *change, workflow_id, *pinned)
        await self.cli.text(*change, workflow_id, behavior, "unspecified")
        await self.cli.fails("not found", *change, f"{workflow_id}-nobody", behavior, "auto_upgrade")
        await self.cli.text("workflow", "terminate", "--workflow-id", workflow_id)

    async def activity_pause_reset_and_options(self) -> None:
        workflow_id = f"{self.task_queue}-delivery"
        await self.start("Delivery", workflow_id)
        of = ("--workflow-id", workflow_id, "--activity-id", "deliver")

        async def pending() -> dict[str, Any]:
            return await self.pending(workflow_id)

        await until("the first attempt to fail", lambda: self.attempt(pending, 2))
        await self.cli.text("activity", "pause", *of)
        paused = await pending()
        expect("the paused activity's state", paused["state"], "PENDING_ACTIVITY_STATE_PAUSED")
        expect("whether it says who has paused it", bool(paused["pauseInfo"]["manual"]["identity"]), True)

        async def listed() -> bool:
            query = f'TemporalPauseInfo = "property:activityType=deliver" AND WorkflowId = "{workflow_id}"'
            return len(await self.cli.json("workflow", "list", "--query", query)) == 1

        await until("the list to have what is paused", listed)
        await self.cli.text("activity", "update-options", *of, "--heartbeat-timeout", "20s", "--retry-maximum-attempts", "7")
        changed = await pending()
        expect("the timeout", changed["activityOptions"]["heartbeatTimeout"], "20s")
        expect("the number of attempts", changed["maximumAttempts"], 7)
        await self.cli.fails("can't find pending activity", "activity", "pause", "--workflow-id", workflow_id, "--activity-id", "nothing")

        await self.cli.text("activity", "unpause", *of)
        await until("an attempt after the pause to fail", lambda: self.attempt(pending, 3))
        DELIVERIES["open"] = True
        await self.cli.text("activity", "reset", *of)
        result = await self.cli.json("workflow", "result", "--workflow-id", workflow_id)
        expect("the result", result["result"], "delivered to Ada, attempt 1")

    @staticmethod
    async def attempt(pending: Callable[[], Awaitable[dict[str, Any]]], number: int) -> bool:
        return (await pending()).get("attempt") == number

    async def schedules(self) -> None:
        schedule_id = f"{self.task_queue}-schedule"
        of = ("--schedule-id", schedule_id)
        action = ("--workflow-id", f"{schedule_id}-letter", "--type", "Letter", "--task-queue", self.task_queue)
        await self.cli.text("schedule", "create", *of, *action, "--input", '"Ada"', "--cron", "0 12 * * mon-fri", "--paused", "--notes", "not yet")
        await self.cli.fails("already", "schedule", "create", *of, *action, "--interval", "1h")
        await self.cli.fails("Invalid schedule spec", "schedule", "create", "--schedule-id", "bad", *action, "--cron", "0 25 * * *")
        described = await self.cli.json("schedule", "describe", *of)
        calendar = described["schedule"]["spec"]["structuredCalendar"][0]
        expect("the days of the week", calendar["dayOfWeek"], [{"start": 1, "end": 5, "step": 1}])
        expect("the state", described["schedule"]["state"], {"notes": "not yet", "paused": True})
        expect("the number of next times", len(described["info"]["futureActionTimes"]), 10)

        await self.cli.text("schedule", "trigger", *of, "--overlap-policy", "AllowAll")

        async def running() -> list[dict[str, Any]]:
            return (await self.cli.json("schedule", "describe", *of))["info"].get("recentActions") or []

        await until("the triggered workflow to run", running)
        started = (await running())[0]["startWorkflowResult"]
        await self.cli.text("workflow", "terminate", "--workflow-id", started["workflowId"])
        past = ("--start-time", "2026-01-01T00:00:00Z", "--end-time", "2026-01-02T23:00:00Z")
        await self.cli.text("schedule", "backfill", *of, *past, "--overlap-policy", "AllowAll")

        async def counted() -> bool:
            return (await self.cli.json("schedule", "describe", *of))["info"].get("actionCount") == "3"

        await until("the backfilled workflows to run", counted)
        for day in (1, 2):
            await self.cli.text("workflow", "terminate", "--workflow-id", f"{schedule_id}-letter-2026-01-0{day}T12:00:00Z")

        await self.cli.text("schedule", "toggle", *of, "--unpause", "--reason", "now")
        expect("the state", (await self.cli.json("schedule", "describe", *of))["schedule"]["state"], {"notes": "now"})
        await self.cli.text("schedule", "toggle", *of, "--pause", "--reason", "enough")
        await self.cli.text("schedule", "update", *of, *action, "--interval", "6h/5h", "--remaining-actions", "3")
        described = await self.cli.json("schedule", "describe", *of)
        expect("the interval", described["schedule"]["spec"]["interval"], [{"interval": "21600s", "phase": "18000s"}])
        expect("the number of next times", len(described["info"]["futureActionTimes"]), 3)

        async def listed() -> bool:
            schedules = await self.cli.json("schedule", "list")
            return any(schedule["scheduleId"] == schedule_id for schedule in schedules)

        await until("the schedule to be listed", listed)
        await self.cli.text("schedule", "delete", *of)
        await self.cli.fails("not found", "schedule", "describe", *of)

    async def batch(self, *command: str) -> str:
        """Starts a batch once no other runs, as no two may at a time, and returns its job id."""

        async def none_runs() -> bool:
            batches = await self.cli.json("batch", "list")
            return all(batch["state"] != "BATCH_OPERATION_STATE_RUNNING" for batch in batches or [])

        await until("no batch to run", none_runs)
        return (await self.cli.json(*command, "--reason", "a test", "--yes"))["batchJobId"]

    async def batch_done(self, job_id: str) -> dict[str, Any]:
        async def closed() -> bool:
            return (await self.cli.json("batch", "describe", "--job-id", job_id))["state"] != "BATCH_OPERATION_STATE_RUNNING"

        await until("the batch to end", closed)
        return await self.cli.json("batch", "describe", "--job-id", job_id)

    async def done_to(self, count: int, operation: str, *command: str) -> None:
        """A batch is completed, and its operation was applied to so many workflows."""
        described = await self.batch_done(await self.batch(*command))
        counts = {name: described.get(f"{name}OperationCount", "0") for name in ("total", "complete", "failure")}
        expect("the counts", counts, {"total": str(count), "complete": str(count), "failure": "0"})
        expect("the state", described["state"], "BATCH_OPERATION_STATE_COMPLETED")
        # The CLI knows the newer types by their numbers.
        known = (f"BATCH_OPERATION_TYPE_{operation}", BatchOperationType.Value(f"BATCH_OPERATION_TYPE_{operation}"))
        expect("whether the operation is the one that was requested", described["operationType"] in known, True)

    async def counts(self, query: str, count: int) -> None:
        async def counted() -> bool:
            return (await self.cli.json("workflow", "count", "--query", query)).get("count", "0") == str(count)

        await until(f"the number of {query} to be {count}", counted)

    async def batches(self) -> None:
        letters, query = f"{self.task_queue}-batch-", f'WorkflowId STARTS_WITH "{self.task_queue}-batch-"'
        ids = [f"{letters}{number}" for number in range(4)]
        for workflow_id in ids:
            await self.start("Letter", workflow_id)
        await self.counts(query, 4)
        await self.done_to(4, "SIGNAL_WORKFLOW", "workflow", "signal", "--query", query, "--name", "write", "--input", '"all"')
        for workflow_id in ids:
            result = await self.cli.json("workflow", "result", "--workflow-id", workflow_id)
            expect("the result", result["result"], "Dear Ada, all")
        await self.counts(f'{query} AND ExecutionStatus = "Completed"', 4)
        await self.done_to(4, "RESET_WORKFLOW", "workflow", "reset", "--query", query, "--type", "FirstWorkflowTask", "--reapply-exclude", "All")
        open_ones = f'{query} AND ExecutionStatus = "Running"'
        await self.counts(open_ones, 4)
        await self.done_to(1, "CANCEL_WORKFLOW", "workflow", "cancel", "--query", f'WorkflowId = "{ids[0]}"')
        await self.ends(ids[0], "CANCELED")
        await self.counts(open_ones, 3)
        await self.done_to(3, "TERMINATE_WORKFLOW", "workflow", "terminate", "--query", query)
        shown = await self.cli.json("workflow", "show", "--workflow-id", ids[1])
        expect("the reason", shown["events"][-1]["workflowExecutionTerminatedEventAttributes"]["reason"], "a test")
        await self.done_to(8, "DELETE_WORKFLOW", "workflow", "delete", "--query", query)
        await self.counts(query, 0)
        await self.cli.fails("not found", "workflow", "describe", "--workflow-id", ids[3])
        for command in (("describe",), ("terminate", "--reason", "none")):
            await self.cli.fails("could not find", "batch", *command, "--job-id", f"{letters}nobody")

    async def batches_of_activities(self) -> None:
        DELIVERIES["open"] = False
        ids = [f"{self.task_queue}-deliveries-{number}" for number in range(2)]
        query = f'WorkflowId STARTS_WITH "{self.task_queue}-deliveries-"'
        for workflow_id in ids:
            await self.start("Delivery", workflow_id)
            await until("the first attempt to fail", lambda of=workflow_id: self.attempt(lambda: self.pending(of), 2))
            await self.cli.text("activity", "pause", "--workflow-id", workflow_id, "--activity-id", "deliver")
        await self.counts(f'{query} AND TemporalPauseInfo = "property:activityType=deliver"', 2)
        await self.done_to(2, "UNPAUSE_ACTIVITY", "activity", "unpause", "--query", query, "--activity-type", "deliver", "--reset-attempts")
        await until("an attempt after the pause to fail", lambda: self.attempt(lambda: self.pending(ids[0]), 2))
        DELIVERIES["open"] = True
        await self.done_to(2, "RESET_ACTIVITY", "activity", "reset", "--query", query, "--match-all")
        for workflow_id in ids:
            result = await self.cli.json("workflow", "result", "--workflow-id", workflow_id)
            expect("the result", result["result"], "delivered to Ada, attempt 1")

    async def pending(self, workflow_id: str) -> dict[str, Any]:
        described = await self.cli.json("workflow", "describe", "--workflow-id", workflow_id)
        return (described.get("pendingActivities") or [{}])[0]

    async def workflow_cancel(self) -> None:
        workflow_id = f"{self.task_queue}-canceled"
        await self.start("Letter", workflow_id)
        await self.cli.text("workflow", "cancel", "--workflow-id", workflow_id)
        await self.ends(workflow_id, "CANCELED")
        await self.cli.fails("not found", "workflow", "cancel", "--workflow-id", f"{self.letter}-nobody")

    async def workflow_terminate(self) -> None:
        workflow_id = f"{self.task_queue}-terminated"
        await self.start("Letter", workflow_id)
        await self.cli.text("workflow", "terminate", "--workflow-id", workflow_id, "--reason", "enough")
        await self.ends(workflow_id, "TERMINATED")
        shown = await self.cli.json("workflow", "show", "--workflow-id", workflow_id)
        expect("the reason", shown["events"][-1]["workflowExecutionTerminatedEventAttributes"]["reason"], "enough")
        await self.cli.fails("already completed", "workflow", "terminate", "--workflow-id", workflow_id)

    async def start(self, workflow_type: str, workflow_id: str, *more: str) -> Any:
        arguments = ("--type", workflow_type, "--task-queue", self.task_queue, "--workflow-id", workflow_id, "--input", '"Ada"')
        return await self.cli.json("workflow", "start", *arguments, *more)

    async def refuses(self, says: str, *more: str) -> None:
        await self.cli.fails(says, "workflow", "start", "--type", "Letter", "--task-queue", self.task_queue, *more)

    async def ends(self, workflow_id: str, status: str) -> None:
        code, _, err = await self.cli.run("workflow", "result", "--workflow-id", workflow_id)
        expect(f"the exit status of a result that is none ({err.strip()})", code, 1)
        described = await self.cli.json("workflow", "describe", "--workflow-id", workflow_id)
        expect("the status", described["workflowExecutionInfo"]["status"], f"WORKFLOW_EXECUTION_STATUS_{status}")


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@asynccontextmanager
async def worker(address: str, namespace: str, task_queue: str) -> AsyncIterator[None]:
    client = await Client.connect(address, namespace=namespace, identity=IDENTITY)
    async with Worker(client, task_queue=task_queue, workflows=[Letter, Hello, Delivery], activities=[deliver]):
        yield


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:7233", help="host:port of the server (default: %(default)s)")
    parser.add_argument("--namespace", default="default", help="default: %(default)s")
    parser.add_argument("--temporal", default="temporal", metavar="PROGRAM", help="the CLI (default: the one on PATH)")
    options = parser.parse_args()
    if not shutil.which(options.temporal):
        parser.error(f"there is no {options.temporal}: go install github.com/temporalio/cli/cmd/temporal@v1.5.1")

    # An activity that fails is a part of the story.
    logging.getLogger("temporalio").setLevel(logging.ERROR)
    checks = Checks()
    task_queue = f"cli-{secrets.token_hex(4)}"
    client = await Client.connect(options.address, namespace=options.namespace)
    story = Story(Cli(options.temporal, options.address, options.namespace), client, task_queue)
    steps = [
        story.operator_cluster_health,
        story.health_asked_compressed,
        story.operator_namespace,
        story.workflow_start,
        story.workflow_start_of_a_running_one,
        story.task_queue_describe,
        story.task_queue_describe_by_build_id,
        story.workflow_query,
        story.workflow_describe,
        story.workflow_update,
        story.workflow_signal,
        story.workflow_result,
        story.workflow_query_of_a_closed_one,
        story.workflow_show,
        story.workflow_execute,
        story.workflow_list,
        story.workflow_count,
        story.workflow_execute_update_with_start,
        story.workflow_reset,
        story.workflow_update_options,
        story.activity_pause_reset_and_options,
        story.schedules,
        story.batches,
        story.batches_of_activities,
        story.workflow_cancel,
        story.workflow_terminate,
        story.operator_search_attribute,
        story.search_attributes_of_workflows,
    ]
    async with worker(options.address, options.namespace, task_queue):
        for step in steps:
            with checks.check(f"temporal {step.__name__.replace('_', ' ')}"):
                await step()
    print(checks.closing_line())
    return 1 if checks.failed else 0


if __name__ == "__main__":
    code = asyncio.run(main())
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
