"""Trees: UnixFS directories of what the entries lead to, which carry the exact payload along.

    plain      Directory: a link per entry, the payload in the UnixFS data; over 64 KiB in the file entry `.ipvcs-tree`
    sharded    a HAMT of a link per entry and the file entry `.ipvcs-tree`
    opaque     Directory {payload, links/{0, 1, …}}, see opaque.py: what no directory can show as git has it

Gitlinks have no link. Which of the three a tree is follows from its payload and the types of its children alone.

Spec: DESIGN §3.1 "tree"; docs/git-mapping.md §5
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from ipvcs.objects import unixfs
from ipvcs.objects.block import BlockWriter
from ipvcs.objects.git.directory_node import FlatLinks, put_flat, put_sharded
from ipvcs.objects.git.layout import Mapped, put_file
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.objects.git.opaque import put_opaque
from ipvcs.objects.git.tree_entries import PAYLOAD_ENTRY, TreeEntry, TreeParseError, opaque_reason, parse_tree
from ipvcs.objects.hamt import HamtCollisionError
from ipvcs.objects.unixfs import DataType, UnixfsData

MAX_INLINE_TREE: Final = 64 * 1024
"""Bytes; a longer payload is in the entry `.ipvcs-tree`."""
MAX_SHARDED_NAME: Final = 4095
"""Bytes; 256 names of this length, a full shard, are 1 MiB. No path on any system has a longer one (PATH_MAX)."""


@dataclass(frozen=True, slots=True)
class ParsedTree:
    """A tree's entries, as many as parse, and why its payload makes it opaque whatever the children are; or None."""

    entries: tuple[TreeEntry, ...]
    opaque: str | None

    @classmethod
    def of(cls, body: bytes, object_format: ObjectFormat) -> Self:
        """Parse the body of any tree."""
        try:
            entries = parse_tree(body, object_format)
        except TreeParseError as exc:
            return cls(tuple(exc.entries), str(exc))
        return cls(tuple(entries), opaque_reason(entries))


def build_tree(tree: ParsedTree, payload: bytes, children: Sequence[Mapped | None], writer: BlockWriter) -> Mapped:
    """Store the node of `tree`. `children` are what its entries lead to, one each, None for gitlinks."""
    linked = {index: child for index, child in enumerate(children) if child is not None}
    if tree.opaque is not None or any(child.kind is NodeKind.VERBATIM for child in linked.values()):
        return put_opaque(payload, linked, writer)
    links = [child.link(tree.entries[index].name) for index, child in linked.items()]
    flat = FlatLinks.of(links)
    if not flat.is_too_large:
        if len(payload) <= MAX_INLINE_TREE:
            return put_flat(flat, unixfs.encode(UnixfsData(DataType.DIRECTORY, data=payload)), writer)
        links.append(put_file(payload, writer).link(PAYLOAD_ENTRY))
        return put_flat(FlatLinks.of(links), unixfs.EMPTY_DIRECTORY, writer)
    if any(len(link.name or b"") > MAX_SHARDED_NAME for link in links):
        return put_opaque(payload, linked, writer)
    links.append(put_file(payload, writer).link(PAYLOAD_ENTRY))
    try:
        return put_sharded(links, writer)
    except HamtCollisionError:
        # Names made to have one murmur3 hash: no HAMT holds both.
        return put_opaque(payload, linked, writer)
