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
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._unwritten: dict[bytes, Block] = {}
        self._pending: dict[bytes, Location] = {}
        self._pending_size = 0
        self._relied: dict[bytes, Block] = {}
        self._closed = False
        self._failure: IpvcsError | None = None
        self.flushes = 0  # how many flushes have ended: what was put before the last one began is durable

    def put(self, block: Block) -> None:
        """Take one block. Others may see it, and it is durable, after `flush` at the latest."""
        cid = block.cid
        if cid.is_identity:
            return
        key = cid.multihash
        with self._lock:
            self._check_open()
            if self._holds(key):
                return
            found, _layout = self._index.locate(key)
            if found is None:
                self._queue(key, block)
            elif found.epoch < self._lease.epoch:
                self._relied[key] = block
                self._pending_size += len(block.data)
            if self._buffered >= WRITE_SIZE:
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
            while self._buffer or self._pending or self._relied:
                self._write()
                if self._pending:
                    self._segment().sync()
                for block in self._commit():
                    self._queue(block.cid.multihash, block)
            self.flushes += 1
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

    def _queue(self, key: bytes, block: Block) -> None:
        self._buffer += (section_head(block.cid, len(block.data)), block.data)
        self._buffered += len(block.data) + 40
        self._unwritten[key] = block
        self._pending_size += len(block.data)

    def _write(self) -> None:
        """Move the buffer to the segment; its blocks are then pending: written, not yet named."""
        if not self._buffer:
            return
        with self._failing():
            segment = self._segment()
            position = segment.length
            segment.append(self._buffer)
        sections = zip(self._buffer[::2], self._unwritten.items(), strict=True)
        for head, (key, block) in sections:
            cid_head = block.cid.raw[: len(block.cid.raw) - len(key)]
            size = len(block.data)
            self._pending[key] = Location(segment.segment, position + len(head), size, 0, cid_head)
            position += len(head) + size
        assert position == segment.length
        self._buffer.clear()
        self._buffered = 0
        self._unwritten.clear()

    def _commit(self) -> list[Block]:
        """Name what is pending and stamp what is relied on, in one transaction; return relied-on blocks now gone."""
        index, datastore = self._index, self._index.datastore
        with datastore.write() as txn:
            epoch = datastore.counter(txn, COUNTER_EPOCH)
            gone = [block for key, block in sorted(self._relied.items()) if not index.stamp(txn, key, epoch)]
            live = 0
            for key in sorted(self._pending):  # in key order: neighbours share index pages
                if not index.stamp(txn, key, epoch):
                    where = self._pending[key]._replace(epoch=epoch)
                    index.store(txn, key, where)
                    live += where.section_size(key)
            if self._appender is not None:
                index.adjust(txn, self._appender.segment, live=live, length=self._appender.length)
        self._pending.clear()
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
