"""`fastcdc`: content-defined cuts by a Gear hash with normalised chunking, the chunker of the profile `cdc-1`.

The algorithm is FastCDC 2020 as PyPI `pyfastcdc` and the Rust crate `fastcdc` implement it, at normalisation level 2,
seed 0. Everything below is frozen: CIDs of published datasets follow from it, and a change is a new profile.

The default parameters are 64 KiB / 256 KiB / 1 MiB: no block exceeds 1 MiB plus framing. Chunks of 289 KiB on average,
a quarter of the fixed 1 MiB of `unixfs-v1-2025`, let a small edit cost about 0.3 MiB anew, at some 3,600 blocks a GiB.
A maximum of four times the average is practically never what makes the cut, which an insertion would shift. Level 2,
since over 128 MiB of random data with 40 insertions it stored a sixth less anew than level 1; level 3 hardly less.

Spec: W. Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE
TPDS 31(9), 2020; parameters, masks and Gear table in docs/chunkers.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ipvcs.objects.chunkers.buffering import cut_stream
from ipvcs.objects.chunkers.interface import CHUNK_SIZE_LIMIT, ChunkerError, Read

DEFAULT_MIN_SIZE = 64 * 1024
DEFAULT_AVG_SIZE = 256 * 1024
DEFAULT_MAX_SIZE = 1024 * 1024

_NORMALIZATION_LEVEL: Final = 2
_LEAST_MIN_SIZE, _LEAST_AVG_SIZE, _LEAST_MAX_SIZE = 64, 256, 1024  # the published implementations' own bounds


@dataclass(frozen=True, slots=True)
class FastCdcChunker:
    """Cuts into chunks of `min_size` to `max_size` bytes, most of them a little longer than `avg_size`.

    Raises:
        ChunkerError: not 64 <= `min_size` < `avg_size` < `max_size` <= `CHUNK_SIZE_LIMIT`, `avg_size` below 256 or
            no power of two (the mask's length is its logarithm, and implementations round differently), `min_size`
            odd (bytes are hashed in pairs: it would be cut one below) or `max_size` below 1024.
    """

    min_size: int = DEFAULT_MIN_SIZE
    avg_size: int = DEFAULT_AVG_SIZE
    max_size: int = DEFAULT_MAX_SIZE

    def __post_init__(self) -> None:
        if self.min_size < _LEAST_MIN_SIZE or self.min_size % 2:
            raise ChunkerError(f"minimum {self.min_size} is not an even number from {_LEAST_MIN_SIZE} on")
        if self.avg_size < _LEAST_AVG_SIZE or self.avg_size.bit_count() != 1:
            raise ChunkerError(f"average {self.avg_size} is not a power of two from {_LEAST_AVG_SIZE} on")
        if not _LEAST_MAX_SIZE <= self.max_size <= CHUNK_SIZE_LIMIT:
            raise ChunkerError(f"maximum {self.max_size} is not in {_LEAST_MAX_SIZE}..{CHUNK_SIZE_LIMIT}")
        if not self.min_size < self.avg_size < self.max_size:
            raise ChunkerError(f"not minimum < average < maximum: {self.min_size}, {self.avg_size}, {self.max_size}")

    def chunks(self, read: Read) -> Iterator[bytes]:
        """See `Chunker.chunks`."""
        return cut_stream(read, self.max_size, self._find_ends)

    def _find_ends(self, buffer: memoryview, stop: int) -> Iterator[int]:
        from pyfastcdc import FastCDC

        fastcdc = FastCDC(
            self.avg_size,
            min_size=self.min_size,
            max_size=self.max_size,
            normalized_chunking=_NORMALIZATION_LEVEL,
            seed=0,
        )
        cuts = fastcdc.cut_buf(buffer)
        end = 0
        while end < stop:
            end += next(cuts).length
            yield end
