"""The routing table: whom we know to serve the DHT, sorted into k-buckets by how near they are.

    offer ─┬─► room in its bucket ────────────────► in the table
           └─► none: waits as a replacement; the least recently useful one is to be checked ─┬─► answers: stays
                                                                                              └─► fails: is replaced

A peer is offered only when *it* has answered us over this protocol: being named by others gets nobody in. Who is in
and answers stays, however many come: long-lived peers are the ones that will be there tomorrow, and a flood of new ids
displaces nobody ("Kademlia: a peer-to-peer information system", §2.4 and §4.1).

Time is an argument, in seconds of any clock that never goes back.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Final

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.dht_stats import DhtStats, TableBucket, TablePeer
from ipvcs.node.routing.diversity import Diversity
from ipvcs.node.routing.keyspace import MAX_SOUGHT_PREFIX, Point, common_prefix_length, point_of_peer

K: Final = 20
"""Peers of a bucket, and of an answer. The spec's replication parameter."""
MAX_REPLACEMENTS: Final = 10
"""Peers that wait for a place in one bucket, the newest ones."""
CHECK_AFTER: Final = 60.0
"""Seconds since a peer was last useful after which its place may be questioned, and no sooner again."""
MAX_FAILURES: Final = 2
"""Failures in a row after which a peer is dropped although nobody waits for its place."""
WITNESSED: Final = 1.0
"""Seconds before a peer was asked since which somebody must have answered, for its silence to count: else it may be our
own network that is down, and a node that then forgot everybody could not come back."""
REFRESH_INTERVAL: Final = 600.0
"""Seconds without a lookup in its range after which a bucket is stale. As go-libp2p."""


@dataclass(slots=True)
class _Entry:
    info: PeerInfo
    point: Point
    groups: frozenset[str]
    added: float
    last_useful: float
    last_check: float = float("-inf")
    failures: int = 0


@dataclass(slots=True)
class _Bucket:
    entries: dict[PeerId, _Entry] = field(default_factory=dict)
    replacements: OrderedDict[PeerId, _Entry] = field(default_factory=OrderedDict)
    """Newest last."""


class RoutingTable:
    """At most `k` peers a bucket and 256 buckets; in a network of n peers about k * log2(n / k) in all."""

    def __init__(self, own_id: PeerId, *, k: int = K, diversity: Diversity | None = None, now: float = 0.0) -> None:
        self.own_id = own_id
        self.own_point = point_of_peer(own_id)
        self._k = k
        self._diversity = diversity or Diversity()
        self._buckets: dict[int, _Bucket] = {}
        self._size = 0
        self._created = now
        self._refreshed: dict[int, float] = {}
        self._last_answer = now

    def __len__(self) -> int:
        return self._size

    def __contains__(self, peer_id: PeerId) -> bool:
        return self._find(peer_id) is not None

    def __iter__(self) -> Iterator[PeerInfo]:
        return (entry.info for entry in self._entries())

    def get(self, peer_id: PeerId) -> PeerInfo | None:
        """Return where a peer in the table is; None when it is not in it."""
        return None if (entry := self._find(peer_id)) is None else entry.info

    def stats(self, name: str, wall_offset: float) -> DhtStats:
        """Return the table for people to look at; `wall_offset` turns its times into seconds since 1970."""
        buckets = []
        for number in range(max(self._buckets, default=-1) + 1):
            entries = self._buckets[number].entries.values() if number in self._buckets else ()
            refreshed = self._refreshed.get(number)
            times = ((each.info.peer_id, each.last_useful + wall_offset) for each in entries)
            peers = tuple(
                TablePeer(peer_id, last_useful=answered, last_queried=answered) for peer_id, answered in times
            )
            buckets.append(TableBucket(peers, None if refreshed is None else refreshed + wall_offset))
        return DhtStats(name, tuple(buckets))

    def offer(self, peer: PeerInfo, groups: frozenset[str], now: float) -> PeerId | None:
        """Take in `peer`, which has just answered us over this protocol, or note that it is still there.

        Args:
            peer: with the addresses to tell others.
            groups: the IP groups of the connection it answered on.
            now: the time.

        Returns:
            The peer to check, whose place `peer` waits for: ask it something, then call `useful` or `fail`.
        """
        self._last_answer = max(self._last_answer, now)
        if peer.peer_id == self.own_id:
            return None
        if (entry := self._find(peer.peer_id)) is not None:
            if peer.addrs:
                entry.info = peer
            self._note_useful(entry, now)
            return None
        point = point_of_peer(peer.peer_id)
        number = common_prefix_length(self.own_point, point)
        bucket = self._buckets.setdefault(number, _Bucket())
        entry = _Entry(peer, point, groups, now, now)
        if len(bucket.entries) < self._k:
            if not self._diversity.admits(number, groups):
                return None
            self._insert(number, bucket, entry)
            return None
        bucket.replacements[peer.peer_id] = entry
        bucket.replacements.move_to_end(peer.peer_id)
        while len(bucket.replacements) > MAX_REPLACEMENTS:
            bucket.replacements.popitem(last=False)
        return self._whom_to_check(bucket, now)

    def update(self, peer: PeerInfo) -> None:
        """Take over the addresses of a peer in the table. That it says where it is does not prove it useful, and
        one that says nothing is still where it was.
        """
        if peer.addrs and (entry := self._find(peer.peer_id)) is not None:
            entry.info = peer

    def useful(self, peer_id: PeerId, now: float) -> None:
        """Note that `peer_id` has answered."""
        self._last_answer = max(self._last_answer, now)
        if (entry := self._find(peer_id)) is not None:
            self._note_useful(entry, now)

    def fail(self, peer_id: PeerId, asked: float) -> None:
        """Note that `peer_id`, asked at `asked` or before, could not be reached or did not answer: it is replaced, or
        dropped if it goes on so. When nobody else has answered since, that is no fault of its own.
        """
        number, bucket = self._bucket_of(peer_id)
        if bucket is None:
            return
        bucket.replacements.pop(peer_id, None)
        if (entry := bucket.entries.get(peer_id)) is None or self._last_answer < asked - WITNESSED:
            return
        entry.failures += 1
        if bucket.replacements or entry.failures >= MAX_FAILURES:
            self._drop(number, bucket, entry)

    def remove(self, peer_id: PeerId) -> None:
        """Forget `peer_id`, which serves this protocol no more."""
        number, bucket = self._bucket_of(peer_id)
        if bucket is not None:
            bucket.replacements.pop(peer_id, None)
            if (entry := bucket.entries.get(peer_id)) is not None:
                self._drop(number, bucket, entry)

    def closest(self, target: Point, number: int, *, without: Iterable[PeerId] = ()) -> list[PeerInfo]:
        """Return at most `number` peers, nearest to `target` first, none of them in `without`."""
        left_out = frozenset(without)
        entries = (entry for entry in self._entries() if entry.info.peer_id not in left_out)
        return [entry.info for entry in nsmallest(number, entries, key=lambda entry: entry.point ^ target)]

    def looked_up(self, target: Point, now: float) -> None:
        """Note that a lookup of `target` has run: its bucket is fresh."""
        self._refreshed[common_prefix_length(self.own_point, target)] = now

    def stale_buckets(self, now: float) -> list[int]:
        """Return the numbers of the buckets, up to the deepest that we have peers in, in which none was looked up for
        `REFRESH_INTERVAL`. Beyond `MAX_SOUGHT_PREFIX` a lookup of ourselves covers them all.
        """
        deepest = max((number for number, bucket in self._buckets.items() if bucket.entries), default=-1)
        return [
            number
            for number in range(min(deepest, MAX_SOUGHT_PREFIX) + 1)
            if now - self._refreshed.get(number, self._created - REFRESH_INTERVAL) >= REFRESH_INTERVAL
        ]

    def _whom_to_check(self, bucket: _Bucket, now: float) -> PeerId | None:
        oldest = min(bucket.entries.values(), key=lambda entry: max(entry.last_useful, entry.last_check))
        if now - max(oldest.last_useful, oldest.last_check) < CHECK_AFTER:
            return None
        oldest.last_check = now
        return oldest.info.peer_id

    def _insert(self, number: int, bucket: _Bucket, entry: _Entry) -> None:
        assert len(bucket.entries) < self._k
        bucket.entries[entry.info.peer_id] = entry
        self._diversity.add(number, entry.groups)
        self._size += 1

    def _drop(self, number: int, bucket: _Bucket, entry: _Entry) -> None:
        del bucket.entries[entry.info.peer_id]
        self._diversity.remove(number, entry.groups)
        self._size -= 1
        while bucket.replacements:
            _peer_id, replacement = bucket.replacements.popitem()
            if self._diversity.admits(number, replacement.groups):
                self._insert(number, bucket, replacement)
                return
        if not bucket.entries:
            del self._buckets[number]

    @staticmethod
    def _note_useful(entry: _Entry, now: float) -> None:
        entry.last_useful = max(entry.last_useful, now)
        entry.failures = 0

    def _bucket_of(self, peer_id: PeerId) -> tuple[int, _Bucket | None]:
        number = common_prefix_length(self.own_point, point_of_peer(peer_id))
        return number, self._buckets.get(number)

    def _find(self, peer_id: PeerId) -> _Entry | None:
        bucket = self._bucket_of(peer_id)[1]
        return None if bucket is None else bucket.entries.get(peer_id)

    def _entries(self) -> Iterator[_Entry]:
        for bucket in self._buckets.values():
            yield from bucket.entries.values()
