"""A block: bytes with the CID that proves them.

Holding a `Block` is the proof: it is made by hashing (`Block.of`), by checking (`Block(cid, data)`) or out of another
(`named`), never otherwise, so whoever is handed one need not hash again (promise P5).
"""

from typing import Final, Protocol, Self

from ipvcs.errors import IntegrityError, NotFoundError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid

MAX_BLOCK_SIZE: Final = 2 * 1024 * 1024
"""Bytes; what every Bitswap peer must accept. Larger blocks are read, but not every peer will carry them."""
MAX_BIG_BLOCK: Final = 256 * 1024 * 1024
"""Bytes; what is taken where somebody insists on a block that will not travel. It is held in memory as a whole."""


class BlockMismatchError(IntegrityError):
    """Bytes do not hash to the CID they came with."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"block '{cid}' is damaged: its bytes do not match the CID")
        self.cid = cid


class BlockNotFoundError(NotFoundError):
    """A block is not in the store."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"block '{cid}' not found", hint="it is not in this home's store")
        self.cid = cid


class Block:
    """Bytes and their CID, known to belong together."""

    __slots__ = ("cid", "data")

    def __init__(self, cid: Cid, data: bytes) -> None:
        """Check `data` against `cid`.

        Raises:
            BlockMismatchError: they do not belong together.
            UnknownHashError, MultihashError: the CID's function can't be checked, or its digest is too short to.
        """
        if not multihash.verify(data, cid.multihash):
            raise BlockMismatchError(cid)
        self.cid = cid
        self.data = data

    @classmethod
    def of(
        cls,
        data: bytes,
        codec: int = codecs.RAW,
        hash_code: int = multihash.SHA2_256,
        version: int = 1,
        length: int = -1,
    ) -> Self:
        """Return the block of `data`, its CID computed; `length` is that of the digest, -1: the function's own.

        Raises:
            UnknownHashError: `hash_code` is not a function we compute.
            CidError: version 0 with anything but dag-pb and sha2-256.
        """
        block = cls.__new__(cls)
        block.cid = Cid.make(multihash.sum_(data, hash_code, length), codec, version)
        block.data = data
        return block

    def named(self, cid: Cid) -> "Block":
        """Return the same bytes under another CID with the same multihash: as another codec, or in the other version.

        Raises:
            BlockMismatchError: the multihashes differ.
        """
        if cid.multihash != self.cid.multihash:
            raise BlockMismatchError(cid)
        block = Block.__new__(Block)
        block.cid = cid
        block.data = self.data
        return block

    def __repr__(self) -> str:
        return f"Block({self.cid}, {len(self.data)} bytes)"


class BlockReader(Protocol):
    """Where blocks come from: a store, a CAR, a network session, or a dict in a test."""

    def get(self, cid: Cid) -> bytes:
        """Return the block's bytes. Raises BlockNotFoundError."""


class BlockWriter(Protocol):
    """Where blocks go."""

    def put(self, block: Block) -> None:
        """Take one block. It may be durable only after the writer is flushed."""
