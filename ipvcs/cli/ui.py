"""The terminal: data to stdout, everything else to stderr, progress bars when somebody is watching."""

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final
from unicodedata import category

from ipvcs.errors import IpvcsError

_PATIENCE: Final = 1.0
"""Seconds before a progress bar appears: what is done sooner needs none."""

Advance = Callable[[int], None]
"""Called with how much has been done since the last call."""


_JOINERS: Final = "\u200c\u200d"
"""Zero-width characters that scripts and emoji need, and that do no harm."""


def printable(text: str) -> str:
    """Return `text` with control characters escaped: it may quote strangers, who must not drive terminals.

    Those that turn the direction of writing are controls, too; spaces of all scripts are not.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or category(char) == "Zs" or char in _JOINERS else ascii(char)[1:-1] for char in text
    )


class OutputError(IpvcsError):
    """What was asked for can't be printed: the disk that standard output is redirected to is full, or the like."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(f"cannot write to standard output: {reason or 'unknown error'}")


class ReaderGoneError(IpvcsError):
    """Whoever read standard output has gone, as `head` does in a pipe: a reason to end, and nothing to report.

    Python's own BrokenPipeError would be taken for a trouble of whatever file is at hand where we print.
    """

    exit_code = 141  # as a program that SIGPIPE ended

    def __init__(self) -> None:
        super().__init__("nobody reads standard output any more")


class Ui:
    """Where a command writes. `bars` is whether it shows progress; None decides by the terminal."""

    stdout_was_closed: ClassVar[bool] = False
    """Whether the process was started without a standard output: what is printed then goes nowhere, as with git."""

    def __init__(self) -> None:
        self.bars: bool | None = None
        self._bar: _Bar | None = None

    def need_stdout(self) -> None:
        """For what must not be lost. Raises OutputError when there is no standard output."""
        if self.stdout_was_closed:
            raise OutputError(os.strerror(errno.EBADF))

    @property
    def shows_progress(self) -> bool:
        """Whether somebody may see a progress bar."""
        return sys.stderr.isatty() if self.bars is None else self.bars

    def data(self, line: str) -> None:
        """Print a line of what was asked for; surrogate escapes become the bytes that they stand for."""
        self.raw(line.encode("utf-8", "surrogateescape") + b"\n")

    def raw(self, data: bytes) -> None:
        """Print bytes of what was asked for, as they are. Raises OutputError, ReaderGoneError."""
        with output_errors():
            sys.stdout.buffer.write(data)

    def json(self, value: Any) -> None:
        """Print one JSON value on a line of its own."""
        self.raw(json.dumps(value).encode("ascii") + b"\n")

    def note(self, line: str) -> None:
        """Tell the person, not the program that reads stdout. That nobody can be told is no failure."""
        with suppress(OSError):
            print(printable(line), file=sys.stderr)

    def warn(self, line: str) -> None:
        """Tell the person that something is not as it should be."""
        self.note(f"warning: {line}")

    @contextmanager
    def progress(self, what: str, total: int | None = None, *, unit: str = "bytes") -> Iterator[Advance]:
        """Show how far a task of `total` units (None: unknown) is, once it has taken a second on a terminal.

        `unit` is "bytes", or what is counted, as "blocks".
        """
        if not self.shows_progress:
            yield lambda _count: None
            return
        outer, self._bar = self._bar, _Bar(what, total, unit)
        try:
            yield self._bar.advance
        finally:
            self._bar.close()
            self._bar = outer

    def describe(self, text: str) -> None:
        """Say on the progress bar that is shown, if any, what else goes on. Threads may."""
        if (bar := self._bar) is not None:
            bar.describe(text)


@contextmanager
def output_errors() -> Iterator[None]:
    """Translate what writing to standard output raises."""
    try:
        yield
    except BrokenPipeError as exc:
        raise ReaderGoneError from exc
    except OSError as exc:
        raise OutputError(exc.strerror) from exc


class _Bar:
    """A rich progress bar that is imported and drawn only after `_PATIENCE`."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what = what
        self._total = total
        self._unit = unit
        self._done = 0
        self._text = ""
        self._since = time.monotonic()
        self._rich: Any = None
        self._task: Any = None

    def advance(self, count: int) -> None:
        self._done += count
        if self._rich is None:
            if time.monotonic() - self._since < _PATIENCE:
                return
            self._start()
        self._rich.update(self._task, completed=self._done, description=self._what + self._text)

    def describe(self, text: str) -> None:
        self._text = f" ({text})"

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns: list[Any] = [TextColumn("{task.description}"), BarColumn()]
        if self._unit == "bytes":
            columns += [DownloadColumn(), TransferSpeedColumn()]
        else:
            columns += [MofNCompleteColumn(), TextColumn(self._unit)]
        self._rich = Progress(
            *columns, TimeRemainingColumn(), console=Console(stderr=True, force_terminal=True), transient=True
        )
        self._rich.start()
        self._task = self._rich.add_task(self._what, total=self._total, completed=self._done)

    def close(self) -> None:
        if self._rich is not None:
            self._rich.stop()
