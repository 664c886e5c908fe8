"""Several routers as one."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.errors import IpvcsError, UnavailableError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing import composed
from ipvcs.node.routing.composed import TELL_TIMEOUT, ComposedRouting, RoutersFailedError, RouterTimeoutError
from ipvcs.node.routing.interface import (
    InvalidValueError,
    NoRoutingPeersError,
    PeerNotFoundError,
    Routing,
    ValueNotFoundError,
    ValueNotTakenError,
    get_value,
)
from ipvcs.node.routing.static import StaticRouting
from tests.contracts.routing import CIDS, KEY, VALIDATOR, RoutingContract, RoutingWorld, providers, values_under
from tests.unit.node.routing.scripted_router import ScriptedRouter, SharedTables

pytestmark = pytest.mark.anyio

A, B = (Multiaddr.parse(f"/ip4/10.0.0.{number}/tcp/4001") for number in (1, 2))
ALICE, BOB, CAROL = (
    PeerInfo(PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([number]) * 32), (B,)) for number in (1, 2, 3)
)
BROKEN = UnavailableError("every peer is gone")


class TestComposedRouting(RoutingContract):
    """Two networks, in which the other node is on the second one alone, and a router that knows nobody."""

    @asynccontextmanager
    async def open(
        self, *, provided: Sequence[Cid] = (), values: Mapping[bytes, bytes] | None = None
    ) -> AsyncGenerator[RoutingWorld]:
        lan, wan = SharedTables(), SharedTables({BOB.peer_id: BOB})
        for cid in provided:
            wan.providers[cid.multihash] = {BOB.peer_id: BOB}
        for key, value in (values or {}).items():
            wan.values[key] = [value]
        routers: dict[str, Routing] = {
            "lan": ScriptedRouter(ALICE, lan, delay=0.1),
            "wan": ScriptedRouter(ALICE, wan, delay=0.2),
            "static": StaticRouting(),
        }
        elsewhere = ComposedRouting({"wan": ScriptedRouter(BOB, wan)}, VALIDATOR)
        yield RoutingWorld(ComposedRouting(routers, VALIDATOR), ALICE.peer_id, BOB, elsewhere)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def knows(*peers: PeerInfo, delay: float = 0.0, error: IpvcsError | None = None) -> ScriptedRouter:
    """Return a router that knows where `peers` are, and that they have the first CID."""
    found = {peer.peer_id: peer for peer in peers}
    return ScriptedRouter(ALICE, SharedTables(found, {CIDS[0].multihash: found}), delay, error)


def holds(*values: bytes, delay: float = 0.0, error: IpvcsError | None = None) -> ScriptedRouter:
    return ScriptedRouter(ALICE, SharedTables(values={KEY: list(values)}), delay, error)


def compose(*routers: ScriptedRouter) -> ComposedRouting:
    return ComposedRouting({f"r{number}": router for number, router in enumerate(routers)}, VALIDATOR)


async def test_the_first_router_that_knows_a_peer_wins_and_the_others_are_stopped() -> None:
    slow = knows(PeerInfo(BOB.peer_id, (A,)), delay=60)
    start = anyio.current_time()
    assert await compose(slow, knows(BOB, delay=1)).find_peer(BOB.peer_id) == BOB
    assert anyio.current_time() - start == pytest.approx(1)
    assert slow.log == ["begin find_peer", "cancelled find_peer"]


async def test_a_router_that_fails_hides_no_answer_of_another() -> None:
    router = compose(knows(error=BROKEN), knows(BOB, delay=5), knows(error=NoRoutingPeersError()))
    assert await router.find_peer(BOB.peer_id) == BOB
    assert await providers(router, CIDS[0]) == [BOB]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([None, NoRoutingPeersError()], PeerNotFoundError),
        ([BROKEN, None], PeerNotFoundError),
        ([NoRoutingPeersError(), NoRoutingPeersError()], NoRoutingPeersError),
        ([NoRoutingPeersError(), BROKEN], UnavailableError),
        ([BROKEN, UnavailableError("and these, too")], RoutersFailedError),
    ],
)
async def test_the_most_telling_error_is_raised_when_nobody_knows(
    errors: list[IpvcsError | None], expected: type[IpvcsError]
) -> None:
    router = compose(*(knows(CAROL, error=error) for error in errors))
    with pytest.raises(expected) as caught:
        await router.find_peer(BOB.peer_id)
    assert type(caught.value) is expected
    if isinstance(caught.value, RoutersFailedError):
        assert str(caught.value) == "r0: every peer is gone; r1: and these, too"
        assert list(caught.value.errors) == ["r0", "r1"]


async def test_providers_of_all_routers_come_as_they_are_found_each_once() -> None:
    start = anyio.current_time()
    router = compose(knows(CAROL, ALICE, delay=2), knows(BOB, CAROL, delay=1.5))
    async with router.find_providers(CIDS[0]) as peers:
        found = {peer: anyio.current_time() - start async for peer in peers}
    assert list(found) == [BOB, CAROL, ALICE]
    assert list(found.values()) == pytest.approx([1.5, 2, 4])


async def test_a_search_that_is_left_is_ended_in_every_router() -> None:
    fast, slow = knows(BOB, CAROL, delay=1), knows(CAROL, delay=60)
    start = anyio.current_time()
    async with compose(fast, slow).find_providers(CIDS[0]) as peers:
        async for peer in peers:
            assert peer == BOB
            break
    assert anyio.current_time() - start == pytest.approx(1)
    assert slow.log == ["begin search", "cancelled search"]


async def test_a_search_has_an_end_however_many_providers_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composed, "MAX_PROVIDERS", 3)
    many = [PeerInfo(PeerId.from_public_key(bytes([number + 1]))) for number in range(10)]
    assert len(await providers(compose(knows(*many), knows(BOB)), CIDS[0])) == 3


async def test_no_router_runs_ahead_of_its_reader() -> None:
    many = [PeerInfo(PeerId.from_public_key(bytes([number + 1]))) for number in range(50)]
    router = knows(*many)
    async with compose(router).find_providers(CIDS[0]) as peers:
        async for _peer in peers:
            await anyio.sleep(100)
            break
    assert router.log.count("end search") <= 3


async def test_values_of_all_routers_come_each_better_than_those_before() -> None:
    router = compose(holds(b"3", b"5", b"9", delay=1), holds(b"4", b"8", delay=1.25))
    assert await values_under(router, KEY) == [b"3", b"4", b"5", b"8", b"9"]
    router = compose(holds(b"9", delay=1), holds(b"8", b"9", b"10", delay=2))
    assert await values_under(router, KEY) == [b"9", b"10"]
    assert await get_value(router, KEY) == b"10"


async def test_each_router_has_the_quorum_to_itself() -> None:
    first, second = holds(b"1"), holds(b"2")
    async with compose(first, second).search_value(KEY, quorum=16):
        await anyio.sleep(1)
    assert first.log[0] == second.log[0] == "quorum 16"


async def test_all_routers_tell_and_what_they_told_adds_up() -> None:
    first, second = knows(delay=5), knows(delay=5)
    first.told, second.told = 3, 20
    start = anyio.current_time()
    assert await compose(first, second).provide(CIDS[1]) == 23
    assert await compose(first, second).set_value(KEY, b"1") == 23
    assert anyio.current_time() - start == pytest.approx(10)
    assert CIDS[1].multihash in first.tables.providers
    assert CIDS[1].multihash in second.tables.providers


async def test_telling_succeeds_if_one_router_does() -> None:
    router = compose(knows(error=BROKEN), knows(), knows(error=NoRoutingPeersError()))
    assert await router.provide(CIDS[1]) == 1
    assert await router.set_value(KEY, b"1") == 1
    told: set[Cid] = set()
    await router.provide_many(CIDS, told.add)
    assert told == set(CIDS)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([NoRoutingPeersError(), NoRoutingPeersError()], NoRoutingPeersError),
        ([BROKEN, NoRoutingPeersError()], UnavailableError),
        ([BROKEN, UnavailableError("and these, too")], RoutersFailedError),
        ([BROKEN, InvalidValueError("a better one is known")], InvalidValueError),
        ([BROKEN, ValueNotTakenError(KEY, 3)], ValueNotTakenError),
        ([ValueNotTakenError(KEY, 3), InvalidValueError("a better one is known")], InvalidValueError),
    ],
)
async def test_telling_fails_when_all_routers_do_and_says_why(
    errors: list[IpvcsError], expected: type[IpvcsError]
) -> None:
    router = compose(*(knows(error=error) for error in errors))
    with pytest.raises(expected) as caught:
        await router.set_value(KEY, b"1")
    assert type(caught.value) is expected


async def test_a_router_that_takes_too_long_to_store_a_value_hides_not_that_another_did() -> None:
    start = anyio.current_time()
    assert await compose(knows(delay=10_000), knows(delay=1)).set_value(KEY, b"1") == 1
    assert anyio.current_time() - start == pytest.approx(TELL_TIMEOUT)
    with pytest.raises(RouterTimeoutError):
        await compose(knows(delay=10_000)).set_value(KEY, b"1")


async def test_a_search_for_a_value_that_failed_everywhere_says_so() -> None:
    with pytest.raises(NoRoutingPeersError):
        await get_value(compose(knows(error=NoRoutingPeersError()), knows(error=NoRoutingPeersError())), KEY)
    with pytest.raises(UnavailableError, match="every peer is gone"):
        await get_value(compose(knows(error=NoRoutingPeersError()), knows(error=BROKEN)), KEY)
    with pytest.raises(ValueNotFoundError):
        await get_value(compose(knows(error=BROKEN), knows()), KEY)


async def test_a_value_that_one_network_has_a_better_one_for_still_goes_to_the_other() -> None:
    assert await compose(holds(b"9"), holds()).set_value(KEY, b"8") == 1
    with pytest.raises(InvalidValueError):
        await compose(holds(b"9"), holds(b"10")).set_value(KEY, b"8")


async def test_cancelling_ends_every_router() -> None:
    routers = [knows(delay=60), knows(delay=60)]
    with anyio.move_on_after(1):
        await compose(*routers).provide(CIDS[0])
    assert [router.log for router in routers] == [["begin provide", "cancelled provide"]] * 2


async def test_a_bug_in_a_router_is_not_taken_for_an_answer() -> None:
    broken = knows(BOB)
    broken.tables.peers[BOB.peer_id] = BOB
    broken.error = TypeError("a bug")  # type: ignore[assignment]
    with pytest.raises(ExceptionGroup) as caught:
        await compose(broken, knows(BOB, delay=1)).find_peer(BOB.peer_id)
    assert caught.group_contains(TypeError)
