"""The home: the directory that holds a node's blocks, pins, memos and settings.

    version     the number of this layout; written last, so a home that has it is whole
    config      settings that differ from the defaults (JSON)
    blocks/     segments of blocks
    datastore/  LMDB: block index, pins, memos, counters
    keystore/   one file a key, `self` is the node's own; made by the first command that needs it
    leases/     one locked file a writer
    tmp/        what a crash may leave behind and anyone may delete
    reserve     a little disk space, given up when a full disk would stop garbage collection

Any number of processes use a home at once.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from ipvcs.errors import ConflictError, UsageError
from ipvcs.storage.config import Config
from ipvcs.storage.datastore import Datastore, open_datastore
from ipvcs.storage.disk import (
    NetworkFilesystemError,
    ReadOnlyError,
    disk_errors,
    network_filesystem,
    sync_directory,
    write_atomically,
)
from ipvcs.storage.embedded import EmbeddedBlockstore
from ipvcs.storage.memos import Memos
from ipvcs.storage.pins import Pins

VERSION: Final = 1
_DIRECTORIES: Final = ("blocks", "datastore", "leases", "tmp")
_LEFT_BEHIND: Final = re.compile(r"blocks|datastore|leases|tmp|reserve|config|\.making|\.(config|version)\..*\.part")
"""What an interrupted making leaves in a directory that has no version."""
_MAX_VERSION: Final = 40
_RESERVE_SIZE: Final = 8 * 1024 * 1024
"""Bytes. A sweep's transactions need far less; what compaction needs, the sweep has freed by then."""


class HomeVersionError(ConflictError):
    """The home has a layout that this version of ipvcs does not read."""

    def __init__(self, path: Path, found: str) -> None:
        newer = found.isascii() and found.isdigit() and int(found) > VERSION
        hint = (
            "use the version of ipvcs that made it, or a later one"
            if newer
            else "set IPVCS_PATH to another directory, or restore the file 'version' from a backup"
        )
        super().__init__(f"home '{path}' has version '{found}', this ipvcs reads version {VERSION}", hint=hint)
        self.path = path
        self.found = found


class NotAHomeError(UsageError):
    """A directory with other things in it can't become a home."""

    exit_code = 128

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"'{path}' is not an ipvcs home and not empty", hint="set IPVCS_PATH to an empty or new directory"
        )
        self.path = path


class Home:
    """An open home. Use `open_home`; close it, or use it as a context manager."""

    def __init__(self, path: Path, config: Config, datastore: Datastore) -> None:
        self.path = path
        self.config = config
        self.datastore = datastore
        self.blocks = EmbeddedBlockstore(
            path / "blocks", datastore, path / "leases", hash_on_read=config.get("Datastore.HashOnRead")
        )
        self.pins = Pins(datastore)
        self.memos = Memos(datastore)

    @property
    def temporary(self) -> Path:
        """A directory for files that need not survive the command."""
        return self.path / "tmp"

    @contextmanager
    def spare_space(self) -> Iterator[None]:
        """Give up the reserve while the block runs, if the disk is nearly full, and take it back after.

        For what makes room, but writes to do so: removing pins and collecting garbage.
        """
        reserve = self.path / "reserve"
        free = os.statvfs(self.path)
        if free.f_bavail * free.f_frsize < _RESERVE_SIZE or (free.f_files and not free.f_favail):
            with suppress(OSError):
                reserve.unlink()
        try:
            yield
        finally:
            with suppress(OSError):
                _make_reserve(reserve)

    def close(self) -> None:
        """Let go of everything."""
        self.blocks.segments.forget()
        self.datastore.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def open_home(path: Path) -> Home:
    """Open the home at `path`, making it first where there is nothing or an empty directory.

    Raises:
        HomeVersionError, NotAHomeError: what is there is not ours to use.
        DiskError: full, read-only, not permitted, or on a network file system.
    """
    with disk_errors(path):
        path = path.absolute()
        if not (path / "version").exists():
            _make_home(path)
        found = _read_version(path / "version")
        if found != str(VERSION):
            raise HomeVersionError(path, found)
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise ReadOnlyError(path)
        if kind := network_filesystem(path):
            raise NetworkFilesystemError(path, kind)
        config = Config.load(path / "config")
        return Home(path, config, open_datastore(path / "datastore", sync=config.get("Datastore.Sync")))


def _make_home(path: Path) -> None:
    _make_directory(path)
    if kind := network_filesystem(path):
        raise NetworkFilesystemError(path, kind)
    if not all(_LEFT_BEHIND.fullmatch(entry.name) for entry in path.iterdir()):
        if (path / "version").exists():  # another process made it meanwhile
            return
        raise NotAHomeError(path)
    lock = os.open(path / ".making", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (path / "version").exists():
            return
        for temporary in path.glob(".*.part"):
            temporary.unlink()
        for name in _DIRECTORIES:
            (path / name).mkdir(mode=0o700, exist_ok=True)
        _make_reserve(path / "reserve")
        if not (path / "config").exists():
            write_atomically(path / "config", b"{}\n")
        open_datastore(path / "datastore", make=True).close()
        for name in _DIRECTORIES:
            sync_directory(path / name)
        write_atomically(path / "version", f"{VERSION}\n".encode())
    finally:
        os.close(lock)


def _make_directory(path: Path) -> None:
    """Make the directory and those above it that are missing, their names durable."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in missing:
        sync_directory(each.parent)


def _read_version(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_VERSION).decode(errors="replace").strip()


def _make_reserve(path: Path) -> None:
    if path.exists() and path.stat().st_size == _RESERVE_SIZE:  # else it was cut off while it was made
        return
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, _RESERVE_SIZE)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
