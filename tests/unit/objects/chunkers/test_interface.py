"""What every chunker promises, whichever it is."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.chunkers.interface import Chunker
from ipvcs.objects.chunkers.registry import parse_chunker
from tests.streams import chacha20_stream, text_repeat, zeros
from tests.unit.objects.chunkers.readers import PortionedReader, cut, lengths

_BOUNDS = {
    "size-1": (1, 1),
    "size-1000": (1000, 1000),
    "size-2096896": (2096896, 2096896),
    "default": (262144, 262144),
    "rabin-16-17-18": (16, 18),
    "rabin-36-512-1024": (36, 1024),
    "rabin-262144-524288-1048576": (262144, 1048576),
    "rabin": (87381, 393216),
    "buzhash": (131072, 524288),
    "fastcdc-64-256-1024": (64, 1024),
    "fastcdc-16384-65536-2096896": (16384, 2096896),
    "fastcdc": (65536, 1048576),
}
_SMALL = ("size-1", "size-7", "rabin-16-17-18", "rabin-20-64-100", "fastcdc-64-256-1024")
_LARGE = ("size-1000000", "rabin", "rabin-36-512-1024", "buzhash", "fastcdc", "fastcdc-64-256-1024")

_DATA = {
    "random": chacha20_stream("interface", 3_200_001),
    "zeros": zeros(2_500_000),
    "periodic": text_repeat("abcdefghij", 220_000),
}


def _small_data() -> st.SearchStrategy[bytes]:
    """A few kilobytes: noise, little noise that matches often, and runs."""
    noise = st.builds(lambda seed, size: chacha20_stream(str(seed), size), st.integers(0, 999), st.integers(0, 5000))
    sparse = noise.map(lambda data: bytes(byte & 1 for byte in data))
    runs = st.lists(st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(0, 700)))
    return st.one_of(noise, sparse, runs.map(b"".join), st.binary(max_size=300))


@pytest.mark.parametrize("spec", _BOUNDS)
@pytest.mark.parametrize("kind", _DATA)
def test_chunks_join_to_the_input_and_keep_their_bounds(spec: str, kind: str) -> None:
    data = _DATA[kind][: 400_000 if spec in ("size-1", "rabin-16-17-18") else None]
    chunker = parse_chunker(spec)
    least, most = _BOUNDS[spec]

    chunks = cut(chunker, data)

    assert b"".join(chunks) == data
    assert chunker.max_size == most
    assert all(least <= len(chunk) <= most for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= most
    assert {type(chunk) for chunk in chunks} == {bytes}


@given(spec=st.sampled_from(_SMALL), data=_small_data())
def test_small_inputs_join_to_the_input(spec: str, data: bytes) -> None:
    chunker = parse_chunker(spec)

    chunks = cut(chunker, data)

    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= chunker.max_size for chunk in chunks)


@pytest.mark.parametrize("spec", _BOUNDS)
def test_empty_input_has_no_chunks(spec: str) -> None:
    assert list(parse_chunker(spec).chunks(PortionedReader(b"", [1]))) == []


@given(spec=st.sampled_from(_SMALL), data=_small_data(), portions=st.lists(st.integers(1, 2000), min_size=1))
def test_portions_of_a_small_input_move_no_cut(spec: str, data: bytes, portions: list[int]) -> None:
    chunker = parse_chunker(spec)

    assert list(chunker.chunks(PortionedReader(data, portions))) == cut(chunker, data)


@pytest.mark.parametrize("spec", _LARGE)
@pytest.mark.parametrize("portions", [[65536], [262144, 1], [999_983], [3, 50_000, 700_001]], ids=str)
def test_portions_of_a_large_input_move_no_cut(spec: str, portions: list[int]) -> None:
    chunker = parse_chunker(spec)
    data = _DATA["random"]

    chunks = list(chunker.chunks(PortionedReader(data, portions)))

    assert [len(chunk) for chunk in chunks] == lengths(chunker, data)
    assert b"".join(chunks) == data


@pytest.mark.parametrize("spec", _LARGE)
def test_cuts_of_a_long_input_continue_those_of_its_beginning(spec: str) -> None:
    # The beginning fits in a buffer that is never refilled, the whole does not.
    chunker = parse_chunker(spec)
    whole = list(accumulate(lengths(chunker, _DATA["random"])))
    beginning = list(accumulate(lengths(chunker, _DATA["random"][:1_040_000])))

    assert beginning[:-1] == whole[: len(beginning) - 1]


@pytest.mark.parametrize("spec", _LARGE)
def test_a_chunk_does_not_depend_on_what_precedes_it(spec: str) -> None:
    chunker = parse_chunker(spec)
    first, *rest = lengths(chunker, _DATA["random"])

    assert lengths(chunker, _DATA["random"][first:]) == rest


@pytest.mark.parametrize("spec", _LARGE)
def test_the_first_chunk_comes_before_much_is_read(spec: str) -> None:
    chunker = parse_chunker(spec)
    taken = 0

    def endless(size: int) -> bytes:
        nonlocal taken
        taken += size
        return chacha20_stream("endless", size)

    assert next(iter(chunker.chunks(endless)))
    assert taken <= max(1024 * 1024, 3 * chunker.max_size)


@pytest.mark.parametrize("spec", _LARGE)
def test_two_inputs_can_be_cut_at_the_same_time(spec: str) -> None:
    chunker = parse_chunker(spec)
    first, second = _DATA["random"], _DATA["random"][::-1]

    pairs = zip(
        chunker.chunks(PortionedReader(first, [70_000])),
        chunker.chunks(PortionedReader(second, [70_000])),
        strict=False,
    )
    mixed = [(len(one), len(other)) for one, other in pairs]

    assert mixed == list(zip(lengths(chunker, first), lengths(chunker, second), strict=False))


@pytest.mark.parametrize("spec", ["rabin-4096-8192-16384", "buzhash", "fastcdc-2048-8192-65536", "fastcdc"])
@pytest.mark.parametrize("inserted", [b"x", b"a longer insertion, of no particular length"], ids=len)
def test_an_insertion_moves_only_the_cuts_near_it(spec: str, inserted: bytes) -> None:
    data = chacha20_stream("insertion", 8_000_000)
    at = 1_500_000
    chunker: Chunker = parse_chunker(spec)

    before = cut(chunker, data)
    after = cut(chunker, data[:at] + inserted + data[at:])

    unchanged_before = sum(end <= at - chunker.max_size for end in accumulate(map(len, before)))
    assert after[:unchanged_before] == before[:unchanged_before]
    new = set(after) - set(before)
    assert 1 <= len(new) <= 8
    assert after[-len(before) // 2 :] == before[-len(before) // 2 :]
