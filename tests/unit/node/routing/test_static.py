"""Routing by a fixed list."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from ipvcs.errors import DecodeError, UsageError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import PeerNotFoundError
from ipvcs.node.routing.static import EVERYTHING, StaticRouting
from tests.contracts.routing import CIDS, RoutingContract, RoutingWorld, providers

pytestmark = pytest.mark.anyio

ALICE, BOB, CAROL = (PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([number]) * 32) for number in (1, 2, 3))
A, B = (Multiaddr.parse(f"/ip4/10.0.0.{number}/tcp/4001") for number in (1, 2))


class TestStaticRouting(RoutingContract):
    provides = False
    takes_values = False

    @asynccontextmanager
    async def open(
        self, *, provided: Sequence[Cid] = (), values: Mapping[bytes, bytes] | None = None
    ) -> AsyncGenerator[RoutingWorld]:
        other = PeerInfo(BOB, (B,))
        router = StaticRouting([other], {cid: [other] for cid in provided})
        yield RoutingWorld(router, ALICE, other, router)


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


async def test_settings_name_peers_providers_and_holders_of_everything() -> None:
    router = StaticRouting.parse(
        [f"{A}/p2p/{ALICE}", f"{B}/p2p/{ALICE}"],
        {str(CIDS[0]): [f"{B}/p2p/{BOB}", f"/p2p/{ALICE}"], EVERYTHING: [f"/p2p/{CAROL}", f"{B}/p2p/{BOB}"]},
    )
    assert await router.find_peer(ALICE) == PeerInfo(ALICE, (A, B))
    assert await router.find_peer(BOB) == PeerInfo(BOB, (B,)), "who provides is at that address for all who ask"
    assert await providers(router, CIDS[0]) == [PeerInfo(BOB, (B,)), PeerInfo(ALICE, (A, B)), PeerInfo(CAROL)]
    assert await providers(router, CIDS[1]) == [PeerInfo(CAROL), PeerInfo(BOB, (B,))]
    with pytest.raises(PeerNotFoundError):  # named, but nowhere
        await router.find_peer(CAROL)


@pytest.mark.parametrize(
    ("peers", "held", "error"),
    [
        (["nonsense"], {}, UsageError),
        (["/ip4/10.0.0.1/tcp/1"], {}, UsageError),
        ([f"/ip4/10.0.0.1/tcp/1/p2p/{ALICE}/p2p-circuit"], {}, UsageError),
        ([], {"nonsense": []}, DecodeError),
        ([], {EVERYTHING: ["/ip4/10.0.0.1/tcp/1"]}, UsageError),
    ],
)
def test_settings_that_make_no_sense_are_errors(
    peers: list[str], held: dict[str, list[str]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        StaticRouting.parse(peers, held)
