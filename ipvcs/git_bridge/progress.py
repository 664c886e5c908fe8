"""Progress as git shows its own: `Converting objects: 45% (4500/10000)`, on one line, and `, done.` at the end.

While nobody knows how many there will be: `Receiving objects: 4500`.

Spec: git's progress.c
"""

from collections.abc import Callable
from typing import Final

_PAUSE: Final = 0.1
"""Seconds between updates; between looks at the clock there are `_LOOK` steps."""
_LOOK: Final = 64


class GitProgress:
    """Called with how much is done of how much; writes what changes."""

    def __init__(
        self, title: str, write: Callable[[str], object], clock: Callable[[], float], *, delay: float = 0.0
    ) -> None:
        """Show `title` by `write`, which has to print at once. `clock` gives seconds.

        What is done within `delay` seconds from now is not worth a line.
        """
        self._title = title
        self._write = write
        self._clock = clock
        self._start = clock() + delay if delay else 0.0
        self._next = self._start

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` things are done; `total` is 0 as long as it is not known."""
        if done != total:
            if done % _LOOK or self._clock() < self._next:
                return
            self._next = self._clock() + _PAUSE
        elif self._start and self._clock() < self._start:
            return
        end = ", done.\n" if done == total else "\r"
        share = f"{100 * done // total:3d}% ({done}/{total})" if total else f"{done}"
        self._write(f"{self._title}: {share}{end}")
