"""The address book at work: loaded from the home, told of connections, asked by dialling, saved now and then."""

import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Self

import anyio
from anyio import to_thread

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.address_book import AddressBook, Source
from ipvcs.node.network.address_store import AddressStore, collect
from ipvcs.node.network.interface import Connection
from ipvcs.storage.datastore import Datastore

_log = logging.getLogger(__name__)

SAVE_INTERVAL: Final = 60.0
"""Seconds between writes of what changed; a kill loses that much of it, and it is found again."""


class AddressService:
    """An `AddressBook` on the clock of the event loop; it is a `Notifiee` and the dialler's `KnownAddresses`.

    Use `open`.
    """

    def __init__(self, store: AddressStore) -> None:
        self.book = AddressBook()
        self._store = store
        self._connections: dict[PeerId, int] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, datastore: Datastore) -> AsyncGenerator[Self]:
        """Load what is known, and save what changes until the end of the block, where all is saved."""
        service = cls(AddressStore(datastore))
        for known in await to_thread.run_sync(service._store.load, time.time()):
            service.book.restore(known, anyio.current_time())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service._keep_saving)
            try:
                yield service
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await service._save()

    def addrs(self, peer_id: PeerId) -> Sequence[Multiaddr]:
        """Return where `peer_id` may be reached now, best first."""
        return self.book.addrs(peer_id, anyio.current_time())

    def known(self, peer_id: PeerId | None = None) -> Mapping[PeerId, Sequence[Multiaddr]]:
        """Return one peer's addresses, or everybody's; without `/p2p`, and without peers that have none."""
        peers = list(self.book.peers(anyio.current_time())) if peer_id is None else [peer_id]
        return {each: addrs for each in peers if (addrs := self.addrs(each))}

    def connected(self, connection: Connection) -> None:
        """Note where the peer was reached. An inbound connection's port says nothing about where it listens."""
        peer_id, now = connection.remote_peer, anyio.current_time()
        if connection.direction == "outbound":
            self.book.add(peer_id, (connection.remote_addr,), Source.REACHED, now)
        self._connections[peer_id] = self._connections.get(peer_id, 0) + 1
        if self._connections[peer_id] == 1:
            self.book.connected(peer_id, now)

    def disconnected(self, connection: Connection) -> None:
        """Note that the peer's addresses age from now on, if this was its last connection."""
        peer_id = connection.remote_peer
        self._connections[peer_id] -= 1
        if not self._connections[peer_id]:
            del self._connections[peer_id]
            self.book.disconnected(peer_id, anyio.current_time())

    async def _keep_saving(self) -> None:
        while True:
            await anyio.sleep(SAVE_INTERVAL)
            self.book.drop_expired(anyio.current_time())
            await self._save()

    async def _save(self) -> None:
        changes = collect(self.book, anyio.current_time(), time.time())
        try:
            await to_thread.run_sync(partial(self._store.write, changes))
        except IpvcsError as exc:
            _log.warning("cannot write the address book: %s", exc)
            self.book.mark_unsaved(changes)
