"""IPFS objects by the white paper's types: blob, list, tree, commit and tag, and the symlink that UnixFS adds.

One block is one object; `view` says which, and gives it as that type. A dag-pb node that is none of them is a `PBNode`.

Spec: white paper §3.5-3.6, DESIGN §3.
"""

from typing import Final, TypeAlias

from ipvcs.errors import UsageError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.blob import Blob, BlobList, file_of
from ipvcs.objects.commit import CommitError, CommitObject, ObjectKind, commit_of, decode_object_data, is_object_data
from ipvcs.objects.dag_pb import PBNode
from ipvcs.objects.symlink import Symlink, symlink_of
from ipvcs.objects.tag import TagObject, tag_of
from ipvcs.objects.tree import Tree, tree_of
from ipvcs.objects.unixfs import DataType, UnixfsError

Object: TypeAlias = Blob | BlobList | Tree | Symlink | CommitObject | TagObject | PBNode

_TYPE_NAMES: Final[dict[type, str]] = {
    Blob: "blob",
    BlobList: "list",
    Tree: "tree",
    Symlink: "symlink",
    CommitObject: "commit",
    TagObject: "tag",
    PBNode: "node",
}


class NotAnObjectError(UsageError):
    """A block of a codec that has no white-paper type."""

    exit_code = 128

    def __init__(self, cid: Cid) -> None:
        super().__init__(
            f"'{cid}' is a {codecs.name_of(cid.codec)} node, not an IPFS object", hint="use `ipvcs dag get` to see it"
        )
        self.cid = cid


def view(cid: Cid, data: bytes) -> Object:
    """Return the object that the block (`cid`, `data`) is.

    A node whose data is no UnixFS, or UnixFS metadata, is returned as it is.

    Raises:
        NotAnObjectError: neither raw nor dag-pb.
        DagPbError, FileNodeError, SymlinkError, CommitError, ObjectDataError: damaged.
    """
    if cid.codec == codecs.RAW:
        return Blob(data)
    if cid.codec != codecs.DAG_PB:
        raise NotAnObjectError(cid)
    node = dag_pb.decode(data)
    if node.data is None:
        return node
    if is_object_data(node.data):
        return _commit_or_tag(node)
    try:
        message = unixfs.decode(node.data)
    except UnixfsError:
        return node
    if message.type in (DataType.FILE, DataType.RAW):
        return file_of(cid, node, message)
    if message.type in (DataType.DIRECTORY, DataType.HAMT_SHARD):
        return tree_of(node, message)
    if message.type is DataType.SYMLINK:
        return symlink_of(cid, node, message)
    return node


def type_name(obj: Object) -> str:
    """Return the word for the object's type: `blob`, `list`, `tree`, `symlink`, `commit`, `tag`, or else `node`."""
    return _TYPE_NAMES[type(obj)]


def decode_object(data: bytes) -> CommitObject | TagObject:
    """Return the commit or tag whose block is `data`, in the one encoding it has.

    Raises:
        CommitError: the block decodes, but not as `encode_commit` or `encode_tag` would have written it.
        DagPbError, ObjectDataError: not a dag-pb node, or neither commit nor tag.
    """
    node = dag_pb.decode(data)
    obj = _commit_or_tag(node)
    if dag_pb.encode(node) != data:
        raise CommitError("commit or tag is not in canonical dag-pb form")
    return obj


def _commit_or_tag(node: PBNode) -> CommitObject | TagObject:
    kind = decode_object_data(node.data or b"").kind
    return commit_of(node) if kind is ObjectKind.COMMIT else tag_of(node)
