"""One lookup: whom to ask next on the way to a key, and when it is over. Pure: answers, failures and time come in.

    next_query ──► ask that peer ─┬─► answered(peer, closer peers) ─┐
        ▲                         └─► failed(peer) ─────────────────┤
        └───────────────────────────────────────────────────────────┘   until is_finished

There are no rounds: each answer makes room for the next query at once, and so does silence. A peer that has not
answered within `SLOW_AFTER` is not waited for: its place among the `alpha` is free, and the lookup may end without it;
should it answer after all while the lookup lasts, it counts. So a dead peer costs two seconds at the worst.

It is over when the nearest `width` of those who are not known to be dead or slow have all answered: then none of them
knew anybody nearer. `width` is `beta` = 3 for who looks for something, k = 20 for who needs the k nearest themselves.

What liars can do is bounded: of one answer the k peers nearest to the key are taken, however many are named; so many
peers are remembered, the farthest forgotten first; and so many are asked in all. Made-up peers do not answer, and who
does not answer ends up in no result.

For lookups over disjoint paths (S/Kademlia §4.3) several lookups share one set `claimed`: a peer is asked by the first
of them that reaches it.

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md#peer-routing
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.keyspace import Point, point_of_peer
from ipvcs.node.routing.routing_table import K

ALPHA: Final = 10
"""Queries under way at once. As go-libp2p-kad-dht; the paper's 3 was for slow modems."""
BETA: Final = 3
"""Nearest peers that must have answered. As go-libp2p-kad-dht's resiliency."""
SLOW_AFTER: Final = 2.0
"""Seconds of silence, dial included, after which a peer is not waited for: six round trips of a third of a second."""
MAX_IN_FLIGHT: Final = 3 * ALPHA
"""Queries under way at once, those of slow peers among them; when it is full, the slowest is given up."""
MAX_QUERIES: Final = 256
"""Of one lookup. An honest one in a network of millions needs some 60, a third of them dead."""
MAX_PEERS: Final = 512
"""Remembered by one lookup: twice as many as it may ask."""
MAX_ADDRS: Final = 32
"""Kept of one peer, from everybody who names it together."""
MAX_ADDRS_NAMED: Final = 16
"""Taken of one peer from one answer: who names a peer falsely leaves room for who names it rightly."""


MAX_TRIES: Final = 3
"""Times a peer is asked that failed, when others name new addresses of it: who names it falsely does not hide it."""


class _State(Enum):
    HEARD = auto()
    ASKED = auto()
    SLOW = auto()
    ANSWERED = auto()
    FAILED = auto()
    CLAIMED = auto()
    """Another lookup of the family asks it."""


@dataclass(slots=True)
class _Candidate:
    peer_id: PeerId
    addrs: tuple[Multiaddr, ...]
    distance: int
    state: _State = _State.HEARD
    asked: float = 0.0
    tries: int = 0
    fresh: tuple[Multiaddr, ...] = ()
    """Addresses that were named since it was asked."""

    @property
    def info(self) -> PeerInfo:
        return PeerInfo(self.peer_id, self.addrs)


class Lookup:
    """The state of one lookup."""

    def __init__(
        self,
        target: Point,
        seeds: Iterable[PeerInfo],
        *,
        own_id: PeerId,
        width: int = BETA,
        k: int = K,
        alpha: int = ALPHA,
        max_queries: int = MAX_QUERIES,
        max_peers: int = MAX_PEERS,
        claimed: set[PeerId] | None = None,
    ) -> None:
        """Begin at `seeds`, the nearest peers that we know ourselves.

        Args:
            target: the place to go to.
            seeds: may come without addresses, when we are connected to them.
            own_id: never asked, whoever names it.
            width: how many of the nearest must have answered, at most k.
            k: how many peers are taken of one answer, and how far from the nearest it is worth to ask.
            alpha: queries under way at once.
            max_queries: in all.
            max_peers: to remember.
            claimed: peers that some lookup of the same family has asked; this one adds its own.
        """
        assert 1 <= width <= k
        self.target = target
        self.width = width
        self._own_id = own_id
        self._k = k
        self._alpha = alpha
        self._max_queries = max_queries
        self._max_peers = max_peers
        self._claimed: set[PeerId] = set() if claimed is None else claimed
        self._candidates: dict[PeerId, _Candidate] = {}
        self._order: list[tuple[int, PeerId]] = []
        """Everybody but the failed ones, nearest first."""
        self._in_flight: dict[PeerId, _Candidate] = {}
        self.queries = 0
        """Asked so far."""
        self._silent = 0
        """Those who were slow or failed, so far."""
        for seed in seeds:
            self._hear(seed)

    # ---- what happens ----

    def answered(self, peer_id: PeerId, closer: Iterable[PeerInfo]) -> None:
        """Note that `peer_id`, who was asked, named `closer`. Late answers of slow peers count."""
        candidate = self._in_flight.pop(peer_id)
        candidate.state = _State.ANSWERED
        named = {peer.peer_id: peer for peer in closer}
        nearest = sorted(named.values(), key=lambda peer: point_of_peer(peer.peer_id) ^ self.target)
        for peer in nearest[: self._k]:
            self._hear(peer)

    def failed(self, peer_id: PeerId) -> None:
        """Note that `peer_id`, who was asked, can't be reached, or said nothing in time, or nothing useful."""
        candidate = self._in_flight.pop(peer_id)
        self._silent += candidate.state is not _State.SLOW
        candidate.state = _State.FAILED
        self._forget_place(candidate)
        self._try_again(candidate)

    def handle_deadline(self, now: float) -> None:
        """Note that it is `now`: who has been silent for too long is not waited for any more."""
        for candidate in self._in_flight.values():
            if candidate.state is _State.ASKED and now >= candidate.asked + SLOW_AFTER:
                candidate.state = _State.SLOW
                self._silent += 1

    def widen(self) -> None:
        """Go on until the k nearest have answered: what was looked for was not where it should have been."""
        self.width = self._k

    @property
    def is_wide(self) -> bool:
        """Whether it goes on until the k nearest have answered."""
        return self.width == self._k

    # ---- what to do ----

    def next_query(self, now: float) -> PeerInfo | None:
        """Return whom to ask now, then call again; None: wait for what happens."""
        if len(self._in_flight) >= MAX_IN_FLIGHT or self.queries >= self._max_queries:
            return None
        if sum(candidate.state is _State.ASKED for candidate in self._in_flight.values()) >= self._alpha:
            return None
        while (candidate := self._first_heard()) is not None:
            if candidate.peer_id in self._claimed:  # another lookup of the family asks it
                candidate.state = _State.CLAIMED
                self._forget_place(candidate)
                continue
            self._claimed.add(candidate.peer_id)
            candidate.state = _State.ASKED
            candidate.asked = now
            candidate.tries += 1
            self._in_flight[candidate.peer_id] = candidate
            self.queries += 1
            return candidate.info
        return None

    def next_given_up(self) -> PeerId | None:
        """Return whose query to end, call `failed` for it, and then call again: its room is needed."""
        if len(self._in_flight) < MAX_IN_FLIGHT or self._first_heard() is None:
            return None
        return next(iter(self.slow()), None)

    def next_deadline(self) -> float | None:
        """Return when to call `handle_deadline`; None while nobody's answer is waited for."""
        times = [candidate.asked for candidate in self._in_flight.values() if candidate.state is _State.ASKED]
        return min(times) + SLOW_AFTER if times else None

    @property
    def is_finished(self) -> bool:
        """Whether the nearest have answered, or nobody is left to ask or to wait for.

        Slow peers are waited for only as long as nobody else has answered.
        """
        answered = 0
        for _distance, peer_id in self._order:
            state = self._candidates[peer_id].state
            if state is _State.ANSWERED:
                answered += 1
                if answered >= self.width:
                    return True
            elif state is _State.ASKED or (state is _State.HEARD and self.queries < self._max_queries):
                return False
        return answered > 0 or not self._in_flight

    # ---- what came of it ----

    def closest(self, number: int | None = None) -> list[PeerInfo]:
        """Return those of the nearest who have answered, nearest first; at most `number`, k if None."""
        answered = (self._candidates[peer_id] for _distance, peer_id in self._order)
        found = [candidate.info for candidate in answered if candidate.state is _State.ANSWERED]
        return found[: self._k if number is None else number]

    def slow(self) -> list[PeerId]:
        """Return those who were asked and have been silent for longer than `SLOW_AFTER`, the longest first."""
        return [peer_id for peer_id, candidate in self._in_flight.items() if candidate.state is _State.SLOW]

    def addrs_of(self, peer_id: PeerId) -> tuple[Multiaddr, ...]:
        """Return where `peer_id` is said to be, the newest first; nothing of it is proved."""
        if (candidate := self._candidates.get(peer_id)) is None:
            return ()
        return (*candidate.fresh, *candidate.addrs)[:MAX_ADDRS]

    # ---- who is known ----

    def _first_heard(self) -> _Candidate | None:
        """Return the nearest who was not asked, among the k nearest of those who may yet count.

        Where some were silent, others will be: then as many more are asked ahead, instead of after the next silence.
        """
        reach = self._k + min(self._silent, self._alpha)
        seen = 0
        for _distance, peer_id in self._order:
            candidate = self._candidates[peer_id]
            if candidate.state is _State.HEARD:
                return candidate
            if candidate.state is not _State.SLOW:
                seen += 1
                if seen >= reach:
                    return None
        return None

    def _hear(self, peer: PeerInfo) -> None:
        if peer.peer_id == self._own_id:
            return
        if (known := self._candidates.get(peer.peer_id)) is not None:
            self._hear_again(known, peer.addrs[:MAX_ADDRS_NAMED])
            return
        candidate = _Candidate(peer.peer_id, peer.addrs[:MAX_ADDRS_NAMED], point_of_peer(peer.peer_id) ^ self.target)
        if len(self._candidates) >= self._max_peers and not self._make_room(candidate.distance):
            return
        self._candidates[peer.peer_id] = candidate
        insort(self._order, (candidate.distance, peer.peer_id))

    def _hear_again(self, known: _Candidate, addrs: tuple[Multiaddr, ...]) -> None:
        new = tuple(addr for addr in addrs if addr not in known.addrs and addr not in known.fresh)
        if known.state is _State.HEARD:
            known.addrs = (*known.addrs, *new)[:MAX_ADDRS]
        elif known.state in (_State.ASKED, _State.SLOW, _State.FAILED):
            known.fresh = (*known.fresh, *new)[:MAX_ADDRS_NAMED]
            self._try_again(known)

    def _try_again(self, candidate: _Candidate) -> None:
        if candidate.state is _State.FAILED and candidate.fresh and candidate.tries < MAX_TRIES:
            candidate.addrs = (*candidate.fresh, *candidate.addrs)[:MAX_ADDRS]
            candidate.fresh = ()
            candidate.state = _State.HEARD
            self._claimed.discard(candidate.peer_id)
            insort(self._order, (candidate.distance, candidate.peer_id))

    def _make_room(self, wanted: int) -> bool:
        """Forget the farthest who was not asked, if it is farther than `wanted`."""
        for place in range(len(self._order) - 1, -1, -1):
            distance, peer_id = self._order[place]
            if distance <= wanted:
                return False
            if self._candidates[peer_id].state is _State.HEARD:
                del self._order[place]
                del self._candidates[peer_id]
                return True
        return False

    def _forget_place(self, candidate: _Candidate) -> None:
        place = bisect_left(self._order, (candidate.distance, candidate.peer_id))
        assert self._order[place][1] == candidate.peer_id
        del self._order[place]
