from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
    current_time,
    sleep,
    sleep_forever,
)
from trio.testing import MockClock

from ipvcs.errors import IpvcsError, LimitError, RemoteProtocolError
from ipvcs.multiformats import varint
from ipvcs.node.network.delimited import DelimitedReader, send_delimited
from ipvcs.node.network.errors import DialError, ProtocolNotSupportedError
from ipvcs.node.network.interface import PeerInfo, Stream
from ipvcs.node.routing.kad_message import MAX_MESSAGE, KadMessage, MessageType, decode_message, encode_message
from ipvcs.node.routing.kad_rpc import (
    FREE_ANSWER,
    KEEP_IDLE,
    MAX_HELD,
    MAX_IDLE,
    TIMEOUT,
    KadRequestError,
    KadRpc,
)
from tests.fakes.fake_host import FakeHost, FakeNetwork
from tests.fakes.memory_network import key_of

pytestmark = pytest.mark.anyio

KAD = "/test/kad"
PING = KadMessage(MessageType.PING)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@asynccontextmanager
async def network() -> AsyncIterator[FakeNetwork]:
    async with create_task_group() as tasks:
        yield FakeNetwork(tasks)
        tasks.cancel_scope.cancel()


def serving(act: Callable[[Stream, KadMessage], Awaitable[None]]) -> Callable[[Stream], Awaitable[None]]:
    async def serve(stream: Stream) -> None:
        reader = DelimitedReader(stream, MAX_MESSAGE)
        with suppress(EndOfStream, BrokenResourceError, ClosedResourceError):
            while True:
                await act(stream, decode_message(await reader.receive()))

    return serve


async def say_back(stream: Stream, request: KadMessage) -> None:
    await send_delimited(stream, encode_message(request))


def info(host: FakeHost) -> PeerInfo:
    return PeerInfo(host.peer_id, host.addrs)


async def test_requests_follow_each_other_on_one_stream() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(KAD, serving(say_back))
        link, _ = alice.link(bob)
        rpc = KadRpc(alice, KAD)
        for key in (b"a", b"b", b"c"):
            answer = await rpc.ask(info(bob), KadMessage(MessageType.FIND_NODE, key))
            assert answer.message == KadMessage(MessageType.FIND_NODE, key)
            assert answer.remote_addr == link.remote_addr
        assert link.streams_opened == [KAD]


async def test_nobody_waits_for_the_answer_to_somebody_else() -> None:
    async def dawdle(stream: Stream, request: KadMessage) -> None:
        await sleep(5 if request.key == b"slow" else 0.1)
        await say_back(stream, request)

    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(KAD, serving(dawdle))
        link, _ = alice.link(bob)
        rpc = KadRpc(alice, KAD)
        took = {}

        async def ask(key: bytes) -> None:
            await rpc.ask(info(bob), KadMessage(MessageType.FIND_NODE, key))
            took[key] = current_time()

        async with create_task_group() as tasks:
            tasks.start_soon(ask, b"slow")
            await sleep(0)
            tasks.start_soon(ask, b"fast")
        assert took[b"fast"] == pytest.approx(0.1)
        assert len(link.streams) == 1, "one of them is kept"


async def test_a_kept_stream_that_was_reset_costs_one_more_try_and_not_two() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(KAD, serving(say_back))
        link, _ = alice.link(bob)
        rpc = KadRpc(alice, KAD)
        await rpc.ask(info(bob), PING)
        for stream in list(link.live):
            stream.other.reset()
        assert (await rpc.ask(info(bob), PING)).message == PING
        assert link.streams_opened == [KAD, KAD]

        async def refuse(stream: Stream, request: KadMessage) -> None:
            stream.reset()

        bob.handle(KAD, serving(refuse))
        for stream in list(link.live):
            stream.other.reset()
        with pytest.raises(KadRequestError):
            await rpc.ask(info(bob), PING)
        assert link.streams_opened == [KAD] * 3


async def test_silence_costs_the_time_out_and_the_stream() -> None:
    async def ignore(stream: Stream, request: KadMessage) -> None:
        await sleep_forever()

    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(KAD, serving(ignore))
        link, _ = alice.link(bob)
        with pytest.raises(KadRequestError, match="over 10 seconds"):
            await KadRpc(alice, KAD).ask(info(bob), PING)
        assert current_time() == TIMEOUT
        assert not link.streams


def answering(data: bytes) -> Callable[[Stream], Awaitable[None]]:
    async def act(stream: Stream, request: KadMessage) -> None:
        await stream.send(data)

    return serving(act)


def delimited(data: bytes) -> bytes:
    return varint.encode(len(data)) + data


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (delimited(b"\xff\xff"), RemoteProtocolError),
        (delimited(encode_message(KadMessage(MessageType.FIND_NODE))), RemoteProtocolError),
        (delimited(encode_message(PING)) * 2, RemoteProtocolError),
        (varint.encode(MAX_MESSAGE + 1), LimitError),
        (b"\x80\x00", RemoteProtocolError),
    ],
)
async def test_an_answer_that_is_none_is_an_error_and_the_stream_is_not_used_again(
    data: bytes, error: type[IpvcsError]
) -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(KAD, answering(data))
        link, _ = alice.link(bob)
        with pytest.raises(error):
            await KadRpc(alice, KAD).ask(info(bob), PING)
        assert not link.streams


async def test_who_cannot_be_reached_or_does_not_serve_is_an_error() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        rpc = KadRpc(alice, KAD)
        with pytest.raises(DialError):
            await rpc.ask(PeerInfo(key_of("nobody").peer_id), PING)
        with pytest.raises(ProtocolNotSupportedError):
            await rpc.ask(info(bob), PING)
        with pytest.raises(ProtocolNotSupportedError):
            await rpc.tell(info(bob), PING)


@pytest.mark.parametrize("answers", [True, False])
async def test_what_is_told_waits_for_no_answer_and_tolerates_one(answers: bool) -> None:
    heard = []

    async def hear(stream: Stream, request: KadMessage) -> None:
        heard.append(request)
        if answers:
            await say_back(stream, request)

    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(KAD, serving(hear))
        link, _ = alice.link(bob)
        rpc = KadRpc(alice, KAD)
        request = KadMessage(MessageType.ADD_PROVIDER, b"key", provider_peers=(info(alice),))
        await rpc.tell(info(bob), request)
        assert current_time() == 0
        await sleep(1)
        assert heard == [request]
        assert not link.streams
        await rpc.tell(info(bob), PING)


async def test_idle_streams_end_after_a_while_and_when_told() -> None:
    async with network() as net:
        alice, bob, carol = net.host(), net.host(), net.host()
        links = []
        rpc = KadRpc(alice, KAD)
        for host in (bob, carol):
            host.handle(KAD, serving(say_back))
            links.append(alice.link(host)[0])
            await rpc.ask(info(host), PING)
            await sleep(1)
        assert rpc.drop_expired() == KEEP_IDLE
        await sleep(KEEP_IDLE - 2)
        rpc.drop_expired()
        assert [len(link.streams) for link in links] == [0, 1]
        rpc.drop_idle(carol.peer_id)
        assert [len(link.streams) for link in links] == [0, 0]
        assert rpc.drop_expired() is None


async def test_no_more_idle_streams_are_kept_than_we_want() -> None:
    async with network() as net:
        alice = net.host()
        rpc = KadRpc(alice, KAD)
        links = []
        for _ in range(MAX_IDLE + 3):
            host = net.host()
            host.handle(KAD, serving(say_back))
            links.append(alice.link(host)[0])
            await rpc.ask(info(host), PING)
        assert sum(len(link.streams) for link in links) == MAX_IDLE
        assert not links[0].streams


async def test_large_answers_under_way_take_a_bounded_room_and_the_oldest_makes_way() -> None:
    async def promise(stream: Stream, request: KadMessage) -> None:
        await stream.send(varint.encode(MAX_MESSAGE if request.key == b"large" else FREE_ANSWER))
        await sleep_forever()

    async with network() as net:
        alice = net.host()
        peers = [net.host() for _ in range(MAX_HELD // MAX_MESSAGE + 1)]
        for peer in peers:
            peer.handle(KAD, serving(promise))
            alice.link(peer)
        rpc = KadRpc(alice, KAD)
        ended: list[tuple[int, float, type]] = []

        async def ask(number: int, key: bytes) -> None:
            start = current_time()
            with pytest.raises(IpvcsError) as caught:
                await rpc.ask(info(peers[number]), KadMessage(MessageType.FIND_NODE, key))
            ended.append((number, current_time() - start, type(caught.value)))

        async with create_task_group() as tasks:
            for number in range(len(peers)):
                tasks.start_soon(ask, number, b"large")
                await sleep(1)
            assert [(number, kind) for number, _took, kind in ended] == [(0, LimitError)]
            assert ended[0][1] == pytest.approx(len(peers) - 1)
            assert rpc._budget.used == MAX_HELD
            tasks.start_soon(ask, 0, b"small")
            await sleep(1)
            assert rpc._budget.used == MAX_HELD
        assert [(number, kind) for number, _took, kind in ended[1:]] == [
            (number, KadRequestError) for number in (1, 2, 3, 4, 0)
        ]
        assert rpc._budget.used == 0
