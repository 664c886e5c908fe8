r"""Files as DAGs: chunks become leaves, leaves become a balanced or a trickle tree.

    balanced (width 2)            trickle (width 2, first levels)

         root                      root ── leaf, leaf
        /    \                      ├─ 4 x (leaf, leaf)                  depth 1
      ( )    ( )                    ├─ 4 x (leaf, leaf, 4 x depth 1)     depth 2
      / \    /                      └─ …
     A   B  C

All leaves of a balanced tree have the same depth; it is the default. A trickle tree grows deeper to the right, so that
its start can be read, and its end appended to, without touching the rest.

The tree is built while the chunks stream in: only the links of the nodes still open are in memory, one node a level.

Spec: https://specs.ipfs.tech/unixfs/#layout, balanced and trickle as boxo lays them out.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Final

from ipvcs.errors import LimitError
from ipvcs.objects import unixfs
from ipvcs.objects.block import MAX_BLOCK_SIZE, Block, BlockWriter
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.parallel_hash import map_chunks
from ipvcs.objects.profile import ImportOptions
from ipvcs.objects.protobuf import encode_varint
from ipvcs.objects.unixfs import MODE_MASK, DataType, Mtime, UnixfsData

TRICKLE_REPEAT: Final = 4
"""Sub-trees of each depth under a trickle node (boxo's depthRepeat)."""


class ChunkTooLargeError(LimitError):
    """A chunk of `size` bytes would be a block that not every peer takes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"chunk of {size} bytes is over the block limit of {MAX_BLOCK_SIZE}")
        self.size = size


def build_file(
    chunks: Iterable[bytes],
    options: ImportOptions,
    writer: BlockWriter,
    *,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Built:
    """Store a file whose content is `chunks` in order, drawn and written as a stream.

    `options.chunker` is not looked at: whoever calls has cut already. `mode` (its low 12 bits; 0 is none) and `mtime`
    go into the root, which therefore is dag-pb even where leaves are raw; of a file of one chunk, root and leaf are
    one block. Empty chunks are left out. Blocks reach `writer` in the calling thread, children before parents.

    Raises:
        ChunkTooLargeError: a chunk over 2 MiB.
        IdentityTooLongError: the options' hash function is identity and a block too long for it.
    """
    nodes = NodeWriter(options, writer)
    source = filter(None, chunks)
    if options.trickle:
        return _Trickle(_leaves(source, nodes, DataType.RAW), nodes).fill_root(mode, mtime)
    first = next(source, b"")
    second = next(source, b"")
    if not second:
        return _build_single(first, nodes, mode, mtime)
    tree = _Balanced(nodes)
    for leaf in _leaves(chain((first, second), source), nodes, DataType.FILE):
        tree.add(leaf)
    return tree.finish(mode, mtime)


def _build_single(data: bytes, nodes: NodeWriter, mode: int | None, mtime: Mtime | None) -> Built:
    """Store a file that is one leaf."""
    if (mode or 0) & MODE_MASK or mtime is not None:
        _check_size(data)
        message = UnixfsData(DataType.FILE, data=data or None, filesize=len(data), mode=mode, mtime=mtime)
        return nodes.put_node((), unixfs.encode(message), len(data))
    block = _make_leaf(data, nodes, DataType.FILE)
    nodes.put(block)
    return Built(block.cid, len(block.data), len(data))


def _leaves(chunks: Iterator[bytes], nodes: NodeWriter, kind: DataType) -> Iterator[Built]:
    """Put a leaf for each chunk, hashing ahead in threads."""

    def make(chunk: bytes) -> tuple[Block, int]:
        return _make_leaf(chunk, nodes, kind), len(chunk)

    for block, filesize in map_chunks(make, chunks):
        nodes.put(block)
        yield Built(block.cid, len(block.data), filesize)


def _make_leaf(chunk: bytes, nodes: NodeWriter, kind: DataType) -> Block:
    _check_size(chunk)
    if nodes.options.raw_leaves:
        return nodes.make_raw(chunk)
    return nodes.make_encoded_node(_encode_leaf(chunk, kind))


def _encode_leaf(chunk: bytes, kind: DataType) -> bytes:
    """Return the dag-pb node with the UnixFS data of a leaf, as the codecs would, but with the chunk copied only once.

    Two copies of every byte, one into the UnixFS message and one into the node, cost as much as its hash.
    """
    length = encode_varint(len(chunk))
    # The empty file has no data field, rather than an empty one: QmbFMke1….
    head = b"\x08" + encode_varint(kind) + (b"\x12" + length if chunk else b"")
    tail = b"\x18" + length  # filesize
    return b"".join((b"\x0a", encode_varint(len(head) + len(chunk) + len(tail)), head, chunk, tail))


def _check_size(chunk: bytes) -> None:
    if len(chunk) > MAX_BLOCK_SIZE:
        raise ChunkTooLargeError(len(chunk))


def _put_inner(
    children: Sequence[Built], nodes: NodeWriter, mode: int | None = None, mtime: Mtime | None = None
) -> Built:
    """Put the node over `children`."""
    sizes = tuple([child.filesize for child in children])
    filesize = sum(sizes)
    message = UnixfsData(DataType.FILE, filesize=filesize, blocksizes=sizes, mode=mode, mtime=mtime)
    return nodes.put_node([child.link() for child in children], unixfs.encode(message), filesize)


class _Balanced:
    """A balanced tree while it grows. `_levels[h]` holds the children, each of height h, of the node open above them.

    A full node is closed only when one more child comes, so every level has at least one child, and the top level
    of two or more leaves at least two.
    """

    def __init__(self, nodes: NodeWriter) -> None:
        self._nodes = nodes
        self._levels: list[list[Built]] = []

    def add(self, child: Built, height: int = 0) -> None:
        """Append the next child of `height`."""
        while height < len(self._levels):
            level = self._levels[height]
            if len(level) < self._nodes.options.max_file_links:
                level.append(child)
                return
            self._levels[height] = [child]
            child = _put_inner(level, self._nodes)
            height += 1
        self._levels.append([child])

    def finish(self, mode: int | None, mtime: Mtime | None) -> Built:
        """Close the open nodes from below and return the root."""
        height = 0
        while height < len(self._levels) - 1:
            self.add(_put_inner(self._levels[height], self._nodes), height + 1)
            height += 1
        return _put_inner(self._levels[-1], self._nodes, mode, mtime)


class _Trickle:
    """A trickle tree, filled in reading order from `leaves`."""

    def __init__(self, leaves: Iterator[Built], nodes: NodeWriter) -> None:
        self._leaves = leaves
        self._nodes = nodes
        self._pending = next(leaves, None)

    def fill_root(self, mode: int | None, mtime: Mtime | None) -> Built:
        """Return the root: a node even over a single leaf, or none."""
        return _put_inner(self._fill(count(1)), self._nodes, mode, mtime)

    def _fill(self, depths: Iterable[int]) -> list[Built]:
        """Take a layer of leaves, then sub-trees of each of `depths`; return them as children.

        Recursion is as deep as the tree, and that grows with the logarithm of the file.
        """
        children: list[Built] = []
        while self._pending is not None and len(children) < self._nodes.options.max_file_links:
            children.append(self._pending)
            self._pending = next(self._leaves, None)
        for depth in depths:
            for _ in range(TRICKLE_REPEAT):
                if self._pending is None:
                    return children
                children.append(_put_inner(self._fill(range(1, depth)), self._nodes))
        return children
