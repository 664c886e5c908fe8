"""Whole swarms on the network in memory, as most tests of services want them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from ipvcs.errors import UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.network.limits import Limits, Resources
from ipvcs.node.network.swarm import Swarm
from tests.fakes.memory_network import MemoryNetwork, MemoryTransport, key_of


@dataclass
class Book:
    """Known addresses."""

    known: dict[PeerId, list[Multiaddr]] = field(default_factory=dict)

    def addrs(self, peer_id: PeerId) -> Sequence[Multiaddr]:
        return self.known.get(peer_id, [])


@dataclass
class Names:
    """A resolver of the names that it was told."""

    known: dict[Multiaddr, list[Multiaddr]] = field(default_factory=dict)
    delay: float = 0.0
    asked: list[Multiaddr] = field(default_factory=list)

    async def resolve(self, addr: Multiaddr) -> list[Multiaddr]:
        self.asked.append(addr)
        await anyio.sleep(self.delay)
        if addr not in self.known:
            raise UnavailableError(f"cannot resolve '{addr}': no such name")
        return self.known[addr]


class MemorySwarm(Swarm):
    """A swarm with its transport, address book and resolver within a test's reach."""

    transport: MemoryTransport
    book: Book
    names: Names

    @property
    def info(self) -> PeerInfo:
        """How to reach it."""
        return PeerInfo(self.peer_id, self.addresses())


def build_swarm(network: MemoryNetwork, name: str, *, limits: Limits | None = None, **options: Any) -> MemorySwarm:
    """Return a swarm that is not running yet."""
    transport = MemoryTransport(network, key_of(name))
    book, names = Book(), Names()
    swarm = MemorySwarm(transport.peer_id, [transport], Resources(limits or Limits()), book, names, **options)
    swarm.transport, swarm.book, swarm.names = transport, book, names
    return swarm


@asynccontextmanager
async def running_swarms(network: MemoryNetwork, *names: str, **options: Any) -> AsyncGenerator[list[MemorySwarm]]:
    """Run a swarm for each of `names`, each listening on an address of its own."""
    async with AsyncExitStack() as stack:
        swarms = []
        for number, name in enumerate(names, 1):
            swarm = build_swarm(network, name, **options)
            await stack.enter_async_context(swarm)
            swarm.transport.home = Multiaddr.parse(f"/ip4/10.0.0.{number}/tcp/0")
            await swarm.listen([swarm.transport.home])
            swarms.append(swarm)
        yield swarms
