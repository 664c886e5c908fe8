"""Shapes: Kubo's core/commands/bitswap.go (KeyList, bitswap.Stat) and boxo's server.Receipt."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from ipvcs.api.app import build_app
from ipvcs.api.node_services import Bitswap
from ipvcs.api.rpc_bitswap import COMMANDS
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.ledger import Ledger
from ipvcs.node.exchange.stat import BitswapStat
from tests.unit.api.asgi import Response
from tests.unit.api.fake_node import OTHER, PEER, FakeNode

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]
V1 = Cid.of(sha256(b"1").digest())
V0 = Cid(Cid.of(sha256(b"0").digest()).multihash)


class FakeBitswap:
    """Knows `PEER`, which wants `V0`; we want `V1` and `V0`."""

    def __init__(self) -> None:
        self.counts = BitswapStat()

    def ledger(self, peer_id: PeerId) -> Ledger:
        return Ledger(300, 99, 7, 1.0) if peer_id == PEER else Ledger()

    def wantlist(self, peer_id: PeerId | None = None) -> Sequence[Cid]:
        return {None: [V1, V0], PEER: [V0]}.get(peer_id, [])

    def stat(self) -> BitswapStat:
        return self.counts


@dataclass
class BitswapNode(FakeNode):
    bitswap: FakeBitswap = field(default_factory=FakeBitswap)


@pytest.fixture
def node(tmp_path: Path) -> BitswapNode:
    return BitswapNode(tmp_path)


@pytest.fixture
def app(node: BitswapNode) -> ASGIApp:
    _checked: Bitswap = node.bitswap
    return build_app(node, shutdown=node.request_shutdown, commands=COMMANDS)


async def test_a_ledger_is_kubos_receipt(call: Post) -> None:
    assert (await call(f"bitswap/ledger?arg={PEER}")).json == {
        "Peer": str(PEER), "Value": 3.0, "Sent": 300, "Recv": 99, "Exchanged": 7,
    }  # fmt: skip


async def test_the_ledger_of_a_stranger_is_empty_and_its_name_is_written_the_usual_way(call: Post) -> None:
    assert (await call(f"bitswap/ledger?arg={OTHER.to_base36()}")).json == {
        "Peer": str(OTHER), "Value": 0.0, "Sent": 0, "Recv": 0, "Exchanged": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "query", ["bitswap/ledger", "bitswap/ledger?arg=nonsense", f"bitswap/ledger?arg={PEER}&arg={PEER}"]
)
async def test_a_ledger_is_of_one_peer(call: Post, query: str) -> None:
    assert (await call(query)).status >= 400


async def test_the_wantlist_is_ours_unless_a_peer_is_named(call: Post, node: BitswapNode) -> None:
    ours = {"Keys": [{"/": str(V1)}, {"/": str(V0)}]}
    assert (await call("bitswap/wantlist")).json == ours
    assert (await call(f"bitswap/wantlist?peer={node.peer_id}")).json == ours
    assert (await call(f"bitswap/wantlist?peer={PEER}")).json == {"Keys": [{"/": str(V0)}]}
    assert (await call(f"bitswap/wantlist?p={PEER.to_base36()}")).json == {"Keys": [{"/": str(V0)}]}
    assert (await call(f"bitswap/wantlist?peer={OTHER}")).json == {"Keys": []}


async def test_the_wantlist_of_nobody_is_an_error(call: Post) -> None:
    response = await call("bitswap/wantlist?peer=nonsense")
    assert "invalid peer id 'nonsense'" in response.json["Message"]


async def test_counts_have_kubos_names(call: Post, node: BitswapNode) -> None:
    node.bitswap.counts = BitswapStat([V1], [PEER, OTHER], 1, 2, 3, 4, 5, 6, 7)
    assert (await call("bitswap/stat")).json == {
        "ProvideBufLen": 0,
        "Wantlist": [{"/": str(V1)}],
        "Peers": sorted([str(PEER), str(OTHER)]),
        "BlocksReceived": 1,
        "DataReceived": 2,
        "DupBlksReceived": 3,
        "DupDataReceived": 4,
        "MessagesReceived": 5,
        "BlocksSent": 6,
        "DataSent": 7,
    }


async def test_a_node_that_did_nothing_says_so(call: Post) -> None:
    answer = (await call("bitswap/stat")).json
    assert (answer["Wantlist"], answer["Peers"]) == ([], [])
    assert not any(value for value in answer.values())
