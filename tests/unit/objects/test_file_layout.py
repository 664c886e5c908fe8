"""The shape of files: balanced and trickle trees, leaves, sizes, metadata."""

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.file_layout import ChunkTooLargeError, build_file
from ipvcs.objects.inline import read_block
from ipvcs.objects.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, ImportOptions
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData
from tests.fakes.memory_blocks import DiscardingWriter, MemoryBlocks

CHUNKS = st.lists(st.binary(max_size=40), max_size=60)
OPTIONS = st.builds(
    replace,
    st.sampled_from([UNIXFS_V0_2015, UNIXFS_V1_2025]),
    max_file_links=st.integers(2, 6),
    raw_leaves=st.booleans(),
    inline=st.booleans(),
    trickle=st.booleans(),
)
MTIME = Mtime(1_600_000_000, 54321)


def read(blocks: MemoryBlocks, cid: Cid) -> tuple[UnixfsData, list[Cid]]:
    """Return a block as UnixFS, a raw one as what it means, and its children."""
    data = read_block(blocks, cid)
    if cid.codec == codecs.RAW:
        return UnixfsData(DataType.RAW, data=data, filesize=len(data)), []
    node = dag_pb.decode(data)
    return unixfs.decode(node.data or b""), [link.cid for link in node.links]


def leaves(blocks: MemoryBlocks, cid: Cid, depth: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (depth, bytes) of each leaf in reading order."""
    message, children = read(blocks, cid)
    if not children:
        yield depth, message.data or b""
    for child in children:
        yield from leaves(blocks, child, depth + 1)


def check_sizes(blocks: MemoryBlocks, cid: Cid) -> tuple[int, int]:
    """Check all sizes that the DAG claims; return its own (Tsize, filesize)."""
    block = read_block(blocks, cid)
    message, _ = read(blocks, cid)
    size, filesizes = len(block), []
    if cid.codec == codecs.DAG_PB:
        for link in dag_pb.decode(block).links:
            child_size, child_filesize = check_sizes(blocks, link.cid)
            assert (link.name, link.size) == (b"", child_size)
            size += child_size
            filesizes.append(child_filesize)
        assert message.blocksizes == tuple(filesizes)
    filesize = sum(filesizes) + (len(message.data or b"") if not filesizes else 0)
    assert message.filesize == filesize
    return size, filesize


@given(chunks=CHUNKS, options=OPTIONS)
def test_leaves_in_order_are_the_input_and_all_sizes_are_true(chunks: list[bytes], options: ImportOptions) -> None:
    blocks = MemoryBlocks()
    built = build_file(chunks, options, blocks)
    assert b"".join(data for _, data in leaves(blocks, built.cid)) == b"".join(chunks)
    assert (built.size, built.filesize) == check_sizes(blocks, built.cid)


@given(count=st.integers(1, 200), width=st.integers(2, 7))
def test_leaves_of_a_balanced_tree_have_one_depth_the_smallest_possible(count: int, width: int) -> None:
    blocks = MemoryBlocks()
    chunks = [b"%d" % number for number in range(count)]
    built = build_file(chunks, replace(UNIXFS_V1_2025, max_file_links=width), blocks)
    found = list(leaves(blocks, built.cid))
    assert [data for _, data in found] == chunks
    (depth,) = {depth for depth, _ in found}
    assert width ** max(depth - 1, 0) < count <= width**depth or (count, depth) == (1, 0)


@given(count=st.integers(2, 200), width=st.integers(2, 7))
def test_all_nodes_of_a_balanced_tree_but_the_last_of_each_level_are_full(count: int, width: int) -> None:
    blocks = MemoryBlocks()
    built = build_file((b"%d" % i for i in range(count)), replace(UNIXFS_V1_2025, max_file_links=width), blocks)
    level = [built.cid]
    while level[0].codec == codecs.DAG_PB:
        widths = [len(read(blocks, cid)[1]) for cid in level]
        assert all(each == width for each in widths[:-1])
        level = [child for cid in level for child in read(blocks, cid)[1]]


@given(count=st.integers(0, 300), width=st.integers(2, 5))
def test_a_trickle_node_has_a_layer_of_leaves_and_then_four_sub_trees_of_each_depth(count: int, width: int) -> None:
    def check(children: Sequence[Cid], depth: int | None) -> None:
        for place, child in enumerate(children):
            below = read(blocks, child)[1]
            if place < width:
                assert not below
                continue
            assert below
            expected = (place - width) // 4 + 1
            assert depth is None or expected < depth
            check(below, expected)

    blocks = MemoryBlocks()
    options = replace(UNIXFS_V0_2015, max_file_links=width, trickle=True)
    built = build_file((b"%d" % i for i in range(count)), options, blocks)
    check(read(blocks, built.cid)[1], None)
    assert [data for _, data in leaves(blocks, built.cid)] == [b"%d" % i for i in range(count)] or count == 0


def test_dag_pb_leaves_are_files_in_balanced_and_raw_in_trickle_trees() -> None:
    for trickle, kind in ((False, DataType.FILE), (True, DataType.RAW)):
        blocks = MemoryBlocks()
        built = build_file([b"a", b"b"], replace(UNIXFS_V0_2015, trickle=trickle), blocks)
        assert {read(blocks, child)[0].type for child in read(blocks, built.cid)[1]} == {kind}


@given(chunk=st.binary(max_size=300), trickle=st.booleans())
def test_a_dag_pb_leaf_is_encoded_as_the_codecs_would(chunk: bytes, trickle: bool) -> None:
    kind = DataType.RAW if trickle else DataType.FILE
    data = unixfs.encode(UnixfsData(kind, data=chunk or None, filesize=len(chunk)))
    blocks = MemoryBlocks()
    build_file([chunk], replace(UNIXFS_V0_2015, trickle=trickle), blocks)
    expected = dag_pb.encode(dag_pb.PBNode((), data))
    assert blocks.blocks[blocks.puts[0]] == expected or (not chunk and trickle)


def test_a_single_chunk_is_its_own_root_unless_the_layout_is_trickle() -> None:
    assert build_file([b"x"], UNIXFS_V1_2025, DiscardingWriter()).cid.codec == codecs.RAW
    blocks = MemoryBlocks()
    built = build_file([b"x"], replace(UNIXFS_V1_2025, trickle=True), blocks)
    assert len(read(blocks, built.cid)[1]) == 1


@pytest.mark.parametrize("raw", [False, True])
def test_mode_and_mtime_make_the_root_a_dag_pb_file_and_leaves_stay_as_they_are(raw: bool) -> None:
    options = replace(UNIXFS_V1_2025, raw_leaves=raw)
    for chunks in ([], [b"one"], [b"one", b"two"]):
        blocks = MemoryBlocks()
        built = build_file(chunks, options, blocks, mode=0o100640, mtime=MTIME)
        message, children = read(blocks, built.cid)
        assert (message.type, message.mode, message.mtime) == (DataType.FILE, 0o640, MTIME)
        assert message.data == (chunks[0] if len(chunks) == 1 else None)
        assert all((child.codec == codecs.RAW) == raw and read(blocks, child)[0].mode is None for child in children)
        assert (built.size, built.filesize) == check_sizes(blocks, built.cid)


def test_mode_zero_is_no_mode() -> None:
    assert build_file([b"x"], UNIXFS_V1_2025, DiscardingWriter(), mode=0) == build_file(
        [b"x"], UNIXFS_V1_2025, DiscardingWriter()
    )


@given(chunks=CHUNKS, options=OPTIONS)
def test_empty_chunks_change_nothing(chunks: list[bytes], options: ImportOptions) -> None:
    full = [chunk for chunk in chunks if chunk]
    assert build_file(chunks, options, DiscardingWriter()) == build_file(full, options, DiscardingWriter())


def test_children_are_put_before_their_parents() -> None:
    blocks = MemoryBlocks()
    build_file((b"%d" % i for i in range(50)), replace(UNIXFS_V1_2025, max_file_links=3), blocks)
    place = {cid: number for number, cid in enumerate(blocks.puts)}
    for cid in blocks.puts:
        assert all(place[child] < place[cid] for child in read(blocks, cid)[1])


def test_large_chunks_hashed_in_threads_give_the_same_file_as_one_by_one() -> None:
    chunks = [bytes([number]) * 300_000 for number in range(40)]
    options = replace(UNIXFS_V0_2015, max_file_links=5)
    blocks = MemoryBlocks()
    built = build_file(chunks, options, blocks)
    assert [data for _, data in leaves(blocks, built.cid)] == chunks
    assert [read(blocks, cid)[0].data[0] for cid in blocks.puts if not read(blocks, cid)[1]] == list(range(40))  # type: ignore[index]


@pytest.mark.parametrize("count", [1, 2, 30])
def test_a_chunk_over_the_block_limit_is_refused(count: int) -> None:
    chunks = [bytes(1 << 20)] * (count - 1) + [bytes((1 << 21) + 1)]
    with pytest.raises(ChunkTooLargeError, match="2097153 bytes"):
        build_file(chunks, UNIXFS_V1_2025, DiscardingWriter(), mode=0o600)


def test_memory_does_not_grow_with_the_file() -> None:
    chunk = bytes(64)
    options = replace(UNIXFS_V1_2025, max_file_links=8)
    build_file((chunk for _ in range(10)), options, DiscardingWriter())
    tracemalloc.start()
    build_file((bytes(64) for _ in range(6000)), options, DiscardingWriter())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # a batch of 1,024 small chunks, not 6,000 links
