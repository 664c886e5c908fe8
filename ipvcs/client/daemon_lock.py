"""The lock by which a home has at most one daemon: one host an identity, else peers see it in two places.

`<home>/daemon.lock` is held under `flock` from before the daemon binds anything until it has let go of everything. The
kernel drops the lock however the process ends, so what a killed daemon leaves in the file is no obstacle; the file is
never removed, since a lock on a removed file would exclude nobody.
"""

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ipvcs.errors import ConflictError
from ipvcs.storage.disk import disk_errors

FILE_NAME: Final = "daemon.lock"
_PATIENCE: Final = 0.5
"""Seconds to try again: `holder` takes the lock for a moment to see whether it is free."""
_MAX_SIZE: Final = 8 * 1024
"""Bytes read of the file; what a daemon writes has some 200, and its socket's path 107 at most."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock, as far as the file tells: it may not say so yet. `started` is an ISO 8601 instant in UTC."""

    pid: int | None = None
    started: str | None = None
    api: str | None = None
    command: bool = False
    """Whether the node is within a single command (IPVCS_NO_DAEMON) and ends with it."""


class DaemonRunningError(ConflictError):
    """Another process runs this home's node."""

    def __init__(self, home: Path, holder: Holder) -> None:
        what = "command with a node of its own" if holder.command else "daemon"
        known = [f"pid {holder.pid}" if holder.pid is not None else "its pid is not known yet"]
        known += [f"since {holder.started}"] if holder.started else []
        known += [f"API {holder.api}"] if holder.api else []
        super().__init__(
            f"home '{home}' already has a {what} ({', '.join(known)})",
            hint="wait until it ends" if holder.command else "end it with `ipvcs shutdown`, or use another home",
        )
        self.home = home
        self.holder = holder


class DaemonLock:
    """The held lock. A context manager; `release` may be called again."""

    def __init__(self, path: Path, fd: int, holder: Holder) -> None:
        self._path = path.absolute()
        self._fd = fd
        self._holder = holder

    @classmethod
    def acquire(cls, home: Path, *, command: bool = False) -> Self:
        """Take the lock of `home`, an existing directory, and write who took it.

        Raises:
            DaemonRunningError: another process has it.
            DiskError: the file can't be made or written.
        """
        path = home / FILE_NAME
        with disk_errors(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if not _lock(fd, time.monotonic() + _PATIENCE):
                    raise DaemonRunningError(home, _read(fd))
                started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                lock = cls(path, fd, Holder(os.getpid(), started, None, command))
                lock._write(lock._holder)
            except BaseException:
                os.close(fd)
                raise
        return lock

    def publish_api(self, address: str) -> None:
        """Write down where the API listens."""
        self._holder = Holder(self._holder.pid, self._holder.started, address, self._holder.command)
        self._write(self._holder)

    @property
    def is_in_place(self) -> bool:
        """Whether the home still has the file that is locked: not when the home was deleted or moved away."""
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Let the next one have it."""
        if self._fd >= 0:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def _write(self, holder: Holder) -> None:
        values = {"pid": holder.pid, "started": holder.started, "api": holder.api, "command": holder.command}
        text = json.dumps(values).encode() + b"\n"
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


def holder(home: Path) -> Holder | None:
    """Return who runs the node of `home` now, None when nobody does or there is no such home."""
    try:
        fd = os.open(home / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(fd)
    else:
        return None
    finally:
        os.close(fd)


def wait_released(home: Path, before: Holder, timeout: float) -> bool:
    """Wait until `before`, who ran the node of `home`, has ended; tell whether that came within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (now := holder(home)) is not None and (now.pid, now.started) in ((before.pid, before.started), (None, None)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def _lock(fd: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def _read(fd: int) -> Holder:
    """Return what the file says; half-written or foreign text says nothing."""
    try:
        values = json.loads(os.pread(fd, _MAX_SIZE, 0))
    except (ValueError, RecursionError):
        return Holder()
    if not isinstance(values, dict):
        return Holder()
    pid, started, api = values.get("pid"), values.get("started"), values.get("api")
    return Holder(
        pid if type(pid) is int else None,
        started if isinstance(started, str) else None,
        api if isinstance(api, str) else None,
        values.get("command") is True,
    )
