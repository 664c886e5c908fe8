"""Directories of the mapping: UnixFS as `put` makes them, save that sizes saturate and a plain one may carry data.

A tree of a few kilobytes can stand for 10**100 files (each level links the next one ten times), so sums of sizes are
cut at 2**53 - 1 wherever one is written, shards included.

Spec: https://specs.ipfs.tech/unixfs/#dag-pb-directory; DESIGN §3.1 "Sizes"
"""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Self

from ipvcs.multiformats import codecs
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block, BlockWriter
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.git.layout import LAYOUT, MAX_DIRECTORY_BLOCK, Mapped, saturate
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.hamt import Hamt
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.unixfs import EMPTY_DIRECTORY

_PLAIN_DATA: Final = dag_pb.encode_parts((), EMPTY_DIRECTORY)


@dataclass(frozen=True, slots=True)
class FlatLinks:
    """The links of a plain directory: their encoded bytes, in canonical order, and the sum of their sizes."""

    encoded: bytes
    size: int

    @classmethod
    def of(cls, links: Iterable[PBLink]) -> Self:
        """Encode `links`, given in any order under distinct names."""
        ordered = sorted(links, key=attrgetter("name"))
        return cls(dag_pb.encode_parts(ordered, None), sum([link.size or 0 for link in ordered]))

    @property
    def plain_size(self) -> int:
        """Length in bytes of the block of a directory of these links and nothing else."""
        return len(self.encoded) + len(_PLAIN_DATA)

    @property
    def is_too_large(self) -> bool:
        """True when a directory of these links has to be sharded, whatever else its node would hold."""
        return self.plain_size > MAX_DIRECTORY_BLOCK


def put_flat(links: FlatLinks, data: bytes, writer: BlockWriter) -> Mapped:
    """Store the plain directory of `links` with the UnixFS message `data`."""
    block = Block.of(links.encoded + dag_pb.encode_parts((), data), codecs.DAG_PB)
    writer.put(block)
    return Mapped(block.cid, saturate(len(block.data) + links.size), NodeKind.DIRECTORY)


def put_sharded(links: Iterable[PBLink], writer: BlockWriter) -> Mapped:
    """Store the HAMT of `links`.

    Raises:
        HamtCollisionError: two names have the same hash; nothing has been written then.
    """
    trie = Hamt(LAYOUT.hamt_fanout)
    for link in links:
        trie.set(link)
    root = trie.write(_SaturatingNodes(LAYOUT, writer))
    return Mapped(root.cid, root.size, NodeKind.DIRECTORY)


def put_directory(links: Iterable[PBLink], writer: BlockWriter) -> Mapped:
    """Store the directory of `links`, sharded when its block would be over `MAX_DIRECTORY_BLOCK`.

    Raises:
        HamtCollisionError: as `put_sharded`.
    """
    links = list(links)
    flat = FlatLinks.of(links)
    return put_sharded(links, writer) if flat.is_too_large else put_flat(flat, EMPTY_DIRECTORY, writer)


class _SaturatingNodes(NodeWriter):
    """A NodeWriter whose sums stop where the mapping's do."""

    def put_node(self, links: Iterable[PBLink], data: bytes | None, filesize: int = 0) -> Built:
        """Make and put a node; see `NodeWriter.put_node`."""
        built = super().put_node(links, data, filesize)
        return Built(built.cid, saturate(built.size), filesize)
