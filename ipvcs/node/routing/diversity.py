"""Not everybody in the routing table may live in the same street: limits by IP group.

Whoever holds one network holds as many peer ids as he likes. By counting /16 networks (IPv4) and /32 allocations (IPv6)
he gets three places in a table and two in a bucket, however many nodes he runs. What is counted is the address that a
connection really came from or went to, not what a peer says of itself.

Compare: go-libp2p-kbucket's `peerdiversity`, with the same limits (which groups IPv6 by AS number where it knows it).
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from ipaddress import IPv4Address
from typing import Final, TypeVar

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.addresses import Scope, ip_of, scope_of

T = TypeVar("T", bound=Hashable)

MAX_PER_TABLE: Final = 3
MAX_PER_BUCKET: Final = 2
"""Peers of one group. As go-libp2p-kad-dht's `maxPrefixCountPerCpl` and `maxPrefixCount`."""
_IP4_BITS: Final = 16
_IP6_BITS: Final = 32

_NEAR: Final = (Scope.LOOPBACK, Scope.PRIVATE, Scope.LINK_LOCAL)


def groups_of(addrs: Iterable[Multiaddr], *, exempt_near: bool) -> frozenset[str]:
    """Return the IP groups that `addrs` are in; with `exempt_near`, loopback, private and link-local ones are in none.

    In a LAN all peers are in one network, which proves nothing against them.
    """
    found = set()
    for addr in addrs:
        ip = ip_of(addr)
        if ip is None or (exempt_near and scope_of(addr) in _NEAR):
            continue
        bits = _IP4_BITS if isinstance(ip, IPv4Address) else _IP6_BITS
        found.add(f"{ip.version}:{int(ip) >> (ip.max_prefixlen - bits):x}")
    return frozenset(found)


class Diversity:
    """Counts the groups of a table's peers. What `admits` is to be `add`ed, and `remove`d when it goes."""

    def __init__(self, *, per_table: int = MAX_PER_TABLE, per_bucket: int = MAX_PER_BUCKET) -> None:
        self._per_table = per_table
        self._per_bucket = per_bucket
        self._table: Counter[str] = Counter()
        self._buckets: Counter[tuple[int, str]] = Counter()

    def admits(self, bucket: int, groups: frozenset[str]) -> bool:
        """Tell whether one more peer with `groups` may enter `bucket`."""
        return all(
            self._table[group] < self._per_table and self._buckets[bucket, group] < self._per_bucket for group in groups
        )

    def add(self, bucket: int, groups: frozenset[str]) -> None:
        """Count a peer that has entered."""
        for group in groups:
            self._table[group] += 1
            self._buckets[bucket, group] += 1

    def remove(self, bucket: int, groups: frozenset[str]) -> None:
        """Count a peer that has left."""
        for group in groups:
            _decrement(self._table, group)
            _decrement(self._buckets, (bucket, group))


def _decrement(counter: Counter[T], key: T) -> None:
    assert counter[key] > 0
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
