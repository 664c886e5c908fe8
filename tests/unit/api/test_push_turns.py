"""Whose turn it is: bounds, order, and two tries of one push."""

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.api.push_turns import PushTurns, Ticket
from tests.fakes.memory_network import key_of

A, B, C = (key_of(name).peer_id for name in "abc")


def due(*tickets: Ticket) -> list[bool]:
    return [ticket.is_due.is_set() for ticket in tickets]


def test_first_come_first_served() -> None:
    turns = PushTurns(2, 1)
    first, second, third = (turns.join(pusher, b"k") for pusher in (A, B, C))
    assert due(first, second, third) == [True, True, False]
    turns.leave(second)
    assert due(third) == [True]
    turns.leave(first)
    turns.leave(third)
    assert not turns


def test_a_pusher_that_has_his_share_is_passed_by() -> None:
    turns = PushTurns(2, 1)
    first, again, other = turns.join(A, b"1"), turns.join(A, b"2"), turns.join(B, b"1")
    assert due(first, again, other) == [True, False, True]
    turns.leave(other)
    assert due(again) == [False]
    turns.leave(first)
    assert due(again) == [True]


def test_a_second_try_is_alone_when_the_first_has_left_and_one_that_waits_may_leave() -> None:
    turns = PushTurns(4, 4)
    first, second, third, other = (turns.join(A, key) for key in (b"1", b"1", b"1", b"2"))
    assert due(first, second, third, other) == [True, False, False, True]
    assert not second.is_alone.is_set()
    turns.leave(second)
    assert not third.is_alone.is_set()
    turns.leave(first)
    assert third.is_alone.is_set()
    assert due(third) == [True]


def test_the_same_key_of_another_pusher_is_another_push() -> None:
    turns = PushTurns(2, 1)
    assert due(turns.join(A, b"1"), turns.join(B, b"1")) == [True, True]


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.tuples(st.booleans(), st.sampled_from([A, B, C]), st.sampled_from([b"1", b"2"]), st.integers(0, 99))),
)
def test_bounds_are_kept_and_nobody_waits_for_nothing(
    concurrent: int, per_pusher: int, steps: list[tuple[bool, object, bytes, int]]
) -> None:
    turns = PushTurns(concurrent, per_pusher)
    there: list[Ticket] = []
    for joins, pusher, key, choice in steps:
        if joins or not there:
            there.append(turns.join(pusher, key))  # type: ignore[arg-type]
        else:
            turns.leave(there.pop(choice % len(there)))
        working = [each for each in there if each.is_due.is_set()]
        assert len(working) <= concurrent
        assert len({(each.pusher, each.key) for each in working}) == len(working)
        for who in (A, B, C):
            assert sum(worked.pusher == who for worked in working) <= per_pusher
        for index, each in enumerate(there):
            is_first = all((each.pusher, each.key) != (old.pusher, old.key) for old in there[:index])
            assert each.is_alone.is_set() == is_first
            could = len(working) < concurrent and sum(w.pusher == each.pusher for w in working) < per_pusher
            assert each.is_due.is_set() or not (is_first and could)
    assert len(turns) == len(there)


def test_a_place_is_given_up_once() -> None:
    turns = PushTurns(1, 1)
    first, second = turns.join(A, b"1"), turns.join(B, b"2")
    turns.leave(first)
    turns.leave(first)
    assert second.is_due.is_set()
    assert len(turns) == 1
