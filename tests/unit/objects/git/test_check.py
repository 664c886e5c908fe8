"""Nodes that lie are found: in each of their links, and wherever below a root they are."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IpvcsError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.git.check import BlobTooLargeError, Checker, Claim
from ipvcs.objects.git.closure import iter_verified, verify_closure
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.node import GitNodeError, PayloadTooLargeError
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.opaque import put_opaque
from ipvcs.objects.git.payload import GitType, split_payload
from tests.unit.objects.git.repository import PEOPLE, Repository

MIB = 1024 * 1024
LONG_NAME = b"author " + b"n" * 70 + b" <a@example.com> 1 +0000\n\n"


def build_repository() -> tuple[Repository, ObjectId]:
    """Return a repository with every form of node, and the tag that leads to all of it."""
    repository = Repository()
    small, large = repository.blob(b"small"), repository.blob(b"l" * MIB + b"arge")
    inner = repository.tree([(b"100644", b"a", small), (b"100755", b"b", large), (b"120000", b"c", small)])
    opaque = repository.tree([(b"100644", b"..", small), (b"40000", b"d", inner)])
    mismatched = repository.tree([(b"100644", b"x", inner), (b"100644", b"y", small)])
    wide = repository.tree([(b"100644", b"n" * 4000 + b"%02d" % i, small) for i in range(20)])  # over 64 KiB
    wider = repository.tree([(b"100644", b"n" * 4000 + b"%02d" % i, small) for i in range(70)])  # sharded
    names = [(b"i", inner), (b"m", mismatched), (b"o", opaque), (b"w", wide), (b"x", wider)]
    root = repository.tree([*((b"40000", name, oid) for name, oid in names), (b"160000", b"s", small)])
    first = repository.commit(root, rest=LONG_NAME)
    second = repository.commit(inner, first, rest=PEOPLE + b"\n" + b"m" * 300_000)
    merge = repository.commit(root, first, second, small)
    tag = repository.tag(merge, GitType.COMMIT)
    repository.map(tag, NodeKind.TAG)
    return repository, tag


REPOSITORY, TAG = build_repository()
BLOCKS = dict(REPOSITORY.store.blocks)
CLAIMS = list(iter_verified(REPOSITORY.checker, [REPOSITORY.claim(TAG, NodeKind.TAG)]))


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    REPOSITORY.store.blocks = dict(BLOCKS)


def name_of(claim: Claim) -> str:
    return f"{claim.kind}-{(claim.name or b'root').decode()[-6:]}"


Tamper = Callable[[PBNode], PBNode | None]


def change_link(index: int, change: Callable[[PBLink], PBLink]) -> Tamper:
    def tamper(node: PBNode) -> PBNode | None:
        if not -len(node.links) <= index < len(node.links):
            return None
        links = list(node.links)
        links[index] = change(links[index])
        return replace(node, links=tuple(links))

    return tamper


def swap_targets(node: PBNode) -> PBNode | None:
    if len({link.cid for link in node.links}) < 2:
        return None
    first, *rest, last = node.links
    return replace(node, links=(first._replace(cid=last.cid), *rest, last._replace(cid=first.cid)))


EXTRA = PBLink(Cid.of(bytes(32)), b"zzz", 1)
TAMPERS: dict[str, Tamper] = {
    "size of the first link": change_link(0, lambda link: link._replace(size=(link.size or 0) + 1)),
    "size of the last link": change_link(-1, lambda link: link._replace(size=(link.size or 1) - 1)),
    "no size": change_link(0, lambda link: link._replace(size=None)),
    "another target": change_link(-1, lambda link: link._replace(cid=Cid.of(bytes(32), link.cid.codec))),
    "v0 target": change_link(
        0, lambda link: link._replace(cid=link.cid.to_v0() if link.cid.codec == codecs.DAG_PB else EXTRA.cid)
    ),
    "another name": change_link(-1, lambda link: link._replace(name=(link.name or b"") + b"x")),
    "no name": change_link(0, lambda link: link._replace(name=None)),
    "targets swapped": swap_targets,
    "a link more": lambda node: replace(node, links=(*node.links, EXTRA)),
    "a link twice": lambda node: replace(node, links=(*node.links, *node.links[-1:])) if node.links else None,
    "a link less": lambda node: replace(node, links=node.links[1:]) if node.links else None,
    "links turned round": lambda node: replace(node, links=node.links[::-1]) if len(node.links) > 1 else None,
    "other data": lambda node: replace(node, data=(node.data or b"")[:-1] + b"\xff"),
    "more data": lambda node: replace(node, data=(node.data or b"") + b"\x48\x01"),
    "no data": lambda node: replace(node, data=None),
}


def remembering() -> Checker:
    """Return a checker that remembers all of the honest repository."""
    checker = Checker(REPOSITORY.store, REPOSITORY.object_format, REPOSITORY.profile, remembers=True)
    verify_closure(checker, [REPOSITORY.claim(TAG, NodeKind.TAG)])
    return checker


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("tamper", TAMPERS)
def test_a_node_changed_in_any_way_is_refused(tamper: str, remembers: bool) -> None:
    checker = remembering() if remembers else REPOSITORY.checker
    changes = 0
    for claim in CLAIMS:
        if claim.cid.codec != codecs.DAG_PB:
            continue
        node = dag_pb.decode(BLOCKS[claim.cid])
        changed = TAMPERS[tamper](node)
        if changed is None or changed == node:
            continue
        changes += 1
        block = Block.of(dag_pb.encode_parts(changed.links, changed.data), codecs.DAG_PB)
        REPOSITORY.store.put(block)
        with pytest.raises((GitNodeError, BlockNotFoundError)):
            check_with_children(checker, replace(claim, cid=block.cid, size=None))
    assert changes > 5


def check_with_children(checker: Checker, claim: Claim) -> None:
    """A lie is found in the node itself, or in the child that it is about."""
    for child in checker.check(claim):
        checker.check(child)


@pytest.mark.parametrize("claim", CLAIMS, ids=name_of)
def test_a_claim_with_another_size_id_or_kind_is_refused(claim: Claim) -> None:
    git_type, body = split_payload(REPOSITORY.payloads[claim.oid])
    lies = [replace(claim, size=(claim.size or 0) + 1), replace(claim, oid=ObjectId(bytes(20)))]
    if claim.kind.git_type is git_type:  # and not carried verbatim
        lies += [replace(claim, kind=kind) for kind in NodeKind if kind is not claim.kind]
    for lie in lies:
        if {lie.kind, claim.kind} == {NodeKind.REGULAR, NodeKind.SYMLINK} and len(body) > 4096:
            continue  # no lie: such a symlink is a plain file
        with pytest.raises(GitNodeError):
            REPOSITORY.checker.check(lie)


@given(st.data())
def test_any_block_that_the_reader_gives_wrongly_is_noticed(data: st.DataObject) -> None:
    cid = data.draw(st.sampled_from(sorted(BLOCKS)))
    original = BLOCKS[cid]
    position = data.draw(st.integers(0, len(original) - 1))
    changed = (
        original[:position] + bytes([original[position] ^ data.draw(st.integers(1, 255))]) + original[position + 1 :]
    )
    REPOSITORY.store.blocks[cid] = changed
    try:
        with pytest.raises(IpvcsError):
            verify_closure(REPOSITORY.checker, [REPOSITORY.claim(TAG, NodeKind.TAG)])
    finally:
        REPOSITORY.store.blocks[cid] = original


def test_any_missing_block_is_noticed() -> None:
    root = REPOSITORY.claim(TAG, NodeKind.TAG)
    needed = sorted(needed_blocks())
    own_nodes = {claim.cid for claim in CLAIMS}
    parts = [cid for cid in needed if cid not in own_nodes]  # leaves, shards, payloads, people
    assert len(parts) > 10
    for cid in [*own_nodes, *parts]:
        del REPOSITORY.store.blocks[cid]
        with pytest.raises(BlockNotFoundError, match=str(cid)):
            verify_closure(REPOSITORY.checker, [root])
        REPOSITORY.store.blocks[cid] = BLOCKS[cid]


def needed_blocks() -> set[Cid]:
    """Return what the closure of the tag links, by walking it as a stranger would."""
    found: set[Cid] = set()
    pending = [REPOSITORY.map(TAG, NodeKind.TAG).cid]
    while pending:
        cid = pending.pop()
        if cid in found or cid.is_identity:
            continue
        found.add(cid)
        if cid.codec == codecs.DAG_PB:
            pending += [link.cid for link in dag_pb.decode(BLOCKS[cid]).links]
    return found


def test_the_whole_closure_is_checked_and_each_node_once() -> None:
    assert len({(claim.cid, claim.kind, claim.oid, claim.may_be_verbatim) for claim in CLAIMS}) == len(CLAIMS)
    REPOSITORY.store.gets.clear()
    assert verify_closure(REPOSITORY.checker, [REPOSITORY.claim(TAG, NodeKind.TAG)]) == len(CLAIMS)
    assert set(REPOSITORY.store.gets) == needed_blocks()


def test_what_was_claimed_before_is_remembered_and_nothing_is_left_out() -> None:
    repository = Repository()
    blobs = [repository.blob(b"%d" % number) for number in range(20)]
    entries = [(b"100644", b"name %02d" % number, oid) for number, oid in enumerate(blobs)]
    trees = [repository.tree(entries)]
    for number in range(10):
        entries[number] = (b"100755", entries[number][1], blobs[-1 - number])
        trees.append(repository.tree([*entries, (b"40000", b"z%d" % number, trees[-1])]))
    claims = [repository.claim(tree, NodeKind.DIRECTORY) for tree in trees]
    plain = [repository.checker.check(claim) for claim in claims]
    checker = Checker(repository.store, repository.object_format, repository.profile, remembers=True)
    fewer = [checker.check(claim) for claim in claims]
    assert [len(children) for children in fewer] == [20] + [2] * 10
    assert {(child.oid, child.kind, child.cid) for each in fewer for child in each} == {
        (child.oid, child.kind, child.cid) for each in plain for child in each
    }


def test_a_link_that_contradicts_what_is_remembered_is_claimed_as_well() -> None:
    repository = Repository()
    small, other = repository.blob(b"small"), repository.blob(b"other")
    tree = repository.tree([(b"100644", b"a", small)])
    honest = repository.claim(tree, NodeKind.DIRECTORY)
    node = dag_pb.decode(repository.store.get(honest.cid))
    links = tuple(link._replace(cid=repository.map(other, NodeKind.REGULAR).cid) for link in node.links)
    lie = Block.of(dag_pb.encode_parts(links, node.data), codecs.DAG_PB)
    repository.store.put(lie)
    checker = Checker(repository.store, repository.object_format, repository.profile, remembers=True)
    checker.check(honest)
    (child,) = checker.check(Claim(tree, NodeKind.DIRECTORY, lie.cid))
    with pytest.raises(GitNodeError):
        checker.check(child)


def test_a_wrong_link_is_named_with_its_parent() -> None:
    claim = next(claim for claim in CLAIMS if claim.name == b"i")
    node = dag_pb.decode(BLOCKS[claim.cid])
    for links, problem in (
        ((*node.links, EXTRA), "it has a link 'zzz' that its payload does not imply"),
        (node.links[1:], "it lacks the link 'a' that its payload implies"),
    ):
        block = Block.of(dag_pb.encode_parts(links, node.data), codecs.DAG_PB)
        REPOSITORY.store.put(block)
        with pytest.raises(GitNodeError, match=problem) as caught:
            REPOSITORY.checker.check(replace(claim, cid=block.cid))
        assert f"link 'i' of '{claim.parent}'" in str(caught.value)
    with pytest.raises(GitNodeError, match=r"its size is \d+, and the link to it says 5"):
        REPOSITORY.checker.check(replace(claim, size=5))


def test_an_opaque_tree_must_have_a_reason() -> None:
    repository = Repository()
    blob = repository.blob(b"x")
    plain = repository.tree([(b"100644", b"a", blob)])
    mapped = repository.map(blob, NodeKind.REGULAR)
    fake = put_opaque(repository.payloads[plain], {0: mapped}, repository.store)
    with pytest.raises(GitNodeError, match="is not valid"):
        repository.checker.check(Claim(plain, NodeKind.DIRECTORY, fake.cid))


def test_a_tree_passed_off_as_a_file_is_refused() -> None:
    repository = Repository()
    tree = repository.tree([])
    commit = repository.commit(tree)
    right = repository.map(commit, NodeKind.COMMIT)
    verbatim = repository.mapper.map_payload(tree, NodeKind.VERBATIM, repository.payloads[tree])
    node = dag_pb.decode(repository.store.get(right.cid))
    links = tuple(verbatim.link(b"object") if link.name == b"object" else link for link in node.links)
    block = Block.of(dag_pb.encode_parts(links, node.data), codecs.DAG_PB)
    repository.store.put(block)
    with pytest.raises(GitNodeError, match=r"link 'object' of .*it is a file, and should be a directory"):
        verify_closure(repository.checker, [Claim(commit, NodeKind.COMMIT, block.cid)])


def test_limits_stop_payloads_and_blobs_before_they_are_read() -> None:
    checker = Checker(REPOSITORY.store, ObjectFormat.SHA1, "unixfs-v1-2025", max_payload=70_000, max_blob=100)
    with pytest.raises(PayloadTooLargeError, match="over the limit of 70000"):
        verify_closure(checker, [claim for claim in CLAIMS if claim.name == b"x"])
    with pytest.raises(BlobTooLargeError, match="over the limit of 100"):
        verify_closure(checker, [claim for claim in CLAIMS if claim.kind is NodeKind.EXECUTABLE])


def test_what_is_known_is_not_read_again() -> None:
    first = next(claim for claim in CLAIMS if claim.name == b"parent")
    REPOSITORY.store.gets.clear()
    checked = list(iter_verified(REPOSITORY.checker, [CLAIMS[0]], lambda claim: claim.cid == first.cid))
    assert first.cid not in REPOSITORY.store.gets
    assert all(claim.cid != first.cid for claim in checked)


def test_a_node_under_another_profile_is_refused() -> None:
    claim = next(claim for claim in CLAIMS if claim.kind is NodeKind.EXECUTABLE)
    other = Checker(REPOSITORY.store, ObjectFormat.SHA1, "unixfs-v0-2015")
    with pytest.raises(GitNodeError, match="is not valid"):
        other.check(claim)


def test_a_history_deeper_than_any_stack_is_checked() -> None:
    repository = Repository()
    tree = repository.tree([])
    commit = repository.commit(tree)
    for _ in range(3000):
        commit = repository.commit(tree, commit, rest=b"\n")
    assert verify_closure(repository.checker, [repository.claim(commit, NodeKind.COMMIT)]) == 3002


@given(st.binary(max_size=60), st.sampled_from(NodeKind), st.sampled_from([codecs.RAW, codecs.DAG_PB, codecs.DAG_CBOR]))
def test_garbage_raises_only_our_errors(data: bytes, kind: NodeKind, codec: int) -> None:
    repository = Repository()
    block = Block.of(data, codec)
    repository.store.put(block)
    with pytest.raises(GitNodeError, match=str(block.cid)):
        repository.checker.check(Claim(ObjectId(bytes(20)), kind, block.cid, may_be_verbatim=True))
