"""Garbage collection: mark what pins reach, sweep the rest in slices, give the space back. Writers go on meanwhile.

What makes it safe beside writers is in lease.py: the collection begins a new epoch, then asks for the oldest lease, and
only then reads the pins. A block that is unmarked and was not relied on since that lease began is nobody's.
"""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ipvcs.errors import ConflictError, IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.storage.closure import Marks
from ipvcs.storage.datastore import COUNTER_EPOCH, COUNTER_LAYOUT, COUNTER_SEGMENT
from ipvcs.storage.disk import DiskFullError, disk_errors
from ipvcs.storage.home import Home
from ipvcs.storage.index import Location
from ipvcs.storage.lease import oldest_epoch
from ipvcs.storage.pins import Pin, PinMode
from ipvcs.storage.segments import (
    HEADER,
    SEGMENT_SIZE,
    DamagedSegmentError,
    SegmentAppender,
    SegmentFile,
    SegmentRow,
    is_unused,
    iter_sections,
    key_of,
    section_head,
)

_WORTH_COMPACTING: Final = 0.5
"""A segment is rewritten when less than this part of it is live: at most half the disk is waste, and each byte is
copied at most once for each byte freed."""
NOT_FOUND: Final = "not found"
_COPY_SIZE: Final = 4 * 1024 * 1024
_COPY_COUNT: Final = 20_000
"""Bytes copied by one write of a compaction, and blocks renamed by one transaction: bounds its memory."""


class GcRunningError(ConflictError):
    """Another process is collecting garbage in this home."""

    def __init__(self) -> None:
        super().__init__("garbage collection is already running in this home", hint="wait for it to end")


class UnreadablePinError(ConflictError):
    """What a pin reaches can't be listed, so nothing can be called garbage."""

    def __init__(self, pin: Pin, cause: IpvcsError) -> None:
        super().__init__(
            f"cannot collect garbage: pin '{pin.cid}' is not readable: {cause}",
            hint=f"see `ipvcs pin verify`; `ipvcs pin rm {pin.cid}` gives it up",
        )
        self.pin = pin


@dataclass(slots=True)
class GcReport:
    """What a collection did: blocks deleted and kept, bytes of disk given back, segments that could not be read.

    `wasted` bytes of deleted blocks still take space: not worth copying what they lie between, or no room to.
    """

    removed: int = 0
    kept: int = 0
    freed: int = 0
    damaged: int = 0
    wasted: int = 0


def collect(
    home: Home,
    on_removed: Callable[[Cid], None] | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> GcReport:
    """Delete every block that no pin reaches and no writer relies on, and give disk space back.

    `on_removed` is called for each deleted block, `progress` with the stage and how many blocks it has seen.
    Interrupted at any moment, what was deleted was garbage, and a later collection goes on.

    Raises:
        GcRunningError: another process is at it.
        UnreadablePinError: a pinned DAG is damaged; nothing was deleted.
    """
    home.datastore.env.reader_check()  # a reader that was killed keeps index pages from being used again
    with home.spare_space(), _only_one(home):
        with home.datastore.write() as txn:
            epoch = home.datastore.bump(txn, COUNTER_EPOCH)
        with disk_errors(home.blocks.leases):
            limit = oldest_epoch(home.blocks.leases, default=epoch)
        marks = _mark(home, progress)
        report = GcReport()
        _sweep(home, marks, limit, report, on_removed, progress)
        before = home.blocks.stat().disk
        with disk_errors(home.blocks.segments.path):
            _drop_dead(home)
            _compact(home, report)
        report.freed = max(0, before - home.blocks.stat().disk)
        report.wasted = sum(row.waste for row in home.blocks.index.segment_rows().values())
    return report


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    with disk_errors(home.path):
        fd = os.open(home.blocks.leases / "gc.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GcRunningError from None
        yield
    finally:
        os.close(fd)


def _mark(home: Home, progress: Callable[[str, int], None] | None) -> Marks:
    marks = Marks()
    for pin in sorted(home.pins.iter_pins(), key=lambda pin: not pin.complete):
        if pin.mode is PinMode.DIRECT:
            marks.keys.add(pin.cid.multihash)
            continue
        try:
            marks.add_closure(home.blocks, pin.cid, complete=pin.complete)
        except IpvcsError as exc:
            raise UnreadablePinError(pin, exc) from exc
        if progress:
            progress("Marking", len(marks.keys))
    return marks


def _sweep(
    home: Home,
    marks: Marks,
    limit: int,
    report: GcReport,
    on_removed: Callable[[Cid], None] | None,
    progress: Callable[[str, int], None] | None,
) -> None:
    index = home.blocks.index

    def is_relied_on(found: Location) -> bool:
        return found.epoch >= limit

    seen = 0
    for rows in index.iter_slices():
        seen += len(rows)
        garbage = [key for key, found in rows if key not in marks.keys and not is_relied_on(found)]
        if garbage:
            with home.datastore.write() as txn:  # where the stamp is read again: a writer may have come meanwhile
                deleted = [(key, index.delete(txn, key, unless=is_relied_on)) for key in garbage]
            for key, found in deleted:
                if found is not None:
                    report.removed += 1
                    if on_removed:
                        on_removed(found.cid(key))
        if progress:
            progress("Sweeping", seen)
    report.kept = index.count()


def _drop_dead(home: Home) -> None:
    """Delete segments of which nothing is live, and files that a crash left without a row: space without copying."""
    index, segments = home.blocks.index, home.blocks.segments
    for number, row in index.segment_rows().items():
        if row.live == 0 and row.length > len(HEADER):
            appender = SegmentAppender.try_lock(segments, number)
            if appender is not None:
                _drop(home, appender)
    with home.datastore.write() as txn:  # no segment is being made while we hold the write transaction
        made = home.datastore.counter(txn, COUNTER_SEGMENT)
        for number in segments.iter_ids():
            path = segments.path_of(number)
            # Either its row was deleted and we were interrupted, or it was being made. Anything else is not ours.
            if txn.get(key_of(number), db=home.datastore.segments) is None and (number <= made or is_unused(path)):
                path.unlink(missing_ok=True)


def _drop(home: Home, appender: SegmentAppender) -> bool:
    """Delete a locked segment if it is still wholly dead; its row first, so that a crash leaves a file, not a row."""
    datastore = home.datastore
    try:
        with datastore.write() as txn:
            value = txn.get(key_of(appender.segment), db=datastore.segments)
            if value is None or SegmentRow.unpack(value).live:
                return False
            txn.delete(key_of(appender.segment), db=datastore.segments)
            datastore.bump(txn, COUNTER_LAYOUT)
        datastore.sync_now()
        appender.remove()
        return True
    finally:
        appender.close()


def _compact(home: Home, report: GcReport) -> None:
    """Copy what is live out of segments that are mostly waste, one at a time, and delete them."""
    rows = home.blocks.index.segment_rows()
    target: SegmentAppender | None = None
    try:
        for number, row in sorted(rows.items(), key=lambda item: item[1].live):
            if row.live == 0 or row.waste <= _WORTH_COMPACTING * row.length:
                continue
            source = SegmentAppender.try_lock(home.blocks.segments, number)
            if source is None:
                continue
            try:
                with disk_errors(home.blocks.segments.path):
                    if target is not None and target.length >= SEGMENT_SIZE:
                        _end(home, target)
                        target = None
                    target = target or _new_segment(home)
                    _copy_live(home, number, row.length, target)
            except DamagedSegmentError:
                report.damaged += 1  # leave it as it is: `repo verify` says which blocks are lost
                source.close()
                continue
            except DiskFullError:
                source.close()
                return  # what could be freed without copying is; the waste stays accounted for the next time
            _drop(home, source)
    finally:
        if target is not None:
            _end(home, target)


def _end(home: Home, target: SegmentAppender) -> None:
    """Let go of a segment, without what was copied to it but not named."""
    target.resume(home.blocks.index.segment_rows()[target.segment].length)
    target.close()


def _new_segment(home: Home) -> SegmentAppender:
    with home.datastore.write() as txn:
        number = home.datastore.bump(txn, COUNTER_SEGMENT)
        appender = SegmentAppender.create(home.blocks.segments, number)
        home.blocks.index.adjust(txn, number, live=0, length=appender.length)
    return appender


def _copy_live(home: Home, number: int, length: int, target: SegmentAppender) -> None:
    """Copy the live sections of a segment to the end of `target` and let the index name them there."""
    index = home.blocks.index
    file = SegmentFile(home.blocks.segments.path_of(number))
    moved: list[tuple[bytes, Location]] = []
    buffer: list[bytes] = []
    buffered = 0

    def write() -> None:
        nonlocal buffered
        target.append(buffer)
        buffer.clear()
        buffered = 0

    for cid, offset, size in iter_sections(file, length):
        key = cid.multihash
        found, _layout = index.locate(key)
        if found is None or (found.segment, found.offset) != (number, offset):
            continue
        data = file.read(offset, size)
        head = section_head(cid, size)
        moved.append((key, found._replace(segment=target.segment, offset=target.length + buffered + len(head))))
        buffer += (head, data)
        buffered += len(head) + size
        if buffered >= _COPY_SIZE or len(moved) >= _COPY_COUNT:
            write()
        if len(moved) >= _COPY_COUNT:
            _name_copies(home, number, moved, target)
            moved.clear()
    write()
    _name_copies(home, number, moved, target)


def _name_copies(home: Home, number: int, moved: list[tuple[bytes, Location]], target: SegmentAppender) -> None:
    """Let the index name the copies in `target` instead of the originals in segment `number`."""
    index = home.blocks.index
    target.sync()
    with home.datastore.write() as txn:
        copied = 0
        for key, copy in moved:
            found = index.find(txn, key)
            if found is None or found.segment != number:
                continue
            index.store(txn, key, copy._replace(epoch=found.epoch))
            copied += found.section_size(key)
        index.adjust(txn, number, live=-copied)
        index.adjust(txn, target.segment, live=copied, length=target.length)


def remove(home: Home, cids: Iterable[Cid]) -> list[tuple[Cid, str]]:
    """Delete blocks, but none that a pin reaches or a writer relies on; return each with why it was kept, "" if not.

    It is a collection of these blocks alone, and as safe beside writers. A block that is not there was "not found".

    Raises:
        GcRunningError, UnreadablePinError: as `collect`.
    """
    wanted = list(cids)
    index = home.blocks.index
    with home.spare_space(), _only_one(home):
        with home.datastore.write() as txn:
            epoch = home.datastore.bump(txn, COUNTER_EPOCH)
        with disk_errors(home.blocks.leases):
            limit = oldest_epoch(home.blocks.leases, default=epoch)
        keepers = _keepers(home, {cid.multihash for cid in wanted})
        found: list[tuple[Cid, str]] = []
        with home.datastore.write() as txn:
            for cid in wanted:
                key = cid.multihash
                why = keepers.get(key, "")
                if not why and index.find(txn, key) is None:
                    why = NOT_FOUND
                elif not why and index.delete(txn, key, unless=lambda location: location.epoch >= limit) is None:
                    why = "a command that is running relies on it"
                found.append((cid, why))
    return found


def _keepers(home: Home, wanted: set[bytes]) -> dict[bytes, str]:
    """Return which of the blocks pins keep, by multihash, and how."""
    kept: dict[bytes, str] = {}
    marks = Marks()
    for pin in sorted(home.pins.iter_pins(), key=lambda pin: not pin.complete):
        if pin.cid.multihash in wanted:
            kept[pin.cid.multihash] = f"it is pinned ({pin.mode})"
        if pin.mode is PinMode.RECURSIVE:
            try:
                marks.add_closure(home.blocks, pin.cid, complete=pin.complete)
            except IpvcsError as exc:
                raise UnreadablePinError(pin, exc) from exc
            for key in wanted & marks.keys:
                kept.setdefault(key, f"it is pinned through '{pin.cid}'")
    return kept
