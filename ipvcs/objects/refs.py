"""The links of a DAG as edges: what `ipvcs refs` prints.

Order, uniqueness and depth limits are those of Kubo's `refs`: with both `unique` and a depth limit a node that was
first met deep down is walked again, without being listed again, when it is met nearer to the root.

Spec: Kubo's `ipfs refs --help`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import codec_registry, dag_pb
from ipvcs.objects.block import BlockNotFoundError, BlockReader
from ipvcs.objects.inline import read_block
from ipvcs.objects.pending_links import PendingLinks
from ipvcs.objects.walk import MissingBlocksError

EDGES_FORMAT: Final = "<src> -> <dst>"
"""What `--edges` prints."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One link of `source`. `name` is empty where the codec names no links, or the link has no name."""

    source: Cid
    target: Cid
    name: bytes = b""


def iter_refs(
    reader: BlockReader,
    root: Cid,
    *,
    recursive: bool = False,
    unique: bool = False,
    max_depth: int = -1,
    on_missing: Callable[[Cid, Cid | None], None] | None = None,
) -> Iterator[Edge]:
    """Yield the links of `root` and, if `recursive`, of all that they lead to, in depth-first pre-order.

    Args:
        reader: where the blocks are. Raw blocks have no links and are not read.
        root: itself not listed, unless something below links to it, which nothing can.
        recursive: follow the links; if not, `max_depth` is 1 whatever is given.
        unique: list each target once. Without it a DAG with much sharing has more paths than can be listed.
        max_depth: 1 is the root's own links, 0 none, -1 no limit.
        on_missing: as in `walk.walk`.

    Raises:
        MissingBlocksError, UnsupportedCodecError, DecodeError: as `walk.walk`.
    """
    limit = max_depth if recursive else 1
    seen: dict[bytes, int] = {}  # target -> the least depth at which it was met; only kept if `unique`

    def edges_of(cid: Cid) -> list[Edge]:
        return links_as_edges(cid, read_block(reader, cid))

    pending: PendingLinks[Edge] = PendingLinks(edges_of)

    def expand(cid: Cid, parent: Cid | None, depth: int) -> None:
        if cid.codec == codecs.RAW:
            return
        try:
            edges = edges_of(cid)
        except BlockNotFoundError as exc:
            if on_missing is None:
                raise MissingBlocksError(cid, parent) from exc
            on_missing(cid, parent)
        else:
            pending.push(cid, depth + 1, edges)

    if limit == 0:
        return
    expand(root, None, 0)
    while (step := pending.pop()) is not None:
        _, depth, edge = step
        if unique:
            key = edge.target.raw
            before = seen.get(key)
            if before is not None and (limit < 0 or before <= depth):
                continue
            seen[key] = depth
            if before is None:
                yield edge
        else:
            yield edge
        if depth != limit:
            expand(edge.target, edge.source, depth)


def links_as_edges(cid: Cid, data: bytes) -> list[Edge]:
    """Return the links of one block in its order, with their names if it is dag-pb.

    Raises:
        DecodeError: the block is not what its codec says.
    """
    if cid.codec == codecs.DAG_PB:
        return [Edge(cid, link.cid, link.name or b"") for link in dag_pb.decode(data).links]
    return [Edge(cid, target) for target in codec_registry.links_of(cid, data)]


def format_edge(edge: Edge, template: str = "<dst>", *, base: str = "") -> str:
    r"""Return `template` with `<src>`, `<dst>` and `<linkname>` filled in, CIDs in the multibase `base`.

    Bytes of a name that are not UTF-8 become surrogate escapes, so that the name can be written out unchanged.

    Raises:
        CidError: v0 CIDs are written in base58btc only.
    """
    filled = template.replace("<src>", edge.source.encode(base) if "<src>" in template else "")
    filled = filled.replace("<dst>", edge.target.encode(base) if "<dst>" in template else "")
    # Last, so that a link named '<src>' is not taken for a placeholder.
    return filled.replace("<linkname>", edge.name.decode("utf-8", "surrogateescape"))
