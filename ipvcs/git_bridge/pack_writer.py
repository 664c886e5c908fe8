"""A pack of whole objects, written as they come: for `git index-pack`, which makes its index and checks every object.

    "PACK" version 2, the count of objects, entries (type and size, then zlib), the hash of all that

Deltas would make it smaller, and nobody keeps it: git packs again when it sees fit.

Spec: gitformat-pack(5)
"""

import zlib
from collections import deque
from concurrent.futures import Executor, Future
from typing import IO, Final

from ipvcs.objects.chunkers.interface import Read
from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.objects.git.payload import GitType

_TYPES: Final = {GitType.COMMIT: 1, GitType.TREE: 2, GitType.BLOB: 3, GitType.TAG: 4}
_COUNT_AT: Final = 8
_LEVEL: Final = 1
"""Of zlib: the pack is read once, on the same machine."""
_READ_SIZE: Final = 1024 * 1024
_BATCH: Final = 256 * 1024
"""Bytes of objects that are compressed together: one by one, most would take longer to hand to a thread."""
_AHEAD: Final = 16
"""Batches that wait for their turn to be written, of `_BATCH` and an object at most each."""


class PackWriter:
    """Writes to a file that is opened for reading and writing, and empty. `count` objects are in it."""

    def __init__(self, file: IO[bytes], object_format: ObjectFormat, threads: Executor) -> None:
        """Write to `file`; objects of usual size are compressed by `threads`, some ahead of what is written."""
        self._file = file
        self._format = object_format
        self._threads = threads
        self._batch: list[tuple[bytes, bytes]] = []
        self._batch_size = 0
        self._ahead: deque[Future[bytes]] = deque()
        self.count = 0
        file.write(b"PACK" + (2).to_bytes(4, "big") + bytes(4))

    @property
    def size(self) -> int:
        """How many bytes were written, more or less: what is being compressed is not."""
        return self._file.tell()

    def add_whole(self, git_type: GitType, body: bytes) -> None:
        """Add an object that is held already."""
        self.count += 1
        self._batch.append((_entry_header(_TYPES[git_type], len(body)), body))
        self._batch_size += len(body)
        if self._batch_size >= _BATCH:
            self._send_batch()
            self._write_ahead(_AHEAD)

    def add(self, git_type: GitType, size: int, read: Read) -> None:
        """Add an object of `size` bytes, which `read` gives. When it raises, the pack is spoilt."""
        if size <= _READ_SIZE:
            self.add_whole(git_type, b"".join(iter(lambda: read(_READ_SIZE), b"")))
            return
        self.count += 1
        self._write_all()
        self._file.write(_entry_header(_TYPES[git_type], size))
        packer = zlib.compressobj(_LEVEL)
        while piece := read(_READ_SIZE):
            self._file.write(packer.compress(piece))
        self._file.write(packer.flush())

    def _send_batch(self) -> None:
        if self._batch:
            self._ahead.append(self._threads.submit(_compress, self._batch))
            self._batch, self._batch_size = [], 0

    def _write_ahead(self, keep: int) -> None:
        """Write what was compressed, all but the last `keep` batches."""
        while len(self._ahead) > keep:
            self._file.write(self._ahead.popleft().result())

    def _write_all(self) -> None:
        self._send_batch()
        self._write_ahead(0)

    def finish(self) -> None:
        """Write the count and the hash, and go back to the start."""
        self._write_all()
        self._file.seek(_COUNT_AT)
        self._file.write(self.count.to_bytes(4, "big"))
        self._file.seek(0)
        digest = self._format.hasher()
        while piece := self._file.read(_READ_SIZE):
            digest.update(piece)
        self._file.write(digest.digest())
        self._file.seek(0)


def _compress(batch: list[tuple[bytes, bytes]]) -> bytes:
    """Return the entries of `batch`, each a header and a body. Runs in a thread."""
    return b"".join([part for header, body in batch for part in (header, zlib.compress(body, _LEVEL))])


def _entry_header(kind: int, size: int) -> bytes:
    """Return the type and the size, seven bits at a time, of which the first byte has four."""
    byte, rest = kind << 4 | size & 15, size >> 4
    out = bytearray()
    while rest:
        out.append(byte | 0x80)
        byte, rest = rest & 0x7F, rest >> 7
    out.append(byte)
    return bytes(out)
