"""Deadlines of streams: each is told of once, when its time is over, and by one timer."""

import asyncio
from collections.abc import Iterator

import pytest

from ipvcs.node.network.muxer import StreamKey
from ipvcs.node.network.stream_deadlines import StreamDeadlines


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock is moved by hand."""

    now = 100.0
    timers = 0

    def time(self) -> float:
        return self.now

    def call_at(self, *args: object, **kwargs: object) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(*args, **kwargs)  # type: ignore[arg-type]

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, and what is due happen."""
        self.now += seconds
        self.call_soon(self.stop)
        self.run_forever()
        self.call_soon(self.stop)
        self.run_forever()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def make(loop: Loop, seconds: float) -> tuple[StreamDeadlines, list[list[StreamKey]]]:
    told: list[list[StreamKey]] = []

    async def build() -> StreamDeadlines:
        return StreamDeadlines(seconds, told.append)

    return loop.run_until_complete(build()), told


def test_streams_are_told_of_when_their_time_is_over_the_oldest_first(loop: Loop) -> None:
    deadlines, told = make(loop, 10)
    deadlines.add("a")
    deadlines.add("b")
    loop.advance(4)
    deadlines.add("c")
    loop.advance(5)
    assert told == []
    loop.advance(1)
    assert told == [["a", "b"]]
    assert len(deadlines) == 1
    loop.advance(4)
    assert told == [["a", "b"], ["c"]]
    loop.advance(100)
    assert len(told) == 2


def test_a_stream_that_did_what_it_had_to_is_not_told_of(loop: Loop) -> None:
    deadlines, told = make(loop, 10)
    for key in ("a", "b", "c"):
        deadlines.add(key)
    deadlines.discard("a")
    assert deadlines.pop_oldest() == "b"
    loop.advance(10)
    assert told == [["c"]]
    deadlines.discard("c")


def test_a_thousand_streams_need_one_timer(loop: Loop) -> None:
    deadlines, told = make(loop, 10)
    before = loop.timers
    for key in range(1000):
        deadlines.add(key)
        deadlines.discard(key)
    assert loop.timers == before + 1
    loop.advance(10)
    assert told == []
    deadlines.add("later")
    loop.advance(10)
    assert told == [["later"]]


def test_after_clear_nothing_is_told(loop: Loop) -> None:
    deadlines, told = make(loop, 10)
    deadlines.add("a")
    deadlines.clear()
    loop.advance(20)
    assert told == []
    assert len(deadlines) == 0
