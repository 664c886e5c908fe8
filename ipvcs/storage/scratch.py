"""Directories for the while of a command, below a home's `tmp`: removed when it ends or, if it was killed, by the next.

A directory is locked by whoever uses it. The kernel drops the lock however a process ends, so what can be locked is
nobody's any more.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_UNBORN: Final = ".new"
"""Suffix of a directory that is not locked yet."""


@contextmanager
def scratch_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a directory `<prefix>…` in `parent` for the while of the block; remove those that killed commands left.

    Raises:
        OSError: the disk is full or read-only.
    """
    _sweep(parent, prefix)
    path = parent / f"{prefix}{secrets.token_hex(6)}"
    unborn = path.with_suffix(_UNBORN)
    unborn.mkdir(mode=0o700)
    descriptor = os.open(unborn, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unborn.rename(path)
        yield path
    finally:
        try:
            _remove(path, unborn)
        except BaseException:  # interrupted once more: at least this has to be gone
            _remove(path, unborn)
            raise
        finally:
            os.close(descriptor)


def _remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove directories that nobody uses any more."""
    for path in parent.glob(f"{prefix}*"):
        if path.suffix == _UNBORN:
            continue
        with suppress(OSError):  # somebody removes it already
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)
