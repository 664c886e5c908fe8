"""A TCP proxy on loopback that holds all bytes back for a while, as a long line would.

    python -m bench.delay_proxy PORT MILLISECONDS [MB]     prints its own port; adds MILLISECONDS of round trip

What arrives is sent on exactly half the round trip later, in order and as fast as it came: delay, and no limit on the
bandwidth unless MB, megabytes a second each way, is given. Its memory is the delay times the speed.
"""

import asyncio
import sys
from collections import deque
from contextlib import suppress
from typing import Final

_READ: Final = 256 * 1024


class Line:
    """One direction."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, speed: float = 0.0
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._delay = delay
        self._speed = speed
        self._held: deque[tuple[float, bytes]] = deque()
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Carry bytes until they end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take())
            tasks.create_task(self._give())

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        data = b"-"
        free = loop.time()
        while data:
            if self._speed and (wait := free - loop.time()) > 0:
                await asyncio.sleep(wait)
            try:
                data = await self._reader.read(_READ)
            except ConnectionError:
                data = b""
            if self._speed:
                free = max(free, loop.time()) + len(data) / self._speed
            self._held.append((loop.time() + self._delay, data))
            self._arrived.set()

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._held:
                self._arrived.clear()
                await self._arrived.wait()
            due, data = self._held.popleft()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            try:
                if not data:
                    self._writer.write_eof()
                    return
                self._writer.write(data)
                await self._writer.drain()
            except (ConnectionError, OSError):
                return


async def main(port: int, milliseconds: float, megabytes: float) -> None:
    """Serve until stdin ends."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, limit=_READ)
        delay = milliseconds / 2000
        with suppress(asyncio.CancelledError):  # at our own end; asyncio would report it
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(Line(reader, far_writer, delay, megabytes * 1e6).run())
                tasks.create_task(Line(far_reader, writer, delay, megabytes * 1e6).run())
        writer.close()
        far_writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0, limit=_READ)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0))
