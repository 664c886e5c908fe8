"""What every Transport and Connection promises: the promises of `ipvcs.node.network.interface`, each as a test."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import TaskGroup

from ipvcs.errors import UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.errors import DialError, ListenError, PeerMismatchError, ProtocolNotSupportedError
from ipvcs.node.network.interface import Connection, Listener, Stream, StreamHandler, Transport
from tests.contracts.stream import pattern, read_all

ECHO = "/echo/1.0.0"
SINK = "/sink/1.0.0"


@dataclass
class Owner:
    """A ConnectionOwner that runs handlers in a task group and writes down what it hears."""

    tasks: TaskGroup
    handlers: dict[str, StreamHandler] = field(default_factory=dict)
    accepts: bool = True
    accepted: list[Connection] = field(default_factory=list)
    """What it owns, dialled or accepted."""
    closed: list[tuple[Connection, BaseException | None]] = field(default_factory=list)

    def on_stream(self, stream: Stream) -> bool:
        self.tasks.start_soon(self._serve, stream)
        return True

    async def _serve(self, stream: Stream) -> None:
        await self.handlers[stream.protocol](stream)

    def on_closed(self, connection: Connection, reason: BaseException | None) -> None:
        self.closed.append((connection, reason))

    def served_protocols(self) -> Collection[str]:
        return self.handlers.keys()

    async def accept(self, connection: Connection) -> "Owner | None":
        if not self.accepts:
            return None
        self.accepted.append(connection)
        return self


async def echo(stream: Stream) -> None:
    """Send back what comes, then end."""
    try:
        while True:
            await stream.send(bytes(await stream.receive_chunk()))
    except anyio.EndOfStream:
        await stream.aclose()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass


async def sink(stream: Stream) -> None:
    """Read and forget, and say when it was all."""
    try:
        await read_all(stream)
        await stream.send(b"done")
        await stream.aclose()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass


@dataclass
class Pair:
    """Two transports that can reach each other, and an owner for each."""

    near: Transport
    far: Transport
    near_peer: PeerId
    far_peer: PeerId
    listen_addr: Multiaddr
    """Where the far one may listen; its port is 0."""


@dataclass
class Running(Pair):
    """A pair, the far one listening."""

    near_owner: Owner
    far_owner: Owner
    listener: Listener

    @property
    def addr(self) -> Multiaddr:
        """Where the far one listens."""
        return self.listener.addrs[0]

    async def dial(self) -> Connection:
        """Return the near end of a new connection."""
        return await self.dial_as(self.far_peer)

    async def dial_as(self, peer_id: PeerId | None) -> Connection:
        """Return the near end of a new connection to the far one, expected to be `peer_id`."""
        connection = await self.near.dial(self.addr, peer_id, self.near_owner)
        self.near_owner.accepted.append(connection)
        return connection

    async def connect(self) -> tuple[Connection, Connection]:
        """Return both ends of a new connection."""
        count = len(self.far_owner.accepted)
        near = await self.dial()
        await until(lambda: len(self.far_owner.accepted) > count)
        return near, self.far_owner.accepted[-1]


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds. The caller sets the deadline."""
    while not condition():
        await anyio.sleep(0.005)


@pytest.mark.anyio
class TransportContract:
    """What every Transport promises. Subclass it, supply `pair` and, if need be, an `anyio_backend` fixture."""

    patience = 10.0
    """Seconds after which something that should have happened did not."""
    unused_addr = Multiaddr.parse("/ip4/127.0.0.1/tcp/9")
    """Where nobody listens."""

    def pair(self) -> AbstractAsyncContextManager[Pair]:
        """Return two fresh transports."""
        raise NotImplementedError

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Running]:
        """Let the far one listen, the test's body within the deadline."""
        async with self.pair() as pair, anyio.create_task_group() as tasks:
            near_owner = Owner(tasks, {ECHO: echo, SINK: sink})
            far_owner = Owner(tasks, {ECHO: echo, SINK: sink})
            listener = await pair.far.listen(pair.listen_addr, far_owner.accept)
            with anyio.fail_after(self.patience):
                yield Running(**vars(pair), near_owner=near_owner, far_owner=far_owner, listener=listener)
                await listener.aclose()
                for connection in (*near_owner.accepted, *far_owner.accepted):
                    await connection.aclose()
                    await connection.wait_closed()
            tasks.cancel_scope.cancel()

    async def echoes(self, connection: Connection, data: bytes) -> bool:
        """Tell whether `data` comes back on a new stream."""
        stream = await connection.open_stream([ECHO])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send_then_end, stream, data)
            received = await read_all(stream)
        await stream.aclose()
        return received == data

    async def _send_then_end(self, stream: Stream, data: bytes) -> None:
        await stream.send(data)
        await stream.send_eof()

    async def test_a_listener_tells_its_real_port_and_can_be_dialled_there(self) -> None:
        async with self.running() as net:
            assert net.addr != net.listen_addr
            assert net.near.can_dial(net.addr)
            connection = await net.dial()
            assert connection.remote_addr == net.addr

    async def test_both_ends_know_each_other(self) -> None:
        async with self.running() as net:
            near, far = await net.connect()
            assert near.local_peer == far.remote_peer == net.near_peer
            assert near.remote_peer == far.local_peer == net.far_peer
            assert near.remote_key.peer_id == net.far_peer
            assert far.remote_key.peer_id == net.near_peer
            assert (near.direction, far.direction) == ("outbound", "inbound")
            assert near.remote_addr == far.local_addr
            assert near.local_addr == far.remote_addr
            assert (near.security, near.muxer) == (far.security, far.muxer)
            assert near.opened <= anyio.current_time()
            assert not near.is_closed
            assert not far.is_closed

    async def test_without_a_peer_id_whoever_answers_will_do(self) -> None:
        async with self.running() as net:
            connection = await net.dial_as(None)
            assert connection.remote_peer == net.far_peer

    async def test_somebody_else_than_was_dialled_is_refused(self) -> None:
        async with self.running() as net:
            with pytest.raises(PeerMismatchError) as caught:
                await net.dial_as(net.near_peer)
            assert (caught.value.expected, caught.value.actual) == (net.near_peer, net.far_peer)
            assert net.near_owner.closed == []

    async def test_nobody_there_is_a_dial_error(self) -> None:
        async with self.running() as net:
            with pytest.raises(DialError, match="refused"):
                await net.near.dial(self.unused_addr, net.far_peer, net.near_owner)

    async def test_an_address_in_use_is_a_listen_error(self) -> None:
        async with self.running() as net:
            with pytest.raises(ListenError):
                await net.near.listen(net.addr, net.near_owner.accept)

    async def test_a_closed_listener_accepts_nothing_more_and_leaves_what_stands(self) -> None:
        async with self.running() as net:
            near, far = await net.connect()
            await net.listener.aclose()
            with pytest.raises(DialError):
                await net.dial()
            assert await self.echoes(near, b"still here")
            assert not far.is_closed

    async def test_a_connection_that_is_not_accepted_ends(self) -> None:
        async with self.running() as net:
            net.far_owner.accepts = False
            try:
                connection = await net.dial()
            except DialError:  # or it never stood
                assert net.near_owner.closed == []
            else:
                await connection.wait_closed()
                await until(lambda: len(net.near_owner.closed) == 1)
            assert net.far_owner.accepted == []
            assert net.far_owner.closed == []

    async def test_a_cancelled_dial_leaves_nothing_behind(self) -> None:
        async with self.running() as net:
            for delay in (0.0, 0.001, 0.003, 0.01):
                count = len(net.far_owner.accepted)
                with anyio.move_on_after(delay) as scope:
                    connection = await net.dial()
                if not scope.cancelled_caught:
                    await until(lambda count=count: len(net.far_owner.accepted) > count)  # type: ignore[misc]
                    await connection.aclose()
            near, _far = await net.connect()
            await until(lambda: all(each.is_closed for each in net.far_owner.accepted[:-1]))
            assert await self.echoes(near, b"and the next one works")

    async def test_streams_can_be_opened_from_both_ends(self) -> None:
        async with self.running() as net:
            near, far = await net.connect()
            assert await self.echoes(near, b"from near")
            assert await self.echoes(far, b"from far")

    async def test_the_first_protocol_that_the_peer_speaks_is_agreed_on(self) -> None:
        async with self.running() as net:
            near, _far = await net.connect()
            stream = await near.open_stream(["/newer/2.0.0", ECHO, SINK])
            assert stream.protocol == ECHO
            assert stream.direction == "outbound"
            assert stream.connection is near

    async def test_no_common_protocol_is_an_error_and_the_connection_stays(self) -> None:
        async with self.running() as net:
            near, _far = await net.connect()
            with pytest.raises(ProtocolNotSupportedError) as caught:
                await near.open_stream(["/a/1", "/b/1"])
            assert caught.value.protocols == ("/a/1", "/b/1")
            assert await self.echoes(near, b"still here")
            await until(lambda: not near.streams)

    async def test_a_lazy_stream_sends_before_the_answer(self) -> None:
        async with self.running() as net:
            near, _far = await net.connect()
            stream = await near.open_stream([ECHO], lazy=True)
            assert stream.protocol == ECHO
            await stream.send(b"hello")
            await stream.send_eof()
            assert await read_all(stream) == b"hello"

    async def test_a_refused_lazy_stream_breaks_when_it_is_read(self) -> None:
        async with self.running() as net:
            near, _far = await net.connect()
            stream = await near.open_stream(["/unknown/1"], lazy=True)
            await stream.send(b"hello")
            with pytest.raises(anyio.BrokenResourceError):
                await stream.receive()
            assert await self.echoes(near, b"still here")

    async def test_a_protocol_served_from_now_on_can_be_asked_for(self) -> None:
        async with self.running() as net:
            near, _far = await net.connect()
            with pytest.raises(ProtocolNotSupportedError):
                await near.open_stream(["/late/1"])
            net.far_owner.handlers["/late/1"] = echo
            assert (await near.open_stream(["/late/1"])).protocol == "/late/1"

    async def test_a_cancelled_open_leaves_no_stream(self) -> None:
        async with self.running() as net:
            near, _far = await net.connect()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await near.open_stream([ECHO])
            await until(lambda: not near.streams)
            assert await self.echoes(near, b"still here")

    async def test_two_hundred_streams_at_once_do_not_disturb_each_other(self) -> None:
        async with self.running() as net:
            near, far = await net.connect()
            results: list[bool] = []

            async def use(connection: Connection, number: int) -> None:
                results.append(await self.echoes(connection, pattern(1000 + number)))

            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(use, near, number)
                    tasks.start_soon(use, far, number)
            assert results == [True] * 200
            await until(lambda: not near.streams and not far.streams)

    async def test_a_stream_that_nobody_reads_does_not_hold_up_the_others(self) -> None:
        async def never_read(stream: Stream) -> None:
            await stream.connection.wait_closed()

        async with self.running() as net:
            net.far_owner.handlers["/never/1"] = never_read
            near, _far = await net.connect()
            stuck = await near.open_stream(["/never/1"])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stuck.send, bytes(4 * 1024 * 1024))
                await anyio.sleep(0.1)
                assert await self.echoes(near, pattern(1024 * 1024))
                tasks.cancel_scope.cancel()

    @pytest.mark.parametrize("who", ["near", "far"])
    async def test_a_goodbye_is_noticed_by_both_once_and_without_a_reason(self, who: str) -> None:
        async with self.running() as net:
            near, far = await net.connect()
            await (near if who == "near" else far).aclose()
            await near.wait_closed()
            await far.wait_closed()
            assert near.is_closed
            assert far.is_closed
            await until(lambda: bool(net.near_owner.closed and net.far_owner.closed))
            await near.aclose()  # twice is as good as once
            await anyio.sleep(0.05)
            assert net.near_owner.closed == [(near, None)]
            assert net.far_owner.closed == [(far, None)]

    async def test_a_connection_that_ended_opens_no_streams(self) -> None:
        async with self.running() as net:
            near, far = await net.connect()
            await near.aclose()
            await far.wait_closed()
            for connection in (near, far):
                with pytest.raises(UnavailableError):
                    await connection.open_stream([ECHO])
                assert not connection.streams

    async def test_the_end_wakes_who_reads(self) -> None:
        async with self.running() as net:
            near, far = await net.connect()
            stream = await near.open_stream([SINK])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(far.aclose)
                with pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError)):
                    await read_all(stream)

    async def test_a_cancelled_goodbye_still_ends_the_connection(self) -> None:
        async with self.running() as net:
            near, far = await net.connect()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await near.aclose()
            await near.wait_closed()
            await far.wait_closed()
            await until(lambda: len(net.near_owner.closed) == 1)

    async def test_several_connections_between_two_peers_are_independent(self) -> None:
        async with self.running() as net:
            first, _far_first = await net.connect()
            second, _far_second = await net.connect()
            await first.aclose()
            assert await self.echoes(second, b"alone")
