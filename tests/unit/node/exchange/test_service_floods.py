"""Peers that send or want more than they should: what they may hold is bounded, and others are dealt with meanwhile."""

from contextlib import suppress

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.multiformats import varint
from ipvcs.node.exchange.messages import MAX_MESSAGE
from ipvcs.node.exchange.service import MAX_INBOUND
from ipvcs.node.exchange.verifier import MAX_HELD
from ipvcs.node.network.interface import Stream
from ipvcs.node.network.message_budget import MessageBudget
from tests.fakes.exchange_swarm import Party, answer_of, exchanging, leaves, parent, wants_of
from tests.fakes.memory_stream import WINDOW

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


async def read_nothing(_stream: Stream) -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize("count", [40, 100])  # fewer, and more, than are answered at once
async def test_many_peers_that_read_nothing_leave_room_for_one_who_reads(count: int) -> None:
    async with exchanging("alice", "bob", *(f"m{number}" for number in range(count))) as (alice, bob, *mallories):
        blocks = leaves(100, size=100_000)
        alice.has(blocks)

        async def attack(mallory: Party) -> None:
            await mallory.connect(alice)
            mallory.serve_by(read_nothing)
            while True:  # whoever loses his stream says again what he wants
                stream = await mallory.say(alice, wants_of(*blocks, full=True))
                await anyio.sleep(5)
                await stream.aclose()

        async with anyio.create_task_group() as tasks:
            for mallory in mallories:
                tasks.start_soon(attack, mallory)
            await anyio.sleep(3)
            await bob.connect(alice)
            # Two rounds of `STUCK` seconds, and what a busy machine adds; without room for him it would never end.
            await bob.fetch(*(block.cid for block in blocks[:20]), timeout=30)
            tasks.cancel_scope.cancel()


async def test_unfinished_messages_of_strangers_do_not_stop_a_fetch() -> None:
    async with exchanging("alice", "bob", *(f"m{number}" for number in range(4))) as (alice, bob, *mallories):
        below = leaves(60, size=300_000)
        root = parent(*below)
        bob.has([root, *below])
        for mallory in mallories:
            await alice.connect(mallory)
        with anyio.move_on_after(1):
            await alice.fetch(*(block.cid for block in leaves(1, seed="nowhere")))  # now they may send large messages
        sent = 0

        async def dawdle(mallory: Party) -> None:
            nonlocal sent
            with suppress(anyio.BrokenResourceError):
                await mallory.say(alice, varint.encode(4 * MIB), bytes(2 * MIB))
                sent += 2 * MIB

        async with anyio.create_task_group() as tasks:
            for mallory in mallories:
                for _ in range(MAX_INBOUND):
                    tasks.start_soon(dawdle, mallory)
        assert sent > MessageBudget().limit - WINDOW * 4 * MAX_INBOUND, "they hold all that may be held"
        await alice.connect(bob)
        since = anyio.current_time()
        await alice.fetch(root.cid, timeout=50)
        assert anyio.current_time() - since < 5


async def test_what_is_read_while_the_disk_is_slow_is_bounded() -> None:
    async with exchanging("alice", "bob", *(f"m{number}" for number in range(4))) as (alice, bob, *mallories):
        blocks = leaves(7, size=500_000)
        message = answer_of(*blocks)
        assert MAX_MESSAGE * 0.8 < len(message) <= MAX_MESSAGE
        for mallory in mallories:
            await alice.connect(mallory)
        with anyio.move_on_after(2):
            await alice.fetch(*(block.cid for block in blocks))  # what it asked for is not cut off when it comes late
        alice.local.delay = 20
        taken = 0

        async def flood(mallory: Party, start: float) -> None:
            nonlocal taken
            await anyio.sleep(start)
            stream = await mallory.say(alice)
            for _ in range(3):
                await stream.send(message)
                taken += len(message)

        async with anyio.create_task_group() as tasks:
            for mallory in mallories:
                for number in range(MAX_INBOUND):
                    tasks.start_soon(flood, mallory, number * 0.5)
            await anyio.sleep(10)
            streams = 4 * MAX_INBOUND
            assert MAX_HELD < taken < MAX_HELD + MessageBudget().limit + streams * WINDOW
            tasks.cancel_scope.cancel()
        alice.local.delay = 0
        (later,) = leaves(1, seed="later")
        bob.has([later])
        await alice.connect(bob)
        await alice.fetch(later.cid)
