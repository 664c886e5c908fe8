"""Names over time: published again and again, remembered over restarts, forgotten on request."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import cast

import anyio
import pytest

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.identity.keystore import KeyNotFoundError
from ipvcs.node.naming.name_path import NameSyntaxError
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.name_table import ForkError, StaleRecordError
from ipvcs.node.naming.publisher import NotAnnouncedError
from ipvcs.node.naming.republish_plan import PERIOD, RETRY, RETRY_WITH_PEER, SPREAD, START_DELAY
from ipvcs.node.naming.service import SAVE_INTERVAL, NameService
from ipvcs.node.naming.succession import UNPUBLISHED, NameChangedError
from ipvcs.node.network.interface import Connection
from ipvcs.storage.datastore import Datastore
from ipvcs.storage.disk import DiskError
from tests.unit.node.naming.fake_routing import FakeDns, FakeRouting, wall
from tests.unit.node.naming.records import ALICE, BOB, CAROL, HOUR, A, B, record

pytestmark = pytest.mark.anyio
TEXT = ALICE.peer_id.to_base36()
STRANGER = CAROL.peer_id.to_base36()


@dataclass
class Keys:
    """`self` is Alice, `work` Bob; those in `locked` can't be opened."""

    keys: dict[str, PrivateKey] = field(default_factory=lambda: {"self": ALICE, "work": BOB})
    locked: set[str] = field(default_factory=set)

    def get(self, name: str) -> PrivateKey:
        if name not in self.keys:
            raise KeyNotFoundError(name)
        return self.keys[name]

    def find(self, peer_id: PeerId) -> PrivateKey | None:
        return next(
            (key for name, key in self.keys.items() if key.peer_id == peer_id and name not in self.locked), None
        )

    def names(self) -> Mapping[str, PeerId]:
        return {name: key.peer_id for name, key in self.keys.items()}


@dataclass
class Home:
    """What outlives a restart of the service, and the world around it."""

    datastore: Datastore
    routing: FakeRouting = field(default_factory=FakeRouting)
    keys: Keys = field(default_factory=Keys)
    dns: FakeDns = field(default_factory=FakeDns)
    jitter: float = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[NameService]:
        async with NameService.open(
            self.datastore, self.routing, self.keys, self.dns, wall=wall, jitter=lambda: self.jitter
        ) as service:
            yield service

    def times(self) -> list[float]:
        return [when for when, _record in self.routing.stored]


@pytest.fixture
def home(datastore: Datastore, threads: list[str]) -> Home:
    return Home(datastore)


async def test_names_of_ours_are_published_and_resolved_by_what_we_call_them(home: Home) -> None:
    async with home.running() as names:
        before = names.has_published
        await names.publish(A)
        await names.publish(B, key="work", lifetime=HOUR, ttl=1)
        assert (before, names.has_published) == (False, True)
        assert (await names.resolve("work")).path == B
        assert (await names.resolve(TEXT)).path == A
        assert (await names.publish(B, key=CAROL)).name == CAROL.peer_id
        with pytest.raises(KeyNotFoundError):
            await names.publish(A, key="play")
    assert [each.ttl_ns // 10**9 for _when, each in home.routing.stored] == [300, 1, 300]


async def test_a_name_is_published_every_four_hours_with_a_later_end_each_time(home: Home) -> None:
    async with home.running() as names:
        await names.publish(A)
        await anyio.sleep(13 * HOUR)
    assert home.times() == pytest.approx([0, PERIOD, 2 * PERIOD, 3 * PERIOD], abs=1)
    ends = [each.expires_ns for _when, each in home.routing.stored]
    assert [b - a for a, b in pairwise(ends)] == pytest.approx([PERIOD * 10**9] * 3, abs=10**9)
    assert {each.sequence for _when, each in home.routing.stored} == {0}


async def test_a_short_life_is_renewed_before_it_ends(home: Home) -> None:
    async with home.running() as names:
        await names.publish(A, lifetime=600)
        await anyio.sleep(HOUR)
        sent = home.routing.stored
        for (_when, before), (when, _after) in pairwise(sent):
            assert before.is_valid_at(wall() - anyio.current_time() + when)
    assert len(home.times()) >= 12


async def test_a_shorter_life_that_is_asked_for_just_before_a_name_is_due_is_what_is_planned_for(
    home: Home,
) -> None:
    async with home.running() as names:
        await names.publish(A)
        await anyio.sleep(PERIOD - 5)
        home.routing.delay = 20
        async with anyio.create_task_group() as tasks:  # one after the other, and while they last it becomes due
            tasks.start_soon(names.publish, B)
            await anyio.sleep(1)
            tasks.start_soon(partial(names.publish, A, lifetime=1200))
        await anyio.sleep(30)
        home.routing.delay = 0
        sent = len(home.times())
        await anyio.sleep(HOUR)
        assert len(home.times()) >= sent + 5
        for (_when, before), (when, _after) in pairwise(home.routing.stored[sent - 1 :]):
            assert before.is_valid_at(wall() - anyio.current_time() + when)


async def test_after_a_restart_names_go_on_as_before_and_not_all_at_once(home: Home) -> None:
    async with home.running() as names:
        await names.publish(A)
        await anyio.sleep(HOUR)
    for _ in range(5):
        async with home.running():
            await anyio.sleep(60)
    assert home.times() == [0], "a restart is no reason to publish"
    async with home.running() as names:
        assert (await names.resolve(TEXT)).path == A
        assert names.has_published
        await anyio.sleep(3 * HOUR)
    assert home.times() == pytest.approx([0, PERIOD], abs=1)


async def test_what_nobody_took_is_tried_again_soon_and_after_a_restart_too(home: Home) -> None:
    home.routing.peers = 0
    async with home.running() as names:
        with pytest.raises(NotAnnouncedError):
            await names.publish(A)
        await anyio.sleep(RETRY + 1)
        home.routing.peers = 1
        await anyio.sleep(2 * RETRY)
        assert home.times() == pytest.approx([3 * RETRY], abs=1)
        home.routing.peers = 0
        await names.publish(B, allow_offline=True)
    home.routing.peers = 1
    async with home.running():
        await anyio.sleep(START_DELAY + SPREAD)
    assert home.routing.stored[-1][1].path == B


async def test_when_a_peer_comes_what_nobody_took_is_tried_within_seconds(home: Home) -> None:
    home.routing.peers = 0
    async with home.running() as names:
        await names.publish(A, allow_offline=True)
        await anyio.sleep(1)
        home.routing.peers = 1
        names.connected(cast("Connection", None))
        await anyio.sleep(RETRY / 2)
        assert home.times() == pytest.approx([RETRY_WITH_PEER], abs=1)


async def test_right_after_the_start_who_must_not_miss_anything_waits_for_company(home: Home) -> None:
    async with NameService.open(
        home.datastore, home.routing, home.keys, home.dns, wall=wall, wait_joined=partial(anyio.sleep, 3)
    ) as names:
        home.routing.set(BOB.peer_id, record(BOB, B))
        assert (await names.resolve(BOB.peer_id.to_base36(), newest=True)).path == B
        assert anyio.current_time() == pytest.approx(3)
        await names.publish(A, patience=10)
        assert anyio.current_time() == pytest.approx(6)
        await names.publish(B)
        assert anyio.current_time() == pytest.approx(6)


async def test_after_a_long_rest_an_expired_record_is_signed_anew(home: Home) -> None:
    async with home.running() as names:
        await names.publish(A)
    await anyio.sleep(1000 * HOUR)
    async with home.running() as names:
        assert (await names.resolve(TEXT)).path == A
        await anyio.sleep(START_DELAY + 1)
    latest = home.routing.stored[-1][1]
    assert (len(home.times()), latest.sequence) == (2, 0)
    assert latest.is_valid_at(wall())


async def test_a_locked_key_hinders_no_other_and_its_record_is_kept_alive_while_it_lives(home: Home) -> None:
    async with home.running() as names:
        await names.publish(A)
        first = (await names.publish(B, key="work")).record
        home.keys.locked.add("work")
        await anyio.sleep(PERIOD + 1)
        assert [each.path for _when, each in home.routing.stored] == [A, B, A, B]
        assert home.routing.stored[-1][1] == first
        await anyio.sleep(60 * HOUR)
        later = [each for when, each in home.routing.stored if when > 50 * HOUR]
        assert {each.path for each in later} == {A}
        home.keys.locked.clear()
        await anyio.sleep(PERIOD + 1)
        assert home.routing.stored[-1][1].is_valid_at(wall())
        assert B in {each.path for when, each in home.routing.stored if when > 60 * HOUR}


async def test_a_first_record_that_lost_is_not_tried_again(home: Home) -> None:
    rival = record(BOB, B, 0, expires=wall() + 9999 * HOUR)
    async with home.running() as names:
        home.routing.delay = 1.0
        async with anyio.create_task_group() as tasks:

            async def lose() -> None:
                with pytest.raises(NameChangedError):
                    await names.publish(A, key="work", expect=UNPUBLISHED)

            tasks.start_soon(lose)
            await anyio.sleep(0.5)
            home.routing.set(BOB.peer_id, rival)
        await names.publish(A)
        await anyio.sleep(PERIOD + 1)
        assert not names.table.own().get(BOB.peer_id)
        assert (await names.resolve("work")).path == B
    assert [each.path for _when, each in home.routing.stored] == [A, A]


async def test_a_silent_network_does_not_end_republishing(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    async with home.running() as names:
        await names.publish(A)
        home.routing.delay = 10_000
        await anyio.sleep(PERIOD + 200)
        home.routing.delay = 0
        await anyio.sleep(HOUR)
    assert len(home.times()) == 2
    assert "cannot republish a name" in caplog.text


# ---- memory ----


async def test_what_was_seen_is_known_after_a_restart(home: Home) -> None:
    home.routing.set(CAROL.peer_id, record(CAROL, B, 5, expires=wall() + 9999 * HOUR, ttl=0))
    async with home.running() as names:
        assert (await names.resolve(STRANGER)).path == B
    home.routing.set(CAROL.peer_id, record(CAROL, A, 4, expires=wall() + 9999 * HOUR, ttl=0))
    async with home.running() as names:
        found = await names.resolve(STRANGER)
        assert found.path == B
        assert [type(warning) for warning in found.warnings] == [StaleRecordError]


async def test_a_kill_loses_a_minute_of_what_was_seen(home: Home) -> None:
    home.routing.set(CAROL.peer_id, record(CAROL, B))
    async with home.running() as names:
        await names.resolve(STRANGER)
        assert NameStore(home.datastore).load() == []
        await anyio.sleep(SAVE_INTERVAL + 1)
        assert [name for name, _known in NameStore(home.datastore).load()] == [CAROL.peer_id]


async def test_a_full_disk_loses_nothing_that_fits_later(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: NameStore, changes: object) -> None:
        raise DiskError("no space left", Path("/x"))

    home.routing.set(CAROL.peer_id, record(CAROL, B))
    async with home.running() as names:
        await names.resolve(STRANGER)
        with monkeypatch.context() as patch:
            patch.setattr(NameStore, "write", full)
            await anyio.sleep(SAVE_INTERVAL + 1)
        assert "cannot write the table of names" in caplog.text
    assert [name for name, _known in NameStore(home.datastore).load()] == [CAROL.peer_id]


async def test_forget_ends_a_fork_and_a_rollback_at_once_and_for_good(home: Home) -> None:
    late = wall() + 9999 * HOUR
    home.routing.set(CAROL.peer_id, record(CAROL, A, 5, expires=late, ttl=0), record(CAROL, B, 5, expires=late, ttl=0))
    async with home.running() as names:
        assert [type(each) for each in (await names.resolve(STRANGER)).warnings] == [ForkError]
        assert [fork.name for fork in names.forks()] == [CAROL.peer_id]
        await anyio.sleep(SAVE_INTERVAL + 1)
        assert [name for name, _known in NameStore(home.datastore).load()] == [CAROL.peer_id]
        assert await names.forget(f"/ipns/{STRANGER}") == (CAROL.peer_id, True)
        assert await names.forget(STRANGER) == (CAROL.peer_id, False)
        assert names.forks() == ()
        home.routing.set(CAROL.peer_id, record(CAROL, B, 1, expires=late))
        assert NameStore(home.datastore).load() == []
        assert (await names.resolve(STRANGER)).path == B


async def test_forget_keeps_what_we_published(home: Home) -> None:
    async with home.running() as names:
        await names.publish(A, key="work")
        home.routing.set(BOB.peer_id, record(BOB, B, 9))
        assert (await names.resolve("work", nocache=True)).path == B
        assert await names.forget("work") == (BOB.peer_id, True)
        assert (await names.resolve("work")).path == A
        with pytest.raises(NameSyntaxError):
            await names.forget("play")


async def test_a_search_streams_through_the_service(home: Home) -> None:
    home.routing.set(CAROL.peer_id, record(CAROL, A), 1.0, record(CAROL, B, 1))
    home.dns.link("example.com", f"/ipns/{STRANGER}")
    async with home.running() as names:
        async with names.search(STRANGER) as found:
            assert [each.path async for each in found] == [A, B]
        assert (await names.resolve("example.com/x")).path == f"{B}/x"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_on_asyncio_with_threads_it_is_the_same(datastore: Datastore) -> None:
    home = Home(datastore)
    with anyio.fail_after(30):
        async with home.running() as names:
            assert [(await names.publish(value)).sequence for value in (A, B, B)] == [0, 1, 1]
            home.routing.set(CAROL.peer_id, record(CAROL, f"/ipns/{TEXT}/x", 5, ttl=0), 600.0)
            async with names.search(STRANGER) as found:
                assert (await anext(found)).path == f"{B}/x"
            home.routing.set(CAROL.peer_id, record(CAROL, A, 4, ttl=0))
        async with home.running() as names:
            assert [type(each) for each in (await names.resolve(STRANGER)).warnings] == [StaleRecordError]
            assert await names.forget(STRANGER) == (CAROL.peer_id, True)
            assert (await names.resolve(STRANGER)).path == A
            assert (await names.publish(A, expect=(1, B))).sequence == 2
    assert home.routing.open_searches == 0
