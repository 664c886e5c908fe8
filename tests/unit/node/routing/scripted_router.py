"""A router whose answers, delays and failures a test chooses, over tables that several nodes' routers share."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import anyio

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import PeerNotFoundError, ValueWatch
from ipvcs.node.routing.value_store import OutdatedValueError
from tests.contracts.routing import VALIDATOR


@dataclass
class SharedTables:
    """What a network knows."""

    peers: dict[PeerId, PeerInfo] = field(default_factory=dict)
    providers: dict[bytes, dict[PeerId, PeerInfo]] = field(default_factory=dict)
    values: dict[bytes, list[bytes]] = field(default_factory=dict)


@dataclass
class ScriptedRouter:
    """Answers from `tables`, each answer after `delay` seconds; raises `error` instead if there is one."""

    own: PeerInfo
    tables: SharedTables = field(default_factory=SharedTables)
    delay: float = 0.0
    error: IpvcsError | None = None
    told: int = 1
    log: list[str] = field(default_factory=list)
    """What was begun, ended and cancelled."""

    async def find_peer(self, peer_id: PeerId) -> PeerInfo:
        await self._wait("find_peer")
        if peer_id not in self.tables.peers:
            raise PeerNotFoundError(peer_id)
        return self.tables.peers[peer_id]

    async def provide(self, cid: Cid) -> int:
        await self._wait("provide")
        self.tables.providers.setdefault(cid.multihash, {})[self.own.peer_id] = self.own
        return self.told

    @asynccontextmanager
    async def find_providers(self, cid: Cid) -> AsyncGenerator[AsyncIterator[PeerInfo]]:
        async with aclosing(self._stream(list(self.tables.providers.get(cid.multihash, {}).values()))) as found:
            yield found

    async def set_value(self, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        VALIDATOR.validate(key, value, 0)
        await self._wait("set_value")
        values = self.tables.values.setdefault(key, [])
        if values and VALIDATOR.select(key, (values[-1], value)) == 0 and value != values[-1]:
            raise OutdatedValueError(key, values[-1])
        values.append(value)
        return self.told

    @asynccontextmanager
    async def search_value(self, key: bytes, *, quorum: int = 0) -> AsyncGenerator[AsyncIterator[bytes]]:
        self.log.append(f"quorum {quorum}")
        async with aclosing(self._stream(list(self.tables.values.get(key, [])))) as found:
            yield found

    async def _stream(self, answers: "list[PeerInfo] | list[bytes]") -> AsyncGenerator:  # type: ignore[type-arg]
        for answer in answers:
            await self._wait("search")
            yield answer
        if self.error is not None:
            raise self.error

    async def _wait(self, what: str) -> None:
        self.log.append(f"begin {what}")
        try:
            await anyio.sleep(self.delay)
        except BaseException:
            self.log.append(f"cancelled {what}")
            raise
        if self.error is not None and what != "search":
            raise self.error
        self.log.append(f"end {what}")
