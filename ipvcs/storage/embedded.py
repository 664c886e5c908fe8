"""The default blockstore: append-only segments of blocks and an LMDB index by multihash.

    put ──► session buffer ──► segment file ──fdatasync──► index transaction
    get ──► index ──► pread from the segment

A session appends to a segment of its own, so writers of several processes meet only in the index transaction, once a
flush. The order of a flush makes it safe against any crash: the index never names bytes that are not durable, and bytes
that it does not name do not exist (docs/decisions/0002).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from ipvcs.errors import IntegrityError
from ipvcs.multiformats import multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.storage.datastore import Datastore
from ipvcs.storage.disk import disk_errors
from ipvcs.storage.index import SLICE, BlockIndex, Location
from ipvcs.storage.interface import StoreStat
from ipvcs.storage.lease import Lease
from ipvcs.storage.segments import SegmentDirectory
from ipvcs.storage.session import WriteSession


class DamagedBlockError(IntegrityError):
    """A block on the disk is not what was stored."""

    def __init__(self, cid: Cid, where: Location) -> None:
        super().__init__(
            f"block '{cid}' is damaged: its bytes in segment {where.segment:08x}.car at {where.offset} are not its own",
            hint="put or import it again: a damaged copy is replaced; `ipvcs repo verify` finds all of them",
        )
        self.cid = cid


class EmbeddedBlockstore:
    """Blocks in `directory`, indexed in `datastore`; any number of processes and threads at once.

    `leases` is the directory of the writers' leases. `hash_on_read` checks each block against its CID when it is read.
    """

    def __init__(self, directory: Path, datastore: Datastore, leases: Path, *, hash_on_read: bool = True) -> None:
        self.index = BlockIndex(datastore)
        self.segments = SegmentDirectory(directory)
        self.leases = leases
        self.hash_on_read = hash_on_read
        self._layout = -1

    def get(self, cid: Cid) -> bytes:
        """Return the block's bytes. Raises BlockNotFoundError."""
        if (data := self.try_get(cid)) is None:
            raise BlockNotFoundError(cid)
        return data

    def try_get(self, cid: Cid, *, check: bool = True) -> bytes | None:
        """Return the block's bytes, None when absent; with `check` off they are not hashed, whatever the settings say.

        Raises:
            DamagedBlockError, DamagedSegmentError, DiskError: it is there but damaged, or can't be read.
        """
        key = cid.multihash
        if key[0] == multihash.IDENTITY:
            return cid.digest
        while (found := self._locate(key)) is not None:
            try:
                data = self.segments.open(found.segment).read(found.offset, found.size)
            except OSError as exc:
                # A file that is not there was compacted between the look-up and the open, and the index names the new
                # place. If it still names this one, the file is really gone.
                if not isinstance(exc, FileNotFoundError) or self._locate(key) == found:
                    with disk_errors(self.segments.path):
                        raise
            else:
                if check and self.hash_on_read and not multihash.verify(data, key):
                    raise DamagedBlockError(cid, found)
                return data
        return None

    def has(self, cid: Cid) -> bool:
        """Tell whether the block is stored, flushed."""
        return cid.is_identity or self._locate(cid.multihash) is not None

    def size(self, cid: Cid) -> int:
        """Return the block's size in bytes without reading it. Raises BlockNotFoundError."""
        if cid.is_identity:
            return len(cid.digest)
        if (found := self._locate(cid.multihash)) is None:
            raise BlockNotFoundError(cid)
        return found.size

    def sizes(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return the sizes, by multihash, of those blocks that are there; see `Blockstore.sizes`."""
        found: dict[bytes, int] = {}
        remaining = iter(keys)
        while some := list(islice(remaining, SLICE)):
            with self.index.datastore.read() as txn:
                for key in some:
                    if key[0] == multihash.IDENTITY:
                        found[key] = len(multihash.digest_of(key))
                    elif (where := self.index.find(txn, key)) is not None:
                        found[key] = where.size
        return found

    @contextmanager
    def writing(self) -> Iterator[WriteSession]:
        """Open a writer's session; see `Blockstore.writing`."""
        with disk_errors(self.leases):
            lease = Lease.acquire(self.leases, self.index.epoch)
        session = WriteSession(self.index, self.segments, lease, self.get)
        try:
            yield session
            session.flush()
        finally:
            session.close()

    def put_many(self, blocks: Iterable[Block]) -> None:
        """Store blocks, durable on return. They are garbage until pinned."""
        with self.writing() as session:
            for block in blocks:
                session.put(block)

    def delete(self, cids: Iterable[Cid]) -> int:
        """Remove blocks at once, wanted or not; return how many there were. Their space returns at the next GC."""
        keys = {cid.multihash for cid in cids}
        with self.index.datastore.write() as txn:
            return sum(self.index.delete(txn, key) is not None for key in keys)

    def iter_cids(self) -> Iterator[Cid]:
        """Yield the CID that each block was put with first."""
        for rows in self.index.iter_slices():
            for key, found in rows:
                yield found.cid(key)

    def stat(self) -> StoreStat:
        """Return what the store holds; `size` counts live sections, some 40 bytes a block more than the data."""
        live = sum(row.live for row in self.index.segment_rows().values())
        with disk_errors(self.segments.path):
            files = [*self.segments.path.iterdir(), *self.index.datastore.path.iterdir()]
            disk = 0
            for file in files:
                with suppress(FileNotFoundError):  # a collection may just have dropped it
                    disk += file.stat().st_blocks * 512
        return StoreStat(self.index.count(), live, disk)

    def _locate(self, key: bytes) -> Location | None:
        found, layout = self.index.locate(key)
        if layout != self._layout:  # files were removed: let go of them, so that their space is freed
            self.segments.forget()
            self._layout = layout
        return found
