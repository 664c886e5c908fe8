"""What goes wrong beside and beneath the exchange: it costs what it must, and the service goes on."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.errors import LimitError
from ipvcs.multiformats import varint
from ipvcs.node.exchange.fetch import STALL_TIMEOUT, DagTooLargeError, FetchLimits, FetchProgress, fetch_dag
from ipvcs.node.exchange.interface import BlockUnavailableError
from ipvcs.node.exchange.messages import Message, decode
from ipvcs.node.exchange.peer import REUSE
from ipvcs.node.network.interface import Stream
from ipvcs.node.network.multistream import NegotiationError
from ipvcs.storage.disk import DiskError
from tests.fakes.exchange_swarm import (
    CorruptingStore,
    InlineBlocks,
    Party,
    answer_of,
    exchanging,
    leaves,
    parent,
    wants_of,
)
from tests.fakes.memory_network import MemoryNetwork

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def messages_in(data: bytes) -> list[Message]:
    """Return the whole messages that `data` begins with."""
    found: list[Message] = []
    while data:
        size, start = varint.decode(data)
        if len(data) < start + size:
            break
        found.append(decode(data[start : start + size]))
        data = data[start + size :]
    return found


async def assert_serves_and_fetches(party: Party, other: Party) -> None:
    """Its service lives: blocks go both ways."""
    mine, theirs = leaves(2, seed="life")
    party.has([mine])
    other.has([theirs])
    await party.connect(other)
    await party.fetch(theirs.cid, timeout=5)
    await other.fetch(mine.cid, timeout=5)


def refuse_streams(monkeypatch: pytest.MonkeyPatch, party: Party, other: Party, error: Exception) -> None:
    """Let every stream that `party` opens to `other` fail."""

    async def fail(_protocols: Sequence[str], *, lazy: bool = False) -> Stream:
        raise error

    (connection,) = party.swarm.connections(other.peer_id)
    monkeypatch.setattr(connection, "open_stream", fail)


# ---- peers that are slow, wrong or not what they seem ----


async def test_a_peer_that_reads_slower_than_streams_are_reused_gets_its_message_whole() -> None:
    async with exchanging("alice", "slow") as (alice, slow):
        blocks = leaves(15, size=256 * 1024)
        alice.has(blocks)
        await slow.connect(alice)
        got: list[bytes] = []
        times: list[float] = []

        async def read_slowly(stream: Stream) -> None:
            while True:
                got.append(await stream.receive(40_000))
                times.append(anyio.current_time())
                await anyio.sleep(0.1)

        slow.serve_by(read_slowly)
        await slow.say(alice, wants_of(*blocks))
        await anyio.sleep(60)

        received = [block.data for message in messages_in(b"".join(got)) for block in message.blocks]
        assert set(received) == {block.data for block in blocks}
        assert len(received) == len(blocks)
        assert times[-1] - times[0] > REUSE, "it was slow enough"


async def test_a_provider_that_sent_wrong_blocks_is_found_again_and_the_fetch_ends_as_an_error() -> None:
    async with exchanging("alice", "mallory", "bob") as (alice, mallory, bob):
        (block,) = leaves(1)
        mallory.has([block])
        mallory.local.store = corrupting = CorruptingStore()
        corrupting.put_many([block])
        await alice.connect(mallory)
        with pytest.raises(BlockUnavailableError):
            await alice.fetch(block.cid, timeout=5)
        alice.routing.providers[block.cid.multihash] = [mallory.swarm.info]
        with pytest.raises(BlockUnavailableError) as caught:
            await alice.fetch(block.cid, timeout=20)
        assert (caught.value.stat.providers, caught.value.stat.reached) == (1, 0)
        await assert_serves_and_fetches(alice, bob)


async def test_a_provider_without_bitswap_is_not_taken_for_one_that_was_asked() -> None:
    async with exchanging("alice", "mallory", "bob") as (alice, mallory, bob):
        (block,) = leaves(1)
        mallory.serve_by(None)
        alice.routing.providers[block.cid.multihash] = [mallory.swarm.info]
        with pytest.raises(BlockUnavailableError, match="0 connected peers were asked, and 1 provider was found"):
            await alice.fetch(block.cid, timeout=50)
        assert anyio.current_time() == pytest.approx(50, abs=2), "a connected peer may know providers: no early end"
        await assert_serves_and_fetches(alice, bob)


async def test_a_peer_that_answers_something_else_than_multistream_ends_neither_fetch_nor_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with exchanging("alice", "mallory", "bob") as (alice, mallory, bob):
        (block,) = leaves(1)
        alice.has([block])
        await alice.connect(mallory)
        await anyio.sleep(0.1)
        refuse_streams(monkeypatch, alice, mallory, NegotiationError("the peer answers 'HTTP/1.1 400 Bad Request'"))
        await mallory.say(alice, wants_of(block))  # an answer needs a stream, too
        with pytest.raises(BlockUnavailableError):
            await alice.fetch(*(each.cid for each in leaves(1, seed="nowhere")), timeout=15)
        await assert_serves_and_fetches(alice, bob)


async def test_a_provider_is_counted_once_however_often_it_is_found() -> None:
    async with exchanging("alice", "liar") as (alice, liar):
        (block,) = leaves(1)
        alice.routing.providers[block.cid.multihash] = [liar.swarm.info]
        with pytest.raises(BlockUnavailableError, match="1 provider was found, of which 1 could be reached") as caught:
            await alice.fetch(block.cid, timeout=60)
        assert len(alice.routing.searches) > 2
        assert (caught.value.stat.providers, caught.value.stat.reached) == (1, 1)


# ---- disks that fail, and disks that are slow ----


async def test_a_disk_error_while_blocks_are_looked_for_that_peers_wait_for_is_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        wanted, other = leaves(2)
        await alice.connect(bob)
        with anyio.move_on_after(3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(alice.fetch, wanted.cid)
                await anyio.sleep(1)

                def fail(_keys: object) -> dict[bytes, int]:
                    raise DiskError("input/output error", Path("home"))

                with monkeypatch.context() as patch:
                    patch.setattr(bob.store, "sizes", fail)
                    bob.has([other])  # a transaction: time to look
                    await anyio.sleep(1)
        assert "input/output error" in caplog.text
        await assert_serves_and_fetches(alice, bob)


async def test_a_local_walk_longer_than_a_fetch_waits_for_blocks_does_not_end_it() -> None:
    async with exchanging("alice", "bob", latency=0.6) as (alice, bob):
        below = leaves(50)
        root = parent(*below)
        alice.has([root, *below[:-1]])
        bob.has([root, *below])
        alice.local = InlineBlocks(alice.store)  # the fetch's own: the service's disk is quick
        alice.local.delay = STALL_TIMEOUT + 5
        await alice.connect(bob)
        done = await alice.fetch(root.cid, timeout=STALL_TIMEOUT)
        assert (done.blocks, done.local) == (1, 50)


async def test_a_fetch_ends_when_more_comes_than_it_may_take() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        below = leaves(5000)
        root = parent(*below)
        bob.has([root, *below])
        await alice.connect(bob)
        size = sum(len(block.data) for block in (root, *below))
        with pytest.raises(DagTooLargeError):
            await fetch_dag(alice.service, alice.local, [root.cid], limits=FetchLimits(bytes=size // 2))
        assert sum(alice.store.has(block.cid) for block in below) < 5000
        done = await fetch_dag(alice.service, alice.local, [root.cid], limits=FetchLimits(size, 5000))
        assert done.blocks + done.local == 5001
        with pytest.raises(DagTooLargeError):  # all of it is here by now
            await fetch_dag(alice.service, alice.local, [root.cid], limits=FetchLimits(links=4999))


async def test_a_long_local_walk_tells_how_far_it_is() -> None:
    async with exchanging("alice") as (alice,):
        children = [parent(*leaves(600, seed=f"{number}/")) for number in range(10)]
        root = parent(*children)
        alice.has([root, *children])
        for number in range(10):
            alice.has(leaves(600, seed=f"{number}/"))
        alice.local.delay = 30
        told: list[tuple[float, int]] = []

        async def note(progress: FetchProgress) -> None:
            told.append((anyio.current_time(), progress.local))

        await fetch_dag(alice.service, alice.local, [root.cid], on_progress=note)
        times, counts = zip((0.0, 0), *told, strict=True)
        assert counts[-1] == 6011
        assert list(counts) == sorted(counts)
        assert max(later - earlier for earlier, later in pairwise(times)) <= 2 * alice.local.delay


async def test_a_fetch_that_begins_while_the_block_is_verified_for_another_gets_it_too() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        (block,) = leaves(1)
        bob.has([block])
        alice.local.delay = 0.05  # the thread has handed the block over; the event loop hears of it later
        await alice.connect(bob)
        took: dict[float, float] = {}

        async def fetch_after(delay: float) -> None:
            await anyio.sleep(delay)
            started = anyio.current_time()
            await alice.fetch(block.cid, timeout=60)
            took[delay] = anyio.current_time() - started

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(fetch_after, number * 0.01)
        assert len(took) == 20
        assert max(took.values()) < 2, took


async def test_a_block_that_is_committed_between_look_up_and_want_wakes_the_want() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        (block,) = leaves(1)
        bob.local.delay = 1.0
        await alice.connect(bob)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.fetch, block.cid)
            await anyio.sleep(0.5)
            assert bob.service.wantlist(alice.peer_id) == [], "it was looked up, and the want is not known yet"
            bob.has([block])
        assert anyio.current_time() < 4


# ---- streams that break ----


async def test_a_peer_that_cannot_be_told_what_we_want_is_told_when_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        (block,) = leaves(1)
        bob.has([block])
        await alice.connect(bob)
        async with anyio.create_task_group() as tasks:
            with monkeypatch.context() as patch:
                refuse_streams(patch, alice, bob, LimitError("too many streams are open"))
                tasks.start_soon(alice.fetch, block.cid)
                await anyio.sleep(3)
        assert anyio.current_time() < 15


async def test_what_a_peer_could_not_be_told_is_not_on_its_list_when_nobody_wants_it_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        first, second = leaves(2)
        bob.has([first, second])
        await alice.connect(bob)
        with monkeypatch.context() as patch:
            refuse_streams(patch, alice, bob, LimitError("too many streams are open"))
            with pytest.raises(BlockUnavailableError):
                await alice.fetch(first.cid, timeout=5)
        await alice.fetch(second.cid, timeout=5)
        await anyio.sleep(1)
        assert bob.service.stat().blocks_sent == 1
        assert bob.service.wantlist(alice.peer_id) == []


async def test_cancels_survive_a_broken_stream() -> None:
    async with exchanging("alice", "bob") as (alice, bob):
        wanted = leaves(10)
        await alice.connect(bob)
        with anyio.move_on_after(1.1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: alice.fetch(*(block.cid for block in wanted)))
                await anyio.sleep(1)
                assert len(bob.service.wantlist(alice.peer_id)) == 10
                for stream in bob.swarm.connections(alice.peer_id)[0].streams:
                    stream.reset()
        await anyio.sleep(1)
        assert bob.service.wantlist(alice.peer_id) == []


async def test_a_peer_that_answers_what_an_earlier_connection_asked_is_honest() -> None:
    async with MemoryNetwork(latency=0.01) as network, exchanging("alice", "bob", network=network) as (alice, bob):
        (block,) = leaves(1)
        await alice.connect(bob)
        with anyio.move_on_after(1):
            await alice.fetch(block.cid)
        network.kill(alice.peer_id, bob.peer_id)
        await bob.connect(alice)
        await bob.say(alice, answer_of(block))  # it saw no end of the old connection, and kept our want
        await anyio.sleep(1)
        assert alice.swarm.connections(bob.peer_id)
        await assert_serves_and_fetches(alice, bob)
