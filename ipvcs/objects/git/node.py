"""A node of the mapping as it lies in its block: what form it has, and where its payload is.

Nothing here trusts or checks what a node says; `check.py` does.

Spec: docs/git-mapping.md §8
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from ipvcs.errors import IntegrityError, LimitError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, directory, unixfs
from ipvcs.objects.block import BlockReader
from ipvcs.objects.commit import ObjectKind, decode_object_data, is_object_data
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.opaque import OPAQUE_PAYLOAD_ENTRY
from ipvcs.objects.git.tree_entries import PAYLOAD_ENTRY
from ipvcs.objects.inline import read_block
from ipvcs.objects.unixfs import DataType

MAX_PAYLOAD: Final = 128 * 1024 * 1024
"""Bytes of a tree, commit or tag that is read from blocks: it is held whole. Git hosts stop at less."""


class GitNodeError(IntegrityError):
    """A node is not what the mapping makes of any Git object, or not of the one that it was linked as."""

    def __init__(self, cid: Cid, problem: str, *, parent: Cid | None = None, name: bytes = b"") -> None:
        """Say what is wrong with `cid`, and, when it was come upon by a link, which `name` of which `parent`."""
        where = f", link '{name[:80].decode(errors='backslashreplace')}' of '{parent}'," if parent else ""
        super().__init__(f"node '{cid}'{where} is not valid: {problem}")
        self.cid = cid
        self.problem = problem
        self.parent = parent
        self.name = name


class PayloadTooLargeError(LimitError):
    """A tree, commit or tag is larger than we hold in memory."""

    def __init__(self, cid: Cid, size: int, limit: int) -> None:
        super().__init__(f"object at '{cid}' has {size} bytes, over the limit of {limit}")
        self.cid = cid
        self.size = size


class NodeForm(Enum):
    """What a node is by the look of its block."""

    FILE = auto()
    SYMLINK = auto()
    TREE = auto()
    OPAQUE_TREE = auto()
    COMMIT = auto()
    TAG = auto()

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Node:
    """A node. Its payload is `inline`, or in the file behind `payload_link`; files have neither.

    `inline` of a symlink is its target. `block` is the decoded root, None for a file.
    """

    cid: Cid
    form: NodeForm
    block: PBNode | None = None
    inline: bytes | None = None
    payload_link: PBLink | None = None


def read_node(reader: BlockReader, cid: Cid) -> Node:
    """Read the root block of the node `cid`, and what it takes to find the payload of a sharded tree.

    Raises:
        GitNodeError: it is none.
        DecodeError: a block does not decode.
        BlockNotFoundError: a block is not there.
    """
    if cid.codec == codecs.RAW:
        return Node(cid, NodeForm.FILE)
    if cid.codec != codecs.DAG_PB:
        raise GitNodeError(cid, f"it is {codecs.name_of(cid.codec)}")
    block = dag_pb.decode(read_block(reader, cid))
    if is_object_data(block.data):
        message = decode_object_data(block.data or b"")
        form = NodeForm.COMMIT if message.kind is ObjectKind.COMMIT else NodeForm.TAG
        return Node(cid, form, block, message.payload, _find_link(block, b"payload"))
    if block.data is None:
        raise GitNodeError(cid, "it has no data")
    data = unixfs.decode(block.data)
    if data.type in (DataType.FILE, DataType.RAW):
        return Node(cid, NodeForm.FILE)
    if data.type is DataType.SYMLINK:
        return Node(cid, NodeForm.SYMLINK, block, data.data or b"")
    if data.type is DataType.DIRECTORY and data.data is not None:
        return Node(cid, NodeForm.TREE, block, data.data)
    payload_link = directory.lookup(reader, block, PAYLOAD_ENTRY)  # raises unless it is a directory
    if payload_link is None and data.type is DataType.DIRECTORY:
        return Node(cid, NodeForm.OPAQUE_TREE, block, None, _find_link(block, OPAQUE_PAYLOAD_ENTRY))
    return Node(cid, NodeForm.TREE, block, None, payload_link)


def read_payload(reader: BlockReader, node: Node, max_size: int = MAX_PAYLOAD) -> bytes:
    """Return the payload of a tree, commit or tag as its node has it; hash it before use.

    Raises:
        GitNodeError: it has none, or two.
        PayloadTooLargeError: it is over `max_size` bytes.
        DecodeError, NotAFileError, BlockNotFoundError: the payload's file is damaged, none, or not there.
    """
    if (node.inline is None) == (node.payload_link is None):
        raise GitNodeError(node.cid, "it has no payload" if node.inline is None else "it has two payloads")
    if node.inline is not None:
        return node.inline
    assert node.payload_link is not None
    file = FileReader(reader, node.payload_link.cid)
    if file.size > max_size:
        raise PayloadTooLargeError(node.cid, file.size, max_size)
    return file.readall()


def _find_link(block: PBNode, name: bytes) -> PBLink | None:
    return next((link for link in block.links if link.name == name), None)
