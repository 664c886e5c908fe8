"""Which connections to give up when there are many.

The one rule that callers may rely on: **nothing is ever closed while there are at most `low_water` connections.** Those
younger than the grace period, which had no time yet to prove their worth, do not count at all: a flood of newcomers
must not push out who was there before (what bounds the newcomers is `Limits.connections`). Of the others, above
`high_water` as many are chosen as it takes to get back to `low_water`, but no protected ones. Between the two marks
nothing happens, so trims are rare and each makes room for a while.

Idle ones, without an open stream, go before busy ones; among these the least valued first, by the tags that services
put on peers; among equals the one that was idle for longest.

Time is an argument, in seconds of the clock that the connections' own times are of.

Compare: go-libp2p's `connmgr`, which has the same marks, tags and protection.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ipvcs.errors import UsageError
from ipvcs.multiformats.peer_id import PeerId

C = TypeVar("C")

LOW_WATER: Final = 600
HIGH_WATER: Final = 900
"""Connections. Kubo's 32 and 96 spare home routers the thousands that its DHT would open; ours opens what it needs, and
what others open is bounded here, and a daemon is meant to hold 500 in peace. Below `Limits.connections` (1024) by more
than a trim takes to run, so that newcomers are let in instead of refused."""
GRACE_PERIOD: Final = 20.0
"""Seconds: handshake, identify and a first request over a slow link. As in Kubo."""
MAX_TAGGED: Final = 4096
"""Peers with tags, several times what may be connected; tags put on others by mistake push out the oldest."""
MAX_TAGS: Final = 32
"""Tags of one peer: one or two a service."""


class WaterMarkError(UsageError):
    """The marks make no sense."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__(
            f"connection limits {low} (low water) and {high} (high water) are not 0 <= low < high",
            hint="set the high-water mark above the low-water mark",
        )


@dataclass(frozen=True)  # no slots: with both, CPython 3.11 can't call ConnectionInfo[X](…)
class ConnectionInfo(Generic[C]):
    """What is looked at of a connection."""

    connection: C
    peer_id: PeerId
    opened: float
    streams: int
    """Open now, both directions."""
    last_used: float
    """When its last stream ended, or `opened` if there was none. Means nothing while there are streams."""


class ConnectionManager:
    """Keeps who is protected and valued, and chooses. It closes nothing itself."""

    def __init__(
        self, *, low_water: int = LOW_WATER, high_water: int = HIGH_WATER, grace_period: float = GRACE_PERIOD
    ) -> None:
        """Set the marks.

        Raises:
            WaterMarkError: not 0 <= low < high.
        """
        if not 0 <= low_water < high_water:
            raise WaterMarkError(low_water, high_water)
        self.low_water = low_water
        self.high_water = high_water
        self.grace_period = grace_period
        self._protected: dict[PeerId, set[str]] = {}
        self._tags: OrderedDict[PeerId, dict[str, int]] = OrderedDict()

    def protect(self, peer_id: PeerId, reason: str) -> None:
        """Never close connections to `peer_id`, connected now or later, until `unprotect` with the same reason."""
        self._protected.setdefault(peer_id, set()).add(reason)

    def unprotect(self, peer_id: PeerId, reason: str) -> bool:
        """Take back one reason; return whether others still protect `peer_id`."""
        reasons = self._protected.get(peer_id, set())
        reasons.discard(reason)
        if not reasons:
            self._protected.pop(peer_id, None)
        return bool(reasons)

    def protection(self, peer_id: PeerId) -> tuple[str, ...]:
        """Return the reasons that protect `peer_id`, sorted; none: it is not."""
        return tuple(sorted(self._protected.get(peer_id, ())))

    def tag(self, peer_id: PeerId, name: str, value: int) -> None:
        """Let `name` say that connections to `peer_id` are worth `value`, instead of what it said before."""
        tags = self._tags.setdefault(peer_id, {})
        if name in tags or len(tags) < MAX_TAGS:
            tags[name] = value
        self._tags.move_to_end(peer_id)
        while len(self._tags) > MAX_TAGGED:
            self._tags.popitem(last=False)

    def untag(self, peer_id: PeerId, name: str) -> None:
        """Take back what `name` said, if anything."""
        if (tags := self._tags.get(peer_id)) is not None:
            tags.pop(name, None)
            if not tags:
                del self._tags[peer_id]

    def value(self, peer_id: PeerId) -> int:
        """Return the sum of the tags of `peer_id`, 0 without any."""
        return sum(self._tags.get(peer_id, {}).values())

    def disconnected(self, peer_id: PeerId) -> None:
        """Drop the tags of `peer_id`, whose last connection ended. Protection lasts."""
        self._tags.pop(peer_id, None)

    def to_close(self, connections: Iterable[ConnectionInfo[C]], now: float) -> list[ConnectionInfo[C]]:
        """Return what to close of `connections`, which are all there are, the most dispensable first; see above."""
        settled = [info for info in connections if info.opened <= now - self.grace_period]
        if len(settled) <= self.high_water:
            return []
        candidates = [info for info in settled if info.peer_id not in self._protected]
        candidates.sort(key=self._rank)
        return candidates[: len(settled) - self.low_water]

    def _rank(self, info: ConnectionInfo[C]) -> tuple[bool, int, float]:
        return info.streams > 0, self.value(info.peer_id), info.opened if info.streams else info.last_used
