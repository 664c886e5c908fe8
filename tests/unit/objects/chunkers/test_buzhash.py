"""Buzhash by window doubling against its definition and against a byte loop."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.chunkers.buzhash import MASK, MAX_SIZE, MIN_SIZE, WINDOW, BuzhashChunker, hashes
from ipvcs.objects.chunkers.buzhash_table import BYTE_WORDS
from tests.streams import chacha20_stream
from tests.unit.objects.chunkers.readers import lengths


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & 0xFFFFFFFF


def _reference_lengths(data: bytes) -> list[int]:
    """Cut as upstream does: a state that takes in one byte and, once 32 are in, lets the oldest go."""
    found = []
    start = 0
    while start < len(data):
        limit = min(MAX_SIZE, len(data) - start)
        length = min(MIN_SIZE, limit)
        state = 0
        for byte in data[start + MIN_SIZE - WINDOW : start + length]:
            state = _rotate(state, 1) ^ BYTE_WORDS[byte]
        while length < limit and state & MASK:
            state = _rotate(state, 1) ^ BYTE_WORDS[data[start + length - WINDOW]] ^ BYTE_WORDS[data[start + length]]
            length += 1
        found.append(length)
        start += length
    return found


def test_the_table_is_the_frozen_one() -> None:
    assert (
        hashlib.sha256(struct.pack(">256I", *BYTE_WORDS)).hexdigest()
        == "3bac776138fbc00286f2e800a9bce9bede64d199c520c7721814a873372f5456"
    )


@given(st.binary(min_size=WINDOW, max_size=200))
def test_hash_is_the_sum_of_rotated_words(data: bytes) -> None:
    expected = []
    for end in range(WINDOW, len(data) + 1):
        total = 0
        for distance in range(WINDOW):
            total ^= _rotate(BYTE_WORDS[data[end - 1 - distance]], distance)
        expected.append(total)

    assert hashes(data).tolist() == expected


@pytest.mark.parametrize("bits", [0x00, 0x01, 0xFF])
@pytest.mark.parametrize("size", [131_071, 131_072, 131_073, 131_104, 262_144, 500_000])
def test_cuts_are_those_of_the_byte_loop(bits: int, size: int) -> None:
    data = bytes(byte & bits for byte in chacha20_stream("buzhash", size))

    assert lengths(BuzhashChunker(), data) == _reference_lengths(data)
