"""A history begins where a path and a revision say."""

import pytest

from ipvcs.git_bridge.history_start import NoRevisionsError, find_snapshot, find_start
from ipvcs.git_bridge.published_tree import write_published
from ipvcs.git_bridge.refname import RefName
from ipvcs.objects.directory import build_directory
from ipvcs.objects.git.history import NoHistoryError
from ipvcs.objects.git.layout import LAYOUT
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.payload import GitType
from ipvcs.objects.path import PathError, parse_path
from tests.unit.git_bridge.published_history import RemoteBlocks, commit, publish
from tests.unit.objects.git.repository import Repository

REPOSITORY = Repository(ObjectFormat.SHA256)
ROOT = commit(REPOSITORY, 1)
MAIN, SIDE = commit(REPOSITORY, 2, ROOT), commit(REPOSITORY, 3, ROOT)
TAG = REPOSITORY.tag(ROOT, GitType.COMMIT)
REFS = {b"refs/heads/main": MAIN, b"refs/heads/feature/a": SIDE, b"refs/tags/v1": TAG}
TREE = publish(REPOSITORY, [[ROOT, MAIN, SIDE]], REFS, b"refs/heads/main")
PUBLISHED = write_published(TREE, {}, REPOSITORY.store)
OUTER = build_directory([PUBLISHED.link(b"heads")], LAYOUT, REPOSITORY.store).cid


def start(path: str, revision: bytes | None = None) -> ObjectId:
    reader = RemoteBlocks(REPOSITORY)
    reader.here = REPOSITORY.store.blocks
    history, claim = find_start(reader, parse_path(path), revision)
    assert next(history.iter_commits(claim)).oid == claim.oid
    return claim.oid


def test_a_commit_a_tag_a_repository_and_its_snapshots_have_one() -> None:
    assert start(f"{REPOSITORY.map(SIDE, NodeKind.COMMIT).cid}") == SIDE
    assert start(f"{REPOSITORY.map(SIDE, NodeKind.COMMIT).cid}/parent") == ROOT
    assert start(f"{REPOSITORY.map(TAG, NodeKind.TAG).cid}") == ROOT
    assert start(f"{OUTER}/heads") == MAIN
    assert start(f"{OUTER}/heads", b"feature/a") == SIDE
    assert start(f"{OUTER}/heads/heads/feature/a") == SIDE
    assert start(f"{OUTER}/heads/tags/v1") == ROOT


def test_nothing_else_has_and_a_revision_needs_a_repository() -> None:
    with pytest.raises(NoHistoryError, match="a directory, which has no history"):
        start(f"{OUTER}")
    with pytest.raises(NoHistoryError, match="a directory"):
        start(f"{OUTER}/heads/objects/pack")
    with pytest.raises(PathError, match="no link named"):
        start(f"{OUTER}/heads/tags/v2")
    for path in (f"{OUTER}", f"{REPOSITORY.map(SIDE, NodeKind.COMMIT).cid}", f"{OUTER}/heads/objects"):
        with pytest.raises(NoRevisionsError, match="in which 'main' could be found"):
            start(path, b"main")


def test_the_path_of_a_snapshot_means_its_ref() -> None:
    for path, refname in (
        ("heads/heads/main", b"refs/heads/main"),
        ("heads/heads/feature/a", b"refs/heads/feature/a"),
        ("heads/tags/v1", b"refs/tags/v1"),
        ("heads/heads/main/src", None),
        ("heads/heads", None),
        ("heads/objects", None),
        ("heads", None),
    ):
        found = find_snapshot(REPOSITORY.store, parse_path(f"{OUTER}/{path}"))
        assert (found and found[1]) == (None if refname is None else TREE.refs[RefName(refname)]), path
