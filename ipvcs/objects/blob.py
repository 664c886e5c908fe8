"""Files as the white paper has them: a *blob* is bytes, a *list* is links to blobs or lists in order.

Both are views of one block: a raw block, or a dag-pb node whose UnixFS data says File (or Raw, a leaf of old). A File
may hold bytes of its own *and* links; its bytes come first.

Spec: https://specs.ipfs.tech/unixfs/ and white paper §3.6.1-3.6.2.
"""

from dataclasses import dataclass
from typing import Final

from ipvcs.errors import DecodeError, UsageError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.commit import is_object_data
from ipvcs.objects.unixfs import DataType, Mtime

MAX_FILE_SIZE: Final = (1 << 63) - 1
"""Bytes; offsets are signed 64-bit wherever files are read."""

_FILE_TYPES: Final = (DataType.FILE, DataType.RAW)
_KIND_NAMES: Final = {
    DataType.DIRECTORY: "a directory",
    DataType.HAMT_SHARD: "a directory",
    DataType.SYMLINK: "a symlink",
    DataType.METADATA: "UnixFS metadata",
}


class FileNodeError(DecodeError):
    """A block of a file contradicts itself: the sizes it claims do not fit its links or its bytes."""

    def __init__(self, cid: Cid, problem: str) -> None:
        super().__init__(f"file node '{cid}' is damaged: {problem}")
        self.cid = cid


class NotAFileError(UsageError):
    """What was to be read as a file is something else: `kind`, with its article."""

    exit_code = 128

    def __init__(self, cid: Cid, kind: str, *, hint: str | None = None) -> None:
        super().__init__(f"'{cid}' is {kind}, not a file", hint=hint)
        self.cid = cid
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of a file without links. `mode` (permission bits) and `mtime` are None when not recorded."""

    data: bytes
    mode: int | None = None
    mtime: Mtime | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class ListPart:
    """A child of a list. `size` is the bytes of the file that lie below it, as the list claims: untrusted."""

    cid: Cid
    size: int


@dataclass(frozen=True, slots=True)
class BlobList:
    """A file in parts: `data` (nearly always empty), then each of `parts`. `size` is claimed, and the sum of both."""

    data: bytes
    parts: tuple[ListPart, ...]
    size: int
    mode: int | None = None
    mtime: Mtime | None = None


def decode_file(cid: Cid, data: bytes) -> Blob | BlobList:
    """Return what the block (`cid`, `data`) is as a file.

    Raises:
        NotAFileError: a directory, symlink, commit or tag, a plain dag-pb node, or another codec.
        FileNodeError: not one blocksize for each link, or a filesize that is not their sum with the node's own bytes.
        DagPbError, UnixfsError: not decodable.
    """
    codec = cid.codec
    if codec == codecs.RAW:
        return Blob(data)
    if codec != codecs.DAG_PB:
        raise NotAFileError(cid, f"a {codecs.name_of(codec)} node", hint="use `ipvcs dag get` to see it")
    node = dag_pb.decode(data)
    if is_object_data(node.data):
        raise NotAFileError(cid, "a commit or tag", hint=f"the snapshot is at '{cid}/object'")
    if node.data is None:
        raise NotAFileError(cid, "a dag-pb node without UnixFS data", hint="use `ipvcs dag get` to see it")
    message = unixfs.decode(node.data)
    if message.type not in _FILE_TYPES:
        raise NotAFileError(cid, _KIND_NAMES[message.type], hint="use `ipvcs ls` or `ipvcs get`")
    return file_of(cid, node, message)


def file_of(cid: Cid, node: dag_pb.PBNode, message: unixfs.UnixfsData) -> Blob | BlobList:
    """Return the file that a decoded File or Raw node is; `cid` names it in errors.

    Raises:
        FileNodeError: as `decode_file`.
    """
    assert message.type in _FILE_TYPES
    own = message.data or b""
    if len(message.blocksizes) != len(node.links):
        raise FileNodeError(cid, f"it has {len(node.links)} links but {len(message.blocksizes)} blocksizes")
    size = len(own) + sum(message.blocksizes)
    if message.filesize is not None and message.filesize != size:
        raise FileNodeError(cid, f"it claims {message.filesize} bytes, but its parts add up to {size}")
    if size > MAX_FILE_SIZE:
        raise FileNodeError(cid, f"its parts add up to {size} bytes")
    if not node.links:
        return Blob(own, message.mode, message.mtime)
    parts = tuple(ListPart(link.cid, part) for link, part in zip(node.links, message.blocksizes, strict=True))
    return BlobList(own, parts, size, message.mode, message.mtime)
