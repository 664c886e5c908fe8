"""Announcing many blocks by one router."""

from collections.abc import Sequence

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.errors import UnavailableError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.routing.interface import NoRoutingPeersError
from ipvcs.node.routing.provide_many import MANY_TIMEOUT, PARALLEL, TIMEOUT, announce
from ipvcs.objects.block import Block
from tests.unit.node.routing.announcing_router import AnnouncingRouter, BatchingRouter

pytestmark = pytest.mark.anyio

CIDS = [Block.of(b"%d" % number).cid for number in range(20)]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def take(cids: Sequence[Cid], *left_out: int) -> list[Cid]:
    return [cid for number, cid in enumerate(cids) if number not in left_out]


async def test_a_few_are_announced_at_a_time() -> None:
    router = AnnouncingRouter(delay=1)
    start = anyio.current_time()
    assert await announce(router, CIDS) == CIDS
    assert anyio.current_time() - start == pytest.approx(len(CIDS) / PARALLEL)
    assert router.most_at_once == PARALLEL
    assert sorted(map(str, router.announced)) == sorted(map(str, CIDS)), "each once"


async def test_those_that_failed_are_left_out() -> None:
    router = AnnouncingRouter(failing={CIDS[3]: UnavailableError("gone"), CIDS[4]: None})
    assert await announce(router, CIDS) == take(CIDS, 3, 4)


async def test_one_that_takes_too_long_is_given_up_and_holds_up_no_other() -> None:
    router = AnnouncingRouter(delays={CIDS[0]: 10**6}, delay=1)
    start = anyio.current_time()
    assert await announce(router, CIDS) == take(CIDS, 0)
    assert anyio.current_time() - start == pytest.approx(TIMEOUT)


async def test_nobody_to_tell_ends_it_at_once() -> None:
    router = AnnouncingRouter(online=False, delay=1)
    start = anyio.current_time()
    with pytest.raises(NoRoutingPeersError):
        await announce(router, CIDS)
    assert anyio.current_time() - start == pytest.approx(1)
    assert router.calls <= PARALLEL


async def test_what_was_told_before_everybody_left_counts() -> None:
    router = AnnouncingRouter(delay=1, offline_after=6)
    done = await announce(router, CIDS)
    assert len(done) == 6
    assert set(done) == set(router.announced)
    assert router.calls <= 6 + PARALLEL


async def test_a_router_that_can_announce_many_is_asked_once() -> None:
    router = BatchingRouter()
    assert await announce(router, CIDS) == CIDS
    assert router.batches == [CIDS]
    assert router.calls == 0
    assert await announce(router, CIDS[:1]) == CIDS[:1], "one is no batch"
    assert router.calls == 1


async def test_those_of_a_batch_of_which_nobody_was_told_are_left_for_later() -> None:
    router = BatchingRouter(failing={CIDS[7]: UnavailableError("gone")})
    assert await announce(router, CIDS) == take(CIDS, 7)
    assert len(router.batches) == 1
    assert router.calls == 0


async def test_a_batch_that_takes_too_long_is_given_up() -> None:
    router = BatchingRouter(delay=10**6)
    start = anyio.current_time()
    assert await announce(router, CIDS) == []
    assert anyio.current_time() - start == pytest.approx(MANY_TIMEOUT)


async def test_what_a_batch_came_to_in_its_time_counts() -> None:
    router = BatchingRouter(seconds_each=MANY_TIMEOUT / 10.5)
    assert await announce(router, CIDS) == CIDS[:10]


async def test_what_a_batch_told_before_everybody_left_counts() -> None:
    assert await announce(BatchingRouter(offline_after=6), CIDS) == CIDS[:6]


async def test_a_batch_with_nobody_to_tell_says_so() -> None:
    with pytest.raises(NoRoutingPeersError):
        await announce(BatchingRouter(online=False), CIDS)


async def test_nothing_to_announce_asks_nobody() -> None:
    router = AnnouncingRouter(online=False)
    assert await announce(router, []) == []
    assert router.calls == 0
