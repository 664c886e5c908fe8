"""Announcing many blocks by one router: in one walk through the keyspace where the router can, else a few at a time."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, runtime_checkable

import anyio

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.routing.interface import ContentRouting, NoRoutingPeersError

PARALLEL: Final = 4
"""Announcements at once where the router takes one at a time; each asks ten peers at a time itself."""
TIMEOUT: Final = 60.0
"""Seconds for one announcement: a look-up and its twenty peers, each with a deadline of its own."""
MANY_TIMEOUT: Final = 600.0
"""Seconds for one call of `provide_many`."""


@runtime_checkable
class ManyProviding(Protocol):
    """A router that announces many blocks at less cost than one by one."""

    async def provide_many(self, cids: Sequence[Cid], on_told: Callable[[Cid], None]) -> None:
        """Announce `cids`, which are in the order of their keys' places in the keyspace, so that one look-up serves
        those near to each other; `on_told` hears at once of each that a peer was told of, maybe more than once.

        Cancelling leaves announced what `on_told` has heard of. Raises NoRoutingPeersError.
        """


async def announce(router: ContentRouting, cids: Sequence[Cid]) -> list[Cid]:
    """Announce `cids` by `router`; return those of which a peer at least was told, in the order given.

    A router that can announce many at once is asked to, for `MANY_TIMEOUT`: what it did not come to is left for later.
    Cancelling may leave some announced.

    Raises:
        NoRoutingPeersError: there is nobody to tell.
    """
    if isinstance(router, ManyProviding) and len(cids) > 1:
        told: set[Cid] = set()
        try:
            with anyio.move_on_after(MANY_TIMEOUT):
                await router.provide_many(cids, told.add)
        except IpvcsError:
            if not told:
                raise
        return [cid for cid in cids if cid in told]
    return await _one_by_one(router, cids)


async def _one_by_one(router: ContentRouting, cids: Sequence[Cid]) -> list[Cid]:
    told: set[Cid] = set()
    nobody: list[NoRoutingPeersError] = []
    waiting = iter(cids)

    async def work() -> None:
        for cid in waiting:  # shared: each is taken once
            try:
                with anyio.move_on_after(TIMEOUT):
                    if await router.provide(cid):
                        told.add(cid)
            except NoRoutingPeersError as exc:
                nobody.append(exc)
                return
            except IpvcsError:
                continue  # this one, for now

    async with anyio.create_task_group() as tasks:
        for _number in range(min(PARALLEL, len(cids))):
            tasks.start_soon(work)
    if nobody and not told:
        raise nobody[0]
    return [cid for cid in cids if cid in told]
