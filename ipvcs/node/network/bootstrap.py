"""Keeps a node in touch with the network: dials its bootstrap peers when it is connected to too few others.

Bootstrap peers are doors, not company: once there are enough connections of any kind, none is dialled, and none is
protected from trimming.

Compare: Kubo's bootstrapper, `core/bootstrap`, whose numbers these are.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import anyio

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import Connection, Host, PeerInfo

_log = logging.getLogger(__name__)

MIN_PEERS: Final = 4
"""Connected peers below which bootstrap peers are dialled."""
PERIOD: Final = 30.0
"""Seconds between looks."""
JOIN_TIMEOUT: Final = 5.0
"""Seconds that who needs company waits for the first bootstrap peer, right after the start."""


class Bootstrapper:
    """Dials `peers`, each with one of its addresses, through `host`. Run `run` in a task."""

    def __init__(
        self,
        host: Host,
        peers: Iterable[tuple[PeerId, Multiaddr | None]],
        greet: Callable[[Connection], Awaitable[object]] | None = None,
    ) -> None:
        """`peers` may name one again with another address, or without any: then only the address book knows it.

        `greet` waits until a peer that was dialled is ready to be asked; it may raise what a dial may.
        """
        self._host = host
        self._greet = greet
        self._joined = anyio.Event()
        grouped: dict[PeerId, list[Multiaddr]] = {}
        for peer_id, addr in peers:
            grouped.setdefault(peer_id, []).extend([] if addr is None else [addr])
        self._peers = [PeerInfo(peer_id, tuple(found)) for peer_id, found in grouped.items()]

    async def run(self) -> None:
        """Look and dial until cancelled. Without bootstrap peers there is nothing to do, and it returns."""
        while self._peers:
            await self.dial_missing()
            self._joined.set()
            await anyio.sleep(PERIOD)

    async def wait_joined(self) -> None:
        """Return when a bootstrap peer was reached since the start, or all were tried, or after `JOIN_TIMEOUT`."""
        if self._peers:
            with anyio.move_on_after(JOIN_TIMEOUT):
                await self._joined.wait()

    async def dial_missing(self) -> None:
        """Dial all bootstrap peers at once that we are not connected to, if we are connected to too few peers."""
        connected = {connection.remote_peer for connection in self._host.connections()}
        if len(connected) >= MIN_PEERS:
            return
        async with anyio.create_task_group() as dials:
            for peer in self._peers:
                if peer.peer_id not in connected and peer.peer_id != self._host.peer_id:
                    dials.start_soon(self._dial, peer)

    async def _dial(self, peer: PeerInfo) -> None:
        try:
            connection = await self._host.connect(peer)
            if self._greet is not None:
                await self._greet(connection)
            self._joined.set()
        except IpvcsError as exc:
            _log.info("cannot reach bootstrap peer %s: %s", peer.peer_id, exc)
