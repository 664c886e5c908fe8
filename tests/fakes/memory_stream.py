"""Streams of the network in memory: bytes both ways with a window, ends, resets and negotiation."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint

from ipvcs.node.network.interface import Buffer, Direction, Stream

if TYPE_CHECKING:
    from tests.fakes.memory_network import MemoryConnection

WINDOW = 256 * 1024
"""Bytes that may be under way or unread in one direction, as yamux begins with."""
_SLICE = 64 * 1024


class MemoryStream(Stream):
    """One end. The `on_…` methods are what the other end's doings arrive by."""

    connection: "MemoryConnection"

    def __init__(self, connection: "MemoryConnection", number: int, direction: Direction, protocol: str = "") -> None:
        self.connection = connection
        self.number = number
        self.direction = direction
        self.protocol = protocol
        self._chunks: deque[memoryview] = deque()
        self._credit = WINDOW
        self._unread = 0
        self._peer_ended = False
        self._ended = False
        self._closed = False
        self._broken: str | None = None
        self._receiving = False
        self._sending = False
        self._changed = anyio.Event()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if max_bytes < 1:
            raise ValueError("max_bytes must be positive")
        return bytes(await self._take(max_bytes))

    async def receive_chunk(self) -> Buffer:
        return await self._take(WINDOW)

    async def _take(self, max_bytes: int) -> memoryview:
        if self._receiving:
            raise anyio.BusyResourceError("reading from")
        self._receiving = True
        try:
            await checkpoint()
            while not self._chunks or self._closed or self._broken is not None:
                self._check_live()
                if self._peer_ended:
                    raise anyio.EndOfStream
                await self._changed.wait()
        finally:
            self._receiving = False
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._unread -= len(chunk)
        size = len(chunk)
        self.connection.tell(self.number, lambda far: far.on_credit(size))
        return chunk

    async def send(self, item: Buffer) -> None:
        if self._sending:
            raise anyio.BusyResourceError("writing to")
        self._sending = True
        view = memoryview(item).cast("B")
        try:
            await checkpoint()
            self._check_writable()
            while len(view):
                if not self._credit:
                    await self._changed.wait()
                    self._check_writable()
                    continue
                data = memoryview(bytes(view[: min(self._credit, _SLICE)]))
                view = view[len(data) :]
                self._credit -= len(data)
                self._tell_data(data)
        finally:
            self._sending = False

    def _tell_data(self, data: memoryview) -> None:
        self.connection.tell(self.number, lambda far: far.on_data(data))

    def _check_live(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._broken is not None:
            raise anyio.BrokenResourceError(self._broken)

    def _check_writable(self) -> None:
        if self._ended:
            raise anyio.ClosedResourceError
        self._check_live()

    async def send_eof(self) -> None:
        await checkpoint()
        self._check_live()
        self._end()

    async def aclose(self) -> None:
        if not self._closed:
            if self._broken is None:
                self._end()
            self._close()
        await checkpoint()

    def reset(self) -> None:
        if not self._closed:
            if self._broken is None:
                self.connection.tell(self.number, MemoryStream.on_reset)
            self._close()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.connection.tell(self.number, MemoryStream.on_eof)
            self._wake()

    def _close(self) -> None:
        self._closed = True
        self._chunks.clear()
        self.connection.forget(self)
        self._wake()

    # ---- what the other end did ----

    def on_data(self, data: memoryview) -> None:
        assert not self._peer_ended
        self._unread += len(data)
        assert self._unread <= WINDOW
        self._chunks.append(data)
        self._wake()

    def on_credit(self, size: int) -> None:
        self._credit += size
        assert self._credit <= WINDOW
        self._wake()

    def on_eof(self) -> None:
        self._peer_ended = True
        self._wake()

    def on_reset(self) -> None:
        self.on_broken("the peer reset the stream")

    def on_broken(self, reason: str) -> None:
        if self._broken is None:
            self._broken = reason
            self.connection.forget(self)
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    @property
    def extra_attributes(self) -> dict[Any, Callable[[], Any]]:
        return {}
