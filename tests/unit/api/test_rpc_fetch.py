"""`fetch`: what of a request reaches the node, and how it tells how far it is."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp

from ipvcs.api.app import build_app
from ipvcs.api.command import MAX_DEADLINE
from ipvcs.api.endpoint import MAX_LINES
from ipvcs.api.rpc_fetch import COMMANDS, MAX_ROOTS
from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.fetch import NO_LIMITS, STALL_TIMEOUT, DagTooLargeError, FetchLimits, FetchProgress, OnProgress
from ipvcs.node.exchange.interface import BlockUnavailableError, SessionStat
from tests.unit.api.asgi import Response, request
from tests.unit.api.fake_node import FakeNode

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]
A, B = (Cid.of(sha256(text).digest()) for text in (b"a", b"b"))
NOBODY_HAS = BlockUnavailableError(A, 3.0, SessionStat(0, 0, 0, 2, 5, 1))
HALF = FetchProgress(1, 100, 7, 12, 2)
WHOLE = FetchProgress(5, 500, 7, 12, 1)


@dataclass
class FetchingNode(FakeNode):
    """Tells `progress`, then raises `error` or returns `WHOLE`."""

    progress: list[FetchProgress] = field(default_factory=list)
    error: IpvcsError | None = None
    asked: list[tuple[Sequence[Cid], dict[str, Any]]] = field(default_factory=list)
    before_end: Callable[[], Awaitable[None]] | None = None
    cancelled: bool = False

    async def fetch(
        self,
        roots: Sequence[Cid],
        *,
        recursive: bool,
        timeout: float,
        limits: FetchLimits,
        on_progress: OnProgress,
    ) -> FetchProgress:
        self.asked.append((roots, {"recursive": recursive, "timeout": timeout, "limits": limits}))
        for each in self.progress:
            await on_progress(each)
        try:
            if self.before_end is not None:
                await self.before_end()
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise
        if self.error is not None:
            raise self.error
        return WHOLE


@pytest.fixture
def node(tmp_path: Path) -> FetchingNode:
    return FetchingNode(tmp_path)


@pytest.fixture
def app(node: FetchingNode) -> ASGIApp:
    return build_app(node, shutdown=node.request_shutdown, commands=COMMANDS)


def line(blocks: int, size: int, local: int, known: int, peers: int) -> dict[str, Any]:
    return {"Blocks": blocks, "Bytes": size, "Local": local, "Known": known, "Peers": peers}


async def test_progress_is_a_line_each_and_the_last_one_says_that_it_is_done(call: Post, node: FetchingNode) -> None:
    node.progress = [HALF]
    response = await call(f"fetch?arg={A}")
    assert response.status == 200
    assert response.lines == [line(1, 100, 7, 12, 2), {**line(5, 500, 7, 12, 1), "Done": True}]


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {"recursive": True, "timeout": STALL_TIMEOUT, "limits": NO_LIMITS}),
        ("&recursive=false", {"recursive": False, "timeout": STALL_TIMEOUT, "limits": NO_LIMITS}),
        ("&r=false&stall=2500ms", {"recursive": False, "timeout": 2.5, "limits": NO_LIMITS}),
        ("&max-bytes=1000", {"recursive": True, "timeout": STALL_TIMEOUT, "limits": FetchLimits(bytes=1000)}),
        ("&stall=1h", {"recursive": True, "timeout": 3600.0, "limits": NO_LIMITS}),
        ("&timeout=5s", {"recursive": True, "timeout": STALL_TIMEOUT, "limits": NO_LIMITS}),
    ],
)
async def test_roots_and_options_reach_the_node(
    call: Post, node: FetchingNode, query: str, options: dict[str, Any]
) -> None:
    await call(f"fetch?arg={A}&arg={B}{query}")
    assert node.asked == [([A, B], options)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "argument 'cid' is required"),
        ("arg=nonsense", "invalid CID 'nonsense'"),
        (f"arg={A}&arg=", "invalid CID ''"),
        (f"arg={A}&recursive=maybe", "option 'recursive' is 'true' or 'false'"),
        (f"arg={A}&stall=3", "invalid duration '3'"),
    ],
)
async def test_what_is_no_request_reaches_nobody(call: Post, node: FetchingNode, query: str, said: str) -> None:
    response = await call(f"fetch?{query}")
    assert response.status >= 400
    assert said in response.json["Message"]
    assert node.asked == []


async def test_what_is_beyond_the_limits_is_said_in_a_last_line(call: Post, node: FetchingNode) -> None:
    node.error = DagTooLargeError(A)
    node.progress = [HALF]
    response = await call(f"fetch?arg={A}&max-links=10")
    assert response.status == 200
    assert response.lines[-1] == {"TooLarge": True}
    assert node.asked[0][1]["limits"] == FetchLimits(links=10)


async def test_as_many_roots_as_there_may_be_fit_into_a_request(call: Post, node: FetchingNode) -> None:
    long = Cid.parse(
        "bafkrgqhhyivzstcz3hhswshfjgy6ertgmnqeleynhwt4dlfsthi4hn7zgh4uvlsb5xncykzapi3ocd4lzogukir6ksdy6wzrnz6ohnv4aglcs"
    )
    response = await call("fetch?" + "&".join([f"arg={long}"] * 100))
    assert (response.status, len(node.asked[0][0])) == (200, 100)


async def test_further_roots_are_lines_of_the_body(app: ASGIApp, node: FetchingNode) -> None:
    lines = f"{B}\n".encode() * (MAX_ROOTS - 1)
    response = await request(app, f"/api/v0/fetch?arg={A}", body=(lines[:1000], lines[1000:]))
    assert response.status == 200
    assert node.asked[0][0] == [A] + [B] * (MAX_ROOTS - 1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (f"{B}\n".encode() * MAX_ROOTS, f"{MAX_ROOTS + 1} arguments given"),
        (b"nonsense", "invalid CID 'nonsense'"),
        (b"\xff", "not lines of text"),
        (b"x" * (MAX_LINES + 1), f"over {MAX_LINES} bytes"),
    ],
)
async def test_a_body_that_is_no_list_of_roots_reaches_nobody(
    app: ASGIApp, node: FetchingNode, body: bytes, said: str
) -> None:
    response = await request(app, f"/api/v0/fetch?arg={A}", body=(body,))
    assert response.status >= 400
    assert said in response.json["Message"]
    assert node.asked == []


async def test_an_error_before_anything_came_has_a_status_and_a_hint(call: Post, node: FetchingNode) -> None:
    node.error = NOBODY_HAS
    response = await call(f"fetch?arg={A}")
    assert response.status == 500
    assert response.json["Message"] == str(NOBODY_HAS)
    assert response.json["Type"] == "error"
    assert "`ipvcs swarm connect <address>`" in response.json["Hint"]


async def test_an_error_later_is_the_last_line(call: Post, node: FetchingNode) -> None:
    node.progress, node.error = [HALF], NOBODY_HAS
    response = await call(f"fetch?arg={A}")
    assert response.status == 200
    first, last = response.lines
    assert first == line(1, 100, 7, 12, 2)
    assert (last["Type"], last["Message"]) == ("error", str(NOBODY_HAS))
    assert "Done" not in last


async def test_a_fetch_ends_when_nobody_waits_for_it(app: ASGIApp, node: FetchingNode) -> None:
    gone = anyio.Event()

    async def leave() -> None:
        gone.set()
        await anyio.sleep_forever()

    node.before_end = leave
    with anyio.fail_after(5):
        await request(app, f"/api/v0/fetch?arg={A}", gone=gone)
    assert node.cancelled


@pytest.mark.parametrize(("query", "seconds"), [("", MAX_DEADLINE), ("&timeout=90s", 90.0)])
async def test_a_fetch_that_goes_on_is_not_cut_short_but_as_long_as_its_client_says(
    call: Post, node: FetchingNode, query: str, seconds: float
) -> None:
    node.before_end = anyio.sleep_forever
    began = anyio.current_time()
    response = await call(f"fetch?arg={A}{query}")
    assert anyio.current_time() - began == pytest.approx(seconds)
    assert "request timed out" in response.json["Message"]
    assert node.cancelled
