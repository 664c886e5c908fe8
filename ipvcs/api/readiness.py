"""How a daemon in the background tells the command that started it that it is ready, or why it is not.

The command reads one line of JSON from a pipe: `{"ready": true}`, or an error's message and hint; see
`ipvcs.client.autostart`, which made the pipe.
"""

import json
import os
from contextlib import suppress
from types import TracebackType
from typing import Self

from ipvcs.errors import IpvcsError


class ReadyPipe:
    """The writing end. As a context manager it reports the error that the block ends with, if it was not ready yet."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd = fd

    def ready(self) -> None:
        """Say that clients can come."""
        self._say({"ready": True})

    def _say(self, value: dict[str, object]) -> None:
        if self._fd >= 0:
            with suppress(OSError):  # whoever asked may be gone; the daemon runs all the same
                os.write(self._fd, json.dumps(value).encode() + b"\n")
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        leaf = error
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        hint = leaf.hint if isinstance(leaf, IpvcsError) else None
        text = str(leaf) or type(leaf).__name__ if leaf is not None else "it ended at once"
        self._say({"error": text, "hint": hint})
