"""An ordered map: order, laziness, errors and the end of threads."""

import hashlib
import threading
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.parallel_hash import map_chunks

KIB = 1024
MIB = 1024 * KIB
LARGE = 512 * KIB


def digest(chunk: bytes) -> bytes:
    return hashlib.sha256(chunk).digest()


def numbered(count: int, size: int) -> list[bytes]:
    return [number.to_bytes(4, "big") + bytes(size - 4) for number in range(count)]


@given(sizes=st.lists(st.sampled_from([0, 5, KIB, 63 * KIB, 65 * KIB, LARGE, MIB]), max_size=24), start=st.booleans())
def test_results_come_in_the_order_of_the_chunks(sizes: list[int], start: bool) -> None:
    whole = bytes(MIB)
    # A start of 2 MiB brings the rest into the threads.
    chunks = [whole, whole] * start + [whole[:size] for size in sizes]
    assert list(map_chunks(len, chunks)) == [len(chunk) for chunk in chunks]


def test_many_tiny_chunks_after_large_ones_keep_their_order() -> None:
    chunks = numbered(12, LARGE) + numbered(5000, 8) + numbered(4, LARGE)
    assert list(map_chunks(digest, chunks)) == [digest(chunk) for chunk in chunks]


def test_a_small_input_never_meets_a_thread() -> None:
    threads = {thread for _, thread in map_chunks(lambda chunk: (chunk, threading.get_ident()), numbered(3, LARGE))}
    assert threads == {threading.get_ident()}


def test_large_chunks_are_hashed_in_other_threads_and_small_ones_are_not() -> None:
    def where(chunk: bytes) -> tuple[int, bool]:
        return len(chunk), threading.get_ident() == threading.main_thread().ident

    large = list(map_chunks(where, numbered(16, LARGE)))
    assert not any(in_caller for _, in_caller in large[-8:])
    small = list(map_chunks(where, numbered(600, 16 * KIB)))
    assert all(in_caller for _, in_caller in small)


def test_no_more_than_a_window_is_drawn_ahead() -> None:
    drawn = 0

    def source() -> Iterator[bytes]:
        nonlocal drawn
        for chunk in numbered(100, LARGE):
            drawn += 1
            yield chunk

    results = map_chunks(digest, source())
    list(islice(results, 10))
    assert drawn <= 10 + 2 * 9 + 1
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("bad", [0, 20])
def test_what_the_function_raises_comes_out_and_no_thread_stays(bad: int) -> None:
    def fail(chunk: bytes) -> bytes:
        if chunk[:4] == bad.to_bytes(4, "big"):
            raise ValueError("bad chunk")
        return chunk[:4]

    before = threading.active_count()
    seen: list[bytes] = []
    with pytest.raises(ValueError, match="bad chunk"):
        seen.extend(map_chunks(fail, numbered(30, LARGE)))
    assert threading.active_count() == before


def test_an_abandoned_map_leaves_no_thread() -> None:
    before = threading.active_count()
    results = map_chunks(digest, numbered(30, LARGE))
    list(islice(results, 12))
    assert threading.active_count() > before
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
