"""What is shown while keys are made for the S/Kademlia puzzle: a line on the terminal, for whoever waits."""

import sys
import time
from contextlib import suppress
from typing import Final, Self

from ipvcs.cli.ui import Ui

_INTERVAL: Final = 0.5  # seconds between two changes of the line
_UNITS: Final = ((365 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"))


class PuzzleProgress:
    """A line with keys tried, keys a second, and how many and how long to expect. As a context manager, it goes."""

    def __init__(self, ui: Ui, difficulty: int) -> None:
        self._shown = ui.shows_progress
        self._expected = 2**difficulty
        self._since = time.monotonic()
        self._next = self._since + 2 * _INTERVAL

    def report(self, tries: int) -> None:
        """Show that `tries` keys have not solved it."""
        if not self._shown or (now := time.monotonic()) < self._next:
            return
        self._next = now + _INTERVAL
        rate = tries / (now - self._since)
        text = f"{tries:,} keys tried, {rate:,.0f}/s, {self._expected:,} expected: {duration(self._expected / rate)}"
        self._write(f"\r\x1b[K{text}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._shown:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # that nobody can be told is no failure
            print(text, end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return about how long that is, in words."""
    for size, name in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {name}"
    return f"{seconds:.0f} seconds"
