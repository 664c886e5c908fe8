"""Signals that end a command: by an exception wherever the program is, so that it cleans up as when interrupted."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN: Final = 0.01
"""Seconds after which a signal is raised anew whose exception was swallowed."""


class TerminatedError(BaseException):
    """A signal asks us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number
        self.status = 128 + number


def _end(number: int, _frame: FrameType | None) -> None:
    raise TerminatedError(number)


_ENDING: Final[dict[signal.Signals, Callable[[int, FrameType | None], object]]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: _end,
    signal.SIGHUP: _end,
}
"""Signals that end us, and what raises the exceptions by which they do."""


@contextmanager
def ending_signals() -> Iterator[None]:
    """Let signals end us by `KeyboardInterrupt` and `TerminatedError`; after the block nothing is left to clean up, and
    they end us at once. Ignored ones, as under nohup(1), stay ignored.
    """
    handled = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, _ENDING[number])
    sys.unraisablehook = _raise_again
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = sys.__unraisablehook__
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def _raise_again(swallowed: "UnraisableHookArgs") -> None:
    """A signal that arrives during a finalizer or a weakref's callback raises there, where nobody can catch it: Python
    prints the exception and goes on. Let it come a second time instead, once the callback is over.
    """
    error = swallowed.exc_value
    if not isinstance(error, (TerminatedError, KeyboardInterrupt)):
        sys.__unraisablehook__(swallowed)
        return

    number = error.number if isinstance(error, TerminatedError) else signal.SIGINT

    def raise_it(_alarm: int, frame: FrameType | None) -> None:
        _ENDING[signal.Signals(number)](number, frame)

    signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN)
