"""What arrived on a stream and was not read yet. Pure.

Large pieces are kept as the views they came as; small ones are gathered into pieces of our own. Otherwise a peer could
send one byte in each message and have us keep 64 KiB of plaintext, or fifty bytes of object, for every one.
"""

from collections import deque
from typing import Final

from ipvcs.node.network.interface import Buffer

_KEPT_WHOLE: Final = 16 * 1024
"""Bytes. A view of this size or more keeps at most a message of 64 KiB alive: four times itself."""
_GATHERED: Final = 64 * 1024
"""Bytes of a piece of our own at most: a few pieces a window, and never much to move when one grows."""


class ReceiveBuffer:
    """A queue of bytes."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[Buffer] = deque()
        self.size = 0

    def append(self, data: Buffer) -> None:
        """Add `data`, which must never change, at the end."""
        size = len(data)
        self.size += size
        if size >= _KEPT_WHOLE:
            self._pieces.append(data)
            return
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray) and len(last) + size <= _GATHERED:
            last += data
        elif size:
            self._pieces.append(bytearray(data))

    def prepend(self, data: Buffer) -> None:
        """Put `data`, which must never change, back in front."""
        if len(data):
            self.size += len(data)
            self._pieces.appendleft(data)

    def take(self, max_bytes: int | None = None) -> Buffer:
        """Return the first piece, or as much of it as `max_bytes`. There must be one. Nobody else holds it writable."""
        piece = self._pieces.popleft()
        if max_bytes is not None and len(piece) > max_bytes:
            view = memoryview(piece)
            self._pieces.appendleft(view[max_bytes:])
            piece = view[:max_bytes]
        self.size -= len(piece)
        return piece

    def clear(self) -> int:
        """Drop everything; return how many bytes that was."""
        size, self.size = self.size, 0
        self._pieces.clear()
        return size
