"""The byte stream under a CAR: forward only, so that pipes work, with the byte offset of everything that goes wrong.

Spec: https://ipld.io/specs/transport/car/
"""

from typing import Final, Protocol

from ipvcs.errors import DecodeError, TruncatedError
from ipvcs.multiformats import varint

_CHUNK: Final = 256 * 1024
"""Bytes asked of the source at once; also the most that is ever held beyond what the caller asked for."""


class CarError(DecodeError):
    """A CAR is damaged. `offset` is the byte, from the start of the stream, of the item that cannot be read."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(f"damaged CAR at byte {offset}: {problem}")
        self.offset = offset


class TruncatedCarError(CarError, TruncatedError):
    """A CAR ends inside an item."""


class ByteSource(Protocol):
    """What a CAR is read from: a file, a pipe, a response. Reads may be short; only an empty one is the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none only at the end."""


class CarSource:
    """Takes bytes off a `ByteSource` in exact amounts and counts them."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._buffer = b""
        self._start = 0  # of what is left in the buffer
        self.offset = 0
        """Bytes taken so far."""

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the stream. Memory grows by what arrives."""
        end = self._start + size
        if end > len(self._buffer):
            self._fill(size)
            end = self._start + size
        data = self._buffer[self._start : end]
        self._start += len(data)
        self.offset += len(data)
        return data

    def skip(self, size: int) -> int:
        """Pass over `size` bytes; return how many there were."""
        left = size
        while left > 0 and (data := self.take(min(left, _CHUNK))):
            left -= len(data)
        return size - left

    def take_varint(self, limit: int) -> int | None:
        """Return the varint that comes next, None at the end of the stream; it may take at most `limit` bytes.

        Raises:
            CarError: not minimal, or longer than nine bytes.
            TruncatedCarError: the stream or the `limit` ends inside it.
        """
        start = self.offset
        available = min(varint.MAX_BYTES, limit)
        if len(self._buffer) - self._start < available:
            self._fill(available)
        window = self._buffer[self._start : self._start + available]
        if not window:
            return None
        try:
            value, length = varint.decode(window)
        except varint.TruncatedVarintError as exc:
            raise TruncatedCarError(str(exc), start) from exc
        except varint.VarintError as exc:
            raise CarError(str(exc), start) from exc
        self._start += length
        self.offset += length
        return value

    def _fill(self, size: int) -> None:
        """Have at least `size` bytes in the buffer, if the stream has them."""
        pieces = [self._buffer[self._start :]]
        missing = size - len(pieces[0])
        while missing > 0 and (data := self._source.read(_CHUNK)):
            pieces.append(data)
            missing -= len(data)
        self._buffer = b"".join(pieces)
        self._start = 0
