import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IpvcsError, LimitError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import file_reader, unixfs
from ipvcs.objects.blob import FileNodeError, NotAFileError, decode_file
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.objects.commit import CommitObject, encode_commit
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.file_reader import (
    MAX_EMPTY_PARTS,
    READAHEAD,
    FileReader,
    PartSizeError,
    file_size,
    iter_file,
)
from ipvcs.objects.profile import UNIXFS_V0_2015
from ipvcs.objects.unixfs import DataType, UnixfsData
from tests.unit.objects.dags import Blocks, inline

# A layout is a leaf ("raw", "file", "leaf", "inline"; bytes) or an inner node (own bytes, children).
Layout = tuple[str, bytes] | tuple[bytes | None, list["Layout"]]

leaves = st.tuples(st.sampled_from(["raw", "file", "leaf", "inline"]), st.binary(max_size=6))
layouts = st.recursive(leaves, lambda below: st.tuples(st.none() | st.binary(max_size=3), st.lists(below, max_size=5)))


def lay_out(blocks: Blocks, layout: Layout) -> tuple[Cid, bytes]:
    """Return the CID and the content of a file of any shape."""
    first, rest = layout
    if isinstance(first, str):
        assert isinstance(rest, bytes)
        if first == "raw":
            return blocks.add(rest), rest
        if first == "inline":
            return inline(rest), rest
        kind = DataType.FILE if first == "file" else DataType.RAW
        return blocks.add_node((), unixfs.encode(UnixfsData(kind, rest or None, len(rest)))), rest
    assert isinstance(rest, list)
    parts = [lay_out(blocks, child) for child in rest]
    cid = blocks.add_file([(child, len(content)) for child, content in parts], first)
    return cid, (first or b"") + b"".join(content for _, content in parts)


@given(layouts, st.integers(0, 80), st.none() | st.integers(0, 80))
def test_a_range_is_that_slice_of_the_whole(layout: Layout, start: int, end: int | None) -> None:
    blocks = Blocks()
    cid, content = lay_out(blocks, layout)
    pieces = list(iter_file(blocks, cid, start, end))
    assert b"".join(pieces) == content[start:end]
    assert all(pieces)
    assert file_size(blocks, cid) == len(content)


@given(
    st.lists(st.binary(min_size=1, max_size=5), max_size=40), st.integers(2, 5), st.booleans(), st.booleans(), st.data()
)
def test_balanced_and_trickle_files_read_back(
    chunks: list[bytes], width: int, trickle: bool, raw_leaves: bool, data: st.DataObject
) -> None:
    blocks = Blocks()
    options = replace(UNIXFS_V0_2015, max_file_links=width, trickle=trickle, raw_leaves=raw_leaves)
    built = build_file(chunks, options, blocks)
    content = b"".join(chunks)
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    assert b"".join(iter_file(blocks, built.cid)) == content
    assert b"".join(iter_file(blocks, built.cid, start, end)) == content[start:end]


seeks = st.tuples(st.just("seek"), st.integers(-5, 50), st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]))
reads = st.tuples(st.sampled_from(["read", "readinto"]), st.integers(0, 20), st.just(0))
whole_reads = st.tuples(st.just("read"), st.just(-1), st.just(0))


@given(layouts, st.lists(seeks | reads | whole_reads, max_size=12))
def test_a_file_reader_behaves_as_a_file_of_the_same_bytes(layout: Layout, steps: list[tuple[str, int, int]]) -> None:
    blocks = Blocks()
    cid, content = lay_out(blocks, layout)
    ours, model = FileReader(blocks, cid), io.BytesIO(content)
    for step, number, whence in steps:
        if step == "seek":
            target = number + (0, model.tell(), len(content))[whence]
            if target < 0:
                with pytest.raises(ValueError, match="negative seek position"):
                    ours.seek(number, whence)
            else:
                assert ours.seek(number, whence) == model.seek(target)
        elif step == "read":
            assert ours.read(number) == model.read(number)
        else:
            left, right = bytearray(number), bytearray(number)
            assert (ours.readinto(left), left) == (model.readinto(right), right)
        assert ours.tell() == model.tell()


def test_a_file_reader_is_a_readable_seekable_file() -> None:
    blocks = Blocks()
    cid = blocks.add_file([(blocks.add(b"one\ntwo"), 7), (blocks.add(b"\nthree"), 6)])
    with FileReader(blocks, cid) as file:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert list(io.BufferedReader(file)) == [b"one\n", b"two\n", b"three"]
    with FileReader(blocks, cid) as file:
        assert file.readall() == b"one\ntwo\nthree"
        with pytest.raises(ValueError, match="invalid whence"):
            file.seek(0, 7)
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    with pytest.raises(ValueError, match="closed"):
        file.seek(0)


def test_own_bytes_of_a_node_come_before_its_parts() -> None:
    blocks = Blocks()
    cid = blocks.add_file([(blocks.add(b"bc"), 2), (inline(b"d"), 1)], own=b"a")
    assert list(iter_file(blocks, cid)) == [b"a", b"bc", b"d"]


def hundred_leaves(blocks: Blocks) -> tuple[Cid, list[Cid], list[Cid]]:
    """Return (root, inner nodes, leaves) of a file of 10 x 10 leaves of 4 bytes, `0000` to `0099`."""
    leaves = [blocks.add(b"%04d" % number) for number in range(100)]
    inner = [blocks.add_file([(leaf, 4) for leaf in leaves[start : start + 10]]) for start in range(0, 100, 10)]
    return blocks.add_file([(cid, 40) for cid in inner]), inner, leaves


def test_a_range_reads_only_the_blocks_it_touches() -> None:
    blocks = Blocks()
    root, inner, leaves = hundred_leaves(blocks)
    assert b"".join(iter_file(blocks, root, 158, 162)) == b"3900"
    assert blocks.gets == [root, inner[3], leaves[39], inner[4], leaves[40]]


def test_a_seek_reads_nothing_until_bytes_are_wanted() -> None:
    blocks = Blocks()
    root, _, leaves = hundred_leaves(blocks)
    file = FileReader(blocks, root)
    file.seek(-4, io.SEEK_END)
    assert blocks.gets == [root]
    assert file.read(2) == b"00"
    file.seek(1, io.SEEK_CUR)  # inside the block that is here already
    assert file.read() == b"9"
    assert blocks.gets.count(leaves[99]) == 1
    file.seek(1000)
    assert file.read(5) == b""


def test_every_block_is_announced_before_it_is_read_and_in_order() -> None:
    blocks = Blocks()
    root, _, _ = hundred_leaves(blocks)
    announced: list[Cid] = [root]
    batches: list[list[Cid]] = []

    def prefetch(cids: list[Cid]) -> None:
        batches.append(cids)
        announced.extend(cids)

    for _ in iter_file(blocks, root, 6, 390, prefetch=prefetch):
        assert blocks.gets[-1] in announced
    assert set(announced) == set(blocks.gets)  # nothing outside the range
    assert max(map(len, batches)) <= READAHEAD
    first_announced = list(dict.fromkeys(announced))
    assert [cid for cid in first_announced if cid.codec == codecs.RAW] == [
        cid for cid in blocks.gets if cid.codec == codecs.RAW
    ]


def test_long_lists_are_announced_a_window_at_a_time() -> None:
    blocks = Blocks()
    leaves = [blocks.add(b"%04d" % number) for number in range(500)]
    root = blocks.add_file([(leaf, 4) for leaf in leaves])
    batches: list[list[Cid]] = []
    assert len(list(iter_file(blocks, root, prefetch=batches.append))) == 500
    assert sum(map(len, batches)) <= 2 * len(leaves)
    assert list(dict.fromkeys(cid for batch in batches for cid in batch)) == leaves


def test_a_missing_block_is_named_and_can_be_tried_again() -> None:
    blocks = Blocks()
    first, second = Block.of(b"ab"), Block.of(b"cd")
    blocks.put(first)
    file = FileReader(blocks, blocks.add_file([(first.cid, 2), (second.cid, 2)]))
    assert file.read(2) == b"ab"
    for _ in range(2):
        with pytest.raises(BlockNotFoundError) as caught:
            file.read(2)
        assert caught.value.cid == second.cid
    blocks.put(second)
    assert file.read(2) == b"cd"


@pytest.mark.parametrize("claimed", [0, 2, 4])
def test_a_part_of_another_length_than_claimed_is_an_error_that_names_both(claimed: int) -> None:
    blocks = Blocks()
    leaf = blocks.add(b"abc")
    inner = blocks.add_file([(leaf, claimed)])
    root = blocks.add_file([(inner, claimed), (leaf, 3)])
    with pytest.raises(PartSizeError) as caught:
        b"".join(iter_file(blocks, root))
    assert (caught.value.cid, caught.value.child) == (inner, leaf)
    assert (caught.value.claimed, caught.value.actual) == (claimed, 3)
    assert str(inner) in str(caught.value)
    assert str(leaf) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"blocksizes": (3,), "filesize": 3}, "2 links but 1 blocksizes"),
        ({"blocksizes": (3, 3, 3), "filesize": 9}, "2 links but 3 blocksizes"),
        ({"blocksizes": (), "filesize": 0}, "2 links but 0 blocksizes"),
        ({"filesize": 7}, "claims 7 bytes, but its parts add up to 6"),
        ({"blocksizes": (2**63, 3), "filesize": None}, "add up to"),
    ],
)
def test_a_node_that_contradicts_itself_is_refused(changes: dict[str, Any], why: str) -> None:
    blocks = Blocks()
    cid = blocks.add_file([(blocks.add(b"abc"), 3), (blocks.add(b"def"), 3)], **changes)
    with pytest.raises(FileNodeError, match=why) as caught:
        file_size(blocks, cid)
    assert caught.value.cid == cid


def test_an_absent_filesize_is_the_sum_of_the_parts() -> None:
    blocks = Blocks()
    cid = blocks.add_file([(blocks.add(b"abc"), 3)], filesize=None)
    assert file_size(blocks, cid) == 3
    assert b"".join(iter_file(blocks, cid)) == b"abc"


def test_what_is_no_file_is_refused_by_its_kind() -> None:
    blocks = Blocks()
    symlink = unixfs.encode(UnixfsData(DataType.SYMLINK, b"target"))
    metadata = unixfs.encode(UnixfsData(DataType.METADATA, b""))
    shard = unixfs.encode(UnixfsData(DataType.HAMT_SHARD, b"", hash_type=0x22, fanout=256))
    commit = blocks.add(encode_commit(CommitObject(payload=b"")), codecs.DAG_PB)
    for cid, kind in [
        (blocks.add_directory(), "a directory"),
        (blocks.add_node((), shard), "a directory"),
        (blocks.add_node((), symlink), "a symlink"),
        (blocks.add_node((), metadata), "UnixFS metadata"),
        (blocks.add_node(), "a dag-pb node without UnixFS data"),
        (blocks.add(b"\xa0", codecs.DAG_CBOR), "a dag-cbor node"),
        (commit, "a commit or tag"),
    ]:
        with pytest.raises(NotAFileError) as caught:
            FileReader(blocks, cid)
        assert caught.value.kind == kind
        assert str(caught.value).startswith(f"'{cid}' is {kind}")


def test_a_directory_inside_a_file_is_an_error() -> None:
    blocks = Blocks()
    directory = blocks.add_directory()
    with pytest.raises(NotAFileError):
        list(iter_file(blocks, blocks.add_file([(directory, 0)])))
    with pytest.raises(NotAFileError):
        FileReader(blocks, blocks.add_file([(blocks.add(b"x"), 1), (directory, 0)])).read()


def test_parts_that_are_claimed_to_be_empty_are_looked_at() -> None:
    blocks = Blocks()
    hidden, x = blocks.add(b"hidden"), blocks.add(b"x")
    for parts in [(hidden, 0)], [(hidden, 0), (x, 1)], [(x, 1), (hidden, 0)], [(x, 1), (hidden, 0), (x, 1)]:
        with pytest.raises(PartSizeError):
            FileReader(blocks, blocks.add_file(parts)).read()


def test_a_negative_start_is_refused_before_the_first_piece() -> None:
    blocks = Blocks()
    with pytest.raises(ValueError, match="negative start"):
        iter_file(blocks, blocks.add(b"abc"), -1)


def test_a_deep_file_needs_no_recursion() -> None:
    blocks = Blocks()
    cid, size = blocks.add(b"x"), 1
    for _ in range(5_000):
        cid, size = blocks.add_file([(cid, size)], own=b"y"), size + 1
    assert b"".join(iter_file(blocks, cid)) == b"y" * 5_000 + b"x"
    assert b"".join(iter_file(blocks, cid, 4_999, 5_001)) == b"yx"


def test_a_tower_of_empty_parts_is_given_up() -> None:
    blocks = Blocks()
    cid = blocks.add(b"")
    for _ in range(30):  # 3**30 paths, not one byte
        cid = blocks.add_file([(cid, 0)] * 3)
    blocks.gets.clear()
    with pytest.raises(LimitError, match="empty parts"):
        list(iter_file(blocks, blocks.add_file([(cid, 0), (blocks.add(b"x"), 1)])))
    assert len(blocks.gets) <= MAX_EMPTY_PARTS + 2


def test_more_pending_links_than_memory_should_hold_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reader, "MAX_PENDING", 800)
    blocks = Blocks()
    leaf = blocks.add(b"x")
    cid, size = leaf, 1
    for level in range(9):
        cid = blocks.add_file([(cid, size), *[(leaf, 1)] * 100])
        size += 100
        if level < 7:
            assert len(b"".join(iter_file(blocks, cid))) == size
    with pytest.raises(LimitError, match="links on the way"):
        next(iter_file(blocks, cid))


@given(st.binary(max_size=60))
def test_garbage_is_refused_with_our_errors_only(data: bytes) -> None:
    cid = Block.of(data, codecs.DAG_PB).cid
    try:
        file = decode_file(cid, data)
    except IpvcsError:
        return
    assert 0 <= file.size < 1 << 63


def test_mode_and_mtime_come_with_the_file() -> None:
    blocks = Blocks()
    cid = blocks.add_file([(blocks.add(b"#!"), 2)], mode=0o755, mtime=unixfs.Mtime(5, 6))
    file = decode_file(cid, blocks.get(cid))
    assert (file.size, file.mode, file.mtime) == (2, 0o755, unixfs.Mtime(5, 6))
