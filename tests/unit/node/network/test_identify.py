from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from anyio import BrokenResourceError, EndOfStream, create_task_group, current_time, sleep, sleep_forever
from trio.testing import MockClock

from ipvcs import __version__
from ipvcs.multiformats import varint
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network import identify
from ipvcs.node.network.address_book import AddressBook
from ipvcs.node.network.identify import (
    IDENTIFY,
    INBOUND_AT_ONCE,
    INBOUND_PUSHES,
    PUSH,
    PUSH_DELAY,
    PUSH_INTERVAL,
    TIMEOUT,
    IdentifyError,
    IdentifyService,
)
from ipvcs.node.network.identify_message import MAX_PROTOCOLS, IdentifyMessage, IdentifyReader, encode_messages
from ipvcs.node.network.interface import Connection, Stream
from ipvcs.node.network.peer_facts import PeerFacts
from ipvcs.node.network.peer_record import open_record
from tests.fakes.fake_host import LOOPBACK, FakeConnection, FakeHost, FakeNetwork

pytestmark = pytest.mark.anyio

LAN = Multiaddr.parse("/ip4/192.168.1.2/tcp/4001")
PUBLIC = Multiaddr.parse("/ip4/1.2.3.4/tcp/4001")
PUBLIC2 = Multiaddr.parse("/ip4/1.2.3.5/tcp/4001")
NOW = 1_800_000_000.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@asynccontextmanager
async def network() -> AsyncIterator[FakeNetwork]:
    async with create_task_group() as tasks:
        yield FakeNetwork(tasks)
        tasks.cancel_scope.cancel()


def service(host: FakeHost, **options: object) -> IdentifyService:
    return IdentifyService(host, host.private_key, wall_clock=lambda: NOW, **options)  # type: ignore[arg-type]


async def receive_all(stream: Stream) -> bytes:
    data = b""
    try:
        while True:
            data += await stream.receive()
    except EndOfStream:
        return data


def message(wire: bytes) -> IdentifyMessage:
    reader = IdentifyReader()
    reader.receive_data(wire)
    return reader.finish()


def answering(said: IdentifyMessage) -> Callable[[Stream], Awaitable[None]]:
    async def answer(stream: Stream) -> None:
        await stream.send(encode_messages(said))

    return answer


async def test_both_ends_of_a_connection_learn_who_the_other_is() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle("/bob/1.0.0", sleep_forever)  # type: ignore[arg-type]
        bob.addrs = (LOOPBACK, LAN)
        async with service(alice) as at_alice, service(bob) as at_bob:
            ours, theirs = alice.link(bob)

            assert at_alice.facts(bob.peer_id) is None
            facts = await at_alice.wait_identified(ours)
            about_alice = await at_bob.wait_identified(theirs)

            assert facts == at_alice.facts(bob.peer_id)
            assert facts.protocols == ("/bob/1.0.0", IDENTIFY, PUSH)
            assert facts.agent_version == f"ipvcs/{__version__}"
            assert facts.protocol_version == "ipfs/0.1.0"
            assert facts.listen_addrs == (LAN, LOOPBACK)
            assert facts.observed_addr == LOOPBACK
            assert facts.record_seq == int(NOW * 1e9)
            assert about_alice.protocols == (IDENTIFY, PUSH)


async def test_the_answer_is_one_that_others_read() -> None:
    """What is on the wire, asked for without our own client."""
    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.addrs = (LOOPBACK, PUBLIC)
        async with service(bob):
            ours, _theirs = alice.link(bob, from_addr=PUBLIC2, to_addr=PUBLIC)
            stream = await ours.open_stream([IDENTIFY])
            said = message(await receive_all(stream))

    assert said.public_key == bob.private_key.public_key.encode()
    assert said.observed_addr == PUBLIC2
    assert said.listen_addrs == (PUBLIC,), "loopback is of no use to it"
    assert said.signed_peer_record is not None
    assert open_record(said.signed_peer_record).addrs == (PUBLIC,)


async def test_what_a_peer_says_goes_to_the_address_book_and_to_those_who_asked() -> None:
    heard: list[tuple[Connection, PeerFacts]] = []
    observed: list[tuple[Connection, Multiaddr]] = []
    book = AddressBook()
    async with network() as net:
        alice, bob, carol = net.host(), net.host(), net.host()
        seen_at = Multiaddr.parse(f"{PUBLIC2}/p2p/{alice.peer_id}")
        carol.handle(IDENTIFY, answering(IdentifyMessage(listen_addrs=(LAN,), observed_addr=seen_at)))
        options = {
            "book": book,
            "on_facts": lambda connection, facts: heard.append((connection, facts)),
            "on_observed": lambda connection, addr: observed.append((connection, addr)),
        }
        async with service(alice, **options) as at_alice, service(bob):
            to_bob, _ = alice.link(bob)
            to_carol, _ = alice.link(carol)
            facts = await at_alice.wait_identified(to_bob)
            unsigned = await at_alice.wait_identified(to_carol)

            assert book.addrs(bob.peer_id, current_time()) == (LOOPBACK,)
            assert book.sequence(bob.peer_id) == facts.record_seq is not None
            assert book.addrs(carol.peer_id, current_time()) == (LAN,)
            assert book.sequence(carol.peer_id) is None
            assert dict(heard) == {to_bob: facts, to_carol: unsigned}
            assert dict(observed) == {to_bob: LOOPBACK, to_carol: PUBLIC2}
            assert len(heard) == len(observed) == 2


async def test_connections_that_stood_before_are_identified_too() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        async with service(bob):
            ours, _theirs = alice.link(bob)
            async with service(alice) as at_alice:
                assert (await at_alice.wait_identified(ours)).speaks(IDENTIFY)


async def test_facts_are_kept_while_any_connection_stands_and_no_longer() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        async with service(alice) as at_alice, service(bob):
            first, _ = alice.link(bob)
            second, _ = alice.link(bob)
            await at_alice.wait_identified(first)
            await at_alice.wait_identified(second)

            await first.aclose()
            assert at_alice.facts(bob.peer_id) is not None
            await second.aclose()
            assert at_alice.facts(bob.peer_id) is None
            with pytest.raises(IdentifyError, match="not connected"):
                await at_alice.wait_identified(second)


async def test_who_waits_for_a_connection_that_ends_is_told_at_once() -> None:
    async with network() as net:
        alice, silent = net.host(), net.host()
        silent.handle(IDENTIFY, lambda stream: sleep_forever())
        async with service(alice) as at_alice:
            ours, _theirs = alice.link(silent)
            net.tasks.start_soon(close_after, 1.0, ours)
            with pytest.raises(IdentifyError, match="ended"):
                await at_alice.wait_identified(ours, timeout=100)
            assert current_time() == pytest.approx(1.0)


async def test_who_waits_for_a_connection_that_ends_before_its_turn_is_told_at_once() -> None:
    async with network() as net:
        alice = net.host()
        async with service(alice) as at_alice:
            for _ in range(INBOUND_AT_ONCE + 1):
                silent = net.host()
                silent.handle(IDENTIFY, lambda stream: sleep_forever())
                silent.link(alice)
                await sleep(0)
            last = alice.connections(silent.peer_id)[0]
            net.tasks.start_soon(close_after, 1.0, last)
            with pytest.raises(IdentifyError, match="the connection ended"):
                await at_alice.wait_identified(last, timeout=100)
            assert current_time() == pytest.approx(1.0)


async def close_after(delay: float, connection: Connection) -> None:
    await sleep(delay)
    await connection.aclose()


async def test_a_handler_less_service_after_its_block_serves_nothing() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        async with service(alice):
            pass
        assert alice.protocols() == ()
        alice.link(bob)  # it is still the host's notifiee, and must not mind


# ---- pushes ----


async def test_peers_are_told_when_we_serve_something_new() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        async with service(alice) as at_alice, service(bob) as at_bob:
            ours, theirs = alice.link(bob)
            await at_alice.wait_identified(ours)
            await at_bob.wait_identified(theirs)
            start = current_time()

            alice.handle("/new/1.0.0", sleep_forever)  # type: ignore[arg-type]
            at_alice.announce()
            while not at_bob.facts(alice.peer_id).speaks("/new/1.0.0"):  # type: ignore[union-attr]
                await sleep(0.01)

            assert current_time() - start == pytest.approx(PUSH_DELAY, abs=0.02)


async def test_peers_are_told_our_new_addresses() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        book = AddressBook()
        async with service(alice) as at_alice, service(bob, book=book) as at_bob:
            ours, theirs = alice.link(bob)
            await at_alice.wait_identified(ours)
            await at_bob.wait_identified(theirs)

            alice.addrs = (PUBLIC,)
            at_alice.announce()
            await sleep(PUSH_DELAY + 0.1)

            assert at_bob.facts(alice.peer_id).listen_addrs == (PUBLIC,)  # type: ignore[union-attr]
            assert book.addrs(alice.peer_id, current_time()) == (PUBLIC,)


async def test_changes_in_a_row_are_one_push_and_a_flapping_service_is_no_storm() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        async with service(alice) as at_alice, service(bob) as at_bob:
            ours, theirs = alice.link(bob)
            await at_alice.wait_identified(ours)
            await at_bob.wait_identified(theirs)

            for number in range(1000):  # ten seconds
                alice.unhandle(f"/flap/{number - 1}")
                alice.handle(f"/flap/{number}", sleep_forever)  # type: ignore[arg-type]
                at_alice.announce()
                await sleep(0.01)
            await sleep(10)

            pushes = ours.streams_opened.count(PUSH)
            assert 2 <= pushes <= 10 / PUSH_INTERVAL + 2
            assert at_bob.facts(alice.peer_id).speaks("/flap/999")  # type: ignore[union-attr]


async def test_nothing_is_pushed_when_nothing_changed_or_the_peer_does_not_speak_push() -> None:
    async with network() as net:
        alice, bob, carol = net.host(), net.host(), net.host()
        carol.handle(IDENTIFY, answering(IdentifyMessage(protocols=("/x",))))
        async with service(alice) as at_alice, service(bob) as at_bob:
            to_bob, from_alice = alice.link(bob)
            to_carol, _ = alice.link(carol)
            await at_alice.wait_identified(to_bob)
            await at_alice.wait_identified(to_carol)
            await at_bob.wait_identified(from_alice)

            at_alice.announce()
            await sleep(10)
            assert PUSH not in to_bob.streams_opened
            alice.addrs = (PUBLIC,)
            at_alice.announce()
            await sleep(10)
            assert to_bob.streams_opened.count(PUSH) == 1
            assert PUSH not in to_carol.streams_opened


async def test_a_peer_that_answers_only_after_the_change_it_missed_is_told_then() -> None:
    async def slow(stream: Stream) -> None:
        await sleep(3)
        await stream.send(encode_messages(IdentifyMessage(protocols=(PUSH,))))

    async with network() as net:
        alice, bob = net.host(), net.host()
        pushed: list[IdentifyMessage] = []

        async def hear(stream: Stream) -> None:
            pushed.append(message(await receive_all(stream)))

        bob.handle(IDENTIFY, slow)
        bob.handle(PUSH, hear)
        async with service(alice) as at_alice:
            _ours, theirs = alice.link(bob)
            await receive_all(await theirs.open_stream([IDENTIFY]))
            alice.addrs = (PUBLIC,)
            at_alice.announce()
            await sleep(2)
            assert pushed == []
            await sleep(5)
            assert [said.listen_addrs for said in pushed] == [(PUBLIC,)]


async def test_a_peer_with_several_connections_is_told_once() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        async with service(alice) as at_alice, service(bob):
            links = [alice.link(bob)[0] for _ in range(3)]
            for link in links:
                await at_alice.wait_identified(link)

            alice.addrs = (PUBLIC,)
            at_alice.announce()
            await sleep(1)
            assert sum(link.streams_opened.count(PUSH) for link in links) == 1


async def test_a_peer_that_does_not_take_a_push_holds_up_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "PUSHES_AT_ONCE", 1)
    async with network() as net:
        alice, bob, stuck = net.host(), net.host(), net.host()
        stuck.handle(IDENTIFY, answering(IdentifyMessage(protocols=(PUSH,))))
        stuck.handle(PUSH, lambda stream: sleep_forever())
        async with service(alice) as at_alice, service(bob) as at_bob:
            to_stuck, _ = alice.link(stuck)
            monkeypatch.setattr(to_stuck, "open_stream", never_open)
            ours, theirs = alice.link(bob)
            at_alice._peers[stuck.peer_id].facts = PeerFacts(protocols=(PUSH,))
            await at_alice.wait_identified(ours)
            await at_bob.wait_identified(theirs)

            alice.addrs = (PUBLIC,)
            at_alice.announce()
            await sleep(PUSH_DELAY + TIMEOUT + 1)
            assert at_bob.facts(alice.peer_id).listen_addrs == (PUBLIC,)  # type: ignore[union-attr]


async def never_open(_protocols: object, **_options: object) -> Stream:
    await sleep_forever()
    raise AssertionError


async def test_a_push_changes_only_what_it_mentions() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        async with service(alice) as at_alice, service(bob):
            ours, theirs = alice.link(bob)
            before = await at_alice.wait_identified(ours)

            stream = await theirs.open_stream([PUSH])
            await stream.send(encode_messages(IdentifyMessage(protocols=("/only",))))
            await stream.aclose()
            await sleep(0.1)

            after = at_alice.facts(bob.peer_id)
            assert after is not None
            assert after.protocols == ("/only",)
            assert after.listen_addrs == before.listen_addrs
            assert after.agent_version == before.agent_version


# ---- hostile peers ----


async def dribble(stream: Stream) -> None:
    await stream.send(varint.encode(8000))
    while True:
        await stream.send(b"\x1a")
        await sleep(0.5)


async def endless(stream: Stream) -> None:
    while True:
        await stream.send(b"\x04\x1a\x02/a" * 100)


async def oversize(stream: Stream) -> None:
    await stream.send(varint.encode(1 << 40) + bytes(1000))
    await sleep_forever()


async def half(stream: Stream) -> None:
    await stream.send(b"\x50abc")


async def say_nothing(stream: Stream) -> None:
    pass


async def resets(stream: Stream) -> None:
    stream.reset()


WRONG_KEY = answering(IdentifyMessage(generate_key().public_key.encode(), (LAN,), ("/a",)))


@pytest.mark.parametrize(
    ("behaviour", "match", "seconds"),
    [
        (endless, "more than 10 messages", 0),
        (oversize, "is over", 0),
        (half, "inside", 0),
        (say_nothing, "before", 0),
        (resets, "reset", 0),
        (WRONG_KEY, "key of somebody else", 0),
        (dribble, "did not arrive", TIMEOUT),
        (lambda stream: sleep_forever(), "did not arrive", TIMEOUT),
    ],
    ids=["endless", "oversize", "half", "nothing", "reset", "wrong key", "dribble", "silent"],
)
async def test_a_peer_that_identifies_itself_badly_is_not_identified_and_keeps_its_connection(
    behaviour: Callable[[Stream], Awaitable[None]], match: str, seconds: float
) -> None:
    async with network() as net:
        alice, mallory, bob = net.host(), net.host(), net.host()

        async def serve(stream: Stream) -> None:
            with suppress(BrokenResourceError):
                await behaviour(stream)

        mallory.handle(IDENTIFY, serve)
        async with service(alice) as at_alice, service(bob):
            ours, _theirs = alice.link(mallory)
            to_bob, _ = alice.link(bob)
            with pytest.raises(IdentifyError, match=match):
                await at_alice.wait_identified(ours, timeout=TIMEOUT + 1)

            assert current_time() == pytest.approx(seconds)
            assert at_alice.facts(mallory.peer_id) is None
            assert not ours.is_closed
            assert not ours.streams, "the stream is not left open"
            assert (await at_alice.wait_identified(to_bob)).speaks(IDENTIFY)


async def test_a_peer_that_does_not_serve_identify_is_not_identified() -> None:
    async with network() as net:
        alice, plain = net.host(), net.host()
        async with service(alice) as at_alice:
            ours, _theirs = alice.link(plain)
            with pytest.raises(IdentifyError, match="does not speak"):
                await at_alice.wait_identified(ours)


async def test_a_stream_that_cannot_be_opened_ends_with_the_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeConnection, "open_stream", lambda self, protocols, **options: never_open(protocols))
    async with network() as net:
        alice, bob = net.host(), net.host()
        async with service(alice) as at_alice:
            ours, _theirs = alice.link(bob)
            with pytest.raises(IdentifyError, match="no stream could be opened"):
                await at_alice.wait_identified(ours, timeout=100)
            assert current_time() == pytest.approx(TIMEOUT)


async def test_a_peer_that_forgets_to_end_its_side_is_identified_after_the_time_out() -> None:
    async def unending(stream: Stream) -> None:
        await stream.send(encode_messages(IdentifyMessage(protocols=("/a",))))
        await sleep_forever()

    async with network() as net:
        alice, bob = net.host(), net.host()
        bob.handle(IDENTIFY, unending)
        async with service(alice) as at_alice:
            ours, _theirs = alice.link(bob)
            assert (await at_alice.wait_identified(ours, timeout=100)).protocols == ("/a",)
            assert current_time() == pytest.approx(TIMEOUT)


async def test_ten_thousand_protocols_are_cut_to_a_few() -> None:
    names = [f"/p/{number}" for number in range(10_000)]

    async def answer(stream: Stream) -> None:
        for start in range(0, 8000, 800):
            body = b"".join(b"\x1a" + bytes((len(name),)) + name.encode() for name in names[start : start + 800])
            await stream.send(varint.encode(len(body)) + body)

    async with network() as net:
        alice, mallory = net.host(), net.host()
        mallory.handle(IDENTIFY, answer)
        async with service(alice) as at_alice:
            ours, _theirs = alice.link(mallory)
            assert (await at_alice.wait_identified(ours)).protocols == tuple(names[:MAX_PROTOCOLS])


async def test_a_thousand_pushes_are_mostly_not_even_read() -> None:
    async with network() as net:
        alice, mallory, bob = net.host(), net.host(), net.host()
        heard: list[PeerFacts] = []
        async with service(alice, on_facts=lambda _connection, facts: heard.append(facts)) as at_alice, service(bob):
            ours, theirs = alice.link(mallory)
            to_bob, _ = alice.link(bob)
            await at_alice.wait_identified(to_bob)
            heard.clear()

            reset = 0
            for number in range(1000):
                stream = await theirs.open_stream([PUSH])
                try:
                    await stream.send(encode_messages(IdentifyMessage(agent_version=f"v{number}")))
                    await stream.send_eof()
                    await stream.receive()
                except EndOfStream:
                    pass
                except BrokenResourceError:
                    reset += 1

            assert len(heard) == INBOUND_PUSHES
            assert reset == 1000 - INBOUND_PUSHES
            assert not ours.is_closed
            await sleep(60)
            stream = await theirs.open_stream([PUSH])
            await stream.send(encode_messages(IdentifyMessage(agent_version="later")))
            await stream.aclose()
            await sleep(1)
            assert at_alice.facts(mallory.peer_id).agent_version == "later"  # type: ignore[union-attr]


@pytest.mark.parametrize("behaviour", [endless, oversize, half, WRONG_KEY], ids=["endless", "oversize", "half", "key"])
async def test_a_bad_push_changes_nothing(behaviour: Callable[[Stream], Awaitable[None]]) -> None:
    async with network() as net:
        alice, mallory = net.host(), net.host()
        async with service(alice) as at_alice, service(mallory):
            ours, theirs = alice.link(mallory)
            before = await at_alice.wait_identified(ours)

            async def push() -> None:
                stream = await theirs.open_stream([PUSH])
                try:
                    await behaviour(stream)
                    await stream.aclose()
                except BrokenResourceError:
                    pass

            net.tasks.start_soon(push)
            await sleep(TIMEOUT + 1)
            assert at_alice.facts(mallory.peer_id) == before
            assert [stream for stream in ours.streams if stream.direction == "inbound"] == []


async def test_an_inbound_push_that_never_comes_is_given_up() -> None:
    async with network() as net:
        alice, mallory = net.host(), net.host()
        async with service(alice):
            ours, theirs = alice.link(mallory)
            await theirs.open_stream([PUSH])
            await sleep(TIMEOUT - 1)
            assert len(ours.streams) == 1
            await sleep(2)
            assert len(ours.streams) == 0


async def test_silent_inbound_peers_are_asked_a_few_at_a_time_and_do_not_delay_those_we_dial() -> None:
    async with network() as net:
        alice, bob = net.host(), net.host()
        async with service(alice) as at_alice, service(bob):
            asked = 0

            async def silent(stream: Stream) -> None:
                nonlocal asked
                asked += 1
                await sleep_forever()

            for _ in range(INBOUND_AT_ONCE + 5):
                mallory = net.host()
                mallory.handle(IDENTIFY, silent)
                mallory.link(alice)
            await sleep(1)
            ours, _theirs = alice.link(bob)

            await at_alice.wait_identified(ours)
            assert current_time() == pytest.approx(1)
            assert asked == INBOUND_AT_ONCE
            await sleep(TIMEOUT)
            assert asked == INBOUND_AT_ONCE + 5


async def test_a_peer_that_does_not_read_our_answer_is_dropped_after_the_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.fakes.fake_host.WINDOW", 10)
    async with network() as net:
        alice, mallory = net.host(), net.host()
        async with service(alice):
            ours, theirs = alice.link(mallory)
            stream = await theirs.open_stream([IDENTIFY])
            await sleep(TIMEOUT + 1)
            with pytest.raises(BrokenResourceError):
                await stream.receive()
            assert not ours.streams
