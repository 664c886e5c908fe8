"""Blobs become blocks, a batch at a time: here, or in a process beside this one (`blob_worker`).

No blob depends on another object, and most of the bytes of a history are in blobs. So they are converted apart from the
trees and commits that lead to them, which follow as far behind as it takes.

    ask, ask, ask … ─► a batch ─► less what the home remembers ─► BlobConverter ─► MemoTable
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ipvcs.git_bridge.memo_table import MemoTable
from ipvcs.git_bridge.object_feed import FedObject, ObjectReader
from ipvcs.multiformats import codecs
from ipvcs.objects.chunkers.interface import Read
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.mapping import Mapper, Reference
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.payload import GitType, encode_header
from ipvcs.storage.closure import IncompleteError, rely_on_closure
from ipvcs.storage.interface import BlockWriting

BATCH: Final = 64
"""Blobs asked for at once. Their ids are less than a pipe holds, so that neither end ever waits for the other."""
UNDER_WAY: Final = 3
"""Batches that a converter has at a time: it need not wait for us, and no pipe fills."""
_HELD: Final = 1024 * 1024
"""Bytes of a blob that is held whole."""


class BlobConverter(Protocol):
    """Maps blobs as what leads to them says, in batches of up to `BATCH`; up to `UNDER_WAY` may wait to be collected.

    What an object of another type is mapped as has the kind VERBATIM.
    """

    def submit(self, batch: Sequence[Reference]) -> None:
        """Take a batch."""

    def collect(self) -> list[Mapped]:
        """Return what the oldest batch became, in its order.

        Raises:
            GitObjectMissingError, ObjectIdMismatchError: the repository is damaged. GitError: git can't read it.
            DiskError: the blocks can't be stored.
        """

    def flush(self) -> None:
        """Return when the blocks of what was collected are durable and visible to all. Errors as `collect`."""


class BlobsHere:
    """Converts in this process."""

    def __init__(self, mapper: Mapper, reader: ObjectReader) -> None:
        self._mapper = mapper
        self._reader = reader
        self._batches: deque[Sequence[Reference]] = deque()

    def submit(self, batch: Sequence[Reference]) -> None:
        """See `BlobConverter.submit`."""
        self._batches.append(batch)

    def collect(self) -> list[Mapped]:
        """See `BlobConverter.collect`."""
        batch = self._batches.popleft()
        blobs = self._reader.get_many([each.oid for each in batch])
        return [map_fed(self._mapper, fed, each.kind) for each, fed in zip(batch, blobs, strict=True)]

    def flush(self) -> None:
        """See `BlobConverter.flush`. Whoever made the mapper flushes what it writes to."""


class BlobQueue:
    """Blobs are asked for in some order, and mapped, remembered, in that order: `done` of the `asked`."""

    def __init__(
        self, memos: MemoTable, converter: BlobConverter, writer: BlockWriting, progress: Callable[[int], None]
    ) -> None:
        """Have those converted that `memos` does not know; what it knows is protected by `writer`. `progress` is told
        how many are done.
        """
        self._progress = progress
        self._memos = memos
        self._converter = converter
        self._writer = writer
        self._gathered: list[Reference] = []
        self._batches: deque[tuple[int, list[Reference]]] = deque()
        self._waiting: set[Reference] = set()
        self.asked = 0
        self.done = 0

    def ask(self, reference: Reference) -> None:
        """Ask for a blob; once is enough until it is done."""
        if reference in self._waiting:
            return
        self._waiting.add(reference)
        self._gathered.append(reference)
        self.asked += 1
        if len(self._gathered) == BATCH:
            self._submit()

    def wait(self, count: int) -> None:
        """Return when the first `count` that were asked for are mapped. Errors as `BlobConverter.collect`."""
        while self.done < count:
            if not self._batches:
                self._submit()
            self._collect()

    def _submit(self) -> None:
        found = self._memos.find_many(self._gathered)
        missing = [each for each in self._gathered if not self._protect(found.get(each))]
        while len(self._batches) >= UNDER_WAY:
            self._collect()
        self._batches.append((len(self._gathered), missing))
        self._waiting.difference_update(each for each in self._gathered if each in found)
        self._gathered = []
        if missing:
            self._converter.submit(missing)

    def _collect(self) -> None:
        size, missing = self._batches.popleft()
        if missing:
            for reference, mapped in zip(missing, self._converter.collect(), strict=True):
                self._memos.add(reference.oid, mapped)
            self._waiting.difference_update(missing)
        self.done += size
        self._progress(self.done)

    def _protect(self, found: Mapped | None) -> bool:
        """Protect all blocks of a blob that was mapped before; False when it was not, or when not all are here."""
        if found is None or found.cid.codec == codecs.RAW:  # its only block, which `find_many` protects
            return found is not None
        try:
            rely_on_closure(self._writer, found.cid)
        except IncompleteError:
            return False
        return True


def map_fed(mapper: Mapper, fed: FedObject, kind: NodeKind) -> Mapped:
    """Map a blob that streams by as `kind`, or, if it is no blob, verbatim. Raises ObjectIdMismatchError."""
    if fed.type is not GitType.BLOB:
        return map_verbatim(mapper, fed)
    if fed.size <= _HELD:
        return mapper.map_held_blob(fed.oid, kind, fed.body())
    return mapper.map_blob(fed.oid, kind, fed.size, fed.read)


def map_verbatim(mapper: Mapper, fed: FedObject) -> Mapped:
    """Map an object of another type than what refers to it says. Raises ObjectIdMismatchError."""
    header = encode_header(fed.type, fed.size)
    return mapper.map_verbatim(fed.oid, len(header) + fed.size, _after(header, fed.read))


def _after(start: bytes, read: Read) -> Read:
    """Return a `read` function that gives `start` and then what `read` gives."""
    left = [start]

    def read_both(size: int) -> bytes:
        if not left:
            return read(size)
        piece, rest = left[0][:size], left[0][size:]
        left[:] = [rest] if rest else []
        return piece

    return read_both
