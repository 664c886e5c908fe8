"""Networks of DHT nodes in memory, for tests: whole swarms with an identify that takes a round trip and never lies.

async with KadWorld() as world:
    a, b = await world.node("a"), await world.node("b")
    await world.join(b, a)
"""

import random
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

import anyio
import pytest
from anyio import AsyncContextManagerMixin

from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.delimited import DelimitedReader, send_delimited
from ipvcs.node.network.interface import Connection, PeerInfo, Stream
from ipvcs.node.network.peer_facts import PeerFacts
from ipvcs.node.routing import kad_members
from ipvcs.node.routing.interface import InvalidValueError, Validator
from ipvcs.node.routing.kad_dht import KadDht, Mode
from ipvcs.node.routing.kad_message import KadMessage, decode_message, encode_message
from ipvcs.node.routing.kad_profile import LAN, KadProfile
from ipvcs.node.routing.kad_rpc import KEEP_IDLE
from ipvcs.node.routing.provider_store import ProviderStore
from ipvcs.node.routing.value_store import OutdatedValueError, ValueStore
from tests.fakes.memory_network import MemoryNetwork
from tests.fakes.memory_swarm import MemorySwarm, build_swarm

EPOCH = 1_700_000_000.0
"""Where the wall clock of all nodes begins."""


BUILDING: Final = 60.0
"""Seconds between two rounds of refreshing of one node while a network is built, and in which it then settles."""


def wall() -> float:
    return EPOCH + anyio.current_time()


class NumberRules:
    """Values under `/n/…` are decimal numbers, and the greater is the better; one over a million is not valid yet."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        if not key.startswith(b"/n/") or not value.isdigit() or int(value) > 1_000_000:
            raise InvalidValueError(f"{value!r} is no value of {key!r}")

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        return max(range(len(values)), key=lambda index: int(values[index]))


@dataclass
class Values:
    """A store of values that judges by `NumberRules`, and forgets nothing."""

    kept: dict[bytes, bytes] = field(default_factory=dict)
    rules: Validator = field(default_factory=NumberRules)

    def try_get(self, key: bytes, now: float) -> bytes | None:
        try:
            self.rules.validate(key, self.kept.get(key, b""), now)
        except InvalidValueError:
            return None
        return self.kept[key]

    def put(self, key: bytes, value: bytes, now: float, *, source: PeerId | None = None, own: bool = False) -> None:
        self.rules.validate(key, value, now)
        old = self.try_get(key, now)
        if old not in (None, value) and self.rules.select(key, [old or b"", value]) == 0:
            raise OutdatedValueError(key, old or b"")
        self.kept[key] = value


@dataclass
class Providers:
    kept: dict[bytes, dict[PeerId, PeerInfo]] = field(default_factory=dict)

    def add(self, multihash: bytes, provider: PeerInfo, now: float) -> None:
        self.kept.setdefault(multihash, {})[provider.peer_id] = provider

    def providers(self, multihash: bytes, now: float) -> list[PeerInfo]:
        return list(self.kept.get(multihash, {}).values())


class Node:
    """One node: a swarm, its identify, and a DHT."""

    def __init__(
        self, world: "KadWorld", name: str, mode: Mode, profile: KadProfile, rules: Validator | None = None
    ) -> None:
        self.world = world
        self.name = name
        self.swarm: MemorySwarm = build_swarm(world.network, name)
        self.values: Any = Values() if rules is None else ValueStore(rules)
        self.providers: Any = Providers() if rules is None else ProviderStore(self.swarm.peer_id)
        self.dht = KadDht(
            self.swarm,
            profile,
            mode=mode,
            values=self.values,
            providers=self.providers,
            validator=rules or NumberRules(),
            random_bytes=random.Random(name).randbytes,
            wall_clock=wall,
        )
        self.started = anyio.Event()
        self.stopped = anyio.Event()
        self._leaving = anyio.Event()

    @property
    def info(self) -> PeerInfo:
        return self.swarm.info

    @property
    def peer_id(self) -> PeerId:
        return self.swarm.peer_id

    async def run(self, addr: Multiaddr) -> None:
        """Be there until `stop`. A task of its own, so that nodes may come and go in any order."""
        self.swarm.transport.home = addr
        async with self.swarm:
            await self.swarm.listen([addr])
            async with self.dht:
                self.swarm.subscribe(self)
                self.world.nodes[self.peer_id] = self
                self.started.set()
                await self._leaving.wait()
        self.world.nodes.pop(self.peer_id, None)
        self.stopped.set()

    async def stop(self) -> None:
        """Leave, with a goodbye."""
        self._leaving.set()
        await self.stopped.wait()

    def vanish(self) -> None:
        """Fall silent: connections that stand carry nothing more, and dials never end."""
        for addr in self.swarm.addresses():
            self.world.network.delay(addr)
        for other in list(self.world.nodes.values()):
            if other is not self:
                self.world.network.partition(self.peer_id, other.peer_id)

    # The identify service in short: a round trip after a connection stands, each side knows the other.

    def connected(self, connection: Connection) -> None:
        self.world.network.tasks.start_soon(self._identify, connection)

    def disconnected(self, connection: Connection) -> None:
        pass

    async def _identify(self, connection: Connection) -> None:
        await anyio.sleep(2 * self.world.network.latency)
        await self.world.network.healed(self.peer_id, connection.remote_peer)
        other = self.world.nodes.get(connection.remote_peer)
        if other is not None and not connection.is_closed:
            facts = PeerFacts(protocols=other.swarm.protocols(), listen_addrs=other.swarm.addresses())
            self.dht.identified(connection, facts)


class Liar:
    """Answers each request with whatever `lie` says, or lets the node's own server answer where that is None."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.asked: list[KadMessage] = []
        node.swarm.unhandle(LAN.protocol)
        node.swarm.handle(LAN.protocol, self.serve)

    def lie(self, request: KadMessage) -> KadMessage:
        return KadMessage(request.type, request.key)

    async def serve(self, stream: Stream) -> None:
        reader = DelimitedReader(stream, 1 << 20)
        while True:
            request = decode_message(await reader.receive())
            self.asked.append(request)
            await send_delimited(stream, encode_message(self.lie(request)))


class KadWorld(AsyncContextManagerMixin):
    """All nodes of a test."""

    def __init__(self, *, latency: float = 0.02, profile: KadProfile = LAN) -> None:
        self.network = MemoryNetwork(latency=latency)
        self.profile = profile
        self.nodes: dict[PeerId, Node] = {}
        self._count = 0

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with self.network, anyio.create_task_group() as self._tasks:
            yield self
            for node in list(self.nodes.values()):
                await node.stop()

    async def node(
        self, name: str, *, mode: Mode = "server", addr: str | None = None, rules: Validator | None = None
    ) -> Node:
        """Start a node, at an address of its own; with `rules` it has the real stores."""
        self._count += 1
        node = Node(self, name, mode, self.profile, rules)
        home = Multiaddr.parse(addr or f"/ip4/10.0.{self._count // 250}.{self._count % 250 + 1}/tcp/0")
        self._tasks.start_soon(node.run, home)
        await node.started.wait()
        return node

    async def join(self, node: Node, other: Node) -> None:
        """Connect `node` to `other`, and let both get to know each other and their neighbours."""
        await node.swarm.connect(other.info)
        await anyio.sleep(1)

    async def network_of(self, number: int, *, prefix: str = "n", seed: int = 1) -> list[Node]:
        """Start `number` servers, each of which joins by one that was there before."""
        chance = random.Random(seed)
        nodes: list[Node] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kad_members, "QUIET_INTERVAL", BUILDING)  # or each newcomer has everybody refresh at once
            for index in range(number):
                node = await self.node(f"{prefix}{index}")
                if nodes:
                    await self.join(node, chance.choice(nodes))
                nodes.append(node)
            await anyio.sleep(BUILDING + 2 * KEEP_IDLE)  # the streams of the last round are gone, too
        return nodes


def cid_of(text: str) -> Cid:
    return Cid.make(multihash.sum_(text.encode(), multihash.SHA2_256), codecs.RAW)


def ids(peers: Iterable[PeerInfo | Node]) -> set[PeerId]:
    return {peer.peer_id for peer in peers}


async def providers_of(node: Node, cid: Any) -> list[PeerInfo]:
    """Return all providers that a search finds."""
    async with node.dht.find_providers(cid) as found:
        return [peer async for peer in found]


async def values_of(node: Node, key: bytes, **options: Any) -> list[bytes]:
    """Return all values that a search finds."""
    async with node.dht.search_value(key, **options) as found:
        return [value async for value in found]
