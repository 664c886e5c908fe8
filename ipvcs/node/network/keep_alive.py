"""Keep-alive: asks at intervals whether the peer is there, and measures the round trip.

    ask ─► pong ─► wait for the interval ─► ask …
      └──► silence ─► has anything moved? ─► yes: wait on ─► no: the peer is gone

Timers of the event loop, no task: five hundred idle connections cost as many handles.
"""

import asyncio
from collections.abc import Callable

from ipvcs.errors import UnavailableError
from ipvcs.multiformats.peer_id import PeerId


class KeepAlive:
    """When to ask whether the peer is there, in seconds. Go and js ask every 30 s."""

    __slots__ = ("interval", "timeout")

    def __init__(self, interval: float = 30.0, timeout: float = 10.0) -> None:
        self.interval = interval
        self.timeout = timeout


class PeerSilentError(UnavailableError):
    """The peer does not answer keep-alives."""

    def __init__(self, peer_id: PeerId, seconds: float) -> None:
        super().__init__(f"peer '{peer_id}' did not answer for {seconds:g} s")
        self.peer_id = peer_id


class Heartbeat:
    """The keep-alives of one connection, from `start` to `stop`."""

    def __init__(
        self,
        times: KeepAlive,
        *,
        ask: Callable[[], bool],
        measure_progress: Callable[[], tuple[int, int]],
        on_silence: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            times: when to ask, and how long to wait.
            ask: sends a question; False: the multiplexer has no such thing, and nothing is asked.
            measure_progress: returns the bytes received and sent so far.
            on_silence: called once, when the peer is gone.
        """
        self._times = times
        self._ask = ask
        self._measure_progress = measure_progress
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._progress = (0, 0)

    def start(self) -> None:
        """Ask now; look for the answer after the time-out."""
        if self._ask():
            self._progress = self._measure_progress()
            self._timer = self._loop.call_later(self._times.timeout, self._check)

    def on_pong(self) -> None:
        """The peer has answered."""
        self.stop()
        self._timer = self._loop.call_later(self._times.interval, self.start)

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        """No pong came. On a slow line it may be behind a lot of data: bytes that move are an answer, too."""
        progress = self._measure_progress()
        if progress == self._progress:
            self._on_silence()
            return
        self._progress = progress
        self._timer = self._loop.call_later(self._times.timeout, self._check)
