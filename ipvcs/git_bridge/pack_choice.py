"""Which packs a fetch needs: of each the manifest says from which tips to which bases it leads.

    pack 0: tips a          pack 1: tips b, bases a          pack 2: tips c, bases a          pack 3: tips d, bases c
    wanted: c               needed: 2, and 0 unless a is here

A pack holds what its tips reach and its bases do not, so all that a tip reaches is in its pack, the packs of the bases,
and so on. A publisher who says otherwise is found out when git looks whether something is missing.

Spec: DESIGN §5 "Manifest"
"""

from collections.abc import Callable, Sequence

from ipvcs.git_bridge.manifest import PackEntry
from ipvcs.objects.git.object_id import ObjectId


def needed_packs(
    packs: Sequence[PackEntry], wanted: Sequence[ObjectId], has: Callable[[ObjectId], bool]
) -> list[PackEntry]:
    """Return those of `packs`, in their order, that may hold something of what `wanted` reach and that is not here.

    Args:
        packs: in the order in which they were pushed.
        wanted: ids that refs of the repository point at.
        has: whether an object is here, and then with all that it reaches.
    """
    first: dict[ObjectId, int] = {}
    for index, pack in enumerate(packs):
        for tip in pack.tips:
            first.setdefault(tip, index)
    needed: set[int] = set()
    pending = [(oid, len(packs)) for oid in wanted]
    while pending:
        oid, end = pending.pop()
        if has(oid):
            continue
        index = first.get(oid, end)
        may_hold = {index} if index < end else set(range(end))  # of what is no tip before, nobody says where it is
        new = {each for each in may_hold - needed if not packs[each].tips or not all(map(has, packs[each].tips))}
        needed |= new
        for each in new:
            bases = packs[each].bases
            if bases:
                pending += [(base, each) for base in bases]
            elif each:  # none, or too many to be named
                pending.append((oid, each))
    return [packs[index] for index in sorted(needed)]
