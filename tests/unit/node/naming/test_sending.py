"""What is heard of a record on its way: which records of others ours follows, and which it does not."""

import anyio
import pytest

from ipvcs.errors import UnavailableError
from ipvcs.node.naming.sending import SETTLE, Sending
from tests.unit.node.naming.records import ALICE, BOB, HOUR, NOW, A, B, C, record

pytestmark = pytest.mark.anyio
NAME = ALICE.peer_id


def sending() -> Sending:
    return Sending(NAME, record(value=A, sequence=5))


async def test_what_ours_follows_or_repeats_may_be_replaced_and_so_may_rubbish() -> None:
    ours = sending()
    for other in (
        record(value=B, sequence=4, expires=NOW + 9999 * HOUR),
        record(value=A, sequence=5, expires=NOW + HOUR),
        record(value=A, sequence=5, expires=NOW + 9999 * HOUR),
        record(BOB, value=B, sequence=6),
    ):
        assert ours.may_replace(other.raw)
    assert ours.may_replace(b"no record")
    assert ours.rival is None


async def test_the_best_of_all_rivals_is_remembered() -> None:
    ours = sending()
    behind = record(value=B, sequence=5, expires=NOW + HOUR)
    ahead = record(value=C, sequence=5, expires=NOW + 99 * HOUR)
    for other, best in ((behind, behind), (ahead, ahead), (behind, ahead), (record(value=B, sequence=6), None)):
        assert not ours.may_replace(other.raw)
        assert ours.rival == (best or other)


async def test_a_failure_is_kept_and_ends_the_wait() -> None:
    ours, error = sending(), UnavailableError("nobody")

    async def fail() -> None:
        await anyio.sleep(2)
        raise error

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ours.run, fail)
        await ours.wait(10)
        assert anyio.current_time() == pytest.approx(2)
    assert (ours.is_over, ours.failure) == (True, error)


@pytest.mark.parametrize(
    ("first", "patience", "wait"), [(1, 10, 1 + SETTLE), (9.5, 10, 10), (30, 10, 10), (1, 0.5, 0.5)]
)
async def test_it_waits_for_the_first_and_a_moment_for_the_others(first: float, patience: float, wait: float) -> None:
    ours = sending()

    async def send() -> None:
        await anyio.sleep(first)
        ours.taken(BOB.peer_id)
        await anyio.sleep(60)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ours.run, send)
        await ours.wait(patience)
        assert anyio.current_time() == pytest.approx(wait)
        await ours.stop()
        assert anyio.current_time() == pytest.approx(wait)
    assert ours.failure is None
