"""Blocks to Git objects: the reading side of Git mapping v1.

An object comes back as the exact bytes that git hashes, and proves itself by that hash: who knows its id needs to trust
neither the node nor where its blocks are from. That its *links* are right takes `check.py`.

Spec: DESIGN §3.1 "payload"; docs/git-mapping.md §8
"""

from dataclasses import dataclass

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader
from ipvcs.objects.chunkers.interface import Read
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.blob import HashedRead, reader_of
from ipvcs.objects.git.node import (
    MAX_PAYLOAD,
    GitNodeError,
    Node,
    NodeForm,
    PayloadTooLargeError,
    read_node,
    read_payload,
)
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, verify_oid
from ipvcs.objects.git.payload import (
    MAX_HEADER,
    GitType,
    PayloadError,
    decode_header,
    encode_header,
    make_payload,
    split_payload,
)

_TYPES = {
    NodeForm.TREE: GitType.TREE,
    NodeForm.OPAQUE_TREE: GitType.TREE,
    NodeForm.COMMIT: GitType.COMMIT,
    NodeForm.TAG: GitType.TAG,
}
_READ_SIZE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GitObject:
    """An object on its way out: `read` gives the `size` bytes of its body once, and never wrong ones unnoticed.

    Where the body was too large to be hashed beforehand, `read` raises ObjectIdMismatchError in place of its last b"".
    So nothing may be believed before that has come.
    """

    oid: ObjectId
    type: GitType
    size: int
    read: Read

    def body(self) -> bytes:
        """Return the whole body, proven. For a blob: as large as the blob, see `size`."""
        pieces = []
        while piece := self.read(_READ_SIZE):
            pieces.append(piece)
        return b"".join(pieces)

    def payload(self) -> bytes:
        """Return header and body as git hashes them, proven; see `body`."""
        return encode_header(self.type, self.size) + self.body()


def open_object(
    reader: BlockReader, cid: Cid, oid: ObjectId, object_format: ObjectFormat, *, max_payload: int = MAX_PAYLOAD
) -> GitObject:
    """Open the object `oid` that the node `cid` carries, whatever kind of node it is.

    Trees, commits, tags and symlinks are proven at once, files while they are read.

    Raises:
        ObjectIdMismatchError: the node carries another object.
        GitNodeError: the node is none of the mapping, or of another type than its payload.
        PayloadTooLargeError: a tree, commit or tag over `max_payload` bytes.
        DecodeError, NotAFileError: a block is malformed.
        BlockNotFoundError: a block is not there.
    """
    node = read_node(reader, cid)
    if node.form is NodeForm.FILE:
        return _open_file(FileReader(reader, cid), oid, object_format)
    if node.form is NodeForm.SYMLINK:
        target = node.inline or b""
        verify_oid(object_format, encode_header(GitType.BLOB, len(target)) + target, oid)
        return GitObject(oid, GitType.BLOB, len(target), reader_of(target))
    payload = read_payload(reader, node, max_payload)
    verify_oid(object_format, payload, oid)
    git_type, body = _split(node, payload)
    return GitObject(oid, git_type, len(body), reader_of(body))


def git_payload(reader: BlockReader, cid: Cid, *, max_payload: int = MAX_PAYLOAD) -> tuple[GitType, bytes]:
    """Return (type, payload) of the object that the node `cid` carries, for those who know no id: hash it to get one.

    A file is taken for a blob, which it nearly always is (see `verbatim_type`).

    Raises:
        PayloadTooLargeError: over `max_payload` bytes, blobs too: they come whole.
        GitNodeError, DecodeError, NotAFileError, BlockNotFoundError: as `open_object`.
    """
    node = read_node(reader, cid)
    if node.form is NodeForm.SYMLINK:
        return GitType.BLOB, make_payload(GitType.BLOB, node.inline or b"")
    if node.form is NodeForm.FILE:
        file = FileReader(reader, cid)
        if file.size > max_payload:
            raise PayloadTooLargeError(cid, file.size, max_payload)
        return GitType.BLOB, make_payload(GitType.BLOB, file.readall())
    payload = read_payload(reader, node, max_payload)
    git_type, _body = _split(node, payload)
    return git_type, payload


def verbatim_type(file: FileReader, oid: ObjectId, object_format: ObjectFormat) -> GitType | None:
    """Return the type of the object `oid` if `file` is that object's payload, header and all, else None.

    Moves the file's position. Only a file that starts with the header of an object of just its length is read whole.
    """
    try:
        file.seek(0)
        git_type, size, end = decode_header(file.read(MAX_HEADER))
    except PayloadError:
        return None
    if end + size != file.size:
        return None
    digest = object_format.hasher()
    file.seek(0)
    while piece := file.read(_READ_SIZE):
        digest.update(piece)
    return git_type if digest.digest() == oid.raw else None


def _split(node: Node, payload: bytes) -> tuple[GitType, bytes]:
    git_type, body = split_payload(payload)
    if git_type is not _TYPES[node.form]:
        raise GitNodeError(node.cid, f"it is of the form '{node.form}' but its payload is a {git_type}")
    return git_type, body


def _open_file(file: FileReader, oid: ObjectId, object_format: ObjectFormat) -> GitObject:
    git_type, size = GitType.BLOB, file.size
    header = encode_header(git_type, size)
    skipped = 0
    if (verbatim := verbatim_type(file, oid, object_format)) is not None:
        file.seek(0)
        git_type, size, skipped = decode_header(file.read(MAX_HEADER))
        assert git_type is verbatim
        header = encode_header(git_type, size)
    file.seek(skipped)
    return GitObject(oid, git_type, size, _ProvenRead(object_format, header, file, size, oid))


class _ProvenRead:
    """`read` of a file's rest that raises at the end if header and rest are not the object."""

    def __init__(
        self, object_format: ObjectFormat, header: bytes, file: FileReader, size: int, expected: ObjectId
    ) -> None:
        self._hashed = HashedRead(object_format, header, size, file.read)
        self._expected = expected

    def __call__(self, size: int) -> bytes:
        data = self._hashed(size)
        if not data and size:
            self._hashed.finish(self._expected)
        return data
