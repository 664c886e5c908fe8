"""Resolving against a network that loses, delays and lies, on a mock clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import anyio
import pytest

from ipvcs.errors import DecodeError, IpvcsError, LimitError, UsageError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.naming.dnslink import DnsLinks, NoDnsLinkError
from ipvcs.node.naming.name_path import NameSyntaxError
from ipvcs.node.naming.name_table import ForkError, NameTable, OwnName, StaleRecordError
from ipvcs.node.naming.record import IpnsRecord, UnusableValueError
from ipvcs.node.naming.record_search import RecordSearch, SearchTimeoutError
from ipvcs.node.naming.resolver import (
    MAX_DEPTH,
    NEWEST_TIMEOUT,
    NameDepthError,
    NameLoopError,
    NameNotFoundError,
    Resolved,
    Resolver,
    UnconfirmedNameError,
)
from ipvcs.node.network.dns_client import DnsError
from ipvcs.node.routing.interface import NoRoutingPeersError
from tests.unit.node.identity.key_pool import KEYS, ed25519_key
from tests.unit.node.naming.fake_routing import FakeDns, FakeRouting, wall
from tests.unit.node.naming.records import ALICE, BOB, CAROL, HOUR, NOW, A, B, C, record

pytestmark = pytest.mark.anyio
NAME = ALICE.peer_id
TEXT = NAME.to_base36()


@dataclass
class World:
    routing: FakeRouting
    dns: FakeDns
    table: NameTable
    resolver: Resolver

    async def resolve(self, name: str = TEXT, **options: Any) -> Resolved:
        return await self.resolver.resolve(name, **options)

    async def path(self, name: str = TEXT, **options: Any) -> str:
        return (await self.resolve(name, **options)).path

    async def stream(self, name: str = TEXT, **options: Any) -> list[Resolved]:
        async with self.resolver.search(name, **options) as found:
            return [each async for each in found]

    def publish(self, key: PrivateKey, value: str, sequence: int = 0, **options: Any) -> IpnsRecord:
        """Put a record of `key` on the network, and nothing else of it."""
        made = record(key, value, sequence, **options)
        self.routing.set(key.peer_id, made)
        return made


@pytest.fixture
def world() -> World:
    return world_of({})


def world_of(keys: Mapping[str, PeerId]) -> World:
    routing, dns, table = FakeRouting(), FakeDns(), NameTable()

    async def find_key(name: str) -> PeerId | None:
        await anyio.lowlevel.checkpoint()
        return keys.get(name)

    search = RecordSearch(routing, table, wall)
    return World(routing, dns, table, Resolver(table, search, DnsLinks(dns), find_key, wall))


# ---- one name ----


@pytest.mark.parametrize("text", [TEXT, str(NAME), f"/ipns/{TEXT}", f"/ipns/{NAME}", str(NAME.to_cid())])
async def test_a_name_may_be_written_in_any_of_its_forms(world: World, text: str) -> None:
    made = world.publish(ALICE, A, 3)
    found = await world.resolve(text)
    assert (found.path, found.name, found.record, found.sequence) == (A, TEXT, made, 3)
    assert (found.state, found.source, found.ttl, found.warnings) == ((3, A), "network", 300.0, ())
    assert world.routing.searches == [(NAME, 16)]


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.type.name)
async def test_names_of_every_type_of_key_resolve(world: World, key: PrivateKey) -> None:
    world.publish(key, A)
    assert await world.path(key.peer_id.to_base36()) == A


async def test_what_stands_behind_the_name_is_kept(world: World) -> None:
    world.publish(ALICE, f"{A}/site")
    assert await world.path(f"/ipns/{TEXT}/docs/") == f"{A}/site/docs/"


async def test_the_quorum_is_passed_on(world: World) -> None:
    world.publish(ALICE, A)
    await world.resolve(quorum=0)
    assert world.routing.searches == [(NAME, 0)]


async def test_a_name_that_nobody_has_a_record_of_is_not_found(world: World) -> None:
    with pytest.raises(NameNotFoundError) as caught:
        await world.resolve()
    assert caught.value.name == NAME
    assert TEXT in str(caught.value)


async def test_where_nobody_can_be_asked_the_error_says_so(world: World) -> None:
    world.routing.peers = 0
    with pytest.raises(NoRoutingPeersError):
        await world.resolve()


async def test_records_that_are_not_valid_are_passed_over(world: World) -> None:
    good = record(ALICE, B, 1)
    flipped = bytearray(record(ALICE, C, 9).raw)
    flipped[-1] ^= 1
    lies: list[IpnsRecord | bytes] = [
        record(BOB, C, 9),
        b"",
        b"garbage",
        bytes(flipped),
        record(ALICE, C, 9, expires=NOW - 1),
    ]
    world.routing.set(NAME, *lies, good)
    assert await world.path() == B
    world.routing.set(BOB.peer_id, record(ALICE, C, 9))
    with pytest.raises(NameNotFoundError, match="only 1 that are not valid") as caught:
        await world.path(BOB.peer_id.to_base36())
    assert caught.value.invalid == 1


async def test_a_router_that_never_stops_talking_nonsense_is_given_up(world: World) -> None:
    world.routing.set(NAME, *[b"garbage"] * 1000, record())
    with pytest.raises(NameNotFoundError, match="only 64 that are not valid"):
        await world.resolve()


async def test_a_silent_network_costs_the_time_out_and_no_more(world: World) -> None:
    world.routing.set(NAME, 10_000.0, record())
    with pytest.raises(SearchTimeoutError):
        await world.resolve(timeout=7)
    assert anyio.current_time() == pytest.approx(7)
    assert world.routing.open_searches == 0


async def test_what_came_before_the_time_was_over_is_the_answer(world: World) -> None:
    world.routing.set(NAME, record(value=A, sequence=1), 3.0, record(value=B, sequence=2), 10_000.0, record(value=C))
    found = await world.resolve(timeout=7)
    assert (found.path, found.warnings) == (B, ())
    assert anyio.current_time() == pytest.approx(7)


@pytest.mark.parametrize("value", ["", "bafkqaaa", "/ipld/bafkqaaa", "/ipfs/nonsense"])
async def test_a_record_that_points_nowhere_is_carried_but_refused(world: World, value: str) -> None:
    made = world.publish(ALICE, value, 4)
    with pytest.raises(DecodeError) as caught:
        await world.resolve()
    assert isinstance(caught.value, UnusableValueError) == (value != "/ipfs/nonsense")
    known = world.table.try_get(NAME)
    assert known is not None
    assert known.best == made


async def test_cancelling_leaves_nothing_behind(world: World) -> None:
    world.routing.set(NAME, 10_000.0)
    with anyio.move_on_after(1) as scope:
        await world.resolve()
    assert scope.cancelled_caught
    assert world.routing.open_searches == 0


# ---- cache ----


async def test_a_fresh_answer_is_not_asked_for_again(world: World) -> None:
    world.publish(ALICE, A, 1, ttl=60)
    await world.resolve()
    world.publish(ALICE, B, 2, ttl=60)
    await anyio.sleep(59)
    found = await world.resolve()
    assert (found.path, found.source) == (A, "cache")
    assert found.ttl == pytest.approx(1.0)
    assert len(world.routing.searches) == 1
    await anyio.sleep(1)
    assert await world.path() == B


async def test_without_a_ttl_everything_is_asked_for_each_time(world: World) -> None:
    world.publish(ALICE, A, 1, ttl=0)
    await world.resolve()
    world.publish(ALICE, B, 2, ttl=0)
    assert await world.path() == B


@pytest.mark.parametrize("option", ["nocache", "newest"])
async def test_who_wants_the_newest_gets_it(world: World, option: str) -> None:
    world.publish(ALICE, A, 1, ttl=3600)
    await world.resolve()
    world.publish(ALICE, B, 2, ttl=3600)
    assert await world.path() == A
    assert await world.path(TEXT, **{option: True}) == B


async def test_when_the_network_is_silent_what_was_seen_is_the_answer_with_a_warning(world: World) -> None:
    world.publish(ALICE, A, 1, ttl=60)
    await world.resolve()
    world.routing.set(NAME, 10_000.0)
    await anyio.sleep(100)
    start = anyio.current_time()
    found = await world.resolve(newest=True)
    assert anyio.current_time() - start == pytest.approx(NEWEST_TIMEOUT)
    assert (found.path, found.source, found.ttl) == (A, "cache", 0.0)
    (warning,) = found.warnings
    assert isinstance(warning, UnconfirmedNameError)
    assert warning.age == pytest.approx(100 + NEWEST_TIMEOUT)
    assert "seen 105 s ago" in str(warning)


async def test_who_has_nothing_to_fall_back_on_waits_for_a_first_answer_but_not_for_a_better_one(world: World) -> None:
    world.routing.set(NAME, 20.0, record(), 10_000.0)
    assert await world.path(newest=True) == A
    assert anyio.current_time() == pytest.approx(20)
    world.routing.set(BOB.peer_id, 1.0, record(BOB), 3.0, record(BOB, B, 1), 10_000.0)
    found = await world.resolve(BOB.peer_id.to_base36(), newest=True)
    assert (found.path, found.warnings) == (B, ())
    assert anyio.current_time() == pytest.approx(20 + NEWEST_TIMEOUT)


@pytest.mark.parametrize("state", ["gone", "offline"])
async def test_a_network_that_has_lost_a_record_does_not_make_us_forget_it(world: World, state: str) -> None:
    world.publish(ALICE, A, 1, ttl=0)
    await world.resolve()
    world.routing.set(NAME)
    world.routing.peers = 0 if state == "offline" else 8
    found = await world.resolve()
    assert found.path == A
    assert [type(warning) for warning in found.warnings] == [UnconfirmedNameError]
    with pytest.raises(NameNotFoundError if state == "gone" else NoRoutingPeersError):
        await world.resolve(nocache=True)


async def test_what_was_seen_counts_only_until_it_expires(world: World) -> None:
    world.publish(ALICE, A, 1, ttl=0, expires=NOW + HOUR)
    await world.resolve()
    await anyio.sleep(HOUR + 2)
    with pytest.raises(NameNotFoundError, match="the one last seen expired at 2027-"):
        await world.resolve()


async def test_a_record_that_rotted_on_the_disk_is_forgotten(world: World, caplog: pytest.LogCaptureFixture) -> None:
    made = record(ALICE, A, 5)
    world.table.observe(BOB.peer_id, made, NOW)  # as if the row were another's
    with pytest.raises(NameNotFoundError):
        await world.resolve(BOB.peer_id.to_base36())
    assert "forgot the damaged record" in caplog.text
    world.publish(BOB, B, 1)
    assert await world.path(BOB.peer_id.to_base36()) == B


# ---- never back ----


async def test_an_older_record_is_passed_over_with_a_warning(world: World) -> None:
    world.publish(ALICE, B, 5, ttl=0)
    await world.resolve()
    world.publish(ALICE, A, 4, ttl=0, expires=NOW + 1000 * HOUR)
    for option in ({}, {"nocache": True}, {"newest": True}):
        found = await world.resolve(TEXT, **option)
        assert (found.path, found.sequence, found.source) == (B, 5, "cache")
        (warning,) = found.warnings
        assert isinstance(warning, StaleRecordError)
        assert (warning.found, warning.known) == (4, 5)


async def test_when_older_records_are_all_there_is_that_is_an_error(world: World) -> None:
    world.publish(ALICE, B, 5, ttl=0, expires=NOW + HOUR)
    await world.resolve()
    world.routing.set(NAME, record(value=A, sequence=2), record(value=A, sequence=4))
    await anyio.sleep(HOUR + 2)
    with pytest.raises(StaleRecordError, match="sequence 4, while 5 was seen before"):
        await world.resolve()
    world.table.forget(NAME)
    assert await world.path() == A


async def test_of_a_fork_the_first_seen_stays_the_answer_and_everybody_is_told(world: World) -> None:
    first = world.publish(ALICE, A, 5, ttl=0)
    await world.resolve()
    second = world.publish(ALICE, B, 5, ttl=0, expires=NOW + 1000 * HOUR)
    for option in ({}, {"nocache": True}, {"newest": True}):
        found = await world.resolve(TEXT, **option)
        assert found.path == A
        (warning,) = found.warnings
        assert isinstance(warning, ForkError)
        assert (warning.kept, warning.other) == (first, second)
    world.publish(ALICE, C, 6, ttl=0)
    found = await world.resolve()
    assert (found.path, found.warnings) == (C, ())


async def test_a_fork_within_one_search_is_told_too(world: World) -> None:
    world.routing.set(NAME, record(value=A, sequence=5), record(value=B, sequence=5, expires=NOW + 99 * HOUR))
    found = await world.resolve()
    assert found.path == A
    assert [type(warning) for warning in found.warnings] == [ForkError]


# ---- ours ----


async def test_our_own_name_resolves_at_once_without_the_network(world: World) -> None:
    world.table.set_own(NAME, OwnName(record(value=A, sequence=3, expires=NOW - HOUR), 48 * HOUR))
    world.routing.peers = 0
    found = await world.resolve()
    assert (found.path, found.source, found.state, found.warnings) == (A, "local", (3, A), ())
    assert anyio.current_time() == 0
    assert world.routing.searches == []


async def test_who_wants_the_newest_of_our_own_name_asks_and_is_told_if_nobody_answers(world: World) -> None:
    world.table.set_own(NAME, OwnName(record(value=A, sequence=3), 48 * HOUR))
    world.routing.set(NAME, record(value=A, sequence=2))
    found = await world.resolve(newest=True)
    assert (found.path, found.source, found.warnings) == (A, "local", ()), "others are merely behind"
    world.routing.set(NAME, 100.0)
    for option in ({"newest": True}, {"nocache": True}):
        found = await world.resolve(TEXT, **option)
        assert (found.path, found.source) == (A, "local"), "what we signed is no cache"
        assert [type(warning) for warning in found.warnings] == [UnconfirmedNameError]
    world.routing.set(NAME, record(value=B, sequence=4))
    found = await world.resolve(newest=True)
    assert (found.path, found.source, found.state) == (B, "network", (4, B))
    assert await world.path() == B, "another home has the key, and is ahead of us"


async def test_keys_of_ours_are_names_where_the_caller_wrote_them_and_only_there() -> None:
    world = world_of({"office": NAME, "my.site": NAME})
    world.publish(ALICE, A)
    assert await world.path("office") == await world.path("/ipns/office") == await world.path("my.site") == A
    assert await world.path("/ipns/office/x") == f"{A}/x"
    world.publish(BOB, "/ipns/office")
    with pytest.raises(NameSyntaxError):
        await world.path(BOB.peer_id.to_base36())
    world.publish(CAROL, "/ipns/my.site")
    with pytest.raises(NoDnsLinkError):
        await world.path(CAROL.peer_id.to_base36())


@pytest.mark.parametrize("text", ["work", "", "a b", "/ipns/", "/ipns/work", "/ipld/x", "\udcff"])
async def test_what_is_no_name_is_refused_before_anybody_is_asked(world: World, text: str) -> None:
    with pytest.raises(DecodeError):
        await world.resolve(text)
    assert world.routing.searches == []
    assert world.dns.asked == []


async def test_a_path_without_a_name_has_nothing_to_resolve(world: World) -> None:
    with pytest.raises(UsageError):
        await world.resolve(A)


# ---- names that lead to names ----


async def test_a_name_is_followed_to_what_is_no_name(world: World) -> None:
    world.publish(ALICE, f"/ipns/{BOB.peer_id}/b", ttl=100)
    world.publish(BOB, "/ipns/example.com/d/", ttl=200)
    world.dns.link("example.com", f"{A}/e")
    found = await world.resolve(f"{TEXT}/x")
    assert found.path == f"{A}/e/d/b/x"
    assert (found.name, found.ttl, found.sequence) == (TEXT, 60.0, 0)
    assert await world.path(f"{TEXT}/x", recursive=False) == f"/ipns/{BOB.peer_id}/b/x"


async def test_warnings_of_every_step_are_told(world: World) -> None:
    world.publish(ALICE, f"/ipns/{BOB.peer_id}", ttl=0)
    world.publish(BOB, A, 5, ttl=0)
    await world.resolve()
    world.publish(BOB, B, 4, ttl=0)
    found = await world.resolve()
    assert (found.path, [type(warning) for warning in found.warnings]) == (A, [StaleRecordError])


async def test_a_name_that_leads_back_to_itself_is_an_error(world: World) -> None:
    world.publish(ALICE, f"/ipns/{BOB.peer_id}")
    world.publish(BOB, "/ipns/example.com")
    world.dns.link("example.com", f"/ipns/{TEXT}")
    for name in (TEXT, "example.com", BOB.peer_id.to_base36()):
        with pytest.raises(NameLoopError):
            await world.resolve(name)
    world.publish(CAROL, f"/ipns/{CAROL.peer_id}/again")
    with pytest.raises(NameLoopError):
        await world.resolve(CAROL.peer_id.to_base36())


async def test_a_long_way_ends_somewhere(world: World) -> None:
    keys = [ed25519_key(number) for number in range(1, MAX_DEPTH + 2)]
    for key, following in pairwise(keys):
        world.publish(key, f"/ipns/{following.peer_id}")
    world.publish(keys[-1], A)
    assert await world.path(keys[1].peer_id.to_base36()) == A
    with pytest.raises(NameDepthError):
        await world.path(keys[0].peer_id.to_base36())


async def test_a_path_does_not_grow_without_bound(world: World) -> None:
    world.publish(ALICE, f"/ipns/{BOB.peer_id}" + "/x" * 2000)
    world.publish(BOB, A + "/y" * 2200)
    with pytest.raises(LimitError):
        await world.resolve()


async def test_all_steps_share_the_time(world: World) -> None:
    world.routing.set(NAME, 4.0, record(value=f"/ipns/{BOB.peer_id}"))
    world.routing.set(BOB.peer_id, 4.0, record(BOB))
    with pytest.raises(SearchTimeoutError):
        await world.resolve(timeout=7)
    assert anyio.current_time() == pytest.approx(7)


# ---- domains ----


async def test_a_domain_is_a_name(world: World) -> None:
    world.dns.link("example.com", A)
    found = await world.resolve("/ipns/Example.com/x")
    assert (found.path, found.name, found.source, found.ttl) == (f"{A}/x", "example.com", "dns", 60.0)
    assert (found.record, found.state, found.sequence) == (None, None, None)
    assert await world.path("example-com") == A


async def test_a_domain_without_a_link_is_not_found(world: World) -> None:
    with pytest.raises(NoDnsLinkError):
        await world.resolve("example.com")


async def test_when_dns_is_silent_what_it_said_counts_as_long_as_it_said(world: World) -> None:
    world.dns.link("example.com", A)
    await world.resolve("example.com")
    world.dns.silent.add("_dnslink.example.com")
    found = await world.resolve("example.com", newest=True)
    assert found.path == A
    assert [type(warning) for warning in found.warnings] == [UnconfirmedNameError]
    with pytest.raises(DnsError):
        await world.resolve("example.com", nocache=True)
    await anyio.sleep(61)
    with pytest.raises(DnsError):
        await world.resolve("example.com", newest=True)


async def test_slow_dns_costs_the_time_out_and_no_more(world: World) -> None:
    world.dns.delay = 100.0
    with pytest.raises(IpvcsError, match="no answer in time"):
        await world.resolve("example.com", timeout=3)
    assert anyio.current_time() == pytest.approx(3)


# ---- streaming ----


async def test_each_better_answer_is_streamed_as_it_comes(world: World) -> None:
    world.routing.set(NAME, record(value=A, sequence=1), 5.0, record(value=B, sequence=2), 5.0)
    async with world.resolver.search(TEXT) as found:
        times = [(anyio.current_time(), each.path) async for each in found]
    assert times == [(0.0, A), (5.0, B)]
    assert anyio.current_time() == 10.0


async def test_the_same_answer_again_is_not_streamed(world: World) -> None:
    world.routing.set(NAME, record(value=A), record(value=A, expires=NOW + 99 * HOUR), record(value=B, sequence=1))
    assert [each.path for each in await world.stream()] == [A, B]


async def test_a_stream_may_be_left_early(world: World) -> None:
    world.routing.set(NAME, record(value=A, sequence=1), 10_000.0)
    async with world.resolver.search(TEXT) as found:
        assert (await anext(found)).path == A
    assert world.routing.open_searches == 0
    assert anyio.current_time() == 0
    async with world.resolver.search(TEXT) as _found:
        pass  # from the cache, and not even begun


async def test_what_is_known_without_asking_is_streamed_too(world: World) -> None:
    world.publish(ALICE, A)
    assert [each.source for each in await world.stream()] == ["network"]
    assert [each.source for each in await world.stream()] == ["cache"]
    world.dns.link("example.com", A)
    assert [each.source for each in await world.stream("example.com")] == ["dns"]


async def test_errors_of_a_stream_and_of_its_reader_come_as_they_are(world: World) -> None:
    with pytest.raises(NameNotFoundError):
        await world.stream()
    world.publish(ALICE, A, ttl=0)

    async def give_up() -> None:
        async with world.resolver.search(TEXT) as found:
            async for _each in found:
                raise KeyError

    with pytest.raises(KeyError):
        await give_up()


async def test_a_step_that_leads_nowhere_does_not_end_a_stream_that_gets_better(world: World) -> None:
    world.routing.set(
        NAME, record(value=f"/ipns/{BOB.peer_id}"), record(value="nonsense", sequence=1), record(value=B, sequence=2)
    )
    assert [each.path for each in await world.stream()] == [B]
    world.routing.set(CAROL.peer_id, record(CAROL, f"/ipns/{BOB.peer_id}"))
    with pytest.raises(NameNotFoundError):
        await world.stream(CAROL.peer_id.to_base36())
