"""The Rabin fingerprint by numpy against its definition and against a byte loop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.chunkers.interface import ChunkerError
from ipvcs.objects.chunkers.rabin import POLYNOMIAL, WINDOW, RabinChunker, fingerprints
from tests.streams import chacha20_stream, zeros
from tests.unit.objects.chunkers.readers import lengths


def _reduce(value: int) -> int:
    for bit in range(value.bit_length() - 1, 52, -1):
        if value >> bit & 1:
            value ^= POLYNOMIAL << (bit - 53)
    return value


_SLIDE_OUT = [_reduce(byte << (8 * (WINDOW - 1))) for byte in range(256)]


def _reference_lengths(data: bytes, min_size: int, avg_size: int, max_size: int) -> list[int]:
    """Cut as upstream does: one byte at a time, a window that starts as zeros and 0x01, MIN - 16 bytes skipped."""
    mask = 1
    while mask * 2 <= avg_size:
        mask *= 2
    mask -= 1
    found = []
    start = 0
    while start < len(data):
        window = [0] * (WINDOW - 1) + [1]
        digest = 1
        length = min(min_size - WINDOW, len(data) - start)
        for byte in data[start + length : start + max_size]:
            digest = _reduce((digest ^ _SLIDE_OUT[window.pop(0)]) << 8 | byte)
            window.append(byte)
            length += 1
            if length >= min_size and digest & mask == 0:
                break
        found.append(length)
        start += length
    return found


@given(st.binary(min_size=WINDOW, max_size=200))
def test_fingerprint_is_the_remainder_of_the_last_16_bytes(data: bytes) -> None:
    windows = [data[end - WINDOW : end] for end in range(WINDOW, len(data) + 1)]

    expected = [_reduce(int.from_bytes(window, "big")) & 0xFFFFFFFF for window in windows]

    assert fingerprints(data).tolist() == expected


@given(
    seed=st.integers(0, 9999),
    size=st.integers(0, 3000),
    bits=st.sampled_from([0x00, 0x01, 0x11, 0xFF]),
    min_size=st.integers(WINDOW, 60),
    avg_more=st.integers(1, 100),
    max_more=st.integers(1, 400),
)
def test_cuts_are_those_of_the_byte_loop(
    seed: int, size: int, bits: int, min_size: int, avg_more: int, max_more: int
) -> None:
    data = bytes(byte & bits for byte in chacha20_stream(str(seed), size))
    chunker = RabinChunker(min_size, min_size + avg_more, min_size + avg_more + max_more)

    expected = _reference_lengths(data, chunker.min_size, chunker.avg_size, chunker.max_size)

    assert lengths(chunker, data) == expected


def test_zeros_are_cut_at_the_minimum() -> None:
    assert lengths(RabinChunker.from_average(), zeros(200_000)) == [87381, 87381, 25238]


@pytest.mark.parametrize(
    ("average", "expected"),
    [(262144, (87381, 262144, 393216)), (48, (16, 48, 72)), (1397931, (465977, 1397931, 2096896))],
)
def test_an_average_alone_gives_a_third_and_one_and_a_half(average: int, expected: tuple[int, int, int]) -> None:
    chunker = RabinChunker.from_average(average)

    assert (chunker.min_size, chunker.avg_size, chunker.max_size) == expected


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ((15, 512, 1024), "minimum 15 is less than 16"),
        ((512, 512, 1024), "not minimum < average < maximum: 512, 512, 1024"),
        ((16, 1024, 1024), "not minimum < average < maximum: 16, 1024, 1024"),
        ((16, 512, 2096897), "maximum 2096897 is more than 2096896"),
    ],
)
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int], problem: str) -> None:
    with pytest.raises(ChunkerError, match=f"^{problem}$"):
        RabinChunker(*sizes)


@pytest.mark.parametrize("average", [0, 47, 1397932])
def test_averages_with_impossible_bounds_are_refused(average: int) -> None:
    with pytest.raises(ChunkerError):
        RabinChunker.from_average(average)
