"""Routing with nobody to ask."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import InvalidValueError, NoRoutingPeersError
from ipvcs.node.routing.offline import OfflineRouting
from ipvcs.node.routing.provider_store import MAX_AGE, ProviderStore
from ipvcs.node.routing.value_store import ValueStore
from tests.contracts.routing import CIDS, KEY, VALIDATOR, RoutingContract, RoutingWorld, providers, values_under

pytestmark = pytest.mark.anyio

ALICE, BOB = (PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([number]) * 32) for number in (1, 2))
B = Multiaddr.parse("/ip4/10.0.0.2/tcp/4001")
NOW = 1_800_000_000.0


class TestOfflineRouting(RoutingContract):
    finds_peers = False
    tells_others = False
    takes_values = False

    @asynccontextmanager
    async def open(
        self, *, provided: Sequence[Cid] = (), values: Mapping[bytes, bytes] | None = None
    ) -> AsyncGenerator[RoutingWorld]:
        other = PeerInfo(BOB, (B,))
        value_store, provider_store = ValueStore(VALIDATOR), ProviderStore(ALICE)
        for cid in provided:
            provider_store.add(cid.multihash, other, NOW)
        for key, value in (values or {}).items():
            value_store.put(key, value, NOW)
        router = OfflineRouting(ALICE, value_store, provider_store, lambda: NOW)
        yield RoutingWorld(router, ALICE, other, router)

    async def test_a_value_that_was_published_is_found(self) -> None:
        async with self.open(values={KEY: b"5"}) as world:  # it takes none for others, but has what was kept
            assert await values_under(world.router, KEY) == [b"5"]


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


async def test_what_was_kept_is_found_until_it_expires() -> None:
    now = NOW
    router = OfflineRouting(ALICE, ValueStore(VALIDATOR), ProviderStore(ALICE), lambda: now)
    assert await router.provide(CIDS[0]) == 0
    with pytest.raises(NoRoutingPeersError):
        await router.set_value(KEY, b"1")
    now += MAX_AGE - 1
    assert [peer.peer_id for peer in await providers(router, CIDS[0])] == [ALICE]
    assert await values_under(router, KEY) == [b"1"]
    now += 1
    assert await providers(router, CIDS[0]) == []
    assert await values_under(router, KEY) == []


async def test_a_value_that_is_worse_than_the_one_kept_is_refused() -> None:
    router = OfflineRouting(ALICE, ValueStore(VALIDATOR), ProviderStore(ALICE), lambda: NOW)
    with pytest.raises(NoRoutingPeersError):
        await router.set_value(KEY, b"10")
    with pytest.raises(InvalidValueError):
        await router.set_value(KEY, b"9")
    assert await values_under(router, KEY) == [b"10"]
