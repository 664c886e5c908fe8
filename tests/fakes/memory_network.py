"""A network in memory: whole swarms talk over it without a socket, on trio's mock clock or any other.

What one end does travels to the other as a row of messages, each delivered after the latency, in order. A test can make
the latency long, cut the network in two, kill connections, and let addresses refuse, hang or dawdle.
"""

import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import anyio
from anyio import AsyncContextManagerMixin
from anyio.abc import TaskGroup

from ipvcs.errors import LimitError, UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import KeyType, PublicKey
from ipvcs.node.network.errors import DialError, ListenError, PeerMismatchError, ProtocolNotSupportedError
from ipvcs.node.network.interface import AcceptCallback, Connection, ConnectionOwner, Direction, Stream
from ipvcs.node.network.listening import with_any_port
from tests.fakes.memory_stream import MemoryStream

MAX_STREAMS = 2048
"""Streams of one connection, both ends together."""


def key_of(name: str) -> PublicKey:
    """Return the public key of the peer that a test calls `name`; nobody has its private half."""
    return PublicKey(KeyType.ED25519, hashlib.sha256(name.encode()).digest())


@dataclass(eq=False)
class Dial:
    """One dial, for tests that ask what was dialled when."""

    dialler: PeerId
    addr: Multiaddr
    started: float
    outcome: str = "under way"
    """`stands`, the name of an error, or `Cancelled` (trio) or `CancelledError` (asyncio)."""


class MemoryNetwork(AsyncContextManagerMixin):
    """Hosts and what lies between them. Its block must outlive theirs."""

    def __init__(self, *, latency: float = 0.0) -> None:
        self.latency = latency
        """Seconds for a message from one end to the other."""
        self.dials: list[Dial] = []
        self.live: set[MemoryConnection] = set()
        """The ends that have not ended."""
        self._listeners: dict[Multiaddr, MemoryListener] = {}
        self._refusing: set[Multiaddr] = set()
        self._delays: dict[Multiaddr, float] = {}
        self._cuts: dict[frozenset[PeerId], anyio.Event] = {}
        self._next_port = 49152
        self.tasks: TaskGroup

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with anyio.create_task_group() as self.tasks:
            yield self
            self.tasks.cancel_scope.cancel()

    # ---- what a test may do to it ----

    def refuse(self, addr: Multiaddr) -> None:
        """Let nobody connect to `addr`."""
        self._refusing.add(addr)

    def accept(self, addr: Multiaddr) -> None:
        """Undo what was done to `addr`."""
        self._refusing.discard(addr)
        self._delays.pop(addr, None)

    def delay(self, addr: Multiaddr, seconds: float = float("inf")) -> None:
        """Let a dial to `addr` take `seconds` more; without a number it never ends."""
        self._delays[addr] = seconds

    def partition(self, a: PeerId, b: PeerId) -> None:
        """Hold up everything between two peers."""
        self._cuts.setdefault(frozenset((a, b)), anyio.Event())

    def heal(self, a: PeerId, b: PeerId) -> None:
        """Let it go on."""
        if (healed := self._cuts.pop(frozenset((a, b)), None)) is not None:
            healed.set()

    def kill(self, a: PeerId, b: PeerId) -> None:
        """Break every connection between two peers, without a goodbye."""
        for connection in tuple(self.live):
            if {connection.local_peer, connection.remote_peer} == {a, b}:
                connection.end(UnavailableError("the connection was lost"))

    # ---- for transports and connections ----

    async def healed(self, a: PeerId, b: PeerId) -> None:
        """Return when two peers can reach each other."""
        while (cut := self._cuts.get(frozenset((a, b)))) is not None:
            await cut.wait()

    async def knock(self, dialler: PeerId, addr: Multiaddr) -> "MemoryListener":
        """Return who listens at `addr`, a round trip later. Raises DialError."""
        await anyio.sleep(self._delays.get(addr, 0.0))
        listener = self._listeners.get(addr)
        if listener is not None:
            await self.healed(dialler, listener.transport.peer_id)
        await anyio.sleep(2 * self.latency)
        listener = self._listeners.get(addr)
        if listener is None or addr in self._refusing:
            raise DialError("connection refused")  # whoever prints it has the address
        return listener

    def bind(self, listener: "MemoryListener", addr: Multiaddr) -> Multiaddr:
        """Return `addr`, a port chosen if it is 0, at which `listener` can be reached from now on."""
        if addr == (Multiaddr.parse("/memory/0") if addr.protocols == ("memory",) else with_any_port(addr)):
            addr = self.free_addr(addr)
        if addr in self._listeners:
            raise ListenError(addr, "address already in use")
        self._listeners[addr] = listener
        return addr

    def unbind(self, addr: Multiaddr) -> None:
        """Nobody listens at `addr` any more."""
        self._listeners.pop(addr, None)

    def free_addr(self, addr: Multiaddr) -> Multiaddr:
        """Return `addr` with a port that nobody has."""
        self._next_port += 1
        host, value = next(iter(addr))
        port = self._next_port
        return Multiaddr.parse(f"/memory/{port}" if host == "memory" else f"/{host}/{value}/tcp/{port}")


class MemoryTransport:
    """A host's way into the network; addresses are `/ip4|ip6/…/tcp/…` and `/memory/…`."""

    def __init__(self, network: MemoryNetwork, key: PublicKey, *, home: str = "/ip4/10.0.0.1/tcp/0") -> None:
        self.network = network
        self.key = key
        self.peer_id = key.peer_id
        self.home = Multiaddr.parse(home)
        """Where its connections come from, the port aside."""
        self.goodbye_delay = 0.0
        """Seconds that ending a connection takes: a peer that does not read."""

    def can_dial(self, addr: Multiaddr) -> bool:
        return addr.protocols in (("ip4", "tcp"), ("ip6", "tcp"), ("memory",))

    async def dial(self, addr: Multiaddr, peer_id: PeerId | None, owner: ConnectionOwner) -> Connection:
        record = Dial(self.peer_id, addr, anyio.current_time())
        self.network.dials.append(record)
        try:
            listener = await self.network.knock(self.peer_id, addr)
            if peer_id is not None and listener.transport.peer_id != peer_id:
                raise PeerMismatchError(peer_id, listener.transport.peer_id)
        except BaseException as exc:
            record.outcome = type(exc).__name__
            raise
        record.outcome = "stands"
        from_addr = self.network.free_addr(self.home)
        near = MemoryConnection(self, listener.transport, from_addr, addr, "outbound")
        far = MemoryConnection(listener.transport, self, addr, from_addr, "inbound")
        near.other, far.other = far, near
        near.start(owner)
        far.start(listener.accept)
        return near

    async def listen(self, addr: Multiaddr, accept: AcceptCallback) -> "MemoryListener":
        if not self.can_dial(addr):
            raise ListenError(addr, "not an address of the network in memory")
        return MemoryListener(self, addr, accept)


class MemoryListener:
    """One bound address."""

    def __init__(self, transport: MemoryTransport, addr: Multiaddr, accept: AcceptCallback) -> None:
        self.transport = transport
        self.accept = accept
        self.addrs: Sequence[Multiaddr] = [transport.network.bind(self, addr)]

    async def aclose(self) -> None:
        for addr in self.addrs:
            self.transport.network.unbind(addr)


class MemoryConnection:
    """One end of a connection; a task of the network delivers what the other end sends."""

    other: "MemoryConnection"

    def __init__(
        self, local: MemoryTransport, remote: MemoryTransport, local_addr: Multiaddr, remote_addr: Multiaddr,
        direction: Direction,
    ) -> None:  # fmt: skip
        self.local_peer = local.peer_id
        self.remote_peer = remote.peer_id
        self.remote_key = remote.key
        self.local_addr = local_addr
        self.remote_addr = remote_addr
        self.direction: Direction = direction
        self.security = "/memory-security"
        self.muxer = "/memory-muxer"
        self.opened = self.last_used = anyio.current_time()
        self.rtt: float | None = None
        self._transport = local
        self._network = local.network
        self._owner: ConnectionOwner | None = None
        self._inbox: deque[tuple[float, Callable[[], None]]] = deque()
        self._arrived = anyio.Event()
        self._scope = anyio.CancelScope()
        self._closed = anyio.Event()
        self._reason: Exception | None = None
        self._streams: dict[int, MemoryStream] = {}
        self._answers: dict[int, str | None] = {}
        self._answered: dict[int, anyio.Event] = {}
        self._next_number = 1 if direction == "outbound" else 2

    def start(self, owner: ConnectionOwner | AcceptCallback) -> None:
        """Begin to work for `owner`, or for whom an accept callback names."""
        self._network.live.add(self)
        if not callable(owner):
            self._owner = owner
        self._network.tasks.start_soon(self._deliver, owner)

    async def _deliver(self, owner: ConnectionOwner | AcceptCallback) -> None:
        if callable(owner):
            await anyio.sleep(self._network.latency)
            self._owner = await owner(self)
            if self._owner is None:
                await self.aclose()
                return
            if self.is_closed:
                self._owner.on_closed(self, self._reason)
        with self._scope:
            while True:
                while not self._inbox:
                    self._arrived = anyio.Event()
                    await self._arrived.wait()
                due, act = self._inbox[0]
                if due > anyio.current_time():
                    await anyio.sleep_until(due)
                await self._network.healed(self.local_peer, self.remote_peer)
                self._inbox.popleft()
                act()

    def _post(self, act: Callable[[], None]) -> None:
        """Let `act` happen at the other end."""
        self.other._inbox.append((anyio.current_time() + self._network.latency, act))
        self.other._arrived.set()

    # ---- Connection ----

    @property
    def streams(self) -> Collection[Stream]:
        return list(self._streams.values())

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    async def open_stream(self, protocols: Sequence[str], *, lazy: bool = False) -> Stream:
        if self.is_closed:
            raise UnavailableError(f"the connection to '{self.remote_peer}' has ended")
        if len(self._streams) >= MAX_STREAMS:
            raise LimitError(f"{MAX_STREAMS} streams are open on the connection")
        number = self._next_number
        self._next_number += 2
        stream = MemoryStream(self, number, "outbound", protocols[0])
        self._streams[number] = stream
        wanted = tuple(protocols)
        self._post(lambda: self.other._on_opened(number, wanted))
        if lazy and len(wanted) == 1:
            return stream
        answered = self._answered[number] = anyio.Event()
        try:
            await answered.wait()
        except BaseException:
            stream.reset()
            raise
        finally:
            del self._answered[number]
        if number not in self._answers:
            raise UnavailableError(f"the connection to '{self.remote_peer}' ended")
        if (agreed := self._answers.pop(number)) is None:
            raise ProtocolNotSupportedError(protocols)
        stream.protocol = agreed
        return stream

    async def aclose(self) -> None:
        try:
            if not self.is_closed:
                await anyio.sleep(self._transport.goodbye_delay)
        finally:
            if not self.is_closed:
                self._post(lambda: self.other.end(None))
                self.end(None)

    async def wait_closed(self) -> None:
        await self._closed.wait()

    # ---- what happens to it ----

    def end(self, reason: Exception | None) -> None:
        """It is over, by a goodbye (None) or by `reason`."""
        if self.is_closed:
            return
        self._closed.set()
        self._reason = reason
        self._network.live.discard(self)
        self._scope.cancel()
        for stream in self.streams:
            assert isinstance(stream, MemoryStream)
            stream.on_broken("the connection ended")
        for answered in self._answered.values():
            answered.set()
        if self._owner is not None:
            self._owner.on_closed(self, reason)

    def _on_opened(self, number: int, protocols: tuple[str, ...]) -> None:
        assert self._owner is not None
        served = self._owner.served_protocols()
        agreed = next((protocol for protocol in protocols if protocol in served), None)
        self._post(lambda: self.other._on_answered(number, agreed))
        if agreed is not None:
            stream = self._streams[number] = MemoryStream(self, number, "inbound", agreed)
            if not self._owner.on_stream(stream):
                stream.reset()

    def _on_answered(self, number: int, agreed: str | None) -> None:
        if (answered := self._answered.get(number)) is not None:
            self._answers[number] = agreed
            answered.set()
        if agreed is None and (stream := self._streams.pop(number, None)) is not None:
            stream.on_broken(f"the peer does not speak {stream.protocol}")

    # ---- for the streams ----

    def tell(self, number: int, act: Callable[[MemoryStream], None]) -> None:
        """Let `act` happen to the other end of a stream, if that is still there then."""
        if not self.is_closed:
            self._post(lambda: self.other._on_told(number, act))

    def _on_told(self, number: int, act: Callable[[MemoryStream], None]) -> None:
        if (stream := self._streams.get(number)) is not None:
            act(stream)

    def forget(self, stream: MemoryStream) -> None:
        """A stream is used no more."""
        self._streams.pop(stream.number, None)
