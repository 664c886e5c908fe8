"""The log of a daemon in the background: its standard error, a file in the home that does not grow without end."""

import io
import os
from contextlib import suppress
from pathlib import Path

from ipvcs.client.autostart import MAX_LOG, open_log, put_log_aside


class BackgroundLog(io.TextIOBase):
    """Writes to standard error, which is the file at `path`; when that is full, a new one takes its place.

    Both standard streams lead to the new file then, so that what Python itself or a library writes lands there too.
    """

    def __init__(self, path: Path, limit: int = MAX_LOG) -> None:
        self._path = path
        self._limit = limit

    def write(self, text: str, /) -> int:
        """Append `text`. That there is no room for it is no reason for a daemon to fail."""
        with suppress(OSError):
            data = text.encode("utf-8", "backslashreplace")
            if os.fstat(2).st_size + len(data) > self._limit:
                self._start_anew()
            os.write(2, data)
        return len(text)

    def _start_anew(self) -> None:
        put_log_aside(self._path)
        fd = open_log(self._path)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)
