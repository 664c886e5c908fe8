"""Nodes that exchange blocks over the network in memory: the real services, threads and disk left out.

The store's work runs in the event loop, so that trio's mock clock does not jump while a thread is busy.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.engine import Engine
from ipvcs.node.exchange.fetch import FetchProgress, fetch_dag
from ipvcs.node.exchange.fetch_session import Providers
from ipvcs.node.exchange.ledger import Ledgers
from ipvcs.node.exchange.local_blocks import LocalBlocks
from ipvcs.node.exchange.messages import PROTOCOLS, WantEntry, encode_answers, encode_wants
from ipvcs.node.exchange.service import BitswapService
from ipvcs.node.exchange.strategy import AlwaysServe, Strategy
from ipvcs.node.network.delimited import encode_delimited
from ipvcs.node.network.interface import Buffer, PeerInfo, Stream, StreamHandler
from ipvcs.node.routing.interface import PeerNotFoundError
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block
from ipvcs.storage.memory import MemoryBlockstore
from tests.fakes.memory_network import MemoryNetwork
from tests.fakes.memory_swarm import MemorySwarm, running_swarms

_T = TypeVar("_T")


class InlineBlocks(LocalBlocks):
    """The store without threads."""

    delay = 0.0
    """Seconds after which the event loop hears of what a thread has done, as with a slow disk."""

    async def run(self, work: Callable[[], _T]) -> _T:
        await anyio.lowlevel.checkpoint()
        done = work()
        if self.delay:
            with anyio.CancelScope(shield=True):  # as `LocalBlocks.run` is not left before the thread is done
                await anyio.sleep(self.delay)
        return done


@dataclass
class KnownProviders:
    """Routing that knows what a test tells it."""

    providers: dict[bytes, list[PeerInfo]] = field(default_factory=dict)
    peers: dict[PeerId, PeerInfo] = field(default_factory=dict)
    searches: list[Cid] = field(default_factory=list)
    delay: float = 0.0

    async def provide(self, cid: Cid) -> int:
        raise NotImplementedError

    async def find_peer(self, peer_id: PeerId) -> PeerInfo:
        if peer_id not in self.peers:
            raise PeerNotFoundError(peer_id)
        return self.peers[peer_id]

    @asynccontextmanager
    async def find_providers(self, cid: Cid) -> AsyncGenerator[AsyncIterator[PeerInfo]]:
        self.searches.append(cid)

        async def found() -> AsyncGenerator[PeerInfo]:
            await anyio.sleep(self.delay)
            for info in self.providers.get(cid.multihash, []):
                yield info

        yield found()


class CountingStore(MemoryBlockstore):
    """Counts its changes, as a datastore counts transactions, and reads."""

    commits = 0
    reads = 0

    def put_many(self, blocks: Iterable[Block]) -> None:
        self.commits += 1
        super().put_many(blocks)

    def try_get(self, cid: Cid, *, check: bool = True) -> bytes | None:
        self.reads += 1
        return super().try_get(cid, check=check)


class CorruptingStore(CountingStore):
    """Gives other bytes than were put."""

    def try_get(self, cid: Cid, *, check: bool = True) -> bytes | None:
        data = super().try_get(cid, check=check)
        return None if data is None else data[:-1] + b"?"


def leaves(count: int, size: int = 1000, seed: str = "") -> list[Block]:
    """Return raw blocks of `size` bytes, each different."""
    return [Block.of((f"{seed}{number}-" * (size // 2 + 1)).encode()[:size]) for number in range(count)]


def parent(*blocks: Block) -> Block:
    """Return a block that links to `blocks`."""
    links = tuple(dag_pb.PBLink(block.cid, b"", len(block.data)) for block in blocks)
    return Block.of(dag_pb.encode(dag_pb.PBNode(links, None)), codecs.DAG_PB)


def wants_of(*blocks: Block, full: bool = False) -> bytes:
    """Return the message that asks for `blocks`."""
    return encode_delimited(encode_wants([WantEntry(block.cid) for block in blocks], full=full))


def answer_of(*blocks: Block) -> bytes:
    """Return the message that brings `blocks`."""
    return b"".join(bytes(piece) for piece in encode_answers([(block.cid, block.data) for block in blocks]))


@dataclass
class Party:
    """One node."""

    swarm: MemorySwarm
    store: CountingStore
    local: InlineBlocks
    service: BitswapService
    ledgers: Ledgers
    routing: KnownProviders

    @property
    def peer_id(self) -> PeerId:
        return self.swarm.peer_id

    def has(self, blocks: Iterable[Block]) -> None:
        """Let it have `blocks`."""
        self.store.put_many(blocks)

    async def connect(self, other: "Party") -> None:
        await self.swarm.connect(other.swarm.info)

    async def fetch(self, *roots: Cid, recursive: bool = True, timeout: float = 60.0) -> FetchProgress:
        return await fetch_dag(self.service, self.local, roots, recursive=recursive, timeout=timeout)

    async def say(self, other: "Party", *messages: Buffer) -> Stream:
        """Send `messages` to `other` on a stream of their own, past the service."""
        stream = await self.swarm.open_stream(other.peer_id, PROTOCOLS)
        for message in messages:
            await stream.send(message)
        return stream

    def serve_by(self, handler: StreamHandler | None) -> None:
        """Let `handler` have the streams that others open, not the service; None: it does not speak Bitswap."""
        for protocol in PROTOCOLS:
            self.swarm.unhandle(protocol)
            if handler is not None:
                self.swarm.handle(protocol, handler)


@asynccontextmanager
async def exchanging(
    *names: str,
    latency: float = 0.01,
    strategy: Callable[[], Strategy] = AlwaysServe,
    network: MemoryNetwork | None = None,
) -> AsyncGenerator[list[Party]]:
    """Run a node for each of `names`; they are not connected."""
    async with AsyncExitStack() as stack:
        if network is None:
            network = await stack.enter_async_context(MemoryNetwork(latency=latency))
        swarms = await stack.enter_async_context(running_swarms(network, *names))
        parties = []
        for swarm in swarms:
            store, ledgers, routing = CountingStore(), Ledgers(), KnownProviders()
            local = InlineBlocks(store)
            service = BitswapService(
                swarm,
                local,
                ledgers,
                Engine(ledgers, strategy()),
                Providers(swarm, routing, routing),
                wall=anyio.current_time,
                last_commit=lambda store=store: store.commits,  # type: ignore[misc]
            )
            await stack.enter_async_context(service)
            parties.append(Party(swarm, store, local, service, ledgers, routing))
        yield parties
