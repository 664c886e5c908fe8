"""Which of a peer's addresses to dial, in which order, and when: Happy Eyeballs, as a pure object.

The order is `addresses.dial_order`'s, nearest first and families in turn, but private and public addresses in turn,
too. The first dial starts at once, each further one `STAGGER` later, or as soon as a dial fails: a refused connection
costs nothing.

Spec: RFC 8305, sections 4 (order) and 5 (delay)
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Final

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.addresses import Scope, dial_order, is_relayed, scope_of

STAGGER: Final = 0.25
"""Seconds before the next dial starts beside one that has no answer yet: "Connection Attempt Delay", RFC 8305 §5."""
MAX_IN_FLIGHT: Final = 8
"""Dials to one peer at once; go-libp2p has the same (DefaultPerPeerRateLimit)."""
MAX_ADDRS: Final = 32
"""Addresses of one peer that are looked at: nobody is reached by more, and a peer can claim any number."""


class DialPlan:
    """When to start which dial to one peer. It hears how dials end; it starts none itself.

    Addresses may be added at any time: a name that resolves late joins in. What is over the bound is dropped.
    """

    def __init__(
        self,
        addrs: Iterable[Multiaddr] = (),
        *,
        order: Callable[[Iterable[Multiaddr]], list[Multiaddr]] = dial_order,
        stagger: float = STAGGER,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_addrs: int = MAX_ADDRS,
    ) -> None:
        self._order = order
        self._stagger = stagger
        self._max_in_flight = max_in_flight
        self._max_addrs = max_addrs
        self._seen: set[Multiaddr] = set()
        self._waiting: deque[Multiaddr] = deque()
        self._in_flight: set[Multiaddr] = set()
        self._due = 0.0
        self.add(addrs)

    def add(self, addrs: Iterable[Multiaddr]) -> None:
        """Plan for `addrs`, too: the best of those not seen before, as far as there is room."""
        new: list[Multiaddr] = []
        for addr in self._order(addrs):
            if len(self._seen) >= self._max_addrs:
                break
            if addr not in self._seen:
                self._seen.add(addr)
                new.append(addr)
        if new:
            self._waiting = deque(spread(self._order([*self._waiting, *new])))

    def next_dial(self, now: float) -> Multiaddr | None:
        """Return an address to dial now, or None; then it is in flight. Ask until None."""
        if not self._waiting or len(self._in_flight) >= self._max_in_flight or now < self._due:
            return None
        addr = self._waiting.popleft()
        self._in_flight.add(addr)
        self._due = now + self._stagger
        return addr

    def next_deadline(self) -> float | None:
        """Return when `next_dial` will have an address though nothing fails before; None: it will not."""
        return self._due if self._waiting and len(self._in_flight) < self._max_in_flight else None

    def handle_failure(self, addr: Multiaddr, now: float) -> None:
        """The dial to `addr` failed: the next one may start at once."""
        self._in_flight.remove(addr)
        self._due = min(self._due, now)

    @property
    def in_flight(self) -> Sequence[Multiaddr]:
        """What is being dialled, sorted."""
        return sorted(self._in_flight)

    @property
    def waiting(self) -> Sequence[Multiaddr]:
        """What will be dialled, in order."""
        return tuple(self._waiting)

    @property
    def is_done(self) -> bool:
        """Whether every address failed. Adding one changes that."""
        return not self._waiting and not self._in_flight


def spread(ordered: Sequence[Multiaddr]) -> list[Multiaddr]:
    """Return `ordered` with private and public addresses alternating in the places that these have.

    A peer may claim a dozen container networks that lead nowhere: were they all dialled first, the bound on dials in
    flight would hold up the one address that works until they time out.
    """
    lanes: dict[Scope, list[Multiaddr]] = {Scope.PRIVATE: [], Scope.PUBLIC: []}
    places = [None if is_relayed(addr) else lanes.get(scope_of(addr)) for addr in ordered]
    for addr, lane in zip(ordered, places, strict=True):
        if lane is not None:
            lane.append(addr)
    mixed = (addr for pair in zip_longest(*lanes.values()) for addr in pair if addr is not None)
    return [addr if lane is None else next(mixed) for addr, lane in zip(ordered, places, strict=True)]
