"""The owner's end of pushes: pushers over streams in memory, receivers that are scripts, time that a test moves."""

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import BrokenResourceError, EndOfStream

from ipvcs.api.push_relay import TAKE_TIMEOUT
from ipvcs.api.push_service import (
    MAX_STRANGERS,
    MAX_STREAMS,
    PUSH,
    REQUEST_TIMEOUT,
    TICK,
    TURN_TIMEOUT,
    PushService,
)
from ipvcs.api.receiver_process import GRACE
from ipvcs.git_bridge.push_admission import denial
from ipvcs.git_bridge.push_replies import (
    MAX_REPLY,
    Answer,
    Failure,
    FailureCode,
    Progress,
    Reply,
    Result,
    Standing,
    Text,
    decode_reply,
)
from ipvcs.git_bridge.push_requests import (
    MAX_REQUEST,
    Offer,
    OfferedPack,
    Query,
    Request,
    Update,
    decode_request,
    encode_request,
)
from ipvcs.multiformats.cid import Cid
from ipvcs.node.network.delimited import DelimitedReader, encode_delimited
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.storage.access import AccessList, Right
from ipvcs.storage.disk import DiskError
from ipvcs.storage.home import Home, open_home
from tests.fakes.fake_host import LOOPBACK, WINDOW, FakeConnection, FakeHost, FakeNetwork, FakeStream
from tests.unit.api.fake_receiver import PIPE, FakeReceiver, Receivers, Script

pytestmark = pytest.mark.anyio

CID = Cid.of(bytes(32))
UPDATE = Update(b"refs/heads/main", None, ObjectId(bytes(20)), cid=CID)
PACK = OfferedPack(f"pack-{'ab' * 20}", CID, CID, 1000, 10)
OFFER = Offer((b"team",), b"k" * 16, ObjectFormat.SHA1, 1, "unixfs-v1-2025", (UPDATE,), PACK)
OTHER = replace(OFFER, key=b"o" * 16)
ANSWER = Answer((Result(b"refs/heads/main"),), CID)
REFUSED = Failure(FailureCode.UNTRUE, "the pack is another")
WAITING = Progress("waiting")
_MEMORY = Path("/dev/shm")


@pytest.fixture
def home() -> Iterator[Home]:
    with (
        tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path,
        open_home(Path(path) / "home") as home,
    ):
        yield home


async def at_once(function: Callable[..., Any], *args: Any, limiter: object = None) -> Any:
    """The mock clock takes waiting for a thread for idleness, and jumps."""
    await anyio.lowlevel.checkpoint()
    return function(*args)


@dataclass
class World:
    network: FakeNetwork
    owner: FakeHost
    service: PushService
    receivers: Receivers
    home: Home
    pusher: FakeHost

    def another(self, *, is_known: bool = True) -> FakeHost:
        """A host that is connected to the owner, with rights unless it is a stranger."""
        host = self.network.host()
        host.link(self.owner)
        if is_known:
            AccessList(self.home.datastore).add(host.peer_id, (b"team",), [Right.UPDATE])
        return host

    async def open(self, pusher: FakeHost | None = None) -> FakeStream:
        """A stream to the owner, by the pusher unless said otherwise."""
        (connection,) = (pusher or self.pusher).connections(self.owner.peer_id)
        stream = await connection.open_stream([PUSH])
        assert isinstance(stream, FakeStream)
        return stream

    async def ask(self, request: Request, pusher: FakeHost | None = None) -> "Asked":
        """Send a request, and return when the owner waits for something."""
        asked = Asked(await self.open(pusher))
        await asked.stream.send(encode_delimited(encode_request(request)))
        await anyio.wait_all_tasks_blocked()
        return asked

    def is_idle(self) -> bool:
        """Whether nothing is left of what was served."""
        service = self.service
        return not (
            service._serving or service._streams or service._strangers or service.is_busy or self.receivers.running
        )


class Asked:
    """A pusher's end of a stream."""

    def __init__(self, stream: FakeStream) -> None:
        self.stream = stream
        self._reader = DelimitedReader(stream, MAX_REPLY)

    async def next(self) -> Reply:
        return decode_reply(await self._reader.receive())

    async def rest(self) -> list[Reply]:
        """All that is still said; the stream has to end well."""
        found: list[Reply] = []
        try:
            while True:
                found.append(await self.next())
        except EndOfStream:
            return found

    async def failure(self) -> Failure:
        """The failure that is all that is said."""
        (reply,) = await self.rest()
        assert isinstance(reply, Failure)
        return reply


@asynccontextmanager
async def serving(home: Home, script: Script | None = None) -> AsyncGenerator[World]:
    """A service, and a pusher who is connected to it and may push at `/team`. In the end nothing must be left."""
    receivers = Receivers(script or nothing)
    async with anyio.create_task_group() as tasks:
        network = FakeNetwork(tasks)
        owner = network.host()
        service = PushService(owner, home, receivers.run, offload=at_once)
        world = World(network, owner, service, receivers, home, network.host())
        world.pusher.link(owner)
        AccessList(home.datastore).add(world.pusher.peer_id, (b"team",), [Right.UPDATE])
        async with service:
            yield world
        await anyio.wait_all_tasks_blocked()
        assert world.is_idle()
        assert PUSH not in owner.protocols()


async def nothing(receiver: FakeReceiver) -> None:
    raise AssertionError("no receiver is to be started")


async def answering(receiver: FakeReceiver) -> None:
    await receiver.say(ANSWER)


async def forever(receiver: FakeReceiver) -> None:
    await receiver.say(Progress("fetching"))
    await anyio.sleep_forever()


def saying(*replies: Reply, then: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint) -> Script:
    async def script(receiver: FakeReceiver) -> None:
        await receiver.say(*replies)
        await then()

    return script


def writing(data: bytes) -> Script:
    async def script(receiver: FakeReceiver) -> None:
        await receiver.output.write(data)
        await anyio.sleep_forever()

    return script


# Queries


async def test_a_query_is_answered_and_the_stream_ended(home: Home) -> None:
    async with serving(home) as world:
        asked = await world.ask(Query((b"team", b"a")))
        assert await asked.rest() == [Standing(None, frozenset(("update",)), 1 << 30, 2_000_000)]
        assert world.is_idle()


async def test_who_has_no_right_at_the_path_is_denied_there(home: Home) -> None:
    async with serving(home) as world:
        for path in ((), (b"other",)):
            assert await (await world.ask(Query(path))).failure() == denial(world.pusher.peer_id, path)


async def test_rights_that_are_taken_away_count_from_the_next_request_on(home: Home) -> None:
    async with serving(home) as world:
        AccessList(home.datastore).remove(world.pusher.peer_id, (b"team",))
        assert await (await world.ask(Query((b"team",)))).failure() == denial(world.pusher.peer_id, (b"team",))
        assert await (await world.ask(OFFER)).failure() == denial(world.pusher.peer_id, None)


# Strangers


async def test_a_stranger_is_denied_with_the_command_that_would_let_him_in(home: Home) -> None:
    async with serving(home) as world:
        stranger = world.another(is_known=False)
        asked = await world.ask(Query((b"team", b"a")), stranger)
        failure = await asked.failure()
        assert failure.code is FailureCode.DENIED
        assert f"`ipvcs access add {stranger.peer_id} /team/a`" in failure.hint


async def test_of_a_stranger_no_more_is_read_than_a_query_has(home: Home) -> None:
    async with serving(home) as world:
        stranger = world.another(is_known=False)
        large = await world.open(stranger)
        await large.send(encode_delimited(bytes(MAX_REQUEST))[:100])  # announced, and not waited for
        for asked in (Asked(large), await world.ask(OFFER, stranger)):
            assert await asked.failure() == denial(stranger.peer_id, None)
        assert anyio.current_time() < 1


@pytest.mark.parametrize(
    ("sent", "said"),
    [(b"\x02\x0a\x05", "malformed"), (b"\x00", "neither a query nor an offer"), (b"\x80\x00", "cannot read")],
)
async def test_what_a_stranger_says_that_is_no_request_is_told_him(home: Home, sent: bytes, said: str) -> None:
    async with serving(home) as world:
        stream = await world.open(world.another(is_known=False))
        await stream.send(sent)
        failure = await Asked(stream).failure()
        assert failure.code is FailureCode.BAD_REQUEST
        assert said in failure.message


async def test_strangers_that_say_nothing_keep_only_each_other_out(home: Home) -> None:
    async with serving(home) as world:
        crowd = [
            await world.open(stranger)
            for stranger in [world.another(is_known=False) for _ in range(MAX_STRANGERS // MAX_STREAMS)]
            for _ in range(MAX_STREAMS)
        ]
        await anyio.sleep(0.1)
        late = world.another(is_known=False)
        with pytest.raises(BrokenResourceError):
            await (await world.ask(Query(()), late)).rest()
        assert len(await (await world.ask(Query((b"team",)))).rest()) == 1
        assert (await Asked(crowd[0]).failure()).code is FailureCode.BAD_REQUEST
        assert anyio.current_time() == pytest.approx(REQUEST_TIMEOUT, abs=1)
        for stream in crowd[1:]:
            await Asked(stream).rest()
        assert (await (await world.ask(Query(()), late)).failure()).code is FailureCode.DENIED
        assert world.is_idle()


async def test_a_list_that_cannot_be_read_lets_nobody_in_and_stands_in_the_log(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: object) -> bool:
        raise DiskError("cannot read 'data.mdb'", Path("data.mdb"))

    monkeypatch.setattr(AccessList, "is_known", fail)
    async with serving(home) as world:
        with pytest.raises(BrokenResourceError):
            await (await world.ask(Query((b"team",)))).rest()
        assert "cannot serve a pusher" in caplog.text
        assert world.is_idle()


# What is no request


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (encode_delimited(b"\x0a\x05"), "malformed"),
        (encode_delimited(b""), "neither a query nor an offer"),
        (encode_delimited(encode_request(OFFER)[:-1]), "malformed"),
        (b"\x81\x80\x40", "a message of 1048577 bytes, more than the 1048576 allowed"),
        (b"\xff" * 10, "cannot read a message's size"),
        (encode_delimited(encode_request(OFFER), encode_request(OFFER)), "something follows the request"),
    ],
)
async def test_what_is_no_request_is_refused_at_once_with_a_sentence(home: Home, sent: bytes, said: str) -> None:
    async with serving(home) as world:
        stream = await world.open()
        await stream.send(sent)
        failure = await Asked(stream).failure()
        assert failure.code is FailureCode.BAD_REQUEST
        assert said in failure.message
        assert anyio.current_time() < 1
        assert world.is_idle()


@pytest.mark.parametrize("sent", [b"", b"\x10", encode_delimited(encode_request(OFFER))[:-1]])
async def test_a_request_has_ten_seconds(home: Home, sent: bytes) -> None:
    async with serving(home) as world:
        stream = await world.open()
        for byte in sent:
            await stream.send(bytes((byte,)))
            await anyio.sleep(REQUEST_TIMEOUT / 1000)
        failure = await Asked(stream).failure()
        assert (failure.code, failure.message) == (FailureCode.BAD_REQUEST, "no request arrived within 10 seconds")
        assert anyio.current_time() == pytest.approx(REQUEST_TIMEOUT)


@pytest.mark.parametrize("sent", [b"", encode_delimited(encode_request(OFFER))[:-1]])
async def test_who_leaves_before_his_request_is_there_leaves_nothing(home: Home, sent: bytes) -> None:
    async with serving(home) as world:
        for leave in (FakeStream.reset, FakeStream.send_eof):
            stream = await world.open()
            await stream.send(sent)
            await anyio.sleep(1)
            assert not world.is_idle()
            if (left := leave(stream)) is not None:
                await left
            await anyio.sleep(0.1)
            assert world.is_idle()


async def test_a_fifth_stream_is_refused_until_one_has_ended(home: Home) -> None:
    async with serving(home) as world:
        held = [await world.open() for _ in range(MAX_STREAMS)]
        fifth = await world.open()
        assert fifth.was_reset
        assert len(await (await world.ask(Query((b"team",)), world.another())).rest()) == 1
        held[0].reset()
        await anyio.sleep(0.1)
        assert len(await (await world.ask(Query((b"team",)))).rest()) == 1


# Offers


async def test_a_receiver_gets_the_offer_as_it_came_and_its_replies_reach_the_pusher(home: Home) -> None:
    replies: list[Reply] = [
        Progress("fetching", 1, 2),
        Text(b"hook says\n"),
        Text(b"x" * 64 * 1024),
        ANSWER,
        Progress("post-receive"),
        Text(b"done\n"),
    ]
    async with serving(home, saying(*replies)) as world:
        assert await (await world.ask(OFFER)).rest() == replies
        (receiver,) = world.receivers.all
        assert decode_request(receiver.order.request) == OFFER
        assert (receiver.order.pusher, receiver.order.address) == (world.pusher.peer_id, LOOPBACK)
        await anyio.sleep(0.1)
        assert receiver.fate == "done"
        assert world.is_idle()


async def test_replies_come_when_they_are_said(home: Home) -> None:
    async def script(receiver: FakeReceiver) -> None:
        for number in range(3):
            await receiver.say(Progress("fetching", number))
            await anyio.sleep(9)
        await receiver.say(ANSWER)

    async with serving(home, script) as world:
        asked = await world.ask(OFFER)
        for number in range(3):
            assert await asked.next() == Progress("fetching", number)
            assert anyio.current_time() == pytest.approx(9 * number)
        assert await asked.rest() == [ANSWER]
        assert anyio.current_time() == pytest.approx(27)


async def test_replies_are_whole_however_the_receiver_writes_them(home: Home) -> None:
    from ipvcs.git_bridge.push_replies import encode_reply

    data = encode_delimited(encode_reply(Text(b"hello\n")), encode_reply(ANSWER))

    async def script(receiver: FakeReceiver) -> None:
        for byte in data:
            await receiver.output.write(bytes((byte,)))
            await anyio.sleep(0.01)

    async with serving(home, script) as world:
        assert await (await world.ask(OFFER)).rest() == [Text(b"hello\n"), ANSWER]


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        (replace(OFFER, path=(b"other",)), FailureCode.DENIED),
        (replace(OFFER, pack=replace(PACK, size=1 << 40)), FailureCode.LIMIT),
    ],
)
async def test_for_an_offer_that_is_refused_no_receiver_is_started(home: Home, offer: Offer, code: FailureCode) -> None:
    async with serving(home) as world:
        assert (await (await world.ask(offer)).failure()).code is code
        assert world.receivers.all == []


async def test_a_failure_is_the_last_word_of_a_receiver(home: Home) -> None:
    async with serving(home, saying(REFUSED, ANSWER)) as world:
        assert await (await world.ask(OFFER)).rest() == [REFUSED]
        await anyio.sleep(0.1)
        assert world.receivers.all[0].fate == "done"
        assert world.is_idle()


@pytest.mark.parametrize("final", [ANSWER, REFUSED])
async def test_who_has_his_answer_need_not_wait_for_the_process_to_end(home: Home, final: Reply) -> None:
    async def script(receiver: FakeReceiver) -> None:
        await receiver.say(final)
        receiver.output.end()
        await anyio.sleep_forever()

    async with serving(home, script) as world:
        asked = await world.ask(OFFER)
        assert await asked.rest() == [final]
        assert anyio.current_time() < 1
        assert world.service.is_busy
        await anyio.sleep(GRACE + 0.1)
        assert world.receivers.all[0].fate == "terminated"
        assert world.is_idle()


# Receivers that break off


@pytest.mark.parametrize("said", [(), (Progress("fetching"), Text(b"hello\n"))])
async def test_a_receiver_that_ends_without_an_answer_is_a_failure(home: Home, said: tuple[Reply, ...]) -> None:
    async def script(receiver: FakeReceiver) -> None:
        receiver.status = "it was ended by signal 9"
        await receiver.say(*said)

    async with serving(home, script) as world:
        *before, last = await (await world.ask(OFFER)).rest()
        assert tuple(before) == said
        assert isinstance(last, Failure)
        assert last.code is FailureCode.FAILED
        assert last.message == "the owner's receiver broke off: it was ended by signal 9"
        assert world.is_idle()


async def test_a_receiver_that_closes_its_output_and_stays_is_a_failure_and_ended(home: Home) -> None:
    async def script(receiver: FakeReceiver) -> None:
        receiver.output.end()
        await anyio.sleep_forever()

    async with serving(home, script) as world:
        failure = await (await world.ask(OFFER)).failure()
        assert failure.message.endswith("it said no more, and did not end")
        assert world.receivers.all[0].fate == "terminated"
        assert anyio.current_time() == pytest.approx(2 * GRACE)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b"Traceback (most recent call last):\n",
            "ends inside a message|malformed|out of range|no kind|bytes, more than",
        ),
        (b"\xff" * 20, "cannot read a message's size"),
        (b"\x81\x80\x80\x02", "a message of 4194305 bytes"),
        (encode_delimited(b""), "of no kind that is known"),
        (encode_delimited(b"\x32\x00"), "of no kind that is known"),
        (encode_delimited(b"\x0a\x00"), "a receiver sent Standing"),
    ],
)
async def test_a_receiver_that_prints_what_is_no_reply_is_a_failure_and_ended_at_once(
    home: Home, data: bytes, said: str
) -> None:
    import re

    async def script(receiver: FakeReceiver) -> None:
        await receiver.output.write(data)
        if data.startswith(b"T"):
            return
        await anyio.sleep_forever()

    async with serving(home, script) as world:
        failure = await (await world.ask(OFFER)).failure()
        assert failure.code is FailureCode.FAILED
        assert re.search(said, failure.message)
        assert anyio.current_time() < 1
        assert world.is_idle()


@pytest.mark.parametrize("more", [ANSWER, REFUSED, Standing(None, frozenset(), 1, 1)])
async def test_after_an_answer_nothing_contradicts_it(home: Home, more: Reply) -> None:
    async with serving(home, saying(ANSWER, more, then=anyio.sleep_forever)) as world:
        assert await (await world.ask(OFFER)).rest() == [ANSWER]
        await anyio.sleep(0.1)
        assert world.receivers.all[0].fate == "abandoned"


async def test_a_receiver_that_can_not_be_started_is_a_failure(home: Home) -> None:
    async with serving(home) as world:
        world.receivers.fails = "Cannot allocate memory"
        failure = await (await world.ask(OFFER)).failure()
        assert failure.code is FailureCode.FAILED
        assert "cannot start a receiver: Cannot allocate memory" in failure.message
        assert world.is_idle()


# Pushers that do not take what they are sent


async def test_a_receiver_that_floods_is_read_no_faster_than_its_pusher_reads(home: Home) -> None:
    async def script(receiver: FakeReceiver) -> None:
        while True:
            await receiver.say(Text(b"x" * 60_000))

    async with serving(home, script) as world:
        asked = await world.ask(OFFER)
        await anyio.sleep(TAKE_TIMEOUT - 1)
        (receiver,) = world.receivers.all
        assert receiver.output.written <= WINDOW + 2 * PIPE + 70_000
        before = receiver.output.written
        for _ in range(20):
            await asked.next()
        await anyio.sleep(1)
        assert before < receiver.output.written <= before + 20 * 61_000 + PIPE
        asked.stream.reset()
        await anyio.sleep(0.1)
        assert receiver.fate in ("abandoned", "terminated")
        assert world.is_idle()


async def test_a_pusher_that_takes_nothing_for_a_minute_is_gone(home: Home) -> None:
    async with serving(home, saying(*[Text(b"x" * 60_000)] * 20, then=anyio.sleep_forever)) as world:
        asked = await world.ask(OFFER)
        await anyio.sleep(TAKE_TIMEOUT - 1)
        assert world.receivers.running
        await anyio.sleep(2)
        assert world.receivers.all[0].fate in ("abandoned", "terminated")
        assert asked.stream.was_reset
        assert world.is_idle()


async def test_a_pusher_that_takes_a_little_is_not_gone(home: Home) -> None:
    async with serving(home, saying(*[Text(b"x" * 64_000)] * 10, ANSWER)) as world:
        asked = await world.ask(OFFER)
        for _ in range(10):
            await anyio.sleep(TAKE_TIMEOUT - 5)
            assert isinstance(await asked.next(), Text)
        assert await asked.rest() == [ANSWER]
        assert anyio.current_time() > 5 * TAKE_TIMEOUT


async def test_an_answer_that_is_not_taken_whole_does_not_end_as_if_it_were(home: Home) -> None:
    large = Answer(tuple(Result(b"n" * 4000) for _ in range(200)), None)
    async with serving(home, saying(large, Text(b"post-receive"), then=lambda: anyio.sleep(200))) as world:
        asked = await world.ask(OFFER)
        await anyio.sleep(300)
        assert world.receivers.all[0].fate == "done"
        assert asked.stream.was_reset


# Pushers that leave


def leave_by_reset(asked: Asked) -> None:
    asked.stream.reset()


def leave_by_end(asked: Asked) -> None:
    asked.stream._outbox.ended = True
    asked.stream._outbox.notify()


LEAVING = pytest.mark.parametrize("leave", [leave_by_reset, leave_by_end])


@LEAVING
async def test_a_pusher_that_leaves_before_the_answer_ends_his_push(home: Home, leave: Callable[[Asked], None]) -> None:
    async with serving(home, forever) as world:
        asked = await world.ask(OFFER)
        assert await asked.next() == Progress("fetching")
        leave(asked)
        await anyio.sleep(0.1)
        assert world.receivers.all[0].fate == "terminated"
        assert world.is_idle()


async def test_a_pusher_whose_connection_ends_ends_his_push(home: Home) -> None:
    async with serving(home, forever) as world:
        await (await world.ask(OFFER)).next()
        (connection,) = world.owner.connections(world.pusher.peer_id)
        assert isinstance(connection, FakeConnection)
        await connection.aclose()
        await anyio.sleep(0.1)
        assert world.receivers.all[0].fate == "terminated"
        assert world.is_idle()


@LEAVING
async def test_after_the_answer_a_pusher_that_leaves_ends_nothing(home: Home, leave: Callable[[Asked], None]) -> None:
    async def script(receiver: FakeReceiver) -> None:
        await receiver.say(ANSWER)
        for _ in range(10):
            await anyio.sleep(100)
            await receiver.say(Text(b"x" * 64_000))

    async with serving(home, script) as world:
        asked = await world.ask(OFFER)
        assert await asked.next() == ANSWER
        leave(asked)
        await anyio.sleep(999)
        assert world.receivers.running
        await anyio.sleep(400)
        assert world.receivers.all[0].fate == "done"
        assert world.is_idle()


async def test_who_has_ended_his_side_after_the_answer_still_hears_what_post_receive_says(home: Home) -> None:
    async def script(receiver: FakeReceiver) -> None:
        await receiver.say(ANSWER)
        await anyio.sleep(5)
        await receiver.say(Text(b"deployed\n"))

    async with serving(home, script) as world:
        asked = await world.ask(OFFER)
        assert await asked.next() == ANSWER
        await asked.stream.send_eof()
        assert await asked.rest() == [Text(b"deployed\n")]


async def test_a_pusher_that_says_more_than_his_request_is_told_so_and_his_push_ended(home: Home) -> None:
    async with serving(home, forever) as world:
        asked = await world.ask(OFFER)
        assert await asked.next() == Progress("fetching")
        await asked.stream.send(b"more")
        failure = await asked.failure()
        assert (failure.code, failure.message) == (FailureCode.BAD_REQUEST, "something follows the request")
        assert world.receivers.all[0].fate == "terminated"


async def test_a_receiver_that_ignores_the_end_keeps_its_turn_until_it_is_dead(home: Home) -> None:
    async with serving(home, forever) as world:
        world.receivers.stubborn = GRACE
        first = await world.ask(OFFER)
        await first.next()
        first.stream.reset()
        second = await world.ask(OTHER)
        assert await second.next() == WAITING
        assert await second.next() == Progress("fetching")
        dead, started = world.receivers.all[0].ended, world.receivers.all[1].started
        assert dead is not None
        assert dead <= started
        assert started == pytest.approx(GRACE)


# Time


async def test_a_push_has_so_much_time_and_no_more(home: Home) -> None:
    home.config.set("Push.Timeout", 100)
    async with serving(home, forever) as world:
        asked = await world.ask(OFFER)
        assert await asked.next() == Progress("fetching")
        failure = await asked.failure()
        assert failure.code is FailureCode.LIMIT
        assert failure.message == "the push took over 100 seconds"
        assert anyio.current_time() == pytest.approx(100)
        assert world.receivers.all[0].fate == "terminated"
        assert world.is_idle()


async def test_waiting_for_an_earlier_try_counts(home: Home) -> None:
    home.config.set("Push.Timeout", 100)
    async with serving(home, forever) as world:
        await world.ask(OFFER)
        await anyio.sleep(50)
        second = await world.ask(OFFER)
        *said, last = await second.rest()
        assert isinstance(last, Failure)
        assert last.code is FailureCode.LIMIT
        assert anyio.current_time() == pytest.approx(150)
        assert WAITING in said


async def test_post_receive_has_no_more_time_than_all_of_it_and_the_answer_stands(home: Home) -> None:
    home.config.set("Push.Timeout", 100)
    async with serving(home, saying(ANSWER, then=anyio.sleep_forever)) as world:
        assert await (await world.ask(OFFER)).rest() == [ANSWER]
        assert anyio.current_time() == pytest.approx(100)
        assert world.receivers.all[0].fate == "terminated"


async def test_time_that_is_over_within_a_reply_breaks_the_stream(home: Home) -> None:
    """A failure in the middle of a message would be read as a part of it."""
    home.config.set("Push.Timeout", 10)
    async with serving(home, saying(*[Text(b"x" * 60_000)] * 20)) as world:
        asked = await world.ask(OFFER)
        await anyio.sleep(11)
        assert asked.stream.was_reset
        assert world.is_idle()


# Turns


async def test_offers_beyond_the_bound_wait_and_are_told_so_and_go_on_when_one_is_done(home: Home) -> None:
    async def script(receiver: FakeReceiver) -> None:
        await anyio.sleep(25)
        await receiver.say(ANSWER)

    async with serving(home, script) as world:
        first = await world.ask(OFFER)
        second = await world.ask(OFFER, world.another())
        third = await world.ask(OFFER, world.another())
        assert await first.rest() == [ANSWER]
        assert await second.rest() == [ANSWER]
        assert await third.rest() == [WAITING, WAITING, WAITING, ANSWER]
        assert anyio.current_time() == pytest.approx(50)


async def test_whose_turn_does_not_come_in_time_is_told_that_the_owner_is_busy(home: Home) -> None:
    home.config.set("Push.Concurrent", 1)
    async with serving(home, forever) as world:
        await world.ask(OFFER)
        *said, last = await (await world.ask(OFFER, world.another())).rest()
        assert said == [WAITING] * int(TURN_TIMEOUT / TICK)
        assert isinstance(last, Failure)
        assert last.code is FailureCode.LIMIT
        assert "busy" in last.message
        assert anyio.current_time() == pytest.approx(TURN_TIMEOUT)
        assert len(world.receivers.all) == 1


async def test_a_pusher_has_one_push_at_a_time_unless_he_is_allowed_more(home: Home) -> None:
    async with serving(home, forever) as world:
        await world.ask(OFFER)
        assert await (await world.ask(OTHER)).next() == WAITING
    home.config.set("Push.PerPusher", 2)
    async with serving(home, forever) as world:
        await world.ask(OFFER)
        assert await (await world.ask(OTHER)).next() == Progress("fetching")


@LEAVING
async def test_who_leaves_while_he_waits_gives_up_his_place(home: Home, leave: Callable[[Asked], None]) -> None:
    async with serving(home, forever) as world:
        first = await world.ask(OFFER)
        await first.next()
        second, third = await world.ask(OTHER), await world.ask(replace(OFFER, key=b"3" * 16))
        await second.next()
        leave(second)
        await anyio.sleep(1)
        leave_by_reset(first)
        await third.next()
        assert await third.next() == Progress("fetching")
        assert decode_request(world.receivers.all[-1].order.request) == replace(OFFER, key=b"3" * 16)


async def test_a_second_try_of_a_push_waits_for_the_end_of_the_first_and_then_goes_on(home: Home) -> None:
    async def script(receiver: FakeReceiver) -> None:
        if len(world.receivers.all) == 1:
            await receiver.say(Progress("fetching"))
            await anyio.sleep(10 * TURN_TIMEOUT - TICK / 2)
        await receiver.say(ANSWER)

    async with serving(home, script) as world:
        home.config.set("Push.PerPusher", 4)
        first = await world.ask(OFFER)
        await first.next()
        second = await world.ask(OFFER)
        assert await first.rest() == [ANSWER]
        began = anyio.current_time()
        *said, last = await second.rest()
        assert last == ANSWER
        assert said == [WAITING] * int(10 * TURN_TIMEOUT / TICK)
        one, two = world.receivers.all
        assert one.ended is not None
        assert one.ended <= two.started == pytest.approx(began)


async def test_a_second_try_is_not_held_up_by_a_first_whose_pusher_is_gone(home: Home) -> None:
    async with serving(home, forever) as world:
        first = await world.ask(OFFER)
        await first.next()
        second = await world.ask(OFFER)
        assert await second.next() == WAITING
        first.stream.reset()
        assert await second.next() == Progress("fetching")
        assert anyio.current_time() < 1


async def test_the_same_key_of_another_pusher_is_another_push(home: Home) -> None:
    async with serving(home, forever) as world:
        for pusher in (world.pusher, world.another()):
            assert await (await world.ask(OFFER, pusher)).next() == Progress("fetching")


# The end


async def test_a_push_that_is_under_way_is_a_reason_to_stay(home: Home) -> None:
    async with serving(home, forever) as world:
        assert not world.service.is_busy
        asked = await world.ask(OFFER)
        states = [world.service.is_busy]
        asked.stream.reset()
        await anyio.sleep(0.1)
        assert [*states, world.service.is_busy] == [True, False]


@pytest.mark.parametrize("stubborn", [0.0, GRACE])
async def test_the_end_of_the_service_is_the_end_of_all_that_it_does(home: Home, stubborn: float) -> None:
    home.config.set("Push.Concurrent", 1)
    async with serving(home, forever) as world:
        world.receivers.stubborn = stubborn
        working, waiting, silent = await world.ask(OFFER), await world.ask(OTHER), await world.open()
        stranger = await world.open(world.another(is_known=False))
        late = await world.open()  # whose handler is not running yet
        await working.next()
        await waiting.next()
    await anyio.wait_all_tasks_blocked()
    assert anyio.current_time() == pytest.approx(stubborn)
    assert world.receivers.all[0].fate == "terminated"
    assert all(stream.was_reset for stream in (working.stream, waiting.stream, silent, stranger, late))


async def test_the_end_of_the_service_ends_post_receive_too(home: Home) -> None:
    async with serving(home, saying(ANSWER, then=anyio.sleep_forever)) as world:
        asked = await world.ask(OFFER)
        assert await asked.next() == ANSWER
    assert world.receivers.all[0].fate == "terminated"
