"""The two DHTs that an IPFS node is in: which addresses and which peers each of them is for.

The public one must know only what everybody can reach, or lookups drown in addresses of other people's kitchens. The
one of the LAN is for those near by, whom the public one does not have.

Spec: https://specs.ipfs.tech/routing/kad-dht/#routing-in-the-public-and-the-lan-dht
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.addresses import Scope, is_relayed, scope_of


@dataclass(frozen=True, slots=True)
class KadProfile:
    """One DHT."""

    protocol: str
    accepts_addr: Callable[[Multiaddr], bool]
    """Whether an address may be told, heard and dialled for this DHT."""
    accepts_remote: Callable[[Multiaddr], bool]
    """Whether a peer may be in the routing table that we are connected to at this address."""
    exempt_near: bool
    """Whether peers on loopback and private addresses do not count for the limits by IP group."""


def _is_for_lan(addr: Multiaddr) -> bool:
    return scope_of(addr) not in (Scope.WILDCARD, Scope.UNROUTABLE)


def _is_near(addr: Multiaddr) -> bool:
    return scope_of(addr) in (Scope.LOOPBACK, Scope.PRIVATE, Scope.LINK_LOCAL) and not is_relayed(addr)


def _is_for_wan(addr: Multiaddr) -> bool:
    return scope_of(addr) in (Scope.PUBLIC, Scope.NAME)


def _is_far(addr: Multiaddr) -> bool:
    return scope_of(addr) is Scope.PUBLIC and not is_relayed(addr)


LAN: Final = KadProfile("/ipfs/lan/kad/1.0.0", _is_for_lan, _is_near, exempt_near=True)
"""Peers near by. A peer of the LAN may have public addresses as well, as every one with IPv6 has."""
WAN: Final = KadProfile("/ipfs/kad/1.0.0", _is_for_wan, _is_far, exempt_near=False)
"""The public DHT, which Kubo calls Amino."""
