"""What we want of one peer, on behalf of all sessions, and what it has been told of that.

Several sessions may want one block of one peer: it is told once, and told to forget it when the last of them has lost
interest. Changes gather until `take` makes a message of them, so that many wants travel together.

    ask ─► wanted, changed ─► take ─► told          drop ─► told? cancel : nothing
    ask again ─► a CANCEL in one message, the want in the next

Spec: https://specs.ipfs.tech/bitswap-protocol/
"""

from collections.abc import Iterable
from typing import Final

from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.messages import WantEntry, WantType, want_size

MAX_TAKEN: Final = 512 * 1024
"""Bytes of one wantlist message: some 8,000 entries, an eighth of what a message may have."""
_ANSWERED: Final = 4096
"""Blocks last received that are remembered, to cancel them before they are asked for again: js-ipfs-bitswap ignores for
five seconds what it has just sent."""
_TOP_PRIORITY: Final = (1 << 31) - 1
"""The first want's priority; each later one is one below, so that a peer answers in our order. As in go-bitswap."""


class _Want:
    __slots__ = ("again", "holders", "priority", "type")

    def __init__(self, kind: WantType, priority: int) -> None:
        self.type = kind
        self.priority = priority
        self.holders: set[int] = set()
        self.again = False
        """Whether the peer is to forget it first: some ignore a want that they have answered already."""


class PeerWantlist:
    """One peer's wantlist, as we want it and as it knows it."""

    def __init__(self) -> None:
        self._wanted: dict[Cid, _Want] = {}
        self._told: dict[Cid, WantType] = {}
        self._changed: dict[Cid, None] = {}
        self._answered: dict[Cid, None] = {}
        self._cancelled: tuple[Cid, ...] = ()
        """The last CANCEL that was taken; it may be lost with its stream."""
        self._fresh = True
        self._next_priority = _TOP_PRIORITY

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._changed)

    def wants(self) -> Iterable[Cid]:
        """Return what is wanted of the peer."""
        return self._wanted.keys()

    def ask(self, holder: int, cid: Cid, kind: WantType) -> None:
        """Want `cid` for session `holder`. A want for the block stays one when somebody else only wants to know."""
        want = self._wanted.get(cid)
        if want is None:
            want = self._wanted[cid] = _Want(kind, self._next_priority)
            self._next_priority = max(1, self._next_priority - 1)
            want.again = cid in self._answered
            self._answered.pop(cid, None)
        want.holders.add(holder)
        if kind < want.type:
            want.type = kind
        told = self._told.get(cid)
        if told is None or want.type < told:
            self._changed[cid] = None
        else:
            self._changed.pop(cid, None)  # a CANCEL that was not sent yet

    def ask_again(self, cid: Cid) -> None:
        """Tell the peer once more what it was told and did not answer."""
        if (want := self._wanted.get(cid)) is not None:
            want.again = cid in self._told
            self._changed[cid] = None

    def drop(self, holder: int, cid: Cid) -> None:
        """Session `holder` wants `cid` no more."""
        want = self._wanted.get(cid)
        if want is None:
            return
        want.holders.discard(holder)
        if not want.holders:
            del self._wanted[cid]
            if cid in self._told:
                self._changed[cid] = None
            else:
                self._changed.pop(cid, None)

    def fulfilled(self, holder: int, cid: Cid) -> None:
        """The peer sent the block, which session `holder` has now: the peer has forgotten the want.

        A session that came to want it while the block was verified did not get it: for that it is asked anew.
        """
        if cid in self._told:
            del self._told[cid]
            self._answered[cid] = None
            if len(self._answered) > _ANSWERED:
                del self._answered[next(iter(self._answered))]
        self._changed.pop(cid, None)
        if (want := self._wanted.get(cid)) is not None:
            want.holders.discard(holder)
            if want.holders:
                want.again = True
                self._changed[cid] = None
            else:
                del self._wanted[cid]

    def reconnected(self) -> None:
        """The peer knows nothing any more: everything is to be told anew."""
        # The next message is `full` and replaces what it knew; without wants, a CANCEL is what makes it a message.
        self._changed = dict.fromkeys(self._wanted or self._told or self._changed or self._cancelled)
        self._told.clear()
        self._answered.clear()
        self._fresh = True
        for want in self._wanted.values():
            want.again = False

    def take(self, *, presences: bool = True, max_bytes: int = MAX_TAKEN) -> tuple[list[WantEntry], bool]:
        """Return (entries, full) for the next message and take them for told; no entries: nothing to tell.

        Without `presences` the peer speaks a version before 1.2.0 and is asked for blocks in any case.
        """
        entries: list[WantEntry] = []
        again: list[Cid] = []
        size = 0
        while self._changed and size < max_bytes:
            cid = next(iter(self._changed))
            del self._changed[cid]
            want = self._wanted.get(cid)
            if want is None:
                self._told.pop(cid, None)
                self._cancelled = (cid,)
                entry = WantEntry(cid, cancel=True)
            elif want.again:
                want.again = False
                self._told.pop(cid, None)
                again.append(cid)
                entry = WantEntry(cid, cancel=True)
            else:
                kind = want.type if presences else WantType.BLOCK
                self._told[cid] = kind
                entry = WantEntry(cid, kind, want.priority, send_dont_have=presences)
            entries.append(entry)
            size += want_size(entry)
        self._changed.update(dict.fromkeys(again))
        full, self._fresh = self._fresh and bool(entries), self._fresh and not entries
        return entries, full
