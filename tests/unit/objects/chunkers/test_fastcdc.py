"""FastCDC is frozen: golden cuts, and a reference that shares no code with the implementation in use."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.chunkers.fastcdc import FastCdcChunker
from ipvcs.objects.chunkers.interface import ChunkerError
from ipvcs.objects.chunkers.registry import parse_chunker
from tests.streams import chacha20_stream, from_input
from tests.unit.objects.chunkers.fastcdc_reference import GEAR_SHA256, reference_lengths
from tests.unit.objects.chunkers.readers import lengths

_VECTORS = json.loads((Path(__file__).parents[3] / "vectors/chunker/fastcdc.json").read_text())
_PARAMETERS = pytest.mark.parametrize("vector", _VECTORS, ids=lambda v: f"{v['chunker']} {json.dumps(v['input'])}")


@_PARAMETERS
def test_cuts_are_the_golden_ones(vector: dict[str, Any]) -> None:
    data = from_input(vector["input"])
    assert hashlib.sha256(data).hexdigest() == vector["data_sha256"]

    assert lengths(parse_chunker(vector["chunker"]), data) == vector["lengths"]


@pytest.mark.long
@_PARAMETERS
def test_golden_cuts_are_those_of_the_reference(vector: dict[str, Any]) -> None:
    chunker = parse_chunker(vector["chunker"])
    assert isinstance(chunker, FastCdcChunker)

    expected = reference_lengths(from_input(vector["input"]), chunker.min_size, chunker.avg_size, chunker.max_size)

    assert vector["lengths"] == expected


def test_cdc_1_parameters_are_frozen() -> None:
    assert parse_chunker("fastcdc") == FastCdcChunker(65536, 262144, 1048576)


def test_the_gear_table_of_the_reference_is_the_frozen_one() -> None:
    assert GEAR_SHA256 == "9df0a720752a7d211fdebaf39bed01610983756fc340a1cfef41052b7356ae73"


def test_default_parameters_cut_as_the_reference() -> None:
    data = chacha20_stream("reference", 700_000)

    found = lengths(FastCdcChunker(), data)

    assert found == reference_lengths(data, 65536, 262144, 1048576)
    assert len(found) > 1


@given(
    seed=st.integers(0, 9999),
    size=st.integers(0, 6000),
    bits=st.sampled_from([0x00, 0x03, 0x55, 0xFF]),
    min_size=st.integers(32, 127).map(lambda half: 2 * half),
    avg_size=st.sampled_from([256, 512, 1024]),
    max_size=st.integers(1025, 3000),
)
def test_any_parameters_cut_as_the_reference(
    seed: int, size: int, bits: int, min_size: int, avg_size: int, max_size: int
) -> None:
    data = bytes(byte & bits for byte in chacha20_stream(str(seed), size))

    found = lengths(FastCdcChunker(min_size, avg_size, max_size), data)

    assert found == reference_lengths(data, min_size, avg_size, max_size)
    assert all(length >= min_size for length in found[:-1])


@given(run=st.integers(1, 300), byte=st.integers(0, 255), repeats=st.integers(1, 20))
def test_structured_input_is_cut_as_by_the_reference(run: int, byte: int, repeats: int) -> None:
    data = (bytes([byte]) * run + bytes(range(256))) * repeats

    assert lengths(FastCdcChunker(64, 256, 1025), data) == reference_lengths(data, 64, 256, 1025)


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ((62, 256, 1024), "minimum 62 is not an even number from 64 on"),
        ((65, 256, 1024), "minimum 65 is not an even number from 64 on"),
        ((64, 128, 1024), "average 128 is not a power of two from 256 on"),
        ((64, 300, 1024), "average 300 is not a power of two from 256 on"),
        ((64, 256, 1023), "maximum 1023 is not in 1024..2096896"),
        ((64, 256, 2096897), "maximum 2096897 is not in 1024..2096896"),
        ((256, 256, 1024), "not minimum < average < maximum: 256, 256, 1024"),
        ((64, 1024, 1024), "not minimum < average < maximum: 64, 1024, 1024"),
    ],
)
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int], problem: str) -> None:
    with pytest.raises(ChunkerError, match=f"^{problem}$"):
        FastCdcChunker(*sizes)


@pytest.mark.parametrize("sizes", [(64, 256, 1024), (1_048_574, 1_048_576, 2_096_896)])
def test_the_extremes_of_what_is_accepted_work(sizes: tuple[int, int, int]) -> None:
    assert sum(lengths(FastCdcChunker(*sizes), bytes(5_000_000))) == 5_000_000
