"""Trees: plain, sharded and opaque, each against the document's own words."""

import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, directory, unixfs
from ipvcs.objects.commit import MAX_LINK_SIZE
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.node import NodeForm, read_node
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.payload import GitType
from ipvcs.objects.hamt_shard import hash_name
from ipvcs.objects.unixfs import DataType
from tests.unit.objects.git.naive_mapping import NaiveMapping, map_object
from tests.unit.objects.git.repository import Repository

FILE, EXECUTABLE, SYMLINK, DIRECTORY, GITLINK = b"100644", b"100755", b"120000", b"40000", b"160000"
COLLIDING = (b"ieqh524yng5by1a2rogubbb8ayn1b7o2", b"7ut12aed5ou55z8sB#bm)n,21]i5c#La")
"""Two names with one murmur3 hash, all 128 bits of it."""


def mapped_as_documented(repository: Repository, oid: ObjectId) -> Mapped:
    """Round-trip a tree; the naive mapping must have the same blocks."""
    mapped = repository.round_trip(oid, NodeKind.DIRECTORY)
    oracle = NaiveMapping()
    payloads = {each.raw: payload for each, payload in repository.payloads.items()}
    assert map_object(oracle, payloads, oid.raw, "directory") == (mapped.cid.raw, mapped.size)
    assert {cid.raw: data for cid, data in repository.store.blocks.items()} == oracle.blocks
    return mapped


def names_of(repository: Repository, cid: Cid) -> list[bytes]:
    node = dag_pb.decode(repository.store.get(cid))
    return [link.name or b"" for link in directory.iter_directory(repository.store, node)]


def form_of(repository: Repository, mapped: Mapped) -> NodeForm:
    return read_node(repository.store, mapped.cid).form


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_a_tree_links_everything_but_gitlinks_under_its_name(object_format: ObjectFormat) -> None:
    repository = Repository(object_format)
    blob = repository.blob(b"#!/bin/sh\n")
    empty = repository.tree([])
    entries = [(FILE, b"z"), (EXECUTABLE, b"x"), (SYMLINK, b"\xc3\xa9"), (GITLINK, b"submodule"), (b"100664", b"y")]
    absent = ObjectId(bytes(object_format.size))
    oid = repository.tree(
        [*((m, n, absent if m == GITLINK else blob) for m, n in entries), (b"040000", b"empty", empty)]
    )
    mapped = mapped_as_documented(repository, oid)
    assert names_of(repository, mapped.cid) == [b"empty", b"x", b"y", b"z", b"\xc3\xa9"]
    assert form_of(repository, mapped) is NodeForm.TREE


def test_the_empty_tree_is_a_directory_with_its_payload() -> None:
    repository = Repository()
    mapped = mapped_as_documented(repository, repository.tree([]))
    assert repository.store.get(mapped.cid) == b"\x0a\x0b\x08\x01\x12\x07tree 0\0"


@pytest.mark.parametrize(("padding", "is_inline"), [(0, True), (1, False)])
def test_a_payload_over_64_kib_is_a_file_entry(padding: int, is_inline: bool) -> None:
    repository = Repository()
    blob = repository.blob(b"")
    fixed = len(b"tree 65525\0") + len(b"100644 \0") + 20
    oid = repository.tree([(FILE, b"n" * (64 * 1024 - fixed + padding), blob)])
    assert len(repository.payloads[oid]) == 64 * 1024 + padding
    mapped = mapped_as_documented(repository, oid)
    assert (b".ipvcs-tree" in names_of(repository, mapped.cid)) is not is_inline
    data = unixfs.decode(dag_pb.decode(repository.store.get(mapped.cid)).data or b"")
    assert (data.data == repository.payloads[oid]) is is_inline


@pytest.mark.parametrize(("padding", "is_sharded"), [(0, False), (1, True)])
def test_a_tree_is_sharded_iff_its_block_without_payload_exceeds_262144_bytes(padding: int, is_sharded: bool) -> None:
    repository = Repository()
    blob = repository.blob(b"")
    target = repository.map(blob, NodeKind.REGULAR)

    def flat_size(names: list[bytes]) -> int:
        return len(dag_pb.encode_parts([target.link(name) for name in names], None))

    names = [b"%04d" % i + b"n" * 60 for i in range(2425)]
    rest = 262_144 + padding - len(b"\x0a\x02\x08\x01") - flat_size(names)
    names.append(next(b"x" * length for length in range(300) if flat_size([b"x" * length]) == rest))
    mapped = repository.round_trip(repository.tree([(FILE, name, blob) for name in names]), NodeKind.DIRECTORY)
    root = dag_pb.decode(repository.store.get(mapped.cid))
    assert (unixfs.decode(root.data or b"").type is DataType.HAMT_SHARD) is is_sharded
    assert sorted(names_of(repository, mapped.cid)) == sorted([*names, b".ipvcs-tree"])


def test_a_sharded_tree_keeps_its_payload_in_the_file_entry() -> None:
    repository = Repository()
    blob = repository.blob(b"x")
    oid = repository.tree([(FILE, b"%05d" % i, blob) for i in range(6000)])
    mapped = repository.round_trip(oid, NodeKind.DIRECTORY)
    root = dag_pb.decode(repository.store.get(mapped.cid))
    assert unixfs.decode(root.data or b"").type is DataType.HAMT_SHARD
    link = directory.lookup(repository.store, root, b".ipvcs-tree")
    assert link is not None
    assert FileReader(repository.store, link.cid).read() == repository.payloads[oid]


@pytest.mark.parametrize(
    "names",
    [
        [b""], [b"."], [b".."], [b".git"], [b".GIT"], [b".ipvcs-tree"], [b"\xff"], [b"a/b"], [b"a", b"b", b"a"],
        [b"b", b"", b"a"],
    ],
)  # fmt: skip
def test_a_tree_with_such_a_name_is_opaque_and_keeps_all_its_children(names: list[bytes]) -> None:
    repository = Repository()
    blob = repository.blob(b"x")
    mapped = mapped_as_documented(repository, repository.tree([(FILE, name, blob) for name in names]))
    assert form_of(repository, mapped) is NodeForm.OPAQUE_TREE
    assert names_of(repository, mapped.cid) == [b"links", b"payload"]
    links = dag_pb.decode(repository.store.get(mapped.cid)).links[0].cid
    assert names_of(repository, links) == [b"%d" % index for index in range(len(names))]


@pytest.mark.parametrize("cut", [1, 20, 21, 22, 27, 28])
def test_a_tree_that_does_not_parse_is_opaque_with_the_children_before(cut: int) -> None:
    repository = Repository()
    one, two = repository.blob(b"1"), repository.blob(b"2")
    body = b"100755 a\0" + one.raw + b"160000 b\0" + bytes(20) + b"40000 c\0" + repository.tree([]).raw
    body += b"100644 d\0" + two.raw
    mapped = mapped_as_documented(repository, repository.add(GitType.TREE, body[:-cut]))
    links = dag_pb.decode(repository.store.get(mapped.cid)).links[0].cid
    assert names_of(repository, links) == [b"0", b"2"]


@pytest.mark.parametrize("body", [b"garbage", b"100644 a\0short", b"x 1\0" + bytes(20), b" a\0" + bytes(20)])
def test_a_tree_of_garbage_is_opaque_with_an_empty_directory_of_links(body: bytes) -> None:
    repository = Repository()
    mapped = mapped_as_documented(repository, repository.add(GitType.TREE, body))
    links = dag_pb.decode(repository.store.get(mapped.cid)).links[0].cid
    assert repository.store.get(links) == b"\x0a\x02\x08\x01"


@pytest.mark.parametrize("mode", [FILE, EXECUTABLE, SYMLINK, DIRECTORY])
def test_a_child_of_another_type_makes_a_tree_opaque_and_is_carried_verbatim(mode: bytes) -> None:
    repository = Repository()
    blob = repository.blob(b"x" * 5000)
    child = blob if mode == DIRECTORY else repository.tree([(FILE, b"inner", blob)])
    mapped = mapped_as_documented(repository, repository.tree([(FILE, b"a", blob), (mode, b"b", child)]))
    assert form_of(repository, mapped) is NodeForm.OPAQUE_TREE
    links = dag_pb.decode(repository.store.get(dag_pb.decode(repository.store.get(mapped.cid)).links[0].cid)).links
    assert FileReader(repository.store, links[1].cid).read() == repository.payloads[child]


def test_no_directory_ever_links_a_commit_or_tag() -> None:
    repository = Repository()
    commit = repository.commit(repository.tree([]))
    tag = repository.tag(commit, GitType.COMMIT)
    oid = repository.tree([(FILE, b"commit", commit), (DIRECTORY, b"tag", tag), (GITLINK, b"link", commit)])
    mapped = mapped_as_documented(repository, oid)
    links = dag_pb.decode(repository.store.get(dag_pb.decode(repository.store.get(mapped.cid)).links[0].cid)).links
    assert [(link.name, FileReader(repository.store, link.cid).read()) for link in links] == [
        (b"0", repository.payloads[commit]),
        (b"1", repository.payloads[tag]),
    ]


@pytest.mark.parametrize("name", [b"a", b".."])
def test_a_blob_that_looks_like_an_object_is_still_a_blob(name: bytes) -> None:
    repository = Repository()
    blob = repository.blob(b"tree 0\0")
    mapped_as_documented(repository, repository.tree([(FILE, name, blob)]))


def test_unsorted_entries_and_odd_modes_are_not_opaque() -> None:
    repository = Repository()
    blob = repository.blob(b"x")
    entries = [(b"100600", b"z"), (b"000100644", b"y"), (b"120777", b"x"), (b"170000", b"w"), (b"0", b"v")]
    mapped = mapped_as_documented(repository, repository.tree([(mode, name, blob) for mode, name in entries]))
    assert form_of(repository, mapped) is NodeForm.TREE
    assert names_of(repository, mapped.cid) == [b"x", b"y", b"z"]


def test_long_names_are_opaque_only_where_a_shard_would_be_too_large() -> None:
    repository = Repository()
    blob = repository.blob(b"x")
    flat = repository.tree([(FILE, b"n" * 100_000, blob)])
    assert form_of(repository, repository.round_trip(flat, NodeKind.DIRECTORY)) is NodeForm.TREE
    for length, form in ((4095, NodeForm.TREE), (4096, NodeForm.OPAQUE_TREE), (300_000, NodeForm.OPAQUE_TREE)):
        names = [b"%02d" % i + b"n" * (length - 2) for i in range(80)]
        oid = repository.tree([(FILE, name, blob) for name in names])
        assert form_of(repository, repository.round_trip(oid, NodeKind.DIRECTORY)) is form
    assert max(map(len, repository.store.blocks.values())) <= 1024 * 1024


def test_names_that_no_shard_can_tell_apart_make_a_tree_opaque_only_when_it_is_sharded() -> None:
    assert hash_name(COLLIDING[0]) == hash_name(COLLIDING[1])
    repository = Repository()
    blob = repository.blob(b"x")
    small = repository.tree([(FILE, name, blob) for name in COLLIDING])
    assert form_of(repository, repository.round_trip(small, NodeKind.DIRECTORY)) is NodeForm.TREE
    filler = [b"%05d" % i for i in range(6000)]
    large = repository.tree([(FILE, name, blob) for name in (*COLLIDING, *filler)])
    mapped = repository.round_trip(large, NodeKind.DIRECTORY)
    assert form_of(repository, mapped) is NodeForm.OPAQUE_TREE


def test_the_links_of_a_large_opaque_tree_are_sharded_too() -> None:
    repository = Repository()
    blob = repository.blob(b"x")
    oid = repository.tree([(FILE, b"same", blob)] * 6000)
    mapped = repository.round_trip(oid, NodeKind.DIRECTORY)
    links = dag_pb.decode(repository.store.get(mapped.cid)).links[0].cid
    node = dag_pb.decode(repository.store.get(links))
    assert unixfs.decode(node.data or b"").type is DataType.HAMT_SHARD
    assert len(names_of(repository, links)) == 6000


def test_sizes_saturate_where_shared_subtrees_add_up_beyond_53_bits() -> None:
    repository = Repository()
    child = (FILE, repository.blob(b"x" * 1000))
    for _ in range(30):
        child = (DIRECTORY, repository.tree([(child[0], b"%02d" % i, child[1]) for i in range(20)]))
    top = repository.tree([(DIRECTORY, b"%04d" % i, child[1]) for i in range(5000)])
    mapped = repository.round_trip(top, NodeKind.DIRECTORY)
    assert mapped.size == MAX_LINK_SIZE == 2**53 - 1
    for cid, data in repository.store.blocks.items():
        if cid.raw[1] == 0x70:
            assert all((link.size or 0) <= MAX_LINK_SIZE for link in dag_pb.decode(data).links)


@pytest.mark.long
@pytest.mark.parametrize("object_format", ObjectFormat)
@pytest.mark.parametrize("name", [b"%05d", b"%05d/"])
def test_60000_entries_come_back(object_format: ObjectFormat, name: bytes) -> None:
    repository = Repository(object_format)
    blobs = [repository.blob(b"%d" % i) for i in range(100)]
    oid = repository.tree([(FILE, name % i, blobs[i % 100]) for i in range(60_000)])
    repository.round_trip(oid, NodeKind.DIRECTORY)
