"""Fixed-size cuts."""

import pytest

from ipvcs.objects.chunkers.interface import CHUNK_SIZE_LIMIT, ChunkerError
from ipvcs.objects.chunkers.size import SizeChunker
from tests.unit.objects.chunkers.readers import lengths


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, [1]), (99, [99]), (100, [100]), (101, [100, 1]), (200, [100, 100]), (250, [100, 100, 50])],
)
def test_all_chunks_but_the_last_have_the_size(size: int, expected: list[int]) -> None:
    assert lengths(SizeChunker(100), bytes(size)) == expected


def test_a_full_read_becomes_the_chunk_without_a_copy() -> None:
    block = bytes(1000)

    assert next(SizeChunker(1000).chunks(lambda size: block)) is block


@pytest.mark.parametrize("size", [-1, 0, CHUNK_SIZE_LIMIT + 1])
def test_sizes_that_no_block_can_have_are_refused(size: int) -> None:
    with pytest.raises(ChunkerError, match=f"^size {size} is not in 1..2096896$"):
        SizeChunker(size)
