"""Flow control of one yamux stream: what the peer may still send, and when to let it send more.

The receiver's window starts at 256 KiB. What the application has read is given back when it amounts to half a window,
or to `_STEP` of a large one: a window update per read would cost a frame a byte, and what is read and not given back is
room that a sender far away can't use. If half a window was read within a few round trips, the window, not the reader,
is what limits the sender: it is doubled, up to a maximum and to what the connection as a whole may promise. It never
grows for data that nobody reads.

Spec: https://github.com/hashicorp/yamux/blob/master/spec.md, "Flow Control"
"""

from dataclasses import dataclass
from typing import Final

from ipvcs.node.network.yamux_frames import INITIAL_WINDOW

_GROWTH_ROUND_TRIPS: Final = 4
"""A window read in less is too small: it must hold at least the bytes of one round trip, twice for the update's way
back, and twice again for a reader that is not always on time. As go-yamux and rust-yamux."""
_STEP: Final = 2 * 1024 * 1024
"""Bytes given back at the latest. With half of 16 MiB, sender and reader fall in step: one waits for half a window that
the other is yet to read more of, and no more than half is ever on its way."""


@dataclass(slots=True)
class GrowthBudget:
    """Bytes by which the windows of a connection together may exceed their initial size."""

    left: int

    def take(self, size: int) -> bool:
        """Take `size`, if there is as much."""
        if size > self.left:
            return False
        self.left -= size
        return True


class ReceiveWindow:
    """What the peer may send on one stream."""

    __slots__ = ("_budget", "_epoch", "_maximum", "_read", "_unreported", "credit", "size")

    def __init__(self, maximum: int, budget: GrowthBudget, now: float) -> None:
        self.size = INITIAL_WINDOW
        self.credit = INITIAL_WINDOW
        """Bytes that the peer may send before the next update."""
        self._unreported = 0
        self._read = 0
        """Bytes that the application took since `_epoch`."""
        self._maximum = max(maximum, INITIAL_WINDOW)
        self._budget = budget
        self._epoch = now

    def receive(self, size: int) -> bool:
        """Count `size` bytes that the peer sends; False when it may not."""
        if size > self.credit:
            return False
        self.credit -= size
        return True

    def consume(self, size: int, now: float, rtt: float | None) -> int:
        """Count `size` bytes that the application took; return the credit to give the peer now, 0 for none yet."""
        self._unreported += size
        self._read += size
        assert self.credit + self._unreported <= self.size
        growth = 0
        if self._read >= self.size // 2:
            if rtt is not None and now - self._epoch < rtt * _GROWTH_ROUND_TRIPS:
                growth = self._grow()
            self._epoch = now
            self._read = 0
        if self._unreported < min(self.size // 2, _STEP) and not growth:
            return 0
        delta = self._unreported + growth
        self._unreported = 0
        self.credit += delta
        return delta

    def _grow(self) -> int:
        growth = min(self.size, self._maximum - self.size)
        if growth <= 0 or not self._budget.take(growth):
            return 0
        self.size += growth
        return growth

    def release(self) -> None:
        """Give back to the connection what the window had grown by: the stream is gone."""
        self._budget.left += self.size - INITIAL_WINDOW
        self.size = INITIAL_WINDOW
        self._maximum = INITIAL_WINDOW
        self.credit = 0
        self._unreported = self._read = 0
