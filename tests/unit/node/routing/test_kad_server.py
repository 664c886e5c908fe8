from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from anyio import BrokenResourceError, EndOfStream, create_task_group, current_time, fail_after, sleep
from trio.testing import MockClock

from ipvcs.multiformats import varint
from ipvcs.node.network.delimited import DelimitedReader, encode_delimited, send_delimited
from ipvcs.node.network.interface import Stream
from ipvcs.node.routing.kad_answers import Answerer, Knowledge
from ipvcs.node.routing.kad_message import MAX_REQUEST, KadMessage, MessageType, Record, decode_message, encode_message
from ipvcs.node.routing.kad_profile import LAN
from ipvcs.node.routing.kad_server import BURST, IDLE_TIMEOUT, PER_SECOND, SEND_TIMEOUT, STREAMS_PER_PEER, KadServer
from ipvcs.node.routing.routing_table import RoutingTable
from tests.fakes.fake_host import FakeConnection, FakeNetwork
from tests.unit.node.routing.kad_world import Providers, Values, wall

pytestmark = pytest.mark.anyio

KAD = "/test/kad"
PING = encode_message(KadMessage(MessageType.PING))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Pair:
    """A client's connection to a server, and what the server keeps."""

    def __init__(self, network: FakeNetwork) -> None:
        alice, bob = network.host(), network.host()
        self.values, self.providers = Values(), Providers()
        knowledge = Knowledge(
            table=RoutingTable(bob.peer_id),
            values=self.values,
            providers=self.providers,
            own_addrs=bob.addresses,
            find_known=lambda _peer_id: None,
            accepts_addr=LAN.accepts_addr,
        )
        bob.handle(KAD, KadServer(Answerer(knowledge), wall).serve)
        self.network = network
        self.bob = bob
        self.link: FakeConnection = alice.link(bob)[0]

    async def open(self) -> Stream:
        return await self.link.open_stream([KAD])


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    async with create_task_group() as tasks:
        yield Pair(FakeNetwork(tasks))
        tasks.cancel_scope.cancel()


async def answers(stream: Stream, count: int) -> list[KadMessage]:
    reader = DelimitedReader(stream, 1 << 20)
    return [decode_message(await reader.receive()) for _ in range(count)]


async def is_reset(stream: Stream) -> bool:
    with fail_after(3600):
        try:
            while True:
                await stream.receive()
        except BrokenResourceError:
            return True
        except EndOfStream:
            return False


async def test_requests_of_one_stream_are_answered_in_order_until_the_peer_is_done() -> None:
    async with pair() as pair_:
        stream = await pair_.open()
        record = Record(b"/n/a", b"5")
        requests = [
            KadMessage(MessageType.PUT_VALUE, b"/n/a", record),
            KadMessage(MessageType.ADD_PROVIDER, b"key"),
            KadMessage(MessageType.GET_VALUE, b"/n/a"),
            KadMessage(MessageType.PING),
        ]
        for byte in encode_delimited(*map(encode_message, requests)):
            await stream.send(bytes((byte,)))
        await stream.send_eof()
        assert await answers(stream, 3) == [
            requests[0],
            KadMessage(MessageType.GET_VALUE, b"/n/a", record),
            requests[3],
        ]
        assert not await is_reset(stream)


@pytest.mark.parametrize(
    "data",
    [
        encode_delimited(b"\xff\xff\xff"),
        encode_delimited(b"\x08\x07"),
        encode_delimited(encode_message(KadMessage(MessageType.FIND_NODE))),
        encode_delimited(encode_message(KadMessage(MessageType.PUT_VALUE, b"/n/a", Record(b"/n/a", b"bad")))),
        varint.encode(MAX_REQUEST + 1),
        b"\x80\x00",
    ],
)
async def test_a_request_that_is_refused_resets_the_stream_without_a_word_and_only_that(data: bytes) -> None:
    async with pair() as pair_:
        stream, other = await pair_.open(), await pair_.open()
        await stream.send(data)
        assert await is_reset(stream)
        await send_delimited(other, PING)
        assert await answers(other, 1) == [KadMessage(MessageType.PING)]


async def test_a_stream_without_a_request_is_reset_after_a_minute_but_not_one_in_use() -> None:
    async with pair() as pair_:
        idle, used = await pair_.open(), await pair_.open()
        for _ in range(3):
            await sleep(IDLE_TIMEOUT * 0.7)
            await send_delimited(used, PING)
            await answers(used, 1)
        with pytest.raises(BrokenResourceError):
            await idle.receive()
        await used.send(b"\x05half")
        start = current_time()
        assert await is_reset(used)
        assert current_time() - start == pytest.approx(IDLE_TIMEOUT)


async def test_a_peer_has_so_many_streams_at_once_and_others_are_served() -> None:
    async with pair() as pair_:
        streams = [await pair_.open() for _ in range(STREAMS_PER_PEER)]
        await sleep(0.1)
        assert await is_reset(await pair_.open())
        carol = pair_.network.host()
        stream = await carol.link(pair_.bob)[0].open_stream([KAD])
        await send_delimited(stream, PING)
        await answers(stream, 1)
        await streams[0].aclose()
        await sleep(0.1)
        again = await pair_.open()
        await send_delimited(again, PING)
        assert await answers(again, 1) == [KadMessage(MessageType.PING)]


async def test_who_asks_too_fast_is_slowed_down_and_a_new_connection_does_not_help() -> None:
    async with pair() as pair_:
        stream = await pair_.open()
        await stream.send(encode_delimited(*[PING] * (int(BURST) + 100)))
        await answers(stream, int(BURST))
        assert current_time() == 0
        again = await pair_.open()
        await send_delimited(again, PING)
        await answers(again, 1)
        assert current_time() > 0
        assert current_time() < 100 / PER_SECOND + 1


async def test_a_peer_that_asks_without_reading_is_reset() -> None:
    async with pair() as pair_:
        stream = await pair_.open()
        record = Record(b"/n/a", b"0" * 4000)
        requests = encode_delimited(*[encode_message(KadMessage(MessageType.PUT_VALUE, b"/n/a", record))] * 500)
        with fail_after(SEND_TIMEOUT + 10), pytest.raises(BrokenResourceError):  # two megabytes, eight windows
            await stream.send(requests)
