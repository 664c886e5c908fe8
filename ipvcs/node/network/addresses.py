"""What can be told from a multiaddr alone: whose IP it is, where it can be reached from, and what to dial first.

Pure: who wants to know our interfaces' addresses asks `interfaces` and passes them in.

Spec: https://github.com/libp2p/specs/blob/master/addressing/README.md; the ranges are those of IANA's special-purpose
registries, RFC 6890, as of 2024.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, TypeAlias

from ipvcs.multiformats import varint
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network

_IP4: Final = b"\x04"
_IP6: Final = b"\x29"
_IP6ZONE: Final = b"\x2a"
_TCP: Final = b"\x06"
_P2P: Final = b"\xa5\x03"
_DNS_CODES: Final = frozenset(b"\x35\x36\x37\x38")  # dns, dns4, dns6, dnsaddr: each a varint of one byte

_BROADCAST: Final = IPv4Address("255.255.255.255")
_IP6_GROUP_BITS: Final = 56
"""What one household or customer gets of IPv6 (RFC 6177, BCP 157); go-libp2p counts by it, too."""
_NEAR_IP4_BITS: Final = 24
_NEAR_IP6_BITS: Final = 64
"""The usual size of a LAN. Which prefix an interface really has does not matter: this only puts addresses in order."""


class Scope(Enum):
    """From where an address can be reached."""

    LOOPBACK = "loopback"
    """From the same machine."""
    LINK_LOCAL = "link-local"
    """From the same cable; IPv6 needs the interface's name, its zone, besides."""
    PRIVATE = "private"
    """From the same site: RFC 1918, RFC 4193, and what carriers use inside (RFC 6598)."""
    PUBLIC = "public"
    """From everywhere, as far as the address tells."""
    WILDCARD = "wildcard"
    """0.0.0.0 and ::, which listen on every interface and can't be dialled."""
    UNROUTABLE = "unroutable"
    """From nowhere: multicast, documentation, benchmarking, reserved."""
    NAME = "name"
    """No IP address in front: a DNS name, an onion service, a relay by its id."""


_SCOPES: Final[tuple[tuple[IpNetwork, Scope], ...]] = tuple(
    (ip_network(text), scope)
    for scope, texts in (
        (Scope.WILDCARD, ("0.0.0.0/32", "::/128")),
        (Scope.LOOPBACK, ("127.0.0.0/8", "::1/128")),
        (Scope.LINK_LOCAL, ("169.254.0.0/16", "fe80::/10")),
        (Scope.PRIVATE, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")),
        (
            Scope.UNROUTABLE,
            (
                "0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
                "224.0.0.0/3", "100::/64", "2001:db8::/32", "3fff::/20", "fec0::/10", "ff00::/8",
            ),
        ),
    )
    for text in texts
)  # fmt: skip
"""The first range that holds an address says its scope; what is in none is public."""


def ip_of(addr: Multiaddr) -> IpAddress | None:
    """Return the IP address that `addr` starts with, an IPv4 address inside an IPv6 one taken out; None without one."""
    if (found := _split_ip(addr.raw)) is None:
        return None
    ip = found[0]
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def tcp_port(addr: Multiaddr) -> int | None:
    """Return the TCP port right behind the IP address of `addr`; None when something else is there."""
    if (found := _split_ip(addr.raw)) is None or not found[1].startswith(_TCP):
        return None
    return int.from_bytes(found[1][1:3], "big")


def tcp_addr(ip: IpAddress, port: int) -> Multiaddr:
    """Return `/ip4/…/tcp/…` or `/ip6/…/tcp/…`. Raises OverflowError for a port outside of 0 to 65535."""
    return Multiaddr(_ip_component(ip) + _TCP + port.to_bytes(2, "big"))


def with_ip(ip: IpAddress, rest: bytes) -> Multiaddr:
    """Return `/ip4/…` or `/ip6/…` with the components `rest` behind it. Raises MultiaddrError."""
    return Multiaddr.decode(_ip_component(ip) + rest)


def scope_of_ip(ip: IpAddress) -> Scope:
    """Return from where `ip` can be reached."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    for network, scope in _SCOPES:
        if ip.version == network.version and ip in network:
            return scope
    return Scope.PUBLIC


@lru_cache(maxsize=4096)  # routing asks it of the same addresses again and again
def scope_of(addr: Multiaddr) -> Scope:
    """Return from where `addr` can be reached, by the IP address in front. A relay's address has the relay's scope."""
    ip = ip_of(addr)
    return Scope.NAME if ip is None else scope_of_ip(ip)


def is_loopback(addr: Multiaddr) -> bool:
    """Tell whether `addr` is of this very machine."""
    return scope_of(addr) is Scope.LOOPBACK


def is_link_local(addr: Multiaddr) -> bool:
    """Tell whether `addr` is of one cable or radio."""
    return scope_of(addr) is Scope.LINK_LOCAL


def is_private(addr: Multiaddr) -> bool:
    """Tell whether `addr` is of one site's own network."""
    return scope_of(addr) is Scope.PRIVATE


def is_public(addr: Multiaddr) -> bool:
    """Tell whether `addr` can be reached from everywhere, as far as it tells."""
    return scope_of(addr) is Scope.PUBLIC


def is_wildcard(addr: Multiaddr) -> bool:
    """Tell whether `addr` stands for all interfaces."""
    return scope_of(addr) is Scope.WILDCARD


def is_relayed(addr: Multiaddr) -> bool:
    """Tell whether `addr` leads over a relay."""
    return "p2p-circuit" in addr.protocols


def needs_resolution(addr: Multiaddr) -> bool:
    """Tell whether `addr` starts with a DNS name."""
    return addr.raw[0] in _DNS_CODES


def is_dialable_tcp(addr: Multiaddr) -> bool:
    """Tell whether `addr` is an IP address, a TCP port and nothing more but maybe `/p2p`, and can be connected to.

    Ranges for documentation or benchmarks pass: some networks use them inside, and to try does no harm.
    """
    if (found := _split_ip(addr.raw)) is None:
        return False
    ip, rest, zone = found
    if not rest.startswith(_TCP) or rest[1:3] == b"\0\0":
        return False
    if rest[3:] and not (rest[3:].startswith(_P2P) and addr.protocols[-2:] == ("tcp", "p2p")):
        return False
    scope = scope_of_ip(ip)
    if scope is Scope.LINK_LOCAL and ip.version == 6:
        return zone  # without it nobody knows which cable
    return scope is not Scope.WILDCARD and not ip.is_multicast and ip != _BROADCAST


def ip_group(addr: Multiaddr) -> str | None:
    """Return what limits by IP count `addr` under: the IPv4 address or the IPv6 /56. None for loopback and for names.

    Whoever has one IPv6 address has 2**64 and more of them, so those count together.
    """
    ip = ip_of(addr)
    if ip is None or scope_of_ip(ip) is Scope.LOOPBACK:
        return None
    if isinstance(ip, IPv4Address):
        return str(ip)
    return str(IPv6Network((ip, _IP6_GROUP_BITS), strict=False))


def without_peer(addr: Multiaddr, peer_id: PeerId) -> Multiaddr | None:
    """Return `addr` without a `/p2p` of `peer_id` at its end; None when it leads to another peer or nothing is left."""
    if (named := addr.peer_id) is None:
        return addr
    if named != peer_id:
        return None
    if addr.protocols[-1] != "p2p":  # /p2p/… with more behind it: nobody writes that
        return None
    rest = addr.raw[: -len(_p2p_component(peer_id))]
    return Multiaddr(rest) if rest else None


def with_peer(addr: Multiaddr, peer_id: PeerId) -> Multiaddr:
    """Return `addr` with `/p2p/<peer_id>` at its end. Raises MultiaddrError when it is too long then."""
    if addr.peer_id == peer_id:
        return addr
    return addr.encapsulate(Multiaddr(_p2p_component(peer_id)))


def expand_wildcard(addr: Multiaddr, interface_ips: Iterable[IpAddress]) -> tuple[Multiaddr, ...]:
    """Return `addr` once for each of `interface_ips` of its family, if it is a wildcard; else `addr` alone."""
    found = _split_ip(addr.raw)
    if found is None or scope_of_ip(found[0]) is not Scope.WILDCARD:
        return (addr,)
    ip, rest, _zone = found
    return tuple(Multiaddr(_ip_component(each) + rest) for each in interface_ips if each.version == ip.version)


def dial_order(addrs: Iterable[Multiaddr], own_ips: Collection[IpAddress] = ()) -> list[Multiaddr]:
    """Return `addrs`, each once, in the order to try them; what is alike stays as it was.

    Near before far: on this machine, on our LAN, on another private network, public, link-local, not an IP address, and
    over relays last. Everybody advertises loopback, so that comes first only if the peer shares one of `own_ips`, our
    interfaces' addresses; else it would most likely reach ourselves, and goes to the end of the direct ones.

    Among equals IPv6 and IPv4 alternate, IPv6 first (RFC 8305, section 4), so that one broken family costs one step.
    """
    addrs = list(dict.fromkeys(addrs))
    ips = {ip for addr in addrs if not is_relayed(addr) and (ip := ip_of(addr)) is not None}
    # An address of ours that is loopback proves nothing: every machine has it.
    same_machine = any(ip in own_ips and scope_of_ip(ip) is not Scope.LOOPBACK for ip in ips)
    near = {_lan_of(ip) for ip in own_ips}
    groups: dict[int, list[Multiaddr]] = {}
    for addr in addrs:
        groups.setdefault(_distance(addr, same_machine=same_machine, near=near), []).append(addr)
    return [addr for _distance, group in sorted(groups.items()) for addr in _alternate_families(group)]


def _distance(addr: Multiaddr, *, same_machine: bool, near: set[IpNetwork]) -> int:
    if is_relayed(addr):
        return 7
    ip = ip_of(addr)
    if ip is None:
        return 5
    scope = scope_of_ip(ip)
    if scope is Scope.LOOPBACK:
        return 0 if same_machine else 6
    if scope in (Scope.WILDCARD, Scope.UNROUTABLE):
        return 6
    if scope is Scope.LINK_LOCAL:
        return 4
    if _lan_of(ip) in near:
        return 1
    return 2 if scope is Scope.PRIVATE else 3


def _lan_of(ip: IpAddress) -> IpNetwork:
    bits = _NEAR_IP4_BITS if ip.version == 4 else _NEAR_IP6_BITS
    return ip_network((ip, bits), strict=False)


def _alternate_families(addrs: Sequence[Multiaddr]) -> list[Multiaddr]:
    six: list[Multiaddr] = []
    rest: list[Multiaddr] = []
    for addr in addrs:
        ip = ip_of(addr)
        (six if ip is not None and ip.version == 6 else rest).append(addr)
    out: list[Multiaddr] = []
    for index in range(max(len(six), len(rest))):
        out += six[index : index + 1] + rest[index : index + 1]
    return out


def _ip_component(ip: IpAddress) -> bytes:
    return (_IP4 if ip.version == 4 else _IP6) + ip.packed


def _p2p_component(peer_id: PeerId) -> bytes:
    return _P2P + varint.encode(len(peer_id.raw)) + peer_id.raw


def _split_ip(raw: bytes) -> tuple[IpAddress, bytes, bool] | None:
    """Return (the IP address in front, what follows it, whether a zone stood before it); None without an address."""
    zone = raw.startswith(_IP6ZONE)
    if zone:
        size, start = varint.decode(raw, 1)
        raw = raw[start + size :]
    if raw.startswith(_IP6) and len(raw) >= 17:
        return IPv6Address(raw[1:17]), raw[17:], zone
    if raw.startswith(_IP4) and len(raw) >= 5 and not zone:
        return IPv4Address(raw[1:5]), raw[5:], False
    return None
