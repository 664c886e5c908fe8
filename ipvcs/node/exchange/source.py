"""What a session knows of one peer: what it owes us, how fast it delivers, how long it has been silent."""

from typing import Final, NamedTuple

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.messages import WantType

MAX_WANTS: Final = 1000
"""Wants in flight at one peer: go-bitswap and js-ipfs-bitswap drop what exceeds 1,024, silently."""
MIN_WANTS: Final = 16
MIN_IN_FLIGHT: Final = 4 * 1024 * 1024
"""Bytes in flight before a peer's speed is known: a full message, so that the second peer to be found finds work."""
MAX_IN_FLIGHT: Final = 24 * 1024 * 1024
"""Bytes in flight however fast a peer is: three quarters of what the network holds unread of one
(`Limits.peer_memory`). Kubo sends each message on a stream of its own, so no window holds it back, and what exceeds the
bound is lost with its stream."""
REFILL: Final = 8 * 1024 * 1024
"""Bytes free of a window at which it is filled up, if that is not half of it: two full messages. What is free is not on
its way, and over a long line that is what the speed is lost by."""
TARGET_SECONDS: Final = 0.5
"""Seconds of delivery to have in flight: several round trips on any link, and little to take back from who slows."""
_LOST: Final = 3
"""Times the patience, without anything that was asked later: a slow link takes that long for one message."""
_MEASURE: Final = 0.1
"""Seconds of busy time after which the speed is estimated anew."""


class Asked(NamedTuple):
    """What a peer was asked, and when."""

    kind: WantType
    at: float
    number: int
    """Asks of a peer are numbered; it answers in about that order."""


class Source:
    """One peer of one session."""

    __slots__ = (
        "_asks", "_busy_bytes", "_busy_seconds", "_busy_since", "_number", "_passed", "_unmeasured", "heard",
        "is_source", "is_stalled", "outstanding", "peer_id", "questions", "rate",
    )  # fmt: skip

    def __init__(self, peer_id: PeerId, now: float) -> None:
        self.peer_id = peer_id
        self.outstanding: dict[Cid, Asked] = {}
        """What it was asked for and has not answered, in the order of asking."""
        self.is_source = False
        self.is_stalled = False
        self.heard = now
        """When it last sent a byte, or was first asked after it owed nothing."""
        self.questions = 0
        """How many times it was asked, beside its turn, whether it has something."""
        self.rate = 0.0
        """Bytes a second while it was busy; 0: not known."""
        self._asks = 0
        self._number = 0
        self._passed = 0
        """The highest number of what came: what was asked before that and has not come may have been lost."""
        self._busy_since: float | None = None
        self._busy_seconds = 0.0
        self._busy_bytes = 0
        self._unmeasured = False
        """Whether blocks came since the speed was looked at."""

    def ask(self, cid: Cid, kind: WantType, now: float) -> None:
        """It is asked for `cid`."""
        if not self.outstanding:
            self.heard = max(self.heard, now)
        self._number += 1
        self.outstanding[cid] = Asked(kind, now, self._number)

    def receiving(self, now: float) -> None:
        """Something came from it, maybe the first bytes of a message. What came before was a round trip, and says
        nothing of the speed.
        """
        self.heard = now
        self._asks = 0
        if self._busy_since is None and self.outstanding:
            self._busy_since = now

    def delivered(self, cid: Cid, size: int, now: float) -> None:
        """It sent the block of `cid`."""
        if (asked := self.outstanding.pop(cid, None)) is not None:
            self._passed = max(self._passed, asked.number)
        self.heard = now
        self._unmeasured = True
        self._asks = 0
        if self._busy_since is not None and self._busy_since < now:
            self._busy_bytes += size

    def measure(self, now: float) -> None:
        """Estimate the speed anew, after all blocks of a message: it may bring everything that was owed."""
        if self._busy_since is None or not self._unmeasured:
            return
        self._unmeasured = False
        self._busy_seconds += now - self._busy_since
        self._busy_since = now if self.outstanding else None
        if self._busy_seconds >= _MEASURE:
            measured = self._busy_bytes / self._busy_seconds
            self.rate = measured if not self.rate else (self.rate + measured) / 2
            self._busy_seconds, self._busy_bytes = 0.0, 0

    def window(self, mean_size: float) -> int:
        """Return how many blocks of `mean_size` bytes to have in flight."""
        target = min(max(MIN_IN_FLIGHT, self.rate * TARGET_SECONDS), MAX_IN_FLIGHT)
        return max(MIN_WANTS, min(MAX_WANTS, int(target / max(mean_size, 1.0))))

    def room(self, mean_size: float) -> int:
        """Return how many wants to add now: 0 until enough of the window is free, so that many travel together."""
        window = self.window(mean_size)
        free = window - len(self.outstanding)
        return free if free >= min(window - window // 2, int(REFILL / max(mean_size, 1.0))) else 0

    def load(self, mean_size: float) -> float:
        """Return how full its window is, from 0 on."""
        return len(self.outstanding) / self.window(mean_size)

    def time_left(self, mean_size: float) -> float:
        """Return the seconds in which it will have sent what it owes, at the speed it had; 0 if that is not known."""
        return len(self.outstanding) * mean_size / self.rate if self.rate else 0.0

    def silence(self, now: float) -> float:
        """Return for how many seconds nothing came from it."""
        return now - self.heard

    def take_overdue(self, patience: float, mean_size: float, now: float) -> list[Cid]:
        """Return what it should have answered long ago and is to be asked again for.

        All it owes, when nothing came from it for `patience` seconds, doubled after each time; else, as some peers drop
        wants silently, the oldest alone: if what was asked later has come, or after `_LOST` times as long.
        """
        if not self.outstanding:
            return []
        if now >= self._ask_due(patience):
            self._asks += 1
            overdue = list(self.outstanding)
        else:
            oldest, asked = next(iter(self.outstanding.items()))
            if self.is_stalled:
                return []
            patient = patience if asked.number < self._passed else _LOST * patience
            if now - asked.at < patient + 2 * self.time_left(mean_size):
                return []
            overdue = [oldest]
        for cid in overdue:
            self._number += 1
            self.outstanding[cid] = Asked(self.outstanding.pop(cid).kind, now, self._number)
        return overdue

    def may_try_again(self, patience: float, now: float) -> bool:
        """Whether a peer that was silent, and owes nothing any more, is to be tried once more; ever less often."""
        if not self.is_stalled or self.outstanding or now < self._ask_due(patience):
            return False
        self._asks += 1
        self.is_stalled = False
        return True

    def next_check(self, stall: float, patience: float) -> float:
        """Return when its silence is to be looked at next."""
        if not self.is_stalled:
            return self.heard + stall
        return self._ask_due(patience)

    def _ask_due(self, patience: float) -> float:
        """Return when a silent peer is asked again: after `patience` seconds, then twice as many more, and so on."""
        rounds: int = 1 << min(self._asks, 32) + 1
        return self.heard + patience * (rounds - 1)
