"""What an owner makes of an offer's updates: what is there now, the steps that they are, and the pusher's rights. Pure.

Spec: docs/protocols/push.md, "Rights", "What the owner does with an offer" (2)
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ipvcs.git_bridge.push_requests import Offer, Update
from ipvcs.git_bridge.ref_updates import (
    ATOMIC,
    FETCH_FIRST,
    UP_TO_DATE,
    Asked,
    ObjectFacts,
    Verdict,
    decide,
)
from ipvcs.git_bridge.refname import TAGS, RefName
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.access import Right

_DONE: Final = (None, UP_TO_DATE)


@dataclass(frozen=True, slots=True)
class ClaimedFacts:
    """What an offer says of its objects, before any of them is here. See `ObjectFacts`."""

    offer: Offer

    def has(self, _oid: ObjectId) -> bool:
        """Say that it is there."""
        return True

    def is_commit(self, _oid: ObjectId) -> bool:
        """Say that it is one."""
        return True

    def is_ancestor(self, old: ObjectId, new: ObjectId) -> bool:
        """Whether the offer does not call the step forced."""
        return not any(each.force for each in self.offer.updates if (each.old, each.new) == (old, new))


def asked_of(offer: Offer) -> list[Asked]:
    """Return the updates of an offer as they are judged here."""
    return [Asked(each.name, each.new, each.force) for each in offer.updates]


def judge_offer(
    offer: Offer,
    current: Mapping[RefName, ObjectId],
    head: RefName | None,
    facts: ObjectFacts,
    rights: Collection[Right],
) -> list[Verdict]:
    """Return what may become of each update.

    Args:
        offer: what is asked for.
        current: the refs that are there now.
        head: the current branch.
        facts: what is known of the objects.
        rights: what the pusher may do at this place.
    """
    asked = asked_of(offer)
    first = decide(asked, current, head, facts)
    early = [_object(update, verdict, current, rights) for update, verdict in zip(offer.updates, first, strict=True)]
    # Once more without those that are refused: what they would have made way for, or stood in the way of, is different.
    rest = iter(decide([each for each, why in zip(asked, early, strict=True) if why is None], current, head, facts))
    verdicts = [
        next(rest) if why is None else Verdict(each.target, why) for each, why in zip(asked, early, strict=True)
    ]
    return refuse_rest(verdicts) if offer.atomic else verdicts


def refuse_rest(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return `verdicts` of an atomic push: if one is refused, all are."""
    if all(each.refusal in _DONE for each in verdicts):
        return list(verdicts)
    return [replace(each, refusal=ATOMIC, forced=False) if each.refusal is None else each for each in verdicts]


def _object(
    update: Update, verdict: Verdict, current: Mapping[RefName, ObjectId], rights: Collection[Right]
) -> str | None:
    """Return why the update is refused, `UP_TO_DATE` if there is nothing to do, None to go on with it."""
    there = current.get(RefName(update.name))
    if update.new == there:  # the answer to an earlier try was lost, or another pusher did the same
        return UP_TO_DATE
    if update.old != there:
        return FETCH_FIRST
    if verdict.refusal is not None:
        return verdict.refusal
    missing = needed_rights(update, forced=verdict.forced) - set(rights)
    return f"no right to {min(missing)} refs here" if missing else None


def needed_rights(update: Update, *, forced: bool) -> set[Right]:
    """Return the rights that a step takes; `forced`: it is not forward."""
    needed = {Right.TAG} if update.name.startswith(TAGS) else set()
    if update.new is None:
        needed.add(Right.DELETE)
    elif forced:
        needed.add(Right.FORCE)
    elif not needed:
        needed.add(Right.CREATE if update.old is None else Right.UPDATE)
    return needed
