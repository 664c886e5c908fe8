"""Inputs that arrive in pieces: `read` functions for tests of chunkers."""

import io
from collections.abc import Sequence
from itertools import cycle

from ipvcs.objects.chunkers.interface import Chunker


class PortionedReader:
    """Gives `data` in portions of the lengths in `portions`, over and over, and checks how it is asked."""

    def __init__(self, data: bytes, portions: Sequence[int]) -> None:
        self._data = io.BytesIO(data)
        self._portions = cycle(portions)
        self._ended = False
        self.largest_request = 0

    def __call__(self, size: int) -> bytes:
        assert size > 0, "asked for nothing"
        assert not self._ended, "read on after the end: a terminal would wait for more"
        self.largest_request = max(self.largest_request, size)
        data = self._data.read(min(size, next(self._portions)))
        self._ended = not data
        return data


def cut(chunker: Chunker, data: bytes) -> list[bytes]:
    """Return the chunks of `data`, read in one go."""
    return list(chunker.chunks(io.BytesIO(data).read))


def lengths(chunker: Chunker, data: bytes) -> list[int]:
    """Return the lengths of the chunks of `data`."""
    return [len(chunk) for chunk in cut(chunker, data)]
