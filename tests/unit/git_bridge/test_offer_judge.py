"""What an owner makes of an offer's updates."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge.offer_judge import ClaimedFacts, judge_offer, needed_rights
from ipvcs.git_bridge.push_requests import Offer, Update
from ipvcs.git_bridge.ref_updates import (
    ALREADY_EXISTS,
    ATOMIC,
    CURRENT_BRANCH,
    FETCH_FIRST,
    FUNNY,
    NON_FAST_FORWARD,
    UP_TO_DATE,
    Verdict,
)
from ipvcs.git_bridge.refname import RefName
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.storage.access import Right
from tests.unit.git_bridge.test_ref_updates import (
    CURRENT,
    FIRST,
    MAIN,
    OTHER,
    SECOND,
    SIDE,
    TAG,
    THIRD,
    VERSION,
    History,
)

ALL = frozenset(Right)
OFFER = Offer((), b"k" * 16, ObjectFormat.SHA1, 1, "unixfs-v1-2025", ())


def offer(*updates: Update, atomic: bool = False) -> Offer:
    return replace(OFFER, updates=updates, atomic=atomic)


def judge(*updates: Update, rights: frozenset[Right] = ALL, atomic: bool = False) -> list[Verdict]:
    return judge_offer(offer(*updates, atomic=atomic), CURRENT, MAIN, History(), rights)


@pytest.mark.parametrize(
    ("update", "refusal"),
    [
        (Update(MAIN, SECOND, THIRD), None),
        (Update(MAIN, FIRST, THIRD), FETCH_FIRST),
        (Update(MAIN, None, THIRD), FETCH_FIRST),
        (Update(MAIN, SECOND, SIDE), NON_FAST_FORWARD),
        (Update(MAIN, SECOND, SIDE, force=True), None),
        (Update(MAIN, SECOND, None), CURRENT_BRANCH),
        (Update(VERSION, TAG, THIRD), ALREADY_EXISTS),
        (Update(b"refs/heads/a..b", None, THIRD), FUNNY),
        (Update(b"refs/heads/main/x", None, THIRD), "'refs/heads/main' exists; cannot create 'refs/heads/main/x'"),
        (Update(b"refs/heads/gone", SECOND, None), UP_TO_DATE),
        (Update(MAIN, FIRST, SECOND), UP_TO_DATE),
    ],
)
def test_an_update_is_judged_by_what_is_there(update: Update, refusal: str | None) -> None:
    assert [each.refusal for each in judge(update)] == [refusal]


@pytest.mark.parametrize(
    ("update", "needed"),
    [
        (Update(b"refs/heads/new", None, THIRD), {Right.CREATE}),
        (Update(b"refs/notes/new", None, THIRD), {Right.CREATE}),
        (Update(MAIN, SECOND, THIRD), {Right.UPDATE}),
        (Update(MAIN, SECOND, THIRD, force=True), {Right.UPDATE}),
        (Update(MAIN, SECOND, SIDE, force=True), {Right.FORCE}),
        (Update(OTHER, TAG, None), {Right.DELETE}),
        (Update(b"refs/tags/new", None, THIRD), {Right.TAG}),
        (Update(VERSION, TAG, THIRD, force=True), {Right.TAG, Right.FORCE}),
        (Update(VERSION, TAG, None), {Right.TAG, Right.DELETE}),
    ],
)
def test_a_step_takes_its_rights_and_no_others(update: Update, needed: set[Right]) -> None:
    assert judge(update, rights=frozenset(needed))[0].refusal is None
    for right in needed:
        assert judge(update, rights=ALL - {right})[0].refusal == f"no right to {right} refs here"


def test_without_rights_nothing_is_done() -> None:
    assert judge(Update(MAIN, SECOND, THIRD), rights=frozenset())[0].refusal == "no right to update refs here"


def test_a_refused_deletion_makes_no_room() -> None:
    deletion, new = Update(OTHER, TAG, None), Update(OTHER + b"/x", None, THIRD)
    assert [each.refusal for each in judge(deletion, new)] == [None, None]
    refused = judge(deletion, new, rights=ALL - {Right.DELETE})
    assert [each.refusal for each in refused] == [
        "no right to delete refs here",
        "'refs/notes/x' exists; cannot create 'refs/notes/x/x'",
    ]


def test_an_atomic_offer_is_done_whole_or_not_at_all() -> None:
    good, bad = Update(MAIN, SECOND, THIRD), Update(b"refs/heads/x", SECOND, THIRD)
    assert [each.refusal for each in judge(good, bad, atomic=True)] == [ATOMIC, FETCH_FIRST]
    done = Update(VERSION, None, TAG)
    assert [each.refusal for each in judge(good, done, atomic=True)] == [None, UP_TO_DATE]


@given(st.lists(st.sampled_from([FIRST, SECOND, THIRD, SIDE, None]), min_size=2, max_size=2), st.booleans())
def test_a_second_try_finds_everything_done(values: list[ObjectId | None], force: bool) -> None:
    old, new = values
    name = RefName(b"refs/heads/x")
    current = {} if old is None else {name: old}
    wanted = offer(Update(name, old, new, force))
    (first,) = judge_offer(wanted, current, MAIN, History(), ALL)
    if first.refusal is None:
        after = {} if new is None else {name: new}
        (second,) = judge_offer(wanted, after, MAIN, History(), ALL)
        assert second.refusal == UP_TO_DATE


def test_before_its_objects_are_here_an_offer_is_believed() -> None:
    forward, forced = Update(MAIN, SECOND, SIDE), Update(MAIN, SECOND, SIDE, force=True)
    for update, is_forced in ((forward, False), (forced, True)):
        made = offer(update)
        (verdict,) = judge_offer(made, CURRENT, MAIN, ClaimedFacts(made), ALL)
        assert verdict == Verdict(MAIN, None, is_forced)


def test_rights_are_named_by_what_the_step_turns_out_to_be() -> None:
    assert needed_rights(Update(MAIN, SECOND, SIDE, force=False), forced=True) == {Right.FORCE}
