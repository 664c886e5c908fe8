"""A place in a tree of directories on the disk, walked by descriptors instead of paths.

So the walk never follows a symlink, not even one that somebody puts in the place of a directory meanwhile; it may go
deeper than the longest path; and it needs one descriptor, however deep it goes.
"""

import errno
import os
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

MAX_DEPTH: Final = 2048
"""Directories inside each other. PATH_MAX is 4,096 bytes: what lies deeper has no path that could be opened."""
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DirectoryPosition:
    """An open directory, `fd`, with the way back up to where it began. Close it, or use it as a context manager.

    The way up is `..`, and where it leads is checked: somebody may have moved the directory meanwhile.
    """

    def __init__(self, fd: int) -> None:
        """Begin at the open directory `fd`, which is closed when it is left."""
        self.fd = fd
        self._above: list[tuple[int, int]] = []

    def open(self, name: bytes) -> int:
        """Return a descriptor of the subdirectory `name`. Raises OSError, also if it is a symlink."""
        return os.open(name, _FLAGS, dir_fd=self.fd)

    def enter(self, subdirectory: int) -> None:
        """Go on in a directory that `open` returned; it belongs to the position then."""
        self._above.append(_identity(self.fd))
        os.close(self.fd)
        self.fd = subdirectory

    def leave(self, finish: Callable[[int], None] | None = None) -> None:
        """Go back to where `enter` was called; `finish` is called with the directory that is left, before its end.

        Raises:
            OSError: it was moved, or its mode does not let us search it any more.
        """
        above = os.open("..", _FLAGS, dir_fd=self.fd)
        try:
            if _identity(above) != self._above.pop():
                raise OSError(errno.ESTALE, "a directory was moved while it was in use")
            if finish is not None:
                finish(self.fd)
        finally:
            os.close(self.fd)
            self.fd = above

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _exc: BaseException | None, _tb: TracebackType | None
    ) -> None:
        os.close(self.fd)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
