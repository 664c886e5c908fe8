"""Messages on a stream, each behind a varint of its size: how most of libp2p's protocols send their protobufs.

Spec: https://protobuf.dev/programming-guides/techniques/#streaming and https://github.com/multiformats/unsigned-varint
"""

from anyio import EndOfStream
from anyio.abc import ByteReceiveStream, ByteSendStream

from ipvcs.errors import LimitError, RemoteProtocolError
from ipvcs.multiformats import varint
from ipvcs.node.network.interface import Buffer
from ipvcs.node.network.message_budget import MessageBudget


class DelimitedError(RemoteProtocolError):
    """The stream ended inside a message, or a size is not a varint."""


class MessageTooLargeError(LimitError):
    """The peer announced a message of `size` bytes, more than `max_message`."""

    def __init__(self, size: int, max_message: int) -> None:
        super().__init__(f"the peer sends a message of {size} bytes, more than the {max_message} allowed")
        self.size = size
        self.max_message = max_message


class DelimitedReader:
    """Reads messages of at most `max_message` bytes each. Never more than one of these and one chunk is held."""

    def __init__(
        self, stream: ByteReceiveStream, max_message: int, *, budget: MessageBudget | None = None, free: int = 0
    ) -> None:
        """Read from `stream`.

        Args:
            stream: whose messages.
            max_message: bytes of one.
            budget: what a message of more than `free` bytes is taken from, whole, before any of it is waited for.
            free: bytes of a message that takes nothing from the budget.
        """
        self._stream = stream
        self._max_message = max_message
        self._budget = budget
        self._free = free
        self._buffer = bytearray()

    async def receive(self) -> bytes:
        """Return the next message, maybe an empty one. Cancelling loses nothing; after an error, drop the stream.

        Raises:
            EndOfStream: the peer is done, behind a whole message.
            DelimitedError: the peer is done inside a message, or the size is not minimal or has more than nine bytes.
            MessageTooLargeError: the size is beyond the bound; nothing of the message was waited for.
            LimitError: the budget was needed for messages that were begun later.
        """
        while (header := self._read_size()) is None:
            await self._fill()
        size, start = header
        end = start + size
        if self._budget is None or size <= self._free:
            await self._fill_to(end)
        else:
            with self._budget.message() as hold:
                hold(size)
                await self._fill_to(end)
        message = bytes(memoryview(self._buffer)[start:end])
        del self._buffer[:end]
        return message

    @property
    def rest(self) -> bytes:
        """Bytes received behind the last message."""
        return bytes(self._buffer)

    def _read_size(self) -> tuple[int, int] | None:
        try:
            size, start = varint.decode(self._buffer)
        except varint.TruncatedVarintError:
            return None
        except varint.VarintError as exc:
            raise DelimitedError(f"cannot read a message's size: {exc}") from exc
        if size > self._max_message:
            raise MessageTooLargeError(size, self._max_message)
        return size, start

    async def _fill_to(self, end: int) -> None:
        while len(self._buffer) < end:
            await self._fill()

    async def _fill(self) -> None:
        try:
            self._buffer += await self._stream.receive()
        except EndOfStream:
            if self._buffer:
                raise DelimitedError("the stream ends inside a message") from None
            raise


def encode_delimited(*messages: Buffer) -> bytes:
    """Return `messages`, each behind its size."""
    parts: list[Buffer] = []
    for message in messages:
        parts += (varint.encode(len(message)), message)
    return b"".join(parts)


async def send_delimited(stream: ByteSendStream, *messages: Buffer) -> None:
    """Send `messages` at once. Cancelling may have sent a part."""
    if messages:
        await stream.send(encode_delimited(*messages))
