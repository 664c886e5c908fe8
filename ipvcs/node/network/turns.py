"""Turns: what one connection's bytes may cost at a time, and who comes next when several have more than that.

Half a megabyte of file data takes a millisecond to deliver, half a megabyte of opened streams takes a second, in which
the event loop serves nobody else. So a connection works for `TURN` at most; what is left waits, no more is read, and
all that have something left take turns, one in each round of the event loop. Between two turns everybody else is
served, so that what others notice does not grow with the number of attackers.

    wire ─► Portions ─► the multiplexer
               └─ left when the turn is over ─► Turns ─► … the next rounds of the event loop
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from ipvcs.node.network.interface import Buffer

TURN: Final = 0.003
"""Seconds. Twice what a read of 512 KiB of file data takes, so that such a one is never cut."""
MAX_WAITING: Final = 32 * 1024 * 1024
"""Decrypted bytes of all connections that wait for their turn. A connection that has some left reads less the next
time, 16 KiB and a message in the end, so this is far from what 1,024 of them hold; beyond it they wait for nobody."""
_LEAST_PORTION: Final = 1024
_MOST_PORTION: Final = 64 * 1024
"""Bytes handed to the multiplexer at once: the cheapest way is whole messages, but one full of frames that open streams
takes over a tenth of a second."""
_QUICK: Final = 0.0005
_SLOW: Final = 0.001
"""Seconds for a portion: the next one is twice as large, or half."""


class Portions:
    """Decrypted bytes in order, handed out in portions of about a millisecond's work. Begins with small ones."""

    __slots__ = ("_portion", "_position", "_waiting", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes that wait."""
        self._waiting: deque[Buffer] = deque()
        self._position = 0
        self._portion = _LEAST_PORTION

    def add(self, data: Buffer) -> None:
        """Put `data`, which must never change again, behind all others."""
        if len(data):
            self._waiting.append(data)
            self.size += len(data)

    def take(self) -> Buffer:
        """Return the next portion; there must be one."""
        first = self._waiting[0]
        if not self._position and len(first) <= self._portion:
            self._waiting.popleft()
            self.size -= len(first)
            return first
        portion = memoryview(first)[self._position : self._position + self._portion]
        self._position += len(portion)
        if self._position == len(first):
            self._waiting.popleft()
            self._position = 0
        self.size -= len(portion)
        return portion

    def adapt(self, size: int, seconds: float) -> None:
        """Take note that the last portion, of `size` bytes, took so long."""
        if seconds > _SLOW:
            self._portion = max(min(size, self._portion) // 2, _LEAST_PORTION)
        elif seconds < _QUICK and size == self._portion < _MOST_PORTION:
            self._portion *= 2

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()
        self._position = self.size = 0


class Worker(Protocol):
    """A connection with something left to do."""

    def work_on(self) -> bool:
        """Work for a turn, and tell whether there is still something left. Never raises."""


class Turns:
    """Those that wait for their turn, of all connections of a node."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Worker, int]] = deque()
        self._size = 0
        self._scheduled = False

    def wait(self, worker: Worker, size: int) -> bool:
        """Let `worker`, which holds `size` bytes, go on when it is its turn. False: too much waits already."""
        if self._size + size > MAX_WAITING:
            return False
        self._size += size
        self._waiting.append((worker, size))
        self._schedule()
        return True

    def _schedule(self) -> None:
        if not self._scheduled and self._waiting:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        worker, size = self._waiting.popleft()
        if worker.work_on():
            self._waiting.append((worker, size))
        else:
            self._size -= size
        self._schedule()
