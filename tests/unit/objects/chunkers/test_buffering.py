"""Full reads and bounded buffers."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.chunkers.buffering import cut_stream, read_full
from tests.streams import chacha20_stream
from tests.unit.objects.chunkers.readers import PortionedReader


@given(data=st.binary(max_size=200), size=st.integers(1, 100), portions=st.lists(st.integers(1, 50), min_size=1))
def test_short_reads_are_filled_up(data: bytes, size: int, portions: list[int]) -> None:
    assert read_full(PortionedReader(data, portions), size) == data[:size]


def test_a_full_read_is_not_copied() -> None:
    block = chacha20_stream("block", 1000)

    assert read_full(lambda size: block, 1000) is block


def test_every_chunk_has_its_largest_size_to_look_ahead_or_the_end() -> None:
    data = chacha20_stream("lookahead", 5_000_000)
    max_size = 700_000
    stops: list[int] = []

    def find_ends(buffer: memoryview, stop: int) -> Iterator[int]:
        # A chunk that starts at the last offset before the stop still sees its whole maximum; a later one need not.
        assert stop in (len(buffer) - max_size + 1, len(buffer))
        stops.append(len(buffer) - stop)
        start = 0
        while start < stop:
            start = min(start + 1 + buffer[start] * 2000, len(buffer))
            yield start

    chunks = list(cut_stream(PortionedReader(data, [300_000, 17]), max_size, find_ends))

    assert b"".join(chunks) == data
    assert stops[-1] == 0, "at the end all is cut"
    assert set(stops[:-1]) == {max_size - 1}


def test_reads_are_bounded_however_large_the_chunks() -> None:
    reader = PortionedReader(bytes(10_000_000), [10_000_000])

    for _ in cut_stream(reader, 2_000_000, lambda buffer, stop: iter(range(2_000_000, stop + 1, 2_000_000))):
        pass

    assert reader.largest_request <= 1024 * 1024
