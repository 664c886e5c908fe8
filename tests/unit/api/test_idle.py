"""When a daemon has been idle for long enough."""

from typing import Any

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send
from trio.testing import MockClock

from ipvcs.api.idle import ClientCount


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Slow:
    """An application whose requests take as many seconds as their path says."""

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        await anyio.sleep(float(scope["path"]))
        if scope.get("fails"):
            raise ValueError


async def receive() -> Message:
    return {}


async def send(_message: Message) -> None:
    pass


async def run(requests: list[tuple[float, float]], patience: float, stays: list[bool] | None = None) -> float:
    """Return when a daemon ends that is asked at the instants, for the durations, of `requests`."""
    count = ClientCount(Slow())
    began = anyio.current_time()

    async def ask(when: float, duration: float) -> None:
        await anyio.sleep(when)
        await count({"type": "http", "path": duration}, receive, send)

    async with anyio.create_task_group() as tasks:
        for when, duration in requests:
            tasks.start_soon(ask, when, duration)
        answers = iter(stays or [])
        await count.wait_idle(patience, lambda: next(answers, False))
        end = anyio.current_time()
        tasks.cancel_scope.cancel()
    return end - began


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("requests", "end"),
    [
        ([], 100),
        ([(10, 5)], 115),
        ([(10, 500)], 610),  # under way all the time: a stream that is followed
        ([(10, 5), (12, 300), (90, 1)], 412),
        ([(99.9, 0)], 199.9),
    ],
)
async def test_the_last_answer_starts_the_time(requests: list[tuple[float, float]], end: float) -> None:
    assert await run(requests, 100) == pytest.approx(end)


@pytest.mark.anyio
async def test_a_reason_to_stay_is_asked_for_each_time() -> None:
    assert await run([], 100, [True, True, False]) == pytest.approx(300)


@pytest.mark.anyio
async def test_a_request_that_fails_is_over_and_lifespan_is_no_client() -> None:
    count = ClientCount(Slow())
    began = anyio.current_time()
    with pytest.raises(ValueError):
        await count({"type": "http", "path": 1, "fails": True}, receive, send)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count, {"type": "lifespan", "path": 1e6}, receive, send)
        await count.wait_idle(100, lambda: False)
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - began == pytest.approx(101)
