"""Swarms on asyncio over real sockets: the same code as on the memory network, wired as in a node."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network.errors import DialError, ListenError
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.network.limits import Limits, Resources
from ipvcs.node.network.stack import StackSettings, make_tcp_transport
from ipvcs.node.network.swarm import Swarm
from tests.contracts.stream import pattern, read_all
from tests.contracts.transport import ECHO, echo, until
from tests.fakes.dialing import dial_again
from tests.fakes.memory_swarm import Book, Names

pytestmark = [pytest.mark.anyio, pytest.mark.network]

LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/0")
LOOPBACK6 = Multiaddr.parse("/ip6/::1/tcp/0")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def tcp_swarm(limits: Limits | None = None) -> AsyncGenerator[Swarm]:
    key, resources = generate_key(), Resources(limits or Limits())
    transport = make_tcp_transport(key, StackSettings(), resources)
    async with Swarm(key.peer_id, [transport], resources, Book(), Names()) as swarm:
        swarm.handle(ECHO, echo)
        await swarm.listen([LOOPBACK])
        yield swarm
    assert (resources.streams, resources.memory, resources.half_open) == (0, 0, 0)


def info(swarm: Swarm) -> PeerInfo:
    return PeerInfo(swarm.peer_id, swarm.addresses())


async def echoes(swarm: Swarm, to: Swarm, data: bytes) -> bool:
    stream = await swarm.open_stream(to.peer_id, [ECHO])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.send, data)
        received = bytearray()
        while len(received) < len(data):
            received += await stream.receive_chunk()
    await stream.send_eof()
    assert await read_all(stream) == b""
    await stream.aclose()
    return bytes(received) == data


async def test_swarms_connect_and_talk_both_ways_over_ip4_and_ip6() -> None:
    with anyio.fail_after(20):
        async with tcp_swarm() as alice, tcp_swarm() as bob:
            await bob.listen([LOOPBACK6])
            for addr in bob.listen_addresses():
                connection = await alice.connect(PeerInfo(bob.peer_id, (addr,)))
                assert connection.remote_peer == bob.peer_id
                assert connection.remote_addr == addr
                await until(lambda: bool(bob.connections()))
                assert await echoes(alice, bob, pattern(1_000_000))
                assert await echoes(bob, alice, pattern(1_000_000))
                await alice.disconnect(bob.peer_id)
                await until(lambda: not bob.connections())


async def test_a_refused_port_delays_nothing() -> None:
    """Elsewhere every connect took a stagger of 250 ms. The bound is generous: both ends' handshakes are in it."""
    with socket.socket() as bound, anyio.fail_after(20):
        bound.bind(("127.0.0.1", 0))  # bound and not listening: refused
        refused = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{bound.getsockname()[1]}")
        async with tcp_swarm() as alice, tcp_swarm() as bob:
            took = []
            for _ in range(3):
                before = anyio.current_time()
                await alice.connect(PeerInfo(bob.peer_id, (refused, *bob.addresses())), force=True)
                took.append(anyio.current_time() - before)
                await alice.disconnect(bob.peer_id)
            assert min(took) < 0.2


async def test_a_silent_port_is_overtaken_and_its_socket_is_closed() -> None:
    with socket.socket() as silent, anyio.fail_after(20):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        addr = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}")
        async with tcp_swarm() as alice, tcp_swarm() as bob:
            connection = await alice.connect(PeerInfo(bob.peer_id, (addr, *bob.addresses())))
            assert connection.remote_addr == bob.addresses()[0]
            accepted, _peer = silent.accept()
            with accepted:
                accepted.settimeout(5)
                while await anyio.to_thread.run_sync(accepted.recv, 65536):
                    pass  # what the dialler said before it gave up; then the end


async def test_both_may_dial_at_once_and_both_connections_work() -> None:
    with anyio.fail_after(20):
        async with tcp_swarm() as alice, tcp_swarm() as bob:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(alice.connect, info(bob))
                tasks.start_soon(bob.connect, info(alice))
            await until(lambda: len(alice.connections()) == len(bob.connections()) == 2)
            for swarm, other in ((alice, bob), (bob, alice)):
                for connection in swarm.connections(other.peer_id):
                    stream = await connection.open_stream([ECHO])
                    await stream.send(b"hello")
                    assert await stream.receive() == b"hello"
                    await stream.aclose()


async def test_cancelling_dials_at_any_moment_leaves_nothing_behind() -> None:
    with anyio.fail_after(30):
        async with tcp_swarm() as alice, tcp_swarm() as bob:
            for number in range(30):
                with anyio.move_on_after(number * 0.0005):
                    await alice.connect(info(bob), force=True)
                await alice.disconnect(bob.peer_id)
            await until(lambda: not alice.connections() and not bob.connections())
            await alice.connect(info(bob), force=True)
            assert await echoes(alice, bob, b"and then it works")


async def test_a_peer_that_opens_too_many_connections_keeps_those_it_has() -> None:
    with anyio.fail_after(20):
        async with tcp_swarm(Limits(connections_per_peer=2)) as alice, tcp_swarm() as mallory:
            for _ in range(5):
                with suppress(DialError):  # ended at once
                    await dial_again(mallory, alice.peer_id, alice.addresses()[0])
            await until(lambda: len(alice.connections()) == len(mallory.connections()) == 2)
            assert await echoes(mallory, alice, b"still served")


async def test_a_taken_port_is_told_or_replaced() -> None:
    with anyio.fail_after(20):
        async with tcp_swarm() as alice, tcp_swarm() as bob:
            taken = alice.listen_addresses()[0]
            with pytest.raises(ListenError, match="in use"):
                await bob.listen([taken])
            [other] = await bob.listen([taken], any_port=True)
            assert other != taken
            assert (await alice.connect(PeerInfo(bob.peer_id, (other,)))).remote_peer == bob.peer_id


async def test_leaving_the_block_is_noticed_by_every_peer() -> None:
    with anyio.fail_after(20):
        async with tcp_swarm() as alice:
            async with tcp_swarm() as bob, tcp_swarm() as carol:
                await alice.connect(info(bob))
                await carol.connect(info(alice))
                await until(lambda: len(alice.connections()) == 2)
                stream = await alice.open_stream(bob.peer_id, [ECHO])
            with pytest.raises(anyio.BrokenResourceError):
                await stream.receive()
            await until(lambda: not alice.connections())
