"""When names of ours are published again."""

import itertools

import pytest

from ipvcs.node.naming.name_table import OwnName
from ipvcs.node.naming.republish_plan import PERIOD, RETRY, SETTLE, SPREAD, START_DELAY, RepublishPlan
from tests.unit.node.identity.key_pool import ed25519_key
from tests.unit.node.naming.records import ALICE, HOUR, NOW, record

NAME = ALICE.peer_id


def own(*, announced: float | None = None, lifetime: float = 48 * HOUR) -> OwnName:
    return OwnName(record(), lifetime, announced)


def test_what_no_peer_ever_took_is_due_soon_after_the_start_but_not_all_at_once() -> None:
    shares = itertools.cycle((0.0, 0.5, 1.0))
    plan = RepublishPlan(lambda: next(shares))
    names = {ed25519_key(number).peer_id: own() for number in range(1, 4)}
    plan.start(names, 1000, NOW)
    assert plan.next_due() == 1000 + START_DELAY
    assert plan.due(1000 + START_DELAY - 1) == []
    assert plan.due(1000 + START_DELAY) == list(names)[:1]
    assert plan.due(1000 + START_DELAY + SPREAD) == list(names)


@pytest.mark.parametrize(
    ("ago", "due"),
    [(0, PERIOD), (PERIOD - 100, 100), (PERIOD, START_DELAY), (40 * HOUR, START_DELAY), (-HOUR, START_DELAY)],
)
def test_a_restart_does_not_bring_a_name_forward(ago: float, due: float) -> None:
    plan = RepublishPlan(lambda: 0.0)
    plan.start({NAME: own(announced=NOW - ago)}, 5, NOW)
    assert plan.next_due() == 5 + due


def test_names_come_again_within_the_period_and_drift_apart() -> None:
    for share, wait in ((0.0, PERIOD), (1.0, 0.9 * PERIOD)):
        plan = RepublishPlan(lambda share=share: share)  # type: ignore[misc]
        plan.done(NAME, own(), 100, announced=True)
        assert plan.next_due() == pytest.approx(100 + wait)


@pytest.mark.parametrize(("lifetime", "wait"), [(2 * HOUR, HOUR), (90, RETRY), (8 * HOUR, PERIOD), (1e9, PERIOD)])
def test_a_short_life_is_renewed_at_its_half(lifetime: float, wait: float) -> None:
    plan = RepublishPlan(lambda: 0.0)
    plan.done(NAME, own(lifetime=lifetime), 0, announced=True)
    assert plan.next_due() == wait


def test_a_peer_that_comes_brings_forward_what_failed_but_ever_less() -> None:
    plan = RepublishPlan(lambda: 0.0)
    waits = []
    for _ in range(6):
        plan.done(NAME, own(), 0, announced=False)
        plan.peer_came(1)
        waits.append(plan.next_due())
    assert waits == [5, 10, 20, 40, 40, 40]
    plan.peer_came(100)
    assert plan.next_due() == 40, "not put off"
    plan.done(NAME, own(), 0, announced=False)
    plan.peer_came(100)
    assert plan.next_due() == 100 + SETTLE
    plan.done(NAME, own(), 0, announced=True)
    plan.peer_came(1)
    assert plan.next_due() == PERIOD


def test_failures_are_tried_again_ever_more_seldom_until_one_works() -> None:
    plan = RepublishPlan(lambda: 0.0)
    waits = []
    for _ in range(40):
        plan.done(NAME, own(), 0, announced=False)
        waits.append(plan.next_due())
    assert waits[:4] == [RETRY, 2 * RETRY, 4 * RETRY, 8 * RETRY]
    assert waits[-1] == PERIOD
    plan.done(NAME, own(), 0, announced=True)
    plan.done(NAME, own(), 0, announced=False)
    assert plan.next_due() == RETRY


def test_a_name_stays_due_until_it_is_done() -> None:
    plan = RepublishPlan(lambda: 0.0)
    assert plan.next_due() is None
    plan.done(NAME, own(), 0, announced=False)
    assert plan.due(RETRY) == plan.due(RETRY + 1) == [NAME]
    plan.done(NAME, own(), RETRY + 1, announced=True)
    assert plan.due(RETRY + 1) == []


def test_what_is_dropped_is_not_due() -> None:
    plan = RepublishPlan(lambda: 0.0)
    plan.done(NAME, own(), 0, announced=False)
    plan.drop(NAME)
    plan.drop(NAME)
    assert plan.next_due() is None
