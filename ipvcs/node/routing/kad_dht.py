"""The Kademlia DHT: routing over the peers that serve one protocol.

Goals: what the white paper's §3.3 asks of routing, spoken as Kubo, Helia and go-libp2p speak it; a dead or lying peer
costs little; nothing that a peer only says is taken for proved. Non-goals: what is valid under a key (validators), what
is kept (stores), announcing again in time (the reprovider), and choosing between this DHT and others (composed).

One `KadDht` is one protocol: a node runs one for its LAN and one for the world (`kad_profile`).

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md and https://specs.ipfs.tech/routing/kad-dht/
"""

import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, Literal, Self, TypeAlias, TypeVar

from anyio import (
    AsyncContextManagerMixin,
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    Event,
    create_memory_object_stream,
    create_task_group,
    current_time,
    move_on_after,
)
from anyio.streams.memory import MemoryObjectSendStream

from ipvcs.errors import IpvcsError, LocalProtocolError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import Connection, Host, PeerInfo
from ipvcs.node.network.peer_facts import PeerFacts
from ipvcs.node.routing.dht_stats import DhtStats
from ipvcs.node.routing.interface import (
    InvalidValueError,
    NoRoutingPeersError,
    PeerNotFoundError,
    Routing,
    Validator,
    ValueNotTakenError,
    ValueWatch,
)
from ipvcs.node.routing.kad_answers import Answerer, Knowledge, ProviderStore, ValueStore
from ipvcs.node.routing.kad_members import Members
from ipvcs.node.routing.kad_message import KadMessage, MessageType, Record
from ipvcs.node.routing.kad_profile import KadProfile
from ipvcs.node.routing.kad_providing import Announcer, for_each
from ipvcs.node.routing.kad_query import Queries
from ipvcs.node.routing.kad_rpc import TIMEOUT, Answer
from ipvcs.node.routing.kad_server import KadServer
from ipvcs.node.routing.keyspace import point_of, point_of_peer
from ipvcs.node.routing.lookup import BETA
from ipvcs.node.routing.routing_table import K, RoutingTable
from ipvcs.node.routing.value_search import ValueSearch

Mode: TypeAlias = Literal["client", "server"]
T = TypeVar("T")

MAX_PROVIDERS: Final = 1000
"""Found by one search, which then ends: nobody fetches from more, and liars name as many as one lets them."""
_VALUES_BUFFERED: Final = 300
"""Over a lookup's queries, and each brings one better value at most: a search never waits for its reader."""

_log = logging.getLogger(__name__)


class KadDht(AsyncContextManagerMixin, Routing):
    """One DHT, while its `async with` block lasts. It hears of connections from the host, of what peers serve by
    `identified`.
    """

    def __init__(
        self,
        host: Host,
        profile: KadProfile,
        *,
        mode: Mode,
        values: ValueStore,
        providers: ProviderStore,
        validator: Validator,
        known: Callable[[PeerId], Sequence[Multiaddr]] = lambda _peer_id: (),
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Make it; it works from `async with` on.

        Args:
            host: what to connect with.
            profile: which DHT.
            mode: whether we serve others. A client asks and announces as well as a server.
            values: keeps what others and we put here.
            providers: keeps what others and we announce.
            validator: the rules of all namespaces of keys.
            known: where a peer is that we are not connected to, *as proved*: reached there, or signed by itself.
            random_bytes: chooses where to refresh.
            wall_clock: seconds since 1970, for the stores and the validator.
        """
        self._host = host
        self._profile = profile
        self._mode: Mode = mode
        self._values = values
        self._providers = providers
        self._validator = validator
        self._wall_clock = wall_clock
        self._members = Members(host, profile, known, random_bytes)
        self._queries: Queries = self._members.queries
        self._awaited: dict[PeerId, list[Event]] = {}
        self._announcer = Announcer(host, profile, self._members, providers, wall_clock)
        knowledge = Knowledge(
            table=self._members.table,
            values=values,
            providers=providers,
            own_addrs=self._announcer.own_addrs,
            find_known=self._members.find_known,
            accepts_addr=profile.accepts_addr,
        )
        self._server = KadServer(Answerer(knowledge), wall_clock)

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with self._members:
            self._host.subscribe(self)
            if self._mode == "server":
                self._host.handle(self._profile.protocol, self._server.serve)
            try:
                yield self
            finally:
                if self._mode == "server":
                    self._host.unhandle(self._profile.protocol)

    @property
    def table(self) -> RoutingTable:
        """Whom we know; not to be changed."""
        return self._members.table

    def stats(self, name: str) -> DhtStats:
        """Return the routing table for people to look at, under what they call this DHT."""
        return self.table.stats(name, self._wall_clock() - current_time())

    @property
    def mode(self) -> Mode:
        """Whether we serve others."""
        return self._mode

    def set_mode(self, mode: Mode) -> None:
        """Begin or cease to serve others. Identify tells them, if the host's `watch` is wired to it."""
        if mode == self._mode:
            return
        self._mode = mode
        if self._members.tasks is None:
            return
        if mode == "server":
            self._host.handle(self._profile.protocol, self._server.serve)
        else:
            self._host.unhandle(self._profile.protocol)

    # ---- what is heard ----

    def identified(self, connection: Connection, facts: PeerFacts) -> None:
        """Hear what the peer of `connection` says of itself: `IdentifyService`'s `on_facts`."""
        self._members.identified(connection, facts)

    def connected(self, connection: Connection) -> None:
        """Hear of a new connection."""
        for awaited in self._awaited.get(connection.remote_peer, ()):
            awaited.set()

    def disconnected(self, connection: Connection) -> None:
        """Hear of the end of one."""
        self._members.disconnected(connection)

    # ---- peers ----

    async def find_peer(self, peer_id: PeerId) -> PeerInfo:
        """Return where `peer_id` may be reached; see `PeerRouting`.

        Where it was when we met it and where others say it is, it is dialled: as a rule the address returned is one
        that worked. If none did, all are returned, the newest first: it may be that only we can't go there now.
        """
        if peer_id == self._host.peer_id:
            return PeerInfo(peer_id, tuple(self._host.addresses()))
        if (there := self._members.connected(peer_id)) is not None:
            return there
        known = self._members.known(peer_id)
        if not await self._members.wait_for_peers():
            await self._go_to(known)
            if (there := self._members.connected(peer_id)) is not None:
                return there
            raise NoRoutingPeersError  # another router may know better than what we knew once
        also = [known] if known.addrs else []
        lookup = self._members.start_lookup(point_of_peer(peer_id), width=BETA, also=also)
        met = Event()
        self._awaited.setdefault(peer_id, []).append(met)
        try:
            async with create_task_group() as tasks:

                async def run() -> None:
                    await self._queries.run(lookup, KadMessage(MessageType.FIND_NODE, peer_id.raw))
                    met.set()

                tasks.start_soon(run)
                await met.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._awaited[peer_id].remove(met)
            if not self._awaited[peer_id]:
                del self._awaited[peer_id]
        if (there := self._members.connected(peer_id)) is not None:
            return there
        if addrs := lookup.addrs_of(peer_id):
            return PeerInfo(peer_id, addrs)
        raise PeerNotFoundError(peer_id, asked=lookup.queries)

    async def _go_to(self, known: PeerInfo) -> None:
        """Dial a peer where it was, if we know."""
        if known.addrs:
            with suppress(IpvcsError), move_on_after(TIMEOUT):
                await self._host.connect(known)

    async def closest_peers(self, key: bytes) -> list[PeerInfo]:
        """Return the k peers nearest to `key` that answer, nearest first. Raises NoRoutingPeersError."""
        await self._members.require_peers()
        return (await self._members.look_up(key)).closest()

    # ---- providers ----

    def find_providers(self, cid: Cid) -> AbstractAsyncContextManager[AsyncIterator[PeerInfo]]:
        """Stream who is said to have the block of `cid`; see `ContentRouting`. At most `MAX_PROVIDERS`, never us."""
        return self._streaming(MAX_PROVIDERS, lambda sink: self._find_providers(cid.multihash, sink))

    async def _find_providers(self, key: bytes, sink: Callable[[PeerInfo], None]) -> None:
        found = _Providers(self._host.peer_id, sink)
        found.add(self._providers.providers(key, self._wall_clock()))
        if not await self._members.wait_for_peers():
            found.finish()
            return

        def on_answer(_peer: PeerInfo, answer: Answer) -> bool:
            found.add(self._queries.usable(answer.message.provider_peers, answer.remote_addr))
            return found.is_full

        lookup = self._members.start_lookup(point_of(key), width=BETA)
        # Where peers come and go the nearest three may be newcomers, who were not there when it was announced.
        await self._queries.run(
            lookup, KadMessage(MessageType.GET_PROVIDERS, key), on_answer, is_enough=lambda: bool(found)
        )
        found.finish()

    async def provide(self, cid: Cid) -> int:
        """Announce that we serve the block of `cid`; see `ContentRouting` and `Announcer`."""
        return await self._announcer.provide(cid)

    async def provide_many(self, cids: Sequence[Cid], on_told: Callable[[Cid], None]) -> None:
        """Announce `cids`, which are in the order of the keyspace; see `ManyProviding` and `Announcer`."""
        await self._announcer.provide_many(cids, on_told)

    # ---- values ----

    async def set_value(self, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        """Store `value` here and at the k peers nearest to `key`; see `ValueRouting`.

        What is watched is kept here when there is nobody to ask, or somebody took it: not if all others have what must
        not be replaced.
        """
        now = self._wall_clock()
        search = ValueSearch(key, self._validator)
        self._validator.validate(key, value, now)
        if (old := self._values.try_get(key, now)) is not None:
            search.offer(Record(key, old), None, now)
            if search.best not in (None, value) and search.offer(Record(key, value), None, now) is None:
                raise InvalidValueError(f"a better value than this one is known under key {key!r}")
            if watch is not None and old != value and not watch.may_replace(old):
                raise InvalidValueError(f"another value than this one is known under key {key!r}")
        if watch is None or not await self._members.wait_for_peers():
            self._values.put(key, value, now, own=True)
        peers = await self.closest_peers(key)
        storing = self._put_to(peers, key, value) if watch is None else self._offer_to(peers, key, value, watch)
        if not (taken := sum(await storing)):
            raise ValueNotTakenError(key, len(peers))
        self._values.put(key, value, now, own=True)
        return taken

    def search_value(self, key: bytes, *, quorum: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream better and better values under `key`, ours first; see `ValueRouting`. Each of the k nearest peers is
        asked, unless `quorum` ends it.

        Raises:
            NoRoutingPeersError: there is nobody to ask, and we have none ourselves.
        """
        return self._searching_value(key, quorum)

    @asynccontextmanager
    async def _searching_value(self, key: bytes, quorum: int) -> AsyncGenerator[AsyncIterator[bytes]]:
        now = self._wall_clock()
        search = ValueSearch(key, self._validator, quorum)
        own = self._values.try_get(key, now)
        mine = None if own is None else search.offer(Record(key, own), None, now)
        if mine is None:
            await self._members.require_peers()

        async def run(sink: Callable[[bytes], None]) -> None:
            if mine is not None:
                sink(mine)
            if await self._members.wait_for_peers():
                await self._search_value(key, search, sink)

        async with self._streaming(_VALUES_BUFFERED, run) as found:
            yield found

    async def _search_value(self, key: bytes, search: ValueSearch, sink: Callable[[bytes], None]) -> None:
        def on_answer(peer: PeerInfo, answer: Answer) -> bool:
            if (better := search.offer(answer.message.record, peer, self._wall_clock())) is not None:
                sink(better)
            return search.is_finished

        lookup = self._members.start_lookup(point_of(key), width=K)
        await self._queries.run(lookup, KadMessage(MessageType.GET_VALUE, key), on_answer)
        outdated = list(search.outdated())[:K]
        if search.best is not None and outdated and self._members.tasks is not None:
            self._members.tasks.start_soon(self._put_to, outdated, key, search.best)  # outlives who searched

    async def _put_to(self, peers: Iterable[PeerInfo], key: bytes, value: bytes) -> list[bool]:
        """Send a value to `peers`, and return of each whether it took it."""
        request = KadMessage(MessageType.PUT_VALUE, key, Record(key, value))

        async def put(peer: PeerInfo) -> bool:
            answer = await self._queries.ask(peer, request, blame=False)  # who has a better one refuses it
            record = None if answer is None else answer.message.record
            return record is not None and (record.key, record.value) == (key, value)

        return await for_each(peers, put)

    async def _offer_to(self, peers: Iterable[PeerInfo], key: bytes, value: bytes, watch: ValueWatch) -> list[bool]:
        """Send a value to those of `peers` that have nothing that must not be replaced; tell `watch` all of it."""

        async def may_go_on(peer: PeerInfo) -> bool:
            answer = await self._queries.ask(peer, KadMessage(MessageType.GET_VALUE, key), blame=False)
            search = ValueSearch(key, self._validator)
            there = None if answer is None else search.offer(answer.message.record, peer, self._wall_clock())
            return there is None or there == value or watch.may_replace(there)

        async def offer(peer: PeerInfo) -> bool:
            if not await may_go_on(peer) or not all(await self._put_to([peer], key, value)):
                return False
            watch.taken(peer.peer_id)
            await may_go_on(peer)
            return True

        return await for_each(peers, offer)

    # ---- shared ----

    @asynccontextmanager
    async def _streaming(
        self, size: int, search: Callable[[Callable[[T], None]], Awaitable[None]]
    ) -> AsyncGenerator[AsyncIterator[T]]:
        """Run `search` beside the block, and yield what it puts into its sink, `size` items at most."""
        if self._members.tasks is None:
            raise LocalProtocolError("the DHT is not running")
        send, receive = create_memory_object_stream[T](size)
        scope = CancelScope()

        async def run() -> None:
            with scope, send:
                await search(lambda item: _put(send, item))

        self._members.tasks.start_soon(run)
        try:
            with receive:
                yield receive
        finally:
            scope.cancel()
            send.close()  # in case that the search never began


class _Providers:
    """Providers as they are found: each once, those without an address at the end, in case somebody knows one."""

    def __init__(self, own_id: PeerId, sink: Callable[[PeerInfo], None]) -> None:
        self._sink = sink
        self._seen = {own_id}
        self._without_addrs: dict[PeerId, PeerInfo] = {}

    def __bool__(self) -> bool:
        return len(self._seen) > 1 or bool(self._without_addrs)

    @property
    def is_full(self) -> bool:
        return len(self._seen) - 1 + len(self._without_addrs) >= MAX_PROVIDERS

    def add(self, peers: Iterable[PeerInfo]) -> None:
        for peer in peers:
            if peer.peer_id in self._seen or self.is_full:
                continue
            if peer.addrs:
                self._without_addrs.pop(peer.peer_id, None)
                self._seen.add(peer.peer_id)
                self._sink(peer)
            else:
                self._without_addrs.setdefault(peer.peer_id, peer)

    def finish(self) -> None:
        for peer in self._without_addrs.values():
            self._sink(peer)


def _put(send: MemoryObjectSendStream[T], item: T) -> None:
    with suppress(BrokenResourceError, ClosedResourceError):  # whoever searched has left
        send.send_nowait(item)
