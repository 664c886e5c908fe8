"""Ledgers: what went to and fro between us and each peer, the memory that strategies decide by (white paper §3.4.2).

Goals: an account a peer that outlives connections and restarts; a table that strangers can't fill. Non-goals: the disk
(`ledger_store`), ledgers that both sides agree on and sign, and single blocks.

Time is an argument, in seconds since 1970. It is only kept and told: the order in which peers are forgotten is that of
the calls, whatever the clock does.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ipvcs.multiformats.peer_id import PeerId

MAX_LEDGERS: Final = 10_000
"""Peers. Ten times the connections we keep; with keys and links some 4 MiB when full."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """One peer's account. Bytes are those of blocks, without what frames them."""

    bytes_sent: int = 0
    bytes_received: int = 0
    exchanges: int = 0
    """Blocks, both ways together; what Kubo counts under this name."""
    last_seen: float = 0.0
    """When a block last went either way, in seconds since 1970."""

    @property
    def debt_ratio(self) -> float:
        """What the peer owes us: r of the white paper's strategy. A peer that gave as much as it took has about 1."""
        return self.bytes_sent / (self.bytes_received + 1)


_NEW: Final = Ledger()


class Ledgers:
    """The table, of at most `max_ledgers` peers; beyond them, those with whom nothing was exchanged for longest are
    forgotten, but nobody while connected, for then leaving and coming back would be the way out of debt.
    """

    def __init__(self, *, max_ledgers: int = MAX_LEDGERS) -> None:
        self._max_ledgers = max_ledgers
        self._ledgers: dict[PeerId, Ledger] = {}
        self._idle: OrderedDict[PeerId, None] = OrderedDict()
        """Those of them that are not connected, least recently seen first."""
        self._connected: set[PeerId] = set()
        self._unsaved: set[PeerId] = set()

    def __len__(self) -> int:
        """Return the number of peers that have a ledger."""
        return len(self._ledgers)

    def get(self, peer_id: PeerId) -> Ledger:
        """Return the peer's ledger, an empty one if there is none."""
        return self._ledgers.get(peer_id, _NEW)

    def sent(self, peer_id: PeerId, size: int, now: float, *, blocks: int = 1) -> None:
        """Note that `blocks` of `size` bytes together went to the peer."""
        old = self.get(peer_id)
        self._set(peer_id, Ledger(old.bytes_sent + size, old.bytes_received, old.exchanges + blocks, now))

    def received(self, peer_id: PeerId, size: int, now: float, *, blocks: int = 1) -> None:
        """Note that `blocks` of `size` bytes together came from the peer: those that we wanted and that are right, or
        rubbish would pay debts.
        """
        old = self.get(peer_id)
        self._set(peer_id, Ledger(old.bytes_sent, old.bytes_received + size, old.exchanges + blocks, now))

    def connected(self, peer_id: PeerId) -> None:
        """Keep the peer's ledger from now on."""
        self._connected.add(peer_id)
        self._idle.pop(peer_id, None)

    def disconnected(self, peer_id: PeerId) -> None:
        """Let the peer's ledger be forgotten when its turn comes."""
        self._connected.discard(peer_id)
        if peer_id in self._ledgers:
            self._idle[peer_id] = None
            self._idle.move_to_end(peer_id)
            self._forget_surplus()

    # For the disk

    def take_unsaved(self) -> set[PeerId]:
        """Return the peers whose ledger changed or was forgotten since the last call."""
        unsaved, self._unsaved = self._unsaved, set()
        return unsaved

    def mark_unsaved(self, peer_ids: Iterable[PeerId]) -> None:
        """Let `take_unsaved` return these again: saving them failed."""
        self._unsaved.update(peer_ids)

    def known(self, peer_id: PeerId) -> Ledger | None:
        """Return the peer's ledger, None if there is none."""
        return self._ledgers.get(peer_id)

    def restore(self, peer_id: PeerId, ledger: Ledger) -> None:
        """Take back what was saved in an earlier run, peers seen last last. What is in the table already counts more.

        Rows beyond the table's bound push out the earlier ones, which is then to be saved.
        """
        if peer_id not in self._ledgers:
            unsaved = peer_id in self._unsaved
            self._set(peer_id, ledger)
            if not unsaved:
                self._unsaved.discard(peer_id)

    # Inside

    def _set(self, peer_id: PeerId, ledger: Ledger) -> None:
        self._ledgers[peer_id] = ledger
        self._unsaved.add(peer_id)
        if peer_id not in self._connected:
            self._idle[peer_id] = None
            self._idle.move_to_end(peer_id)
        self._forget_surplus()

    def _forget_surplus(self) -> None:
        """Forget as many as it takes; the one just noted goes last of all."""
        while len(self._ledgers) > self._max_ledgers and self._idle:
            peer_id, _ = self._idle.popitem(last=False)
            del self._ledgers[peer_id]
            self._unsaved.add(peer_id)
