"""The block index: where each block's bytes are, and in which epoch a writer last relied on it."""

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self

import lmdb

from ipvcs.multiformats.cid import Cid
from ipvcs.storage.datastore import COUNTER_EPOCH, COUNTER_LAYOUT, Datastore
from ipvcs.storage.disk import disk_errors
from ipvcs.storage.segments import SegmentRow, key_of

_LOCATION: Final = struct.Struct(">IQIQ")
SLICE: Final = 1000
"""Index entries read or deleted in one transaction: short ones keep other processes going."""


class Location(NamedTuple):
    """An index entry: where a block's data is, when it was last relied on, and its CID's bytes before the multihash.

    `offset` is of the data, not of the section; `size` is the data's, in bytes.
    """

    segment: int
    offset: int
    size: int
    epoch: int
    head: bytes

    @classmethod
    def unpack(cls, value: bytes | memoryview) -> Self:
        """Read an entry as `pack` wrote it."""
        segment, offset, size, epoch = _LOCATION.unpack_from(value)
        return cls(segment, offset, size, epoch, bytes(value[_LOCATION.size :]))

    def pack(self) -> bytes:
        """Return 24 bytes, big endian, and the head: empty for CIDv0, version and codec for CIDv1."""
        return _LOCATION.pack(*self[:4]) + self.head

    def cid(self, key: bytes) -> Cid:
        """Return the CID that the block with multihash `key` was put with."""
        return Cid(self.head + key)

    def section_size(self, key: bytes) -> int:
        """Return how many bytes of its segment the block takes."""
        size = len(self.head) + len(key) + self.size
        return (size.bit_length() + 6) // 7 + size  # a varint has 7 bits a byte


class BlockIndex:
    """Entries by multihash, and what they add up to for each segment."""

    def __init__(self, datastore: Datastore) -> None:
        self.datastore = datastore

    def locate(self, key: bytes) -> tuple[Location | None, int]:
        """Return where the block with multihash `key` is, None when absent; and the number of the files' layout."""
        datastore = self.datastore
        try:
            with datastore.begin() as txn:
                value = txn.get(key, db=datastore.blocks)
                layout = txn.get(COUNTER_LAYOUT, b"", db=datastore.meta)
        except lmdb.Error:
            with disk_errors(datastore.path):
                raise
        return (Location.unpack(value) if value is not None else None), int.from_bytes(layout, "big")

    def epoch(self) -> int:
        """Return the current epoch."""
        with self.datastore.read() as txn:
            return self.datastore.counter(txn, COUNTER_EPOCH)

    def find(self, txn: lmdb.Transaction, key: bytes) -> Location | None:
        """Return an entry as `txn` sees it."""
        value = txn.get(key, db=self.datastore.blocks)
        return Location.unpack(value) if value is not None else None

    def store(self, txn: lmdb.Transaction, key: bytes, location: Location) -> None:
        """Write an entry."""
        txn.put(key, location.pack(), db=self.datastore.blocks)

    def add(self, txn: lmdb.Transaction, key: bytes, location: Location, epoch: int) -> bool:
        """Write a new entry, relied on in `epoch`; where there is one already, stamp that and return False."""
        segment, offset, size, _epoch, head = location
        value = _LOCATION.pack(segment, offset, size, epoch) + head
        return txn.put(key, value, overwrite=False, db=self.datastore.blocks) or not self.stamp(txn, key, epoch)

    def replace(self, txn: lmdb.Transaction, key: bytes, bad: Location, location: Location, epoch: int) -> bool:
        """Write an entry in the place of `bad`, if that is what is there still; tell whether it was."""
        found = self.find(txn, key)
        if found is None or (found.segment, found.offset) != (bad.segment, bad.offset):
            return False
        self.adjust(txn, found.segment, live=-found.section_size(key))
        self.store(txn, key, location._replace(epoch=epoch))
        return True

    def stamp(self, txn: lmdb.Transaction, key: bytes, epoch: int) -> bool:
        """Note that a writer relies on the block in `epoch`; False when it is not there."""
        found = self.find(txn, key)
        if found is None:
            return False
        if found.epoch < epoch:
            self.store(txn, key, found._replace(epoch=epoch))
        return True

    def delete(
        self, txn: lmdb.Transaction, key: bytes, *, unless: Callable[[Location], bool] | None = None
    ) -> Location | None:
        """Delete an entry and the memos of its CID, but not if `unless` holds for it; return what was deleted."""
        store = self.datastore
        found = self.find(txn, key)
        if found is None or (unless is not None and unless(found)):
            return None
        txn.delete(key, db=store.blocks)
        self.adjust(txn, found.segment, live=-found.section_size(key))
        with txn.cursor(db=store.memo_cids) as cursor:
            memos = list(cursor.iternext_dup()) if cursor.set_key(key) else []
        for memo in memos:
            txn.delete(memo, db=store.memos)
        txn.delete(key, db=store.memo_cids)
        return found

    def adjust(self, txn: lmdb.Transaction, segment: int, *, live: int, length: int | None = None) -> None:
        """Add `live` bytes, maybe negative, to what is wanted of a segment, and set its committed length if given."""
        value = txn.get(key_of(segment), db=self.datastore.segments)
        row = SegmentRow.unpack(value) if value is not None else SegmentRow(0, 0)
        row = SegmentRow(row.length if length is None else length, max(0, row.live + live))
        txn.put(key_of(segment), row.pack(), db=self.datastore.segments)

    def segment_rows(self) -> dict[int, SegmentRow]:
        """Return every segment's row."""
        with self.datastore.read() as txn, txn.cursor(db=self.datastore.segments) as cursor:
            return {int.from_bytes(key, "big"): SegmentRow.unpack(row) for key, row in cursor}

    def iter_slices(self) -> Iterator[list[tuple[bytes, Location]]]:
        """Yield the index in slices of (multihash, location), in key order, one short transaction each."""
        last = b""
        while True:
            rows: list[tuple[bytes, Location]] = []
            with self.datastore.read() as txn, txn.cursor(db=self.datastore.blocks) as cursor:
                found = cursor.set_range(last)
                if found and cursor.key() == last:
                    found = cursor.next()
                if found:
                    for key, value in cursor:
                        rows.append((bytes(key), Location.unpack(value)))
                        if len(rows) == SLICE:
                            break
            if not rows:
                return
            yield rows
            last = rows[-1][0]

    def count(self) -> int:
        """Return the number of blocks."""
        with self.datastore.read() as txn:
            return int(txn.stat(self.datastore.blocks)["entries"])
