#!/usr/bin/env python3
"""Kills the server with SIGKILL again and again while many workflows run, then audits what it left behind.

The workflows are those of the Go program `soak` (tests/programs/go), which checks every result, every history and that
no acknowledged activity runs again. Here the topics are audited too: one completion for each run, and each run's history
dense, without duplicates and whole. Standard library only. The last line is `N passed, N failed`: one check for
each round, and one for each audit.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))

from server import Checks, Failure, Json, Server, describe_exit, end_on_sigterm, expect, kept_if_failed

ROUNDS = {"embedded": 20, "kafka": 5}
# From the server's start to its death, on average: a few multiples of what it needs to come back.
ROUND_SECONDS = {"embedded": 2.0, "kafka": 6.0}
EARLY_ROUNDS = 0.25
"""The share of rounds that kill the server while it is still coming back."""
EARLY_SECONDS_MAX = {"embedded": 0.5, "kafka": 3.0}
OUTAGE_SECONDS_MAX = 120
SOAK_SECONDS_MAX = 300.0
"""How long the workflows may take to end once nobody kills the server any more."""
OUTPUTS_SECONDS_MAX = 10.0
"""How long outputs may take to be committed once callers have been answered."""


def main() -> int:
    options = parse_options()
    end_on_sigterm()
    random_moments = random.Random(options.seed)
    print(f"{options.rounds} rounds on the {options.log} log, {options.workflows} workflows, --seed {options.seed}", flush=True)

    checks = Checks()
    id_prefix = f"crash-{secrets.token_hex(4)}"
    with kept_if_failed(checks, "millrace-crash-") as directory:
        server = Server(options.binary, directory, brokers=options.brokers, topic_prefix=f"{id_prefix}.")
        soak = None
        try:
            # The server is away when the load begins, too.
            soak = start_soak(options, server, id_prefix, directory / "soak.log")
            server.start()
            server.wait_until_ready()
            for number in range(1, options.rounds + 1):
                run_round(checks, options, random_moments, server, soak, number)
            totals = await_soak(checks, server, soak, directory / "soak.log")
            audit(checks, server, id_prefix, totals)
        except Failure as failure:
            checks.record("the test itself", str(failure))
        finally:
            for process in (soak, server.process):
                if process and process.poll() is None:
                    process.kill()
                    process.wait()
    print(checks.closing_line())
    return 1 if checks.failed else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", choices=sorted(ROUNDS), default="embedded", help="default: %(default)s")
    parser.add_argument("--brokers", metavar="HOST:PORT", help="with --log kafka; `deploy/kafka.sh start DIR PORT` starts one")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default: {ROUNDS['embedded']} embedded, {ROUNDS['kafka']} on Kafka")
    parser.add_argument("--workflows", type=int, default=200, metavar="N", help="default: %(default)s")
    parser.add_argument("--binary", required=True, metavar="MILLRACE", help="the server to kill")
    parser.add_argument("--programs-go", required=True, metavar="PROGRAMS", help="the built tests/programs/go")
    parser.add_argument("--wipe", action="store_true", help="on Kafka: delete the data directory in every second round")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the moments to kill at (default: random)")
    options = parser.parse_args()
    if (options.log == "kafka") != bool(options.brokers):
        parser.error("--log kafka and --brokers go together")
    if options.wipe and options.log != "kafka":
        parser.error("--wipe needs --log kafka: the embedded log is in the data directory")
    for binary in (options.binary, options.programs_go):
        if not shutil.which(binary):
            parser.error(f"there is no program {binary}: build it first")
    options.rounds = ROUNDS[options.log] if options.rounds is None else options.rounds
    return options


def start_soak(options: argparse.Namespace, server: Server, id_prefix: str, log: Path) -> subprocess.Popen[bytes]:
    # Each workflow lasts half to one and a half times as long. In the first half of the rounds all of them run, and the
    # last ones are still there when the last round ends.
    spread_seconds = max(20.0, options.rounds * ROUND_SECONDS[options.log] * 1.3)
    command = [
        options.programs_go, "soak", "--address", server.address, "--id-prefix", id_prefix,
        "--workflows", str(options.workflows), "--spread", f"{spread_seconds:.1f}s", "--outage", f"{OUTAGE_SECONDS_MAX}s",
    ]  # fmt: skip
    with log.open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def run_round(
    checks: Checks, options: argparse.Namespace, moments: random.Random, server: Server, soak: subprocess.Popen[bytes], number: int
) -> None:
    """Kills the server at a random moment and starts it again at once."""
    early = moments.random() < EARLY_ROUNDS
    seconds = moments.uniform(0, EARLY_SECONDS_MAX[options.log] if early else 2 * ROUND_SECONDS[options.log])
    wipe = options.wipe and number % 2 == 0
    name = f"round {number}: killed {seconds:.2f} s after its {'start' if early else 'first answer'}"
    with checks.check(name + (", data directory deleted" if wipe else "")):
        if not early:
            server.wait_until_ready()
        time.sleep(seconds)
        server.expect_running()
        expect_soaking(soak)
        server.kill()
        if wipe:
            shutil.rmtree(server.data)
        server.start()


def expect_soaking(soak: subprocess.Popen[bytes]) -> None:
    if (code := soak.poll()) is not None:
        raise Failure(f"Expected workflows to run, but soak ended before this round with {describe_exit(code)}")


def await_soak(checks: Checks, server: Server, soak: subprocess.Popen[bytes], log: Path) -> tuple[int, int] | None:
    """Waits for the verdict of soak, and returns how many runs and events it has audited."""
    with checks.check("soak: each workflow completed once, no acknowledged activity ran again"):
        server.wait_until_ready()
        try:
            code = soak.wait(SOAK_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failure(f"Expected soak to end within {SOAK_SECONDS_MAX:g} s of the last kill, but it did not") from None
        said = log.read_text(errors="replace")
        if code != 0:
            raise Failure(f"Expected soak to succeed, but it ended with {describe_exit(code)}:\n{said[-3000:]}")
        print("\n".join(f"        {line}" for line in said.splitlines() if line.startswith("soak: ")), flush=True)
        found = re.search(r"soak: (\d+) runs closed and audited in \S+: (\d+) events", said)
        if not found:
            raise Failure(f"Expected soak to say how many runs it audited, but it said:\n{said[-3000:]}")
        return int(found[1]), int(found[2])
    return None


def audit(checks: Checks, server: Server, id_prefix: str, totals: tuple[int, int] | None) -> None:
    completions: list[Json] = []
    histories: dict[str, list[int]] = {}
    with checks.check("completions: exactly one for each run"):
        completions = read_completions(server, id_prefix, totals[0] if totals else 0)
        counts = collections.Counter(record["run_id"] for record in completions)
        if twice := [run_id for run_id, count in counts.items() if count > 1]:
            raise Failure(f"Expected one completion for each run, but {len(twice)} have more, such as run {twice[0]}")
        if totals:
            expect("the number of runs with a completion", len(counts), totals[0])
        expect("the runs' statuses", {record["status"] for record in completions}, {"COMPLETED"})
    with checks.check("history: each run's event ids are 1, 2, 3 … without gaps or duplicates"):
        histories = read_histories(server, id_prefix)
        for run_id, event_ids in histories.items():
            expect(f"the event ids of run {run_id}, in the topic's order,", event_ids, list(range(1, len(event_ids) + 1)))
    with checks.check("history: what the topic holds is what the API returned"):
        expect("the runs in history", sorted(histories), sorted({record["run_id"] for record in completions}))
        if totals:
            expect("the number of events in history", sum(map(len, histories.values())), totals[1])
        for record in completions:
            expect(f"the history length of run {record['run_id']}", len(histories[record["run_id"]]), record["history_length"])
    with checks.check("the server ends cleanly on SIGTERM"):
        server.stop()


def read_completions(server: Server, id_prefix: str, expected: int) -> list[Json]:
    """What is there once it is as many as expected: a caller hears of the last ones before they are committed."""
    until = time.monotonic() + OUTPUTS_SECONDS_MAX
    while True:
        completions = [record for record in server.values("completions") if ours(record, id_prefix)]
        if len(completions) >= expected or time.monotonic() >= until:
            return completions
        time.sleep(0.1)


def read_histories(server: Server, id_prefix: str) -> dict[str, list[int]]:
    histories: dict[str, list[int]] = {}
    for batch in server.values("history"):
        if ours(batch, id_prefix):
            histories.setdefault(batch["run_id"], []).extend(event["event_id"] for event in batch["events"])
    return histories


def ours(record: Json, id_prefix: str) -> bool:
    return str(record["workflow_id"]).startswith(id_prefix)


if __name__ == "__main__":
    sys.exit(main())
