"""Leases: how garbage collection knows which blocks a writer still relies on.

Time is counted in *epochs*; each collection starts a new one. A writer holds a lease that names the epoch in which it
began, and stamps every block that it puts, or finds already there and relies on, with the epoch of that moment. The
sweep deletes only unmarked blocks whose stamp is older than every lease that was held when the collection began, so a
block is safe from the moment a writer relies on it until the writer has pinned it and lets its lease go.

A lease is a file under `flock`. The kernel drops the lock however the process ends, and it works across containers
that see different process ids, which a recorded pid would not (docs/decisions/0003).
"""

import fcntl
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_SUFFIX: Final = ".lease"


class Lease:
    """One writer's claim, from `acquire` to `release`."""

    def __init__(self, fd: int, path: Path, epoch: int) -> None:
        self._fd = fd
        self._path = path
        self._process = os.getpid()
        self.epoch = epoch

    @classmethod
    def acquire(cls, directory: Path, current_epoch: Callable[[], int]) -> Self:
        """Make a lease file in `directory` and hold it.

        The epoch is read after the lock is taken: a collection that does not see the lease began later, and so has a
        later epoch; one that sees it before the epoch is written takes it for 0, which protects everything.
        """
        while True:
            path = directory / f"{os.getpid()}-{secrets.token_hex(6)}{_SUFFIX}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            lease = cls(fd, path, 0)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink:  # else a collection took it for a dead one between open and flock
                    lease.epoch = current_epoch()
                    os.pwrite(fd, str(lease.epoch).encode(), 0)
                    return lease
            except BaseException:
                lease.release()  # a lease that nobody ends would protect everything for ever
                raise
            os.close(fd)

    def release(self) -> None:
        """End the lease; what it protected must be pinned by now.

        In a forked child it stays the parent's: only the child's descriptor is closed.
        """
        if self._fd >= 0:
            if os.getpid() == self._process:
                with suppress(FileNotFoundError):
                    self._path.unlink()
            os.close(self._fd)
            self._fd = -1


def oldest_epoch(directory: Path, default: int) -> int:
    """Return the earliest epoch of a live lease in `directory`, `default` when there is none; remove dead leases."""
    oldest = default
    for path in directory.glob(f"*{_SUFFIX}"):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            oldest = min(oldest, int(os.pread(fd, 32, 0) or b"0"))
        else:
            path.unlink(missing_ok=True)
        finally:
            os.close(fd)
    return oldest
