"""Blocks as an import's options want them: CID version, hash function, inlining.

Everything that builds a DAG makes its blocks here, children first, and passes each to a `BlockWriter` at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ipvcs.errors import LimitError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block, BlockWriter
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.profile import ImportOptions

MAX_CUMULATIVE_SIZE: Final = (1 << 63) - 1
"""Where sums of sizes stop: dag-pb's integers are signed 64-bit, and sizes in links are claims that may be absurd."""


class IdentityTooLongError(LimitError):
    """A block of `size` bytes does not fit an identity CID, which was asked for by hash function."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"block of {size} bytes is over the {multihash.MAX_IDENTITY} of an identity CID",
            hint="inline small blocks only, or use another hash function",
        )
        self.size = size


@dataclass(frozen=True, slots=True)
class Built:
    """A finished DAG.

    `size` is its Tsize: the bytes of the root block and of every block below, counted once for each link to it.
    `filesize` is the length in bytes of the file that it holds, 0 if it is none.
    """

    cid: Cid
    size: int
    filesize: int = 0

    def link(self, name: bytes = b"") -> PBLink:
        """Return the link that a parent has to it."""
        return PBLink(self.cid, name, self.size)


class NodeWriter:
    """Makes blocks by `options` and puts them into `writer`. The `make_` methods may be called from any thread."""

    def __init__(self, options: ImportOptions, writer: BlockWriter) -> None:
        self.options = options
        self._writer = writer
        self._inline_limit = options.inline_limit if options.inline else -1

    def make_raw(self, data: bytes) -> Block:
        """Return the raw block of `data`: CIDv1 whatever the options say, as v0 has no codec."""
        return self._make(data, codecs.RAW, 1)

    def make_node(self, links: Iterable[PBLink], data: bytes | None) -> Block:
        """Return the dag-pb block of a node whose links are in canonical order.

        Raises:
            IdentityTooLongError: the options' hash function is identity and the block too long for it.
        """
        return self.make_encoded_node(dag_pb.encode_parts(links, data))

    def make_encoded_node(self, data: bytes) -> Block:
        """Return the dag-pb block whose bytes, canonical, are `data`; errors as `make_node`."""
        return self._make(data, codecs.DAG_PB, self.options.cid_version)

    def put(self, block: Block) -> None:
        """Hand a block to the writer, unless it lies in its own CID."""
        if not block.cid.is_identity:
            self._writer.put(block)

    def put_node(self, links: Iterable[PBLink], data: bytes | None, filesize: int = 0) -> Built:
        """Make and put a node over children already put; arguments and errors as `make_node`."""
        links = tuple(links)
        block = self.make_node(links, data)
        self.put(block)
        size = len(block.data) + sum([link.size or 0 for link in links])
        return Built(block.cid, min(size, MAX_CUMULATIVE_SIZE), filesize)

    def _make(self, data: bytes, codec: int, version: int) -> Block:
        if len(data) <= self._inline_limit:
            return Block.of(data, codec, multihash.IDENTITY)
        if self.options.hash_code == multihash.IDENTITY and len(data) > multihash.MAX_IDENTITY:
            raise IdentityTooLongError(len(data))
        return Block.of(data, codec, self.options.hash_code, version)
