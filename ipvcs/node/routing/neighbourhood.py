"""Which keys one lookup serves: those near enough to the key it was for.

A lookup for a key finds the k peers nearest to it. Let p be the number of bits that the farthest of them shares with
the key: then *all* peers that share more than p bits with it are among the k. For another key with those same first
bits these peers are the nearest as well, all of them; only the few beyond are guessed, from the peers at hand. So keys
that are announced in the order of the keyspace need a lookup for each such region, not for each key.
"""

from collections.abc import Sequence
from itertools import takewhile

from ipvcs.multiformats.cid import Cid
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.keyspace import Point, common_prefix_length, point_of, point_of_peer
from ipvcs.node.routing.routing_table import K


class Neighbourhood:
    """What the lookup for the key at `center` found, nearest first."""

    def __init__(self, center: Point, peers: Sequence[PeerInfo], *, k: int = K, is_whole: bool = True) -> None:
        """`is_whole`: the lookup came to its end, so that fewer than k peers are all that there are."""
        self._peers = [(point_of_peer(peer.peer_id), peer) for peer in peers]
        self._center = center
        self._k = k
        prefixes = [common_prefix_length(center, point) for point, _peer in self._peers]
        self._prefix = -1 if peers and is_whole and len(peers) < k else min(prefixes, default=0)
        """Bits that all peers found share with the center; -1: they are all that there are."""
        self._certain = sum(prefix > self._prefix for prefix in prefixes) if is_whole else 0

    def serves(self, key: Point) -> bool:
        """Whether `nearest` is as good as a lookup: it is all of the network, or at least half of k surely right."""
        if self._prefix < 0:
            return True
        return 2 * self._certain >= self._k and common_prefix_length(self._center, key) > self._prefix

    def share_of(self, cids: Sequence[Cid]) -> list[Cid]:
        """Return those at the front of `cids` that are served: one at least, if there is one."""
        return list(takewhile(lambda cid: self.serves(point_of(cid.multihash)), cids)) or list(cids[:1])

    def nearest(self, key: Point) -> list[PeerInfo]:
        """Return the k peers nearest to `key` of those at hand."""
        return [peer for _point, peer in sorted(self._peers, key=lambda item: item[0] ^ key)[: self._k]]
