#!/usr/bin/env python3
"""Runs a command against a Millrace server of its own, started before and stopped after it.

    with_server.py --binary millrace [--brokers HOST:PORT] -- COMMAND … {address} …

`{address}` in the command becomes the server's address. Without --brokers the log is embedded; with them, topics get a
prefix of their own, which `{topic_prefix}` becomes. The exit status is the command's; if that is 0 but the server does not end cleanly, it is 1 and a
line says `0 passed, 1 failed`.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from server import Failure, Server, end_on_sigterm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the millrace to start")
    parser.add_argument("--brokers", help="run on this Kafka instead of the embedded log")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    end_on_sigterm()

    directory = Path(tempfile.mkdtemp(prefix="millrace-server-"))
    server = Server(options.binary, directory, brokers=options.brokers, topic_prefix=f"test-{secrets.token_hex(4)}.")
    try:
        server.start()
        server.wait_until_ready()
        known = {"{address}": server.address, "{topic_prefix}": server.topic_prefix}
        code = subprocess.run([known.get(part, part) for part in options.command]).returncode
        server.stop()
    except Failure as failure:
        print(f"{failure}\n0 passed, 1 failed")
        code = 1
    finally:
        server.kill()
    if code == 0:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"The server's log and data are kept in {directory}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
