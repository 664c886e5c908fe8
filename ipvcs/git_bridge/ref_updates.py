"""Whether a push may do to each ref what it asks, and in which words it is told if not.

Git recognises some of the words after `error <ref>` and turns them into its own messages and hints; any others it shows
as they are, as the reason of a remote that refused.

Spec: git's transport-helper.c, `push_update_ref_status`; remote.c, `set_ref_status_for_push`; builtin/receive-pack.c
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ipvcs.git_bridge.ref_directories import RefDirectories
from ipvcs.git_bridge.refname import BRANCHES, TAGS, RefName, RefNameError, parse_refname, show
from ipvcs.objects.git.object_id import ObjectId

UP_TO_DATE: Final = "up to date"
FETCH_FIRST: Final = "fetch first"
NON_FAST_FORWARD: Final = "non-fast forward"
ALREADY_EXISTS: Final = "already exists"
NEEDS_FORCE: Final = "needs force"
STALE_INFO: Final = "stale info"
"""What git has its own message for."""
ATOMIC: Final = "atomic push failed"
ABSENT: Final = "remote ref does not exist"
CURRENT_BRANCH: Final = "deletion of the current branch prohibited"
FUNNY: Final = "funny refname"
NO_COMMIT: Final = "a branch can only point at a commit"


class ObjectFacts(Protocol):
    """What the pushing repository knows of objects."""

    def has(self, oid: ObjectId) -> bool:
        """Whether the object is there."""

    def is_commit(self, oid: ObjectId) -> bool:
        """Whether it is a commit itself, not a tag of one."""

    def is_ancestor(self, old: ObjectId, new: ObjectId) -> bool:
        """Whether the commit `old` is in the history of `new`; both are there."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One update that a push asks for. `new` is None to delete, `expected` what `--force-with-lease` says is there:
    an id, or None for nothing; it counts if `has_lease`.
    """

    target: bytes
    new: ObjectId | None
    force: bool = False
    has_lease: bool = False
    expected: ObjectId | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an update: done if `refusal` is None. `forced`: it leaves commits of the old value behind."""

    target: bytes
    refusal: str | None = None
    forced: bool = False


def decide(
    asked: Sequence[Asked],
    current: Mapping[RefName, ObjectId],
    head: RefName | None,
    facts: ObjectFacts,
    *,
    atomic: bool = False,
) -> list[Verdict]:
    """Judge every update of a push against the refs that are there now.

    Args:
        asked: the updates, each of another ref.
        current: the refs of the repository that is pushed to.
        head: its current branch.
        facts: of the repository that is pushed from.
        atomic: all or none.
    """
    verdicts = [_decide_one(each, current, head, facts) for each in asked]
    there = RefDirectories(current)
    for each, verdict in zip(asked, verdicts, strict=True):
        if verdict.refusal is None and each.new is None:
            there.remove(RefName(each.target))
    for index, (each, verdict) in enumerate(zip(asked, verdicts, strict=True)):
        if verdict.refusal is None and each.new is not None:
            name = RefName(each.target)
            if (obstacle := there.obstacle(name)) is not None:
                verdicts[index] = Verdict(name, f"'{show(obstacle)}' exists; cannot create '{show(name)}'")
            else:
                there.add(name)
    if atomic and any(verdict.refusal not in (None, UP_TO_DATE) for verdict in verdicts):
        return [Verdict(each.target, ATOMIC) if each.refusal is None else each for each in verdicts]
    return verdicts


def _decide_one(asked: Asked, current: Mapping[RefName, ObjectId], head: RefName | None, facts: ObjectFacts) -> Verdict:
    try:
        name = parse_refname(asked.target)
    except RefNameError:
        return Verdict(asked.target, FUNNY)
    old, new = current.get(name), asked.new
    if asked.has_lease and asked.expected != old:
        return Verdict(name, STALE_INFO)
    if new is None:
        return Verdict(name, ABSENT if old is None else CURRENT_BRANCH if name == head else None)
    if new == old:
        return Verdict(name, UP_TO_DATE)
    if name.startswith(BRANCHES) and not facts.is_commit(new):
        return Verdict(name, NO_COMMIT)
    if old is None:
        return Verdict(name)
    why = _why_not_forward(name, old, new, facts)
    if why is not None and not (asked.force or asked.has_lease):  # a lease that holds is as good as force
        return Verdict(name, why)
    return Verdict(name, None, forced=why is not None)


def _why_not_forward(name: RefName, old: ObjectId, new: ObjectId, facts: ObjectFacts) -> str | None:
    """Return why the step is no fast-forward, None when it is one."""
    if name.startswith(TAGS):
        return ALREADY_EXISTS
    if not facts.has(old):
        return FETCH_FIRST
    if not (facts.is_commit(old) and facts.is_commit(new)):
        return NEEDS_FORCE
    return None if facts.is_ancestor(old, new) else NON_FAST_FORWARD
