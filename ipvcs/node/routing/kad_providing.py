"""Announcing: telling the peers nearest to a block that we serve it, one block or many in the order of the keyspace.

A block that is announced is known here from then on, and told to whoever asks us, before others are told of it.

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md#content-provider-advertisement-and-discovery
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from anyio import create_task_group

from ipvcs.errors import UnavailableError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import Host, PeerInfo
from ipvcs.node.routing.kad_answers import ProviderStore
from ipvcs.node.routing.kad_members import Members
from ipvcs.node.routing.kad_message import MAX_ADDRS, KadMessage, MessageType
from ipvcs.node.routing.kad_profile import KadProfile
from ipvcs.node.routing.keyspace import point_of
from ipvcs.node.routing.neighbourhood import Neighbourhood

_SHARE: Final = 64
"""Blocks announced after one lookup at most: what it found grows old."""


class NoAddressError(UnavailableError):
    """We would announce ourselves, but nobody could come."""

    def __init__(self, protocol: str) -> None:
        super().__init__(
            f"cannot announce this node on '{protocol}': it has no address there",
            hint="a public network needs a public address; see `ipvcs id` for those this node has",
        )


class Announcer:
    """Announces on one DHT."""

    def __init__(
        self,
        host: Host,
        profile: KadProfile,
        members: Members,
        providers: ProviderStore,
        wall_clock: Callable[[], float],
    ) -> None:
        """Tell the peers that `members` finds, and `providers`, who asks us; `wall_clock` is seconds since 1970."""
        self._host = host
        self._profile = profile
        self._members = members
        self._queries = members.queries
        self._providers = providers
        self._wall_clock = wall_clock

    def own_addrs(self) -> Sequence[Multiaddr]:
        """Return where we can be reached by those of this DHT."""
        return [addr for addr in self._host.addresses() if self._profile.accepts_addr(addr)][:MAX_ADDRS]

    async def provide(self, cid: Cid) -> int:
        """Announce that we serve the block of `cid` to the k peers nearest to it; see `ContentRouting`.

        Raises:
            NoRoutingPeersError: there is nobody to tell; whoever asks us hears it from now on.
            NoAddressError: nobody could come.
        """
        message = self._announcement(cid)
        peers = await self._closest(cid.multihash)
        return sum(await for_each(peers, lambda peer: self._queries.tell(peer, message)))

    async def provide_many(self, cids: Sequence[Cid], on_told: Callable[[Cid], None]) -> None:
        """Announce `cids`, which are in the order of the keyspace; see `ManyProviding`. A lookup serves all that are
        near to its key, and each peer is told of its share on one stream.
        """
        if not self.own_addrs():
            raise NoAddressError(self._profile.protocol)  # before a lookup that would be for nothing
        waiting = list(cids)
        while waiting:
            key = waiting[0].multihash
            await self._members.require_peers()
            lookup = await self._members.look_up(key)
            near = Neighbourhood(point_of(key), lookup.closest(), is_whole=lookup.is_finished)
            share = near.share_of(waiting[:_SHARE])
            del waiting[: len(share)]
            await self._tell_of(share, near, on_told)

    async def _tell_of(self, cids: Sequence[Cid], near: Neighbourhood, on_told: Callable[[Cid], None]) -> None:
        """Announce `cids` to the peers at hand."""
        messages: dict[PeerId, list[tuple[Cid, KadMessage]]] = {}
        infos: dict[PeerId, PeerInfo] = {}
        for cid in cids:
            announcement = self._announcement(cid)
            for peer in near.nearest(point_of(cid.multihash)):
                infos[peer.peer_id] = peer
                messages.setdefault(peer.peer_id, []).append((cid, announcement))

        async def tell(peer: PeerInfo) -> bool:
            share = messages[peer.peer_id]
            if done := await self._queries.tell(peer, *(message for _cid, message in share)):
                for cid, _message in share:
                    on_told(cid)
            return done

        await for_each(infos.values(), tell)

    def _announcement(self, cid: Cid) -> KadMessage:
        """Return what to tell others, and let it be known here. Raises NoAddressError."""
        key = cid.multihash
        own = PeerInfo(self._host.peer_id, tuple(self.own_addrs()))
        self._providers.add(key, own, self._wall_clock())
        if not own.addrs:
            raise NoAddressError(self._profile.protocol)
        return KadMessage(MessageType.ADD_PROVIDER, key, provider_peers=(own,))

    async def _closest(self, key: bytes) -> list[PeerInfo]:
        await self._members.require_peers()
        return (await self._members.look_up(key)).closest()


async def for_each(peers: Iterable[PeerInfo], act: Callable[[PeerInfo], Awaitable[bool]]) -> list[bool]:
    """Return what `act` says of each of `peers`, all at once: they are k at most, and each has its own deadline."""
    results: list[bool] = []

    async def run(peer: PeerInfo) -> None:
        results.append(await act(peer))

    async with create_task_group() as tasks:
        for peer in peers:
            tasks.start_soon(run, peer)
    return results
