"""What a blockstore promises, whatever keeps the bytes."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block


@dataclass(frozen=True, slots=True)
class StoreStat:
    """How much a store holds: `blocks` of `size` bytes of data, taking `disk` bytes where it keeps them."""

    blocks: int
    size: int
    disk: int


class BlockWriting(Protocol):
    """A writer's session. What it puts, or relies on, no garbage collection takes while the session lasts."""

    def put(self, block: Block) -> None:
        """Take one block. Others may see it, and it is durable, after `flush` at the latest."""

    def get(self, cid: Cid) -> bytes:
        """Return a block of the store or of this session, flushed or not. Raises BlockNotFoundError."""

    def rely_on(self, cids: Iterable[Cid]) -> list[Cid]:
        """Protect blocks already stored as if they were put, and return those that are not there."""

    def flush(self) -> None:
        """Return when everything put so far is durable and visible to every process.

        Raises:
            DiskFullError and its kin: nothing of what was put since the last flush is promised.
        """


class Blockstore(Protocol):
    """Blocks by CID. CIDs with one multihash name one block; identity CIDs are always there and never stored."""

    def get(self, cid: Cid) -> bytes:
        """Return the block's bytes. Raises BlockNotFoundError."""

    def try_get(self, cid: Cid, *, check: bool = True) -> bytes | None:
        """Return the block's bytes, None when absent.

        `check` off is for those who hand them to somebody who checks them anyway: they may be damaged.
        """

    def has(self, cid: Cid) -> bool:
        """Tell whether the block is stored, flushed."""

    def size(self, cid: Cid) -> int:
        """Return the block's size in bytes without reading it. Raises BlockNotFoundError."""

    def sizes(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return the sizes in bytes, by multihash, of those blocks with multihashes `keys` that are there."""

    def writing(self) -> AbstractContextManager[BlockWriting]:
        """Open a writer's session. It is flushed when the block ends, unless by an error: then what was not flushed
        is dropped.
        """

    def put_many(self, blocks: Iterable[Block]) -> None:
        """Store blocks, durable on return. They are garbage until pinned."""

    def delete(self, cids: Iterable[Cid]) -> int:
        """Remove blocks at once, wanted or not; return how many there were."""

    def iter_cids(self) -> Iterator[Cid]:
        """Yield the CID that each block was put with first, in no order; blocks that come or go meanwhile may be
        missed.
        """

    def stat(self) -> StoreStat:
        """Return what the store holds."""
