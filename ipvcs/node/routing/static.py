"""Routing by a fixed list: peers whose addresses, and holders of blocks, that the user named. Nobody is asked.

It serves closed networks and first contacts, and stands behind the DHTs in a `ComposedRouting`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Final, Self, TypeVar

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_address import parse_peer_address
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import NoRoutingPeersError, PeerNotFoundError, ValueWatch

_T = TypeVar("_T")

EVERYTHING: Final = "*"
"""In a mapping of providers, the key for peers that are said to have every block."""


class StaticRouting:
    """A `Routing` that answers from what it was made with, and tells nobody anything."""

    def __init__(
        self,
        peers: Iterable[PeerInfo] = (),
        providers: Mapping[Cid, Sequence[PeerInfo]] | None = None,
        everything: Sequence[PeerInfo] = (),
    ) -> None:
        """Take where `peers` are, who has which block, and who has `everything`. CIDs of one multihash are one."""
        self._addrs: dict[PeerId, dict[Multiaddr, None]] = {}
        self._providers: dict[bytes, list[PeerId]] = {}
        self._everything: list[PeerId] = []
        for peer in peers:
            self._note(peer)
        for cid, holders in (providers or {}).items():
            self._providers.setdefault(cid.multihash, []).extend(self._note(peer) for peer in holders)
        self._everything += [self._note(peer) for peer in everything]

    @classmethod
    def parse(cls, peers: Sequence[str] = (), providers: Mapping[str, Sequence[str]] | None = None) -> Self:
        """Return the router that settings describe.

        Args:
            peers: multiaddrs that end in `/p2p/<NodeId>`, several for a peer with several addresses.
            providers: by CID, or `EVERYTHING`, such multiaddrs; `/p2p/<NodeId>` alone for a peer found elsewhere.

        Raises:
            MultiaddrError, CidError: something is not what it should be.
            UsageError: an address names no peer.
        """
        holders = {key: [_parse_peer(text) for text in texts] for key, texts in (providers or {}).items()}
        everything = holders.pop(EVERYTHING, [])
        return cls(map(_parse_peer, peers), {Cid.parse(key): each for key, each in holders.items()}, everything)

    async def find_peer(self, peer_id: PeerId) -> PeerInfo:
        """Return the addresses that `peer_id` was given. Raises PeerNotFoundError."""
        if addrs := self._addrs.get(peer_id):
            return PeerInfo(peer_id, tuple(addrs))
        raise PeerNotFoundError(peer_id)

    async def provide(self, cid: Cid) -> int:
        """Raise NoRoutingPeersError: there is nobody to tell."""
        del cid
        raise NoRoutingPeersError

    def find_providers(self, cid: Cid) -> AbstractAsyncContextManager[AsyncIterator[PeerInfo]]:
        """Stream who was named for `cid`, then who was named for everything."""
        holders = dict.fromkeys([*self._providers.get(cid.multihash, ()), *self._everything])
        return answer_at_once([PeerInfo(peer_id, tuple(self._addrs[peer_id])) for peer_id in holders])

    async def set_value(self, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        """Raise NoRoutingPeersError: there is nobody to send it to."""
        del key, value, watch
        raise NoRoutingPeersError

    def search_value(self, key: bytes, *, quorum: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream nothing: no values are kept here."""
        del key, quorum
        return answer_at_once(())

    def _note(self, peer: PeerInfo) -> PeerId:
        self._addrs.setdefault(peer.peer_id, {}).update(dict.fromkeys(peer.addrs))
        return peer.peer_id


@asynccontextmanager
async def answer_at_once(answers: Iterable[_T]) -> AsyncGenerator[AsyncIterator[_T]]:
    """Return a search that is over before it begins: it yields `answers`."""

    async def iterate() -> AsyncGenerator[_T]:
        for answer in answers:
            yield answer

    async with aclosing(iterate()) as found:
        yield found


def _parse_peer(text: str) -> PeerInfo:
    peer_id, addr = parse_peer_address(text)
    return PeerInfo(peer_id, () if addr is None else (addr,))
