"""Reads Bitswap messages off a stream: large ones without needless copies, and never more than others can spare.

The pieces of a message are kept as they arrive, views into decrypted memory, and joined once. What all peers together
make us hold of unfinished messages is bounded by a `MessageBudget`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from ipvcs.multiformats import varint
from ipvcs.node.exchange.messages import MAX_MESSAGE
from ipvcs.node.network.delimited import DelimitedError, MessageTooLargeError
from ipvcs.node.network.interface import Stream
from ipvcs.node.network.message_budget import MessageBudget

MAX_UNASKED: Final = 256 * 1024
"""Bytes of a message from a peer that was asked for nothing: a wantlist of 10,000 CIDs."""
PATIENCE: Final = 30.0
SLOWEST: Final = 16 * 1024
"""A message may take `PATIENCE` seconds and one more for each `SLOWEST` bytes that it has."""


class MessageReader:
    """The messages of one stream, one after the other."""

    def __init__(
        self,
        stream: Stream,
        budget: MessageBudget,
        *,
        is_asked: Callable[[], bool] = lambda: True,
        on_bytes: Callable[[], None] = lambda: None,
    ) -> None:
        """Read from `stream`.

        Args:
            stream: whose messages.
            budget: what is held of them.
            is_asked: whether the peer has reason to send blocks, which decides how large a message may be.
            on_bytes: called whenever something arrives.
        """
        self._stream = stream
        self._budget = budget
        self._is_asked = is_asked
        self._on_bytes = on_bytes
        self._rest: memoryview = memoryview(b"")

    async def receive(self) -> bytes:
        """Return the next message. After an error or a cancellation, drop the stream.

        Raises:
            EndOfStream: the peer is done, behind a whole message.
            DelimitedError: the stream ends inside a message, or the message takes too long; or a bad size.
            MessageTooLargeError: over `MAX_MESSAGE`, or over `MAX_UNASKED` of somebody who was asked for nothing.
            LimitError: too much is held of all peers.
        """
        size = await self._receive_size()
        if size > MAX_MESSAGE or (size > MAX_UNASKED and not self._is_asked()):
            raise MessageTooLargeError(size, MAX_MESSAGE if size > MAX_MESSAGE else MAX_UNASKED)
        if len(self._rest) >= size:
            message, self._rest = bytes(self._rest[:size]), self._rest[size:]
            return message
        pieces, held = [self._rest], len(self._rest)
        with (
            self._budget.message() as hold,
            _deadline(size),
        ):  # one a message: one a chunk costs as much as decrypting it
            while held < size:
                chunk = await self._receive_inside()
                hold(len(chunk))
                held += len(chunk)
                pieces.append(chunk)
        excess = held - size
        last = pieces[-1]
        pieces[-1], self._rest = last[: len(last) - excess], last[len(last) - excess :]
        return b"".join(pieces)

    async def _receive_size(self) -> int:
        head = bytes(self._rest[:10])
        while True:
            try:
                size, start = varint.decode(head)
            except varint.TruncatedVarintError:
                if not len(self._rest):  # between messages a stream may rest
                    self._rest = memoryview(await self._stream.receive_chunk())
                    self._on_bytes()
                else:
                    with _deadline(0):
                        self._rest = memoryview(bytes(self._rest) + bytes(await self._receive_inside()))
                head = bytes(self._rest[:10])
            except varint.VarintError as exc:
                raise DelimitedError(f"cannot read a message's size: {exc}") from exc
            else:
                self._rest = self._rest[start:]
                return size

    async def _receive_inside(self) -> memoryview:
        try:
            chunk = await self._stream.receive_chunk()
        except anyio.EndOfStream:
            raise DelimitedError("the stream ends inside a message") from None
        self._on_bytes()
        return memoryview(chunk)


@contextmanager
def _deadline(size: int) -> Iterator[None]:
    seconds = PATIENCE + size / SLOWEST
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        raise DelimitedError(f"a message of {size} bytes took over {seconds:.0f} seconds") from None
