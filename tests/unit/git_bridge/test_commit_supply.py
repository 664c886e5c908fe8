"""Commits come many at once, and tables that name what is gone, or lie, cost time at most."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ipvcs.errors import NotFoundError
from ipvcs.git_bridge import commit_supply
from ipvcs.git_bridge.commit_supply import ALONE, CommitSupply
from ipvcs.git_bridge.commits_table import encode_commits
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.objects.git.history import History
from ipvcs.objects.git.layout import put_file
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from tests.unit.git_bridge.published_history import RemoteBlocks, commit, publish
from tests.unit.objects.git.repository import Repository


def chain(repository: Repository, length: int, *, who: bytes = b"C") -> list[ObjectId]:
    """Return a history of `length` commits, the newest first."""
    oids: list[ObjectId] = []
    for number in range(length):
        oids.insert(0, commit(repository, number, *oids[:1], who=who))
    return oids


def walk(repository: Repository, tree: PublishedTree | None, reader: RemoteBlocks, start: ObjectId) -> list[ObjectId]:
    history = History(reader, repository.object_format, CommitSupply(reader, tree).bring)
    return [each.oid for each in history.iter_commits(repository.claim(start, NodeKind.COMMIT))]


def test_the_newest_come_one_by_one_and_the_rest_of_each_pack_at_once() -> None:
    repository = Repository()
    oids = chain(repository, 300)
    tree = publish(repository, [oids[200:], oids[100:200], oids[:100]], {b"refs/heads/main": oids[0]}, b"HEAD")
    reader = RemoteBlocks(repository, tree.packs.values())
    assert walk(repository, tree, reader, oids[0]) == oids
    assert [len(request) for request in reader.requests] == [*[1] * ALONE, 100 - ALONE, 100, 100]


def test_a_large_pack_comes_in_several_requests_that_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_supply, "_BATCH", 100)
    repository = Repository()
    oids = chain(repository, 350)
    tree = publish(repository, [oids], {b"refs/heads/main": oids[0]}, b"HEAD")
    reader = RemoteBlocks(repository, tree.packs.values())
    watched: list[int] = []

    @contextmanager
    def watch(total: int) -> Iterator[Callable[[int], None]]:
        watched.append(total)
        yield watched.append

    history = History(reader, repository.object_format, CommitSupply(reader, tree, watch).bring)
    assert len(list(history.iter_commits(repository.claim(oids[0], NodeKind.COMMIT)))) == 350
    assert watched == [350 - ALONE, 100, 100, 100, 50 - ALONE]
    assert len(reader.requests) == ALONE + 4


def test_who_wants_few_fetches_few() -> None:
    repository = Repository()
    oids = chain(repository, 300)
    tree = publish(repository, [oids], {b"refs/heads/main": oids[0]}, b"refs/heads/main")
    reader = RemoteBlocks(repository, tree.packs.values())
    history = History(reader, repository.object_format, CommitSupply(reader, tree).bring)
    commits = history.iter_commits(repository.claim(oids[0], NodeKind.COMMIT))
    assert [next(commits).oid for _ in range(5)] == oids[:5]
    assert len(reader.requests) == 5


def test_parents_of_one_commit_come_together_and_a_commit_alone_needs_no_tables() -> None:
    repository = Repository()
    parents = [commit(repository, number) for number in range(40)]
    merge = commit(repository, 50, *parents)
    reader = RemoteBlocks(repository)
    assert walk(repository, None, reader, merge) == [merge, *reversed(parents)]
    assert [len(request) for request in reader.requests] == [1, 40]


def test_long_names_come_with_the_commits_that_have_them() -> None:
    repository = Repository()
    oids = chain(repository, 40, who=b"C" * 100)
    tree = publish(repository, [oids], {b"refs/heads/main": oids[0]}, b"refs/heads/main")
    reader = RemoteBlocks(repository, tree.packs.values())
    assert walk(repository, tree, reader, oids[0]) == oids
    assert len(reader.requests) == ALONE + 1 + 1


def test_commits_that_are_gone_do_no_harm_unless_they_are_needed() -> None:
    repository = Repository()
    oids, forgotten = chain(repository, 50), commit(repository, 7)
    tree = publish(repository, [[*oids, forgotten]], {b"refs/heads/main": oids[0]}, b"refs/heads/main")
    reader = RemoteBlocks(repository, tree.packs.values())
    del reader.elsewhere[repository.map(forgotten, NodeKind.COMMIT).cid]
    assert walk(repository, tree, reader, oids[0]) == oids
    reader = RemoteBlocks(repository, tree.packs.values())
    del reader.elsewhere[repository.map(oids[30], NodeKind.COMMIT).cid]
    with pytest.raises(NotFoundError, match="nobody has"):
        walk(repository, tree, reader, oids[0])


def test_a_table_that_lies_is_no_hint() -> None:
    repository = Repository()
    oids, other = chain(repository, 30), commit(repository, 7)
    tree = publish(repository, [oids], {b"refs/heads/main": oids[0]}, b"refs/heads/main")
    wrong = repository.map(other, NodeKind.COMMIT)
    name = f"{tree.manifest.packs[0].name}.commits".encode()
    lie = put_file(encode_commits((oid, wrong.cid, wrong.size) for oid in oids), repository.store).link(name)
    tree = PublishedTree(tree.manifest, tree.refs, {**tree.packs, name: lie}, ())
    reader = RemoteBlocks(repository, tree.packs.values())
    assert walk(repository, tree, reader, oids[0]) == oids
    assert wrong.cid not in reader.here
