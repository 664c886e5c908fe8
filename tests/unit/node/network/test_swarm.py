"""What a swarm does with connections that stand: streams and their handlers, limits, and the end."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio
from trio.testing import MockClock

from ipvcs.errors import LocalProtocolError, RemoteProtocolError, UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.connection_table import OpenGate
from ipvcs.node.network.errors import DialError, ProtocolNotSupportedError
from ipvcs.node.network.interface import Connection, PeerInfo, Stream
from ipvcs.node.network.limits import Limits
from ipvcs.node.network.swarm import GOODBYE_TIMEOUT
from tests.contracts.stream import read_all
from tests.contracts.transport import ECHO, echo
from tests.fakes.dialing import dial_again
from tests.fakes.memory_network import MemoryNetwork, key_of
from tests.fakes.memory_swarm import MemorySwarm, build_swarm, running_swarms

pytestmark = pytest.mark.anyio

LATENCY = 0.05


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@asynccontextmanager
async def swarms(*names: str, **options: Any) -> AsyncGenerator[tuple[MemoryNetwork, list[MemorySwarm]]]:
    """Run swarms; afterwards not a connection and not a task may be left of them."""
    before = trio.lowlevel.current_statistics().tasks_living
    async with MemoryNetwork(latency=LATENCY) as network:
        async with running_swarms(network, *names, **options) as running:
            yield network, running
        await anyio.sleep(1)  # the last goodbyes are on their way
        assert not network.live
        assert trio.lowlevel.current_statistics().tasks_living == before


class Log:
    def __init__(self) -> None:
        self.heard: list[tuple[str, PeerId]] = []

    def connected(self, connection: Connection) -> None:
        self.heard.append(("connected", connection.remote_peer))

    def disconnected(self, connection: Connection) -> None:
        self.heard.append(("disconnected", connection.remote_peer))


async def echoes(swarm: MemorySwarm, peer_id: PeerId, data: bytes = b"hello") -> bool:
    stream = await swarm.open_stream(peer_id, [ECHO])
    await stream.send(data)
    await stream.send_eof()
    received = await read_all(stream)
    await stream.aclose()
    return received == data


# ---- streams and their handlers ----


async def test_open_stream_connects_to_a_known_peer_first() -> None:
    async with swarms("alice", "bob") as (network, [alice, bob]):
        bob.handle(ECHO, echo)
        with pytest.raises(DialError):
            await alice.open_stream(bob.peer_id, [ECHO])
        alice.book.known[bob.peer_id] = list(bob.addresses())
        assert await echoes(alice, bob.peer_id)
        assert await echoes(alice, bob.peer_id)
        assert len(network.dials) == 1


async def test_the_side_that_was_dialled_may_open_streams_too() -> None:
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        alice.handle(ECHO, echo)
        await alice.connect(bob.info)
        await anyio.sleep(2 * LATENCY)
        assert await echoes(bob, alice.peer_id)


async def test_each_protocol_has_its_own_handler_and_only_the_exact_name_counts() -> None:
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        served: list[str] = []

        async def serve(stream: Stream) -> None:
            served.append(stream.protocol)

        for protocol in ("/b/1.0.0", "/a/1.0.0"):
            bob.handle(protocol, serve)
        await alice.connect(bob.info)
        await alice.open_stream(bob.peer_id, ["/c/1.0.0", "/a/1.0.0", "/b/1.0.0"])
        await alice.open_stream(bob.peer_id, ["/b/1.0.0"])
        for wrong in ("/a/1.0", "/a/1.0.0/", "/A/1.0.0"):
            with pytest.raises(ProtocolNotSupportedError):
                await alice.open_stream(bob.peer_id, [wrong])

        assert served == ["/a/1.0.0", "/b/1.0.0"]
        assert bob.protocols() == ("/a/1.0.0", "/b/1.0.0")


async def test_a_protocol_has_one_handler_and_none_after_unhandle() -> None:
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        bob.handle(ECHO, echo)
        with pytest.raises(LocalProtocolError, match=ECHO):
            bob.handle(ECHO, echo)
        await alice.connect(bob.info)
        running = await alice.open_stream(bob.peer_id, [ECHO])

        bob.unhandle(ECHO)

        assert bob.protocols() == ()
        with pytest.raises(ProtocolNotSupportedError):
            await alice.open_stream(bob.peer_id, [ECHO])
        await running.send(b"what runs is not touched")
        assert await running.receive() == b"what runs is not touched"
        bob.handle(ECHO, echo)
        assert await echoes(alice, bob.peer_id)


async def test_a_service_decides_by_peer_which_streams_are_served_and_no_task_starts_for_others() -> None:
    async with swarms("alice", "bob", "carol") as (_network, [alice, bob, carol]):
        asked: list[PeerId] = []

        def admit(peer_id: PeerId) -> bool:
            asked.append(peer_id)
            return peer_id == carol.peer_id

        served: list[PeerId] = []

        async def serve(stream: Stream) -> None:
            served.append(stream.connection.remote_peer)
            await echo(stream)

        bob.handle(ECHO, serve, admit=admit)
        for each in (alice, carol):
            await each.connect(bob.info)
        refused = await alice.open_stream(bob.peer_id, [ECHO])
        with pytest.raises(anyio.BrokenResourceError):
            await refused.receive()
        assert await echoes(carol, bob.peer_id)
        assert asked == [alice.peer_id, carol.peer_id]
        assert served == [carol.peer_id]
        bob.unhandle(ECHO)
        bob.handle(ECHO, serve)  # the next service has a say of its own, or none
        assert await echoes(alice, bob.peer_id)


async def test_a_stream_whose_handler_went_away_during_the_negotiation_is_reset() -> None:
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        bob.handle(ECHO, echo)
        await alice.connect(bob.info)
        stream = await alice.open_stream(bob.peer_id, [ECHO])
        theirs = next(iter(bob.connections()[0].streams))
        bob.unhandle(ECHO)
        assert not bob.on_stream(theirs)
        theirs.reset()  # as its connection does
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


async def test_changes_of_what_is_served_and_where_are_announced() -> None:
    async with swarms("alice") as (_network, [alice]):
        changes: list[tuple[tuple[str, ...], int]] = []
        alice.watch(lambda: changes.append((alice.protocols(), len(alice.addresses()))))
        alice.handle(ECHO, echo)
        alice.unhandle(ECHO)
        alice.unhandle(ECHO)  # changes nothing
        await alice.listen([Multiaddr.parse("/ip4/10.0.0.1/tcp/0")])
        assert changes == [((ECHO,), 1), ((), 1), ((), 2)]


async def test_a_stream_is_closed_when_its_handler_returns() -> None:
    async def say_hello(stream: Stream) -> None:
        await stream.send(b"hello")

    async with swarms("alice", "bob") as (_network, [alice, bob]):
        bob.handle("/hello/1", say_hello)
        await alice.connect(bob.info)
        stream = await alice.open_stream(bob.peer_id, ["/hello/1"])
        assert await read_all(stream) == b"hello"
        assert not bob.connections()[0].streams


async def _broken_by_the_peer(_stream: Stream) -> None:
    raise RemoteProtocolError("nonsense arrived")


async def _stream_broke(_stream: Stream) -> None:
    raise anyio.BrokenResourceError


async def _peer_is_silent(_stream: Stream) -> None:
    with anyio.fail_after(1):
        await anyio.sleep_forever()


async def _broken_in_a_task_group(_stream: Stream) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_broken_by_the_peer, _stream)


async def _bug(_stream: Stream) -> None:
    raise ZeroDivisionError("a bug")


async def _misuse(_stream: Stream) -> None:
    raise LocalProtocolError("we misused it")


async def _bug_in_a_task_group(stream: Stream) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_bug, stream)


@pytest.mark.parametrize(
    ("handler", "level"),
    [(_broken_by_the_peer, logging.DEBUG), (_stream_broke, logging.DEBUG), (_peer_is_silent, logging.DEBUG),
     (_broken_in_a_task_group, logging.DEBUG), (_bug, logging.ERROR), (_misuse, logging.ERROR),
     (_bug_in_a_task_group, logging.ERROR)],
)  # fmt: skip
async def test_a_stream_is_reset_when_its_handler_raises_and_nothing_else_ends(
    handler: Any, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ipvcs.node.network.swarm")
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        bob.handle("/bad/1", handler)
        bob.handle(ECHO, echo)
        await alice.connect(bob.info)
        stream = await alice.open_stream(bob.peer_id, ["/bad/1"])
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()
        assert await echoes(alice, bob.peer_id)
    [record] = [record for record in caplog.records if "/bad/1" in record.getMessage()]
    assert record.levelno == level
    assert bool(record.exc_info) == (level == logging.ERROR)
    assert str(alice.peer_id) in record.getMessage()


async def test_new_streams_go_on_the_oldest_connection() -> None:
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        for swarm in (alice, bob):
            swarm.handle(ECHO, echo)
        first = await alice.connect(bob.info)
        second = await dial_again(alice, bob.peer_id, bob.addresses()[0])
        assert second is not first
        await anyio.sleep(1)
        assert alice.connections(bob.peer_id) == [first, second]
        stream = await alice.open_stream(bob.peer_id, [ECHO])
        assert stream.connection is first
        await first.aclose()
        stream = await alice.open_stream(bob.peer_id, [ECHO])
        assert stream.connection is second


async def test_a_connection_that_takes_no_streams_any_more_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a go-away: it still stands, for the streams that run."""

    async def refuse(*_args: object, **_options: object) -> Stream:
        raise UnavailableError("the connection takes no new streams")

    async with swarms("alice", "bob") as (network, [alice, bob]):
        bob.handle(ECHO, echo)
        alice.book.known[bob.peer_id] = list(bob.addresses())
        first = await alice.connect(bob.info)
        monkeypatch.setattr(first, "open_stream", refuse)

        assert await echoes(alice, bob.peer_id)

        assert len(network.dials) == 2
        assert len(alice.connections(bob.peer_id)) == 2


# ---- connections ----


async def test_notifiees_hear_of_both_directions_once() -> None:
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        logs = Log(), Log()
        alice.subscribe(logs[0])
        bob.subscribe(logs[1])
        await alice.connect(bob.info)
        await anyio.sleep(1)
        await bob.disconnect(alice.peer_id)
        await anyio.sleep(1)
        alice.unsubscribe(logs[0])
        await alice.connect(bob.info)
        await anyio.sleep(1)
        assert logs[0].heard == [("connected", bob.peer_id), ("disconnected", bob.peer_id)]
        assert logs[1].heard == [
            ("connected", alice.peer_id), ("disconnected", alice.peer_id), ("connected", alice.peer_id)
        ]  # fmt: skip


async def test_a_lost_connection_is_forgotten_once_and_the_next_stream_dials_anew() -> None:
    async with swarms("alice", "bob") as (network, [alice, bob]):
        bob.handle(ECHO, echo)
        alice.book.known[bob.peer_id] = list(bob.addresses())
        log = Log()
        alice.subscribe(log)
        stream = await alice.open_stream(bob.peer_id, [ECHO])

        network.kill(alice.peer_id, bob.peer_id)

        assert alice.connections() == bob.connections() == []
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()
        alice.on_closed(stream.connection, None)  # a transport that says it twice
        assert log.heard == [("connected", bob.peer_id), ("disconnected", bob.peer_id)]
        assert await echoes(alice, bob.peer_id)


async def test_a_connection_that_ends_before_the_dialler_wakes_is_an_error_not_a_dead_connection() -> None:
    async with swarms("alice", "bob") as (network, [alice, bob]):

        class Kill(Log):
            def connected(self, connection: Connection) -> None:
                network.tasks.start_soon(self._kill)

            async def _kill(self) -> None:
                network.kill(alice.peer_id, bob.peer_id)

        alice.subscribe(Kill())
        for _ in range(10):  # which of the two tasks runs first is up to the event loop
            try:
                connection = await alice.connect(bob.info, force=True)
            except DialError as exc:
                assert "ended the connection at once" in str(exc)  # noqa: PT017
            else:
                assert not connection.is_closed
                await connection.wait_closed()
            assert alice.connections() == []


async def test_disconnect_ends_every_connection_to_that_peer_and_no_other() -> None:
    async with swarms("alice", "bob", "carol") as (_network, [alice, bob, carol]):
        await alice.connect(bob.info)
        await dial_again(alice, bob.peer_id, bob.addresses()[0])
        await alice.connect(carol.info)
        await anyio.sleep(1)
        await alice.disconnect(bob.peer_id)
        assert [each.remote_peer for each in alice.connections()] == [carol.peer_id]
        await anyio.sleep(1)
        assert bob.connections() == []
        await alice.disconnect(bob.peer_id)  # nobody there is fine


async def test_disconnect_waits_two_seconds_for_a_peer_that_does_not_read() -> None:
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        alice.transport.goodbye_delay = 3600.0
        await alice.connect(bob.info)
        before = anyio.current_time()
        await alice.disconnect(bob.peer_id)
        assert anyio.current_time() - before == pytest.approx(GOODBYE_TIMEOUT)
        assert alice.connections() == []


async def test_a_connection_that_never_says_it_ended_is_forgotten_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        log = Log()
        alice.subscribe(log)
        connection = await alice.connect(bob.info)
        with monkeypatch.context() as patch:
            patch.setattr(connection, "aclose", anyio.sleep_forever)
            await alice.disconnect(bob.peer_id)
        assert alice.connections() == []
        assert [what for what, _peer in log.heard] == ["connected", "disconnected"]
        await connection.aclose()
        assert [what for what, _peer in log.heard] == ["connected", "disconnected"]


async def test_inbound_connections_are_limited_for_each_peer() -> None:
    async with swarms("alice", limits=Limits(connections_per_peer=3)) as (network, [alice]):
        mallory = build_swarm(network, "mallory", limits=Limits(connections_per_peer=100))
        async with mallory:
            for _ in range(6):
                await dial_again(mallory, alice.peer_id, alice.addresses()[0])
            await anyio.sleep(1)
            assert len(alice.connections()) == len(mallory.connections()) == 3


async def test_inbound_connections_are_limited_for_each_ip_and_in_all() -> None:
    limits = Limits(connections=5, connections_per_ip=2)
    async with swarms("alice", limits=limits) as (network, [alice]), anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(_hold_a_connection, network, alice, number)
        await anyio.sleep(1)
        assert len(alice.connections()) == 5
        homes = [str(each.remote_addr).split("/")[2] for each in alice.connections()]
        assert max(homes.count(home) for home in homes) == 2
        tasks.cancel_scope.cancel()


async def _hold_a_connection(network: MemoryNetwork, to: MemorySwarm, number: int) -> None:
    async with build_swarm(network, f"peer {number}") as swarm:
        swarm.transport.home = Multiaddr.parse(f"/ip4/10.7.0.{number // 4}/tcp/0")  # four peers on each
        await swarm.connect(to.info)
        await anyio.sleep_forever()


async def test_a_full_table_asks_for_room_and_serves_those_it_has() -> None:
    asked: list[float] = []
    options: dict[str, Any] = {"limits": Limits(connections=1), "make_room": lambda: asked.append(anyio.current_time())}
    async with swarms("alice", **options) as (network, [alice]):
        alice.handle(ECHO, echo)
        async with build_swarm(network, "bob") as bob, build_swarm(network, "carol") as carol:
            await bob.connect(alice.info)
            await anyio.sleep(1)
            await carol.connect(alice.info)
            await anyio.sleep(1)
            assert len(asked) == 1
            assert carol.connections() == []
            assert await echoes(bob, alice.peer_id)
            await bob.disconnect(alice.peer_id)
            await anyio.sleep(1)
            await carol.connect(alice.info)
            assert await echoes(carol, alice.peer_id)


async def test_inbound_connections_are_gated() -> None:
    class NoBob(OpenGate):
        def why_not_stay(self, peer_id: PeerId) -> str | None:
            return "no bobs" if peer_id == key_of("bob").peer_id else None

        def why_not_accept(self, addr: Multiaddr) -> str | None:
            return "no strangers" if str(addr).startswith("/ip4/10.66.") else None

    async with swarms("alice", "bob", "carol", gater=NoBob()) as (_network, [alice, bob, carol]):
        await bob.connect(alice.info)
        carol.transport.home = Multiaddr.parse("/ip4/10.66.0.1/tcp/0")
        await carol.connect(alice.info)
        await anyio.sleep(1)
        assert alice.connections() == bob.connections() == carol.connections() == []
        carol.transport.home = Multiaddr.parse("/ip4/10.67.0.1/tcp/0")
        await carol.connect(alice.info)
        await anyio.sleep(1)
        assert [each.remote_peer for each in alice.connections()] == [carol.peer_id]


async def test_a_partition_leaves_the_connection_and_healing_it_the_stream() -> None:
    async with swarms("alice", "bob") as (network, [alice, bob]):
        bob.handle(ECHO, echo)
        await alice.connect(bob.info)
        stream = await alice.open_stream(bob.peer_id, [ECHO])
        network.partition(alice.peer_id, bob.peer_id)
        await stream.send(b"over the gap")
        await anyio.sleep(600)
        network.heal(alice.peer_id, bob.peer_id)
        assert await stream.receive() == b"over the gap"


# ---- the end ----


async def test_closing_says_goodbye_to_all_at_once_and_takes_two_seconds_at_most() -> None:
    async with swarms(*(f"peer {number}" for number in range(6))) as (_network, [alice, *others]):
        for other in others:
            await alice.connect(other.info)
        await anyio.sleep(1)
        alice.transport.goodbye_delay = 1.5
        before = anyio.current_time()
        await alice.aclose()
        assert anyio.current_time() - before == pytest.approx(1.5)
        assert alice.connections() == []
        assert alice.listen_addresses() == ()
        await anyio.sleep(1)
        assert all(other.connections() == [] for other in others)
        await alice.aclose()  # twice is as good as once


async def test_closing_does_not_wait_for_peers_that_do_not_read() -> None:
    async with swarms("alice", "bob", "carol") as (_network, [alice, bob, carol]):
        log = Log()
        alice.subscribe(log)
        await alice.connect(bob.info)
        await alice.connect(carol.info)
        alice.transport.goodbye_delay = 3600.0
        before = anyio.current_time()
        await alice.aclose()
        assert anyio.current_time() - before == pytest.approx(GOODBYE_TIMEOUT)
        assert sorted(log.heard) == sorted(
            (what, swarm.peer_id) for what in ("connected", "disconnected") for swarm in (bob, carol)
        )


async def test_leaving_the_block_ends_handlers_that_run_and_peers_notice() -> None:
    ended: list[str] = []

    async def sleep(_stream: Stream) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("handler")

    async with swarms("alice") as (network, [alice]):
        async with build_swarm(network, "bob") as bob:
            bob.handle("/sleep/1", sleep)
            addr = (await bob.listen([Multiaddr.parse("/ip4/10.0.0.9/tcp/0")]))[0]
            await alice.connect(PeerInfo(bob.peer_id, (addr,)))
            stream = await alice.open_stream(bob.peer_id, ["/sleep/1"])
        assert ended == ["handler"]
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


async def test_a_cancelled_block_still_says_goodbye() -> None:
    async with swarms("alice") as (network, [alice]):
        before = anyio.current_time()
        with anyio.move_on_after(1):
            async with build_swarm(network, "bob") as bob:
                bob.transport.goodbye_delay = 0.5
                await bob.connect(alice.info)
                await anyio.sleep_forever()
        assert anyio.current_time() - before == pytest.approx(1.5)  # it took its time for the goodbye
        await anyio.sleep(LATENCY * 2)
        assert alice.connections() == []


async def test_a_closed_swarm_takes_in_nothing_more() -> None:
    async with swarms("alice", "bob") as (_network, [alice, bob]):
        info = alice.info
        dialled: list[Connection] = []

        async def connect() -> None:
            dialled.append(await bob.connect(info))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            await anyio.sleep(2.5 * LATENCY)  # the dialler has it, the other side is about to accept
            await alice.aclose()
        await anyio.sleep(1)
        assert len(dialled) == 1
        assert alice.connections() == bob.connections() == []
        with pytest.raises(DialError, match="refused"):
            await bob.connect(info)


async def test_a_swarm_works_within_its_block_only() -> None:
    async with MemoryNetwork() as network:
        swarm = build_swarm(network, "alice")
        info = PeerInfo(key_of("bob").peer_id)
        for call in (
            lambda: swarm.connect(info),
            lambda: swarm.open_stream(info.peer_id, [ECHO]),
            lambda: swarm.listen([Multiaddr.parse("/ip4/10.0.0.1/tcp/0")]),
        ):
            with pytest.raises(LocalProtocolError, match="not running"):
                await call()
        async with swarm:
            pass
        with pytest.raises(LocalProtocolError, match="not running"):
            await swarm.listen([Multiaddr.parse("/ip4/10.0.0.1/tcp/0")])


async def test_a_storm_of_connects_streams_and_kills_leaves_nothing_behind() -> None:
    """Five peers dial each other, talk, and lose connections; every error is one that the interfaces name."""
    names = [f"peer {number}" for number in range(5)]
    async with swarms(*names) as (network, running):
        for swarm in running:
            swarm.handle(ECHO, echo)
            for other in running:
                swarm.book.known[other.peer_id] = list(other.addresses())
        done = 0

        async def talk(swarm: MemorySwarm, start: int) -> None:
            nonlocal done
            for turn in range(20):
                other = running[(start + turn) % len(running)]
                if other is swarm:
                    continue
                try:
                    worked = await echoes(swarm, other.peer_id, bytes(1000))
                except (anyio.BrokenResourceError, UnavailableError):
                    await anyio.sleep(6)  # longer than the back-off
                else:
                    done += worked

        async def kill() -> None:
            for turn in range(30):
                await anyio.sleep(0.7)
                a, b = running[turn % 5], running[(turn * 3 + 1) % 5]
                network.kill(a.peer_id, b.peer_id)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            for number, swarm in enumerate(running):
                for start in range(3):
                    tasks.start_soon(talk, swarm, number + start)
        assert done > 150
        await anyio.sleep(1)
        for swarm in running:
            assert all(not each.streams for each in swarm.connections())
            assert len(swarm._table) == len(swarm.connections())
