"""Whose push is worked on now: so many at once, so many of one pusher, and never two tries of the same one.

First come, first served, but for those whose pusher has as many under way as it may: they are passed by. A second try
of a push waits for the end of the first, however long that takes, and is not in anybody's way meanwhile.
"""

from collections import Counter
from dataclasses import dataclass, field

import anyio

from ipvcs.multiformats.peer_id import PeerId


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in the queue, for a push of `pusher` that goes by `key`."""

    pusher: PeerId
    key: bytes
    is_alone: anyio.Event = field(default_factory=anyio.Event)
    """No earlier try of the same push is left."""
    is_due: anyio.Event = field(default_factory=anyio.Event)
    """It is its turn."""


class PushTurns:
    """The queue."""

    def __init__(self, concurrent: int, per_pusher: int) -> None:
        """Let `concurrent` have their turn at once, `per_pusher` of each pusher; both at least 1."""
        assert concurrent >= 1
        assert per_pusher >= 1
        self._concurrent = concurrent
        self._per_pusher = per_pusher
        self._tickets: list[Ticket] = []
        """Those that are waited or worked for, oldest first. There are as many as streams, which have a bound."""

    def __len__(self) -> int:
        return len(self._tickets)

    def join(self, pusher: PeerId, key: bytes) -> Ticket:
        """Return the last place in the queue. It has to be left."""
        ticket = Ticket(pusher, key)
        self._tickets.append(ticket)
        self._go_on()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give up a place, whatever came of it, for the next ones. Twice is as good as once."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)
            self._go_on()

    def _go_on(self) -> None:
        under_way = Counter(each.pusher for each in self._tickets if each.is_due.is_set())
        seen: set[tuple[PeerId, bytes]] = set()
        for ticket in self._tickets:
            name = ticket.pusher, ticket.key
            if name in seen:
                continue
            seen.add(name)
            ticket.is_alone.set()
            has_room = under_way.total() < self._concurrent and under_way[ticket.pusher] < self._per_pusher
            if has_room and not ticket.is_due.is_set():
                ticket.is_due.set()
                under_way[ticket.pusher] += 1
