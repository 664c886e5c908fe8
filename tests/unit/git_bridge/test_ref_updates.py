"""What a push may do to each ref."""

from dataclasses import dataclass, field

import pytest

from ipvcs.git_bridge.ref_updates import (
    ABSENT,
    ALREADY_EXISTS,
    ATOMIC,
    CURRENT_BRANCH,
    FETCH_FIRST,
    FUNNY,
    NEEDS_FORCE,
    NO_COMMIT,
    NON_FAST_FORWARD,
    STALE_INFO,
    UP_TO_DATE,
    Asked,
    Verdict,
    decide,
)
from ipvcs.git_bridge.refname import RefName
from ipvcs.objects.git.object_id import ObjectId

FIRST, SECOND, THIRD, SIDE, TAG, FOREIGN = (ObjectId(bytes([number]) * 20) for number in range(1, 7))
MAIN, VERSION, OTHER = RefName(b"refs/heads/main"), RefName(b"refs/tags/v1"), RefName(b"refs/notes/x")
CURRENT = {MAIN: SECOND, VERSION: TAG, OTHER: TAG}


@dataclass
class History:
    """FIRST - SECOND - THIRD, SIDE beside them; TAG is a tag, FOREIGN not here."""

    line: list[ObjectId] = field(default_factory=lambda: [FIRST, SECOND, THIRD])

    def has(self, oid: ObjectId) -> bool:
        return oid != FOREIGN

    def is_commit(self, oid: ObjectId) -> bool:
        return oid not in (TAG, FOREIGN)

    def is_ancestor(self, old: ObjectId, new: ObjectId) -> bool:
        return old in self.line and new in self.line and self.line.index(old) <= self.line.index(new)


def judge(*asked: Asked, atomic: bool = False, current: dict[RefName, ObjectId] = CURRENT) -> list[Verdict]:
    return decide(asked, current, MAIN, History(), atomic=atomic)


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        (Asked(MAIN, THIRD), None),
        (Asked(MAIN, SECOND), UP_TO_DATE),
        (Asked(MAIN, FIRST), NON_FAST_FORWARD),
        (Asked(MAIN, SIDE), NON_FAST_FORWARD),
        (Asked(MAIN, TAG), NO_COMMIT),
        (Asked(MAIN, TAG, force=True), NO_COMMIT),
        (Asked(MAIN, None), CURRENT_BRANCH),
        (Asked(b"refs/heads/new", SIDE), None),
        (Asked(b"refs/heads/new", None), ABSENT),
        (Asked(b"refs/heads/a..b", SIDE), FUNNY),
        (Asked(b"main", SIDE), FUNNY),
        (Asked(VERSION, SECOND), ALREADY_EXISTS),
        (Asked(VERSION, TAG), UP_TO_DATE),
        (Asked(VERSION, None), None),
        (Asked(OTHER, SIDE), NEEDS_FORCE),
        (Asked(b"refs/heads/main/sub", SIDE), "'refs/heads/main' exists; cannot create 'refs/heads/main/sub'"),
        (Asked(b"refs/heads", SIDE), "'refs/heads/main' exists; cannot create 'refs/heads'"),
    ],
)
def test_each_update_is_judged(asked: Asked, refusal: str | None) -> None:
    assert judge(asked) == [Verdict(asked.target, refusal)]


def test_what_is_not_here_has_to_be_fetched_first() -> None:
    assert judge(Asked(MAIN, THIRD), current={MAIN: FOREIGN}) == [Verdict(MAIN, FETCH_FIRST)]


@pytest.mark.parametrize("new", [FIRST, SIDE])
def test_force_goes_back_and_says_so(new: ObjectId) -> None:
    assert judge(Asked(MAIN, new, force=True)) == [Verdict(MAIN, forced=True)]


def test_force_that_is_not_needed_is_not_reported() -> None:
    assert judge(Asked(MAIN, THIRD, force=True)) == [Verdict(MAIN)]


def test_force_replaces_a_tag_and_what_is_not_here() -> None:
    assert judge(Asked(VERSION, SECOND, force=True)) == [Verdict(VERSION, forced=True)]
    assert judge(Asked(MAIN, SIDE, force=True), current={MAIN: FOREIGN}) == [Verdict(MAIN, forced=True)]


@pytest.mark.parametrize(
    ("target", "expected", "refusal"),
    [
        (MAIN, SECOND, None),
        (MAIN, FIRST, STALE_INFO),
        (MAIN, None, STALE_INFO),
        (b"refs/heads/new", None, None),
        (b"refs/heads/new", FIRST, STALE_INFO),
    ],
)
def test_a_lease_has_to_be_what_is_there(target: bytes, expected: ObjectId | None, refusal: str | None) -> None:
    for force in (False, True):  # git leaves out the plus sign when there is a lease
        (verdict,) = judge(Asked(target, SIDE, force=force, has_lease=True, expected=expected))
        assert verdict.refusal == refusal


def test_a_stale_lease_beats_everything_else() -> None:
    assert judge(Asked(MAIN, SECOND, force=True, has_lease=True, expected=FIRST))[0].refusal == STALE_INFO


def test_an_atomic_push_is_all_or_nothing() -> None:
    good, bad, same = Asked(MAIN, THIRD), Asked(VERSION, SECOND), Asked(OTHER, TAG)
    refusals = [verdict.refusal for verdict in judge(good, bad, same, atomic=True)]
    assert refusals == [ATOMIC, ALREADY_EXISTS, UP_TO_DATE]
    assert [verdict.refusal for verdict in judge(good, same, atomic=True)] == [None, UP_TO_DATE]
    assert [verdict.refusal for verdict in judge(good, bad, same)] == [None, ALREADY_EXISTS, UP_TO_DATE]


def test_updates_of_one_push_see_each_other() -> None:
    gone = {RefName(b"refs/heads/a"): FIRST}
    change = [Asked(b"refs/heads/a/b", SIDE), Asked(b"refs/heads/a", None)]
    for order in (change, change[::-1]):
        assert [verdict.refusal for verdict in judge(*order, current=gone)] == [None, None]
    both = judge(Asked(b"refs/heads/x", SIDE), Asked(b"refs/heads/x/y", SIDE))
    assert [verdict.refusal for verdict in both] == [None, "'refs/heads/x' exists; cannot create 'refs/heads/x/y'"]
