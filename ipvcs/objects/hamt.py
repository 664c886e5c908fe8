"""HAMT directories: a trie of shards, read and changed without loading what is not needed.

The shape of the trie depends on the set of names alone: a shard is there only where two or more names share its path.
So the same entries have the same root CID, whatever was added and removed on the way, and a change rewrites no more
than the shards between an entry and the root.

`hamt_shard` is about one shard; this module is about how they hang together.

Spec: https://specs.ipfs.tech/unixfs/#dag-pb-hamtdirectory
"""

from collections.abc import Iterator
from typing import Self, TypeAlias

from ipvcs.errors import LimitError
from ipvcs.multiformats import codecs
from ipvcs.objects import dag_pb
from ipvcs.objects.block import BlockReader
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.hamt_shard import HamtError, decode_shard, encode_shard, hash_name, shape_of
from ipvcs.objects.inline import read_block
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.unixfs import Mtime


class HamtCollisionError(LimitError):
    """Two names agree in all bits of their hashes that a HAMT can use: only made on purpose do such names exist."""

    def __init__(self, name: bytes, other: bytes) -> None:
        super().__init__(
            f"cannot shard a directory with both '{name.decode(errors='replace')}' "
            f"and '{other.decode(errors='replace')}': their hashes are the same",
            hint="rename one of them",
        )
        self.name = name
        self.other = other


def lookup(reader: BlockReader, root: PBNode, name: bytes) -> PBLink | None:
    """Return the link to the entry `name`, None when there is none; reads the shards on the way to it only.

    Raises:
        HamtError: a shard on the way is malformed.
        BlockNotFoundError: a shard on the way is not there.
    """
    return Hamt.load(reader, root).try_get(name)


def iter_entries(reader: BlockReader, root: PBNode) -> Iterator[PBLink]:
    """Yield the links to all entries in the order of their hashes, named as the directory names them.

    Reads each shard when its turn comes and keeps one a level. The number of entries is bounded only by what
    the blocks hold; each is yielded once.

    Raises:
        HamtError, BlockNotFoundError: as `lookup`, when the walk gets there.
    """
    yield from Hamt.load(reader, root)


_Child: TypeAlias = "PBLink | _Node"
"""What is in a taken slot: an entry's link, the nameless link of a sub-shard not read yet, or a sub-shard."""


class _Node:
    """A shard in memory. `stored` is the nameless link to it as read or last written; None once it is changed."""

    __slots__ = ("slots", "stored")

    def __init__(self, slots: dict[int, _Child], stored: PBLink | None = None) -> None:
        self.slots = slots
        self.stored = stored


class Hamt:
    """A HAMT directory that can be changed. Sub-shards are read when a change or a lookup goes through them.

    Nothing is written before `write`, which writes what was changed since.
    """

    def __init__(self, fanout: int) -> None:
        """Make an empty one. `fanout` is a power of two from 8 to 1024."""
        self._shape = shape_of(fanout)
        self._root = _Node({})
        self._reader: BlockReader | None = None

    @classmethod
    def load(cls, reader: BlockReader, root: PBNode) -> Self:
        """Return the HAMT under `root`, of which nothing more is read yet; its fanout is kept.

        Raises:
            HamtError: `root` is not a HAMT's root, or malformed.
        """
        shard = decode_shard(root)
        hamt = cls(shard.shape.fanout)
        hamt._root = _Node(dict(shard.slots))
        hamt._reader = reader
        return hamt

    def try_get(self, name: bytes) -> PBLink | None:
        """Return the link to the entry `name`, None when there is none. Errors as `lookup`."""
        name_hash = hash_name(name)
        node, depth = self._root, 0
        while True:
            slot = self._shape.slot(name_hash, depth)
            child = node.slots.get(slot)
            if child is None:
                return None
            if isinstance(child, PBLink) and child.name:
                return child if child.name == name else None
            depth += 1
            node = self._descend(node, slot, name_hash, depth)

    def set(self, link: PBLink) -> PBLink | None:
        """Add the entry `link`, named with 1 or more bytes, or put it in the place of the one with its name.

        Returns:
            The link that was replaced, None when the name is new.

        Raises:
            HamtCollisionError: another entry's hash is the same; nothing has changed then.
            HamtError, BlockNotFoundError: as `lookup`.
        """
        name = link.name
        assert name
        name_hash = hash_name(name)
        node, depth = self._root, 0
        way = [node]
        while True:
            slot = self._shape.slot(name_hash, depth)
            child = node.slots.get(slot)
            if child is None:
                replaced = None
                break
            if isinstance(child, PBLink) and child.name:
                if child.name == name:
                    replaced = child
                    break
                # The slot becomes a shard of both; they may go on sharing slots for some levels.
                node.slots[slot] = self._shard_of(child, name_hash, name, depth + 1)
            depth += 1
            node = self._descend(node, slot, name_hash, depth)
            way.append(node)
        node.slots[slot] = link
        for node in way:
            node.stored = None
        return replaced

    def remove(self, name: bytes) -> PBLink | None:
        """Remove the entry `name`; return its link, None when there was none. Errors as `lookup`."""
        name_hash = hash_name(name)
        node, depth = self._root, 0
        way: list[tuple[_Node, int]] = []
        while True:
            slot = self._shape.slot(name_hash, depth)
            way.append((node, slot))
            child = node.slots.get(slot)
            if child is None:
                return None
            if isinstance(child, PBLink) and child.name:
                if child.name != name:
                    return None
                break
            depth += 1
            node = self._descend(node, slot, name_hash, depth)
        del node.slots[slot]
        for node, _ in way:
            node.stored = None
        self._fold(way)
        return child

    def __iter__(self) -> Iterator[PBLink]:
        """Yield the links to all entries in the order of their hashes; shards not in memory are read and let go."""
        stack = [(iter(sorted(self._root.slots.items())), 0)]
        while stack:
            slots, path = stack[-1]
            for slot, child in slots:
                if isinstance(child, PBLink) and child.name:
                    yield child
                    continue
                below = path << self._shape.bits | slot
                shard = child if isinstance(child, _Node) else self._read(child, len(stack), below)
                stack.append((iter(sorted(shard.slots.items())), below))
                break
            else:
                stack.pop()

    def write(self, nodes: NodeWriter, *, mode: int | None = None, mtime: Mtime | None = None) -> Built:
        """Write the root, which carries `mode` and `mtime`, and every changed shard; return the directory."""
        return self._write(self._root, nodes, mode, mtime)

    def _write(self, node: _Node, nodes: NodeWriter, mode: int | None = None, mtime: Mtime | None = None) -> Built:
        """Recursion is bounded by the depth that hashes allow, at most 21."""
        slots: list[tuple[int, PBLink]] = []
        for slot in sorted(node.slots):
            child = node.slots[slot]
            if isinstance(child, _Node):
                if child.stored is None:
                    child.stored = self._write(child, nodes).link()
                child = child.stored
            slots.append((slot, child))
        links, data = encode_shard(self._shape, slots, mode, mtime)
        return nodes.put_node(links, data)

    def _descend(self, node: _Node, slot: int, name_hash: int, depth: int) -> _Node:
        """Return the sub-shard in `slot`, at level `depth`, and keep it in memory if it was not."""
        child = node.slots[slot]
        if isinstance(child, PBLink):
            child = self._read(child, depth, self._shape.path(name_hash, depth))
            node.slots[slot] = child
        return child

    def _read(self, link: PBLink, depth: int, path: int) -> _Node:
        assert self._reader is not None  # without one there are no unread shards
        if link.cid.codec != codecs.DAG_PB:
            raise HamtError(f"sub-shard '{link.cid}' is not a dag-pb block")
        node = dag_pb.decode(read_block(self._reader, link.cid))
        return _Node(dict(decode_shard(node, self._shape, depth, path).slots), link)

    def _shard_of(self, entry: PBLink, name_hash: int, name: bytes, depth: int) -> _Node:
        """Return a shard at level `depth` that holds `entry`, so that `name` can join it."""
        assert entry.name
        other_hash = hash_name(entry.name)
        usable = self._shape.max_depth
        if self._shape.path(name_hash, usable) == self._shape.path(other_hash, usable):
            raise HamtCollisionError(name, entry.name)
        return _Node({self._shape.slot(other_hash, depth): entry})

    @staticmethod
    def _fold(way: list[tuple[_Node, int]]) -> None:
        """After a removal, undo the shards on the way that no longer hold two names."""
        while len(way) > 1:
            node, _ = way.pop()
            parent, slot = way[-1]
            if not node.slots:  # nobody's writer leaves one entry alone in a shard, but a stranger's may
                del parent.slots[slot]
                continue
            if len(node.slots) > 1:
                return
            (child,) = node.slots.values()
            if isinstance(child, _Node) or not child.name:
                return
            parent.slots[slot] = child
