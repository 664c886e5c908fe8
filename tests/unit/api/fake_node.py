"""A node without a network: the connections, addresses and facts that a test gives it."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.fetch import FetchLimits, FetchProgress, OnProgress
from ipvcs.node.identity.keys import PrivateKey, PublicKey
from ipvcs.node.network.errors import DialError
from ipvcs.node.network.interface import Admission, Connection, Direction, Notifiee, PeerInfo, Stream, StreamHandler
from ipvcs.node.network.peer_facts import PeerFacts
from ipvcs.node.network.ping import PingResult
from ipvcs.node.routing.dht_stats import DhtStats
from ipvcs.node.routing.provider_service import ProvideStats
from ipvcs.storage.config import Config


def key_of(number: int) -> PrivateKey:
    """Return the same key each time: test ids have names in them, and all workers must collect the same."""
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


OUR_KEY = key_of(1)
PEER_KEY = key_of(2)
PEER = PEER_KEY.peer_id
OTHER = key_of(3).peer_id
FACTS = PeerFacts(
    protocol_version="ipfs/0.1.0",
    agent_version="kubo/0.39.0/\x1b[31m",
    protocols=("/ipfs/ping/1.0.0", "/ipfs/bitswap/1.2.0"),
    listen_addrs=(Multiaddr.parse("/ip4/10.0.0.2/tcp/4001"),),
)


@dataclass
class FakeStream:
    protocol: str


@dataclass
class FakeConnection:
    remote_peer: PeerId
    remote_addr: Multiaddr
    remote_key: PublicKey = PEER_KEY.public_key
    direction: Direction = "outbound"
    rtt: float | None = None
    streams: Collection[FakeStream] = ()
    is_closed: bool = False

    async def aclose(self) -> None:
        self.is_closed = True


def as_connection(fake: FakeConnection) -> Connection:
    return cast("Connection", fake)


class FakeSwarm:
    """Connects to whoever is in `reachable`."""

    def __init__(self, peer_id: PeerId) -> None:
        self.peer_id = peer_id
        self.open: list[FakeConnection] = []
        self.reachable: dict[PeerId, FakeConnection] = {}
        self.dialled: list[tuple[PeerInfo, float | None]] = []
        self.before_connect: Callable[[], Awaitable[None]] | None = None

    def handle(self, protocol: str, handler: StreamHandler, *, admit: Admission | None = None) -> None:
        raise NotImplementedError

    def unhandle(self, protocol: str) -> None:
        raise NotImplementedError

    def protocols(self) -> tuple[str, ...]:
        return ("/ipfs/id/1.0.0", "/ipfs/ping/1.0.0")

    def addresses(self) -> tuple[Multiaddr, ...]:
        return tuple(map(Multiaddr.parse, ("/ip4/192.168.1.2/tcp/4001", "/ip4/127.0.0.1/tcp/4001")))

    def interface_addresses(self) -> Sequence[Multiaddr]:
        return [Multiaddr.parse("/ip6/::/tcp/4001"), Multiaddr.parse("/ip4/0.0.0.0/tcp/4001")]

    def connections(self, peer_id: PeerId | None = None) -> Sequence[Connection]:
        return [as_connection(each) for each in self.open if peer_id in (None, each.remote_peer)]

    async def connect(self, peer: PeerInfo, *, force: bool = False, timeout: float | None = None) -> Connection:
        assert force, "a user's own command tries what failed a moment ago, too"
        self.dialled.append((peer, timeout))
        if self.before_connect is not None:
            await self.before_connect()
        if (connection := self.reachable.get(peer.peer_id)) is None:
            raise DialError(f"cannot reach '{peer.peer_id}'", hint="is it up?")
        self.open.append(connection)
        return as_connection(connection)

    async def disconnect(self, peer_id: PeerId) -> None:
        self.open = [each for each in self.open if each.remote_peer != peer_id]

    async def open_stream(self, peer_id: PeerId, protocols: Sequence[str]) -> Stream:
        raise NotImplementedError

    def subscribe(self, notifiee: Notifiee) -> None:
        raise NotImplementedError


class FakeIdentify:
    def __init__(self) -> None:
        self.known: dict[PeerId, PeerFacts] = {}

    def facts(self, peer_id: PeerId) -> PeerFacts | None:
        return self.known.get(peer_id)

    async def wait_identified(self, connection: Connection, timeout: float = 10.0) -> PeerFacts:
        return self.known[connection.remote_peer]


class FakePing:
    """Answers with `results`, over and over."""

    def __init__(self) -> None:
        self.results: list[PingResult] = []
        self.before_each: Callable[[], Awaitable[None]] | None = None
        self.ended = False

    @asynccontextmanager
    async def ping(self, peer_id: PeerId, *, count: int | None = None) -> AsyncGenerator[AsyncIterator[PingResult]]:
        try:
            yield self._results(count or 0)
        finally:
            self.ended = True

    async def _results(self, count: int) -> AsyncGenerator[PingResult]:
        for number in range(count):
            if self.before_each is not None:
                await self.before_each()
            yield self.results[number % len(self.results)]


@dataclass
class FakeNode:
    """Keeps to `NodeServices`; `directory` takes the settings."""

    directory: Path
    private_key: PrivateKey = OUR_KEY
    identify: FakeIdentify = field(default_factory=FakeIdentify)
    ping: FakePing = field(default_factory=FakePing)
    known: dict[PeerId, Sequence[Multiaddr]] = field(default_factory=dict)
    shutdowns: int = 0
    routing: Any = None
    bitswap: Any = None
    names: Any = None
    """What only some commands need: their tests bring it."""

    def __post_init__(self) -> None:
        self.swarm = FakeSwarm(self.peer_id)
        self.config = Config.load(self.directory / "config")

    @property
    def peer_id(self) -> PeerId:
        return self.private_key.peer_id

    def known_addresses(self, peer_id: PeerId | None = None) -> Mapping[PeerId, Sequence[Multiaddr]]:
        return {each: addrs for each, addrs in self.known.items() if peer_id in (None, each)}

    def dht_stats(self) -> Sequence[DhtStats]:
        raise NotImplementedError

    def provide_stats(self) -> Mapping[str, ProvideStats]:
        raise NotImplementedError

    def has_block(self, cid: Cid) -> bool:
        raise NotImplementedError

    async def fetch(
        self,
        roots: Sequence[Cid],
        *,
        recursive: bool,
        timeout: float,
        limits: FetchLimits,
        on_progress: OnProgress,
    ) -> FetchProgress:
        raise NotImplementedError

    def request_shutdown(self) -> None:
        self.shutdowns += 1
