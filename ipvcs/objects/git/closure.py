"""All that a node leads to, checked: for accepting a push, and for `repo verify`.

Each node is checked once, however many links lead to it, with no recursion: histories are deeper than any stack.

Spec: DESIGN §3.1 "accepting a push and `repo verify` check whole closures"; docs/git-mapping.md §9
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ipvcs.objects.git.check import Checker, Claim

Known = Callable[[Claim], bool]
"""Tells whether a claim needs no check, nor anything below it: it was proven before, by this home."""


def iter_verified(checker: Checker, roots: Iterable[Claim], known: Known | None = None) -> Iterator[Claim]:
    """Check every node that `roots` lead to, roots first, and yield each claim whose own node was found right.

    Nothing is proven before the iterator has ended: what a node links is checked after it.

    Memory grows by some 150 bytes a node, and with the links of the nodes on the way down to the one at hand.

    Raises:
        GitNodeError, BlockNotFoundError, LimitError: as `Checker.check`, at the first node that is wrong or missing.
    """
    pending = list(roots)
    pending.reverse()
    seen: set[bytes] = set()
    while pending:
        claim = pending.pop()
        record = claim_record(claim)
        if record in seen:
            continue
        seen.add(record)
        if known is not None and known(claim):
            continue
        children = checker.check(claim)
        yield claim
        children.reverse()
        pending += children


def verify_closure(checker: Checker, roots: Iterable[Claim], known: Known | None = None) -> int:
    """Check every node that `roots` lead to; return how many there were. Errors as `iter_verified`."""
    return sum(1 for _ in iter_verified(checker, roots, known))


_NO_SIZE: Final = (1 << 64) - 1


def claim_record(claim: Claim) -> bytes:
    """Return all that a claim says of its node, as bytes: compact, since there is one for every node."""
    size = _NO_SIZE if claim.size is None else claim.size
    return b"%b%b%c%b%b" % (
        claim.oid.raw,
        claim.kind.encode(),
        claim.may_be_verbatim,
        size.to_bytes(8, "big"),
        claim.cid.raw,
    )
