"""Publishing: durable first, then out, and what becomes of it when either fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from ipvcs.errors import DecodeError, UnavailableError, UsageError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import KeyType, PrivateKey
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.name_table import KnownName, NameTable, OwnName
from ipvcs.node.naming.publisher import FIRST_LOOK, LIFETIME, TIMEOUT, NotAnnouncedError, Publisher
from ipvcs.node.naming.record import IpnsRecord, RecordTooLargeError
from ipvcs.node.naming.record_search import RecordSearch
from ipvcs.node.naming.sending import SETTLE
from ipvcs.node.naming.succession import UNPUBLISHED, NameChangedError, SequenceError
from ipvcs.node.naming.validity import NS
from ipvcs.node.routing.interface import InvalidValueError, NoRoutingPeersError, ValueNotTakenError, ValueWatch
from ipvcs.storage.datastore import Datastore
from ipvcs.storage.disk import DiskError
from tests.unit.node.identity.key_pool import KEYS
from tests.unit.node.naming.fake_routing import FakeRouting, wall
from tests.unit.node.naming.records import ALICE, BOB, CAROL, HOUR, NOW, A, B, C, record

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("threads")]
NAME = ALICE.peer_id


@dataclass
class Desk:
    """One node's publisher, and what it has to do with."""

    store: NameStore
    routing: FakeRouting = field(default_factory=FakeRouting)
    table: NameTable = field(default_factory=NameTable)
    attempts: list[tuple[PeerId, int, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        search = RecordSearch(self.routing, self.table, wall)
        self.publisher = Publisher(self.table, self.store, self.routing, search, wall, on_published=self._note)
        self.publish = self.publisher.publish
        self.republish = self.publisher.republish

    def _note(self, name: PeerId, own: OwnName, announced: bool) -> None:
        self.attempts.append((name, own.record.sequence, announced))

    def on_disk(self, name: PeerId = NAME) -> OwnName | None:
        known = dict(self.store.load()).get(name)
        return None if known is None else known.own

    def own(self, name: PeerId = NAME) -> OwnName:
        known = self.table.try_get(name)
        assert known is not None
        assert known.own is not None
        return known.own


@pytest.fixture
def desk(datastore: Datastore) -> Desk:
    return Desk(NameStore(datastore))


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> list[IpnsRecord]:
    """What all peers have from now on, if anything: they take nothing that is worse, and do not say why."""
    there: list[IpnsRecord] = []
    set_value = FakeRouting.set_value

    async def refuse(self: FakeRouting, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        if there:
            self.set(NAME, there[0])
        try:
            return await set_value(self, key, value, watch=watch)
        except InvalidValueError:
            raise ValueNotTakenError(key, 3) from None

    monkeypatch.setattr(FakeRouting, "set_value", refuse)
    return there


async def test_a_name_is_published(desk: Desk) -> None:
    done = await desk.publish(ALICE, A)
    assert (done.name, done.path, done.sequence, done.accepted) == (NAME, A, 0, 8)
    ((_when, sent),) = desk.routing.stored
    assert sent == done.record
    assert sent.expires_ns == int((NOW + LIFETIME) * NS)
    assert sent.ttl_ns == 300 * NS
    own = desk.on_disk()
    assert own == OwnName(sent, LIFETIME, NOW)
    assert desk.own() == own
    assert desk.attempts == [(NAME, 0, True)]


@pytest.mark.parametrize(
    ("value", "path"),
    [("bafkqaaa", A), (f"{A}/x/", f"{A}/x/"), ("bafkqaaa/x", f"{A}/x"), ("/ipns/example.com", "/ipns/example.com")],
)
async def test_a_value_is_a_path_or_a_cid(desk: Desk, value: str, path: str) -> None:
    assert (await desk.publish(ALICE, value)).record.value == path.encode()


@pytest.mark.parametrize("value", ["", "nonsense", "/ipfs/nonsense", "/ipld/bafkqaaa", "/ipns/"])
async def test_what_is_no_path_is_refused_and_changes_nothing(desk: Desk, value: str) -> None:
    with pytest.raises(DecodeError):
        await desk.publish(ALICE, value)
    assert desk.on_disk() is None
    assert desk.routing.searches == []


async def test_lifetimes_and_lengths_have_bounds(desk: Desk) -> None:
    with pytest.raises(UsageError):
        await desk.publish(ALICE, A, lifetime=0)
    with pytest.raises(RecordTooLargeError):
        await desk.publish(ALICE, f"{A}/" + "x" * 9000)
    assert desk.on_disk() is None
    assert desk.routing.stored == []


async def test_the_number_goes_up_with_the_value_and_stays_for_the_same(desk: Desk) -> None:
    numbers = []
    for value in (A, B, B, A):
        await anyio.sleep(1)
        numbers.append((await desk.publish(ALICE, value)).sequence)
    assert numbers == [0, 1, 1, 2]
    sent = [each for _when, each in desk.routing.stored]
    assert sent[2].expires_ns > sent[1].expires_ns


async def test_an_rsa_key_publishes_too(desk: Desk) -> None:
    done = await desk.publish(KEYS[KeyType.RSA], A)
    assert done.record.public_key == KEYS[KeyType.RSA].public_key.encode()


# ---- durable first ----


async def test_the_record_is_on_the_disk_before_the_network_sees_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[OwnName | None] = []

    async def set_value(self: FakeRouting, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        seen.append(desk.on_disk())
        assert IpnsRecord.decode(value).path == A
        return 1

    monkeypatch.setattr(FakeRouting, "set_value", set_value)
    done = await desk.publish(ALICE, A)
    assert seen == [OwnName(done.record, LIFETIME, None)]


async def test_what_cannot_be_stored_is_not_published(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: NameStore, name: PeerId, change: object) -> KnownName:
        raise DiskError("no space left", Path("/x"))

    monkeypatch.setattr(NameStore, "change_own", full)
    with pytest.raises(DiskError):
        await desk.publish(ALICE, A)
    assert desk.routing.stored == []
    assert desk.table.try_get(NAME) is None


@pytest.mark.parametrize("trouble", ["nobody", "refused", "silent"])
async def test_a_record_that_no_peer_took_is_an_error_unless_offline_is_allowed(desk: Desk, trouble: str) -> None:
    if trouble == "nobody":
        desk.routing.peers = 0
    elif trouble == "refused":
        desk.routing.error = UnavailableError("nobody took it")
    else:
        desk.routing.delay = 10_000
    with pytest.raises(NotAnnouncedError, match="here only") as caught:
        await desk.publish(ALICE, A)
    assert caught.value.hint
    assert anyio.current_time() == pytest.approx(TIMEOUT if trouble == "silent" else 0)
    own = desk.on_disk()
    assert own is not None
    assert (own.record.path, own.announced) == (A, None)
    assert desk.attempts == [(NAME, 0, False)]

    done = await desk.publish(ALICE, B, allow_offline=True)
    assert (done.sequence, done.accepted) == (1, 0)


async def test_cancelled_while_it_is_sent_the_record_stays(desk: Desk) -> None:
    desk.routing.delay = 100
    with anyio.move_on_after(1) as scope:
        await desk.publish(ALICE, A)
    assert scope.cancelled_caught
    assert desk.on_disk() == desk.own()
    assert desk.attempts == [(NAME, 0, False)]
    desk.routing.delay = 0
    assert (await desk.publish(ALICE, B)).sequence == 1


# ---- others with the same key ----


async def test_a_name_that_we_never_published_goes_on_from_what_the_network_has(desk: Desk) -> None:
    desk.routing.set(NAME, record(value=B, sequence=41))
    assert (await desk.publish(ALICE, A)).sequence == 42
    searches = len(desk.routing.searches)
    await desk.publish(ALICE, B)
    assert len(desk.routing.searches) == searches, "once published, we know"


async def test_a_silent_network_keeps_nobody_from_a_first_publish_for_long(desk: Desk) -> None:
    desk.routing.set(NAME, 10_000.0)
    await desk.publish(ALICE, A)
    assert anyio.current_time() == pytest.approx(FIRST_LOOK)


async def test_when_another_home_is_ahead_we_publish_on_top_of_it(desk: Desk) -> None:
    await desk.publish(ALICE, A)
    desk.routing.set(NAME, record(value=C, sequence=7))
    done = await desk.publish(ALICE, B)
    assert (done.sequence, done.accepted) == (8, 8)
    assert desk.on_disk() == desk.own()


async def test_when_another_home_published_beside_us_the_next_number_settles_it(desk: Desk) -> None:
    await desk.publish(ALICE, A)
    rival = record(value=C, sequence=1, expires=NOW + 9999 * HOUR)
    desk.routing.set(NAME, rival)
    with pytest.raises(NameChangedError) as caught:
        await desk.publish(ALICE, B, expect=(0, A))
    assert (caught.value.expected, caught.value.found) == ((1, B), (1, C))
    done = await desk.publish(ALICE, B)
    assert (done.sequence, done.accepted) == (2, 8)

    desk.routing.set(NAME, record(value=C, sequence=3, expires=NOW + 9999 * HOUR))
    assert (await desk.publish(ALICE, A)).sequence == 4, "at once, where nothing was expected"


async def test_when_no_peer_takes_a_record_another_home_may_be_ahead(desk: Desk, refusing: list[IpnsRecord]) -> None:
    await desk.publish(ALICE, A)
    refusing.append(record(value=C, sequence=7))
    with pytest.raises(NameChangedError) as caught:
        await desk.publish(ALICE, B, expect=(0, A))
    assert caught.value.found == (7, C)
    assert (await desk.publish(ALICE, B)).sequence == 8
    refusing[0] = record(value=C, sequence=11)
    assert (await desk.publish(ALICE, C, allow_offline=True)).sequence == 12
    refusing[0] = record(value=A, sequence=20)
    with pytest.raises(NotAnnouncedError, match="none of 3 peers"):
        await desk.republish(NAME, ALICE)
    with pytest.raises(NotAnnouncedError, match="somebody else"):
        await desk.republish(NAME, ALICE)


async def test_when_no_peer_takes_a_record_and_nobody_is_ahead_it_is_published_here_only(
    desk: Desk, refusing: list[IpnsRecord]
) -> None:
    desk.routing.error = ValueNotTakenError(b"key", 3)
    with pytest.raises(NotAnnouncedError, match="none of 3 peers"):
        await desk.publish(ALICE, A)
    done = await desk.publish(ALICE, B, allow_offline=True)
    assert (done.sequence, done.accepted) == (1, 0)
    assert desk.own().record == done.record


async def test_a_record_that_lost_is_taken_back_and_never_sent_later(desk: Desk) -> None:
    """Renewed, it would have the later end, and win over the one that was there before it."""
    await desk.publish(ALICE, A)
    before = desk.on_disk()
    rival = record(value=C, sequence=1, expires=NOW + 9999 * HOUR)
    desk.routing.set(NAME, rival)
    with pytest.raises(NameChangedError):
        await desk.publish(ALICE, B, expect=(0, A))
    assert desk.on_disk() == before
    known = desk.table.try_get(NAME)
    assert known is not None
    assert (known.best, known.own, known.fork) == (rival, before, None)
    with pytest.raises(NotAnnouncedError, match="somebody else"):
        await desk.republish(NAME, ALICE)
    assert len(desk.routing.stored) == 1


async def test_a_first_record_that_lost_leaves_no_name_of_ours(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    rival = record(value=C, sequence=0, expires=NOW + 9999 * HOUR)

    async def appear(self: FakeRouting, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        self.set(NAME, rival)
        raise InvalidValueError("a better one is known")

    monkeypatch.setattr(FakeRouting, "set_value", appear)
    with pytest.raises(NameChangedError) as caught:
        await desk.publish(ALICE, B, expect=UNPUBLISHED)
    assert caught.value.found == (0, C)
    assert desk.on_disk() is None
    assert desk.table.try_get(NAME) == KnownName(rival, NOW)


async def test_who_said_what_to_expect_is_told_that_another_home_is_ahead(desk: Desk) -> None:
    await desk.publish(ALICE, A)
    desk.routing.set(NAME, record(value=C, sequence=7))
    with pytest.raises(NameChangedError) as caught:
        await desk.publish(ALICE, B, expect=(0, A))
    assert caught.value.found == (7, C)
    with pytest.raises(NameChangedError):
        await desk.publish(ALICE, B, expect=(1, B))
    assert (await desk.publish(ALICE, B, expect=(7, C))).sequence == 8


async def test_compare_and_swap_lets_one_of_many_through(desk: Desk) -> None:
    await desk.publish(ALICE, A, expect=UNPUBLISHED)
    won: list[str] = []
    lost: list[NameChangedError] = []

    async def swap(value: str) -> None:
        try:
            await desk.publish(ALICE, value, expect=(0, A))
            won.append(value)
        except NameChangedError as exc:
            lost.append(exc)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(swap, f"{A}/{number}")
    assert len(won) == 1
    assert len(lost) == 4
    assert desk.own().record.path == won[0]


async def test_another_process_that_published_meanwhile_is_noticed(desk: Desk) -> None:
    await desk.publish(ALICE, A)
    other = Desk(desk.store, desk.routing)
    for name, known in desk.store.load():
        other.table.restore(name, known)
    await other.publish(ALICE, B)
    with pytest.raises(NameChangedError):
        await desk.publish(ALICE, C, expect=(0, A))
    assert (await desk.publish(ALICE, C)).sequence == 2


async def test_a_number_that_is_taken_is_refused_and_changes_nothing(desk: Desk) -> None:
    await desk.publish(ALICE, A, sequence=5)
    before = desk.on_disk()
    with pytest.raises(SequenceError):
        await desk.publish(ALICE, B, sequence=5)
    assert desk.on_disk() == before
    assert (await desk.publish(ALICE, B, sequence=9)).sequence == 9


async def test_a_router_that_refuses_a_good_record_is_not_asked_for_ever(desk: Desk) -> None:
    desk.routing.error = InvalidValueError("no such namespace")
    with pytest.raises(InvalidValueError):
        await desk.publish(ALICE, A)
    assert desk.attempts == [(NAME, 0, False)]


async def test_several_publish_under_one_name_at_once_in_turn_and_under_others_beside_it(desk: Desk) -> None:
    desk.routing.delay = 10
    async with anyio.create_task_group() as tasks:
        for value in (A, B, C):
            tasks.start_soon(desk.publish, ALICE, value)
        tasks.start_soon(desk.publish, BOB, A)
    assert [when for when, _record in desk.routing.stored] == [10, 10, 20, 30]
    assert desk.own().record.sequence == 2


# ---- the first peer will do ----


@asynccontextmanager
async def patient(desk: Desk) -> AsyncIterator[Desk]:
    """Let sending go on in the background within the block, and wait for it."""
    async with anyio.create_task_group() as tasks:
        desk.publisher.background = tasks
        yield desk


async def test_it_returns_when_the_first_peer_took_it_and_goes_on_sending(desk: Desk) -> None:
    desk.routing.first, desk.routing.delay = 2, 30
    async with patient(desk):
        done = await desk.publish(ALICE, A, patience=10)
        assert anyio.current_time() == pytest.approx(2 + SETTLE)
        assert (done.accepted, done.takers, done.trouble) == (1, (CAROL.peer_id,), "")
        assert desk.routing.stored == []
        assert desk.attempts == []
    assert [each for _when, each in desk.routing.stored] == [done.record]
    assert desk.attempts == [(NAME, 0, True)]
    assert desk.own().announced == NOW + 32


async def test_when_all_have_answered_it_does_not_wait(desk: Desk) -> None:
    async with patient(desk):
        await desk.publish(ALICE, A, patience=10)
        assert anyio.current_time() == pytest.approx(0, abs=0.1)


async def test_after_its_patience_it_returns_and_goes_on_trying(desk: Desk) -> None:
    desk.routing.delay = 30
    async with patient(desk):
        done = await desk.publish(ALICE, A, patience=10)
        assert anyio.current_time() == pytest.approx(10)
        assert (done.accepted, done.trouble) == (0, "no peer took it within 10 s")
    assert [each for _when, each in desk.routing.stored] == [done.record]


@pytest.mark.parametrize(
    ("error", "trouble"),
    [(NoRoutingPeersError(), "no peer to ask: the routing table is empty"), (ValueNotTakenError(b"key", 3), "none of")],
)
async def test_with_nobody_to_take_it_that_is_said_at_once(desk: Desk, error: UnavailableError, trouble: str) -> None:
    desk.routing.error = error
    async with patient(desk):
        done = await desk.publish(ALICE, A, patience=10)
        assert anyio.current_time() == pytest.approx(0, abs=0.1)
    assert done.trouble.startswith(trouble)
    assert desk.attempts == [(NAME, 0, False)]
    assert desk.on_disk() == desk.own(), "published all the same"


async def test_the_next_record_ends_the_sending_of_the_one_before(desk: Desk) -> None:
    desk.routing.first, desk.routing.delay = 0, 30
    async with patient(desk):
        await desk.publish(ALICE, A, patience=10)
        second = await desk.publish(ALICE, B, patience=10)
        await anyio.sleep(5)
        await desk.republish(NAME, ALICE)
    assert [(each.sequence, each.path) for _when, each in desk.routing.stored] == [(1, B)]
    assert desk.routing.stored[0][1].expires_ns > second.record.expires_ns


async def test_a_rival_that_is_there_first_is_built_upon_and_not_replaced(desk: Desk) -> None:
    """It would lose against ours, which ends later; so it is up to us to notice."""
    await desk.publish(ALICE, A)
    rival = record(value=C, sequence=1, expires=NOW + HOUR)
    desk.routing.rivals, desk.routing.takes_anyway = [rival], False
    async with patient(desk):
        with pytest.raises(NameChangedError) as caught:
            await desk.publish(ALICE, B, expect=(0, A), patience=10)
        assert (caught.value.expected, caught.value.found) == ((1, B), (1, C))
        desk.routing.rivals = []
        assert (await desk.publish(ALICE, B, expect=(1, C), patience=10)).sequence == 2
    assert [each.path for _when, each in desk.routing.stored] == [A, B]


async def test_a_rival_that_only_some_peers_have_is_told_of(desk: Desk) -> None:
    await desk.publish(ALICE, A)
    behind, ahead = (record(value=C, sequence=1, expires=NOW + hours * HOUR) for hours in (1, 9999))
    async with patient(desk):
        desk.routing.rivals = [behind]
        done = await desk.publish(ALICE, B, expect=(0, A), patience=10)
        assert done.rival == behind
        known = desk.table.try_get(NAME)
        assert known is not None
        assert known.best == done.record
        desk.routing.rivals = [record(value=C, sequence=2, expires=NOW + 9999 * HOUR), ahead]
        done = await desk.publish(ALICE, A, expect=(1, B), patience=10)
    assert done.rival == desk.routing.rivals[0]
    known = desk.table.try_get(NAME)
    assert known is not None
    assert known.best == done.rival, "which is what others see, and what comes next builds on"
    with pytest.raises(NotAnnouncedError, match="somebody else"):
        await desk.republish(NAME, ALICE)


# ---- republishing ----


async def test_of_two_homes_that_published_offline_one_alone_goes_on(desk: Desk) -> None:
    """Both would renew their records in turn, and each time the name would lead elsewhere."""
    desk.routing.peers = 0
    ours = (await desk.publish(ALICE, A, allow_offline=True)).record
    theirs = record(value=B, expires=NOW + 72 * HOUR)
    desk.routing.peers = 8
    desk.routing.set(NAME, theirs)
    with pytest.raises(NotAnnouncedError, match="somebody else"):
        await desk.republish(NAME, ALICE)
    assert desk.own().record == ours, "nor renewed"
    assert desk.routing.stored == []
    assert (await desk.publish(ALICE, C, expect=(0, B))).sequence == 1


async def republished(desk: Desk, key: PrivateKey | None) -> IpnsRecord:
    await desk.republish(NAME, key)
    return desk.routing.stored[-1][1]


async def test_a_renewed_record_says_the_same_for_longer(desk: Desk) -> None:
    first = (await desk.publish(ALICE, A, lifetime=10 * HOUR, ttl=7)).record
    await anyio.sleep(4 * HOUR)
    again = await republished(desk, ALICE)
    assert (again.value, again.sequence, again.ttl_ns) == (first.value, first.sequence, first.ttl_ns)
    assert again.expires_ns - first.expires_ns == 4 * HOUR * NS
    assert desk.on_disk() == desk.own() == OwnName(again, 10 * HOUR, NOW + 4 * HOUR)


async def test_without_its_key_a_record_is_sent_unchanged_until_it_expires(desk: Desk) -> None:
    first = (await desk.publish(ALICE, A, lifetime=10 * HOUR)).record
    await anyio.sleep(4 * HOUR)
    assert await republished(desk, None) == first
    await anyio.sleep(6 * HOUR + 2)
    with pytest.raises(NotAnnouncedError, match="its record has expired, and its key can't be read"):
        await desk.republish(NAME, None)
    assert (await republished(desk, ALICE)).is_valid_at(wall())


async def test_when_another_home_is_ahead_nothing_of_ours_is_sent(desk: Desk) -> None:
    await desk.publish(ALICE, A)
    desk.routing.set(NAME, record(value=B, sequence=3))
    with pytest.raises(NotAnnouncedError):
        await desk.republish(NAME, ALICE)
    sent = len(desk.routing.stored)
    with pytest.raises(NotAnnouncedError, match="somebody else published a newer record"):
        await desk.republish(NAME, ALICE)
    assert len(desk.routing.stored) == sent
    before = desk.own()
    await anyio.sleep(HOUR)
    with pytest.raises(NotAnnouncedError):
        await desk.republish(NAME, ALICE)
    assert desk.own() == desk.on_disk() == before, "nor renewed"


async def test_what_another_process_published_is_what_is_sent(desk: Desk) -> None:
    await desk.publish(ALICE, A)
    other = Desk(desk.store, FakeRouting(peers=0))
    await other.publish(ALICE, B, allow_offline=True, sequence=1)
    await anyio.sleep(1)
    assert (await republished(desk, ALICE)).path == B


async def test_a_failed_republish_says_why_and_can_be_tried_again(desk: Desk) -> None:
    await desk.publish(ALICE, A)
    desk.routing.peers = 0
    with pytest.raises(NotAnnouncedError, match="no peer to ask"):
        await desk.republish(NAME, ALICE)
    desk.routing.peers = 3
    assert await desk.republish(NAME, ALICE) == 3
