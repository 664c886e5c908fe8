"""Files, directories and symlinks of a DAG, written to the disk: what `get` does.

The DAG is a stranger's (`export_walk` refuses what leads out of it). Every name is created new and relative to its
directory's descriptor, and symlinks are made but never followed, so nothing outside the target can be written. All is
written beside the target under a temporary name and renamed when it is whole.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ipvcs.errors import ConflictError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader
from ipvcs.objects.file_reader import iter_file
from ipvcs.objects.symlink import Symlink
from ipvcs.objects.tree import Tree
from ipvcs.objects.unixfs import Mtime
from ipvcs.storage.directory_position import DirectoryPosition
from ipvcs.storage.disk import disk_errors, write_all
from ipvcs.storage.export_walk import BadEntryError, DirectoryEntered, DirectoryLeft, LeafFound, iter_export

MODE_MASK: Final = 0o777
"""Set-user-id and its like are not restored: the DAG may be anybody's."""
_NANOS: Final = 1_000_000_000
_OPEN_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BAD_NAME: Final = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
"""What file systems answer to names, or targets of symlinks, that they can't hold."""

T = TypeVar("T")


class TargetExistsError(ConflictError):
    """Something is there already; nothing is overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' already exists", hint="choose another place with `-o`, or move it away")
        self.path = path


def export_to(reader: BlockReader, cid: Cid, target: Path, *, on_bytes: Callable[[int], None] | None = None) -> None:
    """Write the file, directory or symlink `cid` to `target`, which must not exist; of a commit or tag, what it holds.

    Modes (without set-id bits) and modification times that the DAG has are restored. Interrupted or failing, it leaves
    nothing behind; killed, at most a hidden `.<name>.<random>.part` beside the target.

    Raises:
        TargetExistsError: nothing is overwritten.
        BadEntryError: an entry that leads elsewhere, is twice in its directory, or that the file system can't name.
        NotExportableError, DecodeError, LimitError, BlockNotFoundError: as `iter_export`.
        DiskError: of the disk.
    """
    with disk_errors(target):
        refuse_existing(target)
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        part = b".%b.%b.part" % (os.fsencode(target.name)[:200], secrets.token_hex(4).encode())
        try:
            with DirectoryPosition(os.dup(parent)) as position:
                _write(reader, cid, part, position, on_bytes)
            refuse_existing(target)
            os.rename(part, os.fsencode(target.name), src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException as exc:
            if isinstance(exc, OSError):
                exc.filename = None  # our temporary name, or one that means nothing without its directory
            with suppress(OSError), DirectoryPosition(os.dup(parent)) as position:
                _remove(part, position)
            raise
        finally:
            os.close(parent)


def refuse_existing(target: Path) -> None:
    """Raise TargetExistsError if there is anything at `target`, be it a symlink that leads nowhere."""
    if os.path.lexists(target):
        raise TargetExistsError(target)


def _write(
    reader: BlockReader, cid: Cid, name: bytes, position: DirectoryPosition, on_bytes: Callable[[int], None] | None
) -> None:
    """Write the DAG `cid` as the new entry `name` at `position`."""
    for step in iter_export(reader, cid, name):
        if isinstance(step, DirectoryEntered):
            _create(partial(os.mkdir, step.name, 0o700, dir_fd=position.fd), step)
            position.enter(position.open(step.name))
        elif isinstance(step, DirectoryLeft):
            position.leave(partial(_finish_directory, step.tree))
        else:
            _write_leaf(reader, step, position.fd, on_bytes)


def _finish_directory(tree: Tree, fd: int) -> None:
    """Set what can only be set when all entries are written."""
    # Until here the mode was 0700; now what the DAG says, or what the user's umask allows. As in Kubo, 0 is no mode.
    os.fchmod(fd, tree.mode & MODE_MASK if tree.mode else 0o777 & ~_umask())
    if tree.mtime is not None:
        os.utime(fd, ns=_times(tree.mtime))


def _write_leaf(reader: BlockReader, leaf: LeafFound, parent: int, on_bytes: Callable[[int], None] | None) -> None:
    content = leaf.content
    if isinstance(content, Symlink):
        _create(partial(os.symlink, content.target, leaf.name, dir_fd=parent), leaf)
        if content.mtime is not None:
            os.utime(leaf.name, ns=_times(content.mtime), dir_fd=parent, follow_symlinks=False)
        return
    fd = _create(partial(os.open, leaf.name, _OPEN_NEW, 0o666, dir_fd=parent), leaf)
    try:
        for piece in iter_file(reader, leaf.cid):
            write_all(fd, [piece])
            if on_bytes is not None:
                on_bytes(len(piece))
        if content.mode:
            os.fchmod(fd, content.mode & MODE_MASK)
        if content.mtime is not None:
            os.utime(fd, ns=_times(content.mtime))
    finally:
        os.close(fd)


def _create(make: Callable[[], T], entry: DirectoryEntered | LeafFound) -> T:
    try:
        return make()
    except FileExistsError:
        # We write into directories that we made ourselves: a name that exists there was in the DAG twice, or two names
        # are one to this file system (letter case, Unicode forms).
        raise BadEntryError(entry.name, entry.parent, "the directory has it twice") from None
    except OSError as exc:
        if exc.errno not in _BAD_NAME:
            raise
        raise BadEntryError(entry.name, entry.parent, exc.strerror or "the file system refuses it") from exc


def _times(mtime: Mtime) -> tuple[int, int]:
    nanoseconds = mtime.seconds * _NANOS + mtime.nanoseconds
    return nanoseconds, nanoseconds


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _remove(name: bytes, position: DirectoryPosition) -> None:
    """Delete the entry `name` at `position` with all below it, as deep as that may be."""
    path: list[bytes] = []
    waiting = [[name]]
    while True:
        if waiting[-1]:
            entry = waiting[-1].pop()
            if not _is_directory(entry, position.fd):
                os.unlink(entry, dir_fd=position.fd)
                continue
            os.chmod(entry, 0o700, dir_fd=position.fd)  # the DAG may have taken our right to empty it
            position.enter(position.open(entry))
            path.append(entry)
            waiting.append([os.fsencode(below) for below in os.listdir(position.fd)])
        elif path:
            waiting.pop()
            position.leave()
            os.rmdir(path.pop(), dir_fd=position.fd)
        else:
            return


def _is_directory(name: bytes, parent: int) -> bool:
    return stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)
