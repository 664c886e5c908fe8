"""A node that is connected to too few others dials its bootstrap peers, and only then."""

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.bootstrap import JOIN_TIMEOUT, MIN_PEERS, PERIOD, Bootstrapper
from ipvcs.node.network.interface import Connection
from tests.fakes.memory_network import MemoryNetwork
from tests.fakes.memory_swarm import MemorySwarm, running_swarms

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def door(swarm: MemorySwarm) -> tuple[PeerId, Multiaddr]:
    return swarm.peer_id, swarm.addresses()[0]


def peers_of(swarm: MemorySwarm) -> set[object]:
    return {connection.remote_peer for connection in swarm.connections()}


async def test_bootstrap_peers_are_dialled_and_an_unreachable_one_again_later() -> None:
    async with MemoryNetwork() as network, running_swarms(network, "us", "one", "two") as (us, one, two):
        network.refuse(two.addresses()[0])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Bootstrapper(us, [door(one), door(two)]).run)
            await anyio.sleep(1)
            assert peers_of(us) == {one.peer_id}
            network.accept(two.addresses()[0])
            await anyio.sleep(2 * PERIOD)
            assert peers_of(us) == {one.peer_id, two.peer_id}
            tasks.cancel_scope.cancel()


async def test_a_node_with_enough_peers_leaves_the_bootstrap_peers_alone() -> None:
    names = [f"friend{number}" for number in range(MIN_PEERS)]
    async with MemoryNetwork() as network, running_swarms(network, "us", "door", *names) as (us, door_swarm, *friends):
        for friend in friends:
            await us.connect(friend.info)
        bootstrapper = Bootstrapper(us, [door(door_swarm)])
        await bootstrapper.dial_missing()
        assert door_swarm.peer_id not in peers_of(us)
        await us.disconnect(friends[0].peer_id)
        await bootstrapper.dial_missing()
        assert door_swarm.peer_id in peers_of(us)


async def test_who_waits_for_company_waits_for_the_first_that_is_ready_or_until_all_were_tried() -> None:
    async with MemoryNetwork() as network, running_swarms(network, "us", "one", "two") as (us, one, two):
        network.refuse(two.addresses()[0])

        async def greet(connection: Connection) -> None:
            assert connection.remote_peer == one.peer_id
            await anyio.sleep(2)

        for peers, greets, wait in (([], None, 0), ([two], None, 0), ([one, two], greet, 2)):
            bootstrapper = Bootstrapper(us, map(door, peers), greets)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(bootstrapper.run)
                began = anyio.current_time()
                await bootstrapper.wait_joined()
                assert anyio.current_time() - began == pytest.approx(wait, abs=0.5), peers
                tasks.cancel_scope.cancel()
        began = anyio.current_time()
        await Bootstrapper(us, [door(two)]).wait_joined()
        assert anyio.current_time() - began == JOIN_TIMEOUT, "not for ever"


async def test_without_bootstrap_peers_or_with_ourselves_alone_nothing_is_dialled() -> None:
    async with MemoryNetwork() as network, running_swarms(network, "us") as (us,):
        with anyio.fail_after(1):
            await Bootstrapper(us, []).run()
        await Bootstrapper(us, [door(us)]).dial_missing()
        assert not network.dials
