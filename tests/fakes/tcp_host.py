"""The TCP stack without a swarm: one transport, handlers by protocol, and what happened to its connections."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

import anyio

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network.interface import Connection, Listener, Stream, StreamHandler
from ipvcs.node.network.keep_alive import KeepAlive
from ipvcs.node.network.limits import Limits, Resources
from ipvcs.node.network.mplex import MplexSession
from ipvcs.node.network.noise import NoiseSecurity
from ipvcs.node.network.security import SecurityProtocol
from ipvcs.node.network.tcp import TcpTransport
from ipvcs.node.network.upgrade import MuxerFactory, Upgrader
from ipvcs.node.network.yamux import YamuxSession

YAMUX, MPLEX = "/yamux/1.0.0", "/mplex/6.7.0"


class TcpHost:
    """Dials and listens on loopback, and serves `handlers`. Use it as an async context manager."""

    def __init__(
        self,
        *,
        security: type[SecurityProtocol] | None = None,
        muxers: Collection[str] = (YAMUX, MPLEX),
        limits: Limits | None = None,
        keep_alive: KeepAlive | None = None,
    ) -> None:
        self.key = generate_key()
        self.peer_id = self.key.peer_id
        self.resources = Resources(limits or Limits())
        factories: dict[str, MuxerFactory] = {YAMUX: self._yamux, MPLEX: self._mplex}
        upgrader = Upgrader(
            self.peer_id,
            [(security or NoiseSecurity)(self.key, tuple(muxers))],  # type: ignore[call-arg]
            {name: factories[name] for name in muxers},
            self.resources,
            keep_alive,
        )
        self.transport = TcpTransport(upgrader, self.resources)
        self.handlers: dict[str, StreamHandler] = {"/echo": echo}
        self.admit: Callable[[str], bool] = lambda _protocol: True
        """Whether to serve a stream of a protocol."""
        self.accepted: list[Connection] = []
        self.ended: list[tuple[Connection, BaseException | None]] = []
        self.listener: Listener | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def _yamux(self, initiator: bool) -> YamuxSession:
        limits = self.resources.limits
        return YamuxSession(
            initiator=initiator,
            max_inbound_streams=limits.streams_per_peer,
            max_window=limits.stream_memory,
            window_growth=limits.peer_memory,
        )

    def _mplex(self, initiator: bool) -> MplexSession:
        return MplexSession(initiator=initiator, max_inbound_streams=self.resources.limits.streams_per_peer)

    async def listen(self, addr: str = "/ip4/127.0.0.1/tcp/0") -> Multiaddr:
        """Listen, accept everybody, and return the address."""
        self.listener = await self.transport.listen(Multiaddr.parse(addr), self._accept)
        return self.listener.addrs[0]

    async def dial(self, other: "TcpHost") -> Connection:
        """Connect to another host that listens."""
        assert other.listener is not None
        connection = await self.transport.dial(other.listener.addrs[0], other.peer_id, self)
        self._connections.add(connection)
        return connection

    async def _accept(self, connection: Connection) -> "TcpHost":
        self.accepted.append(connection)
        self._connections.add(connection)
        return self

    # ---- ConnectionOwner ----

    def on_stream(self, stream: Stream) -> bool:
        if not self.admit(stream.protocol):
            return False
        task = asyncio.get_running_loop().create_task(self._serve(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def on_closed(self, connection: Connection, reason: BaseException | None) -> None:
        self.ended.append((connection, reason))
        self._connections.discard(connection)

    def served_protocols(self) -> Collection[str]:
        return self.handlers.keys()

    async def _serve(self, stream: Stream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, IpvcsError):
            await self.handlers[stream.protocol](stream)
        await stream.aclose()

    async def __aenter__(self) -> "TcpHost":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self.listener is not None:
            await self.listener.aclose()
        for connection in list(self._connections):
            await connection.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self.resources.streams == 0
        assert self.resources.memory == 0
        assert self.resources.half_open == 0


async def echo(stream: Stream) -> None:
    """Send everything back, then end."""
    with suppress(anyio.EndOfStream):
        while True:
            await stream.send(await stream.receive_chunk())
    await stream.send_eof()


async def read_all(stream: Stream) -> bytes:
    """Return everything up to the end."""
    received = bytearray()
    with suppress(anyio.EndOfStream):
        while True:
            received += await stream.receive()
    return bytes(received)
