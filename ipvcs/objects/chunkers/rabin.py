"""`rabin`: content-defined cuts by a Rabin fingerprint of the last 16 bytes, exactly as Kubo makes them.

Bytes are read as a polynomial over GF(2), first byte highest; the fingerprint is its remainder modulo `POLYNOMIAL`. A
chunk ends where the low bits of the fingerprint are zero (as many as log2 of the average, rounded down), not before
MIN bytes and at the latest after MAX.

Upstream starts each chunk with a window of zeros and one byte 0x01, skips MIN - 16 bytes and slides in the rest. The
first cut is considered 16 bytes later, when that 0x01 has just left the window: it moves no cut.

Spec: https://github.com/ipfs/boxo/blob/main/chunker/rabin.go, parse.go; M. O. Rabin, "Fingerprinting by Random
Polynomials" (1981).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from ipvcs.objects.chunkers.buffering import cut_stream
from ipvcs.objects.chunkers.interface import CHUNK_SIZE_LIMIT, ChunkerError, Read
from ipvcs.objects.chunkers.rolling import find_rolling_ends

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POLYNOMIAL = 0x3DF305DFB2A805
"""Kubo's modulus: irreducible, of degree 53."""

WINDOW = 16
"""How many bytes the fingerprint covers."""

_DEGREE = POLYNOMIAL.bit_length() - 1
_DEFAULT_AVERAGE = 256 * 1024
_FINGERPRINT_BITS = 32  # of 53; the longest mask has 20, log2 of the largest chunk
_REDUCED_PAIRS = (6, 8, 10, 12, 14)  # pairs of bytes this far from the end of the window reach beyond bit 53


@dataclass(frozen=True, slots=True)
class RabinChunker:
    """Cuts into chunks of `min_size` to `max_size` bytes, about `min_size + avg_size` on average without the maximum.

    Raises:
        ChunkerError: not 16 <= `min_size` < `avg_size` < `max_size` <= `CHUNK_SIZE_LIMIT`.
    """

    min_size: int
    avg_size: int
    max_size: int

    def __post_init__(self) -> None:
        if self.min_size < WINDOW:
            raise ChunkerError(f"minimum {self.min_size} is less than {WINDOW}")
        if not self.min_size < self.avg_size < self.max_size:
            raise ChunkerError(f"not minimum < average < maximum: {self.min_size}, {self.avg_size}, {self.max_size}")
        if self.max_size > CHUNK_SIZE_LIMIT:
            raise ChunkerError(f"maximum {self.max_size} is more than {CHUNK_SIZE_LIMIT}")

    @classmethod
    def from_average(cls, avg_size: int = _DEFAULT_AVERAGE) -> RabinChunker:
        """Derive minimum and maximum from the average as Kubo does: a third of it, and one and a half.

        Raises:
            ChunkerError: an average below 48, for which Kubo would make one chunk of any input, or a maximum
                above `CHUNK_SIZE_LIMIT`.
        """
        return cls(avg_size // 3, avg_size, avg_size + avg_size // 2)

    def chunks(self, read: Read) -> Iterator[bytes]:
        """See `Chunker.chunks`."""
        mask = (1 << (self.avg_size.bit_length() - 1)) - 1
        find_ends = partial(
            find_rolling_ends,
            min_size=self.min_size,
            max_size=self.max_size,
            window=WINDOW,
            mark_matches=partial(_mark_matches, mask=mask),
        )
        return cut_stream(read, self.max_size, find_ends)


def fingerprints(data: bytes | memoryview) -> NDArray[np.uint32]:
    """Return the low 32 bits of the fingerprint of every 16 bytes in a row of `data`, which has at least 16.

    The fingerprint is linear over GF(2), so it is the sum (XOR) of what each pair of bytes contributes at its place
    in the window: shifted by its distance from the window's end, then reduced. The last six bytes do not reach the
    modulus and contribute themselves (two pairs of them to the low 32 bits); the other five pairs are looked up.
    """
    import numpy as np

    count = len(data) - WINDOW + 1
    # pairs[i] is the value of bytes i and i + 1. As intp, since numpy would convert any other type for each look-up.
    pairs = np.empty(len(data) - 1, dtype=np.intp)
    evens, odds = pairs[0::2], pairs[1::2]
    evens[:] = np.frombuffer(data, dtype=">u2", count=len(evens))
    odds[:] = np.frombuffer(data, dtype=">u2", count=len(odds), offset=1)

    plain = pairs[WINDOW - 4 :].astype(np.uint32)
    low = plain[2:]  # the window's last two bytes; before them `high`, 16 bits up
    high = plain[:-2]
    total = high << np.uint32(16)
    total ^= low
    reduced = np.empty_like(total)
    for distance, table in zip(_REDUCED_PAIRS, _pair_tables(), strict=True):
        first = WINDOW - 2 - distance
        # mode="clip" only because numpy checks bounds through a copy; two bytes cannot exceed 65,536 entries.
        table.take(pairs[first : first + count], out=reduced, mode="clip")
        total ^= reduced
    return total


def _mark_matches(data: memoryview, *, mask: int) -> bytes:
    import numpy as np

    marks: bytes = (fingerprints(data) & np.uint32(mask) == 0).tobytes()
    return marks


@lru_cache(maxsize=1)
def _pair_tables() -> tuple[NDArray[np.uint32], ...]:
    """Return, for each of `_REDUCED_PAIRS`, what any two bytes there add to the fingerprint: 5 x 65,536 entries."""
    import numpy as np

    tables = []
    for distance in _REDUCED_PAIRS:
        table = np.zeros(1, dtype=np.uint32)
        for bit in range(16):
            contribution = _reduce(1 << (8 * distance + bit)) & ((1 << _FINGERPRINT_BITS) - 1)
            table = np.concatenate([table, table ^ np.uint32(contribution)])
        tables.append(table)
    return tuple(tables)


def _reduce(value: int) -> int:
    """Return the polynomial `value` modulo `POLYNOMIAL`."""
    while (excess := value.bit_length() - 1 - _DEGREE) >= 0:
        value ^= POLYNOMIAL << excess
    return value
