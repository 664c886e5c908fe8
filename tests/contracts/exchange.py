"""What every `Exchange` promises: the promises of `ipvcs.node.exchange.interface`, each as a test.

A subclass says how to open an `ExchangeWorld`: an exchange with a store, and somebody else who may have blocks.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.interface import Exchange, FetchSession
from ipvcs.node.exchange.local_blocks import Arrival
from ipvcs.objects.block import Block
from ipvcs.storage.disk import DiskFullError
from ipvcs.storage.interface import Blockstore

BLOCKS = [Block.of(b"block %d" % number) for number in range(8)]
DEADLINE = 60.0
"""Seconds of the mock clock in which what can be had is there."""


@dataclass(frozen=True)
class ExchangeWorld:
    """An exchange, and the rest of the world as far as it is needed."""

    exchange: Exchange
    store: Blockstore
    """Where its blocks go."""
    give: Callable[[Iterable[Block]], None]
    """Lets the other, who is connected, have blocks."""
    wanted: Callable[[], Sequence[Cid]]
    """Returns what the other knows that we want."""


class FullWriter:
    """A writer whose disk is full."""

    def put(self, _block: Block) -> None:
        raise DiskFullError(Path("home"))

    def get(self, cid: Cid) -> bytes:
        raise NotImplementedError

    def rely_on(self, cids: Iterable[Cid]) -> list[Cid]:
        return list(cids)

    def flush(self) -> None:
        raise DiskFullError(Path("home"))


async def arrivals_of(session: FetchSession, count: int) -> list[Arrival]:
    """Return the next `count` arrivals."""
    found: list[Arrival] = []
    with anyio.fail_after(DEADLINE):
        while len(found) < count:
            arrivals = await session.arrivals()
            assert arrivals, "at least one"
            found += arrivals
    return found


async def want_and_raise(opening: AbstractAsyncContextManager[FetchSession]) -> None:
    """Fail within the session's block."""
    async with opening as session:
        session.want([block.cid for block in BLOCKS])
        await anyio.sleep(1)
        raise KeyError("mine")


class ExchangeContract:
    """What every Exchange promises. Subclass it and supply `open`."""

    def open(self, *, connected: bool = True) -> AbstractAsyncContextManager[ExchangeWorld]:
        """Open a world in which the other has nothing yet."""
        raise NotImplementedError

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        return "trio", {"clock": MockClock(autojump_threshold=0)}

    async def test_blocks_arrive_in_the_writer_each_once(self) -> None:
        async with self.open() as world:
            world.give(BLOCKS)
            with world.store.writing() as writer:
                async with world.exchange.session(BLOCKS[0].cid, writer) as session:
                    session.want([block.cid for block in BLOCKS])
                    assert session.wanted == len(BLOCKS)
                    arrived = await arrivals_of(session, len(BLOCKS))
                    assert session.wanted == 0
                    assert [writer.get(block.cid) for block in BLOCKS] == [block.data for block in BLOCKS]
                    with anyio.move_on_after(DEADLINE):
                        pytest.fail(f"{await session.arrivals()} came twice")
            assert {arrival.cid for arrival in arrived} == {block.cid for block in BLOCKS}
            assert {arrival.size for arrival in arrived} == {len(block.data) for block in BLOCKS}
            assert all(world.store.has(block.cid) for block in BLOCKS)

    async def test_what_is_wanted_twice_is_wanted_once(self) -> None:
        async with self.open() as world:
            with world.store.writing() as writer:
                async with world.exchange.session(BLOCKS[0].cid, writer) as session:
                    assert session.oldest_wanted() is None
                    session.want([BLOCKS[1].cid, BLOCKS[0].cid, BLOCKS[1].cid])
                    session.want([BLOCKS[0].cid])
                    assert session.wanted == 2
                    assert session.oldest_wanted() == BLOCKS[1].cid
                    world.give(BLOCKS[:2])
                    await arrivals_of(session, 2)
                    assert session.oldest_wanted() is None

    async def test_a_wait_for_arrivals_that_is_cancelled_loses_nothing(self) -> None:
        async with self.open() as world:
            with world.store.writing() as writer:
                async with world.exchange.session(BLOCKS[0].cid, writer) as session:
                    session.want([block.cid for block in BLOCKS])
                    with anyio.move_on_after(0.001) as scope:
                        await session.arrivals()
                    assert scope.cancelled_caught
                    world.give(BLOCKS)
                    await anyio.sleep(DEADLINE)
                    assert len(await arrivals_of(session, len(BLOCKS))) == len(BLOCKS)

    async def test_what_the_writer_raises_is_raised_to_who_waits(self) -> None:
        async with self.open() as world:
            world.give(BLOCKS)
            async with world.exchange.session(BLOCKS[0].cid, FullWriter()) as session:
                session.want([BLOCKS[0].cid])
                with anyio.fail_after(DEADLINE), pytest.raises(DiskFullError):
                    await session.arrivals()
            with world.store.writing() as writer:
                async with world.exchange.session(BLOCKS[0].cid, writer) as session:
                    session.want([BLOCKS[1].cid])
                    await arrivals_of(session, 1)  # and is no other session's business

    async def test_leaving_the_block_forgets_what_is_still_wanted(self) -> None:
        async with self.open() as world:
            with world.store.writing() as writer:
                async with world.exchange.session(BLOCKS[0].cid, writer) as session:
                    session.want([block.cid for block in BLOCKS])
                    await anyio.sleep(2)
                    assert set(world.wanted()) == {block.cid for block in BLOCKS}
                await anyio.sleep(2)
                assert world.wanted() == []
                world.give(BLOCKS)
                await anyio.sleep(DEADLINE)
            assert list(world.store.iter_cids()) == []

    async def test_two_sessions_that_want_a_block_both_get_it(self) -> None:
        async with self.open() as world:
            with world.store.writing() as writer:
                async with (
                    world.exchange.session(BLOCKS[0].cid, writer) as first,
                    world.exchange.session(BLOCKS[1].cid, writer) as second,
                ):
                    first.want([BLOCKS[0].cid])
                    second.want([BLOCKS[1].cid, BLOCKS[0].cid])
                    await anyio.sleep(1)
                    world.give(BLOCKS[:2])
                    await arrivals_of(first, 1)
                    await arrivals_of(second, 2)

    async def test_a_session_that_ends_leaves_the_wants_of_another(self) -> None:
        async with self.open() as world:
            with world.store.writing() as writer:
                async with world.exchange.session(BLOCKS[0].cid, writer) as staying:
                    staying.want([BLOCKS[0].cid])
                    async with world.exchange.session(BLOCKS[0].cid, writer) as leaving:
                        leaving.want([BLOCKS[0].cid])
                        await anyio.sleep(1)
                    await anyio.sleep(1)
                    world.give(BLOCKS[:1])
                    await arrivals_of(staying, 1)

    async def test_each_session_gets_a_block_under_the_cid_that_it_wants(self) -> None:
        async with self.open() as world:
            raw = BLOCKS[0]
            named = raw.cid.with_codec(codecs.GIT_RAW)
            with world.store.writing() as writer:
                async with (
                    world.exchange.session(raw.cid, writer) as first,
                    world.exchange.session(named, writer) as second,
                ):
                    first.want([raw.cid])
                    second.want([named])
                    world.give([raw])
                    assert [arrival.cid for arrival in await arrivals_of(first, 1)] == [raw.cid]
                    assert [arrival.cid for arrival in await arrivals_of(second, 1)] == [named]

    async def test_hope_is_somebody_to_ask(self) -> None:
        for connected in (True, False):
            async with self.open(connected=connected) as world:
                with world.store.writing() as writer:
                    async with world.exchange.session(BLOCKS[0].cid, writer) as session:
                        session.want([BLOCKS[0].cid])
                        await anyio.sleep(5)
                        assert session.has_hope() == connected
                        assert session.stat().asked == connected

    async def test_it_says_how_much_came(self) -> None:
        async with self.open() as world:
            world.give(BLOCKS[:3])
            with world.store.writing() as writer:
                async with world.exchange.session(BLOCKS[0].cid, writer) as session:
                    session.want([block.cid for block in BLOCKS])
                    await arrivals_of(session, 3)
                    stat = session.stat()
            assert (stat.blocks, stat.bytes) == (3, sum(len(block.data) for block in BLOCKS[:3]))
            assert (stat.sources, stat.asked) == (1, 1)

    async def test_an_error_in_a_session_s_block_comes_out_as_it_is(self) -> None:
        async with self.open() as world:
            with world.store.writing() as writer:
                with pytest.raises(KeyError, match="mine"):
                    await want_and_raise(world.exchange.session(BLOCKS[0].cid, writer))
                await anyio.sleep(1)
                assert world.wanted() == []
