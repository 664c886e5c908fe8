"""Histories are walked as git walks them, and nothing of them is believed."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IntegrityError
from ipvcs.multiformats import codecs
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.objects.git.check import Claim
from ipvcs.objects.git.history import History, NoHistoryError, identify
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.payload import GitType
from tests.unit.objects.git.repository import Repository


def commit(repository: Repository, time: int, *parents: ObjectId, message: bytes = b"") -> ObjectId:
    people = b"author A <a> 1 +0000\ncommitter C <c> %d +0000\n\n" % time
    return repository.commit(repository.tree([]), *parents, rest=people + message)


def walk(repository: Repository, start: ObjectId, *, first_parent: bool = False) -> list[ObjectId]:
    history = History(repository.store, repository.object_format)
    commits = history.iter_commits(repository.claim(start, NodeKind.COMMIT), first_parent=first_parent)
    return [each.oid for each in commits]


def test_the_newest_comes_first_whatever_branch_it_is_on() -> None:
    repository = Repository()
    root = commit(repository, 1)
    left, right = commit(repository, 2, root), commit(repository, 3, root)
    newer_left, newer_right = commit(repository, 4, left), commit(repository, 5, right)
    merge = commit(repository, 6, newer_left, newer_right)
    assert walk(repository, merge) == [merge, newer_right, newer_left, right, left, root]
    assert walk(repository, merge, first_parent=True) == [merge, newer_left, left, root]


def test_of_one_date_the_first_found_comes_first_and_wrong_clocks_change_the_order() -> None:
    repository = Repository()
    root = commit(repository, 9, message=b"from the future")
    left, right = commit(repository, 5, root, message=b"l"), commit(repository, 5, root, message=b"r")
    merge = commit(repository, 6, left, right)
    assert walk(repository, merge) == [merge, left, root, right]


def test_a_parent_that_is_named_twice_comes_once() -> None:
    repository = Repository()
    root = commit(repository, 1)
    assert walk(repository, twice := commit(repository, 2, root, root)) == [twice, root]


@given(st.data())
def test_each_commit_comes_once_and_after_one_of_its_children(data: st.DataObject) -> None:
    repository = Repository()
    oids: list[ObjectId] = []
    parents_of: dict[ObjectId, Sequence[ObjectId]] = {}
    for number in range(data.draw(st.integers(1, 12))):
        parents = data.draw(st.lists(st.sampled_from(oids), max_size=3)) if oids else []
        oids.append(commit(repository, data.draw(st.integers(0, 3)), *parents, message=b"%d" % number))
        parents_of[oids[-1]] = parents
    reached = {oids[-1]}
    for oid in walk(repository, oids[-1]):
        assert oid in reached
        reached |= set(parents_of[oid])
    assert sorted(walk(repository, oids[-1])) == sorted(reached)


def test_a_parent_is_read_only_when_it_is_asked_for() -> None:
    repository = Repository()
    root = commit(repository, 1)
    tip = repository.claim(commit(repository, 2, root), NodeKind.COMMIT)
    del repository.store.blocks[repository.claim(root, NodeKind.COMMIT).cid]
    asked: list[list[ObjectId]] = []
    history = History(repository.store, ObjectFormat.SHA1, lambda claims: asked.append([each.oid for each in claims]))
    commits = history.iter_commits(tip)
    first = next(commits)
    assert (first.oid, first.parents[0].oid, asked) == (tip.oid, root, [[tip.oid]])
    with pytest.raises(BlockNotFoundError):
        next(commits)
    assert asked == [[tip.oid], [root]]


def test_a_node_that_carries_another_commit_is_refused_after_what_is_true() -> None:
    repository = Repository()
    root, other = commit(repository, 1), commit(repository, 1, message=b"other")
    repository.map(other, NodeKind.COMMIT)
    true = repository.claim(commit(repository, 2, root), NodeKind.COMMIT)
    node = dag_pb.decode(repository.store.get(true.cid))
    wrong = repository.claim(other, NodeKind.COMMIT).cid
    links = tuple(link._replace(cid=wrong) if link.name == b"parent" else link for link in node.links)
    lie = Block.of(dag_pb.encode(replace(node, links=links)), codecs.DAG_PB)
    repository.store.put(lie)
    commits = History(repository.store, ObjectFormat.SHA1).iter_commits(replace(true, cid=lie.cid))
    assert next(commits).oid == true.oid
    with pytest.raises(IntegrityError, match="link 'parent'"):
        next(commits)
    with pytest.raises(IntegrityError):
        next(History(repository.store, ObjectFormat.SHA1).iter_commits(replace(true, oid=other)))


def test_a_parent_that_is_no_commit_is_refused_as_git_refuses_it() -> None:
    repository = Repository()
    blob = repository.blob(b"no commit")
    tip = repository.claim(commit(repository, 2, blob), NodeKind.COMMIT)
    commits = History(repository.store, ObjectFormat.SHA1).iter_commits(tip)
    next(commits)
    with pytest.raises(IntegrityError, match="it is a blob, and should be a commit"):
        next(commits)


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_a_cid_alone_says_which_object_of_which_format_it_is(object_format: ObjectFormat) -> None:
    repository = Repository(object_format)
    oid = commit(repository, 1)
    tag = repository.tag(repository.tag(oid, GitType.COMMIT), GitType.TAG)
    for each, kind in ((oid, NodeKind.COMMIT), (tag, NodeKind.TAG)):
        mapped = repository.map(each, kind)
        assert identify(repository.store, mapped.cid) == (Claim(each, kind, mapped.cid), object_format)
    peeled = History(repository.store, object_format).peel(repository.claim(tag, NodeKind.TAG))
    assert (peeled.oid, peeled.kind) == (oid, NodeKind.COMMIT)


def test_a_commit_whose_header_does_not_parse_is_a_history_of_one() -> None:
    repository = Repository()
    oid = repository.add(GitType.COMMIT, b"no header\n\nmessage")
    claim, object_format = identify(repository.store, repository.map(oid, NodeKind.COMMIT).cid)
    (only,) = History(repository.store, object_format).iter_commits(claim)
    assert (only.oid, only.tree, only.parents, only.time) == (oid, None, (), 0)


def test_what_leads_to_no_commit_has_no_history() -> None:
    repository = Repository()
    blob, tree = repository.blob(b"x"), repository.tree([])
    for target, kind, what in ((blob, GitType.BLOB, "a blob"), (tree, GitType.TREE, "a tree")):
        tag = repository.claim(repository.tag(target, kind), NodeKind.TAG)
        with pytest.raises(NoHistoryError, match=what):
            History(repository.store, ObjectFormat.SHA1).peel(tag)
    for oid, node_kind, what in ((blob, NodeKind.REGULAR, "a file"), (tree, NodeKind.DIRECTORY, "a directory")):
        with pytest.raises(NoHistoryError, match=what):
            identify(repository.store, repository.map(oid, node_kind).cid)
    broken = repository.claim(repository.add(GitType.TAG, b"no header\n\nmessage"), NodeKind.TAG)
    with pytest.raises(NoHistoryError, match="a tag that leads nowhere"):
        History(repository.store, ObjectFormat.SHA1).peel(broken)
