"""A TCP proxy whose way can be cut: what stands between nodes, and between workers and a cluster.

Standard library only.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable

CONNECT_SECONDS_MAX = 1.0
CHUNK_BYTES = 64 * 1024

Address = tuple[str, int]


class Proxies:
    """Runs proxies on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def open(self, targets: Callable[[], list[Address]]) -> Proxy:
        """A proxy on a free port. Each connection goes to one of the targets that answer, at random."""
        proxy = Proxy(self._loop, targets)
        asyncio.run_coroutine_threadsafe(proxy.listen(), self._loop).result()
        return proxy

    def close(self) -> None:
        async def end_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Proxy:
    def __init__(self, loop: asyncio.AbstractEventLoop, targets: Callable[[], list[Address]]) -> None:
        self._loop, self._targets = loop, targets
        self._open: set[asyncio.StreamWriter] = set()
        self._cut = self._refusing = False
        self.address = ""

    async def listen(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Holds back what is on its way and all that comes, as a network does that loses every packet."""
        self._cut = True

    def refuse(self) -> None:
        """Resets all connections and those that come, as a firewall may do, or a host whose program is gone."""

        async def reset() -> None:
            self._refusing = True
            self._reset()

        asyncio.run_coroutine_threadsafe(reset(), self._loop).result()

    def mend(self, *, late: bool = False) -> None:
        """Lets connections through again. Those that were cut are reset, or go on: then what was held back still arrives."""

        async def mend() -> None:
            self._cut = self._refusing = False
            if not late:
                self._reset()

        asyncio.run_coroutine_threadsafe(mend(), self._loop).result()

    def _reset(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            targets = [] if self._refusing else self._targets()
            random.shuffle(targets)
            for host, port in targets:
                try:
                    there = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_SECONDS_MAX)
                except (OSError, asyncio.TimeoutError):
                    continue
                await self._join((reader, writer), there)
                return
        except asyncio.CancelledError:
            pass  # Nobody awaits this: asyncio would complain.
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _join(
        self, here: tuple[asyncio.StreamReader, asyncio.StreamWriter], there: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> None:
        self._open.add(there[1])
        ways = [asyncio.ensure_future(self._copy(here[0], there[1])), asyncio.ensure_future(self._copy(there[0], here[1]))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._open.discard(there[1])
            there[1].transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                while self._cut:
                    await asyncio.sleep(0.05)
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
