"""Blocks as they arrive: hashed, handed to who wants them, and read for their links, in threads, a batch a hop.

A hop to a thread costs as much as hashing a quarter of a megabyte, and some peers send each block in a message, on a
stream, of its own. So what arrives while a batch is under way is the next batch, whatever peers and streams it is from.
Whoever submitted something may go on reading, and waits for it before submitting more: that is the back-pressure.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.fetch_session import BlockSession
from ipvcs.node.exchange.local_blocks import Arrival, LocalBlocks, identify
from ipvcs.node.exchange.messages import ReceivedBlock
from ipvcs.node.exchange.peer import ExchangePeer, WrongBlockError

BATCH: Final = 4 * 1024 * 1024
"""Bytes of blocks in one hop: a full message."""
MAX_HELD: Final = 32 * 1024 * 1024
"""Bytes of blocks that wait or are under way, of all peers, beyond which no message is begun to be read."""
PARALLEL: Final = 2
"""Hops at once: as many as there are cores that hashing could use beside the event loop."""


class Delivery:
    """What one message brought. `done` is set when it has been dealt with."""

    def __init__(self, peer: ExchangePeer, received: Sequence[ReceivedBlock]) -> None:
        self.peer = peer
        self.received = received
        self.size = sum(len(each.data) for each in received)
        self.arrivals: list[tuple[BlockSession, Arrival]] = []
        self.duplicates = 0
        self.duplicate_bytes = 0
        self.error: IpvcsError | None = None
        self._done = anyio.Event()

    def finish(self) -> None:
        """Let the waiter go on."""
        self._done.set()

    async def wait(self) -> None:
        """Return when it has been dealt with. Raises what was wrong with it."""
        await self._done.wait()
        if self.error is not None:
            raise self.error

    def verify_and_store(self, wanted: Mapping[bytes, Mapping[BlockSession, Cid]]) -> None:
        """Hash the blocks and hand them to who wants them. Runs in a thread."""
        try:
            for block in identify(self.received):
                key = block.cid.multihash
                holders = dict(wanted.get(key, ()))
                if not holders:
                    if not self.peer.was_asked(key):
                        raise WrongBlockError(self.peer.peer_id, block.cid)
                    self.duplicates += 1
                    self.duplicate_bytes += len(block.data)
                for session, cid in holders.items():
                    named = block if cid == block.cid else block.named(cid)
                    self.arrivals.append((session, session.take(named)))
        except IpvcsError as exc:
            self.error = exc


class Verifier:
    """Deals with deliveries in the order in which they come. `tasks` is set while the service runs."""

    def __init__(
        self,
        local: LocalBlocks,
        wanted: Mapping[bytes, Mapping[BlockSession, Cid]],
        deliver: Callable[[Sequence[Delivery]], None],
    ) -> None:
        """Verify for a service.

        Args:
            local: whose threads are used.
            wanted: by multihash, who waits for a block, and under which CID. Threads look into it.
            deliver: told, on the event loop, what has been verified.
        """
        self._local = local
        self._wanted = wanted
        self._deliver = deliver
        self._waiting: deque[Delivery] = deque()
        self._running = 0
        self._held = 0
        self._room = anyio.Event()
        self.tasks: TaskGroup | None = None

    def submit(self, delivery: Delivery) -> None:
        """Deal with `delivery` as soon as a thread is free."""
        self._waiting.append(delivery)
        self._held += delivery.size
        if self._running < PARALLEL and self.tasks is not None:
            self._running += 1
            self.tasks.start_soon(self._work)

    async def room(self) -> None:
        """Return when there is room for another message: what is read while disks are slow would pile up here."""
        while self._held > MAX_HELD:
            await self._room.wait()

    async def _work(self) -> None:
        try:
            while batch := self._take():

                def work(batch: Sequence[Delivery] = tuple(batch)) -> None:
                    for delivery in batch:
                        delivery.verify_and_store(self._wanted)

                try:
                    await self._local.run(work)
                    self._deliver(batch)
                finally:
                    for delivery in batch:
                        self._held -= delivery.size
                        delivery.finish()
                    self._room.set()
                    self._room = anyio.Event()
        finally:
            self._running -= 1

    def _take(self) -> list[Delivery]:
        batch: list[Delivery] = []
        size = 0
        while self._waiting and (not batch or size + self._waiting[0].size <= BATCH):
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        return batch
