"""CID versions, inlining and cumulative sizes of built blocks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.node_writer import MAX_CUMULATIVE_SIZE, Built, IdentityTooLongError, NodeWriter
from ipvcs.objects.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, resolve_options
from tests.fakes.memory_blocks import MemoryBlocks

CHILD = Cid.of(bytes(32))


def test_raw_blocks_are_version_1_even_where_nodes_are_version_0() -> None:
    nodes = NodeWriter(UNIXFS_V0_2015, MemoryBlocks())
    assert nodes.make_raw(b"x").cid.version == 1
    assert nodes.make_node((), b"x").cid.version == 0


@given(limit=st.integers(0, 128), size=st.integers(0, 140))
def test_blocks_up_to_the_limit_are_inlined_and_not_stored(limit: int, size: int) -> None:
    blocks = MemoryBlocks()
    nodes = NodeWriter(replace(UNIXFS_V0_2015, inline=True, inline_limit=limit), blocks)
    block = nodes.make_raw(bytes(size))
    nodes.put(block)
    assert block.cid.is_identity == (size <= limit)
    assert blocks.puts == ([] if size <= limit else [block.cid])
    assert block.cid.codec == codecs.RAW


def test_an_inlined_node_of_version_0_is_version_1() -> None:
    built = NodeWriter(replace(UNIXFS_V0_2015, inline=True), MemoryBlocks()).put_node((), b"\x08\x01")
    assert built.cid == Cid.make(
        multihash.sum_(dag_pb.encode_parts((), b"\x08\x01"), multihash.IDENTITY), codecs.DAG_PB
    )
    assert built.size == 4


def test_identity_as_hash_function_takes_small_blocks_only() -> None:
    nodes = NodeWriter(resolve_options(hash_code=multihash.IDENTITY), MemoryBlocks())
    assert nodes.make_raw(bytes(128)).cid.is_identity
    with pytest.raises(IdentityTooLongError, match="129 bytes"):
        nodes.make_raw(bytes(129))


def test_a_nodes_size_is_its_block_and_what_its_links_claim() -> None:
    blocks = MemoryBlocks()
    built = NodeWriter(UNIXFS_V1_2025, blocks).put_node([PBLink(CHILD, b"a", 10), PBLink(CHILD, b"b", None)], None)
    assert built == Built(built.cid, len(blocks.get(built.cid)) + 10)
    assert built.link(b"name") == PBLink(built.cid, b"name", built.size)


def test_absurd_sizes_of_strangers_saturate() -> None:
    links = [PBLink(CHILD, name, MAX_CUMULATIVE_SIZE) for name in (b"a", b"b")]
    blocks = MemoryBlocks()
    nodes = NodeWriter(UNIXFS_V1_2025, blocks)
    built = nodes.put_node(links, None)
    assert built.size == MAX_CUMULATIVE_SIZE
    parent = nodes.put_node([built.link(b"up")], None)
    assert dag_pb.decode(blocks.get(parent.cid)).links[0].size == MAX_CUMULATIVE_SIZE
