"""Hosts in memory for tests of services: streams with bounded buffers, no latency, no security, any event loop.

    async with create_task_group() as tasks:
        network = FakeNetwork(tasks)
        alice, bob = network.host(), network.host()
        connection, _its_other_end = alice.link(bob)

A fault is made by hand: `FakeStream.reset`, `FakeConnection.aclose`, or a handler that misbehaves.
"""

from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Event, current_time
from anyio.abc import TaskGroup

from ipvcs.errors import UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey, PublicKey, generate_key
from ipvcs.node.network.errors import DialError, ProtocolNotSupportedError
from ipvcs.node.network.interface import (
    Admission,
    Buffer,
    Connection,
    Direction,
    Notifiee,
    PeerInfo,
    Stream,
    StreamHandler,
)

WINDOW = 256 * 1024
"""Bytes in flight one way on one stream."""
LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/4001")


class _Pipe:
    """One direction of a stream."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.ended = False
        self.unread = False
        """Nobody reads any more: what arrives is dropped."""
        self.changed = Event()

    def notify(self) -> None:
        self.changed.set()
        self.changed = Event()


class FakeStream(Stream):
    """One end of a stream. `was_reset` tells tests how it ended, from either side."""

    def __init__(
        self, connection: "FakeConnection", direction: Direction, protocol: str, inbox: _Pipe, outbox: _Pipe
    ) -> None:
        self.connection: Connection = connection
        self.direction = direction
        self.protocol = protocol
        self.was_reset = False
        self.other: FakeStream
        self.received = 0
        self._inbox = inbox
        self._outbox = outbox
        self._closed = False
        self._broken = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while True:
            self._check()
            if self._inbox.chunks:
                chunk = self._inbox.chunks.popleft()
                if len(chunk) > max_bytes:
                    self._inbox.chunks.appendleft(chunk[max_bytes:])
                    chunk = chunk[:max_bytes]
                self._inbox.size -= len(chunk)
                self.received += len(chunk)
                self._inbox.notify()
                return chunk
            if self._inbox.ended:
                raise EndOfStream
            await self._inbox.changed.wait()

    async def receive_chunk(self) -> Buffer:
        return memoryview(await self.receive()).toreadonly()

    async def send(self, item: Buffer) -> None:
        rest = memoryview(item)
        while True:
            self._check()
            if self._outbox.ended:
                raise ClosedResourceError
            if not rest:
                return
            room = WINDOW if self._outbox.unread else WINDOW - self._outbox.size
            if room > 0:
                if not self._outbox.unread:
                    self._outbox.chunks.append(bytes(rest[:room]))
                    self._outbox.size += len(rest[:room])
                rest = rest[room:]
                self._outbox.notify()
            else:
                await self._outbox.changed.wait()

    async def send_eof(self) -> None:
        self._outbox.ended = True
        self._outbox.notify()

    async def aclose(self) -> None:
        if self._closed or self._broken:
            return
        await self.send_eof()
        self._closed = True
        self._inbox.unread = True
        self._inbox.chunks.clear()
        self._inbox.size = 0
        self._inbox.notify()
        self._forget()

    def reset(self) -> None:
        if self._closed or self._broken:
            return
        self._closed = True
        for end in (self, self.other):
            end.was_reset = True
            end._broken = True
            end._inbox.chunks.clear()
            end._inbox.notify()
            end._forget()

    def _check(self) -> None:
        if self._closed:
            raise ClosedResourceError
        if self._broken:
            raise BrokenResourceError("the peer reset the stream")

    def _forget(self) -> None:
        assert isinstance(self.connection, FakeConnection)
        with suppress(ValueError):
            self.connection.live.remove(self)


class FakeConnection:
    """One end of a connection."""

    security = "/noise"
    muxer = "/yamux/1.0.0"
    rtt: float | None = None

    def __init__(
        self, host: "FakeHost", remote: "FakeHost", local_addr: Multiaddr, remote_addr: Multiaddr, direction: Direction
    ) -> None:
        self.host = host
        self.remote = remote
        self.other: FakeConnection
        self.local_addr = local_addr
        self.remote_addr = remote_addr
        self.direction: Direction = direction
        self.opened = self.last_used = current_time()
        self.live: list[FakeStream] = []
        self.streams_opened: list[str] = []
        """The protocols of every stream that this end opened or tried to."""
        self._ended = Event()

    @property
    def local_peer(self) -> PeerId:
        return self.host.peer_id

    @property
    def remote_peer(self) -> PeerId:
        return self.remote.peer_id

    @property
    def remote_key(self) -> PublicKey:
        return self.remote.private_key.public_key

    @property
    def streams(self) -> Collection[Stream]:
        return tuple(self.live)

    @property
    def is_closed(self) -> bool:
        return self._ended.is_set()

    async def open_stream(self, protocols: Sequence[str], *, lazy: bool = False) -> Stream:
        if self.is_closed:
            raise UnavailableError("the connection is closed")
        self.streams_opened += protocols
        for protocol in protocols:
            if (handler := self.remote.handlers.get(protocol)) is not None:
                break
        else:
            raise ProtocolNotSupportedError(protocols)
        there, back = _Pipe(), _Pipe()
        ours = FakeStream(self, "outbound", protocol, back, there)
        theirs = FakeStream(self.other, "inbound", protocol, there, back)
        ours.other, theirs.other = theirs, ours
        self.live.append(ours)
        self.other.live.append(theirs)
        if self.remote.admissions[protocol](self.local_peer):
            self.host.network.tasks.start_soon(_serve, handler, theirs)
        else:
            theirs.reset()
        return ours

    async def aclose(self) -> None:
        for connection in (self, self.other):
            if not connection.is_closed:
                connection._ended.set()
                for stream in list(connection.live):
                    stream.reset()
                connection.host.drop(connection)

    async def wait_closed(self) -> None:
        await self._ended.wait()


class FakeHost:
    """A host that connects when told to: `link`."""

    def __init__(self, network: "FakeNetwork", private_key: PrivateKey) -> None:
        self.network = network
        self.private_key = private_key
        self.handlers: dict[str, StreamHandler] = {}
        self.admissions: dict[str, Admission] = {}
        self.addrs: tuple[Multiaddr, ...] = (LOOPBACK,)
        self._connections: list[FakeConnection] = []
        self._notifiees: list[Notifiee] = []

    @property
    def peer_id(self) -> PeerId:
        return self.private_key.public_key.peer_id

    def handle(self, protocol: str, handler: StreamHandler, *, admit: Admission | None = None) -> None:
        self.handlers[protocol] = handler
        self.admissions[protocol] = admit or (lambda _peer_id: True)

    def unhandle(self, protocol: str) -> None:
        self.handlers.pop(protocol, None)

    def protocols(self) -> tuple[str, ...]:
        return tuple(sorted(self.handlers))

    def addresses(self) -> tuple[Multiaddr, ...]:
        return self.addrs

    def connections(self, peer_id: PeerId | None = None) -> Sequence[Connection]:
        return [each for each in self._connections if peer_id is None or each.remote_peer == peer_id]

    async def connect(self, peer: PeerInfo) -> Connection:
        for connection in self.connections(peer.peer_id):
            return connection
        for host in self.network.hosts:
            if host.peer_id == peer.peer_id:
                return self.link(host)[0]
        raise DialError(f"cannot connect to '{peer.peer_id}'")

    async def open_stream(self, peer_id: PeerId, protocols: Sequence[str]) -> Stream:
        connection = await self.connect(PeerInfo(peer_id))
        return await connection.open_stream(protocols)

    def subscribe(self, notifiee: Notifiee) -> None:
        self._notifiees.append(notifiee)
        for connection in self._connections:
            notifiee.connected(connection)

    def link(
        self, remote: "FakeHost", *, from_addr: Multiaddr = LOOPBACK, to_addr: Multiaddr = LOOPBACK
    ) -> tuple[FakeConnection, FakeConnection]:
        """Dial `remote`; return our end of the connection and theirs. Both hosts are told before this returns."""
        ours = FakeConnection(self, remote, from_addr, to_addr, "outbound")
        theirs = FakeConnection(remote, self, to_addr, from_addr, "inbound")
        ours.other, theirs.other = theirs, ours
        for connection in (ours, theirs):
            connection.host._connections.append(connection)
        for connection in (theirs, ours):
            for notifiee in connection.host._notifiees:
                notifiee.connected(connection)
        return ours, theirs

    def drop(self, connection: FakeConnection) -> None:
        self._connections.remove(connection)
        for notifiee in self._notifiees:
            notifiee.disconnected(connection)


class FakeNetwork:
    """Makes hosts, and runs their handlers in `tasks`."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.tasks = tasks
        self.hosts: list[FakeHost] = []

    def host(self, private_key: PrivateKey | None = None) -> FakeHost:
        self.hosts.append(FakeHost(self, private_key or generate_key()))
        return self.hosts[-1]


async def _serve(handler: StreamHandler, stream: FakeStream) -> None:
    try:
        await handler(stream)
    except BaseException:
        stream.reset()
        raise  # a service that lets an error out fails its test
    await stream.aclose()
