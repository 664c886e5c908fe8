"""Which commit of a published repository somebody means: by `HEAD`, a ref's name, or an id.

Spec: gitrevisions(7), "<refname>" and "<sha1>"
"""

import re
from typing import Final

from ipvcs.errors import NotFoundError
from ipvcs.git_bridge.commit_supply import CommitSupply
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.git_bridge.refname import RefName, show
from ipvcs.git_bridge.refs_table import Ref
from ipvcs.objects.git.object_id import ObjectId

HEAD: Final = b"HEAD"
_PLACES: Final = (b"", b"refs/", b"refs/tags/", b"refs/heads/", b"refs/remotes/")
"""Where git looks for a ref by a part of its name, in this order."""
_ID: Final = re.compile(rb"[0-9a-fA-F]{4,64}")
"""Git's shortest abbreviation, to the longest id."""


class RevisionError(NotFoundError):
    """A repository has no such revision, or more than one."""

    def __init__(self, revision: bytes, problem: str, hint: str) -> None:
        super().__init__(f"cannot find '{show(revision)}': {problem}", hint=hint)
        self.revision = revision


def find_revision(tree: PublishedTree, supply: CommitSupply, revision: bytes = HEAD) -> Ref:
    """Return the object that `revision` means, and the node that claims to be it: nothing of it is proven.

    Raises:
        RevisionError: it means none, or, if it is an abbreviated id, several.
        CommitsTableError, CommitsTableTooLargeError: a table that is searched for an id is malformed.
        BlockNotFoundError, DecodeError: it can't be read.
    """
    if revision == HEAD:
        return _find_head(tree, supply)
    for place in _PLACES:
        if (ref := tree.refs.get(RefName(place + revision))) is not None:
            return ref
    if _ID.fullmatch(revision):
        found = _find_ids(tree, supply, revision.decode().lower())
        if len(found) == 1:
            return found[0]
        if found:
            raise RevisionError(revision, f"it abbreviates {len(found)} ids", "use more digits")
    raise RevisionError(
        revision,
        "there is no such branch, tag or other ref, nor such a commit",
        "the repository's file 'ipvcs.refs' lists its refs; expressions such as 'main~1' are git's alone",
    )


def _find_head(tree: PublishedTree, supply: CommitSupply) -> Ref:
    head = tree.manifest.head
    if isinstance(head, ObjectId):
        refs = (ref for ref in tree.refs.values() if ref.oid == head)
        if (ref := next(refs, None)) is not None:
            return ref
        if (cid := supply.find(head)) is not None:
            return Ref(head, cid)
    elif head in tree.refs:
        return tree.refs[head or RefName(b"")]
    where = "" if head is None else f", '{head if isinstance(head, ObjectId) else show(head)}',"
    raise RevisionError(HEAD, f"it{where} leads to no commit", "name a branch or tag behind the path")


def _find_ids(tree: PublishedTree, supply: CommitSupply, digits: str) -> list[Ref]:
    found = {ref.oid: ref for ref in tree.refs.values() if ref.oid.hex.startswith(digits)}
    length = 2 * tree.manifest.object_format.size
    if len(digits) < length:
        for oid, cid in supply.find_abbreviated(digits).items():
            found.setdefault(oid, Ref(oid, cid))
    elif not found and len(digits) == length and (node := supply.find(full := ObjectId.parse(digits))) is not None:
        found[full] = Ref(full, node)
    return list(found.values())
