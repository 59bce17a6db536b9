#!/usr/bin/env python3
"""Gives Millrace what it should refuse, and checks that each error is clear: status, text, and no harm done.

Calls and commands over gRPC (bad_calls, bad_commands), records on `requests` (bad_requests), and servers that can't start
(bad_starts). The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from functools import partial

from temporalio.client import Client

import bad_calls
import bad_commands
import bad_requests
import bad_starts
from server import Checks, Failure, Server, end_on_sigterm, kept_if_failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", metavar="MILLRACE", help="the millrace to start")
    parser.add_argument("--address", help="only make the calls, to a server that runs there (a Temporal server is one, too)")
    parser.add_argument("--namespace", default="default", help="default: %(default)s")
    options = parser.parse_args()
    if bool(options.binary) == bool(options.address):
        parser.error("name either --binary or --address")
    end_on_sigterm()

    checks = Checks()
    if options.address:
        asyncio.run(call(checks, options.address, options.namespace))
    else:
        run_all(checks, options.binary, options.namespace)
    print(checks.closing_line())
    return 1 if checks.failed else 0


def run_all(checks: Checks, binary: str, namespace: str) -> None:
    with kept_if_failed(checks, "millrace-bad-input-") as directory:
        server = Server(binary, directory)
        try:
            server.start()
            server.wait_until_ready()
            bad_requests.run(checks, partial(server.produce, "requests"), server.first_values, garbage_bytes=False)
            asyncio.run(call(checks, server.address, namespace))
            with checks.check("the server ends cleanly after all that"):
                server.stop()
        except Failure as failure:
            checks.record("a server to talk to", str(failure))
        finally:
            server.kill()
        bad_starts.run(checks, binary, directory)


async def call(checks: Checks, address: str, namespace: str) -> None:
    client = await Client.connect(address, namespace=namespace)
    await bad_calls.run(checks, client, namespace)
    await bad_commands.run(checks, client, namespace)


if __name__ == "__main__":
    code = main()
    # Not sys.exit: the SDK's native threads may still call into an interpreter that is shutting down, which aborts it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
