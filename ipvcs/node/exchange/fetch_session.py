"""One session of the exchange: its strategy, what has arrived for it, and its searches for providers."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import anyio

from ipvcs.errors import IpvcsError
from ipvcs.multiformats import multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.interface import SessionStat
from ipvcs.node.exchange.local_blocks import Arrival, store_and_read_links
from ipvcs.node.exchange.session import Session
from ipvcs.node.exchange.wantlist import PeerWantlist
from ipvcs.node.network.interface import Host, PeerInfo
from ipvcs.node.routing.interface import ContentRouting, PeerRouting
from ipvcs.objects.block import Block
from ipvcs.storage.interface import BlockWriting

MAX_PROVIDERS: Final = 32
"""Providers of one search that are connected to."""
ENOUGH_SOURCES: Final = 4
"""Sources with which a search ends."""
DIALS: Final = 8
"""Providers dialled at once."""
DIAL_TIMEOUT: Final = 5.0
"""Seconds for one provider: thirty dead ones take a third of the time that a fetch waits."""
SEARCH_TIMEOUT: Final = 60.0

_log = logging.getLogger(__name__)


class Exchanging(Protocol):
    """What a session needs of the service."""

    def wantlist_of(self, peer_id: PeerId) -> PeerWantlist:
        """Return the wantlist of a connected peer, which may change now."""

    def wants(self, session: "BlockSession", cid: Cid) -> None:
        """`session` waits for `cid`."""

    def unwants(self, session: "BlockSession", cid: Cid) -> None:
        """It does not any more."""

    def pump(self, sessions: Iterable["BlockSession"]) -> None:
        """Let `sessions` ask for what they want."""

    def can_ask(self, peer_id: PeerId) -> bool:
        """Whether `peer_id` is connected, speaks Bitswap and is not known for wrong blocks."""

    def is_connected(self) -> bool:
        """Whether there is anybody at all, who may know providers."""


class BlockSession:
    """See `FetchSession`."""

    def __init__(self, number: int, root: Cid, writer: BlockWriting, service: Exchanging) -> None:
        self.number = number
        self.strategy = Session(number, root, anyio.current_time(), service.wantlist_of)
        self.start_search: Callable[[Cid], object] | None = None
        self.searching: Cid | None = None
        self.search_scope = anyio.CancelScope()
        self.providers: set[PeerId] = set()
        self.reached: set[PeerId] = set()
        self._writer = writer
        self._service = service
        self._wanted: dict[Cid, None] = {}
        self._arrived: list[Arrival] = []
        self._failure: IpvcsError | None = None
        self._changed = anyio.Event()

    # ---- for the fetch ----

    def want(self, cids: Iterable[Cid]) -> None:
        """Fetch the blocks of `cids`.

        Raises:
            UnknownHashError, MultihashError: nobody could tell whether what comes is right.
        """
        new: list[Cid] = []
        for cid in cids:
            if cid not in self._wanted:
                multihash.verify(b"", cid.multihash)
                self._wanted[cid] = None
                self._service.wants(self, cid)
                new.append(cid)
        if new:
            self.strategy.want(new)
            self.pump()

    @property
    def wanted(self) -> int:
        """How many blocks are wanted and not here."""
        return len(self._wanted)

    def oldest_wanted(self) -> Cid | None:
        """Return what has been wanted longest, None when nothing is."""
        return next(iter(self._wanted), None)

    def has_hope(self) -> bool:
        """Whether there is anybody to ask. See `FetchSession.has_hope`."""
        return self._service.is_connected() or self.searching is not None

    async def arrivals(self) -> Sequence[Arrival]:
        """Return what arrived since the last call, at least one block. See `FetchSession.arrivals`."""
        while not self._arrived and self._failure is None:
            self._changed = anyio.Event()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        arrived, self._arrived = self._arrived, []
        return arrived

    def stat(self) -> SessionStat:
        """Return how it stands."""
        strategy = self.strategy
        return SessionStat(
            strategy.blocks,
            strategy.bytes,
            strategy.sources,
            strategy.asked,
            len(self.providers),
            len(self.reached),
        )

    def close(self) -> None:
        """Want nothing more."""
        for cid in self._wanted:
            self._service.unwants(self, cid)
        self._wanted.clear()
        self.strategy.cancel_all()
        self.start_search = None
        self.search_scope.cancel()

    # ---- for the service ----

    def take(self, block: Block) -> Arrival:
        """Hand `block` to the writer; called in a thread. What the writer raises ends the fetch, not the stream."""
        try:
            return store_and_read_links(block, (self._writer,))
        except IpvcsError as exc:
            self._failure = exc
            return Arrival(block.cid, len(block.data), (), exc)

    def arrived(self, peer_id: PeerId, arrival: Arrival, now: float) -> bool:
        """Note what `take` returned; return whether it was still wanted."""
        if not self.strategy.received(peer_id, arrival.cid, arrival.size, now):
            return False
        self._wanted.pop(arrival.cid, None)
        self._service.unwants(self, arrival.cid)
        self._arrived.append(arrival)
        self._changed.set()
        return True

    def pump(self) -> None:
        """Ask for what is wanted."""
        self._service.pump((self,))

    def provider_reached(self, peer_id: PeerId) -> None:
        """A provider was connected to: ask it, if it is still there and can be asked."""
        if self._service.can_ask(peer_id):
            self.reached.add(peer_id)
            self.strategy.connected(peer_id, anyio.current_time(), provider=True)
            self.pump()

    def maybe_search(self, now: float) -> None:
        """Search providers, if nobody connected has what is wanted and no search is under way."""
        if self.searching is None and self.start_search is not None:
            cid = self.strategy.next_search(now)
            if cid is not None:
                self.searching = cid
                self.search_scope = anyio.CancelScope()
                self.start_search(cid)


class Providers:
    """Finds providers for sessions and connects to them."""

    def __init__(self, host: Host, content: ContentRouting, peers: PeerRouting) -> None:
        self._host = host
        self._content = content
        self._peer_routing = peers

    async def search(self, session: BlockSession, cid: Cid) -> None:
        """Search providers of `cid`, connect to them, and let `session` ask them."""
        limiter = anyio.CapacityLimiter(DIALS)
        seen = 0
        try:
            with session.search_scope, anyio.move_on_after(SEARCH_TIMEOUT):
                async with anyio.create_task_group() as dials, self._content.find_providers(cid) as found:
                    async for info in found:
                        if info.peer_id == self._host.peer_id:
                            continue
                        session.providers.add(info.peer_id)
                        dials.start_soon(self._connect, session, info, limiter)
                        seen += 1
                        if seen == MAX_PROVIDERS or session.strategy.sources >= ENOUGH_SOURCES:
                            break
        except* IpvcsError as group:
            _log.debug("cannot search providers of %s: %s", cid, group.exceptions[0])
        finally:
            session.searching = None

    async def _connect(self, session: BlockSession, info: PeerInfo, limiter: anyio.CapacityLimiter) -> None:
        async with limiter:
            try:
                with anyio.fail_after(DIAL_TIMEOUT):
                    if not info.addrs and not self._host.connections(info.peer_id):
                        info = await self._peer_routing.find_peer(info.peer_id)
                    await self._host.connect(info)
            except (IpvcsError, TimeoutError) as exc:
                _log.debug("cannot connect to provider %s: %s", info.peer_id, exc)
                return
        session.provider_reached(info.peer_id)
