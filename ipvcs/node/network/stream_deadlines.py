"""Streams that have so much time for something: to say what they are for, or to end after we have closed them.

All streams of one `StreamDeadlines` have the same time, so the oldest is due first, and one timer does for all.
"""

import asyncio
from collections.abc import Callable
from itertools import takewhile

from ipvcs.node.network.muxer import StreamKey


class StreamDeadlines:
    """Streams and when their time is over, oldest first. Bounding their number is the owner's."""

    __slots__ = ("_due", "_loop", "_on_over", "_seconds", "_timer")

    def __init__(self, seconds: float, on_over: Callable[[list[StreamKey]], None]) -> None:
        """Give each stream `seconds`; `on_over` gets those whose time is over, which are forgotten by then."""
        self._seconds = seconds
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._due: dict[StreamKey, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, key: StreamKey) -> None:
        """The time of `key` begins."""
        self._due[key] = due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._sweep)

    def discard(self, key: StreamKey) -> None:
        """`key` has done what it had to, or is gone. The timer stays: it finds out what is due when it comes."""
        self._due.pop(key, None)

    def pop_oldest(self) -> StreamKey:
        """Forget the stream that is due first and return it."""
        oldest = next(iter(self._due))
        del self._due[oldest]
        return oldest

    def clear(self) -> None:
        """Forget all of them."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        over = list(takewhile(lambda key: self._due[key] <= now, self._due))
        for key in over:
            del self._due[key]
        if self._due:
            self._timer = self._loop.call_at(next(iter(self._due.values())), self._sweep)
        if over:
            self._on_over(over)
