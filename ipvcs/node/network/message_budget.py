"""What all peers together make us hold of messages that are not whole yet.

Goals: however many streams are open, unfinished messages take a bounded number of bytes; who dawdles stops himself, not
others. Non-goals: how large one message may be, and how long it may take (the reader's business).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from ipvcs.errors import LimitError


class MessageBudget:
    """Bytes of unfinished messages that may be held, of all peers. When they are used up, the message that was begun
    first is given up for the next: so who dawdles on many streams stops himself, and not who is being fetched from.
    """

    def __init__(self, limit: int = 96 * 1024 * 1024) -> None:
        self.limit = limit
        self.used = 0
        self._unfinished: dict[anyio.CancelScope, int] = {}
        """What is held of each, oldest first; cancelling gives it up."""

    @contextmanager
    def message(self) -> Iterator[Callable[[int], None]]:
        """Hold the pieces of one message within the block, each announced by a call of what it yields.

        Raises:
            LimitError: it was given up.
        """
        with anyio.CancelScope() as scope:
            self._unfinished[scope] = 0
            try:
                yield lambda size: self._reserve(scope, size)
            finally:
                self.used -= self._unfinished.pop(scope, 0)
        if scope.cancelled_caught:
            raise LimitError(f"unfinished messages of all peers take more than {self.limit} bytes")

    def _reserve(self, scope: anyio.CancelScope, size: int) -> None:
        while self.used + size > self.limit and self._unfinished:
            oldest = next(iter(self._unfinished))
            self.used -= self._unfinished.pop(oldest)
            oldest.cancel()
        if scope in self._unfinished:
            self._unfinished[scope] += size
            self.used += size
