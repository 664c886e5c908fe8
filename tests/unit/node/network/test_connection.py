"""The shell around the cores, over real sockets: two hosts in one process."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import pytest

from ipvcs.errors import UnavailableError
from ipvcs.node.network.errors import PeerMismatchError, ProtocolNotSupportedError
from ipvcs.node.network.interface import Connection, Stream
from ipvcs.node.network.keep_alive import KeepAlive, PeerSilentError
from ipvcs.node.network.limits import Limits
from ipvcs.node.network.mplex import MplexSession
from ipvcs.node.network.noise import NoiseSecurity
from ipvcs.node.network.stream import MuxedStream
from ipvcs.node.network.tls import TlsSecurity
from tests.fakes.tcp_host import MPLEX, YAMUX, TcpHost, read_all

pytestmark = [pytest.mark.network, pytest.mark.anyio]

KIB = 1024
MIB = 1024 * KIB
STACKS = [(NoiseSecurity, YAMUX), (NoiseSecurity, MPLEX), (TlsSecurity, YAMUX), (TlsSecurity, MPLEX)]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(params=STACKS, ids=lambda stack: f"{stack[0].__name__}{stack[1][:6]}".replace("/", "-"))
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[TcpHost, TcpHost, Connection]]:
    """Two hosts of one stack, and the dialler's connection."""
    security, muxer = request.param
    async with (
        TcpHost(security=security, muxers=[muxer]) as server,
        TcpHost(security=security, muxers=[muxer]) as client,
    ):
        await server.listen()
        yield server, client, await client.dial(server)


@pytest.fixture
async def hosts() -> AsyncIterator[tuple[TcpHost, TcpHost, Connection]]:
    """Two hosts over Noise and yamux."""
    async with TcpHost() as server, TcpHost() as client:
        await server.listen()
        yield server, client, await client.dial(server)


async def settled(condition: object) -> None:
    """Wait until `condition()`, or fail."""
    assert callable(condition)
    with anyio.fail_after(10):
        while not condition():
            await asyncio.sleep(0.005)


async def send_for_ever(stream: Stream) -> None:
    """Send until something breaks."""
    while True:
        await stream.send(bytes(10 * KIB))
        await asyncio.sleep(0)


async def test_both_know_who_the_other_is(pair: tuple[TcpHost, TcpHost, Connection]) -> None:
    server, client, connection = pair
    await settled(lambda: server.accepted)
    (accepted,) = server.accepted
    assert (connection.remote_peer, accepted.remote_peer) == (server.peer_id, client.peer_id)
    assert connection.remote_key == server.key.public_key
    assert (connection.security, connection.muxer) == (accepted.security, accepted.muxer)
    assert (connection.direction, accepted.direction) == ("outbound", "inbound")
    assert accepted.remote_addr == connection.local_addr


async def test_a_large_stream_comes_back_whole(pair: tuple[TcpHost, TcpHost, Connection]) -> None:
    data = random.Random(1).randbytes(5 * MIB + 17)
    stream = await pair[2].open_stream(["/echo"])

    async def write() -> None:
        for start in range(0, len(data), 300_001):
            await stream.send(memoryview(data)[start : start + 300_001])
        await stream.send_eof()

    writer = asyncio.create_task(write())
    assert await read_all(stream) == data
    await writer
    await stream.aclose()


async def test_many_streams_at_once_keep_their_bytes_apart(pair: tuple[TcpHost, TcpHost, Connection]) -> None:
    async def use(number: int) -> None:
        data = random.Random(number).randbytes(50_000)
        stream = await pair[2].open_stream(["/echo"], lazy=number % 2 == 0)
        await stream.send(data)
        await stream.send_eof()
        assert await read_all(stream) == data
        await stream.aclose()

    async with asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(use(number))


async def test_a_reader_that_does_not_read_stops_the_sender_and_nobody_else(
    hosts: tuple[TcpHost, TcpHost, Connection],
) -> None:
    server, _client, connection = hosts
    release = asyncio.Event()
    received = 0

    async def sleepy(stream: Stream) -> None:
        nonlocal received
        await release.wait()
        received = len(await read_all(stream))

    server.handlers["/sleepy"] = sleepy
    stream = await connection.open_stream(["/sleepy"])
    sending = asyncio.create_task(stream.send(bytes(20 * MIB)))
    other = await connection.open_stream(["/echo"])
    for _ in range(50):  # the echo goes on beside it
        await other.send(bytes(10_000))
        got = 0
        while got < 10_000:
            got += len(await other.receive())
    assert not sending.done()
    assert server.resources.memory <= 256 * KIB
    release.set()
    await sending
    await stream.send_eof()
    await settled(lambda: received == 20 * MIB)
    await other.aclose()
    await stream.aclose()


async def test_an_unknown_protocol_is_refused_and_the_next_one_taken(
    pair: tuple[TcpHost, TcpHost, Connection],
) -> None:
    with pytest.raises(ProtocolNotSupportedError):
        await pair[2].open_stream(["/nope/1", "/nope/2"])
    stream = await pair[2].open_stream(["/nope/1", "/echo"])
    assert stream.protocol == "/echo"
    await stream.aclose()


async def test_a_lazy_proposal_that_is_refused_shows_at_the_first_read(
    pair: tuple[TcpHost, TcpHost, Connection],
) -> None:
    stream = await pair[2].open_stream(["/nope"], lazy=True)
    await stream.send(b"hello?")
    with pytest.raises(anyio.BrokenResourceError):
        await stream.receive()


async def test_a_lazy_stream_that_only_ends_is_served(pair: tuple[TcpHost, TcpHost, Connection]) -> None:
    stream = await pair[2].open_stream(["/echo"], lazy=True)
    await stream.send_eof()
    assert await read_all(stream) == b""
    await stream.aclose()


async def test_a_reset_breaks_the_other_side(pair: tuple[TcpHost, TcpHost, Connection]) -> None:
    stream = await pair[2].open_stream(["/echo"])
    broken = asyncio.Event()

    async def watch(stream: Stream) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await read_all(stream)
        broken.set()

    pair[0].handlers["/watch"] = watch
    stream = await pair[2].open_stream(["/watch"])
    await stream.send(b"x")
    stream.reset()
    await broken.wait()
    with pytest.raises(anyio.ClosedResourceError):
        await stream.send(b"y")
    with pytest.raises(anyio.ClosedResourceError):
        await stream.receive()


async def test_the_wrong_peer_is_noticed_before_any_data(pair: tuple[TcpHost, TcpHost, Connection]) -> None:
    server, client, _connection = pair
    assert server.listener is not None
    with pytest.raises(PeerMismatchError):
        await client.transport.dial(server.listener.addrs[0], client.peer_id, client)


async def test_closing_breaks_the_streams_of_both_sides(pair: tuple[TcpHost, TcpHost, Connection]) -> None:
    server, _client, connection = pair
    stream = await connection.open_stream(["/echo"])
    await settled(lambda: server.accepted and server.accepted[0].streams)
    await connection.aclose()
    assert connection.is_closed
    with pytest.raises(anyio.BrokenResourceError):
        await stream.receive()
    await settled(lambda: server.ended)
    assert not server.accepted[0].streams
    with pytest.raises(UnavailableError):
        await connection.open_stream(["/echo"])


async def test_cancelled_reads_lose_nothing(hosts: tuple[TcpHost, TcpHost, Connection]) -> None:
    stream = await hosts[2].open_stream(["/echo"])
    for _ in range(20):
        with anyio.move_on_after(0.001):
            await stream.receive()
    await stream.send(b"still here")
    assert await stream.receive() == b"still here"
    await stream.aclose()


async def test_a_stopped_peer_is_noticed_by_the_keep_alive() -> None:
    keep_alive = KeepAlive(interval=0.05, timeout=0.2)
    async with TcpHost() as server, TcpHost(keep_alive=keep_alive) as client:
        await server.listen()
        connection = await client.dial(server)
        await asyncio.sleep(0.3)  # several pings are answered
        assert not connection.is_closed
        await settled(lambda: server.accepted)
        link = server.accepted[0]._link  # type: ignore[attr-defined]
        link._transport.pause_reading()  # as a process that was stopped
        await connection.wait_closed()
        ((_, reason),) = client.ended
        assert isinstance(reason, PeerSilentError)


async def test_a_thousand_streams_are_open_at_once() -> None:
    async with TcpHost() as server, TcpHost() as client:
        await server.listen()
        connection = await client.dial(server)
        streams = [await connection.open_stream(["/echo"]) for _ in range(1000)]
        assert server.resources.streams == 1000
        await streams[500].send(b"x")
        assert await streams[500].receive() == b"x"
        for stream in streams:
            stream.reset()
        await settled(lambda: server.resources.streams == 0)


async def test_streams_beyond_the_limit_of_a_peer_are_refused() -> None:
    async with TcpHost(limits=Limits(streams_per_peer=10)) as server, TcpHost() as client:
        await server.listen()
        connection = await client.dial(server)
        streams = [await connection.open_stream(["/echo"]) for _ in range(10)]
        with pytest.raises(UnavailableError):
            await connection.open_stream(["/echo"])
        streams.pop().reset()
        streams.append(await connection.open_stream(["/echo"]))


async def open_until_refused(connections: list[Connection]) -> int:
    """Open streams on the connections in turn and return how many there was room for."""
    for number in itertools.count():
        try:
            await connections[number % len(connections)].open_stream(["/echo"])
        except UnavailableError:
            return number
    raise AssertionError


async def test_a_peer_can_hold_half_of_the_nodes_streams_on_all_its_connections_and_no_more() -> None:
    async with TcpHost(limits=Limits(streams=10)) as server, TcpHost() as client:
        await server.listen()
        connections = [await client.dial(server) for _ in range(2)]
        assert await open_until_refused(connections) == 5
        for connection in connections:
            with pytest.raises(UnavailableError):
                await connection.open_stream(["/echo"])


async def test_peers_that_take_all_the_streams_they_can_leave_room_for_a_newcomer() -> None:
    """Six of them, each allowed a quarter of all by the bound for one peer."""
    async with TcpHost(limits=Limits(streams=80, streams_per_peer=20)) as server, AsyncExitStack() as stack:
        await server.listen()
        greedy = [await stack.enter_async_context(TcpHost()) for _ in range(6)]
        held = [await open_until_refused([await each.dial(server)]) for each in greedy]
        assert held == [20, 20, 20, 10, 5, 3]
        newcomer = await stack.enter_async_context(TcpHost())
        stream = await (await newcomer.dial(server)).open_stream(["/echo"])
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"
        assert server.resources.streams == 79


async def sleep_for_ever(_stream: Stream) -> None:
    await asyncio.sleep(1000)


async def is_broken(stream: Stream) -> bool:
    try:
        await stream.send(b"x")
    except anyio.BrokenResourceError:
        return True
    return False


async def test_unread_bytes_beyond_the_limit_of_a_peer_cost_the_stream_with_most_of_them() -> None:
    async with TcpHost(limits=Limits(peer_memory=600 * KIB)) as server, TcpHost() as client:
        await server.listen()
        server.handlers["/sleep"] = sleep_for_ever
        connections = [await client.dial(server) for _ in range(2)]
        streams = [await connections[number % 2].open_stream(["/sleep"]) for number in range(4)]
        for stream, size, held in zip(streams, (100, 150, 250, 200), (100, 250, 500, 450), strict=True):
            await stream.send(bytes(size * KIB))
            await settled(lambda held=held: server.resources.memory == held * KIB)
        assert [await is_broken(stream) for stream in streams] == [False, False, True, False]
        for connection in connections:
            echo = await connection.open_stream(["/echo"])
            await echo.send(b"fine")
            assert await echo.receive() == b"fine"


async def test_unread_bytes_beyond_the_limit_of_the_node_cost_the_peer_with_most_of_them() -> None:
    limits = Limits(memory=600 * KIB, peer_memory=500 * KIB)
    async with TcpHost(limits=limits) as server, TcpHost() as hoarder, TcpHost() as modest:
        await server.listen()
        server.handlers["/sleep"] = sleep_for_ever
        hoarding, moderate = await hoarder.dial(server), await modest.dial(server)
        hoard = [await hoarding.open_stream(["/sleep"]) for _ in range(2)]
        for stream in hoard:
            await stream.send(bytes(240 * KIB))
        await settled(lambda: server.resources.memory == 480 * KIB)
        innocent = await moderate.open_stream(["/sleep"])
        await innocent.send(bytes(200 * KIB))
        await settled(lambda: server.resources.memory == 440 * KIB)
        assert not await is_broken(innocent)
        assert sorted([await is_broken(stream) for stream in hoard]) == [False, True]


async def test_a_peer_that_fills_its_share_of_streams_leaves_room_for_others_and_for_us() -> None:
    limits = Limits(streams=40, streams_per_peer=20, outbound_streams=5)
    async with TcpHost(limits=limits) as server, TcpHost() as greedy, TcpHost() as innocent:
        await server.listen()
        connections = [await greedy.dial(server) for _ in range(2)]
        for number in range(20):
            await connections[number % 2].open_stream(["/echo"])
        for connection in connections:
            with pytest.raises(UnavailableError):
                await connection.open_stream(["/echo"])
        other = await innocent.dial(server)
        echo = await other.open_stream(["/echo"])
        await echo.send(b"room")
        assert await echo.receive() == b"room"
        ours = await server.accepted[0].open_stream(["/echo"])
        await ours.send(b"ours")
        assert await ours.receive() == b"ours"


async def test_what_came_before_the_peers_end_can_be_read_after_the_connection_is_gone(
    hosts: tuple[TcpHost, TcpHost, Connection],
) -> None:
    server, _client, connection = hosts
    read: list[bytes] = []

    async def late(stream: Stream) -> None:
        await settled(lambda: server.ended)
        read.append(await read_all(stream))

    server.handlers["/late"] = late
    stream = await connection.open_stream(["/late"])
    await stream.send(b"last words")
    await stream.aclose()
    await connection.aclose()
    await settled(lambda: read)
    assert read == [b"last words"]


async def test_a_stream_that_is_reset_at_once_disturbs_nobody(pair: tuple[TcpHost, TcpHost, Connection]) -> None:
    server, _client, connection = pair
    stream = await connection.open_stream(["/echo"])
    for _ in range(100):
        (await connection.open_stream(["/echo"], lazy=True)).reset()
    await stream.send(b"still here")
    assert await stream.receive() == b"still here"
    assert not server.ended
    await stream.aclose()


async def test_a_peer_that_never_agrees_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with TcpHost() as server, TcpHost(limits=Limits(negotiation_timeout=0.2)) as client:
        await server.listen()
        connection = await client.dial(server)
        monkeypatch.setattr(MuxedStream, "respond", lambda _stream, _is_served: None)
        with pytest.raises(UnavailableError, match="did not agree"):
            await connection.open_stream(["/echo"])
        assert client.resources.outbound_streams == 0


async def test_who_waits_for_acknowledgements_goes_on_when_a_stream_is_given_up() -> None:
    async with TcpHost() as server, TcpHost() as client:
        await server.listen()
        connection = await client.dial(server)
        await settled(lambda: server.accepted)
        server.accepted[0]._link._transport.pause_reading()  # type: ignore[attr-defined]
        streams = [await connection.open_stream(["/echo"], lazy=True) for _ in range(256)]
        waiting = asyncio.create_task(connection.open_stream(["/echo"], lazy=True))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        streams[0].reset()
        await waiting


async def test_data_that_moves_slowly_is_a_sign_of_life() -> None:
    keep_alive = KeepAlive(interval=0.1, timeout=0.2)
    async with TcpHost() as server, TcpHost(keep_alive=keep_alive) as client:
        await server.listen()
        connection = await client.dial(server)
        await settled(lambda: server.accepted)
        transport = server.accepted[0]._link._transport  # type: ignore[attr-defined]
        stream = await connection.open_stream(["/echo"], lazy=True)
        sending = asyncio.create_task(stream.send(bytes(8 * MIB)))
        transport.pause_reading()
        for _ in range(10):  # a line on which a read takes half of the time-out: pongs come late, bytes keep moving
            await asyncio.sleep(0.1)
            transport.resume_reading()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            transport.pause_reading()
        assert not connection.is_closed
        sending.cancel()
        await asyncio.wait([sending])
        transport.resume_reading()


async def test_a_stream_whose_peer_never_says_what_it_wants_is_reset() -> None:
    async with TcpHost(limits=Limits(negotiation_timeout=0.1)) as server, TcpHost() as client:
        await server.listen()
        connection = await client.dial(server)
        stream = await connection._open()  # type: ignore[attr-defined]
        with pytest.raises(anyio.BrokenResourceError):
            await read_all(stream)
        assert server.resources.streams == 0


async def test_an_mplex_stream_that_nobody_reads_is_reset_and_bounded() -> None:
    async with TcpHost(muxers=[MPLEX]) as server, TcpHost(muxers=[MPLEX]) as client:
        await server.listen()
        connection = await client.dial(server)
        assert isinstance(connection._session, MplexSession)  # type: ignore[attr-defined]

        async def sleep(_stream: Stream) -> None:
            await asyncio.sleep(100)

        server.handlers["/sleep"] = sleep
        stream = await connection.open_stream(["/sleep"])
        with pytest.raises(anyio.BrokenResourceError):
            await send_for_ever(stream)
        assert server.resources.memory < 5 * MIB


async def test_ipv6_works_as_well() -> None:
    async with TcpHost() as server, TcpHost() as client:
        addr = await server.listen("/ip6/::1/tcp/0")
        assert addr.protocols == ("ip6", "tcp")
        connection = await client.dial(server)
        stream = await connection.open_stream(["/echo"])
        await stream.send(b"six")
        assert await stream.receive() == b"six"


async def test_what_takes_longer_than_a_turn_arrives_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every portion is a turn of its own here, and all else goes on between them."""
    monkeypatch.setattr("ipvcs.node.network.connection.TURN", -1.0)
    data = random.Random(1).randbytes(3 * 1024 * KIB)
    async with TcpHost() as server, TcpHost() as client:
        await server.listen()
        connection = await client.dial(server)
        stream = await connection.open_stream(["/echo"])

        async def send() -> None:
            await stream.send(data)
            await stream.send_eof()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            assert await read_all(stream) == data
        await connection.aclose()


async def test_a_connection_can_end_while_something_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipvcs.node.network.connection.TURN", -1.0)
    async with TcpHost() as server, TcpHost() as client:
        await server.listen()
        connection = await client.dial(server)
        stream = await connection.open_stream(["/echo"])
        await stream.send(bytes(200 * KIB))
        await stream.receive()
        await connection.aclose()
        await settled(lambda: len(server.ended) == 1)
        again = await client.dial(server)
        stream = await again.open_stream(["/echo"])
        await stream.send(b"fine")
        assert await stream.receive() == b"fine"
