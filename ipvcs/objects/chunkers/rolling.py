"""The cut rule that rabin and buzhash share: cut where the hash of the last few bytes looks right.

A chunk ends at the first offset, at least `min_size` from its start, where the hash of the `window` bytes before it
has all bits of a mask zero; at the latest after `max_size` bytes. Whether an offset matches depends on those `window`
bytes alone, not on the chunk they are in, so a matcher looks at thousands of offsets at once (numpy) and leaves a
mark for each: a byte 1 or 0. The first mark in a range is then found by `bytes.find`, that is by memchr: no Python
runs per byte and little runs per chunk, and input in which every offset matches is as quick as any.
"""

from collections.abc import Callable, Iterator

MarkMatches = Callable[[memoryview], bytes]
"""Given n bytes, n >= window: n - window + 1 marks, for the offsets `window`..n in order."""

# Offsets marked at a time. The arrays in between (4 to 8 bytes an offset) stay in a core's L2 cache, numpy's cost per
# call is spread thin, and at a cut half a block of marks is thrown away, which is little beside a usual chunk.
_BLOCK = 32 * 1024


def find_rolling_ends(
    buffer: memoryview, stop: int, *, min_size: int, max_size: int, window: int, mark_matches: MarkMatches
) -> Iterator[int]:
    """Yield the end of each chunk of `buffer` that starts before `stop`; see `buffering.FindEnds`.

    The first `min_size - window` bytes of a chunk are never looked at. Wants `window <= min_size <= max_size`.
    """
    size = len(buffer)
    marks = b""
    marked_from = marked_to = 0  # marks[i] is about offset marked_from + i; marked_to is the first offset without one
    start = 0
    while start < stop:
        cut = start + max_size  # at the latest
        if cut > size:
            cut = size
        offset = start + min_size  # the next one that may be cut at
        while offset < cut:
            if offset >= marked_to:
                marked_from, marked_to = offset, min(offset + _BLOCK, size)
                marks = mark_matches(buffer[marked_from - window : marked_to - 1])
            found = marks.find(b"\1", offset - marked_from, cut - marked_from)
            if found >= 0:
                cut = marked_from + found
                break
            offset = marked_to
        yield cut
        start = cut
