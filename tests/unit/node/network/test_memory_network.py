"""The network in memory keeps the same promises as a real one, and does to it what a test asks for."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.errors import DialError
from ipvcs.node.network.interface import Stream
from tests.contracts.stream import StreamContract, read_all, read_exactly
from tests.contracts.transport import ECHO, Owner, Pair, TransportContract, echo
from tests.fakes.memory_network import MemoryNetwork, MemoryTransport, key_of

LISTEN = Multiaddr.parse("/ip4/10.0.0.2/tcp/0")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@asynccontextmanager
async def two_hosts(latency: float) -> AsyncGenerator[Pair]:
    async with MemoryNetwork(latency=latency) as network:
        near = MemoryTransport(network, key_of("near"), home="/ip4/10.0.0.1/tcp/0")
        far = MemoryTransport(network, key_of("far"), home="/ip4/10.0.0.2/tcp/0")
        yield Pair(near, far, near.peer_id, far.peer_id, LISTEN)


@asynccontextmanager
async def one_stream(latency: float) -> AsyncGenerator[tuple[Stream, Stream]]:
    accepted: list[Stream] = []
    served = anyio.Event()

    async def keep(stream: Stream) -> None:
        accepted.append(stream)
        served.set()

    async with two_hosts(latency) as pair, anyio.create_task_group() as tasks:
        listener = await pair.far.listen(pair.listen_addr, Owner(tasks, {"/test/1": keep}).accept)
        connection = await pair.near.dial(listener.addrs[0], pair.far_peer, Owner(tasks))
        near = await connection.open_stream(["/test/1"])
        await served.wait()
        yield near, accepted[0]
        await connection.aclose()
        tasks.cancel_scope.cancel()


class TestMemoryStream(StreamContract):
    more_than_any_window = 1024 * 1024

    def streams(self):  # type: ignore[no-untyped-def]
        return one_stream(latency=0.0)


class TestDistantMemoryStream(StreamContract):
    more_than_any_window = 512 * 1024
    patience = 3600.0
    pause = 10.0

    def streams(self):  # type: ignore[no-untyped-def]
        return one_stream(latency=0.15)


class TestMemoryTransport(TransportContract):
    def pair(self):  # type: ignore[no-untyped-def]
        return two_hosts(latency=0.0)


class TestDistantMemoryTransport(TransportContract):
    patience = 3600.0

    def pair(self):  # type: ignore[no-untyped-def]
        return two_hosts(latency=0.15)


class TestMemoryAddresses(TransportContract):
    """The same over `/memory/…` addresses."""

    unused_addr = Multiaddr.parse("/memory/9")

    @asynccontextmanager
    async def pair(self) -> AsyncGenerator[Pair]:
        async with MemoryNetwork() as network:
            near = MemoryTransport(network, key_of("near"), home="/memory/1")
            far = MemoryTransport(network, key_of("far"), home="/memory/2")
            yield Pair(near, far, near.peer_id, far.peer_id, Multiaddr.parse("/memory/0"))


@pytest.mark.anyio
async def test_a_dial_takes_one_round_trip_and_a_message_half_of_one() -> None:
    async with one_stream(latency=0.2) as (near, far):
        start = anyio.current_time()
        await near.send(b"x")
        await far.receive()
        assert anyio.current_time() - start == pytest.approx(0.2)
    async with two_hosts(latency=0.2) as pair, anyio.create_task_group() as tasks:
        listener = await pair.far.listen(pair.listen_addr, Owner(tasks).accept)
        start = anyio.current_time()
        await pair.near.dial(listener.addrs[0], pair.far_peer, Owner(tasks))
        assert anyio.current_time() - start == pytest.approx(0.4)


@pytest.mark.anyio
async def test_a_partition_holds_everything_up_until_it_heals() -> None:
    async with one_stream(latency=0.01) as (near, far):
        network = network_of(near)
        network.partition(near.connection.local_peer, near.connection.remote_peer)
        await near.send(b"held up")
        with anyio.move_on_after(100) as scope:
            await far.receive()
        assert scope.cancelled_caught
        network.heal(near.connection.local_peer, near.connection.remote_peer)
        assert await read_exactly(far, 7) == b"held up"


@pytest.mark.anyio
async def test_a_killed_connection_ends_with_a_reason_at_both_ends() -> None:
    async with two_hosts(latency=0.01) as pair, anyio.create_task_group() as tasks:
        near_owner, far_owner = Owner(tasks, {ECHO: echo}), Owner(tasks, {ECHO: echo})
        listener = await pair.far.listen(pair.listen_addr, far_owner.accept)
        connection = await pair.near.dial(listener.addrs[0], pair.far_peer, near_owner)
        stream = await connection.open_stream([ECHO])

        network_of(stream).kill(pair.near_peer, pair.far_peer)

        with pytest.raises(anyio.BrokenResourceError):
            await read_all(stream)
        assert [str(reason) for _connection, reason in near_owner.closed] == ["the connection was lost"]
        assert [str(reason) for _connection, reason in far_owner.closed] == ["the connection was lost"]
        assert not network_of(stream).live


@pytest.mark.anyio
async def test_addresses_refuse_dawdle_and_hang_as_told() -> None:
    async with two_hosts(latency=0.0) as pair, anyio.create_task_group() as tasks:
        assert isinstance(pair.near, MemoryTransport)
        network, owner = pair.near.network, Owner(tasks)
        addr = (await pair.far.listen(pair.listen_addr, owner.accept)).addrs[0]

        network.refuse(addr)
        with pytest.raises(DialError, match="refused"):
            await pair.near.dial(addr, None, owner)
        network.accept(addr)
        network.delay(addr, 7.0)
        start = anyio.current_time()
        await pair.near.dial(addr, None, owner)
        assert anyio.current_time() - start == pytest.approx(7.0)
        network.delay(addr)
        with anyio.move_on_after(10_000) as scope:
            await pair.near.dial(addr, None, owner)
        assert scope.cancelled_caught
        assert [dial.outcome for dial in network.dials] == ["DialError", "stands", "Cancelled"]


def network_of(stream: Stream) -> MemoryNetwork:
    connection = stream.connection
    network = connection._network  # type: ignore[attr-defined]
    assert isinstance(network, MemoryNetwork)
    return network
