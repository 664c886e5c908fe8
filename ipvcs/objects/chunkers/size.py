"""`size-N`: every chunk is N bytes long, the last one what is left."""

from collections.abc import Iterator
from dataclasses import dataclass

from ipvcs.objects.chunkers.buffering import read_full
from ipvcs.objects.chunkers.interface import CHUNK_SIZE_LIMIT, ChunkerError, Read


@dataclass(frozen=True, slots=True)
class SizeChunker:
    """Cuts after every `size` bytes.

    Raises:
        ChunkerError: `size` is not in 1..`CHUNK_SIZE_LIMIT`.
    """

    size: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= CHUNK_SIZE_LIMIT:
            raise ChunkerError(f"size {self.size} is not in 1..{CHUNK_SIZE_LIMIT}")

    @property
    def max_size(self) -> int:
        """`size` itself."""
        return self.size

    def chunks(self, read: Read) -> Iterator[bytes]:
        """See `Chunker.chunks`. A full-size read becomes the chunk as it is, without a copy."""
        while chunk := read_full(read, self.size):
            yield chunk
            if len(chunk) < self.size:
                return
