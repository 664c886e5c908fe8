"""Which commits a walk takes, against a model: on random histories, with something here already or not."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha1
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge.commit_walk import CommitWalk
from ipvcs.git_bridge.object_intake import ObjectIntake
from ipvcs.git_bridge.shallow import Depth
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.check import Claim
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId

History = Mapping[ObjectId, Sequence[ObjectId]]
"""The parents of each commit."""


def oid(name: str) -> ObjectId:
    return ObjectId(sha1(name.encode()).digest())


def claim(commit: ObjectId, kind: NodeKind = NodeKind.COMMIT) -> Claim:
    return Claim(commit, kind, Cid.of(bytes(12) + commit.raw))


def tree_of(commit: ObjectId) -> ObjectId:
    return oid(f"tree of {commit}")


class ScriptedIntake:
    """An intake of `history`, of which `here` is in the repository."""

    def __init__(self, history: History, here: Iterable[ObjectId]) -> None:
        self.taken: list[ObjectId] = []
        self._history = history
        self._here = set(here)

    def has(self, commit: ObjectId) -> bool:
        return commit in self._here

    def is_taken(self, each: Claim) -> bool:
        return each.oid in self.taken

    def take(self, each: Claim) -> list[Claim]:
        assert each.oid not in self.taken, "each commit once"
        self.taken.append(each.oid)
        return [claim(tree_of(each.oid), NodeKind.DIRECTORY), *map(claim, self._history[each.oid])]


@st.composite
def histories(draw: st.DrawFn) -> dict[ObjectId, list[ObjectId]]:
    """Return a history in which merges are as likely as anything."""
    history: dict[ObjectId, list[ObjectId]] = {}
    for number in range(draw(st.integers(1, 12))):
        before = sorted(history)
        parents = draw(st.lists(st.sampled_from(before), max_size=3, unique=True)) if before else []
        history[oid(str(number))] = parents
    return history


def reach(history: History, starts: Iterable[ObjectId]) -> set[ObjectId]:
    found: set[ObjectId] = set()
    pending = list(starts)
    while pending:
        if (commit := pending.pop()) not in found:
            found.add(commit)
            pending += history[commit]
    return found


def generations(history: History, starts: Iterable[ObjectId]) -> dict[ObjectId, int]:
    """Return the distance of each commit, the starts being of the first generation."""
    found: dict[ObjectId, int] = {}
    level, number = set(starts), 1
    while level:
        found |= dict.fromkeys(level, number)
        level = {parent for commit in level for parent in history[commit]} - found.keys()
        number += 1
    return found


def walk(
    history: History,
    here: Iterable[ObjectId],
    wanted: Iterable[ObjectId],
    depth: Depth | None = None,
    ends: Iterable[ObjectId] = (),
) -> tuple[ScriptedIntake, CommitWalk, set[ObjectId]]:
    intake = ScriptedIntake(history, here)
    walked = CommitWalk(cast(ObjectIntake, intake), lambda _claims: None, depth, [claim(end) for end in ends])
    content = [each.oid for chunk in walked.iter_content([claim(commit) for commit in wanted]) for each in chunk]
    assert len(content) == len(set(content))
    return intake, walked, set(content)


@given(histories(), st.data())
def test_without_a_depth_it_ends_at_what_is_here(history: dict[ObjectId, list[ObjectId]], data: st.DataObject) -> None:
    commits = st.lists(st.sampled_from(sorted(history)), max_size=3, unique=True)
    here, wanted = reach(history, data.draw(commits)), data.draw(commits)
    intake, walked, content = walk(history, here, wanted)
    missing = reach(history, wanted) - here
    assert set(intake.taken) == missing
    assert content == set(map(tree_of, missing))
    assert walked.met == {each for commit in missing for each in history[commit] if each in here} | (set(wanted) & here)
    assert not walked.cut
    assert not walked.whole


@given(histories(), st.integers(1, 6), st.data())
def test_with_a_depth_the_last_generation_is_cut_off(
    history: dict[ObjectId, list[ObjectId]], depth: int, data: st.DataObject
) -> None:
    commits = st.lists(st.sampled_from(sorted(history)), max_size=3, unique=True)
    here, wanted = reach(history, data.draw(commits)), data.draw(commits)
    intake, walked, content = walk(history, here, wanted, Depth(depth))
    near = {commit: number for commit, number in generations(history, wanted).items() if number <= depth}
    assert set(intake.taken) == near.keys()
    assert walked.cut == {commit for commit, number in near.items() if number == depth}
    assert walked.whole == {commit for commit, number in near.items() if number < depth}
    assert content == {tree_of(commit) for commit in near if commit not in here}


@given(histories(), st.integers(1, 4), st.integers(1, 4), st.data())
def test_deepening_starts_where_the_history_ends(
    history: dict[ObjectId, list[ObjectId]], depth: int, more: int, data: st.DataObject
) -> None:
    wanted = data.draw(st.lists(st.sampled_from(sorted(history)), min_size=1, max_size=3, unique=True))
    near = {commit: number for commit, number in generations(history, wanted).items() if number <= depth}
    ends = [commit for commit, number in near.items() if number == depth]
    intake, walked, _content = walk(history, near, wanted, Depth(more, deepens=True), ends)
    beyond = {commit: number for commit, number in generations(history, ends).items() if number <= more + 1}
    assert set(intake.taken) == beyond.keys()
    assert walked.cut == {commit for commit, number in beyond.items() if number == more + 1}
    assert set(ends) <= walked.whole | walked.cut
