"""For how long not to dial an address again after it failed: pure, the time is an argument.

Each address of each peer has its own count, so a stale address does not hold up a peer that has a good one. An entry
whose wait is over stays for as long again: a failure in that time is one more in a row, later it is the first.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId

BASE: Final = 5.0
"""Seconds after a first failure; this and the next two as in go-libp2p's dial back-off."""
FACTOR: Final = 1.0
"""Seconds, times the square of the failures before."""
MAX_WAIT: Final = 300.0
"""Seconds, however often it failed."""
MAX_ENTRIES: Final = 4096
"""Addresses remembered: some 2 MiB. Peers can name any number; the longest not failed are forgotten first."""


@dataclass(slots=True)
class _Entry:
    failures: int
    until: float
    wait: float


class Backoff:
    """Failures in a row of every (peer, address). Spec: none; go-libp2p's p2p/net/swarm is the model."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[tuple[PeerId, Multiaddr], _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def wait(self, peer_id: PeerId, addr: Multiaddr, now: float) -> float:
        """Return for how many seconds more `addr` is not to be dialled, 0.0 when it may be."""
        entry = self._entries.get((peer_id, addr))
        return 0.0 if entry is None else max(0.0, entry.until - now)

    def handle_failure(self, peer_id: PeerId, addr: Multiaddr, now: float) -> None:
        """A dial failed."""
        entry = self._entries.pop((peer_id, addr), None)
        failures = 0 if entry is None or now > entry.until + entry.wait else entry.failures
        wait = min(BASE + FACTOR * failures**2, MAX_WAIT)
        self._entries[peer_id, addr] = _Entry(failures + 1, now + wait, wait)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def handle_success(self, peer_id: PeerId, addr: Multiaddr) -> None:
        """A dial succeeded: what was is forgotten."""
        self._entries.pop((peer_id, addr), None)
