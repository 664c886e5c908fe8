"""Files, directories and symlinks of a DAG in one file: what `get --archive` and `get --compress` write.

The archive is a tar in the pax format, which holds names of any bytes and length, and times to the nanosecond. It
depends on the DAG alone: what the DAG does not say is the same in every archive (owner 0, time 0, mode 0644 or 0755).
Everything is streamed; nothing is kept but the way down to the entry that is written.

Spec: pax in POSIX.1-2017, and https://www.rfc-editor.org/rfc/rfc1952 (gzip)
"""

import gzip
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader
from ipvcs.objects.file_reader import file_size, iter_file
from ipvcs.objects.symlink import Symlink
from ipvcs.objects.unixfs import Mtime
from ipvcs.storage.disk import disk_errors, replacing
from ipvcs.storage.disk_export import MODE_MASK, refuse_existing
from ipvcs.storage.export_walk import DirectoryEntered, DirectoryLeft, LeafFound, iter_export

_END: Final = 2 * tarfile.BLOCKSIZE
"""Zero bytes that end a tar."""
DEFAULT_LEVEL: Final = 6
"""What gzip(1) does unless told otherwise."""
_NANOS: Final = 1_000_000_000


def export_archive(
    reader: BlockReader,
    cid: Cid,
    name: bytes,
    target: Path,
    *,
    compress_level: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Write the file, directory or symlink `cid`, called `name`, into the new tar `target`.

    `compress_level` from 1 to 9 also compresses it. Failing or interrupted, it leaves nothing behind.

    Raises:
        TargetExistsError, BadEntryError, NotExportableError, DecodeError, LimitError, BlockNotFoundError, DiskError: as
            `disk_export.export_to`.
    """
    with _new_file(target, compress_level) as write:
        path: list[str] = []
        for step in iter_export(reader, cid, name):
            if isinstance(step, DirectoryLeft):
                path.pop()
            elif isinstance(step, DirectoryEntered):
                path.append(os.fsdecode(step.name))
                info = _entry("/".join(path), step.tree.mode or 0o755, step.tree.mtime)
                info.type = tarfile.DIRTYPE
                write(_header(info))
            else:
                _write_leaf(reader, "/".join([*path, os.fsdecode(step.name)]), step, write, on_bytes)
        write(bytes(_END))


def export_compressed(
    reader: BlockReader,
    cid: Cid,
    target: Path,
    *,
    compress_level: int = DEFAULT_LEVEL,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Write the bytes of the file `cid`, compressed, to the new file `target`.

    Raises:
        NotAFileError: `cid` is no file.
        TargetExistsError, DecodeError, BlockNotFoundError, DiskError: as `export_archive`.
    """
    pieces = iter_file(reader, cid)  # before the file is made: an error if there is nothing to compress
    with _new_file(target, compress_level) as write:
        _write_pieces(pieces, write, on_bytes)


@contextmanager
def _new_file(target: Path, compress_level: int | None) -> Iterator[Callable[[bytes], object]]:
    with disk_errors(target):
        refuse_existing(target)
        with replacing(target) as file:
            if compress_level is None:
                yield file.write
            else:
                # Neither name nor time, so that the same DAG gives the same bytes.
                with gzip.GzipFile(
                    filename="", mode="wb", compresslevel=compress_level, fileobj=file, mtime=0
                ) as zipped:
                    yield zipped.write
            refuse_existing(target)


def _write_leaf(
    reader: BlockReader,
    path: str,
    leaf: LeafFound,
    write: Callable[[bytes], object],
    on_bytes: Callable[[int], None] | None,
) -> None:
    content = leaf.content
    if isinstance(content, Symlink):
        info = _entry(path, 0o777, content.mtime)
        info.type = tarfile.SYMTYPE
        info.linkname = os.fsdecode(content.target)
        write(_header(info))
        return
    info = _entry(path, content.mode or 0o644, content.mtime)
    info.size = file_size(reader, leaf.cid)
    write(_header(info))
    _write_pieces(iter_file(reader, leaf.cid), write, on_bytes)  # that are as many bytes, or an error
    write(bytes(-info.size % tarfile.BLOCKSIZE))


def _write_pieces(
    pieces: Iterator[bytes], write: Callable[[bytes], object], on_bytes: Callable[[int], None] | None
) -> None:
    for piece in pieces:
        write(piece)
        if on_bytes is not None:
            on_bytes(len(piece))


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _entry(path: str, mode: int, mtime: Mtime | None) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode = mode & MODE_MASK
    if mtime is not None:
        info.mtime = mtime.seconds
        if mtime.nanoseconds:
            info.pax_headers = {"mtime": _decimal(mtime)}
    return info


def _decimal(mtime: Mtime) -> str:
    """Return the time as a decimal fraction of seconds; before 1970 nanoseconds count towards zero."""
    total = mtime.seconds * _NANOS + mtime.nanoseconds
    seconds, nanoseconds = divmod(abs(total), _NANOS)
    return f"{'-' if total < 0 else ''}{seconds}.{nanoseconds:09d}"
