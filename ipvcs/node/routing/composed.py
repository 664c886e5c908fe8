"""Several routers as one: the LAN's DHT, the public one, and whatever else there is, asked at the same time.

Goals: whoever answers first is believed about a peer's addresses, and the others are stopped; streams of providers and
values run together; one router that fails or knows nobody hides no answer of another. Non-goals: who is asked first
(all are at once; the order decides only whose error is told), and what a router keeps.

Leaving a search, or being cancelled, ends it in every router.

Spec: white paper §3.3
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Final, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from ipvcs.errors import IpvcsError, UnavailableError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import (
    InvalidValueError,
    NoRoutingPeersError,
    PeerNotFoundError,
    Routing,
    Validator,
    ValueNotTakenError,
    ValueWatch,
)
from ipvcs.node.routing.provide_many import announce

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_PROVIDERS: Final = 10_000
"""Of one search. Nobody can use more, and each one seen is remembered until the search ends."""


TELL_TIMEOUT: Final = 50.0
"""Seconds for one router to store a value: less than a publisher waits, which then hears of those that could."""


class RouterTimeoutError(UnavailableError):
    """A router did not store a value in time."""

    def __init__(self) -> None:
        super().__init__(f"not stored within {TELL_TIMEOUT:g} seconds", hint="try again later")


class RoutersFailedError(UnavailableError):
    """Every router failed, not all in one way: `errors` has them by name."""

    def __init__(self, errors: Mapping[str, IpvcsError]) -> None:
        super().__init__(
            "; ".join(f"{name}: {error}" for name, error in errors.items()),
            hint=next((error.hint for error in errors.values() if error.hint), None),
        )
        self.errors = dict(errors)


class ComposedRouting:
    """A `Routing` over others, by name, the nearest first."""

    def __init__(self, routers: Mapping[str, Routing], validator: Validator) -> None:
        """Ask `routers`, of which there is one at least; `validator` tells which of two values is better."""
        assert routers
        self._routers = dict(routers)
        self._validator = validator

    async def find_peer(self, peer_id: PeerId) -> PeerInfo:
        """Return what the first router to know `peer_id` says.

        Raises:
            PeerNotFoundError: nobody knows, and one had somebody to ask. NoRoutingPeersError: none had.
            RoutersFailedError: none answered, for several reasons.
        """
        found: dict[str, PeerInfo] = {}
        errors: dict[str, IpvcsError] = {}
        async with anyio.create_task_group() as tasks:

            async def ask(name: str, router: Routing) -> None:
                try:
                    found[name] = await router.find_peer(peer_id)
                except IpvcsError as exc:
                    errors[name] = exc
                else:
                    tasks.cancel_scope.cancel()

            for name, router in self._routers.items():
                tasks.start_soon(ask, name, router)
        for name in self._routers:
            if name in found:
                return found[name]
        raise self._combine(errors, [PeerNotFoundError])

    async def provide(self, cid: Cid) -> int:
        """Announce `cid` by every router; return how many peers were told by all of them together.

        Cancelling may leave it announced to some. Raises NoRoutingPeersError, RoutersFailedError: no router could.
        """
        return sum(await self._tell_all(lambda router: router.provide(cid)))

    async def provide_many(self, cids: Sequence[Cid], on_told: Callable[[Cid], None]) -> None:
        """Announce `cids` by every router; `on_told` hears of each that was announced by one.

        Raises NoRoutingPeersError, RoutersFailedError: no router could.
        """

        async def tell(router: Routing) -> int:
            done = await announce(router, cids)
            for cid in done:
                on_told(cid)
            return len(done)

        await self._tell_all(tell)

    async def set_value(self, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        """Store `value` by every router; return how many peers took it.

        Raises:
            InvalidValueError: no router stored it, and one says that it is not valid, or knows a better one.
            ValueNotTakenError: no router stored it, and the peers of one did not take it.
            NoRoutingPeersError, RoutersFailedError: no router could.
        """

        async def store(router: Routing) -> int:
            try:
                with anyio.fail_after(TELL_TIMEOUT):
                    return await router.set_value(key, value, watch=watch)
            except TimeoutError:
                raise RouterTimeoutError from None

        return sum(await self._tell_all(store, (InvalidValueError, ValueNotTakenError)))

    def find_providers(self, cid: Cid) -> AbstractAsyncContextManager[AsyncIterator[PeerInfo]]:
        """Stream what all routers find, each peer once; one that fails is passed over."""
        return self._searching(lambda router: router.find_providers(cid), _each_peer_once)

    def search_value(self, key: bytes, *, quorum: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream what all routers find, each better than all before; one that fails is passed over.

        Each router looks for `quorum` answers on its own.
        """

        def only_better(values: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
            return self._only_better(key, values)

        return self._searching(lambda router: router.search_value(key, quorum=quorum), only_better, tells=True)

    async def _only_better(self, key: bytes, values: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        best: bytes | None = None
        async for value in values:
            if best is None or self._validator.select(key, (best, value)) == 1:
                best = value
                yield value

    async def _tell_all(
        self, tell: Callable[[Routing], Awaitable[int]], telling: Sequence[type[IpvcsError]] = ()
    ) -> list[int]:
        """Return what `tell` says of each router that did not fail, at least one. Errors of the types
        `telling` are raised rather than others.
        """
        told: list[int] = []
        errors: dict[str, IpvcsError] = {}

        async def tell_one(name: str, router: Routing) -> None:
            try:
                told.append(await tell(router))
            except IpvcsError as exc:
                errors[name] = exc

        async with anyio.create_task_group() as tasks:
            for name, router in self._routers.items():
                tasks.start_soon(tell_one, name, router)
        if not told:
            raise self._combine(errors, telling)
        for name, error in errors.items():
            if not isinstance(error, NoRoutingPeersError):
                _log.info("router '%s' could not tell others, but another one could: %s", name, error)
        return told

    @asynccontextmanager
    async def _searching(
        self,
        search: Callable[[Routing], AbstractAsyncContextManager[AsyncIterator[_T]]],
        merge: Callable[[AsyncIterator[_T]], AsyncGenerator[_T]],
        *,
        tells: bool = False,
    ) -> AsyncGenerator[AsyncIterator[_T]]:
        """Run a search of every router at once, and yield what `merge` makes of all answers in the order they come.

        No router is ahead of its reader by more than one answer. `tells`: when all fail, the reader is told so.
        """
        errors: dict[str, IpvcsError] = {}
        failure: Exception | None = None
        send, receive = anyio.create_memory_object_stream[_T]()
        async with anyio.create_task_group() as tasks, receive:
            async with send:
                for name, router in self._routers.items():
                    tasks.start_soon(_forward, name, search(router), send.clone(), errors)
            async with aclosing(self._until_failed(merge(receive), errors, tells)) as answers:
                try:
                    yield answers
                except Exception as exc:  # past the task group, which would wrap what is our caller's
                    failure = exc
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _until_failed(
        self, answers: AsyncGenerator[_T], errors: Mapping[str, IpvcsError], tells: bool
    ) -> AsyncGenerator[_T]:
        async with aclosing(answers):
            async for answer in answers:
                yield answer
        if tells and len(errors) == len(self._routers):
            raise self._combine(errors)

    def _combine(self, errors: Mapping[str, IpvcsError], telling: Sequence[type[IpvcsError]] = ()) -> IpvcsError:
        """Return the one error that tells best why all failed: one of the first type in `telling` that there is."""
        in_order = {name: errors[name] for name in self._routers if name in errors}
        for kind in telling:
            for error in in_order.values():
                if isinstance(error, kind):
                    return error
        others = {name: error for name, error in in_order.items() if not isinstance(error, NoRoutingPeersError)}
        if not others:
            return NoRoutingPeersError()
        return next(iter(others.values())) if len(others) == 1 else RoutersFailedError(others)


async def _each_peer_once(peers: AsyncIterator[PeerInfo]) -> AsyncGenerator[PeerInfo]:
    seen: set[PeerId] = set()
    async for peer in peers:
        if peer.peer_id not in seen:
            seen.add(peer.peer_id)
            yield peer
            if len(seen) == MAX_PROVIDERS:
                return


async def _forward(
    name: str,
    search: AbstractAsyncContextManager[AsyncIterator[_T]],
    out: MemoryObjectSendStream[_T],
    errors: dict[str, IpvcsError],
) -> None:
    async with out:
        try:
            async with search as answers:
                async for answer in answers:
                    await out.send(answer)
        except anyio.BrokenResourceError:  # nobody reads any more
            return
        except IpvcsError as exc:
            errors[name] = exc
            _log.info("router '%s' ended a search: %s", name, exc)
