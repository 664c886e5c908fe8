"""Trees: UnixFS directories, plain or sharded, as named links to blobs, lists, symlinks and trees.

What kind an entry is stands in the entry's own block, not in the link: a reader finds out by reading it.

Spec: https://specs.ipfs.tech/unixfs/ and white paper §3.6.3.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ipvcs.objects import directory
from ipvcs.objects.block import BlockReader
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData

_TREE_TYPES = (DataType.DIRECTORY, DataType.HAMT_SHARD)


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory by its root block. The entries of a sharded one are in further blocks, read when asked for."""

    node: PBNode
    sharded: bool
    mode: int | None = None
    mtime: Mtime | None = None

    def iter_entries(self, reader: BlockReader) -> Iterator[PBLink]:
        """Yield the entries under their own names, in the order of the blocks: by name if plain, by hash if sharded.

        Raises:
            BlockNotFoundError, DecodeError: a shard is not there or is damaged.
        """
        return directory.iter_directory(reader, self.node)

    def try_get(self, reader: BlockReader, name: bytes) -> PBLink | None:
        """Return the entry `name`, or None; of a sharded tree only the shards on the way to it are read.

        Raises:
            BlockNotFoundError, DecodeError: a shard is not there or is damaged.
        """
        return directory.lookup(reader, self.node, name)


def tree_of(node: PBNode, message: UnixfsData) -> Tree:
    """Return the tree that a decoded Directory or HAMT shard node is."""
    assert message.type in _TREE_TYPES
    return Tree(node, message.type is DataType.HAMT_SHARD, message.mode, message.mtime)
