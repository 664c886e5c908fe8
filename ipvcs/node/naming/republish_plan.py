"""When each name of ours is published again: before its record expires, seldom enough, and never all at once.

    announced ──── interval, up to a tenth less ────► due ─ published ─► …
                                                       └── failed ─► again after a minute, two, four, … an interval;
                                                                     or within seconds, when a peer comes

A record that no peer ever took is due soon after the start. Another one is due when it would have been without the
restart, so that a daemon that restarts often does not publish more often.

Runs on any clock that does not go back; no name is due earlier than `START_DELAY` after it was added at a start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.name_table import OwnName

PERIOD: Final = 4 * 3600.0
"""Seconds from one publishing to the next. Kubo's Ipns.RepublishPeriod."""
START_DELAY: Final = 10.0
"""Seconds after a start in which peers are found."""
SPREAD: Final = 60.0
"""Seconds over which what is due at a start is spread."""
RETRY: Final = 60.0
"""Seconds until the first new attempt; and the shortest interval, however short a record lives."""
RETRY_WITH_PEER: Final = 5.0
MAX_RETRY_WITH_PEER: Final = 40.0
"""Seconds after a failure until the first new attempt, and the longest wait, when a peer came since."""
SETTLE: Final = 2.0
"""Seconds from a new connection until the peer has said what it serves, and is asked."""
_EARLY: Final = 0.1
"""Share of the interval by which a name may be early, so that names published together drift apart."""


@dataclass(slots=True)
class _Entry:
    due: float
    failures: int = 0
    failed: float = 0.0


@dataclass(slots=True)
class RepublishPlan:
    """The names of ours and when each is due. `jitter` gives numbers from 0 to 1."""

    jitter: Callable[[], float]
    period: float = PERIOD
    _entries: dict[PeerId, _Entry] = field(default_factory=dict)

    def start(self, names: Mapping[PeerId, OwnName], now: float, wall: float) -> None:
        """Plan for what was published before the start; `wall` is seconds since 1970."""
        for name, own in names.items():
            due = now + START_DELAY + SPREAD * self.jitter()
            if own.announced is not None and own.announced <= wall:  # else the clock was set back
                due = max(due, now + own.announced + self._interval(own) - wall)
            self._entries[name] = _Entry(due)

    def done(self, name: PeerId, own: OwnName, now: float, *, announced: bool) -> None:
        """Plan the next time for `name`, which was published just now: taken by some peer, or not."""
        interval = self._interval(own)
        if announced:
            self._entries[name] = _Entry(now + interval * (1 - _EARLY * self.jitter()))
            return
        entry = self._entries.setdefault(name, _Entry(now))
        wait = min(RETRY * 2.0 ** min(entry.failures, 30), interval)
        entry.failures += 1
        entry.failed = now
        entry.due = now + wait * (1 + _EARLY * self.jitter())

    def peer_came(self, now: float) -> None:
        """Try sooner what failed: there is somebody to ask who was not there then."""
        for entry in self._entries.values():
            if entry.failures:
                pause = min(RETRY_WITH_PEER * 2.0 ** min(entry.failures - 1, 30), MAX_RETRY_WITH_PEER)
                entry.due = min(entry.due, max(now + SETTLE, entry.failed + pause))

    def drop(self, name: PeerId) -> None:
        """Plan nothing for `name` any more."""
        self._entries.pop(name, None)

    def next_due(self) -> float | None:
        """Return when the next name is due, None if there is none."""
        return min((entry.due for entry in self._entries.values()), default=None)

    def due(self, now: float) -> list[PeerId]:
        """Return the names that are due, the longest overdue first. They stay due until `done`."""
        names = [name for name, entry in self._entries.items() if entry.due <= now]
        return sorted(names, key=lambda name: self._entries[name].due)

    def _interval(self, own: OwnName) -> float:
        # Half of a life leaves time for a second attempt.
        return max(RETRY, min(self.period, own.lifetime / 2))
