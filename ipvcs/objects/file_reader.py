"""Read UnixFS files: whole, by range, or as a seekable Python file.

Goals: chunks in order, memory bounded by the links on the way down (never by the file's size or depth), only the blocks
that a range touches, and no wrong bytes: each node that is read must be as long as its parent claims.

Non-goal: a child that nobody reads is not checked. A range is as true as the blocks on its way; the whole file is
checked by reading it whole.

Spec: https://specs.ipfs.tech/unixfs/
"""

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from ipvcs.errors import LimitError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.blob import MAX_FILE_SIZE, Blob, FileNodeError, ListPart, decode_file
from ipvcs.objects.block import BlockReader
from ipvcs.objects.inline import read_block

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Prefetch = Callable[[list[Cid]], None]
"""Told which blocks come next, in reading order; may be told of one twice. A hint: it must not block for long."""

MAX_PENDING: Final = 256 * 1024
"""Links to parts not yet read, over all levels: some 40 MiB. Kubo's widest balanced file has 1024 a level."""
MAX_EMPTY_PARTS: Final = 4096
"""Parts of zero bytes in one read. They cost a block each and give nothing, so a DAG of them would never end."""
READAHEAD: Final = 32
"""Links in one hint: 32 MiB of 1 MiB leaves, enough to keep a fast link busy."""


class PartSizeError(FileNodeError):
    """A part of a file is not as long as its parent claims. Which of the two lies can't be told; both are named."""

    def __init__(self, parent: Cid, child: Cid, claimed: int, actual: int) -> None:
        super().__init__(parent, f"it claims {claimed} bytes for its part '{child}', which has {actual}")
        self.child = child
        self.claimed = claimed
        self.actual = actual


def file_size(reader: BlockReader, cid: Cid) -> int:
    """Return the size in bytes that the file's root claims; reads that one block.

    Raises:
        BlockNotFoundError, NotAFileError, FileNodeError, DecodeError: as `iter_file`.
    """
    return decode_file(cid, read_block(reader, cid)).size


def iter_file(
    reader: BlockReader, cid: Cid, start: int = 0, end: int | None = None, *, prefetch: Prefetch | None = None
) -> Iterator[bytes]:
    """Yield the bytes [`start`, `end`) of the file `cid` in order, in pieces of at most a block, none empty.

    `end` None or past the end is the end. Blocks are asked for as the pieces are taken.

    Raises:
        ValueError: `start` is negative.
        BlockNotFoundError: the reader lacks a block.
        NotAFileError: `cid` is no file, or a part of it is none.
        PartSizeError, FileNodeError: a node contradicts itself or its parent.
        DagPbError, UnixfsError: a node does not decode.
        LimitError: more than `MAX_PENDING` links or `MAX_EMPTY_PARTS` empty parts at a time.
    """
    return FileReader(reader, cid, prefetch=prefetch).iter_chunks(start, end)


class FileReader(io.RawIOBase):
    """A UnixFS file as a readable, seekable binary file. `cid` and `size` (bytes, as claimed) are its attributes.

    The root is read at once, so that a missing or wrong one is an error here. Errors while reading are `iter_file`'s.
    Not for use by two threads at a time; wrap it in `io.BufferedReader` for many small reads.
    """

    def __init__(self, reader: BlockReader, cid: Cid, *, prefetch: Prefetch | None = None) -> None:
        super().__init__()
        self.cid = cid
        self._reader = reader
        self._prefetch = prefetch
        self._root = decode_file(cid, read_block(reader, cid))
        self.size = self._root.size
        self._position = 0
        self._chunks: Iterator[bytes] | None = None  # yields what follows `_rest`; None until read or after a seek
        self._rest = memoryview(b"")  # bytes at `_position` that are already here

    def iter_chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [`start`, `end`) as `iter_file` does. The file's position is neither used nor moved."""
        if start < 0:
            raise ValueError(f"negative start of a range: {start}")
        return self._iter_range(start, self.size if end is None else min(end, self.size))

    def _iter_range(self, start: int, end: int) -> Iterator[bytes]:
        if start > end or (start == end and self.size):  # an empty file may have parts, which must be empty too
            return
        if own := _cut(self._root.data, 0, start, end):
            yield own
        if isinstance(self._root, Blob):
            return
        descent = _Descent(self._reader, start, end, self._prefetch)
        descent.push(self.cid, self._root.parts, len(self._root.data))
        while (piece := descent.step()) is not None:
            if piece:
                yield piece

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        self._refuse_closed()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` and return the new position; past the end is allowed, and reads nothing there.

        Raises:
            ValueError: closed, an unknown `whence`, or before the start.
        """
        self._refuse_closed()
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"invalid whence {whence}")
        position = offset + (0, self._position, self.size)[whence]
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        ahead = position - self._position
        if 0 <= ahead <= len(self._rest):
            self._rest = self._rest[ahead:]
        else:
            self._rest, self._chunks = memoryview(b""), None
        self._position = position
        return position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill `buffer` with what follows and return the count, short only at the end of the file."""
        self._refuse_closed()
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._fill():
            count = min(len(self._rest), len(view) - filled)
            view[filled : filled + count] = self._rest[:count]
            self._advance(count)
            filled += count
        return filled

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the file; all that is left if negative."""
        self._refuse_closed()
        wanted = size if size >= 0 else MAX_FILE_SIZE
        pieces: list[memoryview] = []
        while wanted and self._fill():
            piece = self._rest[:wanted]
            pieces.append(piece)
            wanted -= len(piece)
            self._advance(len(piece))
        return b"".join(pieces)

    def readall(self) -> bytes:
        """Return all that is left."""
        return self.read()

    def close(self) -> None:
        """Let go of what was read ahead."""
        self._rest, self._chunks = memoryview(b""), None
        super().close()

    def _fill(self) -> bool:
        """Make `_rest` non-empty; False at the end of the file."""
        if self._rest:
            return True
        if self._chunks is None:
            self._chunks = self.iter_chunks(self._position)
        try:
            self._rest = memoryview(next(self._chunks, b""))
        except BaseException:
            self._chunks = None  # a generator that raised is finished: without this the next read would see the end
            raise
        return bool(self._rest)

    def _advance(self, count: int) -> None:
        self._rest = self._rest[count:]
        self._position += count

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class _Descent:
    """The way down from a file's root to the leaves of one range: a stack of the parts not yet read, next one last."""

    def __init__(self, reader: BlockReader, start: int, end: int, prefetch: Prefetch | None) -> None:
        self._reader = reader
        self._start = start
        self._end = end
        self._prefetch = prefetch
        self._pending: list[tuple[Cid, Cid, int, int]] = []  # (parent, part, its offset in the file, its claimed size)
        self._empty_parts = 0
        self._hinted = 0  # how many of the top of the stack the last hint still covers

    def push(self, parent: Cid, parts: tuple[ListPart, ...], offset: int) -> None:
        """Put those of `parts`, the first of which is at `offset`, on the stack that the range touches."""
        wanted: list[tuple[Cid, Cid, int, int]] = []
        for part in parts:
            size = part.size
            if offset + size > self._end and offset >= self._end:
                break
            if offset + size > self._start or (size == 0 and offset == self._start):
                wanted.append((parent, part.cid, offset, size))
            offset += size
        wanted.reverse()
        self._pending += wanted
        self._hinted = 0
        if len(self._pending) > MAX_PENDING:
            raise LimitError(f"file has more than {MAX_PENDING} links on the way to a byte, at '{parent}'")

    def step(self) -> bytes | None:
        """Read one part and return its own bytes, cut to the range, often none; None when the range is done."""
        if not self._pending:
            return None
        self._hint()
        parent, cid, offset, size = self._pending.pop()
        if size == 0:
            self._empty_parts += 1
            if self._empty_parts > MAX_EMPTY_PARTS:
                raise LimitError(f"file has more than {MAX_EMPTY_PARTS} empty parts, at '{parent}'")
        node = decode_file(cid, read_block(self._reader, cid))
        if node.size != size:
            raise PartSizeError(parent, cid, size, node.size)
        if not isinstance(node, Blob):
            self.push(cid, node.parts, offset + len(node.data))
        return _cut(node.data, offset, self._start, self._end)

    def _hint(self) -> None:
        if self._prefetch is None:
            return
        if self._hinted * 2 <= min(READAHEAD, len(self._pending)):
            ahead = [cid for _, cid, _, _ in self._pending[: -READAHEAD - 1 : -1] if not cid.is_identity]
            self._hinted = min(READAHEAD, len(self._pending))
            if ahead:
                self._prefetch(ahead)
        self._hinted -= 1


def _cut(data: bytes, offset: int, start: int, end: int) -> bytes:
    """Return what of `data`, which lies at `offset` in the file, is in [`start`, `end`)."""
    low, high = max(0, start - offset), max(0, end - offset)
    return data[low:high]  # a slice of the whole is no copy
