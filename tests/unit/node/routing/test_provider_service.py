"""Announcing what is pinned: soon, not before its time, and never in a storm. Hours pass on the mock clock."""

import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from ipvcs.errors import UnavailableError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.network.interface import Connection
from ipvcs.node.routing import provider_service
from ipvcs.node.routing.provider_service import (
    FIRST_RETRY,
    LOOK_INTERVAL,
    MAX_RETRY,
    POLL,
    SETTLE,
    TICKS,
    ProviderService,
    Retry,
)
from ipvcs.node.routing.reprovider import ProvidedTable, Strategy, keyspace_position
from ipvcs.objects.block import Block
from ipvcs.storage.datastore import Datastore, open_datastore
from ipvcs.storage.disk import DiskFullError
from ipvcs.storage.home import open_home
from ipvcs.storage.memory import MemoryBlockstore
from ipvcs.storage.pins import Pin, PinMode, Pins
from tests.unit.node.routing.announcing_router import AnnouncingRouter, BatchingRouter
from tests.unit.node.routing.test_reprovider import LEAVES, TOP, TREE

pytestmark = pytest.mark.anyio

_MEMORY = Path("/dev/shm")
NOW = 1_800_000_000.0
SOON = LOOK_INTERVAL + 2 * POLL
EVERY = 1000.0
"""Seconds until something is announced again: a second of the mock clock takes time, too."""
TICK = EVERY / TICKS + 2 * POLL
SOMEBODY = cast("Connection", None)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
def datastore() -> Iterator[Datastore]:
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path:
        store = open_datastore(Path(path), make=True, sync=False)
        yield store
        store.close()


async def inline(function: Callable[..., Any], *args: Any) -> Any:
    """Stand for a thread, of which the mock clock knows nothing."""
    await anyio.lowlevel.checkpoint()
    return function(*args)


class World:
    """A home and its service."""

    def __init__(self, datastore: Datastore, router: AnnouncingRouter) -> None:
        self.datastore = datastore
        self.router = router
        self.blocks = MemoryBlockstore()
        self.blocks.put_many([*LEAVES, TREE, TOP])
        self.pins = Pins(datastore)
        self.started = anyio.current_time()

    def pin(self, *blocks: Block) -> None:
        self.blocks.put_many(blocks)
        self.pins.add(Pin(block.cid, PinMode.RECURSIVE) for block in blocks)

    def wall(self) -> float:
        return NOW + anyio.current_time()

    @property
    def announced(self) -> list[bytes]:
        return [cid.multihash for cid in self.router.announced]

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncGenerator[ProviderService]:
        given: dict[str, Any] = {"name": "lan", "interval": EVERY, "wall": self.wall, "offload": inline, **options}
        service = ProviderService(self.router, self.datastore, self.blocks, **given)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.run)
            yield service
            tasks.cancel_scope.cancel()


def names(*blocks: Block) -> set[bytes]:
    return {block.cid.multihash for block in blocks}


def some_blocks(count: int) -> list[Block]:
    return [Block.of(b"block %d" % number) for number in range(count)]


async def test_a_new_pin_is_announced_within_seconds_whoever_made_it(datastore: Datastore) -> None:
    world = World(datastore, AnnouncingRouter())
    async with world.running():
        await anyio.sleep(600)
        assert world.announced == []
        world.pin(TOP)
        await anyio.sleep(SOON)
        assert set(world.announced) == names(TOP)
        world.pin(LEAVES[3])
        await anyio.sleep(SOON)
        assert world.announced == [TOP.cid.multihash, LEAVES[3].cid.multihash]
        await anyio.sleep(EVERY / 2)
        assert len(world.announced) == 2, "each once"


async def test_pins_that_come_one_by_one_are_announced_a_few_seconds_apart(datastore: Datastore) -> None:
    world = World(datastore, BatchingRouter())
    async with world.running():
        for block in some_blocks(60):
            world.pin(block)
            await anyio.sleep(0.5)
        await anyio.sleep(SOON)
    assert len(world.announced) == 60
    assert len(world.router.attempts) <= 30 / LOOK_INTERVAL + 2


async def test_it_is_announced_again_after_the_interval_and_not_before(datastore: Datastore) -> None:
    world = World(datastore, AnnouncingRouter())
    world.pin(TOP, LEAVES[3])
    async with world.running():
        await anyio.sleep(4 * (EVERY + TICK))
    times = [
        time
        for cid, time in zip(world.router.announced, world.router.times, strict=True)
        if cid.multihash == TOP.cid.multihash
    ]
    pauses = [after - before for before, after in pairwise(times)]
    assert len(times) in (4, 5)
    assert min(pauses) >= EVERY
    assert max(pauses) <= EVERY + TICK
    assert world.announced.count(LEAVES[3].cid.multihash) == len(times)


async def test_nothing_is_announced_before_its_time_over_restarts(datastore: Datastore) -> None:
    world = World(datastore, AnnouncingRouter())
    world.pin(TOP)
    for _number in range(10):
        async with world.running():
            await anyio.sleep(EVERY / 20)
    assert len(world.announced) == 1
    await anyio.sleep(EVERY)  # the node is off
    async with world.running():
        await anyio.sleep(SOON)
        assert len(world.announced) == 2
    world.pin(LEAVES[3])
    async with world.running():
        await anyio.sleep(SOON)
    assert world.announced[2:] == [LEAVES[3].cid.multihash], "what was pinned while it was off"


async def test_with_an_interval_of_0_everything_is_announced_once(datastore: Datastore) -> None:
    world = World(datastore, AnnouncingRouter())
    world.pin(TOP)
    async with world.running(interval=0):
        await anyio.sleep(5 * EVERY)
        world.pin(LEAVES[3])
        await anyio.sleep(SOON)
    assert world.announced == [TOP.cid.multihash, LEAVES[3].cid.multihash]


async def test_what_was_unpinned_is_announced_no_more_and_forgotten(datastore: Datastore) -> None:
    for strategy in (Strategy.ROOTS, Strategy.PINNED):
        world = World(datastore, AnnouncingRouter())
        world.pin(TREE, LEAVES[3])
        async with world.running(strategy=strategy, name=str(strategy)):
            await anyio.sleep(SOON)
            world.pins.remove([TREE.cid])
            await anyio.sleep(EVERY + TICK)
        assert world.announced.count(TREE.cid.multihash) == 1
        assert world.announced.count(LEAVES[0].cid.multihash) == (strategy is Strategy.PINNED)
        assert world.announced.count(LEAVES[3].cid.multihash) == 2
        assert len(ProvidedTable(datastore, str(strategy))) == 1


async def test_everything_below_pins_follows_the_roots(datastore: Datastore) -> None:
    world = World(datastore, AnnouncingRouter())
    async with world.running(strategy=Strategy.PINNED):
        await anyio.sleep(SOON)
        world.pin(TOP)
        await anyio.sleep(SOON)
    assert world.announced[0] == TOP.cid.multihash
    assert set(world.announced) == names(TOP, TREE, *LEAVES[:3])
    assert len(world.announced) == 5


async def test_all_blocks_are_announced_and_new_ones_in_the_next_cycle(datastore: Datastore) -> None:
    world = World(datastore, AnnouncingRouter())
    async with world.running(strategy=Strategy.ALL):
        await anyio.sleep(SOON)
        assert set(world.announced) == names(*LEAVES, TREE, TOP)
        extra = Block.of(b"not pinned")
        world.blocks.put_many([extra])
        await anyio.sleep(EVERY + TICK)
        assert world.announced.count(extra.cid.multihash) == 1


async def test_a_pass_goes_through_the_keyspace_in_order(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_service, "MANY_BATCH", 8)
    router = BatchingRouter()
    world = World(datastore, router)
    world.pin(*some_blocks(100))
    async with world.running():
        await anyio.sleep(SOON)
        assert len(world.announced) == 100
        router.batches.clear()
        await anyio.sleep(EVERY + TICK)
    assert [len(batch) for batch in router.batches] == [8] * 12 + [4]
    positions = [keyspace_position(cid.multihash) for batch in router.batches for cid in batch]
    assert positions == sorted(positions)


async def test_nobody_to_tell_is_tried_again_later_and_later(datastore: Datastore) -> None:
    router = AnnouncingRouter(online=False)
    world = World(datastore, router)
    world.pin(TOP)
    async with world.running():
        await anyio.sleep(600)
        attempts = list(router.attempts)
        router.online = True
        await anyio.sleep(MAX_RETRY + 2 * POLL)
    pauses = [after - before for before, after in pairwise(attempts)]
    assert pauses[0] >= FIRST_RETRY
    assert pauses[1] > pauses[0]
    assert len(attempts) <= 3600 / MAX_RETRY + 10
    assert max(pauses) <= MAX_RETRY + 2 * POLL
    assert set(world.announced) == names(TOP)


async def test_a_peer_that_comes_is_told_soon(datastore: Datastore) -> None:
    router = AnnouncingRouter(online=False)
    world = World(datastore, router)
    world.pin(TOP)
    async with world.running() as service:
        await anyio.sleep(600)
        router.online = True
        service.connected(SOMEBODY)
        await anyio.sleep(provider_service.MAX_RETRY_WITH_PEERS + 2 * POLL)
        assert set(world.announced) == names(TOP)


async def test_peers_that_come_and_go_make_no_storm(datastore: Datastore) -> None:
    router = AnnouncingRouter(online=False)
    world = World(datastore, router)
    world.pin(*some_blocks(50))
    async with world.running() as service:
        for _second in range(3600):
            service.connected(SOMEBODY)
            service.disconnected(SOMEBODY)
            await anyio.sleep(1)
    assert len({int(time) for time in router.attempts}) <= 3600 / FIRST_RETRY / 2 + 2


async def test_one_block_that_can_t_be_announced_holds_up_no_other(datastore: Datastore) -> None:
    blocks = some_blocks(30)
    bad = blocks[11].cid
    router = AnnouncingRouter(failing={Cid.make(bad.multihash): UnavailableError("every peer is gone")})
    world = World(datastore, router)
    world.pin(*blocks)
    async with world.running():
        await anyio.sleep(600)
        assert len(world.announced) == 29
        assert router.calls <= 29 + 3600 / MAX_RETRY + 10
        router.failing = {}
        await anyio.sleep(MAX_RETRY + 2 * POLL)
        assert len(world.announced) == 30


async def test_a_disk_that_is_full_ends_nothing(datastore: Datastore, caplog: pytest.LogCaptureFixture) -> None:
    failing = True

    async def offload(function: Callable[..., Any], *args: Any) -> Any:
        if failing:
            raise DiskFullError(datastore.path)
        return await inline(function, *args)

    world = World(datastore, AnnouncingRouter())
    world.pin(TOP)
    async with world.running(offload=offload):
        await anyio.sleep(600)
        assert 0 < caplog.text.count("cannot look up") <= 10
        failing = False
        await anyio.sleep(MAX_RETRY + SOON)
    assert set(world.announced) == names(TOP)


async def test_a_new_pin_does_not_wait_for_a_long_pass(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_service, "BATCH", 4)
    monkeypatch.setattr(provider_service, "MAX_URGENT", 4)
    world = World(datastore, AnnouncingRouter(delay=10))
    world.pin(*some_blocks(200))
    async with world.running():
        await anyio.sleep(120)
        assert 0 < len(world.announced) < 100
        world.pin(TOP)
        await anyio.sleep(40)
        assert TOP.cid.multihash in world.announced
        await anyio.sleep(600)
        assert len(world.announced) == len(set(world.announced)) == 201


async def test_an_unpinned_root_in_a_pass_is_not_written_down_again(datastore: Datastore) -> None:
    world = World(datastore, AnnouncingRouter(delay=5))
    world.pin(TOP)
    async with world.running():
        await anyio.sleep(2)
        world.pins.remove([TOP.cid])
        await anyio.sleep(60)
    assert len(ProvidedTable(datastore, "lan")) == 0


async def test_two_routers_are_told_apart(datastore: Datastore) -> None:
    near, far = World(datastore, AnnouncingRouter()), World(datastore, AnnouncingRouter(online=False))
    near.pin(TOP)
    async with near.running(name="lan"), far.running(name="wan"):
        await anyio.sleep(600)
        assert set(near.announced) == names(TOP)
        far.router.online = True
        await anyio.sleep(MAX_RETRY + 2 * POLL)
    assert set(far.announced) == names(TOP)
    assert len(near.announced) == 1


async def test_the_statistics_tell_what_was_done(datastore: Datastore) -> None:
    world = World(datastore, AnnouncingRouter(delay=2))
    async with world.running() as service:
        assert service.stats() == provider_service.ProvideStats(0, 0.0, 0.0, 0, None, EVERY)
        world.pin(*some_blocks(8))
        await anyio.sleep(60)
        stats = service.stats()
        assert (stats.total, stats.last_size) == (8, 8)
        assert stats.average_duration == pytest.approx(0.5)
        assert stats.last_duration == pytest.approx(4)
        assert stats.last_run == pytest.approx(world.wall(), abs=60)


async def test_one_that_fails_is_not_tried_with_every_new_pin_and_delays_none(datastore: Datastore) -> None:
    bad = Block.of(b"bad")
    router = AnnouncingRouter(failing={Cid.make(bad.cid.multihash): UnavailableError("every peer is gone")})
    world = World(datastore, router)
    world.pin(bad)
    async with world.running():
        await anyio.sleep(120)
        for block in some_blocks(60):
            before = len(world.announced)
            world.pin(block)
            await anyio.sleep(SOON)
            assert len(world.announced) == before + 1
    assert router.calls - len(world.announced) <= 15


async def test_when_many_fail_at_once_everything_waits(datastore: Datastore) -> None:
    blocks = some_blocks(provider_service.BATCH * 3)
    failing = {Cid.make(block.cid.multihash): UnavailableError("we are nowhere") for block in blocks}
    router = AnnouncingRouter(failing=failing)
    world = World(datastore, router)
    world.pin(*blocks)
    async with world.running():
        await anyio.sleep(FIRST_RETRY)
        assert router.calls == provider_service.BATCH
        await anyio.sleep(3600)
        assert router.calls <= 10 * len(blocks)
        router.failing = {}
        await anyio.sleep(4 * MAX_RETRY)
    assert set(world.announced) == names(*blocks)


async def test_what_comes_behind_a_pass_is_announced_when_it_ends(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_service, "BATCH", 4)
    monkeypatch.setattr(provider_service, "MAX_URGENT", 4)
    world = World(datastore, AnnouncingRouter(delay=10))
    async with world.running(strategy=Strategy.PINNED, interval=0):
        await anyio.sleep(SOON)
        world.pin(*some_blocks(60))
        await anyio.sleep(120)
        assert 30 < len(world.announced) < 60, "a pass is under way"
        world.pin(TOP)
        await anyio.sleep(600)
    assert set(world.announced) == names(TOP, TREE, *LEAVES[:3], *some_blocks(60))


async def test_a_pin_made_while_the_others_are_looked_at_is_seen_next(datastore: Datastore) -> None:
    world = World(datastore, AnnouncingRouter(online=False))

    async def offload(function: Callable[..., Any], *args: Any) -> Any:
        result = await inline(function, *args)
        if function is next and result is None and world.pins.try_get(TOP.cid) is None:
            world.pin(TOP)
        return result

    world.pin(LEAVES[3])
    async with world.running(offload=offload):
        await anyio.sleep(60)
    assert len(ProvidedTable(datastore, "lan")) == 2


async def test_looks_that_take_long_are_rare(datastore: Datastore) -> None:
    looks = 0

    async def offload(function: Callable[..., Any], *args: Any) -> Any:
        nonlocal looks
        if function is next:
            looks += args[1] is None
            await anyio.sleep(1)
        return await inline(function, *args)

    world = World(datastore, AnnouncingRouter())
    async with world.running(offload=offload):
        for block in some_blocks(300):
            world.pin(block)
            await anyio.sleep(1)
    assert looks <= 5 * (300 / 60 + 1), "a look has up to five slices, and so takes 5 % of the time at most"


def test_a_peer_that_can_t_help_does_not_make_the_next_one_wait_long() -> None:
    retry = Retry()
    for number in range(20):
        retry.failed(number * 1000.0)
    retry.peer_came(19_100)
    assert retry.due == 19_100 + SETTLE
    retry.failed(retry.due)
    assert retry.due <= 19_100 + SETTLE + 4 * FIRST_RETRY


@given(script=st.lists(st.tuples(st.sampled_from(["fail", "peer", "ok"]), st.floats(0, 1000)), max_size=60))
def test_a_retry_is_never_sooner_than_its_pause_nor_later_than_the_longest(script: list[tuple[str, float]]) -> None:
    retry = Retry()
    now, failed = 100.0, None
    for what, pause in script:
        now += pause
        if what == "fail":
            retry.failed(now)
            failed = now
        elif what == "ok":
            retry.succeeded()
            failed = None
        else:
            retry.peer_came(now)
        if failed is None:
            assert retry.may_try(now)
        else:
            assert not retry.may_try(failed + FIRST_RETRY - 0.001)
            assert retry.may_try(failed + MAX_RETRY)
            if what == "peer":
                assert retry.may_try(max(now + SETTLE, failed + provider_service.MAX_RETRY_WITH_PEERS))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_runs_in_threads_on_a_real_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_service, "POLL", 0.01)
    router = AnnouncingRouter()
    with open_home(tmp_path / "home") as home:
        home.blocks.put_many([*LEAVES, TREE, TOP])
        home.pins.add([Pin(TOP.cid, PinMode.RECURSIVE)])
        service = ProviderService(router, home.datastore, home.blocks, name="lan", strategy=Strategy.PINNED)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.run)
                while len(router.announced) < 5:
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
        assert {cid.multihash for cid in router.announced} == names(TOP, TREE, *LEAVES[:3])
        assert Cid.make(TOP.cid.multihash) == router.announced[0]
