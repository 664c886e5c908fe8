"""Connections are closed above the high-water mark, down to the low one, and never below."""

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.node.network.connection_manager import ConnectionManager
from ipvcs.node.network.limits import ConnectionLimitError, Limits
from ipvcs.node.network.trimmer import INTERVAL, Trimmer
from tests.contracts.transport import ECHO, echo
from tests.fakes.memory_network import MemoryNetwork
from tests.fakes.memory_swarm import MemorySwarm, running_swarms

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def friends(count: int) -> list[str]:
    return [f"friend{number}" for number in range(count)]


async def connect_all(us: MemorySwarm, others: list[MemorySwarm]) -> None:
    for other in others:
        await us.connect(other.info)
        await anyio.sleep(1)


async def test_above_the_high_water_mark_the_longest_idle_go_down_to_the_low_one() -> None:
    async with MemoryNetwork() as network, running_swarms(network, "us", *friends(7)) as (us, *others):
        manager = ConnectionManager(low_water=3, high_water=5, grace_period=2)
        others[0].handle(ECHO, echo)
        manager.protect(others[1].peer_id, "test")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Trimmer(manager, us.connections).run)
            await connect_all(us, others)
            stream = await us.open_stream(others[0].peer_id, [ECHO])  # busy, and the oldest
            await anyio.sleep(2 * INTERVAL)
            kept = {connection.remote_peer for connection in us.connections()}
            assert kept == {others[0].peer_id, others[1].peer_id, others[6].peer_id}
            await stream.send(b"still here")
            assert await stream.receive() == b"still here"
            tasks.cancel_scope.cancel()


async def test_between_the_marks_nothing_is_closed_however_idle() -> None:
    async with MemoryNetwork() as network, running_swarms(network, "us", *friends(5)) as (us, *others):
        trimmer = Trimmer(ConnectionManager(low_water=1, high_water=5, grace_period=0), us.connections)
        await connect_all(us, others)
        await anyio.sleep(24 * 3600)
        assert await trimmer.trim() == 0
        assert len(us.connections()) == 5


async def test_a_full_table_makes_room_at_once() -> None:
    async with MemoryNetwork() as network:
        trimmers: list[Trimmer] = []
        async with running_swarms(
            network, "us", *friends(5), limits=Limits(connections=4), make_room=lambda: trimmers[0].make_room()
        ) as (us, *others):
            trimmers.append(Trimmer(ConnectionManager(low_water=1, high_water=2, grace_period=0), us.connections))
            await connect_all(us, others[:4])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(trimmers[0].run)
                await anyio.sleep(0)
                with pytest.raises(ConnectionLimitError):
                    await us.connect(others[4].info)
                await anyio.sleep(0.5)  # much less than the interval
                assert len(us.connections()) == 1
                await us.connect(others[4].info)
                tasks.cancel_scope.cancel()
