"""Servers that can't start: each has to end by itself, soon, with an error that names what is wrong."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from pathlib import Path

from server import Checks, Failure, Server, describe_exit, free_port

END_SECONDS_MAX = 40.0
USAGE = 2
"""The exit status after a command line that is wrong."""


SUBSCRIPTION = """
[[subscription]]
topic = "orders"
action = "start"
workflow_id = "{key}"
task_queue = "orders"
"""


def run(checks: Checks, binary: str, directory: Path) -> None:
    dev = [binary, "server", "start-dev", "--headless", "--db-filename", str(directory / "dev"), "--port"]
    node = [binary, "server", "--data-dir", str(directory / "node"), "--listen", f"127.0.0.1:{free_port()}"]
    usage = {
        "an unknown flag": ([*dev, str(free_port()), "--no-such-flag"], "--no-such-flag"),
        "an unknown command": ([binary, "no-such-command"], "no-such-command"),
        "an unknown log level": ([*dev, str(free_port()), "--log-level", "shouting"], "shouting"),
        "a port that is no number": ([*dev, "http"], "http"),
        "a port that is too large": ([*dev, "65536"], "65536"),
        "an address without a port": ([binary, "server", "--brokers", "127.0.0.1:1", "--data-dir", str(directory / "node"), "--listen", "here"], "here"),
        "a server without brokers": (node, "--brokers"),
        "a header without a value": ([binary, "produce", "requests", "--header", "reply-topic"], "NAME=VALUE"),
    }  # fmt: skip
    for name, (command, says) in usage.items():
        with checks.check(name):
            expect_end(command, says, code=USAGE)
    with checks.check("a broker that is not there"):
        nobody = f"127.0.0.1:{free_port()}"
        expect_end([*node, "--brokers", nobody], nobody)
    with checks.check("a server to consume from that is not there"):
        nobody = f"127.0.0.1:{free_port()}"
        expect_end([binary, "consume", "completions", "--address", nobody], nobody)
    for name, text, says in [
        ("a setting that is none", 'reply_topic = "replies"', "reply_topic"),
        ("a file that is no TOML", "reply_topics = [", "line 1"),
        ("a subscription without a workflow type", SUBSCRIPTION, "workflow_type is missing"),
        ("a subscription by a part that is none", SUBSCRIPTION.replace("key", "name"), "names no part of a record"),
    ]:
        with checks.check(f"settings: {name}"):
            config = directory / "millrace.toml"
            config.write_text(text)
            expect_end([*dev, str(free_port()), "--config", str(config)], str(config), says)
    with checks.check("settings: a file that is not there"):
        expect_end([*dev, str(free_port()), "--config", str(directory / "none.toml")], "none.toml")
    with checks.check("a port in use"), socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        expect_end([*dev, port], port, "in use")
    with checks.check("a data directory that holds something else"):
        other_directory = directory / "other"
        other_directory.mkdir()
        (other_directory / "letters.txt").write_text("not a log")
        command = [binary, "server", "start-dev", "--headless", "--port", str(free_port()), "--db-filename", str(other_directory)]
        expect_end(command, str(other_directory))
    with checks.check("a data directory in use by another server"):
        expect_taken_directory(binary, directory / "taken")
    with checks.check("a data directory of another version"):
        expect_version_refused(binary, directory / "version")


def expect_taken_directory(binary: str, directory: Path) -> None:
    first = started(binary, directory)
    try:
        second = Server(binary, directory)
        expect_end(second.command(), str(first.data), "in use")
        first.expect_running()
    finally:
        first.kill()


def expect_version_refused(binary: str, directory: Path) -> None:
    """Writes a later version into every format file of a log, and tries to open it."""
    server = started(binary, directory)
    server.stop()
    files = [file for file in server.data.rglob("MILLRACE-*") if file.is_file()]
    if not files:
        raise Failure(f"Expected a format file MILLRACE-… in {server.data}, but there is none")
    for file in files:
        text = file.read_text()
        file.write_text(re.sub(r"^version \d+", "version 999", text, flags=re.MULTILINE))
    expect_end(server.command(), "version 999")


def started(binary: str, directory: Path) -> Server:
    directory.mkdir()
    server = Server(binary, directory)
    server.start()
    try:
        server.wait_until_ready()
    except Failure:
        server.kill()
        raise
    return server


def expect_end(command: list[str], *says: str, code: int | None = None) -> None:
    begun = time.monotonic()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=END_SECONDS_MAX)
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")
        raise Failure(f"Expected an error within {END_SECONDS_MAX:g} s, but it goes on after {said!r}") from None
    said = done.stderr.decode(errors="replace").strip()
    after = f"after {time.monotonic() - begun:.1f} s with {describe_exit(done.returncode)}, saying {said!r}"
    if done.returncode <= 0 or code not in (None, done.returncode):
        raise Failure(f"Expected it to end with exit status {code or 'other than 0'}, but it ended {after}")
    if missing := [part for part in says if part.lower() not in said.lower()]:
        raise Failure(f"Expected the error to speak of {' and '.join(map(repr, missing))}, but it ended {after}")
    if "panicked" in said:
        raise Failure(f"Expected an error for people, but it ended {after}")
