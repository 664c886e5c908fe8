"""What routing offers to the chapters above it, cut by need, and what it asks of those who own a namespace of keys.

Searches are context managers, not bare async generators: leaving the block ends the search (PEP 789).

Spec: white paper §3.3, and https://specs.ipfs.tech/routing/kad-dht/
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ipvcs.errors import NotFoundError, RemoteProtocolError, UnavailableError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo


class PeerNotFoundError(NotFoundError):
    """Nobody who was asked knows where a peer is."""

    def __init__(self, peer_id: PeerId, *, asked: int = 0) -> None:
        super().__init__(
            f"cannot find peer '{peer_id}'" + (f": {asked} peers were asked" if asked else ""),
            hint="it may be offline; `ipvcs swarm connect <address>` reaches a peer whose address you know",
        )
        self.peer_id = peer_id


class ValueNotFoundError(NotFoundError):
    """Nobody who was asked has a valid value under a key."""

    def __init__(self, key: bytes, *, asked: int = 0) -> None:
        super().__init__(f"no value found under key {key!r}" + (f": {asked} peers were asked" if asked else ""))
        self.key = key


class NoRoutingPeersError(UnavailableError):
    """There is nobody to ask: the node is offline, or knows no peer that routes."""

    def __init__(self) -> None:
        super().__init__(
            "no peer to ask: the routing table is empty",
            hint="connect to one with `ipvcs swarm connect <address>`, or join a network with `ipvcs bootstrap add`",
        )


class InvalidValueError(RemoteProtocolError):
    """A value is not valid under its key, by the rules of the key's namespace."""


class ValueNotTakenError(UnavailableError):
    """No peer took a value: they are gone, or have a better one."""

    def __init__(self, key: bytes, asked: int) -> None:
        super().__init__(f"none of {asked} peers took the value under key {key!r}", hint="try again later")
        self.key = key


class PeerRouting(Protocol):
    """Where peers are."""

    async def find_peer(self, peer_id: PeerId) -> PeerInfo:
        """Return where `peer_id` may be reached: at least one address.

        Raises:
            PeerNotFoundError, NoRoutingPeersError: nobody knows; there is nobody to ask.
        """


class ContentRouting(Protocol):
    """Who has what."""

    async def provide(self, cid: Cid) -> int:
        """Announce that this node serves the block of `cid`; return how many peers were told.

        Cancelling may leave it announced to some. Raises NoRoutingPeersError.
        """

    def find_providers(self, cid: Cid) -> AbstractAsyncContextManager[AsyncIterator[PeerInfo]]:
        """Stream peers said to have the block of `cid` as they are found, each once; none, or nobody to ask, is no
        error. Nothing about them is proved; one may come without addresses, which then are to be found by `find_peer`.
        """


class ValueWatch(Protocol):
    """Whoever stores a value and wants to know what becomes of it, peer by peer."""

    def may_replace(self, value: bytes) -> bool:
        """Hear of another valid value that a peer has, before it is sent ours or after it took ours; tell whether ours
        may replace it. If not, that peer is not sent ours.
        """

    def taken(self, peer_id: PeerId) -> None:
        """Hear of a peer that took our value."""


class ValueRouting(Protocol):
    """Small values under keys of the form `/<namespace>/<binary>`, each checked by its namespace's rules."""

    async def set_value(self, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        """Store `value` at the peers nearest to `key`; return how many took it, at least one.

        With a `watch` each of them is asked first what it has, and again when it has taken `value`: two more messages a
        peer, for who shares the key with others that may be storing at the same time.

        Raises:
            InvalidValueError: it is not valid, or a better one is known: nothing was sent.
            NoRoutingPeersError: nobody to send it to. ValueNotTakenError: nobody took it. UnavailableError: it could
                not be tried.
        """

    def search_value(self, key: bytes, *, quorum: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream valid values under `key`, each better than the one before, until `quorum` peers have answered with one
        (0: until the search is exhausted). None is no error. When the search ends by itself, peers that had an older
        value are sent the best.
        """


class Routing(PeerRouting, ContentRouting, ValueRouting, Protocol):
    """A whole routing system. Callers ask for the narrowest part they use."""


class Validator(Protocol):
    """The rules of one namespace of keys: what is valid, and which of several valid values is best."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Raise InvalidValueError unless `value` is valid under the whole `key` at `now`, seconds since 1970."""

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """Return the index of the best of `values`, all valid and at least one; the first of equals."""


async def get_value(routing: ValueRouting, key: bytes, *, quorum: int = 0) -> bytes:
    """Return the best value that a search finds. Raises ValueNotFoundError, NoRoutingPeersError."""
    best: bytes | None = None
    async with routing.search_value(key, quorum=quorum) as found:
        async for better in found:
            best = better
    if best is None:
        raise ValueNotFoundError(key)
    return best
