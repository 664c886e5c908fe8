"""A record on its way to the peers nearest to its name, and what is heard of it while others may publish beside us.

    run ──► asked ──► has nothing, or what ours follows ──► sent ──► taken ──► asked again
               └────► has a rival ─────────────────────────────────────────────────┘

A *rival* is a record of the same name that ours does not follow: with the same number and another value, or with a
higher number. A peer that has one is not sent ours, so that whoever comes second notices and can build on the first.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.record import InvalidRecordError, IpnsRecord

SETTLE: Final = 1.0
"""Seconds that the other peers have to answer once the first has taken a record: enough for those that live to say
that they have a rival, and no more, since some never answer."""


class Sending:
    """One record being sent. It is a `ValueWatch`."""

    def __init__(self, name: PeerId, record: IpnsRecord) -> None:
        """Watch over `record`, which the key of `name` has signed."""
        self.name = name
        self.record = record
        self.takers: list[PeerId] = []
        """Who took it, the fastest first."""
        self.rival: IpnsRecord | None = None
        """The best rival that was met."""
        self.failure: IpvcsError | None = None
        """Why it is over, if nobody took it."""
        self.is_over = False
        self._scope = anyio.CancelScope()
        self._changed = anyio.Event()

    async def run(self, send: Callable[[], Awaitable[object]]) -> None:
        """Run `send`, which does the work, until it ends or `stop` is called."""
        try:
            with self._scope:
                await send()
        except IpvcsError as exc:
            self.failure = exc
        finally:
            self.is_over = True
            self._wake()

    async def wait(self, patience: float) -> None:
        """Return when it is over; when a peer took it and the others had `SETTLE` seconds; or after `patience`."""
        with anyio.move_on_after(patience):
            while not self.takers and not self.is_over:
                await self._changed.wait()
            with anyio.move_on_after(SETTLE):
                await self.wait_over()

    async def wait_over(self) -> None:
        """Return when nothing is sent any more."""
        while not self.is_over:
            await self._changed.wait()

    async def stop(self) -> None:
        """Send it to nobody else; return when nothing is sent any more."""
        self._scope.cancel()
        await self.wait_over()

    # ---- as a `ValueWatch` ----

    def may_replace(self, value: bytes) -> bool:
        """Tell whether our record follows another one that a peer has; take note of it if not."""
        try:
            other = IpnsRecord.decode(value)
            other.verify(self.name)
        except InvalidRecordError:
            return True
        if other.sequence < self.record.sequence:
            return True
        if (other.sequence, other.value) == (self.record.sequence, self.record.value):
            return True
        if self.rival is None or other.rank > self.rival.rank:
            self.rival = other
        return False

    def taken(self, peer_id: PeerId) -> None:
        """Hear of a peer that took the record."""
        self.takers.append(peer_id)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
