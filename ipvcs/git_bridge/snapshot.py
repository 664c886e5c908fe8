"""Where a ref leads in the end: what is behind its tags, and the tree or blob that people browse.

    tag ─object─► tag ─object─► commit ─object─► tree

Spec: DESIGN §5 "heads/<branch>", "tags/<tag>"; gitrevisions(7) "<rev>^{}"
"""

from dataclasses import dataclass

from ipvcs.errors import DecodeError
from ipvcs.git_bridge.refs_table import Ref
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb
from ipvcs.objects.block import BlockReader
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.git.headers import HeaderError, parse_tag
from ipvcs.objects.git.layout import saturate
from ipvcs.objects.git.node import Node, NodeForm, read_node, read_payload
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.payload import split_payload
from ipvcs.objects.inline import read_block


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`peeled` is the object behind a ref's tags, None when it points at no tag; `content` the tree or blob (CID and
    size; no name), None where there is none: behind a tag or commit whose header does not parse.
    """

    peeled: ObjectId | None
    content: PBLink | None


def take_snapshot(reader: BlockReader, ref: Ref, object_format: ObjectFormat) -> Snapshot:
    """Follow `ref` to its end. Its nodes are trusted to be what was mapped.

    Raises:
        BlockNotFoundError: a node on the way is not there.
        DecodeError, GitNodeError: it is none.
    """
    node = read_node(reader, ref.cid)
    peeled: ObjectId | None = None
    while node.form is NodeForm.TAG:
        target = _target(reader, node, object_format)
        link = _object_link(node)
        if target is None or link is None:  # git can't peel it either
            return Snapshot(peeled, None)
        peeled = target
        node = read_node(reader, link.cid)
    if node.form is NodeForm.COMMIT:
        return Snapshot(peeled, _object_link(node))
    return Snapshot(peeled, PBLink(node.cid, None, cumulative_size(reader, node.cid)))


def cumulative_size(reader: BlockReader, cid: Cid) -> int:
    """Return the size that a link to `cid` carries: of its block and of all that it links to."""
    data = read_block(reader, cid)
    if cid.codec != codecs.DAG_PB:
        return len(data)
    return saturate(len(data) + sum(link.size or 0 for link in dag_pb.decode(data).links))


def _target(reader: BlockReader, node: Node, object_format: ObjectFormat) -> ObjectId | None:
    try:
        _type, body = split_payload(read_payload(reader, node))
        return parse_tag(body, object_format).object
    except (HeaderError, DecodeError):
        return None


def _object_link(node: Node) -> PBLink | None:
    assert node.block is not None
    return next((link for link in node.block.links if link.name == b"object"), None)
