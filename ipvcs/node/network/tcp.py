"""TCP: links over sockets, and the transport that upgrades them.

Reading goes straight into one buffer that all connections of a transport share: the event loop reads one socket at a
time, and what a connection cannot use yet, less than a message, it keeps itself. Five hundred connections cost one
buffer, and a busy one reads 512 KiB a system call.

Spec: https://github.com/libp2p/specs/blob/master/connections/README.md
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final, cast

import anyio

from ipvcs.errors import IpvcsError, ProtocolError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import ip_group
from ipvcs.node.network.errors import DialError, ListenError, ProtocolNotSupportedError
from ipvcs.node.network.interface import AcceptCallback, Buffer, Connection, ConnectionOwner, Listener
from ipvcs.node.network.limits import Resources
from ipvcs.node.network.link import WireSink
from ipvcs.node.network.upgrade import Upgrader

_log = logging.getLogger(__name__)

_RECEIVE_BUFFER: Final = 512 * 1024
"""Bytes read at once: eight Noise messages. Larger reads were not faster, smaller ones were."""
_MAX_HELD: Final = 64 * 1024 + 2
"""Bytes of a message that is not complete: see `WireSink.wire_received`."""
_LEAST_READ: Final = 16 * 1024
"""A connection that could not use what it read in one turn reads half as much the next time, down to this: so it holds
less that waits (see `turns`)."""
_MAX_HANDSHAKE_BACKLOG: Final = 128 * 1024
"""Unread bytes during the handshakes; no handshake has as many."""
_HIGH_WATER: Final = 1024 * 1024
_LOW_WATER: Final = 256 * 1024
"""Bytes waiting in the transport at which writers wait, and go on."""
_BACKLOG: Final = 1024
"""Connections that the kernel holds until we accept them."""
_KEEP_ALIVE: Final = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""Seconds, seconds, tries: notices a vanished host where the multiplexer has no pings (mplex)."""
_USER_TIMEOUT: Final = 60_000
"""Milliseconds for which sent bytes may stay unacknowledged, or a peer may take none: the same for one that stopped."""


class TcpLink(asyncio.BufferedProtocol):
    """One TCP connection; implements `link.Link`."""

    def __init__(self, shared: memoryview) -> None:
        self._shared = shared
        self._held = b""  # the beginning of a message, kept between reads
        self._sink: WireSink | None = None
        self._inbox = bytearray()  # what came before there was a sink
        self._waiter: asyncio.Future[None] | None = None
        self._written = 0
        self._read_size = _RECEIVE_BUFFER
        self._lost = False
        self._error: Exception | None = None
        self._reading_paused = False
        self._write_paused = False
        self._transport: asyncio.Transport
        self.local_addr: Multiaddr
        self.remote_addr: Multiaddr

    # ---- asyncio's protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport and the addresses."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)
        self.local_addr = _multiaddr(transport.get_extra_info("sockname"))
        self.remote_addr = _multiaddr(transport.get_extra_info("peername"))

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return where to read to: behind what the last read left over."""
        held = self._held
        if held:
            self._shared[: len(held)] = held
        return self._shared[len(held) : len(held) + self._read_size]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was read."""
        size = len(self._held) + nbytes
        if self._sink is not None:
            self._deliver(self._sink, self._shared[:size])
            return
        self._inbox += self._shared[:size]
        if len(self._inbox) > _MAX_HANDSHAKE_BACKLOG and not self._reading_paused:
            self.pause_reading()
        self._wake()

    def _deliver(self, sink: WireSink, data: memoryview) -> None:
        used = sink.wire_received(data)
        self._held = bytes(data[used:]) if used < len(data) else b""
        if not self._reading_paused and self._read_size < _RECEIVE_BUFFER:
            self._read_size *= 2

    def eof_received(self) -> bool:
        """Nothing more arrives: without it the multiplexer can't work, so close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._lost = True
        self._error = exc
        self._wake()
        if self._sink is not None:
            self._sink.wire_lost(exc)
            self._sink = None  # ends a cycle of references that would keep what it holds
        self._held = b""

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._write_paused = True
        if self._sink is not None:
            self._sink.wire_paused()

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        self._write_paused = False
        if self._sink is not None:
            self._sink.wire_resumed()

    # ---- Link ----

    async def receive(self) -> bytes:
        """Return what arrived. See `Link.receive`."""
        while not self._inbox:
            if self._lost:
                if self._error is not None:
                    raise anyio.BrokenResourceError(str(self._error)) from self._error
                raise anyio.EndOfStream
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._inbox)
        self._inbox.clear()
        self.resume_reading()
        return data

    def attach(self, sink: WireSink, rest: Buffer) -> None:
        """Give all that arrives to `sink`. See `Link.attach`."""
        self._sink = sink
        if self._write_paused:
            sink.wire_paused()
        data = b"".join((rest, self._inbox))
        self._inbox.clear()
        self.resume_reading()
        self._deliver(sink, memoryview(data))  # even if there is none: the sink may have something of its own
        if self._lost:
            self._sink = None
            sink.wire_lost(self._error)

    def write(self, data: Buffer) -> None:
        """Send or queue `data`. See `Link.write`."""
        if not self._lost and not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Read nothing more. See `Link.pause_reading`."""
        if not self._reading_paused:
            self._reading_paused = True
            self._read_size = max(self._read_size // 2, _LEAST_READ)
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on. See `Link.resume_reading`."""
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    @property
    def bytes_sent(self) -> int:
        """Bytes that the system has taken from us so far."""
        return self._written - self._transport.get_write_buffer_size()

    @property
    def write_backlog(self) -> int:
        """Bytes that wait to be sent."""
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Send what is queued, then end."""
        self._transport.close()

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class TcpTransport:
    """Dials and listens on TCP; implements `interface.Transport`."""

    def __init__(
        self,
        upgrader: Upgrader,
        resources: Resources,
        why_not_accept: Callable[[Multiaddr], str | None] = lambda _addr: None,
    ) -> None:
        """Make a transport; `why_not_accept` says why somebody from an address is turned away unheard, None: is not."""
        self._upgrader = upgrader
        self._resources = resources
        self._why_not_accept = why_not_accept
        self._shared = memoryview(bytearray(_RECEIVE_BUFFER + _MAX_HELD))

    def can_dial(self, addr: Multiaddr) -> bool:
        """Tell whether `addr` is an IP address with a TCP port and nothing else but a peer."""
        return addr.protocols in _DIALABLE

    async def dial(self, addr: Multiaddr, peer_id: PeerId | None, owner: ConnectionOwner) -> Connection:
        """Connect, secure and multiplex. See `Transport.dial`."""
        host, port = _host_and_port(addr)
        loop = asyncio.get_running_loop()
        try:
            _transport, link = await loop.create_connection(lambda: TcpLink(self._shared), host, port)
        except OSError as exc:
            raise DialError(_reason(exc)) from exc
        try:
            return await self._upgrader.dial(link, peer_id, owner)
        except anyio.EndOfStream:
            raise DialError("the peer closed the connection during the handshake") from None
        except anyio.BrokenResourceError as exc:
            raise DialError(f"the connection broke during the handshake: {exc}") from exc
        except ProtocolNotSupportedError as exc:
            raise DialError(f"nothing in common: {exc}") from exc
        except ProtocolError as exc:
            raise DialError(str(exc), hint=exc.hint) from exc

    async def listen(self, addr: Multiaddr, accept: AcceptCallback) -> Listener:
        """Bind `addr`. See `Transport.listen`."""
        host, port = _host_and_port(addr)
        listener = TcpListener(self._upgrader, self._resources, self._why_not_accept, accept, self._shared)
        try:
            sock = _bind(host, port)
        except OSError as exc:
            raise ListenError(addr, _reason(exc), hint="choose another with `ipvcs config Addresses.Swarm`") from exc
        await listener.start(sock)
        return listener


class TcpListener:
    """One listening socket, and the handshakes of those who come; implements `interface.Listener`."""

    def __init__(
        self,
        upgrader: Upgrader,
        resources: Resources,
        why_not_accept: Callable[[Multiaddr], str | None],
        accept: AcceptCallback,
        shared: memoryview,
    ) -> None:
        self._upgrader = upgrader
        self._resources = resources
        self._why_not_accept = why_not_accept
        self._accept = accept
        self._shared = shared
        self._handshakes: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.addrs: Sequence[Multiaddr] = ()

    async def start(self, sock: socket.socket) -> None:
        """Accept on `sock`, which is bound."""
        loop = asyncio.get_running_loop()
        self.addrs = (_multiaddr(sock.getsockname()),)
        self._server = await loop.create_server(self._make_link, sock=sock, backlog=_BACKLOG)

    def _make_link(self) -> "_InboundLink":
        return _InboundLink(self._shared, self._begin)

    def _begin(self, link: TcpLink) -> None:
        """Start the handshakes of a link that somebody opened, or turn it away."""
        if (reason := self._why_not_accept(link.remote_addr)) is not None:
            _log.debug("turned away %s: %s", link.remote_addr, reason)
            link.abort()
            return
        group = ip_group(link.remote_addr)
        if not self._resources.reserve_handshake(group):
            _log.debug("turned away %s: too many handshakes", link.remote_addr)
            link.abort()
            return
        task = asyncio.get_running_loop().create_task(self._shake_hands(link, group))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, link: TcpLink, group: str | None) -> None:
        try:
            with anyio.fail_after(self._resources.limits.handshake_timeout):
                await self._upgrader.accept(link, self._accept)
        except TimeoutError:
            _log.debug("handshake with %s took too long", link.remote_addr)
            link.abort()
        except (IpvcsError, OSError, anyio.EndOfStream, anyio.BrokenResourceError) as exc:
            _log.debug("handshake with %s failed: %s", link.remote_addr, exc)
            link.abort()
        except asyncio.CancelledError:
            link.abort()
            raise
        except Exception:
            _log.exception("bug in the handshake with %s", link.remote_addr)
            link.abort()
        finally:
            self._resources.release_handshake(group)

    async def aclose(self) -> None:
        """Accept nothing more, and end the handshakes."""
        self._server.close()
        for task in self._handshakes:
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)


class _InboundLink(TcpLink):
    """A link that was accepted: its handshakes begin when it stands."""

    def __init__(self, shared: memoryview, begin: Callable[[TcpLink], None]) -> None:
        super().__init__(shared)
        self._begin = begin

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self._begin(self)


_DIALABLE: Final = {("ip4", "tcp"), ("ip6", "tcp"), ("ip6zone", "ip6", "tcp")} | {
    ("ip4", "tcp", "p2p"),
    ("ip6", "tcp", "p2p"),
    ("ip6zone", "ip6", "tcp", "p2p"),
}


def _host_and_port(addr: Multiaddr) -> tuple[str, int]:
    host = addr.value_for("ip4") or addr.value_for("ip6")
    port = addr.value_for("tcp")
    assert host is not None, "can_dial was asked"
    assert port is not None
    zone = addr.value_for("ip6zone")
    return (f"{host}%{zone}" if zone else host), int(port)


def _multiaddr(sockname: tuple[str, int] | tuple[str, int, int, int]) -> Multiaddr:
    """Return the address of a socket's end."""
    host, _, zone = sockname[0].partition("%")
    if ":" not in host:
        return Multiaddr.parse(f"/ip4/{host}/tcp/{sockname[1]}")
    prefix = f"/ip6zone/{zone}" if zone else ""
    return Multiaddr.parse(f"{prefix}/ip6/{host}/tcp/{sockname[1]}")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # so that IPv4 can have the same port
        name = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
        sock.bind(name)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    """Return what the system says, without the address, which whoever prints it has."""
    return os.strerror(error.errno).lower() if error.errno in errno.errorcode and error.errno else str(error)
