"""The shared cut rule, with a matcher simple enough to see through."""

from itertools import accumulate, pairwise
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects.chunkers import rolling
from ipvcs.objects.chunkers.rolling import find_rolling_ends

_WINDOW = 3


def _marks(data: memoryview) -> bytes:
    """Match where the last three bytes sum to a multiple of five."""
    return bytes(sum(data[i : i + _WINDOW]) % 5 == 0 for i in range(len(data) - _WINDOW + 1))


def _reference_ends(data: bytes, min_size: int, max_size: int) -> list[int]:
    ends = []
    start = 0
    for end in range(1, len(data) + 1):
        length = end - start
        matches = length >= min_size and sum(data[end - _WINDOW : end]) % 5 == 0
        if matches or length == max_size or end == len(data):
            ends.append(end)
            start = end
    return ends


@given(
    data=st.binary(max_size=400),
    min_size=st.integers(_WINDOW, 30),
    spread=st.integers(0, 30),
    block=st.integers(1, 50),
)
def test_cuts_do_not_depend_on_how_many_offsets_are_marked_at_a_time(
    data: bytes, min_size: int, spread: int, block: int
) -> None:
    with mock.patch.object(rolling, "_BLOCK", block):
        ends = list(
            find_rolling_ends(
                memoryview(data),
                len(data),
                min_size=min_size,
                max_size=min_size + spread,
                window=_WINDOW,
                mark_matches=_marks,
            )
        )

    assert ends == _reference_ends(data, min_size, min_size + spread)


@given(data=st.binary(min_size=1, max_size=400), stop=st.integers(0, 400))
def test_no_chunk_starts_at_or_after_the_stop(data: bytes, stop: int) -> None:
    stop = min(stop, len(data))

    ends = list(find_rolling_ends(memoryview(data), stop, min_size=5, max_size=20, window=_WINDOW, mark_matches=_marks))

    starts = [0, *_reference_ends(data, 5, 20)]
    assert ends == [end for start, end in pairwise(starts) if start < stop]


def test_bytes_before_the_first_window_are_never_hashed() -> None:
    seen: list[int] = []

    def count(data: memoryview) -> bytes:
        seen.append(len(data) - _WINDOW + 1)
        return _marks(data)

    data = bytes([1]) * 100_000  # never a match: 3 is no multiple of 5
    ends = list(
        find_rolling_ends(
            memoryview(data), len(data), min_size=9_000, max_size=10_000, window=_WINDOW, mark_matches=count
        )
    )

    assert ends == list(accumulate([10_000] * 10))
    assert sum(seen) < len(data)
