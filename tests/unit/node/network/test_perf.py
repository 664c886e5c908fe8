from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from anyio import BrokenResourceError, EndOfStream, create_task_group, current_time, sleep, sleep_forever
from trio.testing import MockClock

from ipvcs.errors import RemoteProtocolError
from ipvcs.node.network.errors import ProtocolNotSupportedError
from ipvcs.node.network.interface import Stream
from ipvcs.node.network.perf import (
    DEADLINE,
    IDLE_TIMEOUT,
    MAX_U64,
    PERF,
    STREAMS,
    PerfAmountError,
    PerfError,
    PerfService,
    measure,
)
from tests.fakes.fake_host import FakeNetwork, FakeStream

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@asynccontextmanager
async def network() -> AsyncIterator[FakeNetwork]:
    async with create_task_group() as tasks:
        yield FakeNetwork(tasks)
        tasks.cancel_scope.cancel()


def header(wanted: int) -> bytes:
    return wanted.to_bytes(8, "big")


@pytest.mark.parametrize(
    ("upload", "download"), [(0, 0), (1, 0), (0, 1), (7, 9), (MIB, MIB), (3 * MIB + 5, 0), (0, 5 * MIB + 7)]
)
async def test_exactly_what_was_asked_for_moves(upload: int, download: int) -> None:
    moved = 0

    def progress(size: int) -> None:
        nonlocal moved
        moved += size

    async with network() as net:
        alice, bob = net.host(), net.host()
        PerfService(bob)
        link, _ = alice.link(bob)
        result = await measure(alice, bob.peer_id, upload=upload, download=download, progress=progress)

        assert (result.uploaded, result.downloaded) == (upload, download)
        assert moved == upload + download
        assert not link.streams


async def test_the_server_sends_zeros_and_not_before_the_upload_is_over() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PerfService(bob)
        link, _ = alice.link(bob)
        stream = await link.open_stream([PERF])
        for byte in header(1000):  # one byte each
            await stream.send(bytes((byte,)))
        await stream.send(b"upload")
        await sleep(1)
        assert isinstance(stream, FakeStream)
        assert stream._inbox.size == 0
        await stream.send_eof()

        received = b""
        with suppress(EndOfStream):
            while True:
                received += await stream.receive()
        assert received == bytes(1000)


async def test_an_upload_that_arrives_with_the_header_is_not_part_of_it() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PerfService(bob)
        link, _ = alice.link(bob)
        stream = await link.open_stream([PERF])
        await stream.send(header(10) + bytes(100))
        await stream.send_eof()

        assert await stream.receive() == bytes(10)
        with pytest.raises(EndOfStream):
            await stream.receive()


async def test_times_are_taken_from_what_the_peer_has_got() -> None:
    async def slow(stream: Stream) -> None:
        with suppress(EndOfStream):
            while True:
                await stream.receive()
        await sleep(2)
        await stream.send(bytes(10))
        await sleep(3)
        await stream.send(bytes(10))

    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PERF, slow)
        result = await measure(alice, bob.peer_id, upload=100, download=20)

        assert result.upload_seconds == pytest.approx(2)
        assert result.download_seconds == pytest.approx(5)


def sending(size: int) -> Callable[[Stream], Awaitable[None]]:
    async def serve(stream: Stream) -> None:
        with suppress(BrokenResourceError):
            await stream.send(bytes(size))

    return serve


@pytest.mark.parametrize(("size", "match"), [(99, "only 99 of"), (101, "more than"), (10 * MIB, "more than")])
async def test_a_peer_that_sends_another_amount_breaks_the_protocol(size: int, match: str) -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PERF, sending(size))
        with pytest.raises(PerfAmountError, match=match) as caught:
            await measure(alice, bob.peer_id, download=100)
        assert isinstance(caught.value, RemoteProtocolError)
        assert caught.value.wanted == 100


async def test_the_client_gives_up_when_its_time_is_over_and_drops_the_stream() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PERF, lambda stream: sleep_forever())
        link, _ = alice.link(bob)
        with pytest.raises(PerfError, match="not done within 5 seconds"):
            await measure(alice, bob.peer_id, upload=10 * MIB, timeout=5)
        assert current_time() == pytest.approx(5)
        assert not link.streams


async def test_a_broken_stream_is_an_error_that_names_the_peer() -> None:
    async def resets(stream: Stream) -> None:
        stream.reset()

    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(PERF, resets)
        with pytest.raises(PerfError, match=str(bob.peer_id)):
            await measure(alice, bob.peer_id, upload=10 * MIB)


async def test_nobody_is_served_unless_the_service_was_made() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        with pytest.raises(ProtocolNotSupportedError):
            await measure(alice, bob.peer_id)


# ---- serving those who abuse it ----


async def test_streams_beyond_the_limit_are_reset_until_one_ends() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PerfService(bob)
        link, _ = alice.link(bob)
        streams = [await link.open_stream([PERF]) for _ in range(STREAMS)]
        await sleep(0.1)
        with pytest.raises(PerfError):
            await measure(alice, bob.peer_id, upload=1, download=1)

        streams[0].reset()
        await sleep(0.1)
        assert (await measure(alice, bob.peer_id, upload=1, download=1)).downloaded == 1


@pytest.mark.parametrize("stage", ["header", "upload", "download"])
async def test_a_client_that_stalls_is_reset(stage: str) -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PerfService(bob)
        link, _ = alice.link(bob)
        stream = await link.open_stream([PERF])
        if stage != "header":
            await stream.send(header(MAX_U64))
        if stage == "download":
            await stream.send_eof()
        await sleep(IDLE_TIMEOUT - 1)
        assert link.streams
        await sleep(2)

        assert isinstance(stream, FakeStream)
        assert stream.was_reset
        assert not link.streams


async def test_a_client_that_wants_zeros_for_ever_is_cut_off_at_the_deadline() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PerfService(bob)
        link, _ = alice.link(bob)
        stream = await link.open_stream([PERF])
        await stream.send(header(MAX_U64))
        await stream.send_eof()
        with suppress(BrokenResourceError):
            while current_time() < 2 * DEADLINE:
                await stream.receive()
                await sleep(0.5)
        assert current_time() == pytest.approx(DEADLINE, abs=1)


async def test_a_client_that_ends_inside_the_header_is_reset() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        PerfService(bob)
        link, _ = alice.link(bob)
        stream = await link.open_stream([PERF])
        await stream.send(b"\0" * 7)
        await stream.send_eof()
        with pytest.raises(BrokenResourceError):
            await stream.receive()
