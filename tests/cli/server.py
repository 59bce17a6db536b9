"""Starts and stops Millrace servers for the tests, and reads and writes topics by `millrace consume` and `produce`.

Only the standard library, so that no virtual environment is needed.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SESSION_TIMEOUT_MS = 6000
"""The shortest that a broker takes as it comes: a node that was killed and has lost its directory is missed for so long."""
READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
REFUSED_SECONDS_MAX = 40.0
CONSUME_SECONDS_MAX = 30.0

Json = dict[str, Any]

# The system hands out those from 32768 on: a server that is away, or has yet to start, would find its port taken by a connection.
PORTS = range(20_000, 32_000)


class Failure(Exception):
    """Why a check does not pass; the text is for people."""


class Server:
    """One Millrace server: its directory and address stay the same while its process comes and goes."""

    def __init__(self, binary: str, directory: Path, *, brokers: str | None = None, topic_prefix: str = "millrace.", config: Path | None = None) -> None:
        self.config = ["--config", str(config)] if config else []
        self.binary, self.directory, self.brokers, self.topic_prefix = binary, directory, brokers, topic_prefix
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        self.data = directory / "data"
        self.log = directory / "server.log"
        self.flags: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        if self.brokers is None:
            ip, port = self.address.split(":")
            metrics_port = self.metrics_address.split(":")[1]
            return [
                self.binary, "server", "start-dev", "--ip", ip, "--port", port, "--metrics-port", metrics_port,
                "--db-filename", str(self.data), "--headless", "--log-level", "warn", *self.config,
            ]  # fmt: skip
        return [
            self.binary, "server", "--brokers", self.brokers, "--topic-prefix", self.topic_prefix,
            "--data-dir", str(self.data), "--listen", self.address, "--metrics-listen", self.metrics_address,
            "--session-timeout-ms", str(SESSION_TIMEOUT_MS), *self.flags, *self.config,
        ]  # fmt: skip

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_until_listening(self) -> None:
        """Until its port can be connected to, which is before it is ready."""
        host, port = self.address.split(":")
        deadline = time.monotonic() + READY_SECONDS_MAX
        while True:
            try:
                return socket.create_connection((host, int(port)), timeout=2).close()
            except OSError as error:
                self.expect_running()
                if time.monotonic() > deadline:
                    raise Failure(f"Expected the server to listen within {READY_SECONDS_MAX:g} s, but: {error}") from None
                time.sleep(0.01)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not is_healthy(self.metrics_address):
            self.expect_running()
            if time.monotonic() > deadline:
                raise Failure(f"Expected the server to answer within {READY_SECONDS_MAX:g} s, but it does not")
            time.sleep(0.02)

    def expect_running(self) -> None:
        assert self.process, "a server is started before it is expected to run"
        if (code := self.process.poll()) is not None:
            raise Failure(f"Expected the server to run, but it ended with {describe_exit(code)}:\n{self.log_tail()}")

    def expect_refused(self, says: str) -> None:
        """Starts it, and expects it to end with the status 1 and last words that match."""
        self.start()
        assert self.process
        try:
            code = self.process.wait(REFUSED_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failure(f"Expected the server to end, but it runs:\n{self.log_tail()}") from None
        finally:
            self.kill()
        expect("the exit status", code, 1)
        if not re.search(says, self.log_tail(3)):
            raise Failure(f"Expected it to say {says}, but it said:\n{self.log_tail()}")

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Asks the server to end, and fails if it does not end cleanly."""
        self.expect_running()
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"Expected the server to end within {STOP_SECONDS_MAX:g} s of SIGTERM, but it did not") from None
        if code != 0:
            raise Failure(f"Expected exit status 0 after SIGTERM, but got {describe_exit(code)}:\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:]) or "(its log is empty)"

    def values(self, topic: str, *flags: str) -> list[Json]:
        """The values of a topic's records, as many as are there now."""
        output = self._run(["consume", topic, "--from-beginning", *flags], b"", CONSUME_SECONDS_MAX)
        return [json.loads(line)["value"] for line in output.splitlines() if line.strip()]

    def first_values(self, topic: str, count: int) -> list[Json]:
        """The values of a topic's first records, as soon as there are so many."""
        return self.values(topic, "--follow", "--max", str(count))

    def produce(self, topic: str, key: str, record: bytes, headers: dict[str, str] | None = None, flags: list[str] | None = None) -> None:
        flags = [*(flags or [])] + [flag for name, value in (headers or {}).items() for flag in ("--header", f"{name}={value}")]
        self._run(["produce", topic, "--key", key, *flags], record, CONSUME_SECONDS_MAX)

    def _run(self, arguments: list[str], stdin: bytes, seconds_max: float) -> str:
        where = ["--address", self.address]
        if self.brokers is not None:
            where = ["--brokers", self.brokers, "--topic-prefix", self.topic_prefix]
        command = [self.binary, *arguments, *where]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds_max)
        except subprocess.TimeoutExpired as error:
            seen = (error.stdout or b"").decode(errors="replace")[-2000:]
            raise Failure(f"Expected {' '.join(command)} to end within {seconds_max:g} s, but it did not. It printed: {seen}") from None
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise Failure(f"{' '.join(command)} ended with {describe_exit(done.returncode)}: {said}")
        return done.stdout.decode()


class Checks:
    """Runs checks one by one and counts them. The last line that a test prints is `closing_line`."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def record(self, name: str, failure: str | None = None) -> None:
        if failure is None:
            self.passed += 1
            print(f"passed  {name}", flush=True)
        else:
            self.failed += 1
            indented = "\n".join(f"        {line}" for line in failure.splitlines())
            print(f"FAILED  {name}\n{indented}", flush=True)

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.record(name, str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}")
        else:
            self.record(name)

    def closing_line(self) -> str:
        return f"{self.passed} passed, {self.failed} failed"


async def wait_until(seconds_max: float, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns once the condition holds. It is looked at a few times a second: Temporal's server limits how often its lists are read."""
    deadline = time.monotonic() + seconds_max
    while not await condition():
        if time.monotonic() > deadline:
            raise Failure(f"Expected {what} within {seconds_max:g} s")
        await asyncio.sleep(0.3)


def expect(what: str, actual: Any, expected: Any) -> None:
    if actual != expected:
        raise Failure(f"Expected {what} to be {expected!r}, but it is {actual!r}")


@contextmanager
def kept_if_failed(checks: Checks, prefix: str) -> Iterator[Path]:
    """A directory that goes away at the end, unless a check failed: then it is named."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    failed = True
    try:
        yield directory
        failed = checks.failed > 0
    finally:
        if failed:
            print(f"The server's log and data are kept in {directory}", flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def end_on_sigterm() -> None:
    """Lets `finally` clauses end the servers when the test itself is asked to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port() -> int:
    """A port that is free, as the next two are."""
    return free_ports(3)


def free_ports(count: int) -> int:
    """The first of so many ports that are free, one after the other."""
    while True:
        first = random.randrange(PORTS.start, PORTS.stop - count)
        probes = [socket.socket() for _ in range(count)]
        try:
            for port, probe in enumerate(probes, first):
                probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()


def is_healthy(metrics_address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{metrics_address}/health", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def describe_exit(code: int) -> str:
    return f"exit status {code}" if code >= 0 else signal.Signals(-code).name
