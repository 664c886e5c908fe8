"""Routing with nobody to ask: what is kept in this home is found, what is published is kept until there are peers.

Values are held against the rules of their namespace as everywhere, so what was published offline can be sent out later
as it is.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import NoRoutingPeersError, ValueWatch
from ipvcs.node.routing.provider_store import ProviderStore
from ipvcs.node.routing.static import answer_at_once
from ipvcs.node.routing.value_store import ValueStore


class OfflineRouting:
    """A `Routing` on the home's own tables."""

    def __init__(self, own: PeerId, values: ValueStore, providers: ProviderStore, wall: Callable[[], float]) -> None:
        """Answer from `values` and `providers`. `own` is who we are, `wall` returns seconds since 1970."""
        self._own = own
        self._values = values
        self._providers = providers
        self._wall = wall

    async def find_peer(self, peer_id: PeerId) -> PeerInfo:
        """Raise NoRoutingPeersError: an address is of use only to who is online."""
        del peer_id
        raise NoRoutingPeersError

    async def provide(self, cid: Cid) -> int:
        """Note that we have `cid`; return 0, the number of peers that were told. Does not wait."""
        self._providers.add(cid.multihash, PeerInfo(self._own), self._wall())
        return 0

    def find_providers(self, cid: Cid) -> AbstractAsyncContextManager[AsyncIterator[PeerInfo]]:
        """Stream who was last known to have `cid`, we ourselves included."""
        return answer_at_once(self._providers.providers(cid.multihash, self._wall()))

    async def set_value(self, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        """Keep `value`, for whoever asks us and for a time when there are peers. Does not wait.

        Raises:
            NoRoutingPeersError: always, once it is kept: nobody else has it.
            InvalidValueError: it is not valid, or a better one is kept.
            NoRoomForValueError: the table is full of our own.
        """
        del watch
        self._values.put(key, value, self._wall(), own=True)
        raise NoRoutingPeersError

    def search_value(self, key: bytes, *, quorum: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream the value that is kept under `key`, if one is valid now."""
        del quorum
        kept = self._values.try_get(key, self._wall())
        return answer_at_once([] if kept is None else [kept])
