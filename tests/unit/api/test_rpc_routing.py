"""Shapes: go-libp2p's routing.QueryEvent, as Kubo's core/commands/routing.go sends it; `Told` and `Cid` are ours."""

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from ipvcs.api import rpc_routing
from ipvcs.api.app import build_app
from ipvcs.api.node_services import NodeServices
from ipvcs.api.rpc_routing import EventType
from ipvcs.errors import IpvcsError, UnavailableError
from ipvcs.multiformats import multibase
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import InvalidValueError, NoRoutingPeersError, PeerNotFoundError, ValueWatch
from ipvcs.node.routing.value_store import MAX_VALUE
from ipvcs.objects.block import Block
from tests.unit.api.asgi import Response, request
from tests.unit.api.fake_node import OTHER, OUR_KEY, PEER, FakeNode

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]
ADDR = Multiaddr.parse("/ip4/10.0.0.1/tcp/4001")
CIDS = [Block.of(b"%d" % number).cid for number in range(4)]
OWN = OUR_KEY.peer_id


@dataclass
class FakeRouting:
    """Answers with what it is given; `told` is what was published."""

    peers: dict[PeerId, PeerInfo] = field(default_factory=dict)
    providers: list[PeerInfo] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    error: IpvcsError | None = None
    told: list[Any] = field(default_factory=list)
    ended: int = 0

    async def find_peer(self, peer_id: PeerId) -> PeerInfo:
        self._fail()
        if peer_id not in self.peers:
            raise PeerNotFoundError(peer_id, asked=7)
        return self.peers[peer_id]

    async def provide(self, cid: Cid) -> int:
        self._fail()
        self.told.append(cid)
        return 20

    @asynccontextmanager
    async def find_providers(self, cid: Cid) -> AsyncGenerator[AsyncIterator[PeerInfo]]:
        async def iterate() -> AsyncGenerator[PeerInfo]:
            for peer in self.providers:
                yield peer

        answers = iterate()
        try:
            yield answers
        finally:
            self.ended += 1
            with anyio.CancelScope(shield=True):
                await answers.aclose()

    async def set_value(self, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        self._fail()
        self.told.append((key, value))
        return 1

    @asynccontextmanager
    async def search_value(self, key: bytes, *, quorum: int = 0) -> AsyncGenerator[AsyncIterator[bytes]]:
        self.told.append(key)

        async def iterate() -> AsyncGenerator[bytes]:
            for value in self.values:
                yield value

        yield iterate()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class RoutingNode(FakeNode):
    """A node that routes; it has the first two blocks."""

    routing: FakeRouting = field(default_factory=FakeRouting)

    def has_block(self, cid: Cid) -> bool:
        return cid in CIDS[:2]


@pytest.fixture
def node(tmp_path: Path) -> RoutingNode:
    return RoutingNode(tmp_path)


@pytest.fixture
def call(node: RoutingNode) -> Post:
    app = build_app(cast("NodeServices", node), shutdown=node.request_shutdown, commands=rpc_routing.COMMANDS)

    async def post(target: str) -> Response:
        return await request(app, f"/api/v0/routing/{target}")

    return post


def event(kind: int, *responses: dict[str, Any], who: object = "", extra: str = "") -> dict[str, Any]:
    return {"ID": str(who), "Type": kind, "Responses": list(responses), "Extra": extra}


async def test_a_peer_s_addresses_are_a_final_peer(call: Post, node: RoutingNode) -> None:
    node.routing.peers[PEER] = PeerInfo(PEER, (ADDR,))
    for name in (str(PEER), PEER.to_base36()):
        response = await call(f"findpeer?arg={name}")
        assert response.lines == [event(2, {"ID": str(PEER), "Addrs": ["/ip4/10.0.0.1/tcp/4001"]})]
        assert response.headers["x-chunked-output"] == "1"


async def test_a_peer_that_nobody_knows_is_a_negative_answer(call: Post) -> None:
    response = await call(f"findpeer?arg={OTHER}")
    assert response.status == 500
    assert response.json["Message"] == f"cannot find peer '{OTHER}': 7 peers were asked"
    assert response.json["ExitCode"] == 1
    assert "swarm connect" in response.json["Hint"]


async def test_nobody_to_ask_is_a_failure(call: Post, node: RoutingNode) -> None:
    node.routing.error = NoRoutingPeersError()
    response = await call(f"findpeer?arg={OTHER}")
    assert (response.status, response.json["ExitCode"]) == (500, 128)


async def test_providers_are_told_as_they_are_found(call: Post, node: RoutingNode) -> None:
    node.routing.providers = [PeerInfo(PEER, (ADDR,)), PeerInfo(OTHER)]
    response = await call(f"findprovs?arg={CIDS[3]}")
    assert response.lines == [
        event(4, {"ID": str(PEER), "Addrs": ["/ip4/10.0.0.1/tcp/4001"]}),
        event(4, {"ID": str(OTHER), "Addrs": []}),
    ]


async def test_no_providers_are_an_empty_answer(call: Post) -> None:
    response = await call(f"findprovs?arg={CIDS[3]}")
    assert (response.status, response.body) == (200, b"")


@pytest.mark.parametrize(("option", "count"), [("", 20), ("&num-providers=3", 3), ("&n=1", 1), ("&n=100", 30)])
async def test_the_search_ends_when_there_are_enough(call: Post, node: RoutingNode, option: str, count: int) -> None:
    node.routing.providers = [PeerInfo(PeerId.from_public_key(bytes([number + 1]))) for number in range(30)]
    assert len((await call(f"findprovs?arg={CIDS[0]}{option}")).lines) == count
    assert node.routing.ended == 1


async def test_each_block_is_announced_and_told(call: Post, node: RoutingNode) -> None:
    response = await call(f"provide?arg={CIDS[0]}&arg={CIDS[1]}")
    assert node.routing.told == CIDS[:2]
    own = {"ID": str(OWN), "Addrs": [str(addr) for addr in node.swarm.addresses()]}
    assert response.lines == [{**event(4, own), "Cid": str(cid), "Told": 20} for cid in CIDS[:2]]


async def test_a_block_that_is_not_here_is_refused_before_any_is_announced(call: Post, node: RoutingNode) -> None:
    response = await call(f"provide?arg={CIDS[0]}&arg={CIDS[3]}")
    assert response.status == 500
    assert response.json["Message"] == f"block {CIDS[3]} not found locally, cannot provide"
    assert node.routing.told == []


async def test_an_error_after_the_first_block_is_the_last_line(call: Post, node: RoutingNode) -> None:
    told = node.routing.told
    node.routing.told = cast("list[Any]", _Failing(node.routing))
    response = await call(f"provide?arg={CIDS[0]}&arg={CIDS[1]}")
    assert response.status == 200
    assert [line.get("Type") for line in response.lines] == [4, "error"]
    assert told == []


class _Failing(list[Any]):
    """Lets the second announcement fail."""

    def __init__(self, routing: FakeRouting) -> None:
        self._routing = routing

    def append(self, item: Any) -> None:
        self._routing.error = UnavailableError("everybody left")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"/ipns/{PEER}", b"/ipns/" + PEER.raw),
        (f"/ipns/{PEER.to_base36()}", b"/ipns/" + PEER.raw),
        (f"/pk/{OTHER}", b"/pk/" + OTHER.raw),
    ],
)
async def test_the_best_value_is_told_in_base64(call: Post, node: RoutingNode, text: str, key: bytes) -> None:
    node.routing.values = [b"old", b"\x00best\xff"]
    response = await call(f"get?arg={text}")
    assert response.lines == [event(5, extra=base64.b64encode(b"\x00best\xff").decode())]
    assert node.routing.told == [key]


async def test_no_value_is_a_negative_answer(call: Post) -> None:
    response = await call(f"get?arg=/ipns/{PEER}")
    assert (response.status, response.json["ExitCode"]) == (500, 1)


@pytest.mark.parametrize("base", ["base64url", "base16", "base58btc"])
async def test_a_value_is_stored(call: Post, node: RoutingNode, base: str) -> None:
    response = await call(f"put?arg=/ipns/{PEER}&value={multibase.encode(bytes(range(200)), base)}")
    assert response.lines == [{**event(5, who=OWN), "Told": 1}]
    assert node.routing.told == [(b"/ipns/" + PEER.raw, bytes(range(200)))]


async def test_the_largest_value_fits_the_query(call: Post, node: RoutingNode) -> None:
    value = b"\xff" * MAX_VALUE
    response = await call(f"put?arg=/ipns/{PEER.to_base36()}&value={multibase.encode(value, 'base64url')}")
    assert response.status == 200
    assert node.routing.told == [(b"/ipns/" + PEER.raw, value)]


async def test_a_value_that_the_rules_refuse_is_an_error(call: Post, node: RoutingNode) -> None:
    node.routing.error = InvalidValueError("no record")
    response = await call(f"put?arg=/ipns/{PEER}&value=uAA")
    assert (response.status, response.json["Message"], response.json["ExitCode"]) == (500, "no record", 128)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("findpeer", 400),
        ("findpeer?arg=nonsense", 400),
        ("findprovs?arg=nonsense", 400),
        (f"findprovs?arg={CIDS[0]}&n=0", 400),
        (f"findprovs?arg={CIDS[0]}&n=10001", 400),
        ("provide", 400),
        (f"provide?arg={CIDS[0]}&recursive=true", 400),
        ("provide?" + "&".join(f"arg={CIDS[0]}" for _ in range(65)), 400),
        ("get?arg=nonsense", 400),
        ("get?arg=/ipns/", 400),
        (f"get?arg=/v/{PEER}", 400),
        (f"get?arg=ipns/{PEER}", 400),
        (f"get?arg=/ipns/{PEER}/path", 400),
        ("get?arg=/ipns/example.com", 400),
        (f"put?arg=/ipns/{PEER}", 400),
        (f"put?arg=/ipns/{PEER}&value=%3F", 500),
        (f"put?arg=/ipns/{PEER}&value=u{'A' * 14000}", 400),
    ],
)
async def test_what_makes_no_sense_is_refused_and_nobody_is_asked(
    call: Post, node: RoutingNode, target: str, status: int
) -> None:
    response = await call(target)
    assert (response.status, response.json["Type"]) == (status, "error")
    assert node.routing.told == []


def test_the_numbers_of_events_are_go_libp2p_s() -> None:
    assert [kind.name for kind in EventType] == [
        "SENDING_QUERY", "PEER_RESPONSE", "FINAL_PEER", "QUERY_ERROR", "PROVIDER", "VALUE", "ADDING_PEER",
        "DIALING_PEER",
    ]  # fmt: skip
    assert [int(kind) for kind in EventType] == list(range(8))
