"""A writer's session: blocks gather in a buffer, go to a segment of the session's own, and are named by a flush.

The flush writes and syncs the bytes first and commits the index after, so no crash leaves an index entry without its
bytes. A block that is already there is not written again, but its data is kept until the flush has stamped the old copy
with the current epoch: if a garbage collection deleted that copy in between, the data is still at hand.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from threading import RLock
from typing import Final

from ipvcs.errors import IpvcsError, LocalProtocolError
from ipvcs.multiformats import multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.storage.datastore import COUNTER_EPOCH, COUNTER_SEGMENT
from ipvcs.storage.disk import disk_errors
from ipvcs.storage.index import SLICE, BlockIndex, Location
from ipvcs.storage.lease import Lease
from ipvcs.storage.segments import (
    SEGMENT_SIZE,
    DamagedSegmentError,
    SegmentAppender,
    SegmentDirectory,
    SegmentRow,
    key_of,
    section_head,
)

WRITE_SIZE: Final = 4 * 1024 * 1024
"""Bytes gathered for one write to the segment."""
FLUSH_SIZE: Final = 64 * 1024 * 1024
FLUSH_COUNT: Final = 20_000
"""A session flushes by itself at this many bytes or blocks: bounds its memory, and what an interrupt loses."""
_OVERHEAD: Final = 40
"""Bytes that frame a block in its segment, about; so that many empty blocks are a write, too."""
_CANDIDATES: Final = 16
"""How many of the newest segments a session tries to go on with before it makes one."""


class WriteSession:
    """See `BlockWriting`. Threads may share one."""

    def __init__(
        self, index: BlockIndex, segments: SegmentDirectory, lease: Lease, read: Callable[[Cid], bytes]
    ) -> None:
        self._index = index
        self._segments = segments
        self._lease = lease
        self._read = read
        self._lock = RLock()
        self._appender: SegmentAppender | None = None
        self._unwritten: dict[bytes, Block] = {}
        self._unwritten_size = 0
        self._pending: dict[bytes, Location] = {}
        self._pending_size = 0
        self._relied: dict[bytes, Block] = {}
        self._damaged: dict[
            bytes, Location
        ] = {}  # copies that are not what they should be; pending blocks replace them
        self._closed = False
        self._failure: IpvcsError | None = None

    def put(self, block: Block) -> None:
        """Take one block. Others may see it, and it is durable, after `flush` at the latest."""
        key = block.cid.multihash
        if key[0] == multihash.IDENTITY:
            return
        with self._lock:
            self._check_open()
            if key in self._unwritten or key in self._pending or key in self._relied:
                return
            self._unwritten[key] = block
            self._unwritten_size += len(block.data) + _OVERHEAD
            if self._unwritten_size >= WRITE_SIZE:
                self._write()
                if self._pending_size >= FLUSH_SIZE or len(self._pending) + len(self._relied) >= FLUSH_COUNT:
                    self.flush()

    def get(self, cid: Cid) -> bytes:
        """Return a block of the store or of this session, flushed or not. Raises BlockNotFoundError."""
        key = cid.multihash
        with self._lock:
            if (block := self._unwritten.get(key) or self._relied.get(key)) is not None:
                return block.data
            if (where := self._pending.get(key)) is not None:
                return self._segments.open(where.segment).read(where.offset, where.size)
        return self._read(cid)

    def rely_on(self, cids: Iterable[Cid]) -> list[Cid]:
        """Protect blocks already stored as if they were put, and return those that are not there."""
        missing: list[Cid] = []
        remaining = iter(cids)
        while some := list(islice(remaining, SLICE)):
            with self._lock:
                self._check_open()
                theirs = [cid for cid in some if not (cid.is_identity or self._holds(cid.multihash))]
            missing += self._stamp(theirs)
        return missing

    def flush(self) -> None:
        """Return when everything put so far is durable and visible to every process."""
        with self._lock, self._failing():
            self._check_open()
            while self._unwritten or self._pending or self._relied:
                self._write()
                if self._pending:
                    self._segment().sync()
                self._unwritten = {block.cid.multihash: block for block in self._commit()}
            if self._appender is not None and self._appender.length >= SEGMENT_SIZE:
                self._appender.close()
                self._appender = None

    def close(self) -> None:
        """End the session and its lease; what was not flushed is dropped."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._appender is not None:
                    # What the table says, not what we remember: an interrupt may have come right after the commit.
                    committed = self._index.segment_rows()[self._appender.segment].length
                    with disk_errors(self._segments.path), suppress(DamagedSegmentError):
                        self._appender.resume(committed)
                    self._appender.close()
            finally:
                self._lease.release()

    def _check_open(self) -> None:
        if self._closed:
            raise LocalProtocolError("the write session is closed")
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Let a write that failed end the session, for all of its threads.

        What they put but did not flush is lost, so no later flush may report it as stored. Nor could a second try be
        trusted: once a sync has failed, the kernel may report the next as done though the data never reached the disk.
        """
        try:
            with disk_errors(self._segments.path):
                yield
        except BaseException as exc:
            self._failure = exc if isinstance(exc, IpvcsError) else LocalProtocolError("the write session was cut off")
            raise

    def _holds(self, key: bytes) -> bool:
        return key in self._unwritten or key in self._pending or key in self._relied

    def _write(self) -> None:
        """Sort what was put: the new goes to the segment and is pending, written but not yet named; the rest is relied
        on, unless a writer already does so in an epoch that protects it.
        """
        new = self._sort_unwritten()
        if new:
            sections: list[bytes] = []
            with self._failing():
                segment = self._segment()
                position = segment.length
                for key, block in new:
                    raw, data = block.cid.raw, block.data
                    head = section_head(block.cid, len(data))
                    sections += (head, data)
                    where = Location(segment.segment, position + len(head), len(data), 0, raw[: len(raw) - len(key)])
                    self._pending[key] = where
                    self._pending_size += len(data)
                    position += len(head) + len(data)
                segment.append(sections)
            assert position == segment.length
        self._unwritten.clear()
        self._unwritten_size = 0

    def _sort_unwritten(self) -> list[tuple[bytes, Block]]:
        """Return what is new; note what is there already, but would not outlast the next collection."""
        new: list[tuple[bytes, Block]] = []
        with self._index.datastore.read() as txn:
            for key, block in self._unwritten.items():
                found = self._index.find(txn, key)
                if found is None:
                    new.append((key, block))
                elif not self._is_intact(found, block.data):
                    self._damaged[key] = found
                    new.append((key, block))
                elif found.epoch < self._lease.epoch:
                    self._relied[key] = block
                    self._pending_size += len(block.data)
        return new

    def _is_intact(self, found: Location, data: bytes) -> bool:
        """Tell whether the copy that is there holds `data`: what is reported as stored must be there."""
        if found.size != len(data):
            return False
        try:
            return self._segments.open(found.segment).read(found.offset, found.size) == data
        except DamagedSegmentError:
            return False
        except FileNotFoundError:
            return True  # compacted since we looked: `_commit` looks again

    def _commit(self) -> list[Block]:
        """Name what is pending and stamp what is relied on, in one transaction; return relied-on blocks now gone."""
        index, datastore = self._index, self._index.datastore
        with datastore.write() as txn:
            epoch = datastore.counter(txn, COUNTER_EPOCH)
            gone = [block for key, block in sorted(self._relied.items()) if not index.stamp(txn, key, epoch)]
            live = 0
            for key in sorted(self._pending):  # in key order: neighbours share index pages
                where, bad = self._pending[key], self._damaged.get(key)
                if (bad is not None and index.replace(txn, key, bad, where, epoch)) or index.add(
                    txn, key, where, epoch
                ):
                    live += where.section_size(key)
            if self._appender is not None:
                index.adjust(txn, self._appender.segment, live=live, length=self._appender.length)
        self._pending.clear()
        self._damaged.clear()
        self._relied.clear()
        self._pending_size = 0
        return gone

    def _stamp(self, cids: list[Cid]) -> list[Cid]:
        missing: list[Cid] = []
        stale: list[Cid] = []
        datastore = self._index.datastore
        with datastore.read() as txn:
            for cid in cids:
                found = self._index.find(txn, cid.multihash)
                if found is None:
                    missing.append(cid)
                elif found.epoch < self._lease.epoch:
                    stale.append(cid)
        if stale:
            with datastore.write() as txn:
                epoch = datastore.counter(txn, COUNTER_EPOCH)
                missing += [cid for cid in stale if not self._index.stamp(txn, cid.multihash, epoch)]
        return missing

    def _segment(self) -> SegmentAppender:
        """Return the segment to append to: one that has room and no other writer, or a new one."""
        if self._appender is not None:
            return self._appender
        index, datastore = self._index, self._index.datastore
        roomy = [number for number, row in index.segment_rows().items() if row.length < SEGMENT_SIZE]
        for number in sorted(roomy, reverse=True)[:_CANDIDATES]:
            if (appender := SegmentAppender.try_lock(self._segments, number)) is None:
                continue
            with datastore.read() as txn:  # under the lock: nobody else moves the row now
                value = txn.get(key_of(number), db=datastore.segments)
            if value is None:
                appender.close()
                continue
            try:
                appender.resume(SegmentRow.unpack(value).length)
            except DamagedSegmentError:  # for `repo verify` to tell; it must not stop us from writing
                appender.close()
                continue
            break
        else:
            with datastore.write() as txn:
                number = datastore.bump(txn, COUNTER_SEGMENT)
                appender = SegmentAppender.create(self._segments, number)
                index.adjust(txn, number, live=0, length=appender.length)
        self._appender = appender
        return appender
