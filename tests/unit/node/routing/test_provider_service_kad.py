"""Announcing over a DHT: what is pinned at one node is found from another, whenever they meet."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.node.routing.composed import ComposedRouting
from ipvcs.node.routing.interface import NoRoutingPeersError
from ipvcs.node.routing.offline import OfflineRouting
from ipvcs.node.routing.provider_service import MAX_RETRY_WITH_PEERS, ProviderService
from ipvcs.node.routing.reprovider import Strategy
from ipvcs.node.routing.static import StaticRouting
from ipvcs.objects.block import Block
from ipvcs.storage.datastore import Datastore, open_datastore
from ipvcs.storage.memory import MemoryBlockstore
from ipvcs.storage.pins import Pin, PinMode, Pins
from tests.contracts.routing import KEY, VALIDATOR, providers, values_under
from tests.unit.node.routing.kad_world import KadWorld, wall
from tests.unit.node.routing.test_provider_service import inline
from tests.unit.node.routing.test_reprovider import LEAVES, TOP, TREE

pytestmark = pytest.mark.anyio

_MEMORY = Path("/dev/shm")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
def datastore() -> Iterator[Datastore]:
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path:
        store = open_datastore(Path(path), make=True, sync=False)
        yield store
        store.close()


async def test_what_was_pinned_alone_is_found_once_the_node_has_joined(datastore: Datastore) -> None:
    blocks = MemoryBlockstore()
    blocks.put_many([*LEAVES, TREE, TOP])
    Pins(datastore).add([Pin(TOP.cid, PinMode.RECURSIVE)])
    with anyio.fail_after(3600):
        async with KadWorld() as world:
            ours = await world.node("ours", rules=VALIDATOR)
            service = ProviderService(
                ours.dht, datastore, blocks, name="lan", strategy=Strategy.PINNED, wall=wall, offload=inline
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.run)
                await anyio.sleep(600)
                assert service.stats().total == 0
                others = await world.network_of(8)
                ours.swarm.subscribe(service)
                await world.join(ours, others[0])
                await anyio.sleep(2 * MAX_RETRY_WITH_PEERS)
                for block in (TOP, TREE, *LEAVES[:3]):
                    assert [peer.peer_id for peer in await providers(others[7].dht, block.cid)] == [ours.peer_id]
                assert await providers(others[7].dht, LEAVES[3].cid) == []
                later = Block.of(b"pinned later")
                blocks.put_many([later])
                Pins(datastore).add([Pin(later.cid, PinMode.RECURSIVE)])
                await anyio.sleep(30)
                assert [peer.peer_id for peer in await providers(others[3].dht, later.cid)] == [ours.peer_id]
                assert service.stats().total == 6
                tasks.cancel_scope.cancel()


async def test_a_dht_that_knows_nobody_hides_nothing_that_others_know() -> None:
    with anyio.fail_after(600):
        async with KadWorld() as world:
            alone, other = await world.node("alone", rules=VALIDATOR), await world.node("other", rules=VALIDATOR)
            offline = OfflineRouting(alone.peer_id, alone.values, alone.providers, wall)
            static = StaticRouting([other.info], {TOP.cid: [other.info]})
            router = ComposedRouting({"lan": alone.dht, "static": static, "offline": offline}, VALIDATOR)
            assert await providers(router, TOP.cid) == [other.info]
            assert await router.find_peer(other.peer_id) == other.info
            with pytest.raises(NoRoutingPeersError):
                await router.set_value(KEY, b"5")
            assert await values_under(router, KEY) == [b"5"]
            assert await router.provide(TREE.cid) == 0
