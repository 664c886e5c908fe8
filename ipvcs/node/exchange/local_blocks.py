"""The home's store for asynchronous code: the one place where the exchange hands disk and hashing to threads.

A hop to a thread costs as much as hashing a quarter of a megabyte, so each takes a whole message: a batch of look-ups,
of reads, or of blocks to verify and store.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple, TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread

from ipvcs.errors import DecodeError, IpvcsError
from ipvcs.multiformats import codecs, multihash, varint
from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.messages import ReceivedBlock
from ipvcs.objects.block import Block
from ipvcs.objects.codec_registry import links_of
from ipvcs.storage.interface import Blockstore, BlockWriting

_T = TypeVar("_T")

THREADS: Final = 4
"""Threads for disk and hashing: two cores' worth, and as many that wait for a disk."""


class Arrival(NamedTuple):
    """A block that was verified and handed to the store; `links` is empty for what links nothing."""

    cid: Cid
    size: int
    links: Sequence[Cid]
    problem: IpvcsError | None = None
    """Why the links can't be read: the block is what its CID says, and not what its codec says."""


class LocalBlocks:
    """The store, from the event loop."""

    def __init__(self, store: Blockstore) -> None:
        self.store = store
        self._threads = CapacityLimiter(THREADS)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Run `work` in one of the threads. Cancelling waits for it: what it does to the store is never half-known."""
        return await to_thread.run_sync(work, limiter=self._threads)

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[BlockWriting]:
        """Open a writer's session, as `Blockstore.writing` does; both ends of it touch the disk, in a thread."""
        session = self.store.writing()
        writer = await self.run(session.__enter__)
        try:
            yield writer
        except BaseException as exc:
            with CancelScope(shield=True):
                await self.run(partial(session.__exit__, type(exc), exc, exc.__traceback__))
            raise
        with CancelScope(shield=True):
            await self.run(partial(session.__exit__, None, None, None))

    async def sizes(self, cids: Collection[Cid]) -> dict[bytes, int]:
        """Return the sizes, by multihash, of those blocks that are here."""
        if not cids:
            return {}
        keys = {cid.multihash for cid in cids}
        return await self.run(lambda: self.store.sizes(keys))

    async def read(self, cids: Sequence[Cid]) -> list[tuple[Cid, bytes | None]]:
        """Return the bytes of blocks, None for those that are gone or can't be read.

        They are not hashed: whoever receives them must do so, and hashing costs a third of what serving costs.
        """

        def read() -> list[tuple[Cid, bytes | None]]:
            return [(cid, self._try_get(cid)) for cid in cids]

        return await self.run(read) if cids else []

    def _try_get(self, cid: Cid) -> bytes | None:
        try:
            return self.store.try_get(cid, check=False)
        except IpvcsError:  # a damaged segment: not ours to serve; `repo verify` tells the user
            return None


def identify(received: Iterable[ReceivedBlock]) -> list[Block]:
    """Return the blocks that bytes and prefixes make, their CIDs computed.

    Raises:
        DecodeError: a prefix is none. UnknownHashError: a hash function that we do not compute.
    """
    found: list[Block] = []
    for each in received:
        version, codec, code, length = _parse_prefix(each.prefix)
        found.append(Block.of(bytes(each.data), codec, code, version, length))
    return found


def store_and_read_links(block: Block, writers: Iterable[BlockWriting]) -> Arrival:
    """Hand `block` to its writers and return what it links to."""
    for writer in writers:
        writer.put(block)
    if block.cid.codec == codecs.RAW:
        return Arrival(block.cid, len(block.data), ())
    try:
        return Arrival(block.cid, len(block.data), links_of(block.cid, block.data))
    except IpvcsError as exc:
        return Arrival(block.cid, len(block.data), (), exc)


_KNOWN_PREFIXES: dict[bytes, tuple[int, int, int, int]] = {}


def _parse_prefix(prefix: bytes) -> tuple[int, int, int, int]:
    """Return (version, codec, hash function, digest length). Raises DecodeError."""
    if (known := _KNOWN_PREFIXES.get(prefix)) is not None:
        return known
    version, position = varint.decode(prefix)
    codec, position = varint.decode(prefix, position)
    code, position = varint.decode(prefix, position)
    length, position = varint.decode(prefix, position)
    if position != len(prefix) or version > 1 or code == multihash.IDENTITY:
        raise DecodeError(f"'{prefix.hex()}' is not the prefix of a CID")
    if len(_KNOWN_PREFIXES) < 64:  # there are few honest ones
        _KNOWN_PREFIXES[prefix] = (version, codec, code, length)
    return version, codec, code, length
