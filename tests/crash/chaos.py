#!/usr/bin/env python3
"""Makes a cluster of three nodes suffer while many workflows run, then audits what it left behind.

Nodes are killed (some with their data directories), paused past the session timeout, cut off from the others, and restarted
one by one as an upgrade does; the broker is restarted. With three brokers, one at a time is killed or paused, all are restarted one by
one, and nodes are cut off from one of them, or all. After each fault all partitions have to be served again in time.
Workers and callers come through a proxy to any node that answers; nodes reach each other through proxies that can be cut.
Meanwhile some workflows are read through each node all the time: what a node shows is never older than what was known before.
The workflows and the audits are those of crash.py. Standard library only. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))

from cluster import FAULTS, NODES, OF_ONE_BROKER, OF_THREE_BROKERS, Cluster
from crash import audit, await_soak, expect_soaking
from server import Checks, Failure, end_on_sigterm, kept_if_failed

CALM_SECONDS = 2.0
OUTAGE_SECONDS_MAX = 120
ROUND_SECONDS = {"one broker": 14, "three brokers": 11}


def main() -> int:
    options = parse_options()
    end_on_sigterm()
    moments = random.Random(options.seed)
    checks = Checks()
    id_prefix = f"chaos-{secrets.token_hex(4)}"
    with kept_if_failed(checks, "millrace-chaos-") as directory:
        cluster, soak = Cluster(options, directory, id_prefix), None
        try:
            cluster.start()
            log = directory / "soak.log"
            soak = start_soak(options, cluster, id_prefix, log)
            for number, fault in enumerate(options.faults, 1):
                with checks.check(f"round {number}: {faults_of(options)[fault]}"):
                    time.sleep(moments.uniform(0.5, CALM_SECONDS))
                    # A machine that is busy with other things takes longer over everything.
                    print(f"        {time.strftime('%X', time.gmtime())} {fault}, at a load of {os.getloadavg()[0]:.1f}", flush=True)
                    expect_soaking(soak)
                    getattr(cluster, fault)(moments)
            totals = await_soak(checks, cluster.nodes[0], soak, log)
            with checks.check("reads: none was older than what was known, and no signal was lost or came twice"):
                assert cluster.watch
                cluster.watch.expect_true()
            audit(checks, cluster.nodes[0], id_prefix, totals)
            with checks.check("no node reported a defect"):
                cluster.check_logs()
        except Failure as failure:
            checks.record("the test itself", str(failure))
        finally:
            if soak and soak.poll() is None:
                soak.kill()
                soak.wait()
            cluster.end()
    print(checks.closing_line())
    return 1 if checks.failed else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker-directory", metavar="DIR", help="of one broker that `deploy/kafka.sh start DIR PORT` has started")
    parser.add_argument("--brokers", metavar="HOST:PORT", help="its address")
    parser.add_argument("--three-brokers", action="store_true", help="start three brokers instead, and make them suffer too")
    parser.add_argument("--broker-port", type=int, metavar="PORT", help="the first of the three brokers' ports (default: free ones)")
    parser.add_argument("--rounds", type=int, metavar="N", help="faults (default: each once)")
    parser.add_argument("--only", metavar="FAULT,…", help="these faults, in this order, over and over, instead of random ones")
    parser.add_argument("--workflows", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("--binary", required=True, metavar="MILLRACE")
    parser.add_argument("--programs-go", required=True, metavar="PROGRAMS", help="the built tests/programs/go")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the faults and their moments (default: random)")
    options = parser.parse_args()
    if options.three_brokers == bool(options.brokers) or bool(options.brokers) != bool(options.broker_directory):
        parser.error("either --brokers and --broker-directory are needed, or --three-brokers")
    for binary in (options.binary, options.programs_go):
        if not shutil.which(binary):
            parser.error(f"there is no program {binary}: build it first")
    known = faults_of(options)
    only = options.only.split(",") if options.only else []
    if unknown := set(only) - set(known):
        parser.error(f"no fault is called {' or '.join(sorted(unknown))}; there are {', '.join(known)}")
    options.rounds = options.rounds or len(only or known)
    options.faults = choose_faults(options.rounds, only, sorted(known), options.seed)
    brokers = 3 if options.three_brokers else 1
    print(f"{options.rounds} rounds, {NODES} nodes, brokers: {brokers}, {options.workflows} workflows, --seed {options.seed}", flush=True)
    return options


def faults_of(options: argparse.Namespace) -> dict[str, str]:
    return FAULTS | (OF_THREE_BROKERS if options.three_brokers else OF_ONE_BROKER)


def choose_faults(rounds: int, only: list[str], known: list[str], seed: int) -> list[str]:
    """Each fault once before any comes twice."""
    order = random.Random(seed)
    chosen: list[str] = []
    while len(chosen) < rounds:
        chosen += only or order.sample(known, len(known))
    return chosen[:rounds]


def start_soak(options: argparse.Namespace, cluster: Cluster, id_prefix: str, log: Path) -> subprocess.Popen[bytes]:
    # Each workflow lasts half to one and a half times as long: the last ones are still there when the last round ends.
    seconds = options.rounds * ROUND_SECONDS["three brokers" if options.three_brokers else "one broker"]
    command = [
        options.programs_go, "soak", "--address", cluster.entrance.address, "--id-prefix", id_prefix,
        "--workflows", str(options.workflows), "--spread", f"{seconds}s", "--outage", f"{OUTAGE_SECONDS_MAX}s",
    ]  # fmt: skip
    with log.open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


if __name__ == "__main__":
    sys.exit(main())
