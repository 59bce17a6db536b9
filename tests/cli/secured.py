#!/usr/bin/env python3
"""A server on a broker with TLS, SASL and ACLs, by each mechanism, and what it says if it is not let in.

The ACLs are those of docs/topics.md, and no more. Needs confluent-kafka, to set them. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import subprocess
import sys
from pathlib import Path

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType

from server import Checks, Failure, Server, end_on_sigterm, expect, free_port, kept_if_failed

REPOSITORY = Path(__file__).resolve().parent.parent.parent
USER, PASSWORD = "millrace", "millrace-secret"
MECHANISMS = {
    "PLAIN": {"sasl.username": USER, "sasl.password": PASSWORD},
    "SCRAM-SHA-512": {"sasl.username": USER, "sasl.password": PASSWORD},
    "OAUTHBEARER": {"enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": f"principal={USER}"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, metavar="MILLRACE")
    options = parser.parse_args()
    end_on_sigterm()
    checks = Checks()
    with kept_if_failed(checks, "millrace-secured-") as directory:
        port = free_port()
        kafka = directory / "kafka"
        subprocess.run([REPOSITORY / "deploy/kafka.sh", "start", kafka, str(port), "secured"], check=True, stdout=subprocess.DEVNULL)
        try:
            secured = f"127.0.0.1:{port + 2}"
            with checks.check("without ACLs: the server ends, and says what it may not do"):
                expect_refused(options, directory / "unauthorized", secured, settings(kafka, "PLAIN"), r"(?i)authoriz")
            for mechanism in MECHANISMS:
                with checks.check(f"SASL_SSL with {mechanism}: a request is carried out, and its history read"):
                    prefix = f"{mechanism.lower()}-{secrets.token_hex(3)}."
                    allow(f"127.0.0.1:{port}", prefix)
                    run(options, directory / mechanism, secured, prefix, settings(kafka, mechanism))
            with checks.check("a wrong password: the server ends, and says that it was not let in"):
                wrong = settings(kafka, "SCRAM-SHA-512") | {"sasl.password": "wrong"}
                expect_refused(options, directory / "password", secured, wrong, r"(?i)authentication failed")
            with checks.check("an unknown certificate: the server ends, and says that it does not trust it"):
                wrong = {name: value for name, value in settings(kafka, "PLAIN").items() if name != "ssl.ca.location"}
                expect_refused(options, directory / "certificate", secured, wrong, r"(?i)certificate")
            with checks.check("no TLS where there is TLS: the server ends, and says where it was"):
                expect_refused(options, directory / "plaintext", secured, {}, re.escape(secured))
        finally:
            subprocess.run([REPOSITORY / "deploy/kafka.sh", "stop", kafka], check=True)
    print(checks.closing_line())
    return 1 if checks.failed else 0


def settings(kafka: Path, mechanism: str) -> dict[str, str]:
    common = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(kafka / "ca.pem"), "sasl.mechanism": mechanism}
    return common | MECHANISMS[mechanism]


def allow(brokers: str, prefix: str) -> None:
    """What docs/topics.md says that a node's principal needs."""
    needs = {
        ResourceType.TOPIC: ["DESCRIBE", "DESCRIBE_CONFIGS", "READ", "WRITE", "DELETE", "CREATE"],
        ResourceType.TRANSACTIONAL_ID: ["DESCRIBE", "WRITE"],
        ResourceType.GROUP: ["DESCRIBE", "READ"],
    }
    acls = [
        AclBinding(resource, prefix, ResourcePatternType.PREFIXED, f"User:{USER}", "*", AclOperation[operation], AclPermissionType.ALLOW)
        for resource, operations in needs.items()
        for operation in operations
    ]
    admin = AdminClient({"bootstrap.servers": brokers})
    for created in admin.create_acls(acls).values():
        created.result()


def configured(options: argparse.Namespace, directory: Path, brokers: str, prefix: str, kafka: dict[str, str]) -> Server:
    directory.mkdir()
    config = directory / "millrace.toml"
    lines = [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in kafka.items()]
    config.write_text("\n".join(["[kafka]", *lines, ""]))
    return Server(options.binary, directory, brokers=brokers, topic_prefix=prefix, config=config)


def run(options: argparse.Namespace, directory: Path, brokers: str, prefix: str, kafka: dict[str, str]) -> None:
    server = configured(options, directory, brokers, prefix, kafka)
    flags = [flag for name, value in kafka.items() for flag in ("--kafka", f"{name}={value}")]
    try:
        server.start()
        server.wait_until_ready()
        start = {"start": {"workflow_id": "order-1", "workflow_type": "Order", "task_queue": "orders"}}
        server.produce("requests", "order-1", json.dumps(start).encode(), flags=flags)
        first = server.values("history", "--follow", "--max", "1", *flags)[0]
        expect("the workflow id in history", first["workflow_id"], "order-1")
        for where, count in (("workflow_id=order-1", 1), ("events.event_id=1", 1), ("workflow_id=nobody", 0)):
            expect(f"the records of history --where {where}", len(server.values("history", "--where", where, *flags)), count)
        verify = [options.binary, "topics", "verify", "--brokers", brokers, "--topic-prefix", prefix, *flags]
        done = subprocess.run(verify, capture_output=True, text=True, timeout=30)
        if done.returncode != 0 or f"{prefix}control" not in done.stdout:
            raise Failure(f"Expected `millrace topics verify` to find all topics, but it said: {done.stderr or done.stdout}")
        server.stop()
    finally:
        server.kill()


def expect_refused(options: argparse.Namespace, directory: Path, brokers: str, kafka: dict[str, str], says: str) -> None:
    server = configured(options, directory, brokers, "refused.", kafka)
    server.expect_refused(says)


if __name__ == "__main__":
    sys.exit(main())
