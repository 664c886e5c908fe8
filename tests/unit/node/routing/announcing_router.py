"""Routers that only announce, and remember what and when."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import anyio

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import NoRoutingPeersError


@dataclass
class AnnouncingRouter:
    """Tells one peer of each CID, `delay` seconds later, while it is `online`.

    One in `failing` raises its error, or reaches nobody if that is None; `offline_after` so many the rest finds nobody.
    """

    online: bool = True
    delay: float = 0.0
    delays: Mapping[Cid, float] = field(default_factory=dict)
    failing: Mapping[Cid, IpvcsError | None] = field(default_factory=dict)
    offline_after: int | None = None
    announced: list[Cid] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each was announced, and, in `attempts`, each call of any kind came."""
    attempts: list[float] = field(default_factory=list)
    calls: int = 0
    most_at_once: int = 0
    _at_once: int = 0

    async def provide(self, cid: Cid) -> int:
        self.calls += 1
        self.attempts.append(anyio.current_time())
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await anyio.sleep(self.delays.get(cid, self.delay))
            return self._tell(cid)
        finally:
            self._at_once -= 1

    def find_providers(self, cid: Cid) -> AbstractAsyncContextManager[AsyncIterator[PeerInfo]]:
        raise NotImplementedError

    def _tell(self, cid: Cid) -> int:
        if not self.online or (self.offline_after is not None and len(self.announced) >= self.offline_after):
            raise NoRoutingPeersError
        if cid in self.failing:
            if (error := self.failing[cid]) is not None:
                raise error
            return 0
        self.announced.append(cid)
        self.times.append(anyio.current_time())
        return 1


@dataclass
class BatchingRouter(AnnouncingRouter):
    """One that also takes many at once."""

    batches: list[list[Cid]] = field(default_factory=list)
    seconds_each: float = 0.0
    """Between one that is told and the next."""

    async def provide_many(self, cids: Sequence[Cid], on_told: Callable[[Cid], None]) -> None:
        self.attempts.append(anyio.current_time())
        await anyio.sleep(self.delay)
        if not self.online:
            raise NoRoutingPeersError
        self.batches.append(list(cids))
        for cid in cids:
            await anyio.sleep(self.seconds_each)
            if cid not in self.failing and self._tell(cid):
                on_told(cid)
