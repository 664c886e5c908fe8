"""Shape and texts: Kubo's core/commands/ping.go, PingResult; Time is Go's time.Duration, nanoseconds."""

from collections.abc import Awaitable, Callable

import anyio
import pytest
from starlette.types import ASGIApp

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.network.ping import PingError, PingResult
from tests.unit.api.asgi import Response, request
from tests.unit.api.fake_node import OTHER, PEER, FakeConnection, FakeNode

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]
ADDR = Multiaddr.parse("/ip4/10.0.0.1/tcp/4001")


@pytest.fixture
def reachable(node: FakeNode) -> FakeNode:
    node.swarm.reachable = {PEER: FakeConnection(PEER, ADDR)}
    return node


async def test_each_round_trip_is_a_line(call: Post, reachable: FakeNode) -> None:
    reachable.ping.results = [PingResult(rtt=0.001), PingResult(rtt=0.002)]
    response = await call(f"ping?arg={PEER}&count=2")
    assert response.lines == [
        {"Success": True, "Time": 0, "Text": f"PING {PEER}."},
        {"Success": True, "Time": 1_000_000, "Text": ""},
        {"Success": True, "Time": 2_000_000, "Text": ""},
        {"Success": True, "Time": 0, "Text": "Average latency: 1.50ms"},
    ]


async def test_ten_pings_are_sent_unless_told_otherwise(call: Post, reachable: FakeNode) -> None:
    reachable.ping.results = [PingResult(rtt=0.001)]
    assert len((await call(f"ping?arg={PEER}")).lines) == 1 + 10 + 1
    assert len((await call(f"ping?arg={PEER}&n=1")).lines) == 1 + 1 + 1


async def test_a_ping_that_fails_is_a_line_too(call: Post, reachable: FakeNode) -> None:
    reachable.ping.results = [PingResult(error=PingError(PEER, "it ended the stream")), PingResult(rtt=0.004)]
    lines = (await call(f"ping?arg={PEER}&count=2")).lines
    assert lines[1]["Success"] is False
    assert lines[1]["Text"] == f"Ping error: no answer to the ping from '{PEER}': it ended the stream"
    assert lines[-1]["Text"] == "Average latency: 4.00ms", "failures are not in the average"


async def test_no_answer_at_all_is_an_error(call: Post, reachable: FakeNode) -> None:
    reachable.ping.results = [PingResult(error=PingError(PEER, "silence"))]
    last = (await call(f"ping?arg={PEER}&count=2")).lines[-1]
    assert (last["Type"], last["Message"], last["ExitCode"]) == ("error", "ping failed", 1)


async def test_a_peer_may_be_named_by_address(call: Post, reachable: FakeNode) -> None:
    reachable.ping.results = [PingResult(rtt=0.001)]
    await call(f"ping?arg={ADDR}/p2p/{PEER}&count=1")
    assert [peer for peer, _timeout in reachable.swarm.dialled] == [PeerInfo(PEER, (ADDR,))]


async def test_a_peer_out_of_reach_is_an_error_with_a_status(call: Post) -> None:
    response = await call(f"ping?arg={OTHER}")
    assert (response.status, response.json["Message"]) == (500, f"cannot reach '{OTHER}'")


async def test_pinging_ourselves_is_refused(call: Post, node: FakeNode) -> None:
    response = await call(f"ping?arg={node.peer_id}")
    assert (response.status, response.json["Message"]) == (400, "can't ping self")


@pytest.mark.parametrize("count", ["0", "-1", "100000000"])
async def test_the_count_has_bounds(call: Post, reachable: FakeNode, count: str) -> None:
    response = await call(f"ping?arg={PEER}&count={count}")
    assert (response.status, response.json["Code"]) == (400, 1)


async def test_pinging_ends_when_the_client_goes(app: ASGIApp, reachable: FakeNode) -> None:
    reachable.ping.results = [PingResult(rtt=0.001)]
    reachable.ping.before_each = lambda: anyio.sleep(1)
    gone = anyio.Event()
    async with anyio.create_task_group() as tasks:
        response = Response()

        async def go() -> None:
            await request(app, f"/api/v0/ping?arg={PEER}&count=1000", gone=gone, response=response)

        tasks.start_soon(go)
        await anyio.sleep(3.5)
        gone.set()
    assert len(response.lines) == 1 + 3
    assert reachable.ping.ended
