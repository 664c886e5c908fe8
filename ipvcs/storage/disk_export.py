"""Files, directories and symlinks of a DAG, written to the disk: what `get` does.

The DAG is a stranger's. Names that would lead out of the target are refused, every name is created new and relative to
its directory's descriptor, and symlinks are made but never followed, so nothing outside the target can be written.
All is written beside the target under a temporary name and renamed when it is whole.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from ipvcs.errors import ConflictError, DecodeError, LimitError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.blob import Blob, BlobList
from ipvcs.objects.block import BlockReader
from ipvcs.objects.commit import CommitObject
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.file_reader import iter_file
from ipvcs.objects.git.tree_entries import PAYLOAD_ENTRY
from ipvcs.objects.inline import read_block
from ipvcs.objects.object import Object, type_name, view
from ipvcs.objects.symlink import Symlink
from ipvcs.objects.tag import TagObject
from ipvcs.objects.tree import Tree
from ipvcs.objects.unixfs import Mtime
from ipvcs.storage.disk import disk_errors, write_all

_MODE_MASK: Final = 0o777
"""Set-user-id and its like are not restored: the DAG may be anybody's."""
_MAX_DEPTH: Final = 1000
"""Directories inside each other, an open descriptor each would be the kernel's bound; paths end before."""
_MAX_NESTED_OBJECTS: Final = 64
_NANOS: Final = 1_000_000_000
_TREE_PAYLOAD_START: Final = b"tree "

T = TypeVar("T")


class TargetExistsError(ConflictError):
    """Something is there already; nothing is overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' already exists", hint="choose another place with `-o`, or move it away")
        self.path = path


class UnsafeNameError(DecodeError):
    """An entry has a name that can't be written to the disk safely."""

    def __init__(self, name: bytes, cid: Cid) -> None:
        super().__init__(
            f"refusing to write the entry '{name.decode(errors='backslashreplace')}' of '{cid}'",
            hint="`ipvcs ls` and `ipvcs cat` read it without writing to the disk",
        )
        self.name = name
        self.cid = cid


class NotExportableError(DecodeError):
    """A node is no file, directory or symlink, nor a commit or tag that leads to one."""

    def __init__(self, cid: Cid, kind: str) -> None:
        super().__init__(f"cannot write '{cid}' to the disk: it is a {kind}", hint="`ipvcs dag get` shows it")
        self.cid = cid


def export_to(reader: BlockReader, cid: Cid, target: Path, *, on_bytes: Callable[[int], None] | None = None) -> None:
    """Write the file, directory or symlink `cid` to `target`, which must not exist; of a commit or tag, what it holds.

    Modes (without set-id bits) and modification times that the DAG has are restored. Interrupted or failing, it leaves
    nothing behind; killed, at most a hidden `.<name>.<random>.part` beside the target.

    Raises:
        TargetExistsError: nothing is overwritten.
        UnsafeNameError: an entry named `..`, or with a slash or NUL, or twice in one directory.
        NotExportableError, DecodeError, BlockNotFoundError: of the DAG.
        DiskError: of the disk.
    """
    with disk_errors(target):
        if os.path.lexists(target):
            raise TargetExistsError(target)
        part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
        parent = os.open(part.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _Exporter(reader, on_bytes).export(cid, parent, os.fsencode(part.name))
            if os.path.lexists(target):
                raise TargetExistsError(target)
            os.rename(part, target)
        except BaseException:
            _remove(part)
            raise
        finally:
            os.close(parent)


class _Exporter:
    def __init__(self, reader: BlockReader, on_bytes: Callable[[int], None] | None) -> None:
        self._reader = reader
        self._on_bytes = on_bytes

    def export(self, cid: Cid, parent: int, name: bytes) -> None:
        """Write the DAG `cid` as the new entry `name` of the open directory `parent`."""
        cid, obj = self._content(cid)
        if not isinstance(obj, Tree):
            self._write_leaf(cid, obj, parent, name)
            return
        stack = [self._enter(cid, obj, parent, name)]
        try:
            while stack:
                directory = stack[-1]
                link = next(directory.entries, None)
                if link is None:
                    stack.pop().leave()
                    continue
                if is_tree_payload(self._reader, link):
                    continue
                entry = _checked_name(link, directory.cid)
                child, obj = self._content(link.cid)
                if not isinstance(obj, Tree):
                    self._write_leaf(child, obj, directory.fd, entry)
                elif len(stack) >= _MAX_DEPTH:
                    raise LimitError(f"directories of '{cid}' are nested more than {_MAX_DEPTH} deep")
                else:
                    stack.append(self._enter(child, obj, directory.fd, entry))
        finally:
            for directory in stack:
                os.close(directory.fd)

    def _content(self, cid: Cid) -> tuple[Cid, Object]:
        """Return what is to be written for `cid`: of commits and tags, what they lead to in the end."""
        for _ in range(_MAX_NESTED_OBJECTS):
            if cid.codec == codecs.RAW:
                return cid, Blob(b"")  # read when it is written
            obj = view(cid, read_block(self._reader, cid))
            if not isinstance(obj, CommitObject | TagObject):
                return cid, obj
            if obj.object is None:
                raise NotExportableError(cid, f"{type_name(obj)} without an object")
            cid = obj.object.cid
        raise LimitError(f"tags of '{cid}' are nested more than {_MAX_NESTED_OBJECTS} deep")

    def _enter(self, cid: Cid, tree: Tree, parent: int, name: bytes) -> "_OpenDirectory":
        _create(lambda: os.mkdir(name, 0o700, dir_fd=parent), name, cid)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        return _OpenDirectory(cid, fd, tree, tree.iter_entries(self._reader))

    def _write_leaf(self, cid: Cid, obj: Object, parent: int, name: bytes) -> None:
        if isinstance(obj, Symlink):
            _create(lambda: os.symlink(obj.target, name, dir_fd=parent), name, cid)
            if obj.mtime is not None:
                os.utime(name, ns=_times(obj.mtime), dir_fd=parent, follow_symlinks=False)
            return
        if not isinstance(obj, Blob | BlobList):
            raise NotExportableError(cid, type_name(obj))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = _create(lambda: os.open(name, flags, 0o666, dir_fd=parent), name, cid)
        try:
            for piece in iter_file(self._reader, cid):
                write_all(fd, [piece])
                if self._on_bytes is not None:
                    self._on_bytes(len(piece))
            if obj.mode is not None:
                os.fchmod(fd, obj.mode & _MODE_MASK)
            if obj.mtime is not None:
                os.utime(fd, ns=_times(obj.mtime))
        finally:
            os.close(fd)


class _OpenDirectory:
    """A directory that is being written."""

    def __init__(self, cid: Cid, fd: int, tree: Tree, entries: Iterator[PBLink]) -> None:
        self.cid = cid
        self.fd = fd
        self.entries = entries
        self._tree = tree

    def leave(self) -> None:
        """Set what only can be set when all entries are written, and close."""
        try:
            # Until here the mode was 0700; now what the user's umask allows, or what the DAG says.
            os.fchmod(self.fd, self._tree.mode & _MODE_MASK if self._tree.mode is not None else 0o777 & ~_umask())
            if self._tree.mtime is not None:
                os.utime(self.fd, ns=_times(self._tree.mtime))
        finally:
            os.close(self.fd)


def is_tree_payload(reader: BlockReader, link: PBLink) -> bool:
    """Tell whether an entry is the exact Git tree that the mapping keeps beside the entries made of it.

    By name and by how it begins, so that a user's own file of that name is not hidden.
    """
    if link.name != PAYLOAD_ENTRY:
        return False
    return b"".join(iter_file(reader, link.cid, 0, len(_TREE_PAYLOAD_START))) == _TREE_PAYLOAD_START


def _checked_name(link: PBLink, directory: Cid) -> bytes:
    name = link.name or b""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise UnsafeNameError(name, directory)
    return name


def _create(make: Callable[[], T], name: bytes, cid: Cid) -> T:
    try:
        return make()
    except FileExistsError:
        # We write into directories that we made ourselves: a name that exists there was in the DAG twice, or two names
        # are one to this file system (letter case, Unicode forms).
        raise UnsafeNameError(name, cid) from None


def _times(mtime: Mtime) -> tuple[int, int]:
    nanoseconds = mtime.seconds * _NANOS + mtime.nanoseconds
    return nanoseconds, nanoseconds


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onerror=_make_writable)
        else:
            path.unlink()


def _make_writable(remove: Callable[[str], object], path: str, _exc: object) -> None:
    """A directory whose DAG took our right to write from it can't be emptied before we take it back."""
    with suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        remove(path)
