"""Files, directories and symlinks of the disk, read into a DAG: what `put` does.

Directories are walked with a stack of our own, deepest entries first, so a directory is written when all it links to is
written, and memory holds the links of the directories that are open. Symlinks are stored and never followed.
"""

import os
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ipvcs.errors import LimitError
from ipvcs.objects.block import BlockWriter
from ipvcs.objects.chunkers.registry import parse_chunker
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.directory import build_directory, build_directory_by_hash
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.node_writer import Built
from ipvcs.objects.profile import ImportOptions
from ipvcs.objects.sharding import fits_plain
from ipvcs.objects.symlink_writer import build_symlink
from ipvcs.objects.unixfs import MODE_MASK, Mtime
from ipvcs.storage.directory_position import MAX_DEPTH, DirectoryPosition
from ipvcs.storage.disk import DiskError, disk_errors
from ipvcs.storage.entry_sorter import RUN_LENGTH, EntrySorter

_NANOS: Final = 1_000_000_000
_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class SpecialFileError(DiskError):
    """A device, socket or named pipe has no form in IPFS."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"cannot store '{path}': it is not a file, directory or symlink",
            path,
            hint="move it away, or store its neighbours by name",
        )


class NotRecursiveError(DiskError):
    """A directory was named where only files were asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' is a directory", path, hint="use `-r` to store it with all that is in it")


@dataclass(frozen=True, slots=True)
class ImportRules:
    """What of the disk goes into the DAG besides content.

    `mode` and `mtime` are given to every entry (symlinks have no mode); where they are not, the `preserve` flags take
    each entry's own, as in Kubo. `hidden` takes entries of directories whose names begin with a dot.
    """

    recursive: bool = False
    hidden: bool = False
    preserve_mode: bool = False
    preserve_mtime: bool = False
    mode: int | None = None
    mtime: Mtime | None = None

    def mode_of(self, status: os.stat_result) -> int | None:
        """Return the mode to store for a file or directory."""
        return status.st_mode & MODE_MASK if self.preserve_mode and self.mode is None else self.mode

    def mtime_of(self, status: os.stat_result) -> Mtime | None:
        """Return the modification time to store."""
        preserved = self.preserve_mtime and self.mtime is None
        return Mtime(*divmod(status.st_mtime_ns, _NANOS)) if preserved else self.mtime


@dataclass(frozen=True, slots=True)
class Imported:
    """An entry that has been stored, under its path below what was asked for."""

    name: bytes
    built: Built


@dataclass(slots=True)
class _Directory:
    """A directory that is being read: its entry's name, its path on the disk, its name in reports, and what of its
    entries is waiting, the first one last.
    """

    entry: bytes
    path: bytes
    name: bytes
    status: os.stat_result
    waiting: list[bytes]
    links: list[PBLink] = field(default_factory=list)
    sorter: EntrySorter | None = None  # takes the links when there are many, and the directory is to be sharded


class DiskImporter:
    """Stores entries of the disk by `options` and `rules` into `writer`.

    `on_stored` is told each entry when it is stored, children before parents; `on_bytes` how many bytes were read.
    `scratch` is a directory for temporary files (None: the system's), which only very large directories need.
    """

    def __init__(
        self,
        options: ImportOptions,
        rules: ImportRules,
        writer: BlockWriter,
        *,
        on_stored: Callable[[Imported], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._options = options
        self._rules = rules
        self._writer = writer
        self._chunker = parse_chunker(options.chunker)
        self._on_stored = on_stored
        self._on_bytes = on_bytes
        self._scratch = scratch

    def import_path(self, path: bytes, name: bytes) -> Built:
        """Store what is at `path`, a symlink as a symlink, and report it and all below it under `name`.

        Raises:
            NotRecursiveError: a directory, and the rules are not recursive.
            SpecialFileError: neither file, directory nor symlink.
            LimitError: directories more than `MAX_DEPTH` deep, which nobody could get back.
            DiskError: it can't be read.
        """
        with disk_errors(Path(os.fsdecode(path))):
            return self._import(path, name)

    def import_stream(self, read: Callable[[int], bytes], name: bytes) -> Built:
        """Store what `read(n)` returns, to its first b"", as a file."""
        built = self._build_file(read, self._rules.mode, self._rules.mtime)
        self._report(name, built)
        return built

    def _import(self, path: bytes, name: bytes) -> Built:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            return self._import_leaf(path, None, path, name, status)
        if not self._rules.recursive:
            raise NotRecursiveError(Path(os.fsdecode(path)))
        fd = os.open(path, _OPEN_FLAGS | os.O_DIRECTORY)
        with DirectoryPosition(fd) as position:
            stack = [self._list(b"", path, name, fd)]
            while True:
                directory = stack[-1]
                if directory.waiting:
                    entry = directory.waiting.pop()
                    try:
                        self._import_entry(entry, stack, position)
                    except OSError as exc:
                        exc.filename = os.path.join(directory.path, entry)  # it only says where below the directory
                        raise
                    continue
                built = self._finish(directory)
                stack.pop()
                if not stack:
                    return built
                position.leave()
                self._add_link(stack[-1], built.link(directory.entry))

    def _import_entry(self, entry: bytes, stack: list[_Directory], position: DirectoryPosition) -> None:
        """Store an entry of the directory on top of `stack`, or, if it is one with entries, put that on top."""
        directory = stack[-1]
        path, name = os.path.join(directory.path, entry), os.path.join(directory.name, entry)
        status = os.lstat(entry, dir_fd=position.fd)
        if not stat.S_ISDIR(status.st_mode):
            self._add_link(directory, self._import_leaf(entry, position.fd, path, name, status).link(entry))
            return
        if len(stack) >= MAX_DEPTH:
            raise LimitError(f"directories of '{os.fsdecode(stack[0].path)}' are nested more than {MAX_DEPTH} deep")
        fd = position.open(entry)
        try:
            below = self._list(entry, path, name, fd)
        except BaseException:
            os.close(fd)
            raise
        if below.waiting:
            position.enter(fd)
            stack.append(below)
        else:  # it need not be one that can be entered
            os.close(fd)
            self._add_link(directory, self._finish(below).link(entry))

    def _add_link(self, directory: _Directory, link: PBLink) -> None:
        """Note an entry that is stored. Once a directory is too large to be plain, its links go to the disk."""
        if directory.sorter is not None:
            directory.sorter.add(link)
            return
        directory.links.append(link)
        if len(directory.links) % RUN_LENGTH:
            return
        mode, mtime = self._rules.mode_of(directory.status), self._rules.mtime_of(directory.status)
        if not fits_plain(directory.links, self._options, mode=mode, mtime=mtime):
            directory.sorter = EntrySorter(self._scratch)
            for each in directory.links:
                directory.sorter.add(each)
            directory.links.clear()

    def _list(self, entry: bytes, path: bytes, name: bytes, fd: int) -> _Directory:
        names = [os.fsencode(found) for found in os.listdir(fd)]
        names = [found for found in names if self._rules.hidden or not found.startswith(b".")]
        return _Directory(entry, path, name, os.fstat(fd), sorted(names, reverse=True))

    def _finish(self, directory: _Directory) -> Built:
        """Store a directory, all entries of which are stored."""
        mode, mtime = self._rules.mode_of(directory.status), self._rules.mtime_of(directory.status)
        if directory.sorter is None:
            built = build_directory(directory.links, self._options, self._writer, mode=mode, mtime=mtime)
        else:
            with closing(directory.sorter) as sorter:
                built = build_directory_by_hash(sorter.by_hash(), self._options, self._writer, mode=mode, mtime=mtime)
        self._report(directory.name, built)
        return built

    def _import_leaf(self, entry: bytes, parent: int | None, path: bytes, name: bytes, status: os.stat_result) -> Built:
        """Store `entry` of the open directory `parent` (None: of the working directory), in messages `path`."""
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(entry, dir_fd=parent)
            built = build_symlink(target, self._options, self._writer, mtime=self._rules.mtime_of(status))
        elif stat.S_ISREG(status.st_mode):
            built = self._import_file(entry, parent, path)
        else:
            raise SpecialFileError(Path(os.fsdecode(path)))
        self._report(name, built)
        return built

    def _import_file(self, entry: bytes, parent: int | None, path: bytes) -> Built:
        # O_NONBLOCK: should a named pipe have taken the file's place, opening it must not wait for a writer.
        fd = os.open(entry, _OPEN_FLAGS | os.O_NONBLOCK, dir_fd=parent)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise SpecialFileError(Path(os.fsdecode(path)))
            return self._build_file(
                lambda size: os.read(fd, size), self._rules.mode_of(status), self._rules.mtime_of(status)
            )
        finally:
            os.close(fd)

    def _build_file(self, read: Callable[[int], bytes], mode: int | None, mtime: Mtime | None) -> Built:
        on_bytes = self._on_bytes
        if on_bytes is not None:

            def counted(size: int, read: Callable[[int], bytes] = read) -> bytes:
                data = read(size)
                on_bytes(len(data))
                return data

            read = counted
        return build_file(self._chunker.chunks(read), self._options, self._writer, mode=mode, mtime=mtime)

    def _report(self, name: bytes, built: Built) -> None:
        if self._on_stored is not None:
            self._on_stored(Imported(name, built))


def measure(path: bytes, rules: ImportRules) -> int:
    """Return the bytes of the files that an import of `path` would read: the total of its progress bar."""
    total = 0
    waiting = [path]
    while waiting:
        current = waiting.pop()
        try:
            status = os.lstat(current)
            if stat.S_ISDIR(status.st_mode):
                names = os.listdir(current)
                waiting += [os.path.join(current, name) for name in names if rules.hidden or name[:1] != b"."]
            elif stat.S_ISREG(status.st_mode):
                total += status.st_size
        except OSError:
            continue  # the import itself will say what is wrong
    return total
