#!/usr/bin/env python3
"""Records the event histories that the test programs leave on a Temporal server, and checks another server by them.

`record` runs every program of programs.toml and writes its histories to histories/<program>/<label>.json. `check` runs
the same programs and compares event by event. The last line on stdout counts the programs: `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import fnmatch
import json
import os
import secrets
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetSystemInfoRequest,
    GetWorkflowExecutionHistoryRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from normalise import Names, normalise

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
RECORDINGS = HERE / "histories"
PROGRAM_TIMEOUT_SECONDS = 90.0

Events = list[dict[str, Any]]
Histories = dict[str, Events]
"""The normalised histories of one run of a program, by label."""


class Failure(Exception):
    """Why a program does not pass; the text is for people."""


@dataclass(frozen=True)
class Language:
    name: str
    directory: Path
    command: list[str]
    programs: list[str]
    build_directory: Path
    build: list[str] = field(default_factory=list)
    build_creates: str = ""

    def fill(self, command: list[str], program: str = "") -> list[str]:
        known = {"program": program, "python": sys.executable, "build": str(self.build_directory)}
        return [part.format(**known) for part in command]


@dataclass(frozen=True)
class Program:
    language: Language
    program: str

    @property
    def name(self) -> str:
        return f"{self.language.name}/{self.program}"

    def command(self) -> list[str]:
        return self.language.fill(self.language.command, self.program)


@dataclass(frozen=True)
class Server:
    client: Client
    address: str
    namespace: str
    version: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    record_parser = actions.add_parser("record", help="write recordings from a server that is known to be right")
    record_parser.add_argument("--add", action="store_true", help="keep what is recorded; add histories that differ")
    check_parser = actions.add_parser("check", help="compare a server with the recordings")
    for action in (record_parser, check_parser):
        action.add_argument("--address", default="127.0.0.1:7233", help="host:port (default: %(default)s)")
        action.add_argument("--namespace", default="default", help="default: %(default)s")
        action.add_argument(
            "--only", action="append", metavar="NAME",
            help="a language, a program, or a pattern such as '*/order'; may be given several times",
        )  # fmt: skip
        action.add_argument("--jobs", type=int, default=1, metavar="N", help="programs that run at the same time")
        action.add_argument(
            "--build-directory", type=Path, default=REPOSITORY / "target" / "programs", metavar="DIRECTORY",
            help="where what is compiled goes (default: target/programs of the repository)",
        )  # fmt: skip
        action.add_argument("--verbose", action="store_true", help="show what the programs narrate")
    options = parser.parse_args()
    code = asyncio.run(run(options))
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def run(options: argparse.Namespace) -> int:
    programs = [program for program in all_programs(options.build_directory) if selected(program, options.only)]
    if not programs:
        print(f"Expected --only to name a program, but there is none like {', '.join(options.only)}", file=sys.stderr)
        return 2
    try:
        server = await connect(options.address, options.namespace)
    except (RuntimeError, RPCError, TimeoutError) as error:
        expected = f"a server at {options.address} with the namespace {options.namespace}"
        print(f"Expected {expected}, but there is none: {error}", file=sys.stderr)
        return 2

    unbuilt = await build({program.language.name: program.language for program in programs}.values())
    free = asyncio.Semaphore(max(1, options.jobs))

    async def passes(program: Program) -> bool:
        async with free:
            began = time.monotonic()
            try:
                if program.language.name in unbuilt:
                    raise Failure(unbuilt[program.language.name])
                histories = await play(program, server, options.verbose)
                if options.action == "record":
                    outcome = record(program, histories, server, add=options.add)
                else:
                    outcome = check(program, histories)
            except Failure as failure:
                print(f"FAILED  {program.name}\n{indent(str(failure))}", flush=True)
                return False
            print(f"passed  {program.name}: {outcome} ({time.monotonic() - began:.1f} s)", flush=True)
            return True

    passed = sum(await asyncio.gather(*(passes(program) for program in programs)))
    print(f"{passed} passed, {len(programs) - passed} failed")
    return 0 if passed == len(programs) else 1


def all_programs(build_directory: Path) -> Iterator[Program]:
    for name, table in tomllib.loads((HERE / "programs.toml").read_text()).items():
        directory = REPOSITORY / table.pop("directory")
        language = Language(name, directory, build_directory=build_directory.resolve(), **table)
        for program in language.programs:
            yield Program(language, program)


def selected(program: Program, patterns: list[str] | None) -> bool:
    names = (program.name, program.language.name, program.program)
    return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns for name in names)


async def connect(address: str, namespace: str) -> Server:
    client = await asyncio.wait_for(Client.connect(address, namespace=namespace), 10)
    await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    system = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    return Server(client, address, namespace, system.server_version)


async def build(languages: Any) -> dict[str, str]:
    """Builds what has to be built; returns, by language, why that failed."""
    failures: dict[str, str] = {}
    for language in languages:
        if not language.build or (language.build_creates and (language.directory / language.build_creates).exists()):
            continue
        command = language.fill(language.build)
        print(f"building {language.name}: {' '.join(command)}", file=sys.stderr, flush=True)
        try:
            await execute(command, language.directory, timeout_seconds=1800)
        except Failure as failure:
            failures[language.name] = f"Expected {language.name} to build, but: {failure}"
    return failures


async def play(program: Program, server: Server, verbose: bool) -> Histories:
    """Runs a program and returns the histories of the executions that it lists."""
    # A prefix of its own keeps a run apart from all others, and is recognised wherever it appears.
    id_prefix = f"{program.name.replace('/', '-')}-{secrets.token_hex(4)}"
    flags = ["--address", server.address, "--namespace", server.namespace, "--id-prefix", id_prefix]
    output = await execute(
        program.command() + flags, program.language.directory, timeout_seconds=PROGRAM_TIMEOUT_SECONDS, verbose=verbose
    )
    try:
        executions = json.loads(output.strip().splitlines()[-1])["executions"]
        listed = {execution["label"]: execution for execution in executions}
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise Failure(f"Expected a last line of JSON that lists executions, but: {error!r}\n{output}") from error
    if len(listed) != len(executions):
        raise Failure(f"Expected each execution to have a label of its own, but got {executions}")

    names = Names(id_prefix, server.namespace, {execution["run_id"]: label for label, execution in listed.items()})
    return {
        label: normalise(await fetch(server, execution["workflow_id"], execution["run_id"]), names)
        for label, execution in listed.items()
    }


async def fetch(server: Server, workflow_id: str, run_id: str) -> list[HistoryEvent]:
    """The whole history of one run, page by page, as the server sends it."""
    execution = WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
    request = GetWorkflowExecutionHistoryRequest(namespace=server.namespace, execution=execution)
    events: list[HistoryEvent] = []
    while True:
        try:
            response = await server.client.workflow_service.get_workflow_execution_history(request)
        except RPCError as error:
            raise Failure(f"Expected the history of {workflow_id}, run {run_id}, but: {error}") from error
        events.extend(response.history.events)
        if not response.next_page_token:
            return events
        request.next_page_token = response.next_page_token


async def execute(command: list[str], directory: Path, *, timeout_seconds: float, verbose: bool = False) -> str:
    """Runs a command and returns its stdout."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if verbose else asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    except OSError as error:
        raise Failure(f"could not start {' '.join(command)}: {error}") from error
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), timeout_seconds)
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise Failure(f"{' '.join(command)} did not end within {timeout_seconds:g} s") from error
    if process.returncode != 0:
        raise Failure(f"{' '.join(command)} exited with {process.returncode}\n{tail(stderr or stdout)}")
    return stdout.decode()


def record(program: Program, histories: Histories, server: Server, *, add: bool) -> str:
    """Writes recordings. With `add`, a history that equals no variant becomes another one."""
    written = 0
    for label, events in histories.items():
        file = recording_file(program, label)
        variants = json.loads(file.read_text())["variants"] if add and file.exists() else []
        if events in variants:
            continue
        recording = {
            "program": program.name,
            "label": label,
            "recorded_from": f"Temporal server {server.version}",
            "variants": [*variants, events],
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(recording, indent=1, ensure_ascii=False) + "\n")
        written += 1
    if not add:
        for file in recorded_files(program):
            if file.stem not in histories:
                file.unlink()
    return f"{written} of {len(histories)} histories written"


def check(program: Program, histories: Histories) -> str:
    recorded = {file.stem for file in recorded_files(program)}
    if recorded != set(histories):
        raise Failure(f"Expected the executions {sorted(recorded)} as recorded, but got {sorted(histories)}")
    differences = []
    for label, events in histories.items():
        variants = json.loads(recording_file(program, label).read_text())["variants"]
        if events not in variants:
            differences.append(closest_difference(label, variants, events))
    if differences:
        raise Failure("\n".join(differences))
    return f"{sum(map(len, histories.values()))} events in {len(histories)} histories"


def closest_difference(label: str, variants: list[Events], events: Events) -> str:
    """A unified diff from the recorded variant that has most in common with the events."""
    actual = readable(events)
    expected = max(
        (readable(variant) for variant in variants),
        key=lambda lines: difflib.SequenceMatcher(None, lines, actual, autojunk=False).ratio(),
    )
    diff = difflib.unified_diff(expected, actual, f"recorded {label}", f"actual {label}", lineterm="", n=6)
    return "\n".join(diff)


def readable(events: Events) -> list[str]:
    """One line for each event's head, one for each attribute, so that a diff shows the event it belongs to."""
    lines: list[str] = []
    for event in events:
        rest = {key: value for key, value in event.items() if key not in ("event_id", "event_type")}
        lines.append(f"{event['event_id']} {event['event_type']}")
        lines.extend(f"    {line}" for line in json.dumps(rest, indent=1, ensure_ascii=False).splitlines()[1:-1])
    return lines


def recording_file(program: Program, label: str) -> Path:
    return RECORDINGS / program.name / f"{label}.json"


def recorded_files(program: Program) -> list[Path]:
    return sorted((RECORDINGS / program.name).glob("*.json"))


def tail(output: bytes, lines: int = 40) -> str:
    return "\n".join(output.decode(errors="replace").splitlines()[-lines:])


def indent(text: str) -> str:
    return "\n".join(f"        {line}" for line in text.splitlines())


if __name__ == "__main__":
    main()
