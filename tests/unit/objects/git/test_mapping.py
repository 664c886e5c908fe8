"""Whole repositories, odd ones too: every object comes back, and the closure is what a second implementation makes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IntegrityError
from ipvcs.objects.git.mapping import Reference, references
from ipvcs.objects.git.modes import KIND_OF_TYPE, NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, git_oid
from ipvcs.objects.git.payload import GitType, PayloadError, split_payload
from tests.unit.objects.git.naive_mapping import NaiveMapping, map_object
from tests.unit.objects.git.repository import PEOPLE, Repository

MODES = [
    b"100644",
    b"100755",
    b"120000",
    b"40000",
    b"160000",
    b"100600",
    b"100664",
    b"120777",
    b"170000",
    b"0",
    b"040000",
]
NAMES = [b"a", b"b", b"c.txt", b"\xc3\xa9", b".ipvcs-tree", b"..", b".", b".GIT", b"a/b", b"\xff", b"", b".gitmodules"]
RESTS = [PEOPLE + b"\nm\n", b"\n", b"author A <a>\n\n", b"x", b"author \xff <\xfe> 1\ncommitter nobody\ngpgsig x\n y\n"]


@st.composite
def repositories(draw: st.DrawFn) -> tuple[Repository, list[ObjectId]]:
    """Draw a repository of up to a dozen objects, each of which may refer to any before it, rightly or wrongly."""
    repository = Repository(draw(st.sampled_from(ObjectFormat)))
    oids = [repository.blob(draw(st.binary(max_size=30)))]
    any_oid = st.deferred(lambda: st.sampled_from(oids))
    entries = st.tuples(st.sampled_from(MODES), st.sampled_from(NAMES) | st.binary(max_size=4), any_oid)
    for git_type in draw(st.lists(st.sampled_from(GitType), min_size=1, max_size=11)):
        if draw(st.integers(0, 9)) == 0:
            oids.append(repository.add(git_type, b"?" + draw(st.binary(max_size=80))))  # leads nowhere
        elif git_type is GitType.BLOB:
            oids.append(repository.blob(draw(st.binary(max_size=20) | st.sampled_from([b"tree 0\0", b"x" * 5000]))))
        elif git_type is GitType.TREE:
            wanted = draw(st.lists(entries, max_size=5))
            oids.append(repository.tree([(mode, name.replace(b"\0", b"0"), oid) for mode, name, oid in wanted]))
        elif git_type is GitType.COMMIT:
            targets = draw(st.lists(any_oid, min_size=1, max_size=4))
            oids.append(repository.commit(*targets, rest=draw(st.sampled_from(RESTS))))
        else:
            oids.append(repository.tag(draw(any_oid), draw(st.sampled_from(GitType))))
    return repository, oids


@given(repositories())
def test_every_object_of_any_repository_comes_back_and_its_closure_checks(
    drawn: tuple[Repository, list[ObjectId]],
) -> None:
    repository, oids = drawn
    payloads = {oid.raw: payload for oid, payload in repository.payloads.items()}
    oracle = NaiveMapping()
    for oid in oids:
        kind = KIND_OF_TYPE[split_payload(repository.payloads[oid])[0]]
        mapped = repository.round_trip(oid, kind)
        assert map_object(oracle, payloads, oid.raw, str(kind)) == (mapped.cid.raw, mapped.size)


def test_the_order_of_conversion_does_not_matter() -> None:
    one, two = Repository(), Repository()
    for repository, kinds in ((one, (NodeKind.EXECUTABLE, NodeKind.REGULAR)), (two, (NodeKind.REGULAR,))):
        blob = repository.blob(b"x")
        for kind in kinds:
            repository.map(blob, kind)
        tree = repository.tree([(b"100755", b"a", blob), (b"100644", b"b", blob)])
        repository.map(repository.commit(tree), NodeKind.COMMIT)
    assert one.memo == two.memo


@pytest.mark.parametrize("kind", [NodeKind.DIRECTORY, NodeKind.COMMIT, NodeKind.TAG, NodeKind.REGULAR])
def test_a_payload_of_another_type_or_id_is_refused(kind: NodeKind) -> None:
    repository = Repository()
    other = GitType.BLOB if kind is not NodeKind.REGULAR else GitType.TREE
    payload = f"{other} 0\0".encode()
    oid = git_oid(ObjectFormat.SHA1, payload)
    with pytest.raises(PayloadError, match=f"is a {other}, not a"):
        repository.mapper.map_payload(oid, kind, payload)
    with pytest.raises(IntegrityError):
        repository.mapper.map_payload(ObjectId(bytes(20)), kind, f"{kind.git_type} 0\0".encode())
    assert not repository.store.blocks or kind is NodeKind.REGULAR


def test_references_are_what_has_to_be_mapped_first() -> None:
    repository = Repository()
    blob, tree = repository.blob(b"x"), repository.tree([])
    entries = [(b"120000", b"b", blob), (b"160000", b"s", blob), (b"40000", b"..", tree), (b"100755", b"b", blob)]
    body = b"".join(b"%b %b\0%b" % (mode, name, oid.raw) for mode, name, oid in entries)
    expected = [Reference(blob, NodeKind.SYMLINK), Reference(tree, NodeKind.DIRECTORY)]
    assert references(GitType.TREE, body, ObjectFormat.SHA1)[:2] == expected
    assert references(GitType.TREE, body + b"junk", ObjectFormat.SHA1)[2:] == [Reference(blob, NodeKind.EXECUTABLE)]
    commit = b"tree %b\nparent %b\n\n" % (tree.hex.encode(), blob.hex.encode())
    assert references(GitType.COMMIT, commit, ObjectFormat.SHA1) == [expected[1], Reference(blob, NodeKind.COMMIT)]
    assert references(GitType.COMMIT, commit[1:], ObjectFormat.SHA1) == []
    tag = b"object %b\ntype tag\ntag x\n\n" % tree.hex.encode()
    assert references(GitType.TAG, tag, ObjectFormat.SHA1) == [Reference(tree, NodeKind.TAG)]
    assert references(GitType.BLOB, body, ObjectFormat.SHA1) == []


def test_a_memo_key_says_all_that_a_cid_depends_on() -> None:
    repository = Repository(ObjectFormat.SHA256, "cdc-1")
    oid = repository.blob(b"")
    assert repository.mapper.memo_key(oid, NodeKind.EXECUTABLE) == f"1/sha256/cdc-1/{oid}/executable".encode()
