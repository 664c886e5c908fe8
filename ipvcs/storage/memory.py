"""A blockstore in memory: for tests, and for commands that only want a CID (`put --only-hash`)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ipvcs.multiformats import multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.storage.interface import StoreStat


class MemoryBlockstore:
    """A dict of blocks by multihash. One thread at a time may write."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, tuple[Cid, bytes]] = {}

    def get(self, cid: Cid) -> bytes:
        """Return the block's bytes. Raises BlockNotFoundError."""
        if (data := self.try_get(cid)) is None:
            raise BlockNotFoundError(cid)
        return data

    def try_get(self, cid: Cid, *, check: bool = True) -> bytes | None:
        """Return the block's bytes, None when absent."""
        if cid.is_identity:
            return cid.digest
        entry = self._blocks.get(cid.multihash)
        return entry[1] if entry else None

    def has(self, cid: Cid) -> bool:
        """Tell whether the block is stored."""
        return cid.is_identity or cid.multihash in self._blocks

    def size(self, cid: Cid) -> int:
        """Return the block's size in bytes. Raises BlockNotFoundError."""
        return len(self.get(cid))

    def sizes(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return the sizes, by multihash, of those blocks that are there."""
        found: dict[bytes, int] = {}
        for key in keys:
            if key[0] == multihash.IDENTITY:
                found[key] = len(multihash.digest_of(key))
            elif (entry := self._blocks.get(key)) is not None:
                found[key] = len(entry[1])
        return found

    @contextmanager
    def writing(self) -> Iterator["MemoryWriting"]:
        """Open a writer's session."""
        session = MemoryWriting(self)
        yield session
        session.flush()

    def put_many(self, blocks: Iterable[Block]) -> None:
        """Store blocks."""
        for block in blocks:
            if not block.cid.is_identity:
                self._blocks.setdefault(block.cid.multihash, (block.cid, block.data))

    def delete(self, cids: Iterable[Cid]) -> int:
        """Remove blocks; return how many there were."""
        return sum(self._blocks.pop(cid.multihash, None) is not None for cid in cids)

    def iter_cids(self) -> Iterator[Cid]:
        """Yield each block's CID."""
        for cid, _data in list(self._blocks.values()):
            yield cid

    def stat(self) -> StoreStat:
        """Return what the store holds."""
        size = sum(len(data) for _cid, data in self._blocks.values())
        return StoreStat(len(self._blocks), size, size)


class MemoryWriting:
    """A session of a `MemoryBlockstore`."""

    def __init__(self, store: MemoryBlockstore) -> None:
        self._store = store
        self._pending: dict[bytes, Block] = {}

    def put(self, block: Block) -> None:
        """Take one block."""
        self._pending.setdefault(block.cid.multihash, block)

    def get(self, cid: Cid) -> bytes:
        """Return a block of the store or of this session. Raises BlockNotFoundError."""
        block = self._pending.get(cid.multihash)
        return block.data if block else self._store.get(cid)

    def rely_on(self, cids: Iterable[Cid]) -> list[Cid]:
        """Return those that are not there."""
        return [cid for cid in cids if cid.multihash not in self._pending and not self._store.has(cid)]

    def flush(self) -> None:
        """Make what was put visible."""
        self._store.put_many(self._pending.values())
        self._pending.clear()
