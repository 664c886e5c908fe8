"""Small DAGs to read, walk and resolve."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.block import Block
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.unixfs import DataType, UnixfsData
from tests.fakes.memory_blocks import MemoryBlocks


class Blocks(MemoryBlocks):
    """Blocks in memory, with short ways to make some."""

    def add(self, data: bytes, codec: int = codecs.RAW, version: int = 1) -> Cid:
        block = Block.of(data, codec, version=version)
        self.put(block)
        return block.cid

    def add_node(self, links: Iterable[PBLink] = (), data: bytes | None = None) -> Cid:
        return self.add(dag_pb.encode(PBNode(tuple(links), data)), codecs.DAG_PB)

    def add_directory(self, **entries: Cid) -> Cid:
        links = [PBLink(cid, name.encode(), 1) for name, cid in entries.items()]
        return self.add_node(links, unixfs.EMPTY_DIRECTORY)

    def add_file(self, parts: Iterable[tuple[Cid, int]], own: bytes | None = None, **changes: Any) -> Cid:
        parts = list(parts)
        sizes = tuple(size for _, size in parts)
        message = replace(UnixfsData(DataType.FILE, own, len(own or b"") + sum(sizes), sizes), **changes)
        links = [PBLink(cid, b"", size) for cid, size in parts]
        return self.add(dag_pb.encode_parts(links, unixfs.encode(message)), codecs.DAG_PB)


def inline(data: bytes, codec: int = codecs.RAW) -> Cid:
    return Cid.make(multihash.sum_(data, multihash.IDENTITY), codec)


def chain(blocks: Blocks, length: int) -> Cid:
    """Return the last of `length` dag-pb nodes, each with a link to the one before. Made by hand: it has to be fast."""
    cid = blocks.add_node()
    before, after = dag_pb.encode(PBNode((PBLink(cid, b"parent", 0),))).split(cid.digest)
    for _ in range(length - 1):
        data = before + cid.raw[4:] + after
        cid = Cid(cid.raw[:4] + hashlib.sha256(data).digest())
        blocks.blocks[cid] = data
    return cid


@st.composite
def shapes(draw: st.DrawFn) -> list[list[int]]:
    """Return a random DAG: for each node, to which of the nodes before it it links, by index. The last is the root."""
    count = draw(st.integers(1, 12))
    return [draw(st.lists(st.integers(0, index - 1), max_size=4)) if index else [] for index in range(count)]


def build(blocks: Blocks, shape: list[list[int]]) -> list[Cid]:
    """Return the CIDs of a DAG from `shapes`; a node without links is a raw block. Names say the position of a link."""
    cids: list[Cid] = []
    for index, targets in enumerate(shape):
        if targets:
            links = [PBLink(cids[target], b"%02d" % place, 0) for place, target in enumerate(targets)]
            cids.append(blocks.add_node(links, b"node %d" % index))
        else:
            cids.append(blocks.add(b"leaf %d" % index))
    return cids
