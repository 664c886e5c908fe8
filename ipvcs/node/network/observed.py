"""Our addresses as others see them: what identify's `observedAddr` teaches us about where we are reached.

A peer that dialled us tells the address it dialled, a port forwarded by a router included. A peer that we dialled sees
the port our connection happens to come from, since we do not dial from the listening port; it teaches the IP address
alone, and the guess is that our listening ports are open at it: right without a router, or with one that forwards the
same port. (go-libp2p dials from the listening port and so reads the port, too, with the same uncertainty until AutoNAT;
rust-libp2p guesses as we do.) What was dialled beats the guess.

Anybody can say anything, so an address counts as confirmed only when `CONFIRMATIONS` different observers said so within
`LIFETIME`. Who has many peer ids behind one IP is one observer: they count by `ip_group`. On loopback and in private
networks, where one address may hide many honest machines and a stranger can't be, they count by peer id. An observer
has one vote for each of our listening ports and kind of evidence; a new one replaces the old.

Time is an argument, in seconds of any clock that never goes back.

Spec: https://github.com/libp2p/specs/blob/master/identify/README.md#observedaddr
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import (
    IpAddress,
    Scope,
    ip_group,
    ip_of,
    is_dialable_tcp,
    scope_of,
    scope_of_ip,
    tcp_addr,
    tcp_port,
)
from ipvcs.node.network.interface import Direction

CONFIRMATIONS: Final = 4
"""Observers that must agree; go-libp2p's ActivationThresh."""
LIFETIME: Final = 40 * 60.0
"""Seconds that a vote counts: identify runs anew with every connection. As in go-libp2p."""
MAX_VOTES: Final = 1024
"""Votes kept, the newest; more than there are connections."""
MAX_ADDRESSES: Final = 3
"""Confirmed addresses for one listening port and family, most votes first, as in go-libp2p: behind a NAT that changes
its mind with every destination there would be as many as observers."""
_MAX_PORTS: Final = 8
"""Listening ports for which one observation is a vote."""


class _Key(NamedTuple):
    observer: str
    version: int
    port: int
    """That we listen on."""
    direction: Direction


@dataclass(frozen=True, slots=True)
class _Vote:
    addr: Multiaddr
    time: float


class ObservedAddresses:
    """Collects votes and counts them."""

    def __init__(self) -> None:
        self._votes: OrderedDict[_Key, _Vote] = OrderedDict()  # oldest first

    def record(
        self,
        observed: Multiaddr,
        *,
        observer: PeerId,
        remote_addr: Multiaddr,
        local_addr: Multiaddr,
        direction: Direction,
        listen_addrs: Iterable[Multiaddr],
        now: float,
    ) -> bool:
        """Note that `observer`, at `remote_addr`, sees our end of a connection as `observed`.

        `local_addr` is our end as we see it, `direction` says who dialled, `listen_addrs` are the addresses we listen
        on, wildcards as they are.

        Returns:
            Whether it is a vote: TCP, dialable, of the family of the connection and from where the observer is (who
            is on the Internet knows nothing of our private addresses), and we listen on such a port.
        """
        ip, port = ip_of(observed), tcp_port(observed)
        local, remote = ip_of(local_addr), ip_of(remote_addr)
        if ip is None or port is None or not is_dialable_tcp(observed) or observed.peer_id is not None:
            return False
        if local is None or remote is None or not ip.version == local.version == remote.version:
            return False
        scope = scope_of_ip(ip)
        if scope in (Scope.LINK_LOCAL, Scope.UNROUTABLE) or scope is not scope_of_ip(remote):
            return False
        ports = _listening_ports(listen_addrs, ip)
        if direction == "inbound":
            local_port = tcp_port(local_addr)
            candidates = {local_port: port} if local_port is not None and local_port in ports else {}
        else:
            candidates = {each: each for each in sorted(ports)[:_MAX_PORTS]}
        who = _observer_group(observer, remote_addr)
        for listening, seen in candidates.items():
            key = _Key(who, ip.version, listening, direction)
            self._votes[key] = _Vote(tcp_addr(ip, seen), now)
            self._votes.move_to_end(key)
        while len(self._votes) > MAX_VOTES:
            self._votes.popitem(last=False)
        return bool(candidates)

    def confirmed(self, now: float) -> tuple[Multiaddr, ...]:
        """Return the addresses that enough observers agree on now, those with most votes first."""
        while self._votes and next(iter(self._votes.values())).time <= now - LIFETIME:
            self._votes.popitem(last=False)
        counts: dict[tuple[int, int, Direction], Counter[Multiaddr]] = {}
        for key, vote in self._votes.items():
            counts.setdefault((key.version, key.port, key.direction), Counter())[vote.addr] += 1
        found: Counter[Multiaddr] = Counter()
        for version, port in sorted({(version, port) for version, port, _direction in counts}):
            dialled = _winners(counts.get((version, port, "inbound")))
            found.update(dialled or _winners(counts.get((version, port, "outbound"))))
        return tuple(addr for addr, _count in found.most_common())


def _winners(counts: Counter[Multiaddr] | None) -> dict[Multiaddr, int]:
    if counts is None:
        return {}
    return {addr: count for addr, count in counts.most_common(MAX_ADDRESSES) if count >= CONFIRMATIONS}


def _listening_ports(listen_addrs: Iterable[Multiaddr], ip: IpAddress) -> set[int]:
    """Return the TCP ports that could be reached at `ip`: a listener on loopback is not, from elsewhere."""
    ports: set[int] = set()
    for addr in listen_addrs:
        listening, port = ip_of(addr), tcp_port(addr)
        if listening is None or not port or listening.version != ip.version:
            continue
        if scope_of_ip(listening) is Scope.LOOPBACK and scope_of_ip(ip) is not Scope.LOOPBACK:
            continue
        ports.add(port)
    return ports


def _observer_group(observer: PeerId, remote_addr: Multiaddr) -> str:
    if scope_of(remote_addr) is Scope.PUBLIC:
        return ip_group(remote_addr) or str(observer)
    return str(observer)
