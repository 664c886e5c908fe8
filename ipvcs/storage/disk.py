"""What a disk does to us, in our own errors: full, read-only, not permitted, on a network; and writing a file whole."""

import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

import lmdb

from ipvcs.errors import IpvcsError

_NETWORK_FILESYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afs", "ceph", "9p", "ncpfs", "glusterfs", "lustre"}
)
_NETWORK_FUSE: Final = ("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.davfs")


class DiskError(IpvcsError):
    """The disk refused. `path` is what was being read or written."""

    def __init__(self, message: str, path: Path, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class DiskFullError(DiskError):
    """No space is left; what was reported as stored before is intact."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no space left on the disk of '{path}'",
            path,
            hint="free some space, or run `ipvcs repo gc`; what was stored before is intact",
        )


class ReadOnlyError(DiskError):
    """The file system is mounted read-only."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"'{path}' is on a read-only file system", path, hint="set IPVCS_PATH to a directory that can be written"
        )


class PermissionDeniedError(DiskError):
    """The user may not read or write there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"permission denied: '{path}'", path, hint="check the owner and mode of the path")


class NetworkFilesystemError(DiskError):
    """The file system can't keep an LMDB environment: its memory maps and locks do not reach other hosts."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(
            f"'{path}' is on a network file system ({kind}), which cannot hold a home safely",
            path,
            hint="set IPVCS_PATH to a directory on a local disk",
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Translate what the operating system and LMDB raise about `path` into our errors; others pass."""
    try:
        yield
    except OSError as exc:
        subject = Path(os.fsdecode(exc.filename)) if isinstance(exc.filename, (str, bytes)) else path
        raise _translate(exc.errno, subject, exc.strerror) from exc
    except lmdb.ReadonlyError as exc:
        raise ReadOnlyError(path) from exc
    except (lmdb.MapFullError, lmdb.DbsFullError) as exc:
        raise DiskError(f"the index of '{path}' is full", path, hint="run `ipvcs repo gc`") from exc
    except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError) as exc:
        raise DiskError(f"the index of '{path}' is damaged: {exc}", path, hint="`ipvcs repo verify` says more") from exc
    except lmdb.Error as exc:
        code = next((code for code in _LMDB_ERRNOS if os.strerror(code) in str(exc)), None)
        if code == errno.EIO and _is_nearly_full(path):  # LMDB's word for a write that the kernel did only in part
            code = errno.ENOSPC
        raise _translate(code, path, str(exc)) from exc


_LMDB_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def _is_nearly_full(path: Path) -> bool:
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _LMDB_WRITE


_LMDB_WRITE: Final = 1024 * 1024
"""Bytes: more than LMDB writes in one call, so the disk had less left when a write was cut short."""


def _translate(code: int | None, path: Path, reason: str | None) -> IpvcsError:
    if code in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(path)
    if code == errno.EROFS:
        return ReadOnlyError(path)
    if code in (errno.EACCES, errno.EPERM):
        return PermissionDeniedError(path)
    hint = "check the path, letter by letter" if code == errno.ENOENT else None
    return DiskError(f"cannot use '{path}': {reason or 'unknown error'}", path, hint=hint)


@contextmanager
def replacing(path: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Yield a file to write the new content of `path` to; it takes the old one's place when the block ends well.

    A crash leaves the old content or the new, both whole; an error removes what was written. `mode` is cut by the
    umask. Raises the errors of `disk_errors`.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    with disk_errors(path):
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(fd)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, mode 0600, in the manner of `replacing`."""
    with replacing(path, mode=0o600) as file:
        file.write(data)


@contextmanager
def locked_directory(path: Path) -> Iterator[None]:
    """Keep other processes out of a block under the same lock, which is on the directory itself and leaves no file."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Make renames and new names in the directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, parts: list[bytes]) -> int:
    """Write all of `parts` at the file's offset, however short the kernel's writes are; return the byte count."""
    written = 0
    for start in range(0, len(parts), _IOV_MAX):
        views = parts[start : start + _IOV_MAX]
        count = os.writev(fd, views)
        total = sum(map(len, views))
        written += total
        if count < total:
            rest = memoryview(b"".join(views))[count:]
            while rest:
                rest = rest[os.write(fd, rest) :]
    return written


_IOV_MAX: Final = 1024


def dump_json(value: Any) -> bytes:
    """Return `value` as a JSON file a person can read and edit."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def network_filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Return the type of the network file system that holds `path`, or None when it is local or can't be told.

    Spec: proc_pid_mountinfo(5)
    """
    try:
        device = path.stat().st_dev
        mounts = mountinfo.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == wanted:
            kind = rest.split()[0]
            return kind if kind in _NETWORK_FILESYSTEMS or kind.startswith(_NETWORK_FUSE) else None
    return None
