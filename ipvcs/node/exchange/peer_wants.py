"""What one peer wants of us, and what of it is due: a table by CID with two queues.

    put ──► waits for the block ──► due ──► taken (on its way to the peer) ──► removed
               ▲      └─ DONT_HAVE is due, if asked for ─┘ │
               └────────────── it was DONT_HAVE ◄──────────┘

Presences (HAVE, DONT_HAVE) are due in the order in which they became so, blocks by priority, then by arrival. What is
on its way is not taken twice; a peer that cancels it and asks again means it, and gets a want anew.

Nothing here looks at other peers, ledgers or clocks: that is the engine's. Each operation costs O(log n) at most.

Spec: https://specs.ipfs.tech/bitswap-protocol/
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from heapq import heapify, heappop, heappush
from typing import Final

from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.messages import MAX_CID, WantEntry, WantType

MAX_WANTS: Final = 4096
"""Wants of one peer. Go and JavaScript keep 1024 of ours, and we let others have as many as four sessions need."""
_SLACK: Final = 64
"""Entries of a queue that may be out of date before it is made anew, beside as many as there are wants."""


class Due(IntEnum):
    """What is to be sent for a want."""

    NOTHING = 0
    HAVE = 1
    DONT_HAVE = 2
    BLOCK = 3


@dataclass(slots=True, eq=False)
class Want:
    """One want; the same object until it is fulfilled, cancelled or dropped."""

    cid: Cid
    multihash: bytes
    arrival: int
    """Wants of a peer are numbered as they come."""
    type: WantType
    priority: int
    send_dont_have: bool
    size: int | None = None
    """Bytes of the block, None if we do not have it."""
    due: Due = Due.NOTHING
    on_its_way: Due = Due.NOTHING
    """What was taken and is neither answered nor abandoned yet."""

    @property
    def entry(self) -> WantEntry:
        """The want as a wantlist's line."""
        return WantEntry(self.cid, self.type, self.priority, send_dont_have=self.send_dont_have)

    @property
    def rank(self) -> tuple[int, int]:
        """The lower, the sooner."""
        return -self.priority, self.arrival


def is_wantable(cid: Cid) -> bool:
    """Tell whether a want of `cid` means anything: not one that holds its data itself, nor one that is too long."""
    return len(cid.raw) <= MAX_CID and not cid.is_identity


class PeerWants:
    """The table, of at most twice as many wants as `put` is told to admit: those on their way are beside the limit, for
    they are about to leave, and counting them would let a slow answer drop what is asked next.
    """

    def __init__(self) -> None:
        self.pending_bytes = 0
        """The size of all blocks that are due."""
        self._wants: dict[bytes, Want] = {}
        self._on_their_way = 0
        self._arrivals = 0
        self._presences: dict[Want, None] = {}
        # Queues with entries out of date: each is checked against its want when it comes to the top.
        self._blocks: list[tuple[int, int, Want]] = []
        self._lowest: list[tuple[int, int, Want]] = []
        """By rank, worst first: whom to drop."""

    def __len__(self) -> int:
        """Return the number of wants, those on their way included."""
        return len(self._wants)

    def __iter__(self) -> Iterator[Want]:
        """Yield the wants in no order that means anything."""
        return iter(self._wants.values())

    def __contains__(self, want: Want) -> bool:
        """Tell whether this very want is in the table."""
        return self._wants.get(want.cid.raw) is want

    def get(self, cid: Cid) -> Want | None:
        """Return what is wanted of `cid`."""
        return self._wants.get(cid.raw)

    @property
    def staying(self) -> int:
        """The number of wants that are not on their way."""
        return len(self._wants) - self._on_their_way

    @property
    def has_due(self) -> bool:
        """Tell whether anything is due."""
        return bool(self._presences) or self.next_block() is not None

    def put(self, entry: WantEntry, limit: int) -> tuple[Want | None, Want | None]:
        """Take a want, which `is_wantable`, if at most `limit` wants stay.

        A want that is there already takes the new priority and the new wish for DONT_HAVE; a want for a block stays
        one, for the block says that we have it, too.

        Returns:
            (want, dropped): the want in the table, None if all of a full table come before it; and the want that was
            dropped to make room for it, if one was.
        """
        dropped = None
        want = self._wants.get(entry.cid.raw)
        if want is None:
            if self.staying >= limit:
                lowest = self._find_lowest()
                if lowest is None or entry.priority <= lowest.priority:
                    return None, None
                dropped = lowest
                self.remove(lowest)
            cid = entry.cid
            want = Want(cid, cid.multihash, self._arrivals, entry.type, entry.priority, entry.send_dont_have)
            self._arrivals += 1
            self._wants[cid.raw] = want
            self._push(self._lowest, want, worst_first=True)
        else:
            want.send_dont_have = entry.send_dont_have
            want.type = min(want.type, entry.type)  # BLOCK over HAVE
            if entry.priority != want.priority:
                want.priority = entry.priority
                self._push(self._lowest, want, worst_first=True)
                if want.due is Due.BLOCK:
                    self._push(self._blocks, want)
        return want, dropped

    def remove(self, want: Want) -> None:
        """Drop a want of the table, whatever is due of it. One that is on its way arrives all the same."""
        del self._wants[want.cid.raw]
        self._on_their_way -= want.on_its_way is not Due.NOTHING
        self.set_due(want, Due.NOTHING)

    def set_due(self, want: Want, due: Due, size: int | None = None) -> None:
        """Say what is to be sent for `want`, and the size of the block if it is there."""
        if want.due is Due.BLOCK:
            self.pending_bytes -= want.size or 0
        elif want.due is not Due.NOTHING:
            del self._presences[want]
        want.size = size
        if due is Due.BLOCK:
            self.pending_bytes += size or 0
            if want.due is not Due.BLOCK:
                self._push(self._blocks, want)
        elif due is not Due.NOTHING:
            self._presences[want] = None
        want.due = due

    def presences(self) -> Iterator[Want]:
        """Yield the wants for which a presence is due, longest due first. Nothing may change meanwhile."""
        return iter(self._presences)

    def next_block(self) -> Want | None:
        """Return the want whose block is due next."""
        queue = self._blocks
        while queue:
            priority, _arrival, want = queue[0]
            if want.due is Due.BLOCK and -priority == want.priority:
                return want
            heappop(queue)
        return None

    def take(self, want: Want) -> Due:
        """Note that what is due for `want` is on its way now, and return what that is."""
        due = want.due
        assert due is not Due.NOTHING
        assert want.on_its_way is Due.NOTHING
        self.set_due(want, Due.NOTHING, want.size)
        want.on_its_way = due
        self._on_their_way += 1
        return due

    def land(self, want: Want, limit: int) -> Due:
        """Note that what was taken for `want` has been sent, or can't be, and return what it was.

        If the want is still in the table but more than `limit` would stay with it, it is dropped. That it was
        cancelled or dropped meanwhile is no error.
        """
        due, want.on_its_way = want.on_its_way, Due.NOTHING
        assert due is not Due.NOTHING
        if want in self:
            self._on_their_way -= 1
            if self.staying > limit:
                self.remove(want)
            else:
                self._push(self._lowest, want, worst_first=True)  # where it is not while on its way
        return due

    def _find_lowest(self) -> Want | None:
        """Return the want that comes last of those that are not on their way."""
        queue = self._lowest
        while queue:
            priority, _arrival, want = queue[0]
            if want in self and not want.on_its_way and priority == want.priority:
                return want
            heappop(queue)
        return None

    def _push(self, queue: list[tuple[int, int, Want]], want: Want, *, worst_first: bool = False) -> None:
        if len(queue) > 2 * len(self._wants) + _SLACK:
            wants = {item[2]: None for item in queue}
            queue[:] = [
                _item(each, worst_first)
                for each in wants
                if each in self and each is not want and (worst_first or each.due is Due.BLOCK)
            ]
            heapify(queue)
        heappush(queue, _item(want, worst_first))


def _item(want: Want, worst_first: bool) -> tuple[int, int, Want]:
    priority, arrival = want.rank
    return (-priority, -arrival, want) if worst_first else (priority, arrival, want)
