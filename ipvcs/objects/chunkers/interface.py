"""What a chunker promises: where a file is cut into blocks, and nothing else.

A chunker is a pure function of the bytes: the same input has the same cuts on every machine, for ever, since the CID of
a file follows from them. It knows no files, blocks or CIDs; it pulls bytes from a `read` function and yields them
again in pieces, and holds no more than a few of its largest chunks at a time, however long the input.

Spec: white paper §3.6.7 (c); https://specs.ipfs.tech/bitswap-protocol/#block-sizes for the upper bound.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from ipvcs.errors import UsageError

Read = Callable[[int], bytes]
"""`read(n)` returns 1 to `n` bytes, or b"" at the end of the input; fewer than `n` means nothing."""

CHUNK_SIZE_LIMIT = 2 * 1024 * 1024 - 256
"""The largest chunk anybody may ask for, in bytes: 2 MiB, the block that every peer takes, less room for framing. As in
Kubo."""


class Chunker(Protocol):
    """One way to cut, its parameters fixed. Safe to use for several inputs at the same time."""

    @property
    def max_size(self) -> int:
        """The length in bytes that no chunk exceeds: 1 to `CHUNK_SIZE_LIMIT`."""

    def chunks(self, read: Read) -> Iterator[bytes]:
        """Cut what `read` gives, until its first b"", into chunks.

        Yields:
            The chunks in order, none of them empty; joined they are the input, and empty input has none. How
            `read` portions the bytes does not move a cut.
        """


class ChunkerError(UsageError):
    """A chunker that does not exist or cannot work as asked."""
