"""Three nodes behind proxies, what they may be made to suffer, and how it is found out that they serve again.

Standard library only.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import selectors
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brokers import Brokers
from proxy import Address, Proxies
from server import SESSION_TIMEOUT_MS, Failure, Server, describe_exit

NODES = 3
PARTITIONS = 6
SESSION_SECONDS = SESSION_TIMEOUT_MS / 1000
TAKE_OVER_SECONDS = {1: 2, 3: 4}
"""After a node was killed, its partitions are served again within the session timeout and this much more. With three brokers (they are
the keys), each step of a take-over waits for replicas too, and all of that happens on one machine: one that has more to do than it has
cores takes so many times as long."""
BROKER_BACK_SECONDS_MAX = 30.0
BROKER_LOST_SECONDS_MAX = 20.0
"""After one broker of three was lost: it may have led partitions, the controllers, a transaction and the nodes' group at once."""
BROKER_HANGS_SECONDS_MAX = 30.0 + 10.0
"""After one hangs. A transaction's coordinator that has sent it a marker waits for the answer as long as its `request.timeout.ms` says (30 s
by default), also after the partition has another leader, and until then it refuses whoever initialises the transactional id."""
REJOIN_SECONDS_MAX = 15.0
WATCH_SECONDS_MAX = 120.0
REPOSITORY = Path(__file__).resolve().parent.parent.parent

FAULTS = {
    "kill": "a node is killed, and its partitions are taken over",
    "kill_and_restart": "a node is killed, and started again at once",
    "wipe": "a node is killed, and comes back without its data directory",
    "pause": "a node is paused past the session timeout, and goes on",
    "cut": "a node and the others can't reach each other",
    "upgrade": "all nodes are restarted, one by one",
}
OF_ONE_BROKER = {
    "restart_broker": "the broker is restarted",
}
OF_THREE_BROKERS = {
    "kill_broker": "a broker is killed, a node is restarted without it, and it comes back",
    "pause_broker": "a broker is paused past its session timeout, and goes on",
    "rolling_restart_brokers": "all brokers are restarted, one by one",
    "cut_from_kafka": "a node can't reach Kafka past the session timeout, and then can again",
    "cut_one_broker": "a node can't reach one of the brokers for a while",
}


class Watch:
    """The Go program `watch`: it signals workflows in all partitions when it is told to, and reads them all the time."""

    def __init__(self, program: str, entrance: str, nodes: list[Server], id_prefix: str, log: Path) -> None:
        command = [program, "watch", "--address", entrance, "--id-prefix", id_prefix, "--nodes", ",".join(node.address for node in nodes)]
        self.log = log
        with log.open("wb") as said:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, bufsize=1)

    def expect_served(self, when: str, nodes: list[Server], seconds_max: float) -> None:
        """Expects that workflows in all partitions take a signal through these nodes in time."""
        assert self.process.stdin
        try:
            self.process.stdin.write(f"{seconds_max:.1f} {' '.join(node.address for node in nodes)}\n")
        except BrokenPipeError:
            raise Failure(f"Expected the watch to go on, but it has ended:\n{self.said()}") from None
        if (answer := self._answer(seconds_max + WATCH_SECONDS_MAX)) != "served":
            raise Failure(f"Expected all workflows to be served {when} within {seconds_max:.1f} s, but {answer or self.said()}")

    def _answer(self, seconds_max: float) -> str:
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline().strip() if selector.select(seconds_max) else "the watch does not answer"

    def expect_true(self) -> None:
        """Expects that no node ever showed less than was known, nor a signal twice, and that all show everything now."""
        assert self.process.stdin
        self.process.stdin.close()
        try:
            code = self.process.wait(WATCH_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failure(f"Expected the watch to end within {WATCH_SECONDS_MAX:g} s, but it did not") from None
        if code != 0:
            raise Failure(f"Expected all reads to be true, but the watch ended with {describe_exit(code)}:\n{self.said()}")
        print("\n".join(f"        {line}" for line in self.said().splitlines() if line.startswith("watch: ")), flush=True)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


class Cluster:
    """Its methods that are named in `FAULTS` and the like are what it is made to suffer."""

    def __init__(self, options: argparse.Namespace, directory: Path, id_prefix: str) -> None:
        self.options, self.directory, self.topic_prefix, self.proxies = options, directory, f"{id_prefix}.", Proxies()
        self.away: set[Server] = set()
        """Nodes that are paused or cut off: what they say of themselves does not count."""
        self.brokers = Brokers(directory / "brokers", self.proxies, NODES, options.broker_port) if options.three_brokers else None
        self.nodes = []
        for number in range(NODES):
            (home := directory / f"node-{number}").mkdir()
            bootstrap = self.brokers.view(number) if self.brokers else options.brokers
            self.nodes.append(Server(options.binary, home, brokers=bootstrap, topic_prefix=self.topic_prefix))
        self.ways = {node: self.proxies.open(lambda node=node: [address_of(node)]) for node in self.nodes}
        for node, way in self.ways.items():
            node.flags = ["--advertise", way.address, "--partitions", str(PARTITIONS), "--replication-factor", "3" if self.brokers else "1"]
        self.entrance = self.proxies.open(lambda: [address_of(node) for node in self.running()])
        self.watch: Watch | None = None

    def start(self) -> None:
        if self.brokers:
            self.brokers.start_all()
        for node in self.nodes:
            node.start()
        self.await_owned("at the start", 60)
        self.expect_all_running()
        watch_prefix = self.topic_prefix.replace("chaos-", "watch-").rstrip(".")
        self.watch = Watch(self.options.programs_go, self.entrance.address, self.nodes, watch_prefix, self.directory / "watch.log")
        self.expect_served("at the start", 60)

    def end(self) -> None:
        for process in (self.watch and self.watch.process, *(node.process for node in self.nodes)):
            if process and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
        if self.brokers:
            self.brokers.end_all()
        self.proxies.close()

    @property
    def take_over_seconds_max(self) -> float:
        busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        return SESSION_SECONDS + TAKE_OVER_SECONDS[3 if self.brokers else 1] * busy

    def running(self) -> list[Server]:
        return [node for node in self.nodes if node not in self.away and node.process and node.process.poll() is None]

    def expect_served(self, when: str, seconds_max: float) -> None:
        """Waits until nodes that run own all partitions, and expects that these take commands, all within the time."""
        begun = time.monotonic()
        seconds_max = self.await_owned(when, seconds_max)
        owned_after = time.monotonic() - begun
        assert self.watch
        # One that owns them all the time has had the whole time too.
        self.watch.expect_served(when, self.running(), max(seconds_max - owned_after, 1))
        print(f"        {owned_after:.1f} s {when} all partitions are owned, and served after {time.monotonic() - begun:.1f} s", flush=True)

    def await_owned(self, when: str, seconds_max: float) -> float:
        """Returns the time that it was given: a session begins anew where the nodes' group moves to another broker."""
        begun = time.monotonic()
        homes = self.homes_of_group()
        while True:
            asked = time.monotonic() - begun
            owned = set().union(*map(self.owned_by, self.running()))
            if asked > seconds_max and (moved := self.homes_of_group() - homes):
                print(f"        the nodes' group moved to another broker {when}", flush=True)
                homes += moved
                seconds_max += SESSION_SECONDS
            # An answer counts from when it was asked for: a machine that is busy is slow to give it.
            if asked > seconds_max:
                raise Failure(f"Expected all partitions to be owned {when} within {seconds_max:g} s, but after {asked:.1f} s {sorted(owned)} were")
            if owned == set(range(PARTITIONS)):
                return seconds_max
            time.sleep(0.1)

    def homes_of_group(self) -> int:
        """How many brokers have coordinated the group so far, one after the other."""
        return self.brokers.loads_of_group(f"{self.topic_prefix}nodes") if self.brokers else 0

    def owned_by(self, node: Server) -> set[int]:
        try:
            with urllib.request.urlopen(f"http://{node.metrics_address}/metrics", timeout=2) as response:
                text = response.read().decode()
        except OSError:
            return set()
        return {int(found) for found in re.findall(r'^millrace_partition_restore_seconds\{partition="(\d+)"\}', text, re.M)}

    def expect_taking_part(self, node: Server) -> None:
        """A node that comes back gets partitions again, and serves."""
        begun = time.monotonic()
        while not self.owned_by(node):
            if time.monotonic() - begun > REJOIN_SECONDS_MAX:
                raise Failure(f"Expected the node that came back to own partitions within {REJOIN_SECONDS_MAX:g} s, but it owns none")
            time.sleep(0.1)
        assert self.watch
        self.watch.expect_served("through the node that came back", [node], self.take_over_seconds_max)
        print(f"        {time.monotonic() - begun:.1f} s later the node takes part again", flush=True)

    @contextmanager
    def without(self, node: Server) -> Iterator[None]:
        self.away.add(node)
        try:
            yield
        finally:
            self.away.discard(node)

    def kill(self, moments: random.Random) -> None:
        node = moments.choice(self.nodes)
        node.kill()
        # Those of a node that is dead are missed.
        try:
            self.expect_served("after a node was killed", self.take_over_seconds_max)
        finally:
            node.start()

    def kill_and_restart(self, moments: random.Random) -> None:
        node = moments.choice(self.nodes)
        node.kill()
        node.start()
        self.expect_served("after a node was killed and started again", self.take_over_seconds_max)

    def wipe(self, moments: random.Random) -> None:
        node = moments.choice(self.nodes)
        node.kill()
        shutil.rmtree(node.data)
        node.start()
        self.expect_served("after a node came back with nothing", self.take_over_seconds_max)

    def pause(self, moments: random.Random) -> None:
        node, more = moments.choice(self.nodes), moments.uniform(0, 2)
        assert node.process
        with self.without(node):
            node.process.send_signal(signal.SIGSTOP)
            try:
                self.expect_served("after a node was paused", self.take_over_seconds_max)
                time.sleep(more)
            finally:
                node.process.send_signal(signal.SIGCONT)
        time.sleep(1)
        self.expect_served("after it woke", self.take_over_seconds_max)

    def cut(self, moments: random.Random) -> None:
        way, seconds = self.ways[moments.choice(self.nodes)], moments.uniform(2, SESSION_SECONDS)
        # Others can't reach it; it reaches them, as a firewall may have it.
        way.cut()
        time.sleep(seconds)
        way.mend()
        self.expect_served("after the network was mended", self.take_over_seconds_max)

    def upgrade(self, _: random.Random) -> None:
        for node in self.nodes:
            node.stop()
            node.start()
            self.expect_served("after a node was restarted", self.take_over_seconds_max)

    def restart_broker(self, _: random.Random) -> None:
        directory, port = self.options.broker_directory, self.options.brokers.rsplit(":", 1)[1]
        for action in (["stop", directory], ["start", directory, port]):
            subprocess.run([REPOSITORY / "deploy/kafka.sh", *action], check=True, capture_output=True)
        self.expect_served("after the broker was restarted", BROKER_BACK_SECONDS_MAX)
        self.expect_all_running()

    def kill_broker(self, moments: random.Random) -> None:
        assert self.brokers
        broker, named = self.brokers.some_leader(moments, self.topic_prefix)
        node = moments.choice(self.nodes)
        self.brokers.kill(broker)
        try:
            self.expect_served(f"after {named} was killed", BROKER_LOST_SECONDS_MAX)
            # Two brokers are enough for a node that starts, too.
            node.stop()
            node.start()
            self.expect_served("after a node was restarted meanwhile", self.take_over_seconds_max)
            self.expect_all_running()
        finally:
            self.brokers.start(broker)
        self._expect_whole("after the broker came back")

    def pause_broker(self, moments: random.Random) -> None:
        assert self.brokers
        broker, named = self.brokers.some_leader(moments, self.topic_prefix)
        more = moments.uniform(0, 3)
        self.brokers.pause(broker)
        try:
            self.expect_served(f"after {named} was paused", BROKER_HANGS_SECONDS_MAX)
            time.sleep(more)
        finally:
            self.brokers.wake(broker)
        self._expect_whole("after the broker woke")

    def rolling_restart_brokers(self, _: random.Random) -> None:
        assert self.brokers
        for broker in self.brokers.numbers:
            self.brokers.stop(broker)
            self.brokers.start(broker)
            self._expect_whole(f"after broker {broker} was restarted")

    def cut_from_kafka(self, moments: random.Random) -> None:
        assert self.brokers
        number, how, late, more = moments.randrange(NODES), moments.choice(("cut", "refuse")), moments.random() < 0.5, moments.uniform(0, 4)
        node, ways = self.nodes[number], self.brokers.ways[number].values()
        with self.without(node):
            for way in ways:
                getattr(way, how)()
            try:
                self.expect_served(f"after a node lost Kafka ({how})", self.take_over_seconds_max)
                time.sleep(more)
            finally:
                for way in ways:
                    way.mend(late=late)
        self.expect_served(f"after it had Kafka again{', and late packets' if late else ''}", self.take_over_seconds_max)
        self.expect_taking_part(node)
        self.expect_all_running()

    def cut_one_broker(self, moments: random.Random) -> None:
        assert self.brokers
        number, broker, how = moments.randrange(NODES), moments.choice(self.brokers.numbers), moments.choice(("cut", "refuse"))
        late, seconds = moments.random() < 0.5, moments.uniform(2, SESSION_SECONDS)
        way = self.brokers.ways[number][broker]
        getattr(way, how)()
        time.sleep(seconds)
        way.mend(late=late)
        self.expect_served(f"after node {number} had lost broker {broker} ({how})", self.take_over_seconds_max)
        self.expect_all_running()

    def _expect_whole(self, when: str) -> None:
        assert self.brokers
        self.expect_served(when, BROKER_LOST_SECONDS_MAX)
        self.brokers.await_whole(when)
        self.expect_all_running()

    def expect_all_running(self) -> None:
        for node in self.nodes:
            node.expect_running()

    def check_logs(self) -> None:
        logs = {node: node.log.read_text(errors="replace") for node in self.nodes}
        lost = sum(said.count("the log has lost the end of a transaction") for said in logs.values())
        if lost and self.brokers:
            raise Failure(f"Expected replicated brokers to lose no marker of a transaction, but {lost} times one was missing")
        print(f"        the broker has lost the ends of {lost} transactions", flush=True)
        for said in logs.values():
            if defects := [line for line in said.splitlines() if "panicked" in line or " ERROR " in line]:
                raise Failure("Expected no defect in a node's log, but it says:\n" + "\n".join(defects[:5]))


def address_of(node: Server) -> Address:
    host, port = node.address.split(":")
    return host, int(port)
