from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from anyio import (
    BrokenResourceError,
    EndOfStream,
    create_task_group,
    current_time,
    fail_after,
    move_on_after,
    sleep,
    sleep_forever,
)
from trio.testing import MockClock

from ipvcs.errors import IpvcsError, RemoteProtocolError
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network.errors import DialError, ProtocolNotSupportedError
from ipvcs.node.network.interface import Stream
from ipvcs.node.network.ping import IDLE_TIMEOUT, PING, SIZE, TIMEOUT, PingError, PingService, WrongEchoError
from tests.fakes.fake_host import FakeConnection, FakeNetwork

MIB = 1024 * 1024

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@asynccontextmanager
async def network() -> AsyncIterator[FakeNetwork]:
    async with create_task_group() as tasks:
        yield FakeNetwork(tasks)
        tasks.cancel_scope.cancel()


async def ping(service: PingService, peer: object, **options: object) -> list[float | IpvcsError]:
    async with service.ping(peer, **options) as results:  # type: ignore[arg-type]
        return [result.rtt if result.error is None else result.error async for result in results]  # type: ignore[misc]


def delayed(*delays: float) -> Callable[[Stream], Awaitable[None]]:
    """Echo each ping after the next of `delays`, on whatever stream it comes."""
    remaining = list(delays)

    async def serve(stream: Stream) -> None:
        with suppress(EndOfStream, BrokenResourceError):
            while True:
                data = await stream.receive(SIZE)
                await sleep(remaining.pop(0))
                await stream.send(data)

    return serve


async def test_pings_are_timed_and_share_one_stream() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PING, delayed(0.25, 0.5, 0.125))
        link, _ = alice.link(bob)

        results = await ping(PingService(alice), bob.peer_id, count=3)

        assert results == pytest.approx([0.25, 0.5, 0.125])
        assert link.streams_opened == [PING]
        assert not link.streams, "the stream ends with the block"
        assert current_time() == pytest.approx(2.125), "they start a second apart"


async def test_each_side_answers_the_other() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        at_alice, at_bob = PingService(alice), PingService(bob)

        assert await ping(at_alice, bob.peer_id, count=2, interval=0) == [0, 0]
        assert await ping(at_bob, alice.peer_id, count=2, interval=0) == [0, 0]


async def test_pings_go_on_until_the_block_is_left() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PingService(bob)
        service = PingService(alice)
        seen = 0
        with move_on_after(100.5):
            async with service.ping(bob.peer_id) as results:
                async for _result in results:
                    seen += 1
        assert seen == 101
        assert not service._outbound


async def test_each_ping_is_other_bytes() -> None:
    pings = []

    async def serve(stream: Stream) -> None:
        while True:
            data = await stream.receive(SIZE)
            pings.append(data)
            await stream.send(data)

    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PING, lambda stream: _until_end(serve(stream)))
        await ping(PingService(alice), bob.peer_id, count=5)
    assert {len(data) for data in pings} == {SIZE}
    assert len(set(pings)) == 5


async def _until_end(serving: Awaitable[None]) -> None:
    with suppress(EndOfStream, BrokenResourceError):
        await serving


async def test_a_lost_answer_is_an_error_and_the_next_ping_gets_a_new_stream() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PING, delayed(0.5, TIMEOUT + 5, 0.25))
        link, _ = alice.link(bob)

        first, lost, last = await ping(PingService(alice), bob.peer_id, count=3)

        assert (first, last) == pytest.approx((0.5, 0.25))
        assert isinstance(lost, PingError)
        assert "over 10 seconds" in str(lost)
        assert link.streams_opened == [PING, PING]
        assert not link.streams, "the old one is not left open"


async def test_an_echo_of_other_bytes_breaks_the_protocol() -> None:
    async def liar(stream: Stream) -> None:
        data = await stream.receive(SIZE)
        await stream.send(data[:-1] + bytes((data[-1] ^ 1,)))
        await sleep_forever()

    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PING, liar)
        (error,) = await ping(PingService(alice), bob.peer_id, count=1)

        assert isinstance(error, WrongEchoError)
        assert isinstance(error, RemoteProtocolError)
        assert error.peer_id == bob.peer_id
        assert current_time() == 0


@pytest.mark.parametrize("ending", ["end", "reset", "close"])
async def test_a_peer_that_leaves_instead_of_answering_is_an_error(ending: str) -> None:
    async def leave(stream: Stream) -> None:
        await stream.receive(SIZE)
        if ending == "reset":
            stream.reset()
        elif ending == "close":
            await stream.connection.aclose()

    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PING, leave)
        (error,) = await ping(PingService(alice), bob.peer_id, count=1)
        assert isinstance(error, PingError)


async def test_a_peer_that_cannot_be_reached_or_does_not_speak_ping_is_an_error_of_each_ping() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        service = PingService(alice)
        unreachable = await ping(service, generate_key().public_key.peer_id, count=2)
        deaf = await ping(service, bob.peer_id, count=1)

    assert [type(error) for error in unreachable] == [DialError, DialError]
    assert [type(error) for error in deaf] == [ProtocolNotSupportedError]


async def test_a_peer_on_which_no_stream_opens_costs_the_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeConnection, "open_stream", lambda self, protocols, **options: sleep_forever())
    async with network() as net:
        alice, bob = net.host(), net.host()
        (error,) = await ping(PingService(alice), bob.peer_id, count=1, timeout=3)
        assert isinstance(error, PingError)
        assert current_time() == pytest.approx(3)


async def test_several_who_ping_one_peer_take_turns_on_one_stream() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PING, delayed(*[0.1] * 40))
        link, _ = alice.link(bob)
        service = PingService(alice)
        outcomes: list[list[float | IpvcsError]] = []

        async def some() -> None:
            outcomes.append(await ping(service, bob.peer_id, count=4, interval=0))

        async with create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(some)

        assert [rtt for outcome in outcomes for rtt in outcome] == pytest.approx([0.1] * 40)
        assert link.streams_opened == [PING]
        assert not link.streams
        assert not service._outbound


async def test_one_who_stops_in_the_middle_of_a_ping_does_not_spoil_those_of_others() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PING, delayed(0.1, 5.0, 0.2, 0.2, 0.2))
        service = PingService(alice)
        async with service.ping(bob.peer_id, interval=0) as results:
            await anext(results)
            with move_on_after(1):
                await ping(service, bob.peer_id, count=1)
            assert (await anext(results)).rtt == pytest.approx(0.2)


# ---- serving ----


async def test_a_ping_is_echoed_although_the_peer_ended_its_side() -> None:
    """js-libp2p sends one ping and its FIN together."""
    async with network() as net:
        alice, bob = net.host(), net.host()
        PingService(bob)
        link, _ = alice.link(bob)
        stream = await link.open_stream([PING])
        await stream.send(b"p" * SIZE)
        await stream.send_eof()

        assert await stream.receive() == b"p" * SIZE
        with pytest.raises(EndOfStream):
            await stream.receive()


async def test_pings_are_echoed_whole_however_they_arrive() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PingService(bob)
        link, _ = alice.link(bob)
        stream = await link.open_stream([PING])
        for _ in range(SIZE - 1):
            await stream.send(b"a")
        with move_on_after(1) as scope:
            await stream.receive()
        assert scope.cancelled_caught
        await stream.send(b"a" + b"b" * SIZE)

        assert await stream.receive() == b"a" * SIZE
        assert await stream.receive() == b"b" * SIZE


async def test_a_third_stream_of_one_peer_is_reset_and_others_are_served() -> None:
    async with network() as net:
        alice, bob, carol = net.host(), net.host(), net.host()
        PingService(bob)
        link, _ = alice.link(bob)
        second_link, _ = alice.link(bob)
        first = await link.open_stream([PING])
        second = await second_link.open_stream([PING])
        await sleep(0.1)

        third = await link.open_stream([PING])
        with pytest.raises(BrokenResourceError):
            await third.receive()

        other, _ = carol.link(bob)
        for stream in (first, second, await other.open_stream([PING])):
            await stream.send(b"p" * SIZE)
            assert await stream.receive() == b"p" * SIZE
        await first.aclose()
        await sleep(0.1)
        again = await link.open_stream([PING])
        await again.send(b"p" * SIZE)
        assert await again.receive() == b"p" * SIZE


async def test_an_idle_stream_is_reset_after_a_minute_but_not_one_in_use() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PingService(bob)
        link, _ = alice.link(bob)
        idle, used = await link.open_stream([PING]), await link.open_stream([PING])
        for _ in range(3):
            await sleep(IDLE_TIMEOUT * 0.7)
            await used.send(b"p" * SIZE)
            assert await used.receive() == b"p" * SIZE

        with pytest.raises(BrokenResourceError):
            await idle.receive()
        await sleep(IDLE_TIMEOUT + 1)
        assert not link.streams


async def test_a_peer_that_pings_without_reading_is_reset() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PingService(bob)
        link, _ = alice.link(bob)
        stream = await link.open_stream([PING])
        with fail_after(2 * IDLE_TIMEOUT), pytest.raises(BrokenResourceError):
            await stream.send(bytes(64 * MIB))
