"""`buzhash`: content-defined cuts by cyclic polynomial of the last 32 bytes, exactly as Kubo makes them.

The hash of 32 bytes is the XOR of a random 32-bit word for each, rotated left by the byte's distance from the end. A
chunk ends where the low 17 bits are zero, not before 128 KiB and at the latest after 512 KiB. There are no parameters.

Spec: https://github.com/ipfs/boxo/blob/main/chunker/buzhash.go; J. D. Cohen, "Recursive Hashing Functions for n-Grams"
(1997).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, ClassVar

from ipvcs.objects.chunkers.buffering import cut_stream
from ipvcs.objects.chunkers.interface import Read
from ipvcs.objects.chunkers.rolling import find_rolling_ends

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_SIZE = 128 * 1024
MAX_SIZE = 512 * 1024
MASK = (1 << 17) - 1
WINDOW = 32


@dataclass(frozen=True, slots=True)
class BuzhashChunker:
    """Cuts into chunks of 128 to 512 KiB, 249 KiB on average over random data."""

    max_size: ClassVar[int] = MAX_SIZE

    def chunks(self, read: Read) -> Iterator[bytes]:
        """See `Chunker.chunks`."""
        find_ends = partial(
            find_rolling_ends, min_size=MIN_SIZE, max_size=MAX_SIZE, window=WINDOW, mark_matches=_mark_matches
        )
        return cut_stream(read, MAX_SIZE, find_ends)


def hashes(data: bytes | memoryview) -> NDArray[np.uint32]:
    """Return the hash of every 32 bytes in a row of `data`, which has at least 32.

    The hashes of twice as many bytes follow from those of n: rotate that of the first half by n, add that of the
    second. So five steps lead from single bytes to 32.
    """
    import numpy as np

    state = _words().take(np.frombuffer(data, dtype=np.uint8).astype(np.intp), mode="clip")
    length = 1
    while length < WINDOW:
        earlier, later = state[:-length], state[length:]
        state = earlier << np.uint32(length)
        state |= earlier >> np.uint32(32 - length)
        state ^= later
        length *= 2
    return state


def _mark_matches(data: memoryview) -> bytes:
    import numpy as np

    marks: bytes = (hashes(data) & np.uint32(MASK) == 0).tobytes()
    return marks


@lru_cache(maxsize=1)
def _words() -> NDArray[np.uint32]:
    import numpy as np

    from ipvcs.objects.chunkers.buzhash_table import BYTE_WORDS

    return np.array(BYTE_WORDS, dtype=np.uint32)
