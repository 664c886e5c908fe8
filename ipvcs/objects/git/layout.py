"""What all nodes of the mapping share: what a mapped object is, where sizes stop, and how bytes become a file.

Whatever the profile, every file but a blob's is cut into 1 MiB pieces, so that trees, commits and tags have the same
CIDs under each profile wherever their blobs have.

Spec: DESIGN §3.1; docs/git-mapping.md §2
"""

from dataclasses import dataclass
from typing import Final

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockWriter
from ipvcs.objects.commit import MAX_LINK_SIZE
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.node_writer import Built
from ipvcs.objects.profile import UNIXFS_V1_2025, ImportOptions

MAPPING_VERSION: Final = 1
"""Of everything in this package. Frozen: another CID for any Git object is another version."""
LAYOUT: Final[ImportOptions] = UNIXFS_V1_2025
"""CIDv1, sha2-256, raw leaves, balanced, 1024 links a node, HAMT of fanout 256; only `chunker` is not for blobs."""
PIECE_SIZE: Final = 1024 * 1024
"""Bytes; no block of the mapping is larger than this plus framing."""
MAX_DIRECTORY_BLOCK: Final = 256 * 1024
"""Bytes; a directory whose block would be larger is sharded."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A Git object as it is linked to: `size` is the Tsize of every link to it, `kind` what it is mapped as."""

    cid: Cid
    size: int
    kind: NodeKind

    def link(self, name: bytes) -> PBLink:
        """Return the link `name` to it."""
        return PBLink(self.cid, name, self.size)


def saturate(size: int) -> int:
    """Return `size`, at most 2**53 - 1: trees that share subtrees add up to sizes beyond any integer."""
    return min(size, MAX_LINK_SIZE)


def put_file(data: bytes, writer: BlockWriter) -> Built:
    """Store `data` as a file cut into `PIECE_SIZE`: a raw block, or a list when it is longer."""
    if len(data) <= PIECE_SIZE:
        return build_file((data,), LAYOUT, writer)
    return build_file((data[i : i + PIECE_SIZE] for i in range(0, len(data), PIECE_SIZE)), LAYOUT, writer)
