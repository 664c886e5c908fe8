"""Closes connections when there are too many: the hands of `connection_manager`, which decides.

It looks every few seconds, and at once when the swarm had to refuse somebody for lack of room.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import anyio

from ipvcs.node.network.connection_manager import ConnectionInfo, ConnectionManager
from ipvcs.node.network.interface import Connection

_log = logging.getLogger(__name__)

INTERVAL: Final = 10.0
"""Seconds between looks; as go-libp2p's silence period."""


class Trimmer:
    """Trims the connections that `connections` returns. Run `run` in a task."""

    def __init__(self, manager: ConnectionManager, connections: Callable[[], Sequence[Connection]]) -> None:
        self.manager = manager
        self._connections = connections
        self._wanted = anyio.Event()

    def make_room(self) -> None:
        """Look soon; does not wait."""
        self._wanted.set()

    async def run(self) -> None:
        """Look and close until cancelled."""
        while True:
            with anyio.move_on_after(INTERVAL):
                await self._wanted.wait()
            self._wanted = anyio.Event()
            await self.trim()

    async def trim(self) -> int:
        """Close what the manager chooses now, in parallel; return how many those were."""
        infos = [
            ConnectionInfo(each, each.remote_peer, each.opened, len(each.streams), each.last_used)
            for each in self._connections()
        ]
        chosen = self.manager.to_close(infos, anyio.current_time())
        if chosen:
            _log.info("closing %d of %d connections", len(chosen), len(infos))
        async with anyio.create_task_group() as goodbyes:
            for info in chosen:
                goodbyes.start_soon(info.connection.aclose)
        return len(chosen)
