"""A cluster of three real brokers, in which one may be away at a time, and the ways to it that each node has of its own.

Kafka's clients connect to whatever address a broker tells them. So each broker has one more listener per node, which tells the
address of a proxy: a node that bootstraps through its proxies never leaves them, and can be cut off from one broker, or all.
Standard library only.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy import Proxies, Proxy
from server import Failure, free_ports

BROKERS = 3
# Three of them, for a few minutes, on a machine of two cores: the second compiler would cost more than it gives.
JAVA = {"MILLRACE_KAFKA_HEAP": "384m", "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
WHOLE_SECONDS_MAX = 60.0
KAFKA = Path(__file__).resolve().parent.parent.parent / "deploy/kafka.sh"


@dataclass(frozen=True)
class Partition:
    """A partition, as Kafka tells of it."""

    topic: str
    number: int
    leader: int
    replicas: int
    in_sync: int


class Brokers:
    """Brokers are numbered from 1, as Kafka does; nodes from 0."""

    def __init__(self, directory: Path, proxies: Proxies, nodes: int, first_port: int | None) -> None:
        self.directory = directory
        # A client's and a controller's port for each broker, and one for each node.
        self._port = first_port or free_ports(BROKERS * (2 + nodes))
        self._nodes = nodes
        self.ways: list[dict[int, Proxy]] = [
            {broker: proxies.open(lambda node=node, broker=broker: [("127.0.0.1", self._port_for(node, broker))]) for broker in self.numbers}
            for node in range(nodes)
        ]

    @property
    def numbers(self) -> range:
        return range(1, BROKERS + 1)

    def view(self, node: int) -> str:
        """Where a node finds the brokers."""
        return ",".join(way.address for way in self.ways[node].values())

    def start_all(self) -> None:
        for broker in self.numbers:
            (home := self._home(broker)).mkdir(parents=True)
            (home / "more.properties").write_text(self._more_properties(broker))
        self._run("cluster", str(self.directory), str(self._port), str(BROKERS))
        self.await_whole("at the start")

    def start(self, broker: int) -> None:
        log = self._home(broker) / "server.log"
        with log.with_name("server.log.before").open("ab") as before:
            before.write(log.read_bytes())
        self._run("start", str(self._home(broker)))

    def stop(self, broker: int) -> None:
        self._run("stop", str(self._home(broker)))

    def kill(self, broker: int) -> None:
        os.kill(self._pid(broker), signal.SIGKILL)

    def pause(self, broker: int) -> None:
        os.kill(self._pid(broker), signal.SIGSTOP)

    def wake(self, broker: int) -> None:
        os.kill(self._pid(broker), signal.SIGCONT)

    def end_all(self) -> None:
        for broker in self.numbers:
            try:
                self.wake(broker)
                self.kill(broker)
            except (OSError, ValueError):
                continue

    def some_leader(self, moments: random.Random, topic_prefix: str) -> tuple[int, str]:
        """A broker that has work, and which."""
        partitions = sorted(self.partitions(), key=lambda partition: (partition.topic, partition.number))
        topic = moments.choice((f"{topic_prefix}commands", f"{topic_prefix}state", "__transaction_state", "__consumer_offsets"))
        led = moments.choice([partition for partition in partitions if partition.topic == topic])
        return led.leader, f"broker {led.leader}, the leader of {led.topic}-{led.number},"

    def loads_of_group(self, group: str) -> int:
        """How often a broker has begun to coordinate a group that another had, which gives each member a whole session again."""
        logs = (log for broker in self.numbers for log in self._home(broker).glob("server.log*"))
        return sum(log.read_text(errors="replace").count(f"Loaded classic group {group} with") for log in logs)

    def await_whole(self, when: str) -> None:
        """Waits until all replicas of all partitions are in sync: then another broker may be away."""
        begun = time.monotonic()
        while missing := self._missing():
            if time.monotonic() - begun > WHOLE_SECONDS_MAX:
                raise Failure(f"Expected all replicas to be in sync {when} within {WHOLE_SECONDS_MAX:g} s, but there is {missing}")
            time.sleep(0.2)

    def _missing(self) -> str | None:
        try:
            partitions = self.partitions()
        except (OSError, struct.error) as error:
            return str(error)
        behind = [partition for partition in partitions if partition.leader < 0 or partition.in_sync < partition.replicas]
        return str(behind[0]) if behind else None

    def partitions(self) -> list[Partition]:
        """All partitions, as the first broker that answers knows them."""
        failure: Exception = OSError("no broker answers")
        for broker in self.numbers:
            try:
                return list(read_metadata(ask(self._client_port(broker))))
            except OSError as error:
                failure = error
        raise failure

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([KAFKA, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **JAVA})
        if done.returncode != 0:
            raise Failure(f"kafka.sh {' '.join(arguments)} failed: {done.stderr.strip()}")

    def _home(self, broker: int) -> Path:
        return self.directory / str(broker)

    def _pid(self, broker: int) -> int:
        return int((self._home(broker) / "pid").read_text())

    def _client_port(self, broker: int) -> int:
        return self._port + 2 * (broker - 1)

    def _port_for(self, node: int, broker: int) -> int:
        return self._port + 2 * BROKERS + node * BROKERS + broker - 1

    def _more_properties(self, broker: int) -> str:
        own, controller = f"PLAINTEXT://127.0.0.1:{self._client_port(broker)}", f"CONTROLLER://127.0.0.1:{self._client_port(broker) + 1}"
        nodes = range(self._nodes)
        listeners = [own, controller, *(f"NODE{node}://127.0.0.1:{self._port_for(node, broker)}" for node in nodes)]
        advertised = [own, *(f"NODE{node}://{self.ways[node][broker].address}" for node in nodes)]
        protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"NODE{node}:PLAINTEXT" for node in nodes)]
        return (
            f"listeners={','.join(listeners)}\n"
            f"advertised.listeners={','.join(advertised)}\n"
            f"listener.security.protocol.map={','.join(protocols)}\n"
            # A broker that comes back soon leads again what it led: each has work, and leaders move without anybody's death.
            "leader.imbalance.check.interval.seconds=5\n"
            "leader.imbalance.per.broker.percentage=0\n"
        )


def ask(port: int) -> bytes:
    """Asks a broker for all topics (Metadata, version 1)."""
    request = struct.pack(">hhih5si", 3, 1, 0, 5, b"chaos", -1)
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection, connection.makefile("rb") as answer:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", answer.read(4).rjust(4, b"\0"))
        if len(response := answer.read(size)) < size or size == 0:
            raise OSError("the broker hung up")
        return response


def read_metadata(response: bytes) -> Iterator[Partition]:
    at = 4

    def number(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f">{form}", response, at)
        at += struct.calcsize(form if form == "?" else f">{form}")
        return int(value)

    def text() -> str:
        nonlocal at
        length = max(number("h"), 0)
        at += length
        return response[at - length : at].decode()

    for _ in range(number("i")):
        number("i"), text(), number("i"), text()  # A broker, where it is.
    number("i")
    for _ in range(number("i")):
        number("h")
        topic = text()
        number("?")
        for _ in range(number("i")):
            number("h")
            partition, leader = number("i"), number("i")
            replicas = [number("i") for _ in range(number("i"))]
            in_sync = [number("i") for _ in range(number("i"))]
            yield Partition(topic, partition, leader, len(replicas), len(in_sync))
