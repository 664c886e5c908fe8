"""Where a home's API socket lies: `<home>/api.sock`, or elsewhere when that path is too long for a socket.

Elsewhere is a directory that is ours alone, in the user's runtime directory or else in `/tmp`; the file `api.addr` in
the home then holds the socket's path. Both sides resolve the home's symbolic links first, so they come to the same
answer by whatever name they know it.

Spec: unix(7), "Address format"; https://specifications.freedesktop.org/basedir-spec/latest/ (XDG_RUNTIME_DIR)
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipvcs.errors import ConflictError, UnavailableError

SOCKET_NAME: Final = "api.sock"
POINTER_NAME: Final = "api.addr"
MAX_PATH: Final = 107
"""Bytes. `sun_path` of Linux has 108, and the kernel wants a zero at the end."""
_SHARED: Final = Path("/tmp")  # noqa: S108 - only a directory in it that is ours alone is used
_HASH_LENGTH: Final = 16
"""Hex digits that tell one user's homes apart."""


class DaemonNotRunningError(UnavailableError):
    """Nobody answers at the home's socket: there is none, or the daemon that made it is gone."""

    def __init__(self, where: Path) -> None:
        super().__init__(f"no daemon is running at '{where}'", hint="run `ipvcs daemon`")
        self.where = where


class UnsafeDirectoryError(ConflictError):
    """A directory that must be ours alone is somebody else's, or open to others."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot keep the API socket in '{path}': {reason}",
            hint="remove it, or set XDG_RUNTIME_DIR to a directory of yours; a home with a short path needs neither",
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class SocketPlace:
    """Where a daemon binds its socket. `pointer` is the file that must say so, None when the socket is in the home."""

    path: Path
    pointer: Path | None


def plan_socket(home: Path, runtime: Path | None, uid: int) -> SocketPlace:
    """Return where the socket of `home`'s daemon belongs. `runtime` is the user's runtime directory, if there is one.

    Makes nothing. The directory above the socket may not exist yet; `make_private` makes it.
    """
    home = home.resolve()
    if _fits(own := home / SOCKET_NAME):
        return SocketPlace(own, None)
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:_HASH_LENGTH]
    if runtime is not None and _is_private(runtime, uid) and _fits(path := runtime / f"ipvcs-{name}" / SOCKET_NAME):
        return SocketPlace(path, home / POINTER_NAME)
    return SocketPlace(_SHARED / f"ipvcs-{uid}" / f"{name}.sock", home / POINTER_NAME)


def find_socket(home: Path) -> Path:
    """Return the path of the socket at which the daemon of `home` listens, if one runs.

    Raises:
        DaemonNotRunningError: no daemon has said where it listens.
        UnsafeDirectoryError: it lies where somebody else could have put another.
    """
    home = home.resolve()
    if _fits(own := home / SOCKET_NAME):
        return own
    try:
        path = Path(os.fsdecode((home / POINTER_NAME).read_bytes().rstrip(b"\n")))
    except OSError as exc:
        raise DaemonNotRunningError(own) from exc
    if not path.is_absolute() or not _fits(path):
        raise DaemonNotRunningError(own)  # not what a daemon of ours writes
    check_private(path.parent, os.getuid(), missing_ok=True)
    return path


def make_private(directory: Path, uid: int) -> None:
    """Make `directory` with mode 0700, or make sure that one that is there is `uid`'s alone.

    Raises:
        UnsafeDirectoryError: it is not.
    """
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        check_private(directory, uid)


def check_private(directory: Path, uid: int, *, missing_ok: bool = False) -> None:
    """Raise UnsafeDirectoryError unless `directory` itself, no symbolic link, is `uid`'s and nobody else may enter."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        if missing_ok:
            return
        raise
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeDirectoryError(directory, "it is not a directory")
    if found.st_uid != uid:
        raise UnsafeDirectoryError(directory, f"it belongs to the user with id {found.st_uid}")
    if found.st_mode & 0o077:
        raise UnsafeDirectoryError(directory, f"others may enter it (mode {stat.S_IMODE(found.st_mode):04o})")


def _is_private(directory: Path, uid: int) -> bool:
    try:
        check_private(directory, uid)
    except (OSError, UnsafeDirectoryError):
        return False
    return directory.is_absolute()


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_PATH
