"""Directories, whichever of the two they are: names, order, lookup, listing, hostile nodes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.directory import (
    DirectoryError,
    EntryNameError,
    NotADirectoryNodeError,
    build_directory,
    build_plain_directory,
    build_sharded_directory,
    directory_data,
    iter_directory,
    lookup,
)
from ipvcs.objects.hamt_shard import encode_shard, hash_name, shape_of
from ipvcs.objects.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from ipvcs.objects.unixfs import EMPTY_DIRECTORY, DataType, Mtime, UnixfsData
from tests.fakes.memory_blocks import DiscardingWriter, MemoryBlocks

CID = Cid.of(bytes(32))
NAMES = st.binary(min_size=1, max_size=8).filter(lambda name: not {0, 0x2F} & set(name))
BUILDERS = [build_directory, build_plain_directory, build_sharded_directory]
SMALL = replace(UNIXFS_V1_2025, hamt_threshold=300)


def entries_of(names: set[bytes]) -> list[PBLink]:
    return [PBLink(CID, name, 3) for name in names]


def read_root(blocks: MemoryBlocks, cid: Cid) -> PBNode:
    return dag_pb.decode(blocks.get(cid))


@given(names=st.sets(NAMES, max_size=20), other=NAMES)
def test_plain_and_sharded_directories_read_alike(names: set[bytes], other: bytes) -> None:
    for build in (build_plain_directory, build_sharded_directory):
        blocks = MemoryBlocks()
        node = read_root(blocks, build(entries_of(names), UNIXFS_V1_2025, blocks).cid)
        assert sorted(iter_directory(blocks, node)) == sorted(entries_of(names))
        for name in (*names, other):
            assert lookup(blocks, node, name) == (PBLink(CID, name, 3) if name in names else None)
        assert lookup(blocks, node, b"") is None


@given(names=st.sets(NAMES, max_size=20), data=st.data())
def test_the_order_of_entries_does_not_show(names: set[bytes], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(entries_of(names)))
    for build in BUILDERS:
        one = build(entries_of(names), SMALL, DiscardingWriter())
        assert build(shuffled, SMALL, DiscardingWriter()) == one


def test_entries_of_a_plain_directory_are_sorted_by_bytes() -> None:
    blocks = MemoryBlocks()
    built = build_directory(entries_of({b"b", b"a", b"B", b"\xff", "é".encode()}), UNIXFS_V1_2025, blocks)
    names = [link.name for link in read_root(blocks, built.cid).links]
    assert names == [b"B", b"a", b"b", "é".encode(), b"\xff"]


def test_the_empty_directories_are_the_well_known_ones() -> None:
    assert str(build_directory([], UNIXFS_V0_2015, DiscardingWriter()).cid) == (
        "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    )
    built = build_directory([], UNIXFS_V1_2025, DiscardingWriter())
    assert str(built.cid) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    assert (built.size, built.filesize) == (4, 0)


def test_the_kind_follows_the_estimate() -> None:
    for count, kind in ((6, DataType.DIRECTORY), (7, DataType.HAMT_SHARD)):  # 4 + 45 bytes an entry
        blocks = MemoryBlocks()
        built = build_directory(entries_of({b"%d" % number for number in range(count)}), SMALL, blocks)
        assert directory_data(read_root(blocks, built.cid)).type is kind


@pytest.mark.parametrize("build", [build_plain_directory, build_sharded_directory])
def test_mode_and_mtime_are_in_the_root(build: type) -> None:
    blocks = MemoryBlocks()
    built = build(entries_of({b"a", b"b"}), UNIXFS_V1_2025, blocks, mode=0o40755, mtime=Mtime(-1, 5))
    message = directory_data(read_root(blocks, built.cid))
    assert (message.mode, message.mtime) == (0o755, Mtime(-1, 5))


def test_a_plain_directory_carries_a_payload() -> None:
    blocks = MemoryBlocks()
    built = build_plain_directory(entries_of({b"a"}), UNIXFS_V1_2025, blocks, data=b"payload")
    node = read_root(blocks, built.cid)
    assert directory_data(node).data == b"payload"
    assert [link.name for link in iter_directory(blocks, node)] == [b"a"]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("name", [None, b"", b"a/b", b"/", b"a\0"])
def test_names_that_cannot_be_are_refused(build: type, name: bytes | None) -> None:
    with pytest.raises(EntryNameError, match="bad entry name"):
        build([PBLink(CID, b"fine"), PBLink(CID, name)], UNIXFS_V1_2025, DiscardingWriter())


@pytest.mark.parametrize("build", BUILDERS)
def test_two_entries_of_one_name_are_refused(build: type) -> None:
    with pytest.raises(EntryNameError, match="'twice': another entry has it already"):
        build([PBLink(CID, b"twice"), PBLink(CID, b"once"), PBLink(CID, b"twice")], SMALL, DiscardingWriter())


def test_an_entry_without_a_size_is_written_with_size_zero() -> None:
    blocks = MemoryBlocks()
    built = build_directory([PBLink(CID, b"a", None)], UNIXFS_V1_2025, blocks)
    assert read_root(blocks, built.cid).links == (PBLink(CID, b"a", 0),)


@pytest.mark.parametrize("data", [None, b"", b"\xff", unixfs.encode(UnixfsData(DataType.FILE, filesize=0))])
def test_what_is_no_directory_is_said_to_be_none(data: bytes | None) -> None:
    node = PBNode((), data)
    with pytest.raises(NotADirectoryNodeError, match="not a directory"):
        lookup(MemoryBlocks(), node, b"a")
    with pytest.raises(NotADirectoryNodeError):
        list(iter_directory(MemoryBlocks(), node))


def test_a_strangers_directory_with_a_name_twice_is_refused() -> None:
    node = PBNode((PBLink(CID, b"a"), PBLink(CID, b"b"), PBLink(CID, b"a")), EMPTY_DIRECTORY)
    with pytest.raises(DirectoryError, match="two entries 'a'"):
        list(iter_directory(MemoryBlocks(), node))
    with pytest.raises(DirectoryError, match="two entries 'a'"):
        lookup(MemoryBlocks(), node, b"a")
    assert lookup(MemoryBlocks(), node, b"b") == PBLink(CID, b"b")


@pytest.mark.parametrize("name", [b"a/b", b"\0", b"..\0", b"/etc/passwd"])
def test_a_strangers_bad_names_are_refused_when_listed(name: bytes) -> None:
    shape = shape_of(256)
    links, data = encode_shard(shape, [(shape.slot(hash_name(name), 0), PBLink(CID, name))])
    for node in (PBNode((PBLink(CID, name),), EMPTY_DIRECTORY), PBNode(tuple(links), data)):
        with pytest.raises(DirectoryError, match="bad name"):
            list(iter_directory(MemoryBlocks(), node))


@given(
    links=st.lists(st.builds(PBLink, st.just(CID), st.none() | st.binary(max_size=4)), max_size=4),
    data=st.none() | st.binary(max_size=12) | st.just(EMPTY_DIRECTORY),
)
def test_garbage_raises_only_decode_errors(links: list[PBLink], data: bytes | None) -> None:
    node = PBNode(tuple(links), data)
    for read in (lambda: list(iter_directory(MemoryBlocks(), node)), lambda: lookup(MemoryBlocks(), node, b"a")):
        try:
            read()
        except DecodeError:
            continue
