"""A stream of a multiplexed connection: what a service reads and writes.

All state is touched by the event loop alone. Events of the muxer arrive by the `on_…` methods, synchronously; a waiting
reader or writer has one future each that they resolve. An inbound stream agrees on its protocol without any task: the
bytes go through a `Responder` until it has a result, and only then does a handler start.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

from ipvcs.node.network.errors import ProtocolNotSupportedError
from ipvcs.node.network.interface import Buffer, Direction, Stream
from ipvcs.node.network.multistream import Initiator, LazyInitiator, NegotiationError, Responder
from ipvcs.node.network.muxer import StreamKey
from ipvcs.node.network.receive_buffer import ReceiveBuffer

if TYPE_CHECKING:
    from ipvcs.node.network.connection import MuxedConnection

_SLICE: Final = 4 * 65519
"""Bytes sent before others get a turn: one yamux frame, four Noise messages."""


class MuxedStream(Stream):
    """One stream of a `MuxedConnection`."""

    connection: "MuxedConnection"

    def __init__(self, connection: "MuxedConnection", key: StreamKey, direction: Direction) -> None:
        self.connection = connection
        self.direction = direction
        self.protocol = ""
        self.key = key
        self._inbox = ReceiveBuffer()
        self._peer_ended = False
        self._ended = False
        self._closed = False  # by us
        self._broken: str | None = None
        self._readable: asyncio.Future[None] | None = None
        self._sendable: asyncio.Future[None] | None = None
        self._responder: Responder | None = None
        self._lazy: LazyInitiator | None = None
        self._opening = b""

    # ---- reading ----

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what arrived next, at most `max_bytes`. See `Stream.receive`."""
        await self._wait_readable()
        data = self._inbox.take(max_bytes)
        self.connection.consumed(self.key, len(data))
        return bytes(data)

    async def receive_chunk(self) -> Buffer:
        """Return what arrived next. See `Stream.receive_chunk`."""
        await self._wait_readable()
        data = self._inbox.take()
        self.connection.consumed(self.key, len(data))
        return data if isinstance(data, bytes) else memoryview(data).toreadonly()

    async def _wait_readable(self) -> None:
        while not self._inbox.size:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._broken is not None and not self._peer_ended:
                raise anyio.BrokenResourceError(self._broken)
            if self._peer_ended:
                if self._lazy is not None:  # it ended without saying whether it speaks the protocol
                    raise anyio.BrokenResourceError("the peer ended the stream during the negotiation")
                raise anyio.EndOfStream
            if self._readable is not None:
                raise anyio.BusyResourceError("reading from")
            if self._opening:  # a reader that has nothing to send first
                self._send_opening()
            self._readable = asyncio.get_running_loop().create_future()
            try:
                await self._readable
            finally:
                self._readable = None
        if self._closed:
            raise anyio.ClosedResourceError

    # ---- writing ----

    async def send(self, item: Buffer) -> None:
        """Send all of `item`. See `Stream.send`."""
        connection = self.connection
        view = memoryview(item)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        if self._opening and not connection.is_write_paused:
            # The proposal and the first data travel together; while anything is in the way, one after the other.
            self._check_writable()
            if len(view) <= _SLICE:
                opening, self._opening = self._opening, b""
                view = memoryview(b"".join((opening, view)))
        while True:
            self._check_writable()
            if connection.is_write_paused:
                await connection.wait_writable()
                continue
            if self._opening:
                self._send_opening()
            if not len(view):
                return
            taken = connection.send(self.key, view[:_SLICE])
            if not taken:
                await self._wait_sendable()  # at once: the event that ends the wait may come whenever others run
                continue
            view = view[taken:]
            if connection.is_turn_over(taken):
                await asyncio.sleep(0)
            if not len(view):
                return

    async def _wait_sendable(self) -> None:
        if self._sendable is not None:
            raise anyio.BusyResourceError("writing to")
        self._check_writable()
        self._sendable = asyncio.get_running_loop().create_future()
        try:
            await self._sendable
        finally:
            self._sendable = None

    def _check_writable(self) -> None:
        if self._closed or self._ended:
            raise anyio.ClosedResourceError
        if self._broken is not None:
            raise anyio.BrokenResourceError(self._broken)

    def _send_opening(self) -> None:
        opening, self._opening = self._opening, b""
        self.connection.send(self.key, memoryview(opening))  # fits: the window is new

    # ---- ending ----

    async def send_eof(self) -> None:
        """End our side. See `Stream.send_eof`."""
        if self._closed:
            raise anyio.ClosedResourceError
        if self._broken is not None:
            raise anyio.BrokenResourceError(self._broken)
        if not self._ended:
            self._end()

    def _end(self) -> None:
        if self._opening:
            self._send_opening()
        self._ended = True
        self.connection.end(self.key)
        _wake(self._sendable)

    async def aclose(self) -> None:
        """End our side and stop reading. See `Stream.aclose`."""
        if not self._closed:
            self._closed = True
            if self._broken is None:
                if not self._ended:
                    self._end()
                self.connection.abandon(self, peer_ended=self._peer_ended)
            self._drop()

    def reset(self) -> None:
        """Abandon both directions. See `Stream.reset`."""
        if not self._closed:
            self._closed = True
            if self._broken is None:
                self.connection.reset(self)
            self._drop()

    def _drop(self) -> None:
        self.connection.dropped(self._inbox.clear())
        _wake(self._readable)
        _wake(self._sendable)

    # ---- what the connection reports ----

    def on_data(self, data: Buffer) -> None:
        """Bytes arrived."""
        if self._responder is not None:
            self._respond(data)
        elif self._lazy is not None:
            self._confirm(data)
        else:
            self._keep(data)

    def on_ended(self) -> None:
        """The peer ended its side."""
        self._peer_ended = True
        if self._responder is not None:  # it never said what it wants
            self.reset()
        _wake(self._readable)

    def on_broken(self, reason: str) -> None:
        """The stream is gone."""
        if self._broken is None and not self._closed:
            self._broken = reason
            if not self._peer_ended:  # what came before a proper end can still be read
                self.connection.dropped(self._inbox.clear())
        _wake(self._readable)
        _wake(self._sendable)

    def on_sendable(self) -> None:
        """The peer made room."""
        _wake(self._sendable)

    def _keep(self, data: Buffer) -> None:
        if not len(data):
            return
        if not self.connection.keep(len(data)):
            self.fail("too many unread bytes")
            return
        self._inbox.append(data)
        _wake(self._readable)

    def fail(self, reason: str) -> None:
        """Reset the stream for a reason of ours, which its user hears."""
        if self._closed or self._broken is not None:
            return
        self.connection.reset(self)
        self.on_broken(reason)

    # ---- agreeing on a protocol ----

    def respond(self, is_served: Callable[[str], bool]) -> None:
        """Let the peer, who opened the stream, choose among what we serve; then the connection hears of it."""
        self._responder = Responder(is_served)
        self._send_small(self._responder.data_to_send())

    def _respond(self, data: Buffer) -> None:
        assert self._responder is not None
        try:
            self._responder.receive_data(data)
        except NegotiationError as exc:
            self._send_small(self._responder.data_to_send())
            self.fail(str(exc))
            return
        self._send_small(self._responder.data_to_send())
        if self._responder.result is not None:
            self.protocol, rest = self._responder.result, self._responder.rest
            self._responder = None
            self._keep_rest(data, rest)
            if self._broken is None:  # what came behind the proposal may have been too much
                self.connection.negotiated(self)
        else:
            self._keep_rest(data, b"")

    @property
    def unread(self) -> int:
        """Bytes that arrived and were not read."""
        return self._inbox.size

    async def propose(self, protocols: "list[str] | tuple[str, ...]") -> None:
        """Agree with the peer on one of `protocols`. Raises ProtocolNotSupportedError, NegotiationError, and others."""
        initiator = Initiator(protocols)
        await self.send(initiator.data_to_send())
        while initiator.result is None:
            try:
                await self._wait_readable()
            except anyio.EndOfStream:
                raise NegotiationError("the peer ended the stream during the negotiation") from None
            data = self._inbox.take()
            try:
                initiator.receive_data(data)
            finally:
                self.connection.consumed(self.key, len(data) - len(initiator.rest))
            if owed := initiator.data_to_send():
                await self.send(owed)
        self.protocol = initiator.result
        self._inbox.prepend(initiator.rest)

    def propose_lazily(self, protocol: str) -> None:
        """Take it that the peer speaks `protocol`; its answer is looked at when it comes."""
        self.protocol = protocol
        self._lazy = LazyInitiator(protocol)
        self._opening = self._lazy.opening

    def _confirm(self, data: Buffer) -> None:
        assert self._lazy is not None
        try:
            self._lazy.receive_data(data)
        except (NegotiationError, ProtocolNotSupportedError) as exc:
            self.fail(str(exc))
            return
        rest = b""
        if self._lazy.done:
            rest, self._lazy = self._lazy.rest, None
        self._keep_rest(data, rest)

    def _keep_rest(self, data: Buffer, rest: bytes) -> None:
        """Of `data` the negotiation used all but `rest`, which the reader gets."""
        self.connection.consumed(self.key, len(data) - len(rest), kept=False)
        self._keep(rest)

    def _send_small(self, data: bytes) -> None:
        if data and not self._closed and self._broken is None:
            self.connection.send(self.key, memoryview(data))

    # ---- anyio's typed attributes ----

    @property
    def extra_attributes(self) -> dict[Any, Callable[[], Any]]:
        """None: what there is to know stands on `connection`."""
        return {}


def _wake(future: "asyncio.Future[None] | None") -> None:
    if future is not None and not future.done():
        future.set_result(None)
