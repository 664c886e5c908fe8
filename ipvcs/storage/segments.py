"""Segments: append-only files of blocks. Each is a valid CARv1 without roots, so any IPFS tool can read one.

The index, not the file, says what is stored: bytes after the length that the segments table records are the remains of
an interrupted write, and the next writer cuts them off. A writer holds a segment's `flock` while it appends.

Spec: https://ipld.io/specs/transport/car/carv1/
"""

import fcntl
import os
import struct
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple, Self

from ipvcs.errors import DecodeError, IntegrityError
from ipvcs.multiformats import varint
from ipvcs.multiformats.cid import Cid
from ipvcs.storage.disk import disk_errors, sync_directory, write_all

HEADER: Final = b"\x11\xa2eroots\x80gversion\x01"
"""A CARv1 header: the varint 17, then dag-cbor `{"roots": [], "version": 1}`."""
SEGMENT_SIZE: Final = 256 * 1024 * 1024
"""Bytes after which a writer turns to the next file: the grain of compaction."""
_OPEN_FILES: Final = 128
_MAX_HEAD: Final = 9 + 160  # section length and CID: more than any we write
_ROW: Final = struct.Struct(">QQ")


class DamagedSegmentError(IntegrityError):
    """A segment file does not hold what the index says."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(
            f"segment '{path.name}' is damaged at byte {offset}: {reason}",
            hint="`ipvcs repo verify` lists what is lost; put or import it again",
        )
        self.path = path
        self.offset = offset


class UnknownSegmentError(IntegrityError):
    """There is a segment with blocks in it that the index does not know: it is older than the segments."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"segment '{path.name}' holds blocks, but the index does not know it",
            hint="was an old copy of 'datastore' put back? move the file away and `ipvcs dag import` it",
        )
        self.path = path


class SegmentRow(NamedTuple):
    """A segment's entry in the segments table, in bytes: all that was committed, and what of it is still wanted."""

    length: int
    live: int

    @property
    def waste(self) -> int:
        """Bytes of blocks that were deleted, or that another writer had stored first."""
        return self.length - len(HEADER) - self.live

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Self:
        """Read a row as `pack` wrote it."""
        return cls(*_ROW.unpack(data))

    def pack(self) -> bytes:
        """Return 16 bytes, big endian."""
        return _ROW.pack(*self)


def key_of(segment: int) -> bytes:
    """Return the segment's key in the segments table."""
    return segment.to_bytes(4, "big")


def section_head(cid: Cid, size: int) -> bytes:
    """Return what precedes the `size` bytes of a block in a segment: the section's length and the CID."""
    return varint.encode(len(cid.raw) + size) + cid.raw


class SegmentFile:
    """An open segment. The descriptor lives as long as anybody refers to this object."""

    __slots__ = ("fd", "path")

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        self.fd = -1
        self.path = path
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; whoever still reads through it gets an error."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`.

        Raises:
            DamagedSegmentError: the file ends before.
        """
        data = os.pread(self.fd, length, offset)
        while len(data) < length:
            more = os.pread(self.fd, length - len(data), offset + len(data))
            if not more:
                raise DamagedSegmentError(self.path, offset, f"it ends after {len(data)} of {length} bytes")
            data += more
        return data


class SegmentDirectory:
    """The directory of segment files, and the few that are kept open for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: OrderedDict[int, SegmentFile] = OrderedDict()
        self._lock = Lock()

    def path_of(self, segment: int) -> Path:
        """Return where the segment's file is, or would be."""
        return self.path / f"{segment:08x}.car"

    def open(self, segment: int) -> SegmentFile:
        """Return the segment, open for reading. Raises FileNotFoundError when it was compacted away."""
        with self._lock:
            file = self._open.get(segment)
            if file is None:
                file = self._open[segment] = SegmentFile(self.path_of(segment))
                if len(self._open) > _OPEN_FILES:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(segment)
            return file

    def forget(self) -> None:
        """Close what is open, so that files removed by a compaction free their space."""
        with self._lock:
            self._open.clear()

    def iter_ids(self) -> Iterator[int]:
        """Yield the number of each segment file there is."""
        with disk_errors(self.path):
            for entry in sorted(self.path.glob("*.car")):
                if len(entry.stem) == 8:
                    yield int(entry.stem, 16)


class SegmentAppender:
    """A segment held for appending: its flock is ours until `close`."""

    def __init__(self, file: SegmentFile, segment: int, length: int) -> None:
        self.segment = segment
        self.length = length
        self._file = file

    @classmethod
    def create(cls, directory: SegmentDirectory, segment: int) -> Self:
        """Make a new segment, its name and header durable. The caller's transaction counts `segment` as used.

        A file of that number is the remains of such a transaction that did not commit: it is replaced.

        Raises:
            UnknownSegmentError: it is not, for blocks are in it.
        """
        path = directory.path_of(segment)
        if not is_unused(path):
            raise UnknownSegmentError(path)
        path.unlink(missing_ok=True)
        file = SegmentFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_all(file.fd, [HEADER])
        os.fsync(file.fd)
        sync_directory(directory.path)
        return cls(file, segment, len(HEADER))

    @classmethod
    def try_lock(cls, directory: SegmentDirectory, segment: int) -> Self | None:
        """Take an existing segment unless another writer has it or it was removed. Then call `resume`."""
        try:
            file = SegmentFile(directory.path_of(segment), os.O_RDWR)
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            return None
        if os.fstat(file.fd).st_nlink == 0:  # removed between open and flock
            return None
        return cls(file, segment, 0)

    def resume(self, length: int) -> None:
        """Continue after `length` committed bytes, cutting off what an interrupted writer left behind.

        Raises:
            DamagedSegmentError: the file is shorter than that.
        """
        size = os.fstat(self._file.fd).st_size
        if size < length:
            raise DamagedSegmentError(self._file.path, size, f"it has {size} of {length} bytes")
        if size > length:
            os.ftruncate(self._file.fd, length)
        os.lseek(self._file.fd, length, os.SEEK_SET)
        self.length = length

    def append(self, parts: list[bytes]) -> None:
        """Write whole sections at the end. On failure the end stays where it was."""
        try:
            self.length += write_all(self._file.fd, parts)
        except OSError:
            os.ftruncate(self._file.fd, self.length)
            os.lseek(self._file.fd, self.length, os.SEEK_SET)
            raise

    def sync(self) -> None:
        """Make all that was appended durable."""
        os.fdatasync(self._file.fd)

    def remove(self) -> None:
        """Delete the file; we hold its lock, so nobody is appending."""
        self._file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the segment. The lock ends with the last descriptor: a forked child's `close` leaves ours alone."""
        self._file.close()


def is_unused(path: Path) -> bool:
    """Tell whether a segment file is missing or holds nothing: blocks follow only when the index knows the segment."""
    return not path.exists() or path.stat().st_size <= len(HEADER)


def iter_sections(file: SegmentFile, length: int) -> Iterator[tuple[Cid, int, int]]:
    """Yield (cid, offset of the data, size of the data) of each section in the first `length` bytes.

    Raises:
        DamagedSegmentError: a section that is not whole or has no CID; what follows it can't be found.
    """
    if file.read(0, len(HEADER)) != HEADER:
        raise DamagedSegmentError(file.path, 0, "it does not begin with its header")
    position = len(HEADER)
    while position < length:
        head = file.read(position, min(_MAX_HEAD, length - position))
        try:
            size, start = varint.decode(head)
            cid, end = Cid.read(head, start)
        except DecodeError as exc:
            raise DamagedSegmentError(file.path, position, str(exc)) from exc
        following = position + start + size
        if following > length or end - start > size:
            raise DamagedSegmentError(file.path, position, f"a section of {size} bytes does not fit")
        yield cid, position + end, size - (end - start)
        position = following
