#!/usr/bin/env python3
"""Makes a cluster of three nodes suffer while many workflows run, then audits what it left behind.

Nodes are killed (some with their data directories), paused past the session timeout, cut off from the others, and restarted
one by one as an upgrade does; the broker is restarted. After each fault all partitions have to be served again in time.
Workers and callers come through a proxy to any node that answers; nodes reach each other through proxies that can be cut.
The workflows and the audits are those of crash.py. Standard library only. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))

from crash import audit, await_soak, expect_soaking
from proxy import Address, Proxies
from server import SESSION_TIMEOUT_MS, Checks, Failure, Server, end_on_sigterm, kept_if_failed

NODES = 3
PARTITIONS = 6
SESSION_SECONDS = SESSION_TIMEOUT_MS / 1000
TAKE_OVER_SECONDS_MAX = SESSION_SECONDS + 2
"""After a node was killed, its partitions are served again within the session timeout and this much more."""
BROKER_BACK_SECONDS_MAX = 30.0
CALM_SECONDS = 2.0
OUTAGE_SECONDS_MAX = 120
REPOSITORY = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    options = parse_options()
    end_on_sigterm()
    moments = random.Random(options.seed)
    checks = Checks()
    id_prefix = f"chaos-{secrets.token_hex(4)}"
    with kept_if_failed(checks, "millrace-chaos-") as directory:
        cluster, soak = Cluster(options, directory, f"{id_prefix}."), None
        try:
            for node in cluster.nodes:
                node.start()
            cluster.await_all_served("at the start", 60)
            log = directory / "soak.log"
            soak = start_soak(options, cluster, id_prefix, log)
            for number, fault in enumerate(faults(options, moments), 1):
                with checks.check(f"round {number}: {FAULTS[fault]}"):
                    time.sleep(moments.uniform(0.5, CALM_SECONDS))
                    expect_soaking(soak)
                    getattr(cluster, fault)(moments)
            totals = await_soak(checks, cluster.nodes[0], soak, log)
            audit(checks, cluster.nodes[0], id_prefix, totals)
            with checks.check("calls were forwarded, and no node reported a defect"):
                cluster.check_logs()
        except Failure as failure:
            checks.record("the test itself", str(failure))
        finally:
            for process in (soak, *(node.process for node in cluster.nodes)):
                if process and process.poll() is None:
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                    process.wait()
            cluster.proxies.close()
    print(checks.closing_line())
    return 1 if checks.failed else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker-directory", required=True, metavar="DIR", help="of a broker that `deploy/kafka.sh start DIR PORT` has started")
    parser.add_argument("--brokers", required=True, metavar="HOST:PORT", help="its address")
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="faults; default: %(default)s")
    parser.add_argument("--workflows", type=int, default=150, metavar="N", help="default: %(default)s")
    parser.add_argument("--binary", required=True, metavar="MILLRACE")
    parser.add_argument("--programs-go", required=True, metavar="PROGRAMS", help="the built tests/programs/go")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the faults and their moments (default: random)")
    options = parser.parse_args()
    for binary in (options.binary, options.programs_go):
        if not shutil.which(binary):
            parser.error(f"there is no program {binary}: build it first")
    print(f"{options.rounds} rounds, {NODES} nodes, {options.workflows} workflows, --seed {options.seed}", flush=True)
    return options


FAULTS = {
    "kill": "a node is killed, and its partitions are taken over",
    "kill_and_restart": "a node is killed, and started again at once",
    "wipe": "a node is killed, and comes back without its data directory",
    "pause": "a node is paused past the session timeout, and goes on",
    "cut": "a node and the others can't reach each other",
    "upgrade": "all nodes are restarted, one by one",
    "restart_broker": "the broker is restarted",
}


def faults(options: argparse.Namespace, moments: random.Random) -> list[str]:
    """Each fault once before any comes twice."""
    chosen: list[str] = []
    while len(chosen) < options.rounds:
        chosen += moments.sample(sorted(FAULTS), len(FAULTS))
    return chosen[: options.rounds]


def start_soak(options: argparse.Namespace, cluster: Cluster, id_prefix: str, log: Path) -> subprocess.Popen[bytes]:
    command = [
        options.programs_go, "soak", "--address", cluster.entrance.address, "--id-prefix", id_prefix,
        "--workflows", str(options.workflows), "--spread", f"{options.rounds * 14}s", "--outage", f"{OUTAGE_SECONDS_MAX}s",
    ]  # fmt: skip
    with log.open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


class Cluster:
    def __init__(self, options: argparse.Namespace, directory: Path, topic_prefix: str) -> None:
        self.options, self.proxies = options, Proxies()
        self.paused: set[Server] = set()
        self.nodes = []
        for number in range(NODES):
            (home := directory / f"node-{number}").mkdir()
            node = Server(options.binary, home, brokers=options.brokers, topic_prefix=topic_prefix)
            self.nodes.append(node)
        self.ways = {node: self.proxies.open(lambda node=node: [address_of(node)]) for node in self.nodes}
        for node, way in self.ways.items():
            node.flags = ["--advertise", way.address, "--partitions", str(PARTITIONS)]
        self.entrance = self.proxies.open(self.running)

    def running(self) -> list[Address]:
        return [address_of(node) for node in self.nodes if node not in self.paused and is_running(node)]

    def await_all_served(self, when: str, seconds_max: float) -> None:
        """Waits until nodes that run own all partitions."""
        begun = time.monotonic()
        while (owned := self.owned()) != set(range(PARTITIONS)):
            if time.monotonic() - begun > seconds_max:
                raise Failure(f"Expected all partitions to be served {when} within {seconds_max:g} s, but only {sorted(owned)} are")
            time.sleep(0.1)
        print(f"        all partitions are served {time.monotonic() - begun:.1f} s {when}", flush=True)

    def owned(self) -> set[int]:
        owned: set[int] = set()
        for node in self.nodes:
            if node in self.paused or not is_running(node):
                continue
            try:
                with urllib.request.urlopen(f"http://{node.metrics_address}/metrics", timeout=2) as response:
                    text = response.read().decode()
            except OSError:
                continue
            owned |= {int(found) for found in re.findall(r'^millrace_partition_restore_seconds\{partition="(\d+)"\}', text, re.M)}
        return owned

    def kill(self, moments: random.Random) -> None:
        node = moments.choice(self.nodes)
        node.kill()
        # Those of a node that is dead are missed.
        self.await_all_served("after a node was killed", TAKE_OVER_SECONDS_MAX)
        node.start()

    def kill_and_restart(self, moments: random.Random) -> None:
        node = moments.choice(self.nodes)
        node.kill()
        node.start()
        self.await_all_served("after a node was killed and started again", TAKE_OVER_SECONDS_MAX)

    def wipe(self, moments: random.Random) -> None:
        node = moments.choice(self.nodes)
        node.kill()
        shutil.rmtree(node.data)
        node.start()
        self.await_all_served("after a node came back with nothing", TAKE_OVER_SECONDS_MAX)

    def pause(self, moments: random.Random) -> None:
        node = moments.choice(self.nodes)
        assert node.process
        self.paused.add(node)
        node.process.send_signal(signal.SIGSTOP)
        try:
            self.await_all_served("after a node was paused", TAKE_OVER_SECONDS_MAX)
            time.sleep(moments.uniform(0, 2))
        finally:
            node.process.send_signal(signal.SIGCONT)
            self.paused.discard(node)
        time.sleep(1)
        self.await_all_served("after it woke", TAKE_OVER_SECONDS_MAX)

    def cut(self, moments: random.Random) -> None:
        node = moments.choice(self.nodes)
        # Others can't reach it; it reaches them, as a firewall may have it.
        self.ways[node].cut()
        time.sleep(moments.uniform(2, SESSION_SECONDS))
        self.ways[node].mend()
        self.await_all_served("after the network was mended", TAKE_OVER_SECONDS_MAX)

    def upgrade(self, _: random.Random) -> None:
        for node in self.nodes:
            node.stop()
            node.start()
            self.await_all_served("after a node was restarted", TAKE_OVER_SECONDS_MAX)

    def restart_broker(self, _: random.Random) -> None:
        directory, port = self.options.broker_directory, self.options.brokers.rsplit(":", 1)[1]
        for action in (["stop", directory], ["start", directory, port]):
            subprocess.run([REPOSITORY / "deploy/kafka.sh", *action], check=True, capture_output=True)
        self.await_all_served("after the broker was restarted", BROKER_BACK_SECONDS_MAX)
        for node in self.nodes:
            node.expect_running()

    def check_logs(self) -> None:
        for node in self.nodes:
            said = node.log.read_text(errors="replace")
            if defects := [line for line in said.splitlines() if "panicked" in line or " ERROR " in line]:
                raise Failure("Expected no defect in a node's log, but it says:\n" + "\n".join(defects[:5]))


def address_of(node: Server) -> Address:
    host, port = node.address.split(":")
    return host, int(port)


def is_running(node: Server) -> bool:
    return node.process is not None and node.process.poll() is None


if __name__ == "__main__":
    sys.exit(main())
