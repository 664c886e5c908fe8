"""Announces what this node has, soon after it is pinned and again before others forget it.

Goals: a pin that any process of this home makes is announced within seconds; nothing is announced before its time, in
the order of the keyspace; with nobody to tell it is tried again when there are peers, never in a storm.
Non-goals: what is announced and what was (`reprovider`), how (`provide_many`, and the router).

One service a router, each with a name of its own: what the LAN was told an hour ago is told to the public network when
that is reached, and only to it.

    look   every few seconds if anything was written to the home: new pins are announced at once
    tick   a twentieth of the interval: is anything due again? then what was unpinned is dropped from the table first
    pass   through the table in keyspace order, a batch at a time, looking for new pins in between

Spec: https://specs.ipfs.tech/routing/kad-dht/#content-provider-advertisement-and-discovery ("republish")
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

import anyio
from anyio import to_thread

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.network.interface import Connection
from ipvcs.node.routing.interface import ContentRouting, NoRoutingPeersError
from ipvcs.node.routing.provide_many import ManyProviding, announce
from ipvcs.node.routing.reprovider import Due, Reprovider, Strategy, keyspace_position
from ipvcs.storage.datastore import Datastore
from ipvcs.storage.interface import Blockstore

_log = logging.getLogger(__name__)

INTERVAL: Final = 22 * 3600.0
"""Seconds until something is announced again: records live 48 hours, so that one failure does no harm. The
specification's, and Kubo's default."""
POLL: Final = 1.0
"""Seconds between looks at the number of the home's last transaction, which cost nothing."""
LOOK_INTERVAL: Final = 3.0
"""Seconds between looks at the pins, at least: each new pin is announced with those that came in that time."""
_LOOK_SHARE: Final = 20
"""A look that takes long is not repeated before this many times as long has passed."""
TICKS: Final = 20
"""Times an interval that is looked for what is due again: so much later than it might, a block is announced, together
with its neighbours in the keyspace."""
BATCH: Final = 32
"""Blocks announced before that is written down, and before new pins are looked for: a kill has so many announced again,
a new pin waits for so many."""
MANY_BATCH: Final = 256
"""The same with a router that announces many at once: a look-up serves several if enough of them are near."""
MAX_URGENT: Final = 64
"""New roots that are announced out of turn; when there are more, their turn comes in the order of the keyspace."""

MAX_LEFT: Final = 1000
"""Blocks that failed and are not tried again with every new pin. Of more, the rest is."""
MANY_FAILED: Final = 8
"""Blocks of one batch all of which failed: then it is not their fault, and everything waits."""

FIRST_RETRY: Final = 5.0
MAX_RETRY: Final = 300.0
"""Seconds after a failure, doubled with each."""
MAX_RETRY_WITH_PEERS: Final = 30.0
"""The same when a peer came since: it may be one that routes."""
SETTLE: Final = 2.0
"""Seconds from a new connection until the peer has said what it serves, and is asked."""

Offload = Callable[..., Awaitable[Any]]
"""Runs a blocking function somewhere else: `anyio.to_thread.run_sync`."""


@dataclass(frozen=True, slots=True)
class ProvideStats:
    """What was announced since the start. Durations are seconds."""

    total: int
    """Blocks, each as often as it was announced."""
    average_duration: float
    """Of one, 0 before the first."""
    last_duration: float
    """Of the last pass that announced something and ended."""
    last_size: int
    """Blocks that it announced."""
    last_run: float | None
    """When it ended, seconds since 1970; None before the first."""
    interval: float
    """Until something is announced again; 0: never."""


class Retry:
    """When to try again. Time is an argument, on a clock that never goes back."""

    def __init__(self) -> None:
        self._failures = 0
        self._failed = 0.0
        self.due = 0.0
        """When it is time; in the past if nothing failed."""

    def may_try(self, now: float) -> bool:
        """Tell whether it is time, or nothing failed."""
        return now >= self.due

    def failed(self, now: float) -> None:
        """Note a failure."""
        self._failures += 1
        self._failed = now
        self.due = now + self._pause(MAX_RETRY)

    def succeeded(self) -> None:
        """Note that it works."""
        self._failures = 0
        self.due = 0.0

    def peer_came(self, now: float) -> None:
        """Try sooner: there is somebody to ask who was not there when it failed."""
        if self._failures:
            soon = max(now + SETTLE, self._failed + self._pause(MAX_RETRY_WITH_PEERS))
            self.due = min(self.due, soon)
            self._failures = min(self._failures, 2)  # if that one can't help, the next peer comes into the wait

    def _pause(self, most: float) -> float:
        return min(most, FIRST_RETRY * 2.0 ** min(self._failures - 1, 20))


class ProviderService:
    """Announces the blocks of a home by one router, as long as `run` runs. It is a `Notifiee` of the swarm."""

    def __init__(
        self,
        router: ContentRouting,
        datastore: Datastore,
        blocks: Blockstore,
        *,
        name: str,
        strategy: Strategy = Strategy.ROOTS,
        interval: float = INTERVAL,
        wall: Callable[[], float] = time.time,
        offload: Offload = to_thread.run_sync,
    ) -> None:
        """Announce by `router`.

        Args:
            router: whom to ask.
            datastore: the home's: its pins, and what was announced.
            blocks: the home's.
            name: the router's in the table of what was announced, up to 32 bytes.
            strategy: what is announced.
            interval: seconds until something is announced again; 0: never.
            wall: returns seconds since 1970.
            offload: runs what reads and writes the home.
        """
        self._router = router
        self._reprovider = Reprovider(datastore, blocks, strategy, name)
        self._interval = interval
        self._wall = wall
        self._offload = offload
        self._batch = MANY_BATCH if isinstance(router, ManyProviding) else BATCH
        self._seen = -1
        self._look_at = self._tick_at = 0.0
        self._urgent: dict[bytes, None] = {}
        self._retry = Retry()
        # What could not be announced though there was somebody to tell: it waits for its own time, and nobody for it.
        self._left: set[bytes] = set()
        self._left_retry = Retry()
        # The pass: where it is in the keyspace (None: none is under way), whether there may be new rows behind it,
        # whether something failed, and what was done.
        self._position: bytes | None = None
        self._again = False
        self._has_failed = False
        self._pass_size = 0
        self._pass_duration = 0.0
        self._total = 0
        self._duration = 0.0
        self._last: tuple[float, int, float] | None = None

    def stats(self) -> ProvideStats:
        """Return what was announced since the start."""
        duration, size, ended = self._last or (0.0, 0, None)
        average = self._duration / self._total if self._total else 0.0
        return ProvideStats(self._total, average, duration, size, ended, self._interval)

    def connected(self, connection: Connection) -> None:
        """Note that there may be somebody to tell."""
        del connection
        self._retry.peer_came(anyio.current_time())
        self._left_retry.peer_came(anyio.current_time())

    def disconnected(self, connection: Connection) -> None:
        """Do nothing."""

    async def run(self) -> None:
        """Announce until cancelled, which may leave some announced that are announced again after the next start."""
        while True:
            try:
                busy = await self._step()
            except IpvcsError as exc:  # the disk, as a rule: announcing can wait
                _log.warning("cannot look up what is to be announced: %s", exc)
                self._retry.failed(anyio.current_time())
                self._look_at = self._retry.due
                busy = False
            if not busy:
                await anyio.sleep(POLL)

    async def _step(self) -> bool:
        """Do what is due, at most one batch of it; tell whether to go on at once."""
        if anyio.current_time() >= self._look_at and self._reprovider.last_transaction() != self._seen:
            await self._look()
        if not self._retry.may_try(anyio.current_time()):
            return False
        if self._urgent:
            await self._announce_urgent()
            return True
        if anyio.current_time() >= self._tick_at:
            await self._tick()
        if self._position is None and self._left and self._left_retry.may_try(anyio.current_time()):
            self._begin_pass()
        if self._position is None:
            return False
        await self._announce_batch(self._position)
        return self._position is not None

    async def _look(self) -> None:
        """Look for new pins, and announce their roots before what is below them is looked for."""
        started = anyio.current_time()
        self._look_at = started + LOOK_INTERVAL
        number = self._reprovider.last_transaction()
        has_new = await self._offload(self._reprovider.has_new_pins)
        took = anyio.current_time() - started
        if has_new:
            took += await self._run_slices(self._reprovider.look(self._wall()))
        self._seen = number
        self._look_at = max(self._look_at, anyio.current_time() + _LOOK_SHARE * took)

    async def _tick(self) -> None:
        """Begin a pass if anything is due, with a walk before it if the table may be out of date."""
        self._tick_at = anyio.current_time() + self._interval / TICKS if self._interval else float("inf")
        if self._position is not None:
            return
        again = await self._has_due(again=True)
        if await self._offload(partial(self._reprovider.needs_walk, self._wall(), self._interval, due=again)):
            await self._run_slices(self._reprovider.walk(self._wall()))
        if again or await self._has_due(again=False):
            self._begin_pass()

    async def _has_due(self, *, again: bool) -> bool:
        start: bytes | None = b""
        while start is not None:
            due = await self._find_due(start, 1, again=again)
            if due.cids:
                return True
            start = due.end
        return False

    async def _find_due(self, start: bytes, most: int, *, again: bool = False) -> Due:
        find = partial(self._reprovider.table.due, start, most, self._wall(), self._interval, again=again)
        due: Due = await self._offload(find)
        return due

    async def _run_slices(self, work: Iterator[list[bytes]]) -> float:
        """Run `work` to its end, a slice in a thread at a time, and announce new roots as they are found; return how
        many seconds the slices took.
        """
        took, started = 0.0, anyio.current_time()
        while (new := await self._offload(next, work, None)) is not None:
            took += anyio.current_time() - started
            self._begin_pass()  # there may be new rows anywhere in the table
            self._urgent.update(dict.fromkeys(new[: MAX_URGENT - len(self._urgent)]))
            if self._urgent and self._retry.may_try(anyio.current_time()):
                await self._announce_urgent()
            started = anyio.current_time()
        return took

    async def _announce_urgent(self) -> None:
        """Announce a batch of new roots. Those that fail have rows as all have: their turn comes with the pass."""
        multihashes = sorted(self._urgent, key=keyspace_position)[: self._batch]
        await self._announce([Cid.make(each) for each in multihashes])
        for each in multihashes:
            del self._urgent[each]

    def _begin_pass(self) -> None:
        """Begin a pass, or see to it that another one follows."""
        if self._position is not None:
            self._again = True
            return
        self._position = b""
        if self._left_retry.may_try(anyio.current_time()):
            self._left.clear()

    async def _announce_batch(self, position: bytes) -> None:
        """Announce the next blocks that are due, from `position` on; if there is nobody to tell, it stays there."""
        due = await self._find_due(position, self._batch)
        cids = [cid for cid in due.cids if cid.multihash not in self._left]
        if cids and await self._announce(cids) is None:
            return
        self._position = due.end
        if due.end is None:
            self._end_pass()

    def _end_pass(self) -> None:
        if self._pass_size:
            self._last = (self._pass_duration, self._pass_size, self._wall())
        self._pass_size, self._pass_duration = 0, 0.0
        if self._has_failed:
            self._left_retry.failed(anyio.current_time())
        elif not self._left:
            self._left_retry.succeeded()
        self._has_failed = False
        if self._again:
            self._again = False
            self._begin_pass()

    async def _announce(self, cids: Sequence[Cid]) -> Sequence[Cid] | None:
        """Announce `cids`, and write down and return which were; None if there is nobody to tell."""
        started = anyio.current_time()
        try:
            done = await announce(self._router, cids)
        except NoRoutingPeersError:
            self._retry.failed(anyio.current_time())
            return None
        except IpvcsError as exc:
            _log.info("cannot announce %d blocks: %s", len(cids), exc)
            done = []
        if failed := {cid.multihash for cid in cids}.difference(cid.multihash for cid in done):
            self._has_failed = True
            self._left.update(islice(failed, max(0, MAX_LEFT - len(self._left))))
        if done:
            self._retry.succeeded()
        elif len(failed) >= MANY_FAILED:
            self._retry.failed(anyio.current_time())
        if not done:
            return done
        took = anyio.current_time() - started
        self._total += len(done)
        self._duration += took
        self._pass_size += len(done)
        self._pass_duration += took
        with anyio.CancelScope(shield=True):
            await self._offload(self._reprovider.table.mark, [cid.multihash for cid in done], self._wall())
        return done
