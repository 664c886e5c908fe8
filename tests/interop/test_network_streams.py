"""Streams to and from real peers: 100 MiB each way with the content checked, and readers that do not read.

Kubo's own protocols carry no bytes of ours, but it bridges `/x/…` streams to TCP connections in both directions.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream

from ipvcs.node.network.interface import Stream
from ipvcs.node.network.perf import PERF, measure
from tests.interop.bulk import MIB, Received, Sent, digest, exchange, flat_memory
from tests.interop.json_peer import PeerError
from tests.interop.kubo_peer import KuboPeer
from tests.interop.network_node import (
    MPLEX,
    NOISE,
    TLS,
    YAMUX,
    Stack,
    connect,
    open_stack,
    open_test_node,
    own_addr,
    ping,
)
from tests.interop.remote import Remote, wait_until

pytestmark = pytest.mark.anyio

Remotes = Callable[[str], Remote]
SIZE = 100 * MIB
ENOUGH = 40.0  # seconds for all of it, on a busy machine; 1 to 3 on an idle one
ECHO = "/test/echo/1.0.0"
WINDOW = 256 * 1024  # of a yamux stream of which nothing was read
_PORTS = itertools.count(20_001)  # below those that the kernel gives out
STACKS = [(NOISE, YAMUX), (TLS, YAMUX), (NOISE, MPLEX)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def bridge(remotes: Remotes) -> Iterator[Remote]:
    """Kubo, with its bridges taken down after the test."""
    remote = remotes("kubo-ed25519")
    assert isinstance(remote.process, KuboPeer)
    yield remote
    remote.process.p2p_close()


class TcpClient(ByteStream):
    """A TCP connection that a server took. anyio's own reads on and on before the first `receive`; this one waits."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if data := await self._reader.read(max_bytes):
            return data
        raise anyio.EndOfStream

    async def send(self, item: bytes) -> None:
        self._writer.write(item)
        await self._writer.drain()

    async def send_eof(self) -> None:
        self._writer.write_eof()

    async def aclose(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def bridged_to(
    bridge: Remote, protocol: str, handler: Callable[[ByteStream], Awaitable[None]]
) -> AsyncIterator[None]:
    """Have Kubo serve `protocol` by connecting to a TCP server with `handler`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with TcpClient(reader, writer) as client:
            await handler(client)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await bridge.call("p2p_listen", proto=protocol, target=f"/ip4/127.0.0.1/tcp/{port}")
        yield


async def connect_through(bridge: Remote, protocol: str, node: Stack) -> ByteStream:
    """Return a TCP connection to Kubo, which opens a stream of `protocol` to `node` for it."""
    for port in _PORTS:
        try:
            await bridge.call(
                "p2p_forward", proto=protocol, listen=f"/ip4/127.0.0.1/tcp/{port}", peer=str(node.peer_id)
            )
        except PeerError as exc:
            if "address already in use" not in str(exc):
                raise
        else:
            return await anyio.connect_tcp("127.0.0.1", port)
    raise AssertionError("the ports are endless")


@pytest.mark.parametrize(("security", "muxer"), STACKS)
async def test_100_mib_go_each_way_on_a_stream_that_we_open_to_kubo(bridge: Remote, security: str, muxer: str) -> None:
    serve = partial(exchange, sent=2, expected=1, size=SIZE)
    with anyio.fail_after(ENOUGH):
        async with open_stack(security, [muxer]) as node, bridged_to(bridge, "/x/bulk", serve):
            connection = await connect(node, bridge, "outbound")
            with flat_memory(SIZE):
                async with await connection.open_stream(["/x/bulk"]) as stream:
                    await exchange(stream, 1, 2, SIZE)


@pytest.mark.parametrize(("security", "muxer"), STACKS)
async def test_100_mib_go_each_way_on_a_stream_that_kubo_opens_to_us(bridge: Remote, security: str, muxer: str) -> None:
    with anyio.fail_after(ENOUGH):
        async with open_stack(security, [muxer]) as node:
            node.swarm.handle("/x/bulk", partial(exchange, sent=1, expected=2, size=SIZE))
            await connect(node, bridge, "inbound")
            with flat_memory(SIZE):
                async with await connect_through(bridge, "/x/bulk", node) as client:
                    await exchange(client, 2, 1, SIZE)


@pytest.mark.parametrize("security", [NOISE, TLS])
async def test_100_mib_come_back_from_helia_as_they_were(remotes: Remotes, security: str) -> None:
    received = Received()
    with anyio.fail_after(ENOUGH):
        async with open_stack(security) as node:
            connection = await connect(node, remotes("helia-ed25519"), "outbound")
            with flat_memory(SIZE):
                async with await connection.open_stream([ECHO]) as stream, anyio.create_task_group() as tasks:
                    tasks.start_soon(received.take, stream, SIZE + 1)
                    await Sent().give(stream, 3, SIZE)
                    await stream.send_eof()
    assert (received.size, received.digest) == (SIZE, digest(3, SIZE))


@pytest.mark.parametrize("security", [NOISE, TLS])
async def test_helia_gets_100_mib_back_from_us_as_they_were(remotes: Remotes, security: str) -> None:
    async def echo(stream: Stream) -> None:
        try:
            while True:
                await stream.send(await stream.receive_chunk())
        except anyio.EndOfStream:
            await stream.send_eof()

    with anyio.fail_after(ENOUGH):
        async with open_stack(security) as node:
            node.swarm.handle(ECHO, echo)
            with flat_memory(SIZE):
                answer = await remotes("helia-ed25519").call("echo", addr=str(own_addr(node)), size=SIZE)
    assert (answer["bytes"], answer["match"]) == (SIZE, True)


async def test_perf_counts_100_mib_each_way_with_either_side_as_the_server(remotes: Remotes, tmp_path: Path) -> None:
    remote = remotes("helia-ed25519")
    with anyio.fail_after(ENOUGH):
        async with open_test_node(tmp_path / "home", {"Swarm.Perf": True}) as node:
            await connect(node, remote, "outbound")
            with flat_memory(SIZE):
                ours = await measure(node.swarm, remote.peer_id, upload=SIZE, download=SIZE)
                theirs = await remote.call("perf", addr=str(node.peer_id), send=SIZE, recv=SIZE)

    assert (ours.uploaded, ours.downloaded) == (SIZE, SIZE)
    assert (theirs["sent"], theirs["received"]) == (SIZE, SIZE)


class SlowReader:
    """Reads a byte, and nothing more until it is released, then all, and says so with a byte."""

    def __init__(self) -> None:
        self.released = anyio.Event()
        self.received = Received()

    async def serve(self, stream: ByteStream) -> None:
        await self.received.take(stream, 1)
        await self.released.wait()
        await self.received.take(stream, SIZE - 1)
        await stream.send(b"!")


async def stalled(count: Callable[[], int]) -> int:
    """Return `count` once it has begun to grow and has not grown for half a second."""
    before, now = -1, count()
    with anyio.fail_after(ENOUGH):
        while not now or now != before:
            await anyio.sleep(0.5)
            before, now = now, count()
    return now


async def test_helia_waits_while_we_do_not_read(remotes: Remotes) -> None:
    remote, reader = remotes("helia-ed25519"), SlowReader()
    with anyio.fail_after(ENOUGH):
        async with open_stack() as node:
            node.swarm.handle(PERF, reader.serve)
            with flat_memory(SIZE):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(partial(remote.call, "perf", addr=str(own_addr(node)), send=SIZE))
                    await wait_until(lambda: node.resources.memory > 0)
                    assert await stalled(lambda: node.resources.memory) <= WINDOW
                    assert await ping(node, remote) < 5  # nobody else waits
                    reader.released.set()
                    await wait_until(lambda: reader.received.size == SIZE, ENOUGH)


async def test_who_sends_through_kubo_waits_while_we_do_not_read(bridge: Remote) -> None:
    reader, sent = SlowReader(), Sent()
    with anyio.fail_after(ENOUGH):
        async with open_stack() as node:
            node.swarm.handle("/x/slow", reader.serve)
            await connect(node, bridge, "inbound")
            with flat_memory(SIZE):
                client = await connect_through(bridge, "/x/slow", node)
                async with client, anyio.create_task_group() as tasks:
                    tasks.start_soon(sent.give, client, 5, SIZE)
                    assert await stalled(lambda: sent.size) < SIZE
                    assert 0 < node.resources.memory <= WINDOW
                    assert await ping(node, bridge) < 5
                    reader.released.set()
                    assert await client.receive() == b"!"
    assert reader.received.digest == digest(5, SIZE)


async def test_we_wait_while_whom_we_reach_through_kubo_does_not_read(bridge: Remote) -> None:
    reader, sent = SlowReader(), Sent()
    with anyio.fail_after(ENOUGH):
        async with open_stack() as node, bridged_to(bridge, "/x/slow", reader.serve):
            connection = await connect(node, bridge, "outbound")
            with flat_memory(SIZE):
                async with await connection.open_stream(["/x/slow"]) as stream, anyio.create_task_group() as tasks:
                    tasks.start_soon(sent.give, stream, 6, SIZE)
                    assert await stalled(lambda: sent.size) < SIZE
                    assert await ping(node, bridge) < 5
                    reader.released.set()
                    assert await stream.receive() == b"!"
    assert reader.received.digest == digest(6, SIZE)


async def test_an_echo_of_helia_that_we_do_not_read_waits_for_us(remotes: Remotes) -> None:
    """Helia itself takes in all that we send meanwhile."""
    remote, received, sent = remotes("helia-ed25519"), Received(), Sent()
    with anyio.fail_after(ENOUGH):
        async with open_stack() as node:
            connection = await connect(node, remote, "inbound")
            with flat_memory(SIZE):
                async with await connection.open_stream([ECHO]) as stream, anyio.create_task_group() as tasks:
                    tasks.start_soon(sent.give, stream, 7, SIZE)
                    await stalled(lambda: sent.size)
                    assert 0 < node.resources.memory <= WINDOW
                    assert await ping(node, remote) < 5
                    await received.take(stream, SIZE)
    assert received.digest == digest(7, SIZE)
