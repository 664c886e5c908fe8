"""A revision means what it means to git, where it is a ref's name or an id."""

import pytest

from ipvcs.git_bridge.commit_supply import CommitSupply
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.git_bridge.revision import RevisionError, find_revision
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType
from tests.unit.git_bridge.published_history import RemoteBlocks, commit, publish
from tests.unit.objects.git.repository import Repository

REPOSITORY = Repository()
ROOT = commit(REPOSITORY, 1)
MAIN, SIDE, BOTH, NOTES = (commit(REPOSITORY, number, ROOT) for number in range(2, 6))
TAG = REPOSITORY.tag(ROOT, GitType.COMMIT)
REFS = {
    b"refs/heads/main": MAIN, b"refs/heads/feature/a": SIDE, b"refs/heads/vboth": BOTH, b"refs/tags/vboth": TAG,
    b"refs/tags/v1": TAG, b"refs/notes/commits": NOTES, b"refs/heads/\xff": SIDE, b"refs/remotes/o/x": SIDE,
}  # fmt: skip


def published(head: bytes | ObjectId = b"refs/heads/main") -> PublishedTree:
    return publish(REPOSITORY, [[ROOT, SIDE], [MAIN, BOTH, NOTES]], REFS, head)


def find(revision: bytes, tree: PublishedTree | None = None) -> ObjectId:
    chosen = published() if tree is None else tree
    reader = RemoteBlocks(REPOSITORY, chosen.packs.values())
    return find_revision(chosen, CommitSupply(reader, chosen), revision).oid


@pytest.mark.parametrize(
    ("revision", "oid"),
    [
        (b"HEAD", MAIN),
        (b"main", MAIN),
        (b"heads/main", MAIN),
        (b"refs/heads/main", MAIN),
        (b"feature/a", SIDE),
        (b"\xff", SIDE),
        (b"v1", TAG),
        (b"vboth", TAG),
        (b"heads/vboth", BOTH),
        (b"notes/commits", NOTES),
        (b"o/x", SIDE),
        (ROOT.hex.encode(), ROOT),
        (ROOT.hex.upper()[:12].encode(), ROOT),
        (TAG.hex.encode()[:12], TAG),
    ],
)
def test_a_revision_is_found_where_git_finds_it(revision: bytes, oid: ObjectId) -> None:
    assert find(revision) == oid


@pytest.mark.parametrize("revision", [b"nope", b"main~1", b"", b"refs/heads", b"1234567", ROOT.hex.encode() + b"0"])
def test_what_is_none_is_refused_with_what_there_is(revision: bytes) -> None:
    with pytest.raises(RevisionError, match="no such branch, tag or other ref") as caught:
        find(revision)
    assert "ipvcs.refs" in (caught.value.hint or "")


def test_an_abbreviation_of_several_ids_is_refused() -> None:
    repository = Repository()
    oids: dict[str, ObjectId] = {}
    number = 0
    while (oid := commit(repository, number)).hex[:4] not in oids:
        oids[oid.hex[:4]] = oid
        number += 1
    tree = publish(repository, [[oid, oids[oid.hex[:4]]]], {}, oid)
    reader = RemoteBlocks(repository, tree.packs.values())
    with pytest.raises(RevisionError, match="abbreviates 2 ids"):
        find_revision(tree, CommitSupply(reader, tree), oid.hex[:4].encode())


def test_a_detached_head_is_looked_up_and_one_that_leads_nowhere_is_said() -> None:
    assert find(b"HEAD", published(head=ROOT)) == ROOT
    assert find(b"HEAD", published(head=TAG)) == TAG
    for head in (b"refs/heads/gone", ObjectId(b"\1" * 20)):
        with pytest.raises(RevisionError, match="leads to no commit"):
            find(b"HEAD", published(head=head))
