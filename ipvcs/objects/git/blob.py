"""Blobs: the one type of Git object whose bytes are not kept with their header, so that they are files for everybody.

    regular      the blob or list of the bytes
    executable   a UnixFS File with mode 0755 over the same leaves
    symlink      a UnixFS Symlink; a target over 4,096 bytes is a plain file

Bytes are pulled through a `read` function and never held whole, except the target of a symlink.

Spec: DESIGN §3.1 "blob"; docs/git-mapping.md §4
"""

from dataclasses import replace
from io import BytesIO
from typing import Final

from ipvcs.multiformats import codecs
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.block import Block, BlockWriter
from ipvcs.objects.chunkers.buffering import read_full
from ipvcs.objects.chunkers.interface import Chunker, Read
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.git.layout import LAYOUT, Mapped, saturate
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, ObjectIdMismatchError
from ipvcs.objects.unixfs import DataType, UnixfsData

MAX_SYMLINK_TARGET: Final = 4096
"""Bytes (PATH_MAX); no system makes a longer one, so a longer one is nothing to check out as a symlink."""
EXECUTABLE_MODE: Final = 0o755

_BLOB_KINDS: Final = (NodeKind.REGULAR, NodeKind.EXECUTABLE, NodeKind.SYMLINK)


class HashedRead:
    """A `read` function that hashes what passes through it and proves at the end that it was the object `expected`."""

    def __init__(self, object_format: ObjectFormat, header: bytes, size: int, read: Read) -> None:
        """Expect `size` bytes from `read`, hashed after `header`."""
        self._hash = object_format.hasher()
        self._hash.update(header)
        self._read = read
        self._left = size

    def __call__(self, size: int) -> bytes:
        """Return up to `size` bytes, b"" at the end."""
        data = self._read(size)
        self._hash.update(data)
        self._left -= len(data)
        return data

    def finish(self, expected: ObjectId) -> None:
        """Check that exactly the promised bytes came.

        Raises:
            ObjectIdMismatchError: they are another object's, or too few or too many.
        """
        actual = ObjectId(self._hash.digest())
        if actual != expected or self._left:
            raise ObjectIdMismatchError(expected, actual)


def build_blob(kind: NodeKind, size: int, read: Read, chunker: Chunker, writer: BlockWriter) -> Mapped:
    """Store the blob of `size` bytes that `read` gives as a node of `kind`: REGULAR, EXECUTABLE or SYMLINK."""
    assert kind in _BLOB_KINDS
    if kind is NodeKind.SYMLINK and size <= MAX_SYMLINK_TARGET:
        # One byte more than there should be: who lies about `size` is found out by the hash.
        return _put_node((), UnixfsData(DataType.SYMLINK, data=read_full(read, size + 1)), kind, writer)
    if kind is NodeKind.EXECUTABLE:
        return _build_executable(read, chunker, writer)
    built = build_file(chunker.chunks(read), LAYOUT, writer)
    return Mapped(built.cid, saturate(built.size), kind)


def _build_executable(read: Read, chunker: Chunker, writer: BlockWriter) -> Mapped:
    """Store a UnixFS File with mode 0755 and "one unnamed link to the plain blob (for a list: the list's own links;
    empty: no link)".
    """
    held = _HeldRoot(writer)
    plain = build_file(chunker.chunks(read), LAYOUT, held)
    root = held.take()
    links: tuple[PBLink, ...] = ()
    if plain.cid.codec == codecs.DAG_PB:
        node = dag_pb.decode(root.data)
        assert node.data is not None
        message, links = unixfs.decode(node.data), node.links
    elif plain.filesize:
        writer.put(root)
        message = UnixfsData(DataType.FILE, filesize=plain.filesize, blocksizes=(plain.filesize,))
        links = (plain.link(),)
    else:
        message = UnixfsData(DataType.FILE, filesize=0)
    return _put_node(links, replace(message, mode=EXECUTABLE_MODE), NodeKind.EXECUTABLE, writer)


def _put_node(links: tuple[PBLink, ...], message: UnixfsData, kind: NodeKind, writer: BlockWriter) -> Mapped:
    block = Block.of(dag_pb.encode_parts(links, unixfs.encode(message)), codecs.DAG_PB)
    writer.put(block)
    return Mapped(block.cid, saturate(len(block.data) + sum([link.size or 0 for link in links])), kind)


class _HeldRoot:
    """A writer that passes blocks on one behind, so that the last one, the root, can be changed or left out."""

    def __init__(self, writer: BlockWriter) -> None:
        self._writer = writer
        self._held: Block | None = None

    def put(self, block: Block) -> None:
        """Hold `block` and pass on the one before it."""
        if self._held is not None:
            self._writer.put(self._held)
        self._held = block

    def take(self) -> Block:
        """Return the last block, which has not been passed on."""
        assert self._held is not None
        return self._held


def reader_of(data: bytes) -> Read:
    """Return a `read` function over bytes in memory."""
    return BytesIO(data).read
